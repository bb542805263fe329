//! From settings to rooms.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio_util::task::TaskTracker;

use crate::admin::Readiness;
use crate::audit::Decisions;
use crate::clock::Clock;
use crate::config;
use crate::config::Checks;
use crate::config::LookasideSettings;
use crate::config::RootSource;
use crate::config::SigstoreInstance;
use crate::config::UpstreamCredentials;
use crate::config::UpstreamSettings;
use crate::content;
use crate::content::Store;
use crate::evidence;
use crate::gate;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::server;
use crate::server::Router;
use crate::trust;
use crate::trust::BuiltIn;
use crate::upstream;
use crate::upstream::Upstream;
use crate::verify;
use crate::verify::Material;
use crate::verify::RootName;
use crate::verify::TrustRoot;
use crate::verify::TrustRootError;

/// How many decisions `/decisions` can list.
const DECISIONS_KEPT: usize = 10_000;
/// Blobs up to this size are held in memory.
const MEMORY_BLOB_BYTES_MAX: u64 = 1 << 20;

/// The rooms, put together.
#[derive(Debug)]
pub struct Built {
    /// What pulls are answered with.
    pub service: Arc<server::Service>,
    /// Whether they can be.
    pub readiness: Arc<Readiness>,
    /// Bounds on connections.
    pub connections: server::Limits,
    settings: config::Settings,
}

impl Built {
    /// True when something changed that a reload does not take up.
    #[must_use]
    pub fn needs_restart(&self, settings: &config::Settings) -> bool {
        let running = &self.settings;
        running.listen != settings.listen
            || running.admin != settings.admin
            || running.tls != settings.tls
            || running.upstreams != settings.upstreams
            || running.default_upstream != settings.default_upstream
            || running.cache != settings.cache
            || running.limits != settings.limits
    }
}

/// The checks that only rooms below can make, for reading a configuration.
#[must_use]
pub fn checks() -> Checks {
    Checks {
        key: verify::check_key,
        gpg: verify::read_keyring,
        root: |json| {
            let root = TrustRoot::from_json(RootName::from("checked"), json);
            root.map(|_| ()).map_err(|error| error.to_string())
        },
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
    let material = material(settings)?;
    count_roots(&metrics, &material);
    let upstreams = settings
        .upstreams
        .iter()
        .map(|upstream| build_upstream(upstream, settings, &clock, &metrics))
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
    };
    let content = Store::open(&content, Arc::clone(&metrics), clock.clone(), tasks.clone())?;
    let parts = gate::Parts {
        upstreams,
        content,
        rules: settings.rules.clone(),
        material,
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        tasks,
    };
    let gate = Gate::new(gate_settings(settings), parts);
    let seed = decision_seed(&clock);
    let service = server::Service {
        gate,
        router,
        decisions: Arc::new(Decisions::new(DECISIONS_KEPT, seed)),
        metrics,
        clock,
    };
    Ok(Built {
        service: Arc::new(service),
        readiness: Arc::default(),
        connections: server::Limits {
            connections_max: settings.limits.connections_max,
            header_read_timeout: settings.limits.header_read_timeout,
            header_bytes_max: usize::try_from(settings.limits.header_bytes_max)
                .unwrap_or(usize::MAX),
        },
        settings: settings.clone(),
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
pub(super) fn material(settings: &config::Settings) -> Result<Material, TrustRootError> {
    let named = settings.rules.roots();
    let roots = settings
        .trust_roots
        .iter()
        .filter(|root| named.contains(&root.name))
        .map(|root| match &root.source {
            RootSource::File { json, .. } => trust::from_json(root.name.clone(), json),
            RootSource::Sigstore(instance) => trust::built_in(
                root.name.clone(),
                match instance {
                    SigstoreInstance::PublicGood => BuiltIn::PublicGood,
                    SigstoreInstance::Staging => BuiltIn::Staging,
                    SigstoreInstance::Github => BuiltIn::GitHub,
                },
            ),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Material {
        roots,
        keys: settings.rules.keys(),
        gpg_keys: settings.rules.gpg_keys(),
        // Policy has no conditions on attestations.
        predicates: BTreeSet::new(),
    })
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
        verification_threads: std::thread::available_parallelism().map_or(1, usize::from),
        verification_queue_max: limits.verification_queue_max,
        evidence_bytes_max: limits.attestation_bytes_max,
    }
}

fn build_upstream(
    from: &UpstreamSettings,
    settings: &config::Settings,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Upstream> {
    let context = || format!("upstreams.{}", from.host);
    let extra_roots = CertificateDer::pem_slice_iter(&from.ca)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(context)?;
    let redirects = match &from.redirects {
        None => upstream::Redirects::PublicAddresses,
        Some(hosts) => upstream::Redirects::Listed(
            hosts
                .iter()
                .map(|host| host.parse())
                .collect::<Result<Vec<_>, _>>()
                .with_context(context)?,
        ),
    };
    let limits = &settings.limits;
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let counted = Arc::clone(metrics);
    let lowered = upstream::Settings {
        url: from.url.parse().with_context(context)?,
        library_prefix: from.library_prefix,
        extra_roots,
        redirects,
        lookaside: match &from.lookaside {
            None => None,
            Some(LookasideSettings::Folder(folder)) => {
                Some(upstream::Lookaside::Folder(folder.clone()))
            }
            Some(LookasideSettings::Web(url)) => {
                Some(upstream::Lookaside::Web(url.parse().with_context(context)?))
            }
        },
        credentials: match &from.credentials {
            UpstreamCredentials::Anonymous => upstream::Credentials::Anonymous,
            UpstreamCredentials::Basic { username, password } => upstream::Credentials::Basic {
                username: username.clone(),
                password: upstream::Secret::new(password.expose()),
            },
        },
        limits: upstream::Limits {
            manifest_bytes_max: bytes(limits.manifest_bytes_max),
            connections_max: limits.upstream_connections_max,
            blob_streams_max: limits.upstream_connections_max,
            connect_timeout: limits.connect_timeout,
            answer_timeout: limits.answer_timeout,
            body_idle_timeout: limits.idle_timeout,
            manifest_deadline: limits.manifest_deadline.max(Duration::from_secs(1)),
            ..upstream::Limits::default()
        },
        clock: clock.clone(),
        on_request: Some(Arc::new(move |host, status| {
            counted.upstream_requested(host.as_str(), status);
        })),
        ..upstream::Settings::known(from.host.clone())
    };
    Upstream::new(lowered).with_context(context)
}
