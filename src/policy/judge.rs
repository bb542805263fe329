//! The judge: does every policy that matches an image vouch for this digest?

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::oci::Digest;
use crate::oci::DockerReference;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::SignedBy;
use crate::policy::SignerRule;
use crate::policy::Signs;
use crate::policy::signer::Miss;
use crate::verify::Fact;
use crate::verify::Facts;
use crate::verify::Kind;
use crate::verify::Signer;

/// Why an image was let through or refused. The same words stand in messages, JSON, metrics
/// and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every matching policy passed.
    Admitted,
    /// No policy matches, and the default is to deny.
    NoPolicy,
    /// No signature was found.
    Unsigned,
    /// Signatures were found, and none verifies.
    InvalidSignature,
    /// Valid signatures were found, and none is by a signer that policy names.
    UntrustedSigner,
    /// Fewer signers than policy asks for.
    NotEnoughSigners,
    /// An attestation that policy asks for is missing.
    MissingAttestation,
    /// A condition over an attestation does not hold.
    ConditionFailed,
    /// The caller is not one who may pull this.
    WrongPuller,
    /// A policy says no, or does not list this digest.
    DeniedByPolicy,
    /// No admitted root reaches this content.
    NotReachable,
    /// The manifest cannot be read in one way only.
    Malformed,
    /// There is more than the limits let be looked at.
    OverLimit,
}

impl Reason {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::NoPolicy => "no_policy",
            Self::Unsigned => "unsigned",
            Self::InvalidSignature => "invalid_signature",
            Self::UntrustedSigner => "untrusted_signer",
            Self::NotEnoughSigners => "not_enough_signers",
            Self::MissingAttestation => "missing_attestation",
            Self::ConditionFailed => "condition_failed",
            Self::WrongPuller => "wrong_puller",
            Self::DeniedByPolicy => "denied_by_policy",
            Self::NotReachable => "not_reachable",
            Self::Malformed => "malformed",
            Self::OverLimit => "over_limit",
        }
    }
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
    /// Until when this holds if nothing else changes: the first exemption to end.
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
pub fn judge(policies: &[Arc<Policy>], subject: &Subject, now: Timestamp) -> Judgement {
    let outcomes: Vec<PolicyOutcome> = policies
        .iter()
        .map(|policy| PolicyOutcome {
            policy: Arc::clone(&policy.name),
            mode: policy.mode,
            shortfall: policy.shortfall(subject, now),
        })
        .collect();
    let holds_until = policies
        .iter()
        .filter_map(|policy| policy.ends_after(now))
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
    /// True when signatures are asked for, so that evidence has to be gathered.
    #[must_use]
    pub fn needs_evidence(&self) -> bool {
        matches!(self.requirement, Requirement::SignedBy(_))
    }

    fn ends_after(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.requirement {
            Requirement::AllowUnsigned { until, .. } => until.filter(|until| *until > now),
            _ => None,
        }
    }

    fn shortfall(&self, subject: &Subject, now: Timestamp) -> Option<Shortfall> {
        match &self.requirement {
            Requirement::Deny { reason } => Some(Shortfall {
                reason: Reason::DeniedByPolicy,
                found: format!("an image that the policy refuses: {reason}"),
                expected: "another image".to_owned(),
                remedy: "use another image".to_owned(),
            }),
            Requirement::AllowUnsigned { until, because } => match until {
                Some(until) if now >= *until => Some(Shortfall {
                    reason: Reason::Unsigned,
                    found: format!("an exemption ({because}) that ended at {until}"),
                    expected: "an exemption that still holds, or a policy that names signers"
                        .to_owned(),
                    remedy: "sign the image and name its signers, or move the date".to_owned(),
                }),
                _ => None,
            },
            Requirement::Digests(digests) => {
                let vouched = self.vouched(subject, &|subject| digests.contains(&subject.digest));
                (!vouched).then(|| Shortfall {
                    reason: Reason::DeniedByPolicy,
                    found: format!("the digest {}", subject.digest),
                    expected: format!("one of the {} digests that the policy pins", digests.len()),
                    remedy: "pull a pinned digest, or add this one to the policy's `digests`"
                        .to_owned(),
                })
            }
            Requirement::SignedBy(signed_by) => {
                let vouched = self.vouched(subject, &|subject| signed_by.holds(subject));
                (!vouched).then(|| self.unsigned_shortfall(signed_by, subject))
            }
        }
    }

    /// Whether the requirement `own` holds for the subject itself or for what vouches for it,
    /// as `signs` says. `digests` are pinned content and do not ask `signs`.
    fn vouched(&self, subject: &Subject, own: &dyn Fn(&Subject) -> bool) -> bool {
        let signs = match self.requirement {
            Requirement::SignedBy(_) => self.signs,
            _ => Signs::Either,
        };
        match (signs, subject.shape) {
            (Signs::Index, Shape::Image) => {
                // Only what is nobody's child is its own root.
                (subject.tagged && subject.parents.is_empty() && own(subject))
                    || covered_by_parent(subject, own)
            }
            (Signs::Index, Shape::Index) => own(subject) || covered_by_parent(subject, own),
            (Signs::Instance, Shape::Image) => own(subject),
            (Signs::Instance, Shape::Index) => {
                every_child(subject, &|child| child.shape == Shape::Image && own(child))
            }
            (Signs::Either, Shape::Image) => own(subject) || covered_by_parent(subject, own),
            (Signs::Either, Shape::Index) => {
                own(subject) || covered_by_parent(subject, own) || every_child(subject, own)
            }
        }
    }

    fn unsigned_shortfall(&self, signed_by: &SignedBy, subject: &Subject) -> Shortfall {
        let mut shortfall = signed_by.shortfall(subject);
        if self.signs == Signs::Index && subject.shape == Shape::Image && signed_by.holds(subject) {
            shortfall.reason = Reason::Unsigned;
            shortfall.found =
                "a platform's manifest with a signature of its own, reached through no \
                               signed index"
                    .to_owned();
            shortfall.remedy =
                "sign the index (cosign sign INDEX_DIGEST) and pull by its tag".to_owned();
        }
        match (self.signs, subject.shape) {
            (Signs::Index, _) => shortfall.expected.push_str(", on the index (signs: index)"),
            (Signs::Instance, Shape::Index) => shortfall
                .expected
                .push_str(", on every platform's manifest that the index lists (signs: instance)"),
            (Signs::Instance, Shape::Image) => {
                shortfall
                    .expected
                    .push_str(", on this manifest itself (signs: instance)");
            }
            (Signs::Either, _) => {}
        }
        shortfall
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

impl SignedBy {
    /// Whether so many of the named signers signed, each of them another key or identity.
    /// Nobody is never enough, whatever a policy says (THREATS T7).
    fn holds(&self, subject: &Subject) -> bool {
        self.count(subject) >= self.at_least.max(1)
    }

    /// How many of the named signers can be told apart in the facts: the largest pairing of
    /// rules with distinct signers. One key under two names pairs once, and one name whose
    /// glob fits two logins pairs once.
    fn count(&self, subject: &Subject) -> usize {
        let asked = subject.asked.as_deref();
        let fits: Vec<Vec<&Signer>> = self
            .of
            .iter()
            .map(|rule| {
                subject
                    .facts
                    .signatures()
                    .filter(|fact| rule.compare(fact, asked).is_ok())
                    .map(|fact| &fact.signer)
                    .collect()
            })
            .collect();
        let mut taken: Vec<(SignerKey<'_>, usize)> = Vec::new();
        (0..fits.len())
            .filter(|rule| pair(*rule, &fits, &mut taken, &mut BTreeSet::new()))
            .count()
    }

    fn shortfall(&self, subject: &Subject) -> Shortfall {
        let (reason, found) = self.found(subject);
        let unlogged = reason == Reason::UntrustedSigner
            && subject
                .facts
                .signatures()
                .filter_map(|fact| self.nearest(fact, subject))
                .any(|(miss, _)| miss == Miss::NotLogged);
        let remedy = if unlogged {
            "sign anew with a transparency log, or say `transparency_log: not_required` for this \
             key"
        } else {
            self.remedy(reason)
        };
        Shortfall {
            reason,
            found,
            expected: self.expected(),
            remedy: remedy.to_owned(),
        }
    }

    fn expected(&self) -> String {
        let names = self
            .of
            .iter()
            .map(|rule| rule.describe())
            .collect::<Vec<_>>()
            .join("; ");
        match (self.at_least, self.of.len()) {
            (1, 1) => format!("a signature by {names}"),
            (1, _) => format!("a signature by one of: {names}"),
            (some, all) if some == all => format!("a signature by each of: {names}"),
            (some, all) => format!("signatures by {some} of these {all}: {names}"),
        }
    }

    fn found(&self, subject: &Subject) -> (Reason, String) {
        let facts = &*subject.facts;
        let count = self.count(subject);
        if count > 0 {
            let signers = distinct(facts.signatures());
            return (
                Reason::NotEnoughSigners,
                format!("{count} of {} signers: {signers}", self.at_least),
            );
        }
        let misses: Vec<(Miss, String)> = facts
            .signatures()
            .filter_map(|fact| self.nearest(fact, subject))
            .collect();
        if let Some((_, text)) = misses.iter().max_by(|one, two| one.0.cmp(&two.0)) {
            let more = match distinct_signers(facts.signatures()).len() {
                0 | 1 => String::new(),
                several => format!(" (the nearest of {several} signers)"),
            };
            return (Reason::UntrustedSigner, format!("{text}{more}"));
        }
        if facts.truncated {
            return (
                Reason::OverLimit,
                "more evidence than the limits let be read".to_owned(),
            );
        }
        if let Some(first) = facts.rejected.first() {
            let others = match facts.rejected.len() {
                1 => String::new(),
                several => format!(" (and {} more)", several - 1),
            };
            return (
                Reason::InvalidSignature,
                format!("evidence that does not verify: {}{others}", first.why),
            );
        }
        let attestation = facts.proven.iter().find_map(|fact| match &fact.kind {
            Kind::Attestation { predicate_type, .. } => Some((predicate_type, &fact.signer)),
            Kind::Signature => None,
        });
        match attestation {
            Some((predicate_type, signer)) => (
                Reason::Unsigned,
                format!("no signature, only an attestation ({predicate_type}) by {signer}"),
            ),
            None => (Reason::Unsigned, "no signature".to_owned()),
        }
    }

    /// The rule that the fact comes nearest to, in words.
    fn nearest(&self, fact: &Fact, subject: &Subject) -> Option<(Miss, String)> {
        let asked = subject.asked.as_deref();
        let (miss, rule) = self
            .of
            .iter()
            .filter_map(|rule| Some((rule.compare(fact, asked).err()?, rule)))
            .max_by(|one, two| one.0.cmp(&two.0))?;
        let text = describe_miss(&miss, fact, rule);
        Some((miss, text))
    }

    fn remedy(&self, reason: Reason) -> &'static str {
        match reason {
            Reason::Unsigned => {
                "sign the image (cosign sign IMAGE@DIGEST) as one of the expected signers; it is \
                 admitted within seconds"
            }
            Reason::InvalidSignature => {
                "sign the image anew, or check that the policy's trust root and keys are those it \
                 was signed under"
            }
            Reason::OverLimit => {
                "remove stale signatures and attestations of this digest from the registry, or \
                 raise limits.evidence_artifacts_max"
            }
            Reason::NotEnoughSigners => "have the missing signers sign this digest",
            _ => {
                "have an expected signer sign this digest, or name this signer in the policy if it \
                 is one of yours"
            }
        }
    }
}

/// How many signers a message names.
const SIGNERS_TOLD: usize = 5;

type SignerKey<'a> = &'a Signer;

/// One step of the augmenting-path method for pairing rules with signers.
fn pair<'a>(
    rule: usize,
    fits: &[Vec<&'a Signer>],
    taken: &mut Vec<(SignerKey<'a>, usize)>,
    visited: &mut BTreeSet<usize>,
) -> bool {
    if !visited.insert(rule) {
        return false;
    }
    for signer in &fits[rule] {
        let holder = taken
            .iter()
            .position(|(other, _)| same_signer(other, signer));
        match holder {
            None => {
                taken.push((signer, rule));
                return true;
            }
            Some(position) => {
                let holder = taken[position].1;
                if holder != rule && pair(holder, fits, taken, visited) {
                    // The holder has moved to another signer of its own; this one is ours.
                    if let Some(entry) = taken
                        .iter_mut()
                        .find(|(other, by)| same_signer(other, signer) && *by == holder)
                    {
                        entry.1 = rule;
                    }
                    return true;
                }
            }
        }
    }
    false
}

/// The same key, or the same issuer and subject: two runs of one workflow are one signer.
fn same_signer(one: &Signer, two: &Signer) -> bool {
    match (one, two) {
        (Signer::Identity(one), Signer::Identity(two)) => {
            one.issuer == two.issuer && one.subject == two.subject
        }
        // The same key, whatever of it is known.
        (
            Signer::Gpg {
                fingerprint: one, ..
            },
            Signer::Gpg {
                fingerprint: two, ..
            },
        ) => one == two,
        _ => one == two,
    }
}

fn distinct_signers<'a>(facts: impl Iterator<Item = &'a Fact>) -> BTreeSet<String> {
    facts.map(|fact| fact.signer.to_string()).collect()
}

/// The signers in words: so many that a message stays readable.
fn distinct<'a>(facts: impl Iterator<Item = &'a Fact>) -> String {
    let signers = distinct_signers(facts);
    let mut text = signers
        .iter()
        .take(SIGNERS_TOLD)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    if signers.len() > SIGNERS_TOLD {
        text.push_str(&format!("; and {} more", signers.len() - SIGNERS_TOLD));
    }
    text
}

fn describe_miss(miss: &Miss, fact: &Fact, rule: &SignerRule) -> String {
    let signer = &fact.signer;
    let name = &rule.name;
    match miss {
        Miss::Stranger | Miss::Identity => format!("signed by {signer}"),
        Miss::NotLogged => {
            format!(
                "signed by {signer}, but without a proven entry in the log that {name} requires"
            )
        }
        Miss::Issuer => {
            format!("signed by {signer}: the identity fits {name}, the issuer does not")
        }
        Miss::Root => format!(
            "signed by {signer}: it fits {name}, but was proven under the trust root {}",
            fact.root.as_ref().map_or("(none)", |root| root.as_str()),
        ),
        Miss::Claim(claim, found) => format!(
            "signed by {signer}: it fits {name} but for the claim {claim}, which is {}",
            found.as_deref().unwrap_or("absent"),
        ),
        Miss::Image(Some(image)) => {
            format!("signed by {signer}: it fits {name}, but was made for {image}")
        }
        Miss::Image(None) => format!(
            "signed by {signer}: it fits {name}, but does not say for which image it was made",
        ),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
