//! Judgement of a manifest: by its own facts, by what lies around it, and by what its tag named.

use std::{sync::Arc, time::Instant};

use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Gate;
use crate::gate::Ruling;
use crate::gate::admit::Purpose;
use crate::gate::facts::not_proven;
use crate::gate::graph::Scope;
use crate::gate::refusal::{Cause, Doubt};
use crate::gate::rollback::Watch;
use crate::gate::ruling::Validity;
use crate::oci::DockerReference;
use crate::oci::ImageName;
use crate::policy::Earlier;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::Question;
use crate::policy::Shape;
use crate::policy::Subject;
use crate::policy::judge;
use crate::policy::judge_tag;
use crate::upstream::Upstream;
use crate::verify::Facts;

/// How often one pull is judged: with facts as they are held, with fresh ones, and anew each time
/// that something else was served under its tag meanwhile.
const ROUNDS_MAX: usize = 16;

/// What policy says of a manifest.
pub(super) struct Judged {
    pub(super) judgement: Judgement,
    pub(super) facts: Arc<Facts>,
    pub(super) validity: Validity,
    /// Whether it was judged by old facts, since no others could be had.
    pub(super) stale: bool,
}

impl Gate {
    /// Judges a manifest by its own facts, then by those around it, then once more by facts
    /// gathered anew, so that what has just been signed passes.
    pub(super) async fn judge(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        ask: &Ask,
        document: &Document,
        policies: &[Arc<Policy>],
        purpose: &Purpose<'_>,
    ) -> Result<Judged, Cause> {
        let started = Instant::now();
        let shape = shape_of(document);
        let key = &ContentKey::of(&ask.image, *document.digest());
        let asked = Arc::new(DockerReference::asking(&ask.image, &ask.reference));
        let (mut not_before, mut has_learned) = (None, false);
        let mut watch = Watch::new(policies, ask);
        for _ in 0..ROUNDS_MAX {
            let earlier = self.recall(&watch).await;
            let scope = Scope::new(
                self,
                ruling,
                upstream,
                policies,
                Arc::clone(&asked),
                not_before,
            );
            let mut subject = scope.alone(key, shape).await?;
            let judge = async |subject: &Subject| {
                let earlier = (!watch.is_empty()).then_some(earlier.as_slice());
                self.judge_once(key, policies, subject, earlier).await
            };
            let mut judgement = judge(&subject).await?;
            // What is its own root as long as no index lists it.
            let is_root = subject.tagged && shape == Shape::Image;
            let minds_parents = is_root && policies.iter().any(|policy| policy.minds_parents());
            if (!judgement.is_complete() || minds_parents) && scope.may_lie_around() {
                scope.look_around(key, document, &mut subject).await;
                judgement = judge(&subject).await?;
            }
            // Facts with which a policy fell short may be old: somebody may have signed since.
            let fresh_enough = scope.oldest() + self.0.settings.unsigned_ttl > started;
            if !judgement.is_complete() && !fresh_enough && not_before.is_none() {
                not_before = Some(started);
                continue;
            }
            // Before anybody is told "no", it is asked what others may have admitted meanwhile.
            let is_last = !judgement.is_admitted() && scope.may_lie_around() && !has_learned;
            if is_last && scope.doubt().is_none() {
                has_learned = true;
                if !self.0.hints.learn(key).await.is_empty() {
                    continue;
                }
            }
            let weighs_all = policies.iter().any(|policy| policy.weighs_all_evidence());
            let needs_all = weighs_all || (minds_parents && scope.left_some_unread());
            if (!judgement.is_admitted() || needs_all)
                && let Some(doubt) = scope.doubt()
            {
                return Err(doubt);
            }
            if let Some(missing) = ruling.missing_root(policies, &judgement) {
                let text = format!(
                    "the trust root {} is not there: {}",
                    missing.name, missing.why
                );
                return Err(Cause::new(Doubt::TrustRootUnavailable, text));
            }
            let mut validity = self.validity(ruling, &scope, &judgement);
            if judgement.is_admitted() {
                validity.latest = watch.latest(policies, &judgement, &key.digest);
                // Only what is handed out by its tag's name was served under it.
                let is_served = matches!(purpose, Purpose::Serving(_));
                if is_served && !self.note(&mut watch, &validity.latest).await {
                    continue;
                }
            }
            return Ok(Judged {
                judgement,
                facts: subject.facts,
                validity,
                stale: scope.is_stale(),
            });
        }
        let text = "other content was served under the tag each time that it was judged";
        Err(Cause {
            remedy: "pull it again, or by its digest",
            ..Cause::new(Doubt::Overloaded, text)
        })
    }

    /// Conditions over large attestations are judged where proofs are made; all else takes
    /// microseconds.
    async fn judge_once(
        &self,
        key: &ContentKey,
        policies: &[Arc<Policy>],
        subject: &Subject,
        earlier: Option<&[Earlier]>,
    ) -> Result<Judgement, Cause> {
        let image = ImageName {
            registry: key.host.clone(),
            repository: key.repository.clone(),
        };
        let now = self.0.clock.now();
        if !policies.iter().any(|policy| policy.is_costly()) {
            let image = &image;
            return Ok(judged(policies, subject, &Question { image, now }, earlier));
        }
        let (policies, subject) = (policies.to_vec(), subject.clone());
        let earlier = earlier.map(<[Earlier]>::to_vec);
        let judging = self.0.proofs.run(move || {
            let question = Question { image: &image, now };
            judged(&policies, &subject, &question, earlier.as_deref())
        });
        judging.await.map_err(not_proven)
    }

    /// How long an admission's facts may be repeated; a warning is looked at again as soon as
    /// a refusal would be.
    fn validity(&self, ruling: &Ruling, scope: &Scope<'_>, judgement: &Judgement) -> Validity {
        let until = scope.expires_at();
        let soon = Instant::now() + self.0.settings.unsigned_ttl;
        let ends = [judgement.holds_until, scope.ends_at()];
        let until = match judgement.is_complete() {
            true => until,
            false => until.min(soon),
        };
        Validity {
            ends_at: ends.into_iter().flatten().min(),
            ..Validity::until(ruling, until)
        }
    }
}

/// By the facts, and where a tag is asked for that may not move back, by what it named before.
fn judged(
    policies: &[Arc<Policy>],
    subject: &Subject,
    question: &Question<'_>,
    earlier: Option<&[Earlier]>,
) -> Judgement {
    let mut judgement = judge(policies, subject, question);
    if let Some(earlier) = earlier {
        judge_tag(&mut judgement, policies, subject, question, earlier);
    }
    judgement
}

pub(super) fn shape_of(document: &Document) -> Shape {
    match document.manifest() {
        Ok(manifest) if manifest.as_index().is_some() => Shape::Index,
        _ => Shape::Image,
    }
}
