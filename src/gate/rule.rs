//! From a manifest that was found to its admission, or to why it may not leave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Instant,
};

use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admission::{Admission, Decision, Grounds};
use crate::gate::admit::Purpose;
use crate::gate::by_tag::leave_it_to_the_tag;
use crate::gate::find::Found;
use crate::gate::hints::Named;
use crate::gate::judge::Judged;
use crate::gate::refusal::{Cause, Doubt};
use crate::gate::refuse::{malformed, no_policy, outside};
use crate::gate::ruling::Validity;
use crate::oci::ImageName;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::Shortfall;
use crate::upstream::Upstream;
use crate::verify::Facts;

impl Gate {
    /// From a manifest to its admission.
    pub(super) async fn rule(
        &self,
        ruling: &Ruling,
        place: (&Upstream, &ContentKey),
        ask: &Ask,
        mut found: Found,
        purpose: Purpose<'_>,
    ) -> Result<Admission, Refusal> {
        let policies = ruling.index.matching(&ask.image, &ask.reference);
        let document = &found.document;
        let manifest = document.manifest();
        let manifest = manifest.map_err(|error| self.deny(ask, document, malformed(error)))?;
        let unjudged = self.unjudged(ruling, place, ask, manifest, &policies);
        if let Some(grounds) = unjudged.await? {
            if found.named == Named::AsRemembered && grounds == Grounds::Unjudged {
                return Err(self.only_remembered(ask));
            }
            return Ok(self.admission(ruling, ask, found, grounds, Arc::default(), None));
        }
        if policies.is_empty() {
            return Err(self.deny(ask, document, no_policy(&ask.image)));
        }
        let (upstream, key) = place;
        let judged = self.judge(ruling, upstream, ask, document, &policies, &purpose);
        let judged = judged.await;
        let Judged {
            judgement,
            facts,
            validity,
            stale,
        } = judged.map_err(|cause| self.unavailable(cause, ask.asked(), Some(key.digest)))?;
        if judgement.is_admitted() {
            let is_vouched = policies.iter().any(|policy| policy.vouches());
            if found.named == Named::AsRemembered && !is_vouched {
                return Err(self.only_remembered(ask));
            }
            found.stale |= stale;
            let grounds = Grounds::Judged(judgement);
            return Ok(self.admission(ruling, ask, found, grounds, facts, Some(validity)));
        }
        let by_index = self.admitted_below(ruling, place, ask, (&policies, &judgement), purpose);
        match by_index.await? {
            Some(index) => {
                found.stale |= index.stale;
                let (grounds, validity) = (index.decision.grounds.clone(), index.validity.clone());
                Ok(self.admission(ruling, ask, found, grounds, facts, Some(validity)))
            }
            // What it names now may be better, but for those who refuse whatever it is.
            None if found.stale && !policies.iter().any(|policy| policy.forbids()) => {
                let text =
                    "what its tag named before is refused, and what it names now nobody can say";
                let cause = Cause::new(Doubt::UpstreamUnreachable, text);
                Err(self.unavailable(cause, ask.asked(), None))
            }
            None => Err(self.fell_short(ask, document, judgement, facts)),
        }
    }

    /// What a tag named before this process began is on disk, where somebody may have edited it: so it
    /// has to be content that somebody vouches for.
    fn only_remembered(&self, ask: &Ask) -> Refusal {
        let text = "what its tag names nobody can say now, and policy asks for no proof by which what \
                    it named before could be told from what somebody has put there";
        let cause = Cause::new(Doubt::UpstreamUnreachable, text);
        self.unavailable(cause, ask.asked(), None)
    }

    /// Why a manifest may leave that no policy judges: it is evidence, or none matches and the
    /// default allows it.
    async fn unjudged(
        &self,
        ruling: &Ruling,
        (upstream, key): (&Upstream, &ContentKey),
        ask: &Ask,
        manifest: &Manifest,
        policies: &[Arc<Policy>],
    ) -> Result<Option<Grounds>, Refusal> {
        let is_evidence = self.is_evidence(upstream, key, manifest).await;
        let is_evidence =
            is_evidence.map_err(|cause| self.unavailable(cause, ask.asked(), Some(key.digest)))?;
        // Where policy says "never", it means evidence as well.
        let forbids = policies.iter().any(|policy| policy.forbids());
        if !forbids && (is_evidence || self.lists_only_evidence(upstream, ask, manifest).await) {
            return Ok(Some(Grounds::Evidence));
        }
        let is_free = policies.is_empty() && ruling.allows_by_default();
        Ok(is_free.then_some(Grounds::Unjudged))
    }

    /// The index that lists a digest which is refused, where a tag admits that and policy leaves it to
    /// the tag.
    async fn admitted_below(
        &self,
        ruling: &Ruling,
        place: (&Upstream, &ContentKey),
        ask: &Ask,
        (policies, judgement): (&[Arc<Policy>], &Judgement),
        purpose: Purpose<'_>,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        let (Purpose::Serving(tries), Reference::Digest(_)) = (purpose, &ask.reference) else {
            return Ok(None);
        };
        if !leave_it_to_the_tag(policies, judgement) {
            return Ok(None);
        }
        let index = self.admitted_by_index(ruling, place, policies, tries);
        match index.await? {
            None if tries.ran_out() => Err(self.too_many_tags(ask.asked())),
            index => Ok(index),
        }
    }

    /// The "no" of a judgement.
    fn fell_short(
        &self,
        ask: &Ask,
        document: &Document,
        judgement: Judgement,
        facts: Arc<Facts>,
    ) -> Refusal {
        let refusal = judgement.refusal();
        let refusal =
            refusal.map(|(outcome, shortfall)| (Arc::clone(&outcome.policy), shortfall.clone()));
        let Some((policy, shortfall)) = refusal else {
            return self.deny(ask, document, no_policy(&ask.image));
        };
        let denied = Denied {
            asked: ask.asked(),
            refused: Some(outside(document)),
            shortfall,
            policy: Some(policy),
            judgement: Some(judgement),
        };
        self.denied(denied, facts)
    }

    fn admission(
        &self,
        ruling: &Ruling,
        ask: &Ask,
        found: Found,
        grounds: Grounds,
        facts: Arc<Facts>,
        validity: Option<Validity>,
    ) -> Admission {
        let (mut warnings, mut reason, mut mode, mut policy) =
            (Vec::new(), Reason::Admitted, "enforce", "none");
        if let Grounds::Judged(judgement) = &grounds {
            let first = judgement.warnings().next();
            if let Some((_, shortfall)) = first {
                reason = shortfall.reason;
            }
            let decisive = first
                .map(|(outcome, _)| outcome)
                .or(judgement.policies.first());
            if let Some(outcome) = decisive {
                (mode, policy) = (outcome.mode.as_str(), &*outcome.policy);
            }
            warnings = judgement
                .warnings()
                .map(|(outcome, shortfall)| warning(&ask.image, &outcome.policy, shortfall))
                .collect();
        }
        let counter = self
            .0
            .metrics
            .decision("admitted", reason.as_str(), mode, policy);
        if found.stale {
            self.0.metrics.answered_stale();
        }
        let facts_end = Instant::now() + self.0.settings.facts_ttl;
        let mut validity = validity.unwrap_or_else(|| Validity::until(ruling, facts_end));
        validity.until = validity.until.min(found.until);
        let decision = Decision {
            ask: ask.clone(),
            digest: *found.document.digest(),
            grounds,
            warnings,
        };
        Admission {
            decision: Arc::new(decision),
            validity,
            stale: found.stale,
            named: found.named,
            document: found.document,
            facts,
            counter,
            noted_at: AtomicU64::new(0),
            superseded: AtomicBool::new(false),
        }
    }
}

pub(super) fn warning(image: &ImageName, policy: &str, shortfall: &Shortfall) -> String {
    let Shortfall {
        reason,
        found,
        expected,
        ..
    } = shortfall;
    format!(
        "{image} would be refused by policy {policy:?} [{}]. Found: {found}. Expected: {expected}",
        reason.as_str(),
    )
}
