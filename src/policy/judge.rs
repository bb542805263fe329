//! The judge: does every policy that matches an image vouch for this digest?

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::oci::Digest;
use crate::oci::DockerReference;
use crate::oci::ImageName;
use crate::policy::Demand;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::Requirement;
use crate::policy::Signs;
use crate::policy::demand;
use crate::verify::Facts;

/// How many pinned digests a message names.
const DIGESTS_TOLD: usize = 3;

/// What is asked about a subject.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The image that is pulled.
    pub image: &'a ImageName,
    /// When.
    pub now: Timestamp,
}

/// What a manifest is, as far as `signs` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An image or an artifact.
    Image,
    /// An index.
    Index,
}

/// What is judged: a digest with its facts, and as much of the graph around it as is known.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The digest.
    pub digest: Digest,
    /// Image or index.
    pub shape: Shape,
    /// True when a tag of this repository names the digest. Under `signs: index` an image
    /// that nothing is known to lead to does not pass by its own signature.
    pub tagged: bool,
    /// What is proven about it.
    pub facts: Arc<Facts>,
    /// What was asked for, of whatever this is found around; signatures that name an image
    /// are compared with it. Without it none of them fits.
    pub asked: Option<Arc<DockerReference>>,
    /// Indexes of this repository that were loaded and seen to list it.
    pub parents: Vec<Self>,
    /// For an index: the images it lists, where they were looked at.
    pub children: Option<Vec<Self>>,
}

impl Subject {
    /// A digest with its own facts and nothing around it.
    #[must_use]
    pub fn alone(digest: Digest, shape: Shape, tagged: bool, facts: Arc<Facts>) -> Self {
        Self {
            digest,
            shape,
            tagged,
            facts,
            asked: None,
            parents: Vec::new(),
            children: None,
        }
    }
}

/// The judge's answer about one digest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// `Admitted`, or why not.
    pub reason: Reason,
    /// What each matching policy says, in the order of the files.
    pub policies: Vec<PolicyOutcome>,
    /// Until when this holds if nothing else changes: the first exemption to end, the first
    /// signature to grow too old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_until: Option<Timestamp>,
}

/// What one policy says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyOutcome {
    /// The policy's name.
    pub policy: Arc<str>,
    /// Its mode.
    #[serde(serialize_with = "mode_word")]
    pub mode: Mode,
    /// `None` when it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<Shortfall>,
    /// When the image was signed, as the policy counts, where it asks whether a tag has moved
    /// back and what the tag names passes otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// True when it is only the tag that does not pass: the digest may.
    #[serde(skip)]
    pub is_about_tag: bool,
}

fn mode_word<S: serde::Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.as_str())
}

/// Why a policy does not pass, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// The reason's word.
    pub reason: Reason,
    /// What was found.
    pub found: String,
    /// What the policy asks for.
    pub expected: String,
    /// What to do about it.
    pub remedy: String,
}

impl Judgement {
    /// True when every enforcing policy passes.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.reason == Reason::Admitted
    }

    /// The first enforcing policy that does not pass.
    #[must_use]
    pub fn refusal(&self) -> Option<(&PolicyOutcome, &Shortfall)> {
        self.shortfalls(Mode::Enforce).next()
    }

    /// The policies in `warn` mode that do not pass.
    pub fn warnings(&self) -> impl Iterator<Item = (&PolicyOutcome, &Shortfall)> {
        self.shortfalls(Mode::Warn)
    }

    fn shortfalls(&self, mode: Mode) -> impl Iterator<Item = (&PolicyOutcome, &Shortfall)> {
        self.policies
            .iter()
            .filter(move |outcome| outcome.mode == mode)
            .filter_map(|outcome| Some((outcome, outcome.shortfall.as_ref()?)))
    }

    /// True when no policy falls short, in either mode: nothing that is still unread could
    /// make it better.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.policies.is_empty()
            && self
                .policies
                .iter()
                .all(|policy| policy.shortfall.is_none())
    }
}

/// Judges one digest by the policies that match its image. With no policy the answer is
/// [`Reason::NoPolicy`]: what the default makes of that is for the caller.
#[must_use]
pub fn judge(policies: &[Arc<Policy>], subject: &Subject, question: &Question<'_>) -> Judgement {
    let outcomes: Vec<PolicyOutcome> = policies
        .iter()
        .map(|policy| PolicyOutcome {
            policy: Arc::clone(&policy.name),
            mode: policy.mode,
            shortfall: policy.shortfall(subject, question),
            signed_at: None,
            is_about_tag: false,
        })
        .collect();
    let holds_until = policies
        .iter()
        .filter_map(|policy| policy.changes_after(subject, question.now))
        .min();
    let mut judgement = Judgement {
        reason: Reason::NoPolicy,
        policies: outcomes,
        holds_until,
    };
    if !judgement.policies.is_empty() {
        judgement.reason = judgement
            .refusal()
            .map_or(Reason::Admitted, |(_, shortfall)| shortfall.reason);
    }
    judgement
}

impl Policy {
    /// True when judging takes so long that it does not belong on a thread that answers.
    #[must_use]
    pub fn is_costly(&self) -> bool {
        match &self.requirement {
            Requirement::Proven(demands) => demands.iter().any(Demand::has_condition),
            _ => false,
        }
    }

    /// True when what is not known could make it refuse what it admits by what is known: where
    /// every attestation has to meet a condition.
    #[must_use]
    pub fn weighs_all_evidence(&self) -> bool {
        match &self.requirement {
            Requirement::Proven(demands) if self.mode == Mode::Enforce => demands
                .iter()
                .any(|demand| demand.attested.iter().any(|attested| attested.every)),
            _ => false,
        }
    }

    /// True when it minds who lists an image also where the image's own facts would do.
    #[must_use]
    pub fn minds_parents(&self) -> bool {
        self.signs == Signs::Index && matches!(self.requirement, Requirement::Proven(_))
    }

    /// True when it admits only what is proven, or what it pins.
    #[must_use]
    pub fn vouches(&self) -> bool {
        self.mode == Mode::Enforce
            && matches!(
                self.requirement,
                Requirement::Proven(_) | Requirement::Digests(_)
            )
    }

    /// The next moment at which it may say something else about the same facts.
    fn changes_after(&self, subject: &Subject, now: Timestamp) -> Option<Timestamp> {
        match &self.requirement {
            Requirement::AllowUnsigned { until, .. } => until.filter(|until| *until > now),
            Requirement::Proven(demands) => demands
                .iter()
                .filter_map(|demand| demand.changes_after(subject, now))
                .min(),
            _ => None,
        }
    }

    fn shortfall(&self, subject: &Subject, question: &Question<'_>) -> Option<Shortfall> {
        match &self.requirement {
            Requirement::Deny { reason } => Some(Shortfall {
                reason: Reason::DeniedByPolicy,
                found: format!("an image that the policy refuses: {reason}"),
                expected: "an image that no policy denies".to_owned(),
                remedy: "use another image, or ask those who own the policy".to_owned(),
            }),
            Requirement::AllowUnsigned { until, because } => match until {
                Some(until) if question.now >= *until => Some(Shortfall {
                    reason: Reason::Unsigned,
                    found: format!("an exemption ({because}) that ended at {until}"),
                    expected: "an exemption that still holds, or a policy that names signers"
                        .to_owned(),
                    remedy: "sign the image and name its signers in the policy, or move `until`"
                        .to_owned(),
                }),
                _ => None,
            },
            Requirement::Digests(digests) => {
                let own = |subject: &Subject| digests.contains(&subject.digest);
                let vouched = Signs::Either.vouched(subject, &own);
                (!vouched).then(|| Shortfall {
                    reason: Reason::DeniedByPolicy,
                    found: format!("the digest {}", subject.digest),
                    expected: pinned(digests),
                    remedy: "pull a pinned digest, or add this one to the policy's `digests`"
                        .to_owned(),
                })
            }
            Requirement::Proven(demands) => {
                demand::shortfall(demands, self.signs, subject, question)
            }
        }
    }
}

/// The digests that a policy pins, in words: all of them where a message can hold them.
fn pinned(digests: &BTreeSet<Digest>) -> String {
    let told: Vec<String> = digests.iter().map(Digest::to_string).collect();
    match told.as_slice() {
        [one] => format!("{one}, which is all that the policy pins"),
        some if some.len() <= DIGESTS_TOLD => {
            format!("one of those that the policy pins: {}", some.join(", "))
        }
        many => format!("one of the {} digests that the policy pins", many.len()),
    }
}

impl Signs {
    /// Whether the requirement `own` holds for the subject itself or for what vouches for it.
    pub(super) fn vouched(self, subject: &Subject, own: &dyn Fn(&Subject) -> bool) -> bool {
        match (self, subject.shape) {
            (Self::Index, Shape::Image) => {
                // Only what is nobody's child is its own root.
                (subject.tagged && subject.parents.is_empty() && own(subject))
                    || covered_by_parent(subject, own)
            }
            (Self::Instance, Shape::Image) => own(subject),
            (Self::Instance, Shape::Index) => {
                every_child(subject, &|child| child.shape == Shape::Image && own(child))
            }
            (Self::Index, Shape::Index) | (Self::Asked, _) | (Self::Either, Shape::Image) => {
                own(subject) || covered_by_parent(subject, own)
            }
            (Self::Either, Shape::Index) => {
                own(subject) || covered_by_parent(subject, own) || every_child(subject, own)
            }
        }
    }
}

fn covered_by_parent(subject: &Subject, own: &dyn Fn(&Subject) -> bool) -> bool {
    subject
        .parents
        .iter()
        .any(|parent| own(parent) || covered_by_parent(parent, own))
}

fn every_child(subject: &Subject, own: &dyn Fn(&Subject) -> bool) -> bool {
    subject
        .children
        .as_ref()
        .is_some_and(|children| !children.is_empty() && children.iter().all(own))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
