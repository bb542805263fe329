//! What is in force: policies and the material of proofs, taken as one. A request loads it
//! once, so that none sees half of a policy.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::content::Served;
use crate::gate::callers::Askers;
use crate::gate::rollback::Latest;
use crate::policy::DefaultRule;
use crate::policy::Index;
use crate::policy::Judgement;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Rules;
use crate::verify::Material;
use crate::verify::MissingRoot;

/// Policies, trust material, and the numbers by which caches know them.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) rules: Rules,
    /// The policies by their patterns.
    pub(super) index: Index,
    /// Whether a policy asks who pulls.
    pub(super) asks_who_pulls: bool,
    pub(super) askers: Askers,
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
            index: Index::new(&rules),
            askers: Askers::default(),
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
            index: Index::new(&rules),
            askers: Askers::default(),
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

    /// The same policies over other trust material; `None` where proofs rest on the same.
    pub(super) fn with_material(&self, material: Material) -> Option<Self> {
        (!self.material.same_as(&material)).then(|| self.next(self.rules.clone(), material))
    }

    /// Why it cannot be told whether these policies hold, where all that refuse rest on trust
    /// roots that are not there. A policy that refuses without them refuses.
    pub(super) fn missing_root(
        &self,
        policies: &[Arc<Policy>],
        judgement: &Judgement,
    ) -> Option<&MissingRoot> {
        let missing = &self.material.missing;
        if missing.is_empty() {
            return None;
        }
        let refuses = |policy: &Policy| {
            let mut outcomes = judgement.policies.iter();
            outcomes.any(|outcome| {
                outcome.policy == policy.name
                    && outcome.mode == Mode::Enforce
                    && outcome.shortfall.is_some()
            })
        };
        let lacks = |policy: &Policy| {
            let mut named = policy.roots();
            named.find_map(|name| missing.iter().find(|root| root.name == *name))
        };
        let refusing: Vec<&Arc<Policy>> = policies.iter().filter(|one| refuses(one)).collect();
        let lacking = refusing.iter().map(|policy| lacks(policy));
        // One that lacks nothing makes it a plain no.
        lacking.collect::<Option<Vec<_>>>()?.into_iter().next()
    }

    pub(super) fn allows_by_default(&self) -> bool {
        self.rules.default == DefaultRule::UnsafeAllow
    }
}

/// How long what was derived under a ruling may be repeated.
#[derive(Debug, Clone)]
pub(super) struct Validity {
    /// The ruling it was derived under.
    pub(super) generation: u64,
    /// When what it rests on is too old.
    pub(super) until: Instant,
    /// When an exemption that it rests on ends. By the clock on the wall, since that is what
    /// policy names: monotonic time stands still while a machine sleeps (THREATS C2).
    pub(super) ends_at: Option<Timestamp>,
    /// What its tag may not have moved on from.
    pub(super) latest: Arc<[Latest]>,
}

impl Validity {
    /// Of what rests on nothing that ends by itself.
    pub(super) fn until(ruling: &Ruling, until: Instant) -> Self {
        Self {
            generation: ruling.generation,
            until,
            ends_at: None,
            latest: Arc::default(),
        }
    }

    pub(super) fn holds(
        &self,
        ruling: &Ruling,
        now: Instant,
        clock: &Clock,
        served: &Served,
    ) -> bool {
        self.generation == ruling.generation
            && now < self.until
            && self.ends_at.is_none_or(|ends_at| clock.now() < ends_at)
            && self.latest.iter().all(|latest| latest.stands(served))
    }
}
