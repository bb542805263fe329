//! From settings to rooms.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::task::TaskTracker;

use crate::admin::Readiness;
use crate::app::callers;
use crate::app::threads::Threads;
use crate::app::trust::Origin;
use crate::app::trust::Roots;
use crate::app::trust::Trust;
use crate::app::upstreams;
use crate::audit::Decisions;
use crate::clock::Clock;
use crate::config;
use crate::config::Checks;
use crate::config::RootSource;
use crate::config::SigstoreInstance;
use crate::content;
use crate::content::Store;
use crate::evidence;
use crate::gate;
use crate::gate::Gate;
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::server;
use crate::server::Router;
use crate::trust;
use crate::trust::BuiltIn;
use crate::verify;
use crate::verify::Material;
use crate::verify::RootName;
use crate::verify::TrustRoot;
use crate::verify::TrustRootError;

/// How many decisions `/decisions` can list.
const DECISIONS_KEPT: usize = 10_000;
/// Blobs up to this size are held in memory.
const MEMORY_BLOB_BYTES_MAX: u64 = 1 << 20;

/// The rooms, put together. The threads that prove end with it, so whoever serves keeps it.
#[derive(Debug)]
pub struct Built {
    /// What pulls are answered with.
    pub service: Arc<server::Service>,
    /// Whether they can be.
    pub readiness: Arc<Readiness>,
    /// Bounds on connections.
    pub connections: server::Limits,
    /// What keeps trust roots fresh.
    pub trust: Trust,
    settings: config::Settings,
    _threads: Threads,
}

impl Built {
    /// True when something changed that a reload does not take up.
    #[must_use]
    pub fn needs_restart(&self, settings: &config::Settings) -> bool {
        let running = &self.settings;
        running.listen != settings.listen
            || running.admin != settings.admin
            || running.tls != settings.tls
            || callers::differ(&running.callers, &settings.callers)
            || running.upstreams != settings.upstreams
            || running.default_upstream != settings.default_upstream
            || running.cache != settings.cache
            || running.audit != settings.audit
            || running.limits != settings.limits
    }
}

/// The checks that only rooms below can make, for reading a configuration.
#[must_use]
pub fn checks() -> Checks {
    Checks {
        key: verify::check_key,
        authority: verify::Authority::read,
        gpg: verify::read_keyring,
        directory: |path| content::check_directory(path).map_err(|error| error.to_string()),
        root: |json| {
            let root = TrustRoot::from_json(RootName::from("checked"), json);
            root.map(|_| ()).map_err(|error| error.to_string())
        },
        tuf_root: trust::check_root,
    }
}

/// Puts the rooms together. Nothing is asked of any network yet.
///
/// # Errors
/// When an upstream's certificate authority or a trust root cannot be used.
pub fn build(
    settings: &config::Settings,
    clock: Clock,
    tasks: TaskTracker,
) -> anyhow::Result<Built> {
    let metrics = Arc::new(Metrics::new().context("metrics")?);
    let proxy = upstreams::proxy()?;
    let origin = Origin::of(settings, proxy.clone());
    let roots = Roots::open(settings, material(settings)?, &origin, None, clock.now())?;
    let material = roots.material(clock.now());
    count_roots(&metrics, &material);
    metrics.unsafe_signers(settings.rules.unsafe_signers());
    let upstreams = settings
        .upstreams
        .iter()
        .map(|upstream| upstreams::build(upstream, settings, proxy.as_ref(), &clock, &metrics))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let router = Router::new(
        settings
            .upstreams
            .iter()
            .map(|upstream| (upstream.host.clone(), upstream.library_prefix)),
        settings.default_upstream.clone(),
    );
    let content = content::Settings {
        memory_bytes_max: settings.cache.memory_bytes_max,
        memory_blob_bytes_max: MEMORY_BLOB_BYTES_MAX,
        directory: settings.cache.directory.clone(),
        disk_bytes_max: settings.cache.disk_bytes_max,
        served_tags_max: settings.limits.served_tags_max,
    };
    let threads = Threads::start()?;
    let hands = Hands::new(tasks, threads.handle());
    let content = Store::open(&content, Arc::clone(&metrics), clock.clone(), hands.clone())?;
    let parts = gate::Parts {
        upstreams,
        content,
        rules: settings.rules.clone(),
        material,
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        hands,
    };
    let callers = callers::build(settings, &parts)?;
    let gate = Gate::new(gate_settings(settings), parts);
    let seed = decision_seed(&clock);
    let service = server::Service {
        gate,
        router,
        decisions: Arc::new(Decisions::new(DECISIONS_KEPT, seed)),
        metrics,
        clock,
        callers,
    };
    Ok(Built {
        service: Arc::new(service),
        readiness: Arc::default(),
        connections: server::Limits {
            connections_max: settings.limits.connections_max,
            header_read_timeout: settings.limits.header_read_timeout,
            slow_reader_timeout: settings.limits.slow_reader_timeout,
            header_bytes_max: usize::try_from(settings.limits.header_bytes_max)
                .unwrap_or(usize::MAX),
        },
        settings: settings.clone(),
        _threads: threads,
        trust: Trust::new(roots, origin),
    })
}

/// Sets this run's decision ids apart from those of others: the time and the process.
fn decision_seed(clock: &Clock) -> u32 {
    let time = clock.now().as_nanosecond().to_le_bytes();
    let digest =
        crate::oci::Digest::sha256(&[&time[..], &std::process::id().to_le_bytes()].concat());
    digest
        .as_bytes()
        .iter()
        .take(4)
        .fold(0, |seed, byte| seed << 8 | u32::from(*byte))
}

/// What proofs rest on under these settings: the keys and trust roots that policies name.
/// Those that a mirror keeps fresh are not among them (see `app/trust.rs`).
pub(super) fn material(settings: &config::Settings) -> Result<Material, TrustRootError> {
    let named = settings.rules.roots();
    let roots = settings
        .trust_roots
        .iter()
        .filter(|root| named.contains(&root.name))
        .filter_map(|root| match &root.source {
            RootSource::File { json, .. } | RootSource::Logs { json, .. } => {
                Some(trust::from_json(root.name.clone(), json))
            }
            RootSource::Sigstore {
                instance,
                refresh: false,
            } => Some(trust::built_in(root.name.clone(), built_in(*instance))),
            RootSource::Sigstore { refresh: true, .. } | RootSource::Tuf(_) => None,
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Material {
        roots,
        keys: settings.rules.keys(),
        missing: Vec::new(),
        demands: settings.rules.lenience(),
        authorities: settings.rules.authorities(),
        gpg_keys: settings.rules.gpg_keys(),
        predicates: settings.rules.predicates(),
    })
}

pub(super) fn built_in(instance: SigstoreInstance) -> BuiltIn {
    match instance {
        SigstoreInstance::PublicGood => BuiltIn::PublicGood,
        SigstoreInstance::Staging => BuiltIn::Staging,
        SigstoreInstance::Github => BuiltIn::GitHub,
    }
}

pub(super) fn count_roots(metrics: &Metrics, material: &Material) {
    metrics.trust_roots(
        material
            .roots
            .iter()
            .filter_map(|root| Some((root.name.to_string(), root.expires_at?.as_second()))),
    );
}

fn gate_settings(settings: &config::Settings) -> gate::Settings {
    let config::Settings { cache, limits, .. } = settings;
    gate::Settings {
        facts_ttl: cache.facts_ttl,
        unsigned_ttl: cache.unsigned_ttl,
        permit_ttl: cache.permit_ttl,
        tag_ttl: cache.tag_ttl,
        stale_ttl: cache.stale_ttl,
        evidence: evidence::Limits {
            artifacts_max: limits.evidence_artifacts_max,
            bundle_bytes_max: limits.bundle_bytes_max,
            payload_bytes_max: limits.signature_payload_bytes_max,
            attestation_bytes_max: limits.attestation_bytes_max,
            deadline: limits.evidence_deadline,
        },
        index_manifests_max: limits.index_manifests_max,
        index_depth_max: limits.index_depth_max,
        decision_deadline: limits.decision_deadline,
        searches_max: limits.evidence_searches_max,
        search_queue_max: limits.evidence_queue_max,
        evidence_in_flight_bytes_max: limits.evidence_in_flight_bytes_max,
        verification_threads: std::thread::available_parallelism().map_or(1, usize::from),
        verification_queue_max: limits.verification_queue_max,
        evidence_bytes_max: limits.attestation_bytes_max,
    }
}
