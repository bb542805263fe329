//! Tags that may not move back: what is remembered of them, for policies with `no_rollback`.

use std::sync::Arc;

use jiff::Timestamp;

use crate::content::Mark;
use crate::content::Recalled;
use crate::content::Served;
use crate::content::TagKey;
use crate::gate::Ask;
use crate::gate::Gate;
use crate::oci::Digest;
use crate::oci::Reference;
use crate::policy::Earlier;
use crate::policy::Judgement;
use crate::policy::Policy;

/// What is remembered of the tag that is asked for: one of each for every policy.
pub(super) struct Watch {
    keys: Vec<Option<TagKey>>,
    /// True once something could not be written down.
    is_unwritten: bool,
}

/// That what was admitted is the latest that its tag named, by one policy. What is reached through
/// it holds for as long.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    tag: TagKey,
    digest: Digest,
    signed_at: Timestamp,
}

impl Watch {
    pub(super) fn new(policies: &[Arc<Policy>], ask: &Ask) -> Self {
        let key = |policy: &Arc<Policy>| match &ask.reference {
            Reference::Tag(tag) if policy.no_rollback.is_some() => {
                Some(TagKey::new(&policy.name, &ask.image, tag))
            }
            _ => None,
        };
        Self {
            keys: policies.iter().map(key).collect(),
            is_unwritten: false,
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.iter().all(Option::is_none)
    }

    /// What has to stay the latest under the tag, for this judgement to be repeated.
    pub(super) fn latest(
        &self,
        policies: &[Arc<Policy>],
        judgement: &Judgement,
        digest: &Digest,
    ) -> Arc<[Latest]> {
        let judged = judgement.policies.iter().zip(policies).zip(&self.keys);
        let latest = judged.filter_map(|((outcome, policy), key)| {
            // One that warns of it remembers what was served before.
            let (Some(tag), Some(signed_at), None) = (key, outcome.signed_at, &outcome.shortfall)
            else {
                return None;
            };
            let permitted = policy.no_rollback.as_ref();
            let is_permitted = permitted.is_some_and(|rule| rule.permit.contains(digest));
            (!is_permitted).then(|| Latest {
                tag: tag.clone(),
                digest: *digest,
                signed_at,
            })
        });
        latest.collect()
    }
}

impl Latest {
    /// Whether nothing later was served under the tag.
    pub(super) fn stands(&self, served: &Served) -> bool {
        served.is_latest(&self.tag, &self.digest, self.signed_at)
    }
}

impl Gate {
    /// What the tag named before, for each of the policies.
    pub(super) async fn recall(&self, watch: &Watch) -> Vec<Earlier> {
        let mut earlier = Vec::new();
        for key in &watch.keys {
            let Some(key) = key else {
                earlier.push(Earlier::Nothing);
                continue;
            };
            let recalled = self.0.content.served().recall(key).await;
            earlier.push(match recalled {
                Ok(_) if watch.is_unwritten => Earlier::Unknown,
                Ok(Recalled::Nothing) => Earlier::Nothing,
                Ok(Recalled::Mark(mark)) => Earlier::Served {
                    digest: mark.digest,
                    signed_at: mark.signed_at,
                    served_at: mark.served_at,
                },
                Ok(Recalled::Forgotten(floor)) => Earlier::Forgotten(floor),
                Err(_) => Earlier::Unknown,
            });
        }
        earlier
    }

    /// Remembers what is about to be served under its tag. False where it has to be judged anew:
    /// later content was served meanwhile, or it cannot be remembered.
    pub(super) async fn note(&self, watch: &mut Watch, latest: &[Latest]) -> bool {
        for one in latest {
            let mark = Mark {
                digest: one.digest,
                signed_at: one.signed_at,
                served_at: self.0.clock.now(),
            };
            let noted = self.0.content.served().note(&one.tag, mark).await;
            watch.is_unwritten |= noted.is_err();
            if noted != Ok(true) {
                return false;
            }
        }
        true
    }
}
