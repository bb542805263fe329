//! Closure for blobs: a blob leaves because a manifest that is admitted now lists it, in the
//! repository that it is asked for in.

use std::{sync::Arc, time::Instant};

use crate::content::BlobAnswer;
use crate::content::ByteRange;
use crate::content::ContentKey;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::by_tag::Tries;
use crate::gate::refusal::own_shortfall;
use crate::gate::ruling::Validity;
use crate::gate::unreached::NotReached;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Caller;
use crate::policy::Reason;
use crate::upstream::Upstream;

/// A blob that may leave: the only key to its bytes. It can only be had from [`Gate::blob`].
#[derive(Debug)]
pub struct AdmittedBlob {
    key: ContentKey,
    upstream: Upstream,
}

/// Why a blob may leave, and for how long that holds.
#[derive(Debug)]
pub(super) struct Reach {
    validity: Validity,
}

impl Gate {
    /// Asks for a blob; of the caller as [`Gate::manifest`] says.
    ///
    /// # Errors
    /// A [`Refusal`]. A blob that nothing reaches is refused whether or not it exists.
    pub async fn blob(
        &self,
        image: &ImageName,
        digest: Digest,
        caller: &Caller,
    ) -> Result<AdmittedBlob, Refusal> {
        let ruling = self.0.ruling.load_full();
        let asked = || Asked::Blob(image.clone(), digest);
        self.let_ask(&ruling, image, caller, asked)?;
        self.permit_blob(image, digest).await?;
        let Some(upstream) = self.upstream(&image.registry) else {
            return Err(Refusal::NotFound(Missing::Repository));
        };
        let key = ContentKey::of(image, digest);
        let held = self.0.reaches.get(&key);
        let held = held.filter(|reach| self.holds(&reach.validity, &ruling, Instant::now()));
        if held.is_none() {
            let reach = Box::pin(self.reach(&ruling, upstream, image, &key));
            let reach = self.in_time(reach, asked).await?;
            self.0.reaches.insert(key.clone(), Arc::new(reach));
        }
        Ok(AdmittedBlob {
            key,
            upstream: upstream.clone(),
        })
    }

    async fn reach(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        image: &ImageName,
        key: &ContentKey,
    ) -> Result<Reach, Refusal> {
        if ruling.allows_by_default() && !ruling.index.may_match(image) {
            let until = Instant::now() + self.0.settings.facts_ttl;
            let validity = Validity::until(ruling, until);
            return Ok(Reach { validity });
        }
        // Before the hints are read: an admission after this ends what is told by them.
        let asking = self.0.unreached.asking(image, key, upstream.asker_key());
        if let Some(answer) = self.0.unreached.told(&asking, ruling.generation) {
            return Err(self.not_reached(image, key.digest, answer));
        }
        let (mut doubt, tries) = (None, Tries::default());
        let mut parents = self.0.hints.of(key).await.parents;
        let mut looked_at = 0;
        // Before anybody is told "no", it is asked what others may have admitted meanwhile.
        while looked_at < parents.len() || self.learned(key, &mut parents).await {
            let parent = &parents[looked_at];
            looked_at += 1;
            let parent = ContentKey {
                digest: *parent,
                ..key.clone()
            };
            match self
                .reach_through(ruling, upstream, image, &parent, key, &tries)
                .await
            {
                Ok(Some(reach)) => return Ok(reach),
                Ok(None) => {}
                Err(Refusal::Unavailable(unavailable)) => doubt = Some(unavailable),
                // The permit ended on the way; whoever asks is asked anew.
                Err(Refusal::LoginNeeded(registry)) => return Err(Refusal::LoginNeeded(registry)),
                Err(Refusal::Denied(..) | Refusal::NotFound(_)) => {}
            }
        }
        let answer = match doubt {
            _ if tries.ran_out() => NotReached::Unknown,
            Some(doubt) => return Err(Refusal::Unavailable(doubt)),
            None => NotReached::No,
        };
        // Where no manifest had to be looked at, there is nothing to spare.
        if !parents.is_empty() {
            self.0.unreached.tell(asking, ruling.generation, answer);
        }
        Err(self.not_reached(image, key.digest, answer))
    }

    /// Adds parents of which others know to those that are known here; false where there are none, or
    /// enough were looked at.
    async fn learned(&self, key: &ContentKey, parents: &mut Vec<Digest>) -> bool {
        let room = self.0.settings.index_manifests_max;
        if parents.len() >= room {
            return false;
        }
        let before = parents.len();
        let mut news = self.0.hints.learn(key).await;
        news.retain(|parent| !parents.contains(parent));
        parents.extend(news);
        parents.truncate(room);
        parents.len() > before
    }

    /// Whether `parent`, as it is judged now, lists the blob. A hint says where to look; the
    /// manifest itself is read.
    async fn reach_through(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        image: &ImageName,
        parent: &ContentKey,
        key: &ContentKey,
        tries: &Tries,
    ) -> Result<Option<Reach>, Refusal> {
        let asked = || Asked::Blob(image.clone(), key.digest);
        let document = self.0.content.manifest(upstream, parent).await;
        let document = document.map_err(|error| self.not_found(&error, asked(), Missing::Blob))?;
        let Ok(manifest) = document.manifest() else {
            return Ok(None);
        };
        if manifest.as_image().is_none() || !manifest.lists(&key.digest) {
            return Ok(None);
        }
        let ask = Ask {
            image: image.clone(),
            reference: Reference::Digest(parent.digest),
        };
        let admission = match self.held(ruling, &ask, Instant::now()) {
            Some(held) => held,
            None => match self.admit(ruling, &ask, tries).await {
                Ok(admitted) => admitted.admission,
                Err(refusal @ Refusal::Denied(..)) => {
                    let policies = ruling.index.matching(image, &ask.reference);
                    let by_tag = self.admitted_by_tag(ruling, parent, &policies, tries);
                    by_tag.await?.ok_or(refusal)?
                }
                Err(refusal) => return Err(refusal),
            },
        };
        let validity = admission.validity.clone();
        Ok(Some(Reach { validity }))
    }

    fn not_reached(&self, image: &ImageName, digest: Digest, answer: NotReached) -> Refusal {
        let asked = Asked::Blob(image.clone(), digest);
        match answer {
            NotReached::No => self.not_reachable(asked),
            NotReached::Unknown => self.too_many_tags(asked),
        }
    }

    fn not_reachable(&self, asked: Asked) -> Refusal {
        let shortfall = own_shortfall(
            Reason::NotReachable,
            "no admitted manifest of this repository that lists it".to_owned(),
            "a blob of an image that policy admits",
            "pull the image by its tag or digest; if the image is refused, its own message says \
             why",
        );
        self.denied(
            Denied {
                asked,
                refused: None,
                shortfall,
                policy: None,
                judgement: None,
            },
            Arc::default(),
        )
    }

    /// The bytes of an admitted blob, or of a part of it.
    ///
    /// # Errors
    /// A [`Refusal`] when the upstream does not give them.
    pub async fn open(
        &self,
        blob: &AdmittedBlob,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, Refusal> {
        let AdmittedBlob { key, upstream, .. } = blob;
        let answer = self.0.content.blob(upstream, key, range).await;
        answer.map_err(|error| self.not_found(&error, blob.asked(), Missing::Blob))
    }

    /// The size of an admitted blob in bytes; the upstream's claim where it is not held.
    ///
    /// # Errors
    /// A [`Refusal`] when the upstream does not say.
    pub async fn blob_size(&self, blob: &AdmittedBlob) -> Result<Option<u64>, Refusal> {
        let size = self.0.content.blob_size(&blob.upstream, &blob.key).await;
        size.map_err(|error| self.not_found(&error, blob.asked(), Missing::Blob))
    }
}

impl AdmittedBlob {
    /// The blob's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.key.digest
    }

    fn asked(&self) -> Asked {
        let ContentKey {
            host,
            repository,
            digest,
        } = self.key.clone();
        Asked::Blob(
            ImageName {
                registry: host,
                repository,
            },
            digest,
        )
    }
}
