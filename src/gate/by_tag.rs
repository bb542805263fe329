//! What passes with what a tag admits: the blobs of an image, and what an index lists.
//!
//! Policy may say another thing of a tag than of the digest that it names: a signature was made
//! for the tag, or the policy is for the tag alone. Clients ask for the one and then, by digest,
//! for all that it consists of. So where a digest is refused, it is looked whether a tag is known
//! that leads to it and admits it now. A hint says which; the tag is resolved and judged anew.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::content::ContentKey;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Gate;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admission::Admission;
use crate::gate::admit::Purpose;
use crate::gate::refusal::{Cause, Doubt};
use crate::gate::ruling::Validity;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Judgement;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::upstream::Upstream;

/// How many tags one request may have judged on its behalf, whatever hints lead to.
const TRIES_MAX: usize = 16;

/// The way from a digest to a tag and back to policy would contain itself.
type Vouching<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Arc<Admission>>, Refusal>> + Send + 'a>>;

/// How many tags one request may still have judged.
#[derive(Debug)]
pub(super) struct Tries {
    left: AtomicUsize,
    ran_out: AtomicBool,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            left: AtomicUsize::new(TRIES_MAX),
            ran_out: AtomicBool::new(false),
        }
    }
}

impl Tries {
    /// Takes one, while there are any.
    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.ran_out.fetch_or(taken.is_err(), Ordering::Relaxed);
        taken.is_ok()
    }

    /// Whether a tag was left out that might have vouched: then "no" is not proven.
    pub(super) fn ran_out(&self) -> bool {
        self.ran_out.load(Ordering::Relaxed)
    }
}

impl Gate {
    /// The admission of a manifest under a tag that names it. `policies` are those that refused a
    /// digest: a tag of which they say the same is not asked.
    pub(super) async fn admitted_by_tag(
        &self,
        ruling: &Ruling,
        key: &ContentKey,
        policies: &[Arc<Policy>],
        tries: &Tries,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        let tags = self.tags_of(ruling, key, policies);
        self.admitted_by_one_of(ruling, &tags, key, tries).await
    }

    /// The tags that are known to name a manifest, of which policy may say otherwise than it does
    /// of its digest.
    fn tags_of(&self, ruling: &Ruling, key: &ContentKey, policies: &[Arc<Policy>]) -> Vec<Ask> {
        let tags = self.0.hints.noted(key).tags.into_iter();
        let asks = tags.map(|tag| Ask {
            image: image_of(key),
            reference: Reference::Tag(tag),
        });
        let may_admit = |ask: &Ask| {
            let under_tag = ruling.index.matching(&ask.image, &ask.reference);
            says_otherwise(&under_tag, policies)
        };
        asks.filter(may_admit).collect()
    }

    async fn admitted_by_one_of(
        &self,
        ruling: &Ruling,
        tags: &[Ask],
        key: &ContentKey,
        tries: &Tries,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        let mut doubt = None;
        for ask in tags {
            match self.vouching(ruling, ask, key, tries).await {
                Ok(Some(admission)) => return Ok(Some(admission)),
                Err(Refusal::Unavailable(unavailable)) => doubt = Some(unavailable),
                Err(refusal @ Refusal::LoginNeeded(_)) => return Err(refusal),
                Ok(None) | Err(Refusal::Denied(..) | Refusal::NotFound(_)) => {}
            }
        }
        doubt.map_or(Ok(None), |doubt| Err(Refusal::Unavailable(doubt)))
    }

    /// The admission of this manifest by one tag, if that still names it. It is not kept where it
    /// is made for this: who asks for the tag itself has it judged, and what it names remembered.
    fn vouching<'a>(
        &'a self,
        ruling: &'a Ruling,
        ask: &'a Ask,
        key: &'a ContentKey,
        tries: &'a Tries,
    ) -> Vouching<'a> {
        Box::pin(async move {
            let vouches = |admission: &Arc<Admission>| {
                *admission.document.digest() == key.digest && admission.vouches()
            };
            if let Some(held) = self.held(ruling, ask, Instant::now()) {
                return Ok(Some(held).filter(vouches));
            }
            if !tries.take() {
                return Ok(None);
            }
            let located = self.locate(ask).await?;
            if located.1 != *key {
                return Ok(None);
            }
            let admission = self.settle(ruling, ask, located, Purpose::Vouching).await?;
            Ok(Some(admission).filter(vouches))
        })
    }

    /// The admission that is held, if it holds.
    pub(super) fn held(&self, ruling: &Ruling, ask: &Ask, now: Instant) -> Option<Arc<Admission>> {
        let held = self.0.admissions.get(ask);
        held.filter(|held| self.holds(&held.validity, ruling, now))
    }

    /// Whether what is held may be repeated.
    pub(super) fn holds(&self, validity: &Validity, ruling: &Ruling, now: Instant) -> bool {
        validity.holds(ruling, now, &self.0.clock, self.0.content.served())
    }

    /// The admission of an index that lists the manifest, under a tag. For a manifest whose own
    /// digest is refused by policies that all [leave that](leave_it_to_the_tag) to the tag.
    pub(super) async fn admitted_by_index(
        &self,
        ruling: &Ruling,
        (upstream, key): (&Upstream, &ContentKey),
        policies: &[Arc<Policy>],
        tries: &Tries,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        let hint = self.0.hints.of(key).await;
        let mut doubt = None;
        for parent in &hint.parents {
            if tries.ran_out() {
                break;
            }
            let index = ContentKey {
                digest: *parent,
                ..key.clone()
            };
            let tags = self.tags_of(ruling, &index, policies);
            if tags.is_empty() {
                continue;
            }
            let found = match self.is_index_of(upstream, &index, key).await {
                Ok(true) => self.admitted_by_one_of(ruling, &tags, &index, tries).await,
                Ok(false) => continue,
                Err(refusal) => Err(refusal),
            };
            match found {
                Ok(Some(admission)) => return Ok(Some(admission)),
                Err(Refusal::Unavailable(unavailable)) => doubt = Some(unavailable),
                Err(refusal @ Refusal::LoginNeeded(_)) => return Err(refusal),
                Ok(None) | Err(Refusal::Denied(..) | Refusal::NotFound(_)) => {}
            }
        }
        doubt.map_or(Ok(None), |doubt| Err(Refusal::Unavailable(doubt)))
    }

    /// That more tags may admit something than are judged for it. Once one of them is asked for and
    /// admits it, it comes first.
    pub(super) fn too_many_tags(&self, asked: Asked) -> Refusal {
        let cause = Cause {
            remedy: "pull the image by its tag first",
            ..Cause::new(
                Doubt::Overloaded,
                format!(
                    "more tags by which it might be admitted than the {TRIES_MAX} that are judged \
                     for one request"
                ),
            )
        };
        self.unavailable(cause, asked, None)
    }

    /// Whether it is an index that lists the manifest. A hint may be old, or edited: the index
    /// itself is read. One that cannot be read now is no "no".
    async fn is_index_of(
        &self,
        upstream: &Upstream,
        index: &ContentKey,
        key: &ContentKey,
    ) -> Result<bool, Refusal> {
        let asked = || {
            let digest = Reference::Digest(key.digest);
            Asked::Manifest(image_of(key), digest)
        };
        let document = self.0.content.manifest(upstream, index).await;
        let document =
            document.map_err(|error| self.not_found(&error, asked(), Missing::Manifest))?;
        let manifest = document.manifest().ok();
        let manifest = manifest.filter(|manifest| manifest.as_index().is_some());
        Ok(manifest.is_some_and(|manifest| manifest.lists(&key.digest)))
    }
}

/// Whether policy may say another thing of a tag than of the digest that these are for.
fn says_otherwise(under_tag: &[Arc<Policy>], by_digest: &[Arc<Policy>]) -> bool {
    let mut pairs = under_tag.iter().zip(by_digest);
    under_tag.len() != by_digest.len()
        || pairs.any(|(one, other)| !Arc::ptr_eq(one, other) || one.reads_references())
}

fn image_of(key: &ContentKey) -> ImageName {
    ImageName {
        registry: key.host.clone(),
        repository: key.repository.clone(),
    }
}

/// Whether all policies that refuse a manifest by its digest leave that to what was asked for.
pub(super) fn leave_it_to_the_tag(policies: &[Arc<Policy>], judgement: &Judgement) -> bool {
    let mut outcomes = judgement.policies.iter().zip(policies);
    outcomes.all(|(outcome, policy)| {
        outcome.shortfall.is_none()
            || outcome.mode == Mode::Warn
            || policy.leaves_digests_to_their_tags()
    })
}
