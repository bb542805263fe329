//! Who pulls: the first of the two checks. It needs no facts, so it is answered before anything
//! is asked of anybody, and a caller who is refused learns nothing, not even from how long the
//! answer takes. It is answered anew on every request, whatever is held of the image.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::audit::Decided;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admit::{Decision, warning};
use crate::metrics::DecisionCounter;
use crate::oci::ImageName;
use crate::policy::Caller;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::judge_caller;

/// The policies for one image that ask who pulls.
#[derive(Debug)]
pub(super) struct Askers {
    generation: u64,
    policies: Vec<Arc<Policy>>,
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
        let Some(judgement) = judge_caller(&self.askers(ruling, image).policies, caller) else {
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

    /// The policies for an image that ask who pulls: a look-up, since with many policies the
    /// patterns are too many to be tried on every pull.
    fn askers(&self, ruling: &Ruling, image: &ImageName) -> Arc<Askers> {
        let held = self.0.askers.get(image);
        if let Some(held) = held.filter(|held| held.generation == ruling.generation) {
            return held;
        }
        let mut policies = ruling.index.for_image(image);
        policies.retain(|policy| policy.pulled_by.is_some());
        let askers = Arc::new(Askers {
            generation: ruling.generation,
            policies,
        });
        self.0.askers.insert(image.clone(), Arc::clone(&askers));
        askers
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
