//! Finding a manifest: from what is asked for to its bytes. Nothing is judged here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::gate::Resolved;
use crate::gate::facts::crashed;
use crate::gate::refusal::{Cause, own_shortfall};
use crate::gate::tag_key;
use crate::metrics::CacheKind;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::oci::Tag;
use crate::policy::Reason;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// How long an answer by a stale tag, or by old facts, is repeated before the upstream is tried again.
pub(super) const STALE_RETRY: Duration = Duration::from_secs(5);

/// A manifest that was found, and how long its finding holds.
pub(super) struct Found {
    pub(super) document: Arc<Document>,
    pub(super) until: Instant,
    pub(super) stale: bool,
}

impl Gate {
    /// The manifest that is asked for, and where it is; that a tag names it is noted, as what
    /// vouches for nothing yet.
    pub(super) async fn locate(
        &self,
        ask: &Ask,
    ) -> Result<(&Upstream, ContentKey, Found), Refusal> {
        let asked = || ask.asked();
        let Some(upstream) = self.upstream(&ask.image.registry) else {
            return Err(Refusal::NotFound(Missing::Repository));
        };
        let found = self.find(upstream, ask, asked).await?;
        let key = ContentKey::of(&ask.image, *found.document.digest());
        if let Reference::Tag(tag) = &ask.reference {
            self.0.hints.tagged(&key, tag, false);
        }
        Ok((upstream, key, found))
    }

    /// The manifest that is asked for, with its bytes.
    async fn find(
        &self,
        upstream: &Upstream,
        ask: &Ask,
        asked: impl Fn() -> Asked,
    ) -> Result<Found, Refusal> {
        let answer = match &ask.reference {
            Reference::Digest(digest) => {
                let key = ContentKey::of(&ask.image, *digest);
                let document = self.0.content.manifest(upstream, &key).await;
                let until = Instant::now() + self.0.settings.facts_ttl;
                document.map(|document| Found {
                    document,
                    until,
                    stale: false,
                })
            }
            Reference::Tag(tag) => match self.resolve(upstream, &ask.image, tag).await {
                Ok(answer) => answer,
                Err(cause) => return Err(self.unavailable(cause, asked(), None)),
            },
        };
        answer.map_err(|error| self.not_found(&error, asked(), Missing::Manifest))
    }

    /// What a tag names: as it was seen within `tag_ttl`, or asked for now, in one flight for
    /// all who ask. The bytes are fetched by the tag and hashed here, so that an upstream
    /// that answers otherwise the next time changes nothing. Where it says that the tag names what it
    /// named before, the bytes of that are had by their digest, which costs registries nothing.
    async fn resolve(
        &self,
        upstream: &Upstream,
        image: &ImageName,
        tag: &Tag,
    ) -> Result<Result<Found, UpstreamError>, Cause> {
        let settings = &self.0.settings;
        let known = self.0.tags.get(&tag_key(image, tag));
        let fresh = known.filter(|known| known.at.elapsed() < settings.tag_ttl);
        self.0
            .metrics
            .cache_requested(CacheKind::Tags, fresh.is_some());
        if let Some(resolved) = fresh {
            let until = resolved.at + settings.tag_ttl;
            return Ok(self.named(upstream, image, resolved, until, false).await);
        }
        let name = (image.clone(), tag.clone());
        let (gate, flown, upstream_of_flight) = (self.clone(), name.clone(), upstream.clone());
        let flight = || async move {
            let at = Instant::now();
            let (image, tag) = &flown;
            let before = known.map(|known| known.digest);
            let document = gate
                .named_now(&upstream_of_flight, image, tag, before)
                .await
                .map_err(Arc::new)?;
            let resolved = Resolved {
                digest: *document.digest(),
                at,
            };
            gate.0.tags.insert(tag_key(image, tag), resolved, 0);
            Ok((document, at))
        };
        let flown_by = (name.0, name.1, upstream.asker_key());
        match self
            .0
            .tag_flights
            .join(flown_by, flight)
            .await
            .map_err(|_| crashed())?
        {
            Ok((document, at)) => Ok(Ok(Found {
                document,
                until: at + settings.tag_ttl,
                stale: false,
            })),
            Err(error) if error.is_transient() => {
                match known.filter(|known| known.at.elapsed() < settings.stale_ttl) {
                    Some(resolved) => {
                        let until = Instant::now() + STALE_RETRY;
                        Ok(self.named(upstream, image, resolved, until, true).await)
                    }
                    None => Ok(Err(UpstreamError::clone(&error))),
                }
            }
            Err(error) => Ok(Err(UpstreamError::clone(&error))),
        }
    }

    /// What a tag names now, `before` being what it named before.
    async fn named_now(
        &self,
        upstream: &Upstream,
        image: &ImageName,
        tag: &Tag,
        before: Option<Digest>,
    ) -> Result<Arc<Document>, UpstreamError> {
        let (content, reference) = (&self.0.content, Reference::Tag(tag.clone()));
        if let Some(before) = before {
            match upstream.claimed_digest(&image.repository, &reference).await {
                Ok(Some(claimed)) if claimed == before => {
                    let key = ContentKey::of(image, before);
                    return content.manifest(upstream, &key).await;
                }
                // It would not answer the next question, either.
                Err(
                    error @ (UpstreamError::Unreachable { .. } | UpstreamError::RateLimited { .. }),
                ) => return Err(error),
                // Gone, moved, or of a registry that knows no HEAD: then its bytes tell.
                Ok(_) | Err(_) => {}
            }
        }
        let fetched = upstream.manifest(&image.repository, &reference).await?;
        Ok(content.take_in(&image.registry, &image.repository, fetched))
    }

    async fn named(
        &self,
        upstream: &Upstream,
        image: &ImageName,
        resolved: Resolved,
        until: Instant,
        stale: bool,
    ) -> Result<Found, UpstreamError> {
        let key = ContentKey::of(image, resolved.digest);
        let document = self.0.content.manifest(upstream, &key).await?;
        Ok(Found {
            document,
            until,
            stale,
        })
    }

    pub(super) fn not_found(
        &self,
        error: &UpstreamError,
        asked: Asked,
        missing: Missing,
    ) -> Refusal {
        match error {
            UpstreamError::NotFound => Refusal::NotFound(missing),
            UpstreamError::Unauthorized { host, .. }
                if self.upstream(host).is_some_and(Upstream::asks_as_caller) =>
            {
                Refusal::LoginNeeded(host.clone())
            }
            UpstreamError::TooLarge { limit } => self.denied(
                Denied {
                    asked,
                    refused: None,
                    shortfall: own_shortfall(
                        Reason::OverLimit,
                        format!("content larger than {limit} bytes"),
                        "content within the limits",
                        "raise the limit if content of this size is wanted (limits in the \
                     configuration)",
                    ),
                    policy: None,
                    judgement: None,
                },
                Arc::default(),
            ),
            error => self.unavailable(Cause::of_upstream(error), asked, None),
        }
    }
}
