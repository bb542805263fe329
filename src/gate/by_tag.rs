//! What passes with what a tag admits: the blobs of an image, and what an index lists.
//!
//! Policy may say another thing of a tag than of the digest that it names: a signature was made
//! for the tag, or the policy is for the tag alone. Clients ask for the one and then, by digest,
//! for all that it consists of. So where a digest is refused, it is looked whether a tag is known
//! that leads to it and admits it now. A hint says which; the tag is resolved and judged anew.

use std::{pin::Pin, sync::Arc};

use crate::content::ContentKey;
use crate::gate::Ask;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admission::Admission;
use crate::gate::admission::Grounds;
use crate::oci::ImageName;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::policy::Judgement;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::upstream::Upstream;

/// How many of the indexes that list a manifest are looked at.
const INDEXES_MAX: usize = 4;

type Admitting<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Arc<Admission>>, Refusal>> + Send + 'a>>;

impl Gate {
    /// The admission of a manifest under a tag that names it.
    pub(super) fn admitted_by_tag<'a>(
        &'a self,
        ruling: &'a Ruling,
        image: &'a ImageName,
        key: &'a ContentKey,
    ) -> Admitting<'a> {
        Box::pin(async move {
            let mut doubt = None;
            for tag in &self.0.hints.of(key).await.tags {
                let ask = Ask {
                    image: image.clone(),
                    reference: Reference::Tag(tag.clone()),
                };
                let admission = match self.held(ruling, &ask) {
                    Some(held) => Ok(held),
                    None => self.admit(ruling, &ask).await.map(|one| one.admission),
                };
                match admission {
                    Ok(admission) if vouches(&admission, key) => return Ok(Some(admission)),
                    Err(Refusal::Unavailable(unavailable)) => doubt = Some(unavailable),
                    Err(refusal @ Refusal::LoginNeeded(_)) => return Err(refusal),
                    Ok(_) | Err(Refusal::Denied(..) | Refusal::NotFound(_)) => {}
                }
            }
            doubt.map_or(Ok(None), |doubt| Err(Refusal::Unavailable(doubt)))
        })
    }

    /// The admission that is held, if it holds.
    pub(super) fn held(&self, ruling: &Ruling, ask: &Ask) -> Option<Arc<Admission>> {
        self.0.admissions.get(ask).filter(|held| {
            let served = self.0.content.served();
            held.validity.holds(ruling, &self.0.clock)
                && held.latest.iter().all(|latest| latest.holds(served))
        })
    }

    /// The admission of an index that lists the manifest, under a tag, where all policies that
    /// refuse the manifest's own digest leave that to what was asked for.
    pub(super) async fn admitted_by_index(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        ask: &Ask,
        key: &ContentKey,
        policies: &[Arc<Policy>],
        judgement: &Judgement,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        let by_digest = matches!(ask.reference, Reference::Digest(_));
        if !by_digest || !leave_it_to_the_tag(policies, judgement) {
            return Ok(None);
        }
        let hint = self.0.hints.of(key).await;
        for parent in hint.parents.iter().take(INDEXES_MAX) {
            let index = ContentKey {
                digest: *parent,
                ..key.clone()
            };
            // A hint may be old, or edited: the index itself is read and seen to list it.
            let document = self.0.content.manifest(upstream, &index).await;
            let lists = document.is_ok_and(|document| {
                let manifest = document.manifest().ok();
                let manifest = manifest.filter(|manifest| manifest.as_index().is_some());
                manifest.is_some_and(|manifest: &Manifest| manifest.lists(&key.digest))
            });
            if lists && let Some(found) = self.admitted_by_tag(ruling, &ask.image, &index).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Whether it is this manifest that was admitted, and by policy. Evidence vouches for nothing.
fn vouches(admission: &Admission, key: &ContentKey) -> bool {
    *admission.document.digest() == key.digest
        && !matches!(admission.decision.grounds, Grounds::Evidence)
}

fn leave_it_to_the_tag(policies: &[Arc<Policy>], judgement: &Judgement) -> bool {
    let mut outcomes = judgement.policies.iter().zip(policies);
    outcomes.all(|(outcome, policy)| {
        outcome.shortfall.is_none()
            || outcome.mode == Mode::Warn
            || policy.leaves_digests_to_their_tags()
    })
}
