//! Keeps trust roots fresh: asks their mirrors in the background, and puts in force what has
//! changed, what has become too old, and what is back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::join_all;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::build;
use crate::app::build::Built;
use crate::clock::Clock;
use crate::config;
use crate::config::LastGood;
use crate::config::RootSource;
use crate::config::TrustRootSource;
use crate::metrics::RefreshOutcome;
use crate::metrics::TrustRootStanding;
use crate::oci::Digest;
use crate::trust;
use crate::trust::Kept;
use crate::trust::KeptSettings;
use crate::trust::KeptTimes;
use crate::trust::WalkError;
use crate::upstream;
use crate::upstream::Upstream;
use crate::verify::Material;
use crate::verify::MissingRoot;

/// How often it is looked whether a mirror is due and whether a root has become too old.
const GLANCE: Duration = Duration::from_secs(1);

/// What of the settings a reload does not change.
#[derive(Debug)]
pub(super) struct Origin {
    last_good: LastGood,
    proxy: Option<Arc<upstream::Proxy>>,
    times: KeptTimes,
    limits: upstream::Limits,
}

impl Origin {
    pub(super) fn of(settings: &config::Settings, proxy: Option<Arc<upstream::Proxy>>) -> Self {
        let limits = &settings.limits;
        Self {
            last_good: settings.last_good.clone(),
            proxy,
            times: KeptTimes {
                interval: limits.trust_root_refresh_interval,
                deadline: limits.trust_root_refresh_deadline,
                stale_max: limits.trust_root_stale_max,
            },
            limits: upstream::Limits {
                connect_timeout: limits.connect_timeout,
                answer_timeout: limits.answer_timeout,
                body_idle_timeout: limits.idle_timeout,
                manifest_deadline: limits.manifest_deadline,
                ..upstream::Limits::default()
            },
        }
    }
}

/// The trust roots of one configuration.
#[derive(Debug)]
pub(super) struct Roots {
    /// What no mirror changes: keys, and the roots of files.
    fixed: Material,
    kept: Vec<(TrustRootSource, Arc<Kept>)>,
}

impl Roots {
    /// Takes up what is on disk or built in. Those of `previous` that are the same go on.
    pub(super) fn open(
        settings: &config::Settings,
        fixed: Material,
        origin: &Origin,
        previous: Option<&Self>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let named = settings.rules.roots();
        let mut kept = Vec::new();
        for root in &settings.trust_roots {
            if !named.contains(&root.name) {
                continue;
            }
            let known = previous.and_then(|previous| previous.same(root));
            let opened = match known {
                Some(known) => Some(known),
                None => kept_settings(root, origin)
                    .with_context(|| format!("trust_roots.{}", root.name))?
                    .map(|settings| Arc::new(Kept::open(settings, now))),
            };
            kept.extend(opened.map(|opened| (root.clone(), opened)));
        }
        Ok(Self { fixed, kept })
    }

    fn same(&self, root: &TrustRootSource) -> Option<Arc<Kept>> {
        let found = self.kept.iter().find(|(source, _)| source == root);
        found.map(|(_, kept)| Arc::clone(kept))
    }

    /// What proofs rest on at `now`.
    pub(super) fn material(&self, now: Timestamp) -> Material {
        let mut material = self.fixed.clone();
        for (_, kept) in &self.kept {
            match kept.standing(now).root {
                Ok(root) => material.roots.push(root),
                Err(why) => material.missing.push(MissingRoot {
                    name: kept.name().clone(),
                    why,
                }),
            }
        }
        material
    }
}

/// `None` for a root that no mirror keeps fresh.
fn kept_settings(root: &TrustRootSource, origin: &Origin) -> anyhow::Result<Option<KeptSettings>> {
    let (mirror, ca, pinned, built_in) = match &root.source {
        RootSource::File { .. }
        | RootSource::Logs { .. }
        | RootSource::Sigstore { refresh: false, .. } => return Ok(None),
        RootSource::Sigstore { instance, .. } => {
            let built_in = build::built_in(*instance);
            let pinned = trust::pinned(built_in);
            (built_in.mirror(), [].as_slice(), pinned, Some(built_in))
        }
        RootSource::Tuf(tuf) => (
            tuf.mirror.as_str(),
            tuf.ca.as_slice(),
            tuf.root.as_slice().into(),
            None,
        ),
    };
    let url: upstream::BaseUrl = mirror.parse()?;
    let extra_roots = CertificateDer::pem_slice_iter(ca)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let client = upstream::Settings {
        url: url.clone(),
        extra_roots,
        limits: origin.limits.clone(),
        proxy: origin.proxy.clone(),
        ..upstream::Settings::known(url.host()?)
    };
    // Names may hold what file names may not. The same name at another mirror is another root.
    let key = Digest::sha256(format!("{}\0{mirror}", root.name).as_bytes());
    let file = key.to_string().replacen(':', "-", 1);
    let directory = origin.last_good.directory.as_ref();
    Ok(Some(KeptSettings {
        name: root.name.clone(),
        mirror: Upstream::new(client)?,
        pinned,
        built_in,
        file: directory.map(|directory| directory.join(format!("{file}.json"))),
        writes: !origin.last_good.read_only,
        unsafe_keep_stale: root.unsafe_keep_stale,
        times: origin.times,
    }))
}

/// The trust roots in use.
#[derive(Debug)]
pub struct Trust {
    /// Held while something is put in force, so that a reload and a refresh do not cross.
    roots: Mutex<Arc<Roots>>,
    origin: Origin,
    /// Told when a reload has brought other roots.
    changed: Notify,
}

impl Trust {
    pub(super) fn new(roots: Roots, origin: Origin) -> Self {
        Self {
            roots: Mutex::new(Arc::new(roots)),
            origin,
            changed: Notify::new(),
        }
    }

    fn roots(&self) -> MutexGuard<'_, Arc<Roots>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Built {
    /// The trust roots of another configuration, ready to be put in force.
    pub(super) fn open_roots(
        &self,
        settings: &config::Settings,
        now: Timestamp,
    ) -> anyhow::Result<Roots> {
        let fixed = build::material(settings)?;
        let previous = Arc::clone(&self.trust.roots());
        let origin = &self.trust.origin;
        Roots::open(settings, fixed, origin, Some(&previous), now)
    }

    /// Puts policies and trust roots in force, all at once.
    pub(super) fn put_in_force(&self, settings: config::Settings, roots: Roots, now: Timestamp) {
        let mut running = self.trust.roots();
        let material = roots.material(now);
        build::count_roots(&self.service.metrics, &material);
        let unsafe_signers = settings.rules.unsafe_signers();
        self.service.metrics.unsafe_signers(unsafe_signers);
        self.service.gate.reload(settings.rules, material);
        *running = Arc::new(roots);
        self.count_standings(&running, now);
        self.trust.changed.notify_one();
    }

    /// Puts the trust roots in force as they stand at `now`. Readiness begins when each of them
    /// has been there once.
    pub fn apply_trust(&self, now: Timestamp) {
        let roots = self.trust.roots();
        let material = roots.material(now);
        for missing in &material.missing {
            tracing::debug!(root = %missing.name, why = missing.why, "a trust root is not there");
        }
        if material.missing.is_empty() {
            self.readiness.trusted();
        }
        build::count_roots(&self.service.metrics, &material);
        let missing = material.missing.clone();
        if self.service.gate.retrust(material) {
            info!("other trust roots are in force");
            for MissingRoot { name, why } in missing {
                warn!(root = %name, why, "a trust root is not there; what rests on it is not served");
            }
        }
        self.count_standings(&roots, now);
    }

    /// Asks the mirrors that are due, and puts in force what came of it.
    pub async fn refresh_trust(&self, clock: &Clock) {
        let (roots, now) = (Arc::clone(&self.trust.roots()), clock.now());
        let due = roots.kept.iter().filter(|(_, kept)| kept.is_due(now));
        join_all(due.map(|(_, kept)| self.refresh(kept, now))).await;
        self.apply_trust(clock.now());
    }

    async fn refresh(&self, kept: &Kept, now: Timestamp) {
        let outcome = match kept.refresh(now).await {
            Ok(()) => RefreshOutcome::Success,
            Err(error) => {
                warn!(root = %kept.name(), %error, "a trust root could not be refreshed");
                match error {
                    WalkError::Unreachable(_) => RefreshOutcome::Unreachable,
                    WalkError::Refused(_) => RefreshOutcome::Refused,
                }
            }
        };
        let metrics = &self.service.metrics;
        metrics.trust_root_refreshed(kept.name().as_str(), outcome);
    }

    fn count_standings(&self, roots: &Roots, now: Timestamp) {
        let standings = roots.kept.iter().map(|(_, kept)| {
            let standing = kept.standing(now);
            TrustRootStanding {
                root: kept.name().to_string(),
                confirmed_at: standing.confirmed_at.map(Timestamp::as_second),
                usable_until: standing.usable_until.map(Timestamp::as_second),
                usable: standing.root.is_ok(),
            }
        });
        self.service.metrics.trust_roots_stand(standings);
    }
}

/// Keeps them fresh until `shutdown`. A mirror that hangs holds up no root that becomes too old.
pub(super) async fn keep_fresh(built: Arc<Built>, clock: Clock, shutdown: CancellationToken) {
    let refresh = async {
        loop {
            built.refresh_trust(&clock).await;
            tokio::select! {
                () = tokio::time::sleep(GLANCE) => {}
                () = built.trust.changed.notified() => {}
            }
        }
    };
    let apply = async {
        loop {
            tokio::time::sleep(GLANCE).await;
            built.apply_trust(clock.now());
        }
    };
    tokio::select! {
        () = refresh => {}
        () = apply => {}
        () = shutdown.cancelled() => {}
    }
}
