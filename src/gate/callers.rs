//! Who pulls: the first of the two checks. It needs no facts, so it is answered before anything
//! is asked of anybody, and a caller who is refused learns nothing, not even from how long the
//! answer takes. It is answered anew on every request, whatever is held of the image.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::{Value, json};

use crate::audit::Decided;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admission::Decision;
use crate::gate::rule::warning;
use crate::metrics::DecisionCounter;
use crate::oci::ImageName;
use crate::policy::Caller;
use crate::policy::Index;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::judge_caller;

/// How many images are held of those whose policies were looked for, each some hundred bytes.
const IMAGES_MAX: usize = 20_000;

/// The policies that ask who pulls, by image. They belong to one ruling and end with it, so none
/// outlives a change of policy.
#[derive(Debug, Default)]
pub(super) struct Askers(RwLock<HashMap<ImageName, Arc<[Arc<Policy>]>>>);

impl Askers {
    /// Those for this image: a look-up, since with many policies the patterns are too many to be
    /// tried on every pull.
    fn of(&self, index: &Index, image: &ImageName) -> Arc<[Arc<Policy>]> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(policies) = held.get(image) {
            return Arc::clone(policies);
        }
        drop(held);
        let mut policies = index.for_image(image);
        policies.retain(|policy| policy.pulled_by.is_some());
        let policies: Arc<[_]> = policies.into();
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= IMAGES_MAX {
            // So many names come from somebody who makes them up: what is asked for is soon
            // there again, and a table that starts over is better than one without end.
            held.clear();
        }
        held.insert(image.clone(), Arc::clone(&policies));
        policies
    }
}

/// What policies in `warn` mode say of a caller whom they would refuse.
#[derive(Debug, Clone)]
pub(super) struct Misgivings {
    pub(super) judgement: Arc<Judgement>,
    pub(super) warnings: Vec<String>,
    pub(super) counter: DecisionCounter,
}

impl Gate {
    /// Lets the caller ask for something of this image, or refuses. With what policies in
    /// `warn` mode have to say.
    pub(super) fn let_ask(
        &self,
        ruling: &Ruling,
        image: &ImageName,
        caller: &Caller,
        asked: impl FnOnce() -> Asked,
    ) -> Result<Option<Misgivings>, Refusal> {
        if !ruling.asks_who_pulls {
            return Ok(None);
        }
        let policies = ruling.askers.of(&ruling.index, image);
        let Some(judgement) = judge_caller(&policies, caller) else {
            return Ok(None);
        };
        if let Some((outcome, shortfall)) = judgement.refusal() {
            let (policy, shortfall) = (Arc::clone(&outcome.policy), shortfall.clone());
            return Err(self.denied(
                Denied {
                    asked: asked(),
                    refused: None,
                    shortfall,
                    policy: Some(policy),
                    judgement: Some(judgement),
                },
                Arc::default(),
            ));
        }
        let mut policy = "none";
        let mut warnings = Vec::new();
        for (outcome, shortfall) in judgement.warnings() {
            policy = &outcome.policy;
            warnings.push(warning(image, &outcome.policy, shortfall));
        }
        let word = Reason::WrongPuller.as_str();
        let counter = self.0.metrics.decision("admitted", word, "warn", policy);
        Ok(Some(Misgivings {
            judgement: Arc::new(judgement),
            warnings,
            counter,
        }))
    }
}

/// An admission of a caller about whom policies have misgivings. The decision itself is kept
/// for all callers; this is about one.
pub(super) struct Misgiven {
    pub(super) decision: Arc<Decision>,
    pub(super) misgivings: Misgivings,
}

impl Decided for Misgiven {
    fn describe(&self) -> Value {
        let mut value = self.decision.describe();
        let Misgivings {
            judgement,
            warnings,
            ..
        } = &self.misgivings;
        value["mode"] = "warn".into();
        let append = |value: &mut Value, key: &str, more: Vec<Value>| {
            let mut all = value[key].as_array().cloned().unwrap_or_default();
            all.extend(more);
            value[key] = all.into();
        };
        let told = judgement.warnings().map(|(outcome, _)| json!(outcome));
        append(&mut value, "policies", told.collect());
        let warnings = warnings.iter().map(|warning| json!(warning));
        append(&mut value, "warnings", warnings.collect());
        value
    }
}
