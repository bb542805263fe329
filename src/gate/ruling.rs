//! What is in force: policies and the material of proofs, taken as one. A request loads it
//! once, so that none sees half of a policy.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::policy::DefaultRule;
use crate::policy::Rules;
use crate::verify::Material;

/// Policies, trust material, and the numbers by which caches know them.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) rules: Rules,
    /// Whether a policy asks who pulls.
    pub(super) asks_who_pulls: bool,
    pub(super) material: Arc<Material>,
    /// Counts every change. What was derived under another number is derived anew.
    pub(super) generation: u64,
    /// Counts changes of the trust material. Facts belong to one number.
    pub(super) trust_epoch: u64,
}

impl Ruling {
    pub(super) fn first(rules: Rules, material: Material) -> Self {
        Self {
            asks_who_pulls: rules.ask_who_pulls(),
            rules,
            material: Arc::new(material),
            generation: 1,
            trust_epoch: 1,
        }
    }

    /// What follows this one. Facts stay where they rest on the same keys and trust roots.
    pub(super) fn next(&self, rules: Rules, material: Material) -> Self {
        let same = self.material.same_as(&material);
        Self {
            asks_who_pulls: rules.ask_who_pulls(),
            rules,
            material: Arc::new(material),
            generation: self.generation + 1,
            trust_epoch: if same {
                self.trust_epoch
            } else {
                self.trust_epoch + 1
            },
        }
    }

    pub(super) fn allows_by_default(&self) -> bool {
        self.rules.default == DefaultRule::UnsafeAllow
    }
}

/// How long what was derived under a ruling may be repeated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    /// The ruling it was derived under.
    pub(super) generation: u64,
    /// When what it rests on is too old.
    pub(super) until: Instant,
    /// When an exemption that it rests on ends. By the clock on the wall, since that is what
    /// policy names: monotonic time stands still while a machine sleeps (THREATS C2).
    pub(super) ends_at: Option<Timestamp>,
}

impl Validity {
    pub(super) fn holds(&self, ruling: &Ruling, clock: &Clock) -> bool {
        self.generation == ruling.generation
            && Instant::now() < self.until
            && self.ends_at.is_none_or(|ends_at| clock.now() < ends_at)
    }
}
