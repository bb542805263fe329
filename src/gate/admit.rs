//! Admission of manifests: from what is asked for to an [`Admitted`] or a [`Refusal`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Refused;
use crate::gate::Ruling;
use crate::gate::admission::{Admission, Admitted, Decision, Grounds};
use crate::gate::by_tag::{Tries, leave_it_to_the_tag};
use crate::gate::facts::not_proven;
use crate::gate::find::Found;
use crate::gate::graph::Scope;
use crate::gate::refusal::{Cause, Doubt, own_shortfall};
use crate::gate::rollback::{Latest, Watch};
use crate::gate::ruling::Validity;
use crate::metrics::CacheKind;
use crate::oci::Digest;
use crate::oci::DockerReference;
use crate::oci::ImageName;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::policy::Caller;
use crate::policy::Earlier;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::Question;
use crate::policy::Reason;
use crate::policy::Shape;
use crate::policy::Shortfall;
use crate::policy::Subject;
use crate::policy::judge;
use crate::policy::judge_tag;
use crate::upstream::Upstream;
use crate::verify::Facts;

/// What an admission is for.
pub(super) enum Purpose<'a> {
    /// The manifest, or a blob of it, is handed out by this very name. Where its digest is refused,
    /// tags are tried so often.
    Serving(&'a Tries),
    /// What lies below the manifest is asked for, and whether a tag vouches for that: by the tag's
    /// name nothing is handed out.
    Vouching,
}

impl Gate {
    /// Asks for a manifest by tag or digest. What is kept is kept without the caller: facts
    /// and admissions are everybody's, and what policy says of a caller it says each time.
    ///
    /// # Errors
    /// A [`Refusal`]: no, don't know, or not there.
    pub async fn manifest(&self, ask: &Ask, caller: &Caller) -> Result<Admitted, Refusal> {
        let ruling = self.0.ruling.load();
        let asked = || Asked::Manifest(ask.image.clone(), ask.reference.clone());
        let misgivings = self.let_ask(&ruling, &ask.image, caller, asked)?;
        self.permit_manifest(&ask.image, &ask.reference).await?;
        let held = self.held(&ruling, ask);
        self.0
            .metrics
            .cache_requested(CacheKind::Admissions, held.is_some());
        let mut admitted = match held {
            Some(admission) => {
                self.note_again(ask, &admission);
                Admitted {
                    admission,
                    first: false,
                    misgivings: None,
                }
            }
            None => {
                let ruling = arc_swap::Guard::into_inner(ruling);
                // Boxed: the cold way's state is large, and the hot way need not carry it.
                let tries = Tries::default();
                let decision = Box::pin(self.admit(&ruling, ask, &tries));
                self.in_time(decision, asked).await?
            }
        };
        admitted.misgivings = misgivings.map(Box::new);
        Ok(admitted)
    }

    /// A decision, unless it takes too long. What was begun for it goes on: whoever comes back
    /// may find it done.
    pub(super) async fn in_time<T>(
        &self,
        decision: impl Future<Output = Result<T, Refusal>>,
        asked: impl FnOnce() -> Asked,
    ) -> Result<T, Refusal> {
        let deadline = self.0.settings.decision_deadline;
        let decided = tokio::time::timeout(deadline, decision).await;
        decided.unwrap_or_else(|_| {
            let text = format!("the decision took longer than {} s", deadline.as_secs());
            let cause = Cause::new(Doubt::EvidenceUnavailable, text);
            Err(self.unavailable(cause, asked(), None))
        })
    }

    pub(super) async fn admit(
        &self,
        ruling: &Ruling,
        ask: &Ask,
        tries: &Tries,
    ) -> Result<Admitted, Refusal> {
        let located = self.locate(ask).await?;
        let serving = Purpose::Serving(tries);
        let admission = self.settle(ruling, ask, located, serving).await?;
        self.0
            .admissions
            .insert(ask.clone(), Arc::clone(&admission));
        Ok(Admitted {
            admission,
            first: true,
            misgivings: None,
        })
    }

    /// Judges what was found, and notes what may leave by it.
    pub(super) async fn settle(
        &self,
        ruling: &Ruling,
        ask: &Ask,
        (upstream, key, found): (&Upstream, ContentKey, Found),
        purpose: Purpose<'_>,
    ) -> Result<Arc<Admission>, Refusal> {
        let document = Arc::clone(&found.document);
        let ruled = self.rule(ruling, upstream, ask, &key, found, purpose).await;
        match ruled {
            Ok(admission) if admission.vouches() => {
                self.note_vouching(ask, &admission);
                Ok(Arc::new(admission))
            }
            ruled => {
                self.0.hints.listed(&key, &document, false);
                ruled.map(Arc::new)
            }
        }
    }

    fn note_vouching(&self, ask: &Ask, admission: &Admission) {
        let hints = &self.0.hints;
        admission.noted_at.store(hints.turns(), Ordering::Relaxed);
        let document = &admission.document;
        let key = ContentKey::of(&ask.image, *document.digest());
        if let Reference::Tag(tag) = &ask.reference {
            hints.tagged(&key, tag, true);
        }
        hints.listed(&key, document, true);
        // Told last: who asks from now on sees what was noted.
        self.0.unreached.admitted(&ask.image);
    }

    /// An answer that is repeated keeps what was noted of it, or others could drive that out while
    /// the answer holds. Admissions that are held note less than the hints have room for.
    fn note_again(&self, ask: &Ask, admission: &Admission) {
        let is_new = admission.noted_at.load(Ordering::Relaxed) == self.0.hints.turns();
        if !is_new && admission.vouches() {
            self.note_vouching(ask, admission);
        }
    }

    /// What is proven about an image and about what lies around it, unjudged: for those who
    /// want to write it down. No bytes leave by this way.
    ///
    /// # Errors
    /// A [`Refusal`]: something could not be read, or is not there.
    pub async fn survey(&self, ask: &Ask) -> Result<Subject, Refusal> {
        let ruling = self.0.ruling.load_full();
        let (upstream, key, found) = self.locate(ask).await?;
        let shape = shape_of(&found.document);
        // With every policy's eyes: what one of them has no use for, another has.
        let policies = &ruling.rules.policies;
        let pulled = Arc::new(DockerReference::asking(&ask.image, &ask.reference));
        let scope = Scope::new(self, &ruling, upstream, policies, pulled, None);
        // But what others keep elsewhere is not looked for.
        let scope = scope.with_evidence_of(&ruling.rules.matching(&ask.image, &ask.reference));
        let asked = || Asked::Manifest(ask.image.clone(), ask.reference.clone());
        let unavailable = |cause| self.unavailable(cause, asked(), Some(key.digest));
        let mut subject = scope.alone(&key, shape).await.map_err(unavailable)?;
        scope.look_around(&key, &found.document, &mut subject).await;
        match scope.doubt() {
            Some(doubt) => Err(unavailable(doubt)),
            None => Ok(subject),
        }
    }

    /// From a manifest to its admission.
    async fn rule(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        ask: &Ask,
        key: &ContentKey,
        found: Found,
        purpose: Purpose<'_>,
    ) -> Result<Admission, Refusal> {
        let policies = ruling.index.matching(&ask.image, &ask.reference);
        let manifest = match found.document.manifest() {
            Ok(manifest) => manifest,
            Err(error) => {
                return Err(self.deny(
                    ask,
                    &found.document,
                    own_shortfall(
                        Reason::Malformed,
                        error.to_string(),
                        "an OCI or Docker schema 2 manifest that can be read in one way only",
                        "push the image anew with a current tool",
                    ),
                ));
            }
        };
        let is_evidence = self.is_evidence(upstream, key, manifest).await;
        let is_evidence = is_evidence.map_err(|cause| {
            let asked = Asked::Manifest(ask.image.clone(), ask.reference.clone());
            self.unavailable(cause, asked, Some(key.digest))
        })?;
        // Where policy says "never", it means evidence as well.
        let forbids = policies.iter().any(|policy| policy.forbids());
        if !forbids && (is_evidence || self.lists_only_evidence(upstream, ask, manifest).await) {
            return Ok(self.admission(ruling, ask, found, Grounds::Evidence, Arc::default(), None));
        }
        if policies.is_empty() {
            if ruling.allows_by_default() {
                return Ok(self.admission(
                    ruling,
                    ask,
                    found,
                    Grounds::Unjudged,
                    Arc::default(),
                    None,
                ));
            }
            return Err(self.deny(ask, &found.document, no_policy(&ask.image)));
        }
        let judged = self
            .judge(ruling, upstream, ask, &found.document, &policies, &purpose)
            .await;
        let asked = Asked::Manifest(ask.image.clone(), ask.reference.clone());
        let judged = judged.map_err(|cause| self.unavailable(cause, asked, Some(key.digest)))?;
        let Judged {
            judgement,
            facts,
            holds,
        } = judged;
        if let Purpose::Serving(tries) = purpose
            && matches!(ask.reference, Reference::Digest(_))
            && !judgement.is_admitted()
            && leave_it_to_the_tag(&policies, &judgement)
        {
            let index = self.admitted_by_index(ruling, (upstream, key), &policies, tries);
            if let Some(index) = index.await? {
                let grounds = index.decision.grounds.clone();
                let holds = Holds {
                    until: index.validity.until,
                    ends_at: index.validity.ends_at,
                    latest: Arc::clone(&index.latest),
                };
                return Ok(self.admission(ruling, ask, found, grounds, facts, Some(holds)));
            }
            if tries.ran_out() {
                let asked = Asked::Manifest(ask.image.clone(), ask.reference.clone());
                return Err(self.too_many_tags(asked));
            }
        }
        match judgement.refusal() {
            None => {
                let grounds = Grounds::Judged(judgement);
                Ok(self.admission(ruling, ask, found, grounds, facts, Some(holds)))
            }
            Some((outcome, shortfall)) => {
                let (policy, shortfall) = (Arc::clone(&outcome.policy), shortfall.clone());
                Err(self.denied(
                    Denied {
                        asked: Asked::Manifest(ask.image.clone(), ask.reference.clone()),
                        refused: Some(outside(&found.document)),
                        shortfall,
                        policy: Some(policy),
                        judgement: Some(judgement),
                    },
                    facts,
                ))
            }
        }
    }

    /// Whether this is the list of referrers that a registry without a referrers API keeps
    /// under the tag `sha256-<hex>` (distribution-spec, "Referrers Tag Schema"): every manifest
    /// it lists was read and proves to be evidence. Whoever hangs something else in, gets the
    /// list judged like any other index.
    async fn lists_only_evidence(
        &self,
        upstream: &Upstream,
        ask: &Ask,
        manifest: &Manifest,
    ) -> bool {
        let Reference::Tag(tag) = &ask.reference else {
            return false;
        };
        let named = tag.as_str().replacen('-', ":", 1).parse::<Digest>().is_ok();
        let Some(index) = manifest.as_index().filter(|_| named) else {
            return false;
        };
        if index.manifests.len() > self.0.settings.evidence.artifacts_max {
            return false;
        }
        let are_evidence = join_all(index.manifests.iter().map(|listed| async move {
            let key = ContentKey::of(&ask.image, listed.digest);
            let document = self.0.content.manifest(upstream, &key).await;
            document.is_ok_and(|document| document.manifest().is_ok_and(Manifest::is_evidence))
        }));
        are_evidence
            .await
            .into_iter()
            .all(|is_evidence| is_evidence)
    }

    /// Judges a manifest by its own facts, then by those around it, then once more by facts
    /// gathered anew, so that what has just been signed passes.
    async fn judge(
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
        let mut not_before = None;
        let mut watch = Watch::new(policies, ask);
        loop {
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
            if !judgement.is_complete() && scope.may_lie_around() {
                scope.look_around(key, document, &mut subject).await;
                judgement = judge(&subject).await?;
            }
            // Facts with which a policy fell short may be old: somebody may have signed since.
            let fresh_enough = scope.oldest() + self.0.settings.unsigned_ttl > started;
            if !judgement.is_complete() && !fresh_enough && not_before.is_none() {
                not_before = Some(started);
                continue;
            }
            let weighs_all = policies.iter().any(|policy| policy.weighs_all_evidence());
            if (!judgement.is_admitted() || weighs_all)
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
            let mut holds = self.holds(&scope, &judgement);
            if judgement.is_admitted() {
                holds.latest = watch.latest(policies, &judgement, &key.digest);
                // Only what is handed out by its tag's name was served under it.
                let is_served = matches!(purpose, Purpose::Serving(_));
                if is_served && !self.note(&mut watch, &holds.latest).await {
                    continue;
                }
            }
            return Ok(Judged {
                judgement,
                facts: subject.facts,
                holds,
            });
        }
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
    fn holds(&self, scope: &Scope<'_>, judgement: &Judgement) -> Holds {
        let until = scope.expires_at();
        let soon = Instant::now() + self.0.settings.unsigned_ttl;
        let ends = [judgement.holds_until, scope.ends_at()];
        Holds {
            until: match judgement.is_complete() {
                true => until,
                false => until.min(soon),
            },
            ends_at: ends.into_iter().flatten().min(),
            latest: Arc::default(),
        }
    }

    fn admission(
        &self,
        ruling: &Ruling,
        ask: &Ask,
        found: Found,
        grounds: Grounds,
        facts: Arc<Facts>,
        holds: Option<Holds>,
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
        let holds = holds.unwrap_or_else(|| Holds {
            until: Instant::now() + self.0.settings.facts_ttl,
            ends_at: None,
            latest: Arc::default(),
        });
        let validity = Validity {
            generation: ruling.generation,
            until: holds.until.min(found.until),
            ends_at: holds.ends_at,
        };
        let decision = Decision {
            ask: ask.clone(),
            digest: *found.document.digest(),
            grounds,
            warnings,
        };
        Admission {
            decision: Arc::new(decision),
            validity,
            latest: holds.latest,
            stale: found.stale,
            document: found.document,
            facts,
            counter,
            noted_at: AtomicU64::new(0),
        }
    }

    fn deny(&self, ask: &Ask, document: &Document, shortfall: Shortfall) -> Refusal {
        self.denied(
            Denied {
                asked: Asked::Manifest(ask.image.clone(), ask.reference.clone()),
                refused: Some(outside(document)),
                shortfall,
                policy: None,
                judgement: None,
            },
            Arc::default(),
        )
    }

    /// Counts a "no".
    pub(super) fn denied(&self, denied: Denied, facts: Arc<Facts>) -> Refusal {
        let reason = denied.shortfall.reason.as_str();
        let policy = denied.policy.as_deref().unwrap_or("none");
        self.0
            .metrics
            .decision("denied", reason, "enforce", policy)
            .inc();
        Refusal::Denied(Arc::new(denied), facts)
    }

    /// Counts a "don't know".
    pub(super) fn unavailable(
        &self,
        cause: Cause,
        asked: Asked,
        digest: Option<Digest>,
    ) -> Refusal {
        self.0
            .metrics
            .decision("unavailable", cause.doubt.as_str(), "enforce", "none")
            .inc();
        cause.about(asked, digest)
    }
}

struct Judged {
    judgement: Judgement,
    facts: Arc<Facts>,
    holds: Holds,
}

/// For how long a judgement may be repeated: until what it rests on is too old, or ends, or its tag
/// has moved on.
struct Holds {
    until: Instant,
    ends_at: Option<Timestamp>,
    latest: Arc<[Latest]>,
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

fn shape_of(document: &Document) -> Shape {
    match document.manifest() {
        Ok(manifest) if manifest.as_index().is_some() => Shape::Index,
        _ => Shape::Image,
    }
}

fn outside(document: &Document) -> Refused {
    let bytes: &Bytes = document.bytes();
    Refused {
        digest: *document.digest(),
        media_type: document.media_type(),
        length: bytes.len(),
    }
}

fn no_policy(image: &ImageName) -> Shortfall {
    own_shortfall(
        Reason::NoPolicy,
        format!("no policy for {image}"),
        "a policy whose `images` match it (default: deny)",
        "add a policy for this image, or pull from a repository that has one",
    )
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
