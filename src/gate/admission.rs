//! Admissions: the values by which a manifest may leave, and what is recorded of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::audit::Decided;
use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::callers::{Misgiven, Misgivings};
use crate::gate::hints::Named;
use crate::gate::refusal::describe;
use crate::gate::ruling::Validity;
use crate::metrics::DecisionCounter;
use crate::oci::Digest;
use crate::policy::Judgement;
use crate::policy::Reason;
use crate::verify::Facts;

/// A manifest that may leave: the only key to its bytes. It can only be had from
/// [`Gate::manifest`](crate::gate::Gate::manifest).
#[derive(Debug, Clone)]
pub struct Admitted {
    pub(super) admission: Arc<Admission>,
    pub(super) first: bool,
    pub(super) misgivings: Option<Box<Misgivings>>,
}

/// An admission as it is kept: everything that an answer needs and that does not change
/// between two pulls.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) document: Arc<Document>,
    pub(super) decision: Arc<Decision>,
    pub(super) facts: Arc<Facts>,
    pub(super) validity: Validity,
    pub(super) stale: bool,
    /// Who says that the tag, where it was asked for by one, names the manifest.
    pub(super) named: Named,
    pub(super) counter: DecisionCounter,
    /// The turn of the hints at which they were told of it.
    pub(super) noted_at: AtomicU64,
    /// Whether another was held in its place.
    pub(super) superseded: AtomicBool,
}

/// What is recorded of an admission. The record outlives the admission, so it holds neither
/// the manifest nor the facts.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) ask: Ask,
    pub(super) digest: Digest,
    pub(super) grounds: Grounds,
    pub(super) warnings: Vec<String>,
}

/// Why a manifest may leave.
#[derive(Debug, Clone, PartialEq)]
pub enum Grounds {
    /// Every matching policy passed.
    Judged(Judgement),
    /// It proves itself to be evidence, which has to pass for others to verify.
    Evidence,
    /// No policy matches, and the default is `unsafe_allow`.
    Unjudged,
}

impl Admitted {
    /// The bytes that were hashed and judged.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.admission.document
    }

    /// Why it may leave.
    #[must_use]
    pub fn grounds(&self) -> &Grounds {
        &self.admission.decision.grounds
    }

    /// What is proven about it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.admission.facts
    }

    /// What policies in `warn` mode have to say.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        let of_caller = self.misgivings.iter();
        let of_caller = of_caller.flat_map(|misgivings| &misgivings.warnings);
        self.admission.decision.warnings.iter().chain(of_caller)
    }

    /// True when its tag could not be resolved anew, or facts about it could not be gathered anew.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.admission.stale
    }

    /// True when it was judged for this very pull, and not for an earlier one.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Counts one pull of it.
    pub fn count(&self) {
        match &self.misgivings {
            None => self.admission.counter.inc(),
            Some(misgivings) => misgivings.counter.inc(),
        }
    }

    /// What is to be recorded of one pull of it.
    #[must_use]
    pub fn decided(&self) -> Arc<dyn Decided> {
        let decision = Arc::clone(&self.admission.decision);
        match &self.misgivings {
            None => decision,
            Some(misgivings) => Arc::new(Misgiven {
                decision,
                misgivings: Misgivings::clone(misgivings),
            }),
        }
    }
}

impl Admission {
    /// Another is held in its place from now on.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Whether what it lists may leave by it. Evidence vouches for nothing.
    pub(super) fn vouches(&self) -> bool {
        !matches!(self.decision.grounds, Grounds::Evidence)
    }

    /// About how many bytes it takes, with all that only this may hold by now, and its places in
    /// the cache's tables and lists.
    pub(super) fn weight(&self) -> u32 {
        const OWN_BYTES: usize = 1500;
        let bytes = self.document.memory_bytes() + self.facts.size_hint() + OWN_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl Decided for Decision {
    fn describe(&self) -> Value {
        let asked = Asked::Manifest(self.ask.image.clone(), self.ask.reference.clone());
        let (reason, judgement) = match &self.grounds {
            Grounds::Judged(judgement) => (judgement.reason.as_str(), Some(judgement)),
            Grounds::Evidence | Grounds::Unjudged => (Reason::Admitted.as_str(), None),
        };
        let digest = Some(&self.digest);
        let mut value = describe(&asked, digest, "admitted", reason, judgement);
        match &self.grounds {
            Grounds::Evidence => value["grounds"] = json!("evidence"),
            Grounds::Unjudged => value["grounds"] = json!("default: unsafe_allow"),
            Grounds::Judged(_) if !self.warnings.is_empty() => {
                value["warnings"] = json!(self.warnings);
            }
            Grounds::Judged(_) => {}
        }
        value
    }
}
