//! What lies around a manifest: the indexes that list it, and the images that an index lists.
//!
//! It is looked at only where a manifest does not pass by its own facts, and within a budget.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Gate;
use crate::gate::Ruling;
use crate::gate::facts::FactsEntry;
use crate::gate::refusal::Cause;
use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::oci::DockerReference;
use crate::oci::EvidenceSource;
use crate::oci::Manifest;
use crate::oci::REFERENCE_TYPE;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::Shape;
use crate::policy::Subject;
use crate::upstream::Upstream;
use crate::verify::Facts;

/// One decision's way through the graph.
pub(super) struct Scope<'a> {
    gate: &'a Gate,
    ruling: &'a Ruling,
    upstream: &'a Upstream,
    policies: &'a [Arc<Policy>],
    /// Where evidence is looked for; `None`: beside the image.
    sources: BTreeSet<Option<Arc<EvidenceSource>>>,
    /// What the decision is about.
    asked: Arc<DockerReference>,
    /// Facts that were gathered earlier do not count.
    not_before: Option<Instant>,
    budget: AtomicUsize,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    doubt: Option<Cause>,
    oldest: Option<Instant>,
    expires_at: Option<Instant>,
    ends_at: Option<Timestamp>,
    stale: bool,
    unread: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        gate: &'a Gate,
        ruling: &'a Ruling,
        upstream: &'a Upstream,
        policies: &'a [Arc<Policy>],
        asked: Arc<DockerReference>,
        not_before: Option<Instant>,
    ) -> Self {
        Self {
            gate,
            ruling,
            upstream,
            policies,
            sources: sources(policies),
            asked,
            not_before,
            budget: AtomicUsize::new(gate.0.settings.index_manifests_max),
            notes: Mutex::default(),
        }
    }

    /// The same way, but with the evidence of these policies, and whatever lies beside the image.
    pub(super) fn with_evidence_of(mut self, policies: &[Arc<Policy>]) -> Self {
        self.sources = sources(policies);
        self.sources.insert(None);
        self
    }

    /// The first thing that could not be read.
    pub(super) fn doubt(&self) -> Option<Cause> {
        self.notes().doubt.clone()
    }

    /// Whether old facts stand for such as could not be had.
    pub(super) fn is_stale(&self) -> bool {
        self.notes().stale
    }

    /// Whether a manifest around it is there and could not be read.
    pub(super) fn left_some_unread(&self) -> bool {
        self.notes().unread
    }

    /// When the oldest of the facts were gathered.
    pub(super) fn oldest(&self) -> Instant {
        self.notes().oldest.unwrap_or_else(Instant::now)
    }

    /// When the first of the facts expire.
    pub(super) fn expires_at(&self) -> Instant {
        let expires_at = self.notes().expires_at;
        expires_at.unwrap_or_else(|| Instant::now() + self.gate.0.settings.facts_ttl)
    }

    /// When the first of the keys and signatures that facts rest on ends, by the wall clock.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.notes().ends_at
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when something else than the manifest's own facts could make a policy pass.
    pub(super) fn may_lie_around(&self) -> bool {
        self.policies.iter().any(|policy| {
            matches!(
                policy.requirement,
                Requirement::Proven(_) | Requirement::Digests(_)
            )
        })
    }

    /// A digest with its own facts.
    pub(super) async fn alone(&self, key: &ContentKey, shape: Shape) -> Result<Subject, Cause> {
        let tagged = self.gate.0.hints.noted(key).is_tagged;
        let searches = self.sources.iter().map(|source| {
            let place = (key, source.as_ref());
            let (ruling, upstream) = (self.ruling, self.upstream);
            self.gate.facts(ruling, upstream, place, self.not_before)
        });
        let entries = join_all(searches).await.into_iter();
        let entries = entries.collect::<Result<Vec<_>, Cause>>()?;
        for entry in &entries {
            self.note(entry);
        }
        let facts = entries.iter().map(|entry| Arc::clone(&entry.facts));
        let facts = facts.reduce(Facts::and).unwrap_or_default();
        Ok(Subject {
            asked: Some(Arc::clone(&self.asked)),
            ..Subject::alone(key.digest, shape, tagged, facts)
        })
    }

    /// Keeps in mind how old facts are, and what is doubtful about them.
    fn note(&self, entry: &FactsEntry) {
        let expires_at = entry.expires_at(&self.gate.0.settings);
        let mut notes = self.notes();
        if notes.doubt.is_none() {
            notes.doubt.clone_from(&entry.doubt);
        }
        let earlier =
            |known: Option<Instant>, new| known.map_or(new, |known: Instant| known.min(new));
        notes.stale |= entry.stale;
        notes.oldest = Some(earlier(notes.oldest, entry.gathered_at));
        notes.expires_at = Some(earlier(notes.expires_at, expires_at));
        notes.ends_at = [notes.ends_at, entry.facts.ends_at()]
            .into_iter()
            .flatten()
            .min();
    }

    /// Adds to `subject` the indexes that list it and, for an index, the images it lists.
    pub(super) async fn look_around(
        &self,
        key: &ContentKey,
        document: &Document,
        subject: &mut Subject,
    ) {
        let index = document.manifest().ok().and_then(Manifest::as_index);
        let (parents, children) = tokio::join!(self.parents(key, vec![key.digest]), async {
            match index {
                Some(index) => self.children(key, &index.manifests).await,
                None => None,
            }
        });
        subject.parents = parents;
        subject.children = children;
    }

    /// The indexes that list `key`. A hint says where to look; the index itself is read.
    fn parents<'s>(
        &'s self,
        key: &'s ContentKey,
        path: Vec<Digest>,
    ) -> Pin<Box<dyn Future<Output = Vec<Subject>> + Send + 's>> {
        Box::pin(async move {
            if path.len() > self.gate.0.settings.index_depth_max {
                return Vec::new();
            }
            let hint = self.gate.0.hints.of(key).await;
            let mut parents = Vec::new();
            for parent in hint.parents.iter().filter(|parent| !path.contains(parent)) {
                let parent_key = ContentKey {
                    digest: *parent,
                    ..key.clone()
                };
                let Some(document) = self.read(&parent_key).await else {
                    continue;
                };
                let lists = document.manifest().is_ok_and(|manifest| {
                    manifest.as_index().is_some() && manifest.lists(&key.digest)
                });
                if !lists {
                    continue;
                }
                let Some(mut subject) = self.facts_of(&parent_key, Shape::Index).await else {
                    continue;
                };
                let path = path.iter().copied().chain([*parent]).collect();
                subject.parents = self.parents(&parent_key, path).await;
                parents.push(subject);
            }
            parents
        })
    }

    /// The images that an index lists, each with its own facts; `None` when they are more
    /// than are looked at, or one of them could not be read.
    async fn children(&self, key: &ContentKey, listed: &[Descriptor]) -> Option<Vec<Subject>> {
        let images: Vec<ContentKey> = listed
            .iter()
            .filter(|descriptor| !claims_to_be_attestation(descriptor))
            .map(|descriptor| ContentKey {
                digest: descriptor.digest,
                ..key.clone()
            })
            .collect();
        if images.len() > self.gate.0.settings.index_manifests_max {
            return None;
        }
        let children = join_all(images.iter().map(|key| async move {
            let document = self.read(key).await?;
            let manifest = document.manifest().ok()?;
            let shape = if manifest.as_index().is_some() {
                Shape::Index
            } else {
                Shape::Image
            };
            self.facts_of(key, shape).await
        }));
        children.await.into_iter().collect()
    }

    /// A manifest around the one in question, while the budget lasts.
    async fn read(&self, key: &ContentKey) -> Option<Arc<Document>> {
        let spend = |left: usize| left.checked_sub(1);
        if self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_err()
        {
            return None;
        }
        match self.gate.0.content.manifest(self.upstream, key).await {
            Ok(document) => Some(document),
            Err(error) => {
                if error.is_transient() {
                    let mut notes = self.notes();
                    notes.doubt.get_or_insert(Cause::of_upstream(&error));
                    notes.unread = true;
                }
                None
            }
        }
    }

    async fn facts_of(&self, key: &ContentKey, shape: Shape) -> Option<Subject> {
        match self.alone(key, shape).await {
            Ok(subject) => Some(subject),
            Err(cause) => {
                self.notes().doubt.get_or_insert(cause);
                None
            }
        }
    }
}

/// Where policies have their evidence; nowhere, where none asks for any.
pub(super) fn sources(policies: &[Arc<Policy>]) -> BTreeSet<Option<Arc<EvidenceSource>>> {
    let sources = policies.iter().flat_map(|policy| policy.sources());
    sources.map(Option::<&Arc<_>>::cloned).collect()
}

/// Buildkit lists attestations beside the images, for a platform that does not exist. The mark
/// is a claim: it only says what an index need not have signed. Whoever asks for the manifest
/// behind it has it judged like any other.
fn claims_to_be_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotation(REFERENCE_TYPE) == Some("attestation-manifest")
        && descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown")
}
