//! Admission of manifests: from what is asked for to an [`Admitted`] or a [`Refusal`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::Decided;
use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::gate::Refused;
use crate::gate::Resolved;
use crate::gate::Ruling;
use crate::gate::callers::{Misgiven, Misgivings};
use crate::gate::facts::{crashed, not_proven};
use crate::gate::graph::Scope;
use crate::gate::refusal::{Cause, Doubt, describe, own_shortfall};
use crate::gate::rollback::{Latest, Noted, Watch};
use crate::gate::ruling::Validity;
use crate::gate::tag_key;
use crate::metrics::CacheKind;
use crate::metrics::DecisionCounter;
use crate::oci::Digest;
use crate::oci::DockerReference;
use crate::oci::ImageName;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::oci::Tag;
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
use crate::upstream::UpstreamError;
use crate::verify::Facts;

/// How long an answer from a stale tag is repeated before the upstream is tried again.
const STALE_RETRY: Duration = Duration::from_secs(5);

/// A manifest that may leave: the only key to its bytes. It can only be had from
/// [`Gate::manifest`].
#[derive(Debug, Clone)]
pub struct Admitted {
    pub(super) admission: Arc<Admission>,
    first: bool,
    misgivings: Option<Box<Misgivings>>,
}

/// An admission as it is kept: everything that an answer needs and that does not change
/// between two pulls.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) document: Arc<Document>,
    pub(super) decision: Arc<Decision>,
    pub(super) facts: Arc<Facts>,
    pub(super) validity: Validity,
    /// What its tag may not have moved on from.
    pub(super) latest: Box<[Latest]>,
    stale: bool,
    counter: DecisionCounter,
}

/// What is recorded of an admission. The record outlives the admission, so it holds neither
/// the manifest nor the facts.
#[derive(Debug)]
pub(super) struct Decision {
    ask: Ask,
    digest: Digest,
    pub(super) grounds: Grounds,
    warnings: Vec<String>,
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

    /// True when its tag could not be resolved anew.
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
    /// About how many bytes it holds: the manifest, parsed as well, and the facts.
    pub(super) fn weight(&self) -> u32 {
        let bytes = self.document.bytes().len() * 2 + self.facts.size_hint() + 1024;
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

/// A manifest that was found, and how long its finding holds.
struct Found {
    document: Arc<Document>,
    until: Instant,
    stale: bool,
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
            Some(admission) => Admitted {
                admission,
                first: false,
                misgivings: None,
            },
            None => {
                let ruling = arc_swap::Guard::into_inner(ruling);
                // Boxed: the cold way's state is large, and the hot way need not carry it.
                let decision = Box::pin(self.admit(&ruling, ask));
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

    pub(super) async fn admit(&self, ruling: &Ruling, ask: &Ask) -> Result<Admitted, Refusal> {
        let (upstream, key, found) = self.locate(ask).await?;
        let document = Arc::clone(&found.document);
        let ruled = self.rule(ruling, upstream, ask, &key, found).await;
        let vouches = ruled
            .as_ref()
            .is_ok_and(|admission| !matches!(admission.decision.grounds, Grounds::Evidence));
        self.0.hints.listed(&key, &document, vouches);
        let admission = Arc::new(ruled?);
        self.0
            .admissions
            .insert(ask.clone(), Arc::clone(&admission));
        Ok(Admitted {
            admission,
            first: true,
            misgivings: None,
        })
    }

    /// The manifest that is asked for, and where it is; that a tag names it is noted.
    async fn locate(&self, ask: &Ask) -> Result<(&Upstream, ContentKey, Found), Refusal> {
        let asked = || Asked::Manifest(ask.image.clone(), ask.reference.clone());
        let Some(upstream) = self.upstream(&ask.image.registry) else {
            return Err(Refusal::NotFound(Missing::Repository));
        };
        let found = self.find(upstream, ask, asked).await?;
        let key = ContentKey::of(&ask.image, *found.document.digest());
        if let Reference::Tag(tag) = &ask.reference {
            self.0.hints.tagged(&key, tag);
        }
        Ok((upstream, key, found))
    }

    /// What is proven about an image and about what lies around it, unjudged: for those who
    /// want to write it down. No bytes leave by this way.
    ///
    /// # Errors
    /// A [`Refusal`]: something could not be read, or is not there.
    pub async fn survey(&self, ask: &Ask) -> Result<Subject, Refusal> {
        let ruling = self.0.ruling.load_full();
        let (upstream, key, found) = self.locate(ask).await?;
        let shape = match found.document.manifest() {
            Ok(manifest) if manifest.as_index().is_some() => Shape::Index,
            _ => Shape::Image,
        };
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
        let shape = if manifest.as_index().is_some() {
            Shape::Index
        } else {
            Shape::Image
        };
        let judged = self
            .judge(ruling, upstream, ask, &found.document, shape, &policies)
            .await;
        let asked = Asked::Manifest(ask.image.clone(), ask.reference.clone());
        let judged = judged.map_err(|cause| self.unavailable(cause, asked, Some(key.digest)))?;
        let Judged {
            judgement,
            facts,
            holds,
            latest,
        } = judged;
        if !judgement.is_admitted() {
            let index = self.admitted_by_index(ruling, upstream, ask, key, &policies, &judgement);
            if let Some(index) = index.await? {
                let grounds = index.decision.grounds.clone();
                let holds = Holds {
                    until: index.validity.until,
                    ends_at: index.validity.ends_at,
                };
                return Ok(self.admission(ruling, ask, found, grounds, facts, Some(holds)));
            }
        }
        match judgement.refusal() {
            None => {
                let grounds = Grounds::Judged(judgement);
                let admission = self.admission(ruling, ask, found, grounds, facts, Some(holds));
                Ok(Admission {
                    latest,
                    ..admission
                })
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
        shape: Shape,
        policies: &[Arc<Policy>],
    ) -> Result<Judged, Cause> {
        let started = Instant::now();
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
            let holds = self.holds(&scope, &judgement);
            let mut latest = Box::default();
            if judgement.is_admitted() {
                let noted = self
                    .note(&mut watch, policies, &judgement, &key.digest)
                    .await;
                let Noted::Latest(noted) = noted else {
                    continue;
                };
                latest = noted;
            }
            return Ok(Judged {
                judgement,
                facts: subject.facts,
                holds,
                latest,
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
            latest: Box::default(),
            stale: found.stale,
            document: found.document,
            facts,
            counter,
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

    /// The manifest that is asked for, with its bytes.
    async fn find(
        &self,
        upstream: &Upstream,
        ask: &Ask,
        asked: impl Fn() -> Asked,
    ) -> Result<Found, Refusal> {
        let answer = match &ask.reference {
            Reference::Digest(digest) => {
                let key = ContentKey::of(&ask.image, *digest);
                let document = self.0.content.manifest(upstream, &key).await;
                let until = Instant::now() + self.0.settings.facts_ttl;
                document.map(|document| Found {
                    document,
                    until,
                    stale: false,
                })
            }
            Reference::Tag(tag) => match self.resolve(upstream, &ask.image, tag).await {
                Ok(answer) => answer,
                Err(cause) => return Err(self.unavailable(cause, asked(), None)),
            },
        };
        answer.map_err(|error| self.not_found(&error, asked(), Missing::Manifest))
    }

    /// What a tag names: as it was seen within `tag_ttl`, or fetched now, in one flight for
    /// all who ask. The bytes are fetched by the tag and hashed here, so that an upstream
    /// that answers otherwise the next time changes nothing.
    async fn resolve(
        &self,
        upstream: &Upstream,
        image: &ImageName,
        tag: &Tag,
    ) -> Result<Result<Found, UpstreamError>, Cause> {
        let settings = &self.0.settings;
        let name = (image.clone(), tag.clone());
        let known = self.0.tags.get(&tag_key(image, tag));
        let fresh = known.filter(|known| known.at.elapsed() < settings.tag_ttl);
        self.0
            .metrics
            .cache_requested(CacheKind::Tags, fresh.is_some());
        if let Some(resolved) = fresh {
            let until = resolved.at + settings.tag_ttl;
            return Ok(self.named(upstream, image, resolved, until, false).await);
        }
        let (gate, flown, upstream_of_flight) = (self.clone(), name.clone(), upstream.clone());
        let flight = || async move {
            let at = Instant::now();
            let (image, tag) = &flown;
            let reference = Reference::Tag(tag.clone());
            let fetched = upstream_of_flight
                .manifest(&image.repository, &reference)
                .await
                .map_err(Arc::new)?;
            let document = gate
                .0
                .content
                .take_in(&image.registry, &image.repository, fetched);
            let resolved = Resolved {
                digest: *document.digest(),
                at,
            };
            gate.0.tags.insert(tag_key(image, tag), resolved, 0);
            Ok(document)
        };
        let flown_by = (name.0, name.1, upstream.asker_key());
        match self
            .0
            .tag_flights
            .join(flown_by, flight)
            .await
            .map_err(|_| crashed())?
        {
            Ok(document) => {
                let until = Instant::now() + settings.tag_ttl;
                Ok(Ok(Found {
                    document,
                    until,
                    stale: false,
                }))
            }
            Err(error) if error.is_transient() => {
                match known.filter(|known| known.at.elapsed() < settings.stale_ttl) {
                    Some(resolved) => {
                        self.0.metrics.answered_stale();
                        let until = Instant::now() + STALE_RETRY;
                        Ok(self.named(upstream, image, resolved, until, true).await)
                    }
                    None => Ok(Err(UpstreamError::clone(&error))),
                }
            }
            Err(error) => Ok(Err(UpstreamError::clone(&error))),
        }
    }

    async fn named(
        &self,
        upstream: &Upstream,
        image: &ImageName,
        resolved: Resolved,
        until: Instant,
        stale: bool,
    ) -> Result<Found, UpstreamError> {
        let key = ContentKey::of(image, resolved.digest);
        let document = self.0.content.manifest(upstream, &key).await?;
        Ok(Found {
            document,
            until,
            stale,
        })
    }

    pub(super) fn not_found(
        &self,
        error: &UpstreamError,
        asked: Asked,
        missing: Missing,
    ) -> Refusal {
        match error {
            UpstreamError::NotFound => Refusal::NotFound(missing),
            UpstreamError::Unauthorized { host, .. }
                if self.upstream(host).is_some_and(Upstream::asks_as_caller) =>
            {
                Refusal::LoginNeeded(host.clone())
            }
            UpstreamError::TooLarge { limit } => self.denied(
                Denied {
                    asked,
                    refused: None,
                    shortfall: own_shortfall(
                        Reason::OverLimit,
                        format!("content larger than {limit} bytes"),
                        "content within the limits",
                        "raise the limit if content of this size is wanted (limits in the \
                     configuration)",
                    ),
                    policy: None,
                    judgement: None,
                },
                Arc::default(),
            ),
            error => self.unavailable(Cause::of_upstream(error), asked, None),
        }
    }
}

struct Judged {
    judgement: Judgement,
    facts: Arc<Facts>,
    holds: Holds,
    latest: Box<[Latest]>,
}

/// For how long a judgement may be repeated: until what it rests on is too old, or ends.
struct Holds {
    until: Instant,
    ends_at: Option<Timestamp>,
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
