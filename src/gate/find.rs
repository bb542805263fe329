//! Finding a manifest: from what is asked for to its bytes. Nothing is judged here.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

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
use crate::gate::hints::Named;
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

/// How long somebody waits for a registry that gave no answer in time a moment ago, where what is old
/// will do.
const GRACE: Duration = Duration::from_millis(500);

/// What a flight brings: `None` where it would be worth while not to wait for it, since its registry is
/// silent. It goes on.
pub(super) async fn in_grace<T>(
    upstream: &Upstream,
    landing: impl Future<Output = T>,
) -> Option<T> {
    match upstream.is_silent() {
        true => timeout(GRACE, landing).await.ok(),
        false => Some(landing.await),
    }
}

/// A manifest that was found, and how long its finding holds.
pub(super) struct Found {
    pub(super) document: Arc<Document>,
    pub(super) until: Instant,
    pub(super) stale: bool,
    /// Who says that the tag, where it was asked for by one, names it.
    pub(super) named: Named,
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
            self.0.hints.tagged(&key, tag, found.named, false);
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
                    named: Named::ByRegistry,
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
    ///
    /// Nobody waits long for a registry that gave no answer in time a moment ago, where what the tag
    /// named before will do: it is asked all the same, and who comes next has the answer.
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
            return Ok(self.named(upstream, image, resolved, until).await);
        }
        let (gate, flown, upstream_of_flight) =
            (self.clone(), (image.clone(), tag.clone()), upstream.clone());
        let flight = || async move {
            let (image, tag) = &flown;
            let landed = gate.ask_for_tag(&upstream_of_flight, image, tag, known);
            landed.await.map_err(Arc::new)
        };
        let flown_by = (image.clone(), tag.clone(), upstream.asker_key());
        let landing = self.0.tag_flights.join(flown_by, flight);
        let mut landing = pin!(landing);
        let landed = in_grace(upstream, &mut landing).await;
        if landed.is_none()
            && let Some(found) = self.named_before(image, tag, known).await
        {
            return Ok(Ok(found));
        }
        let landed = match landed {
            Some(landed) => landed,
            None => landing.await,
        };
        match landed.map_err(|_| crashed())? {
            Ok((document, at)) => Ok(Ok(Found {
                document,
                until: at + settings.tag_ttl,
                stale: false,
                named: Named::ByRegistry,
            })),
            Err(error) if error.is_transient() => {
                let before = self.named_before(image, tag, known).await;
                Ok(before.ok_or_else(|| UpstreamError::clone(&error)))
            }
            Err(error) => Ok(Err(UpstreamError::clone(&error))),
        }
    }

    /// Asks the registry what a tag names, and remembers the answer.
    async fn ask_for_tag(
        &self,
        upstream: &Upstream,
        image: &ImageName,
        tag: &Tag,
        known: Option<Resolved>,
    ) -> Result<(Arc<Document>, Instant), UpstreamError> {
        let before = match known {
            Some(known) => Some(known),
            None => self.remembered_tag(image, tag).await,
        };
        let at = Instant::now();
        let before = before.map(|before| before.digest);
        let answered = self.named_now(upstream, image, tag, before).await;
        match &answered {
            Ok(document) => self.note_resolved((image, tag), *document.digest(), at, known),
            // To those who ask with credentials of their own it may just not be shown.
            Err(UpstreamError::NotFound) if before.is_some() && !upstream.asks_as_caller() => {
                self.forget_tag(image, tag);
            }
            Err(_) => {}
        }
        Ok((answered?, at))
    }

    /// What a tag named when it was last asked for, where that is young enough to stand for what it
    /// names, and at hand.
    async fn named_before(
        &self,
        image: &ImageName,
        tag: &Tag,
        known: Option<Resolved>,
    ) -> Option<Found> {
        let before = match known {
            Some(known) => known,
            None => self.remembered_tag(image, tag).await?,
        };
        if before.at.elapsed() >= self.0.settings.stale_ttl {
            return None;
        }
        let key = ContentKey::of(image, before.digest);
        Some(Found {
            document: self.0.content.manifest_at_hand(&key).await?,
            until: Instant::now() + STALE_RETRY,
            stale: true,
            named: before.named,
        })
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
    ) -> Result<Found, UpstreamError> {
        let key = ContentKey::of(image, resolved.digest);
        let document = self.0.content.manifest(upstream, &key).await?;
        Ok(Found {
            document,
            until,
            stale: false,
            named: resolved.named,
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
