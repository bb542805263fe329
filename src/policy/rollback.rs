//! Whether a tag has moved back: to content that was signed earlier than what was served under
//! it before (`no_rollback`).
//!
//! When an image was signed is the latest moment of which holds: if only what was signed then or
//! later counted, the policy would still pass. So who takes one of several signers does not make
//! old content new, and who has the signers sign it anew does.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::oci::Digest;
use crate::policy::Demand;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::Question;
use crate::policy::Reason;
use crate::policy::Requirement;
use crate::policy::Shortfall;
use crate::policy::Subject;

/// That a tag never moves back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoRollback {
    /// What a tag may move back to all the same.
    pub permit: BTreeSet<Digest>,
}

/// What a tag named before, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Earlier {
    /// It was never served.
    #[default]
    Nothing,
    /// The latest that was served.
    Served {
        /// What it named.
        digest: Digest,
        /// When that was signed.
        signed_at: Timestamp,
        /// When it was first served.
        served_at: Timestamp,
    },
    /// It may have been served, with content that was signed by then.
    Forgotten(Timestamp),
    /// Nobody can tell.
    Unknown,
}

/// Adds to a judgement about what a tag names what it named before; one of `earlier` for each of
/// the policies. A policy that does not pass is left alone.
pub fn judge_tag(
    judgement: &mut Judgement,
    policies: &[Arc<Policy>],
    subject: &Subject,
    question: &Question<'_>,
    earlier: &[Earlier],
) {
    for ((outcome, policy), earlier) in judgement.policies.iter_mut().zip(policies).zip(earlier) {
        let Some(rule) = &policy.no_rollback else {
            continue;
        };
        if outcome.shortfall.is_none() {
            outcome.signed_at = policy.signed_at(subject, question);
            outcome.shortfall = rule.shortfall(&subject.digest, outcome.signed_at, *earlier);
            outcome.is_about_tag = outcome.shortfall.is_some();
        }
    }
    if !judgement.policies.is_empty() {
        judgement.reason = judgement
            .refusal()
            .map_or(Reason::Admitted, |(_, shortfall)| shortfall.reason);
    }
}

impl NoRollback {
    fn shortfall(
        &self,
        digest: &Digest,
        signed_at: Option<Timestamp>,
        earlier: Earlier,
    ) -> Option<Shortfall> {
        if self.permit.contains(digest) {
            return None;
        }
        let Some(signed_at) = signed_at else {
            return Some(untimed());
        };
        let (before, remedy) = match earlier {
            Earlier::Nothing => return None,
            Earlier::Served {
                digest: served,
                signed_at: at,
                ..
            } if served == *digest || at <= signed_at => return None,
            Earlier::Forgotten(floor) if floor <= signed_at => return None,
            Earlier::Unknown => return Some(unknown()),
            Earlier::Served {
                digest,
                signed_at,
                served_at,
            } => (
                format!("served {digest} at {served_at}, which was signed at {signed_at}"),
                MOVED_BACK,
            ),
            Earlier::Forgotten(floor) => (
                format!(
                    "may have served what was signed as late as {floor}: it is forgotten, \
                         since there are more tags than limits.served_tags_max"
                ),
                FORGOTTEN,
            ),
        };
        Some(Shortfall {
            reason: Reason::DeniedByPolicy,
            found: format!("content that was signed at {signed_at}, under a tag that {before}"),
            expected: EXPECTED.to_owned(),
            remedy: remedy.to_owned(),
        })
    }
}

const EXPECTED: &str = "content that was signed no earlier than what the tag named before \
                        (no_rollback)";
const MOVED_BACK: &str = "find out who moved the tag back; if it was meant, have the signer sign \
                          this digest anew, or list it in the policy's `no_rollback: { permit: \
                          [...] }`; a pull by digest is not affected";
const FORGOTTEN: &str = "raise the limit, or list this digest in the policy's `no_rollback: { \
                         permit: [...] }`; a pull by digest is not affected";

fn untimed() -> Shortfall {
    Shortfall {
        reason: Reason::DeniedByPolicy,
        found: "signatures whose time nothing proves, so that nobody can tell whether the tag has \
                moved back"
            .to_owned(),
        expected: EXPECTED.to_owned(),
        remedy: "sign without a key (`cosign sign`), so that a log or a timestamp proves when; a \
                 pull by digest is not affected"
            .to_owned(),
    }
}

fn unknown() -> Shortfall {
    Shortfall {
        reason: Reason::DeniedByPolicy,
        found: "no way to tell what the tag named before: the store of it cannot be used"
            .to_owned(),
        expected: EXPECTED.to_owned(),
        remedy: "see what pullgate's log says of `served.redb` in its cache directory; a pull by \
                 digest is not affected"
            .to_owned(),
    }
}

impl Policy {
    /// When an image was signed that passes; see the module's description. `None` where too
    /// little of it has a proven time.
    fn signed_at(&self, subject: &Subject, question: &Question<'_>) -> Option<Timestamp> {
        let Requirement::Proven(demands) = &self.requirement else {
            return None;
        };
        let mut moments = BTreeSet::new();
        collect(subject, &mut moments);
        let moments: Vec<Timestamp> = moments.into_iter().collect();
        let passes_from = |moment: &Timestamp| {
            demands.iter().any(|demand| {
                let demand = demand.since(*moment);
                demand.shortfall(self.signs, subject, question).is_none()
            })
        };
        // The later the moment, the less counts: those that pass come first.
        let passing = moments.partition_point(passes_from);
        passing.checked_sub(1).map(|last| moments[last])
    }
}

impl Demand {
    /// The same of what was signed at this moment or later.
    fn since(&self, moment: Timestamp) -> Self {
        let mut demand = self.clone();
        demand.timing.not_before = demand.timing.not_before.max(Some(moment));
        demand
    }
}

fn collect(subject: &Subject, moments: &mut BTreeSet<Timestamp>) {
    moments.extend(
        subject
            .facts
            .proven
            .iter()
            .filter_map(|fact| fact.signed_at),
    );
    for around in subject
        .parents
        .iter()
        .chain(subject.children.iter().flatten())
    {
        collect(around, moments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn served(content: &[u8], signed_at: i64) -> Earlier {
        Earlier::Served {
            digest: Digest::sha256(content),
            signed_at: at(signed_at),
            served_at: at(signed_at + 1),
        }
    }

    // THREATS C7: what is judged, by what the tag named before.
    #[test]
    fn content_passes_that_was_signed_no_earlier() {
        let now = Digest::sha256(b"now");
        for (signed_at, earlier, passes) in [
            (Some(5), Earlier::Nothing, true),
            (Some(5), served(b"before", 4), true),
            (Some(5), served(b"before", 5), true),
            (Some(5), served(b"before", 6), false),
            // The newer of two signatures of the same content is gone.
            (Some(5), served(b"now", 6), true),
            (Some(5), Earlier::Forgotten(at(5)), true),
            (Some(5), Earlier::Forgotten(at(6)), false),
            (Some(5), Earlier::Unknown, false),
            // Nobody can tell where no time is proven.
            (None, Earlier::Nothing, false),
            (None, served(b"before", 4), false),
        ] {
            let signed_at = signed_at.map(at);
            let rule = NoRollback::default();
            let shortfall = rule.shortfall(&now, signed_at, earlier);
            assert_eq!(shortfall.is_none(), passes, "{signed_at:?} {earlier:?}");
            let permit = [now].into();
            let permitted = NoRollback { permit }.shortfall(&now, signed_at, earlier);
            assert_eq!(permitted, None, "what is permitted passes");
        }
    }
}
