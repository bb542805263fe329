//! The gate: the only door between those who pull and what the registry has.
//!
//! [`Gate::manifest`] and [`Gate::blob`] resolve what is asked for to a digest, gather the
//! facts about it, let policy judge them, and give an [`Admitted`] or an [`AdmittedBlob`], or
//! a [`Refusal`]. The two values cannot be made anywhere else, and bytes are had through them
//! only.
//!
//! The gate knows no HTTP: not what a status is, nor how a refusal is worded as one.

mod admission;
mod admit;
mod by_tag;
mod callers;
mod disguise;
mod facts;
mod find;
mod graph;
mod hints;
mod judge;
mod lately;
mod lists;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod outage_tests;
mod permits;
mod reach;
mod refusal;
mod refuse;
mod remember;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod repeat_tests;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod restart_tests;
mod rollback;
mod rule;
mod ruling;
mod searches;
mod survey;
mod table;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod test_world;
mod unreached;

/// What a caller shows to a registry; passed through, and looked at by nobody here.
pub use crate::upstream::{Login, UnusableLogin};
pub use admission::{Admitted, Grounds};
pub use reach::AdmittedBlob;
pub use refusal::{Asked, Denied, Doubt, Missing, Refusal, Refused, Unavailable};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::content::ContentKey;
use crate::content::Document;
use crate::content::Store;
use crate::evidence;
use crate::flight::Flights;
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::oci::Tag;
use crate::places::Places;
use crate::policy::Rules;
use crate::upstream::LoginKey;
use crate::upstream::Upstream;
use crate::verify::Material;

use admission::Admission;
use facts::{FactsEntry, FactsKey, HeldFacts, Lifetimes};
use hints::{Hints, Named};
use lately::Lately;
use permits::Permits;
use reach::Reach;
use refusal::Cause;
use ruling::Ruling;
use searches::Searches;
use table::{Key, Table};
use unreached::Unreached;

/// What the gate is built with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long proven facts are taken as they are.
    pub facts_ttl: Duration,
    /// How long "no evidence found", and a refusal, are taken as they are.
    pub unsigned_ttl: Duration,
    /// How long a tag is taken to name what it named.
    pub tag_ttl: Duration,
    /// How long a tag may go on naming it while its upstream cannot be reached.
    pub stale_ttl: Duration,
    /// How long a registry's yes to a caller's credentials is taken for one repository.
    pub permit_ttl: Duration,
    /// Bounds on the search for evidence.
    pub evidence: evidence::Limits,
    /// How many manifests of an index, and around a manifest, are looked at for one decision.
    pub index_manifests_max: usize,
    /// How deep indexes may lie in one another.
    pub index_depth_max: usize,
    /// How long one decision may take, all that it waits for included.
    pub decision_deadline: Duration,
    /// How many digests one registry is searched for at a time.
    pub searches_max: usize,
    /// How many digests may wait to be searched for, at each registry.
    pub search_queue_max: usize,
    /// Bytes of evidence that are held at once, from when they are read until they are proven.
    pub evidence_in_flight_bytes_max: u64,
    /// How many proofs run at a time.
    pub verification_threads: usize,
    /// How many digests may wait for their proofs.
    pub verification_queue_max: usize,
    /// Bytes of evidence that is served: it is held while it is checked.
    pub evidence_bytes_max: u64,
}

impl Settings {
    fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            facts_ttl: self.facts_ttl,
            unsigned_ttl: self.unsigned_ttl,
        }
    }
}

/// What the gate's own caches hold: bytes where entries differ in size, else entries of some
/// hundred bytes each.
const ADMISSIONS_BYTES_MAX: u64 = 16 << 20;
/// Some 100,000 digests with a signature by a key each.
const PROVEN_BYTES_MAX: usize = 56 << 20;
const UNPROVEN_BYTES_MAX: usize = 4 << 20;
/// Some 40,000 of them.
const TAGS_BYTES_MAX: usize = 8 << 20;
const HINTS_BYTES_MAX: usize = 16 << 20;
const REACHES_MAX: u64 = 50_000;
const DISGUISES_MAX: u64 = 50_000;
/// How many manifests have what they list read at a time, each up to `evidence_bytes_max`.
const DISGUISE_PLACES: usize = 4;

/// How many records of evidence are read and proven at a time, each up to all that one search may find.
const RECALL_PLACES: usize = 4;

/// What is asked for by name: the key of an admission. Registry, repository and reference are
/// members of their own, so no name can run into another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The image.
    pub image: ImageName,
    /// Tag or digest.
    pub reference: Reference,
}

/// What a tag was seen to name.
#[derive(Debug, Clone, Copy)]
struct Resolved {
    digest: Digest,
    at: Instant,
    /// When that was last written to the disk.
    noted_at: Option<Instant>,
    named: Named,
}

/// The name of a tag among what tags named.
fn tag_key(image: &ImageName, tag: &Tag) -> Key {
    Key::of(&[
        image.registry.as_str().as_bytes(),
        image.repository.as_str().as_bytes(),
        tag.as_str().as_bytes(),
    ])
}

/// Whoever asks a registry with credentials of their own has a flight of their own: a refusal is
/// for nobody else.
type TagFlight = (ImageName, Tag, Option<LoginKey>);
/// The manifest, and when the registry was asked.
type TagAnswer = Result<(Arc<Document>, Instant), Arc<crate::upstream::UpstreamError>>;

/// The gate. Cheap to clone. Beside its parts, the upstream as it is asked with the credentials of
/// somebody, in a gate that is [asked by](Gate::asked_by) somebody.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>, Option<Arc<Upstream>>);

struct Inner {
    settings: Settings,
    ruling: ArcSwap<Ruling>,
    /// Held while a new ruling is made from the running one.
    reloading: Mutex<()>,
    upstreams: HashMap<RegistryHost, Upstream>,
    content: Store,
    admissions: Cache<Ask, Arc<Admission>, RandomState>,
    /// The hot ones of them.
    lately: Lately<Admission>,
    reaches: Cache<ContentKey, Arc<Reach>>,
    unreached: Unreached,
    facts: HeldFacts,
    facts_flights: Flights<FactsKey, Result<Arc<FactsEntry>, Cause>>,
    /// Of what was remembered.
    recalls: Flights<FactsKey, ()>,
    recall_places: Semaphore,
    tags: Table<Resolved>,
    tag_flights: Flights<TagFlight, TagAnswer>,
    hints: Hints,
    /// Which manifests that look like evidence are: a question of bytes, and of no policy.
    disguises: Cache<ContentKey, bool>,
    disguise_places: Semaphore,
    permits: Permits,
    searches: Searches,
    proofs: Places,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The parts that a gate is put together from.
#[derive(Debug)]
pub struct Parts {
    /// The registries, by the host that image names carry.
    pub upstreams: Vec<Upstream>,
    /// The store of content.
    pub content: Store,
    /// The policies.
    pub rules: Rules,
    /// What proofs rest on.
    pub material: Material,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// Who searches and proves.
    pub hands: Hands,
}

impl Gate {
    /// A gate with nothing cached.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts) -> Self {
        let Parts {
            upstreams,
            content,
            rules,
            material,
            metrics,
            clock,
            hands,
        } = parts;
        let proofs = Places::new(
            settings.verification_threads,
            settings.verification_queue_max,
            hands.clone(),
        );
        let searches = Searches::new(&settings, upstreams.iter().map(Upstream::host));
        let permits = Permits::new(upstreams.iter(), settings.permit_ttl, hands.clone());
        metrics.policy_in_force(1);
        metrics.trust_in_force(1);
        Self(
            Arc::new(Inner {
                ruling: ArcSwap::from_pointee(Ruling::first(rules, material)),
                reloading: Mutex::new(()),
                upstreams: upstreams
                    .into_iter()
                    .map(|upstream| (upstream.host().clone(), upstream))
                    .collect(),
                admissions: Cache::builder()
                    .max_capacity(ADMISSIONS_BYTES_MAX)
                    .weigher(|_, admission: &Arc<Admission>| admission.weight())
                    .build_with_hasher(RandomState::default()),
                lately: Lately::default(),
                reaches: Cache::new(REACHES_MAX),
                unreached: Unreached::new(settings.unsigned_ttl),
                facts: HeldFacts::new(PROVEN_BYTES_MAX, UNPROVEN_BYTES_MAX),
                facts_flights: Flights::new(hands.clone()),
                recalls: Flights::new(hands.clone()),
                recall_places: Semaphore::new(RECALL_PLACES),
                tags: Table::new(TAGS_BYTES_MAX),
                tag_flights: Flights::new(hands),
                hints: Hints::new(HINTS_BYTES_MAX, content.parents().cloned()),
                content,
                disguises: Cache::new(DISGUISES_MAX),
                disguise_places: Semaphore::new(DISGUISE_PLACES),
                permits,
                searches,
                proofs,
                metrics,
                clock,
                settings,
            }),
            None,
        )
    }

    /// Puts new policies and trust material in force, all at once. Whatever was derived from
    /// the old ones is derived anew when it is next asked for.
    pub fn reload(&self, rules: Rules, material: Material) {
        let _one_at_a_time = self
            .0
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let next = self.0.ruling.load().next(rules, material);
        self.in_force(next);
    }

    /// Puts other trust material in force under the policies that are; true when proofs rest on
    /// something else from now on.
    pub fn retrust(&self, material: Material) -> bool {
        let _one_at_a_time = self
            .0
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(next) = self.0.ruling.load().with_material(material) else {
            return false;
        };
        self.in_force(next);
        true
    }

    fn in_force(&self, ruling: Ruling) {
        self.0.metrics.policy_in_force(ruling.generation);
        self.0.metrics.trust_in_force(ruling.trust_epoch);
        self.0.ruling.store(Arc::new(ruling));
    }

    fn upstream(&self, host: &RegistryHost) -> Option<&Upstream> {
        let asked_by_somebody = self.1.as_deref();
        asked_by_somebody
            .filter(|upstream| upstream.host() == host)
            .or_else(|| self.0.upstreams.get(host))
    }
}
