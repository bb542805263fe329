//! Whether enough of the named signers signed, and how near it came otherwise.

use std::collections::BTreeSet;

use crate::policy::Reason;
use crate::policy::Shortfall;
use crate::policy::SignedBy;
use crate::policy::SignerRule;
use crate::policy::Timing;
use crate::policy::signer::Miss;
use crate::policy::signer::Pull;
use crate::verify::Fact;
use crate::verify::Facts;
use crate::verify::Kind;
use crate::verify::Signer;

/// The facts that are to be counted, and when they have to have been made.
pub(super) struct Ballot<'a> {
    /// Those of the right kind.
    pub(super) facts: Vec<&'a Fact>,
    /// When they have to have been made.
    pub(super) timing: Timing,
    /// What is asked for, and when.
    pub(super) pull: Pull<'a>,
}

impl<'a> Ballot<'a> {
    fn timely(&self) -> Vec<&'a Fact> {
        let timely = |fact: &&&Fact| self.timing.miss_of(fact, self.pull.now).is_none();
        self.facts.iter().filter(timely).copied().collect()
    }
}

impl SignedBy {
    /// Whether so many of the named signers signed, each of them another key or identity.
    /// Nobody is never enough, whatever a policy says (THREATS T7).
    pub(super) fn holds(&self, ballot: &Ballot<'_>) -> bool {
        self.count(&ballot.timely(), ballot.pull) >= self.at_least.max(1)
    }

    /// Whether the fact is by one of the named signers, for what is asked for.
    pub(super) fn names(&self, fact: &Fact, pull: Pull<'_>) -> bool {
        self.of.iter().any(|rule| rule.compare(fact, pull).is_ok())
    }

    /// Whether a rule that names the fact names one of the others as well.
    pub(super) fn shares_a_rule(&self, fact: &Fact, others: &[&Fact], pull: Pull<'_>) -> bool {
        let named = |rule: &SignerRule, fact: &Fact| rule.compare(fact, pull).is_ok();
        self.of
            .iter()
            .any(|rule| named(rule, fact) && others.iter().any(|other| named(rule, other)))
    }

    /// How many of the named signers can be told apart in the facts: the largest pairing of
    /// rules with distinct signers. One key under two names pairs once, and one name whose
    /// glob fits two logins pairs once.
    fn count(&self, facts: &[&Fact], pull: Pull<'_>) -> usize {
        let fits = |fact: &&&Fact| self.names(fact, pull);
        let fitting: Vec<&Fact> = facts.iter().filter(fits).copied().collect();
        let people = people(&fitting);
        let fits: Vec<Vec<usize>> = self
            .of
            .iter()
            .map(|rule| {
                let by = fitting.iter().zip(&people);
                by.filter(|(fact, _)| rule.compare(fact, pull).is_ok())
                    .map(|(_, person)| *person)
                    .collect()
            })
            .collect();
        let mut taken: Vec<(usize, usize)> = Vec::new();
        (0..fits.len())
            .filter(|rule| pair(*rule, &fits, &mut taken, &mut BTreeSet::new()))
            .count()
    }

    /// What a policy that asks for signatures says where these are not enough. `facts` is all
    /// that is known, for what is found instead.
    pub(super) fn shortfall(&self, ballot: &Ballot<'_>, facts: &Facts) -> Shortfall {
        let near = self.near(ballot);
        let (reason, found) = match near {
            Some((reason, ref found, _)) => (reason, found.clone()),
            None => nothing(facts),
        };
        let remedy = near
            .and_then(|(_, _, remedy)| remedy)
            .unwrap_or_else(|| remedy(reason));
        Shortfall {
            reason,
            found,
            expected: self.expected("a signature", "signatures"),
            remedy: remedy.to_owned(),
        }
    }

    /// Whom is asked for, in words.
    pub(super) fn expected(&self, one: &str, several: &str) -> String {
        let names = self
            .of
            .iter()
            .map(|rule| rule.describe())
            .collect::<Vec<_>>()
            .join("; ");
        match (self.at_least, self.of.len()) {
            (1, 1) => format!("{one} by {names}"),
            (1, _) => format!("{one} by one of: {names}"),
            (some, all) if some == all => format!("{one} by each of: {names}"),
            (some, all) => format!("{several} by {some} of these {all}: {names}"),
        }
    }

    /// What comes nearest among the facts of the right kind, with what to do where that is not
    /// what one does for the reason; `None` when there are none.
    pub(super) fn near(
        &self,
        ballot: &Ballot<'_>,
    ) -> Option<(Reason, String, Option<&'static str>)> {
        let timely = ballot.timely();
        let count = self.count(&timely, ballot.pull);
        if count > 0 {
            let signers = distinct(&timely);
            let missing = self.missing(&timely, ballot.pull);
            let found = format!("{count} of {} signers: {signers}{missing}", self.at_least);
            return Some((Reason::NotEnoughSigners, found, None));
        }
        let named = |fact: &&&Fact| self.names(fact, ballot.pull);
        let untimely = ballot.facts.iter().filter(named);
        let mut untimely = untimely.filter_map(|fact| {
            let miss = ballot.timing.miss_of(fact, ballot.pull.now)?;
            let found = format!("signed by {}, {}", fact.signer, miss.why);
            Some((found, miss.remedy))
        });
        if let Some((found, remedy)) = untimely.next_back() {
            return Some((Reason::UntrustedSigner, found, Some(remedy)));
        }
        let nearest = |fact: &&Fact| self.nearest(fact, ballot.pull);
        let misses = ballot.facts.iter().filter_map(nearest);
        let (miss, text) = misses.max_by(|one, two| one.0.cmp(&two.0))?;
        let more = match distinct_signers(&ballot.facts).len() {
            0 | 1 => String::new(),
            several => format!(" (the nearest of {several} signers)"),
        };
        let remedy = (miss == Miss::NotLogged).then_some(
            "sign anew with a transparency log, or say `transparency_log: not_required` for this \
             key",
        );
        Some((Reason::UntrustedSigner, format!("{text}{more}"), remedy))
    }

    /// Who of those all of whom have to have signed has not, in words.
    fn missing(&self, facts: &[&Fact], pull: Pull<'_>) -> String {
        let signed = |rule: &SignerRule| facts.iter().any(|fact| rule.compare(fact, pull).is_ok());
        let missing = self.of.iter().filter(|rule| !signed(rule));
        let names: Vec<&str> = missing.map(|rule| &*rule.name).take(SIGNERS_TOLD).collect();
        match self.at_least == self.of.len() && !names.is_empty() {
            true => format!("; missing: {}", names.join(", ")),
            false => String::new(),
        }
    }

    /// The rule that the fact comes nearest to, in words.
    fn nearest(&self, fact: &Fact, pull: Pull<'_>) -> Option<(Miss, String)> {
        let (miss, rule) = self
            .of
            .iter()
            .filter_map(|rule| Some((rule.compare(fact, pull).err()?, rule)))
            .max_by(|one, two| one.0.cmp(&two.0))?;
        let text = describe_miss(&miss, fact, rule);
        Some((miss, text))
    }
}

/// What there is instead of a signature.
fn nothing(facts: &Facts) -> (Reason, String) {
    if let Some(unread) = unread(facts) {
        return unread;
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

/// Evidence that there is, and that says nothing: because nobody read it, or because it does
/// not verify.
pub(super) fn unread(facts: &Facts) -> Option<(Reason, String)> {
    if facts.truncated {
        return Some((
            Reason::OverLimit,
            "more evidence than the limits let be read".to_owned(),
        ));
    }
    let first = facts.rejected.first()?;
    let others = match facts.rejected.len() {
        1 => String::new(),
        several => format!(" (and {} more)", several - 1),
    };
    Some((
        Reason::InvalidSignature,
        format!("evidence that does not verify: {}{others}", first.why),
    ))
}

pub(super) fn remedy(reason: Reason) -> &'static str {
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

/// How many signers a message names.
const SIGNERS_TOLD: usize = 5;

/// Whose each fact is, in numbers. Who is the same as two others makes one of all three: a
/// certificate with two names ties those together that have one of them each.
fn people(facts: &[&Fact]) -> Vec<usize> {
    let mut people: Vec<usize> = Vec::new();
    for (at, fact) in facts.iter().enumerate() {
        let earlier = facts.iter().zip(&people);
        let same: BTreeSet<usize> = earlier
            .filter(|(earlier, _)| same_signer(&earlier.signer, &fact.signer))
            .map(|(_, person)| *person)
            .collect();
        let person = same.first().copied().unwrap_or(at);
        for known in people.iter_mut().filter(|known| same.contains(known)) {
            *known = person;
        }
        people.push(person);
    }
    people
}

/// One step of the augmenting-path method for pairing rules with people.
fn pair(
    rule: usize,
    fits: &[Vec<usize>],
    taken: &mut Vec<(usize, usize)>,
    visited: &mut BTreeSet<usize>,
) -> bool {
    if !visited.insert(rule) {
        return false;
    }
    for person in &fits[rule] {
        match taken.iter().position(|(other, _)| other == person) {
            None => {
                taken.push((*person, rule));
                return true;
            }
            Some(position) => {
                let holder = taken[position].1;
                if holder != rule && pair(holder, fits, taken, visited) {
                    // The holder has moved to another person of its own; this one is ours.
                    taken[position].1 = rule;
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
        // One name or one key is enough, whoever certified it.
        (Signer::Certified(one), Signer::Certified(two)) => {
            !one.names.is_disjoint(&two.names) || (one.key.is_some() && one.key == two.key)
        }
        (Signer::Certified(one), Signer::Key { fingerprint })
        | (Signer::Key { fingerprint }, Signer::Certified(one)) => one.key == Some(*fingerprint),
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

fn distinct_signers(facts: &[&Fact]) -> BTreeSet<String> {
    facts.iter().map(|fact| fact.signer.to_string()).collect()
}

/// The signers in words: so many that a message stays readable.
fn distinct(facts: &[&Fact]) -> String {
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
        Miss::Stranger => format!("signed by {signer}"),
        Miss::Identity(part) => match part.as_str() {
            Some(part) => format!("signed by {signer}, which differs from {name} in {part}"),
            None => format!("signed by {signer}"),
        },
        Miss::NotLogged => {
            format!(
                "signed by {signer}, but without a proven entry in the log that {name} requires"
            )
        }
        Miss::Window(Some(at)) => {
            format!("signed by {signer} at {at}, when it was not one of the keys of {name}")
        }
        Miss::Window(None) => format!(
            "signed by {signer}, which is not one of the keys of {name} now, and no time of \
             signing is proven"
        ),
        Miss::Issuer => {
            format!("signed by {signer}: the identity fits {name}, the issuer does not")
        }
        Miss::Root => format!(
            "signed by {signer}: it fits {name}, but was proven under the trust root {}",
            fact.root.as_ref().map_or("(none)", |root| root.as_str()),
        ),
        Miss::Missing(what) => {
            format!("signed by {signer}: it fits {name}, but there is {what}")
        }
        Miss::Hash(hash) => format!(
            "signed by {signer}: it fits {name}, but hashes with {}",
            hash.as_str()
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
