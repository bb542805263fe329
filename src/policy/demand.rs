//! What has to be proven: signatures and attestations, each about the digest that is judged or
//! about one that vouches for it.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use crate::policy::Attested;
use crate::policy::Demand;
use crate::policy::Question;
use crate::policy::Reason;
use crate::policy::Shape;
use crate::policy::Shortfall;
use crate::policy::SignedBy;
use crate::policy::Signs;
use crate::policy::Subject;
use crate::policy::condition::Scope;
use crate::policy::signed_by::Ballot;
use crate::policy::signed_by::remedy;
use crate::policy::signed_by::unread;
use crate::policy::signer::Pull;
use crate::verify::Fact;
use crate::verify::Facts;
use crate::verify::Kind;

/// What is missing where none of the demands is met.
pub(super) fn shortfall(
    demands: &[Demand],
    signs: Signs,
    subject: &Subject,
    question: &Question<'_>,
) -> Option<Shortfall> {
    let mut shortfalls = Vec::new();
    for demand in demands {
        shortfalls.push(demand.shortfall(signs, subject, question)?);
    }
    let mut expected: Vec<String> = Vec::new();
    for shortfall in &shortfalls {
        if !expected.contains(&shortfall.expected) {
            expected.push(shortfall.expected.clone());
        }
    }
    let nearest = shortfalls
        .into_iter()
        .max_by_key(|shortfall| nearness(shortfall.reason));
    let nothing = || Shortfall {
        reason: Reason::DeniedByPolicy,
        found: "an image".to_owned(),
        expected: String::new(),
        remedy: "name in the policy who may sign".to_owned(),
    };
    Some(Shortfall {
        expected: match expected.is_empty() {
            true => "what nobody can have: the policy names nobody".to_owned(),
            false => expected.join("; or "),
        },
        ..nearest.unwrap_or_else(nothing)
    })
}

/// How near a reason is to being admitted.
fn nearness(reason: Reason) -> u8 {
    match reason {
        Reason::ConditionFailed => 6,
        Reason::NotEnoughSigners => 5,
        Reason::MissingAttestation => 4,
        Reason::UntrustedSigner => 3,
        Reason::InvalidSignature => 2,
        Reason::OverLimit => 1,
        _ => 0,
    }
}

impl Demand {
    /// True when a condition has to be evaluated.
    pub(super) fn has_condition(&self) -> bool {
        self.attested
            .iter()
            .any(|attested| attested.condition.is_some())
    }

    /// The next moment at which the same facts may meet it otherwise.
    pub(super) fn changes_after(&self, subject: &Subject, now: Timestamp) -> Option<Timestamp> {
        let asks_the_time = self
            .attested
            .iter()
            .filter_map(|attested| attested.condition.as_ref())
            .any(|condition| condition.asks_the_time());
        // In conditions, `now` is a whole second, and so holds to its end.
        let next_second = asks_the_time
            .then(|| Timestamp::from_second(now.as_second()).ok())
            .flatten()
            .and_then(|second| second.checked_add(SignedDuration::from_secs(1)).ok());
        let windows = self
            .signers()
            .filter_map(|signer| signer.changes_after(now));
        let mut moments: Vec<Timestamp> = next_second.into_iter().chain(windows).collect();
        if !self.timing.is_empty() {
            self.collect_changes(subject, now, &mut moments);
        }
        moments.into_iter().min()
    }

    fn collect_changes(&self, subject: &Subject, now: Timestamp, moments: &mut Vec<Timestamp>) {
        let times = subject
            .facts
            .proven
            .iter()
            .filter_map(|fact| fact.signed_at);
        moments.extend(times.filter_map(|at| self.timing.changes_after(at, now)));
        let around = subject
            .parents
            .iter()
            .chain(subject.children.iter().flatten());
        for subject in around {
            self.collect_changes(subject, now, moments);
        }
    }

    pub(super) fn shortfall(
        &self,
        signs: Signs,
        subject: &Subject,
        question: &Question<'_>,
    ) -> Option<Shortfall> {
        if let Some(signed_by) = &self.signed_by {
            let own = |subject: &Subject| signed_by.holds(&self.signatures(subject, question));
            if !signs.vouched(subject, &own) {
                return Some(self.unsigned(signed_by, signs, subject, question));
            }
        }
        // What an attestation covers is its own affair: provenance is about the index, the list
        // of packages about one platform. `signs` is about signatures.
        let covers = match signs {
            Signs::Asked => Signs::Asked,
            _ => Signs::Either,
        };
        self.attested.iter().find_map(|attested| {
            let own = |subject: &Subject| {
                let ballot = self.attestations(attested, subject, question, true);
                attested.by.holds(&ballot)
            };
            let vouched = covers.vouched(subject, &own);
            (!vouched).then(|| self.unattested(attested, subject, question))
        })
    }

    /// Whether the fact comes from where this demand looks, and in a format that counts.
    fn sees(&self, fact: &Fact) -> bool {
        fact.found_in == self.source
            && self
                .format
                .is_none_or(|carrier| carrier.carries(fact.format))
    }

    /// The facts that it sees, for what is told of them.
    fn seen<'a>(&self, facts: &'a Facts) -> Cow<'a, Facts> {
        let elsewhere = |fact: &Fact| fact.found_in != self.source;
        if !facts.proven.iter().any(elsewhere) {
            return Cow::Borrowed(facts);
        }
        let mut facts = facts.clone();
        facts.proven.retain(|fact| !elsewhere(fact));
        Cow::Owned(facts)
    }

    /// What is asked for beside the signers, in words.
    fn circumstances(&self) -> String {
        match &self.source {
            Some(source) => format!("{}, kept in {source}", self.timing),
            None => self.timing.to_string(),
        }
    }

    fn signatures<'a>(&self, subject: &'a Subject, question: &Question<'_>) -> Ballot<'a> {
        Ballot {
            facts: subject
                .facts
                .signatures()
                .filter(|fact| self.sees(fact))
                .collect(),
            timing: self.timing,
            pull: pull(subject, question),
        }
    }

    /// The attestations of the type that is asked for. A condition is only asked of those by a
    /// signer who counts: anybody can attach a large one.
    fn attestations<'a>(
        &self,
        attested: &Attested,
        subject: &'a Subject,
        question: &Question<'_>,
        with_condition: bool,
    ) -> Ballot<'a> {
        let pull = pull(subject, question);
        let of_the_type = subject.facts.proven.iter().filter(|fact| {
            self.sees(fact)
                && matches!(&fact.kind, Kind::Attestation { predicate_type, .. }
                if *predicate_type == attested.predicate_type)
        });
        let facts: Vec<&Fact> = of_the_type.collect();
        let counts = |fact: &&Fact| {
            attested.by.names(fact, pull) && attested.unmet(fact, subject, question).is_none()
        };
        let facts = match (with_condition, attested.every) {
            (false, _) => facts,
            (true, false) => facts.into_iter().filter(counts).collect(),
            // What was left unread could be the one that says otherwise.
            (true, true) if subject.facts.truncated => Vec::new(),
            (true, true) => {
                let (met, unmet): (Vec<&Fact>, Vec<&Fact>) = facts
                    .into_iter()
                    .filter(|fact| attested.by.names(fact, pull))
                    .partition(counts);
                let spoilt = |fact: &&Fact| attested.by.shares_a_rule(fact, &unmet, pull);
                met.into_iter().filter(|fact| !spoilt(fact)).collect()
            }
        };
        Ballot {
            facts,
            timing: self.timing,
            pull,
        }
    }

    fn unsigned(
        &self,
        signed_by: &SignedBy,
        signs: Signs,
        subject: &Subject,
        question: &Question<'_>,
    ) -> Shortfall {
        let any = |subject: &Subject| subject.facts.signatures().any(|fact| self.sees(fact));
        let told = telling(subject, &any);
        let facts = self.seen(&told.facts);
        let ballot = self.signatures(told, question);
        let mut shortfall = signed_by.shortfall(&ballot, &facts);
        shortfall.expected.push_str(&self.circumstances());
        // It is signed, and that is not what counts.
        let beside = match (signs, subject.shape) {
            (Signs::Index, Shape::Image) => Some((
                "a platform's manifest with a signature of its own, reached through no signed index",
                "sign the index (cosign sign INDEX_DIGEST) and pull by its tag",
            )),
            (Signs::Instance, Shape::Index) => Some((
                "an index with a signature of its own, whose platforms' manifests do not all have \
                 one",
                "sign them as well (cosign sign --recursive INDEX_DIGEST)",
            )),
            (Signs::Instance, Shape::Image) => Some((
                "an index with a signature, which lists this manifest, and none of its own",
                "sign it as well (cosign sign --recursive INDEX_DIGEST)",
            )),
            _ => None,
        };
        if let Some((found, remedy)) = beside.filter(|_| signed_by.holds(&ballot)) {
            shortfall.reason = Reason::Unsigned;
            shortfall.found = found.to_owned();
            shortfall.remedy = remedy.to_owned();
        }
        shortfall.expected.push_str(match (signs, subject.shape) {
            (Signs::Index, _) => ", on the index (signs: index)",
            (Signs::Instance, Shape::Index) => {
                ", on every platform's manifest that the index lists (signs: instance)"
            }
            (Signs::Instance, Shape::Image) => ", on this manifest itself (signs: instance)",
            (Signs::Asked | Signs::Either, _) => "",
        });
        shortfall
    }

    fn unattested(
        &self,
        attested: &Attested,
        subject: &Subject,
        question: &Question<'_>,
    ) -> Shortfall {
        const ATTACH: &str = "attach the attestation (cosign attest), or have an expected signer \
                              attest; it is admitted within seconds";
        let any = |subject: &Subject| {
            let ballot = self.attestations(attested, subject, question, false);
            !ballot.facts.is_empty()
        };
        let subject = telling(subject, &any);
        let all = self.attestations(attested, subject, question, false);
        let named = all.facts.iter();
        let named = named.filter(|fact| attested.by.names(fact, all.pull));
        let mut unmet = named.filter_map(|fact| attested.unmet(fact, subject, question));
        let (reason, found, remedy) = if attested.every
            && subject.facts.truncated
            && let Some((reason, found)) = unread(&subject.facts)
        {
            (reason, found, remedy(reason))
        } else if attested.by.holds(&all)
            && let Some(unmet) = unmet.next_back()
        {
            let remedy = "correct what the attestation says at its source, or the policy's `where`";
            (Reason::ConditionFailed, unmet, remedy)
        } else if let Some((reason, found, remedy)) = attested.by.near(&all) {
            let found = match reason {
                Reason::NotEnoughSigners => format!("attestations by {found}"),
                _ => format!("an attestation {found}"),
            };
            (reason, found, remedy.unwrap_or(ATTACH))
        } else {
            let found = attested.instead(&self.seen(&subject.facts));
            (Reason::MissingAttestation, found, ATTACH)
        };
        Shortfall {
            reason,
            found,
            expected: format!("{}{}", attested.expected(), self.circumstances()),
            remedy: remedy.to_owned(),
        }
    }
}

fn pull<'a>(subject: &'a Subject, question: &Question<'_>) -> Pull<'a> {
    Pull {
        asked: subject.asked.as_deref(),
        now: question.now,
    }
}

/// What a refusal speaks of: the subject, or the index that lists it where only that one has
/// something to tell.
fn telling<'a>(subject: &'a Subject, has: &dyn Fn(&Subject) -> bool) -> &'a Subject {
    let parent = || subject.parents.iter().map(|parent| telling(parent, has));
    match has(subject) {
        true => subject,
        false => parent().find(|parent| has(parent)).unwrap_or(subject),
    }
}

impl Attested {
    /// Why the condition does not hold for this attestation; `None` when it does, or there is
    /// none.
    fn unmet(&self, fact: &Fact, subject: &Subject, question: &Question<'_>) -> Option<String> {
        let condition = self.condition.as_ref()?;
        let unmet = match statement(fact) {
            Some((about, predicate)) => {
                let scope = Scope {
                    subject: about,
                    predicate,
                    signer: &fact.signer,
                    image: question.image,
                    digest: &subject.digest,
                    now: question.now,
                };
                condition.holds(&scope).err()?
            }
            None => "what it says was not kept".to_owned(),
        };
        Some(format!(
            "an attestation ({}) by {} for which the condition does not hold: {unmet}",
            self.predicate_type, fact.signer
        ))
    }

    fn expected(&self) -> String {
        let type_name = &self.predicate_type;
        let one = format!("an attestation of type {type_name}");
        let several = format!("attestations of type {type_name}");
        let mut expected = self.by.expected(&one, &several);
        if let Some(condition) = &self.condition {
            expected.push_str(match self.every {
                true => ", and all that they attested so with ",
                false => ", with ",
            });
            expected.push_str(condition.as_str());
        }
        expected
    }

    /// What there is instead of an attestation of the type.
    fn instead(&self, facts: &Facts) -> String {
        let mut types: Vec<&str> = facts
            .proven
            .iter()
            .filter_map(|fact| match &fact.kind {
                Kind::Attestation { predicate_type, .. } => Some(predicate_type.as_str()),
                Kind::Signature => None,
            })
            .collect();
        types.sort_unstable();
        types.dedup();
        types.truncate(5);
        match (types.is_empty(), unread(facts)) {
            (false, _) => format!("only attestations of other types: {}", types.join(", ")),
            (true, Some((_, unread))) => format!("no attestation, but {unread}"),
            (true, None) => "no attestation".to_owned(),
        }
    }
}

/// What an attestation is about and what it says, in JSON.
fn statement(fact: &Fact) -> Option<(&str, &str)> {
    match &fact.kind {
        Kind::Attestation { statement, .. } => {
            let statement = statement.as_ref()?;
            Some((statement.subject.get(), statement.predicate.get()))
        }
        Kind::Signature => None,
    }
}
