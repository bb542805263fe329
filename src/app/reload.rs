//! Takes up what has changed in the configuration: on SIGHUP, and when a file that it was read
//! from holds something else.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::app::build::{Built, checks};
use crate::app::callers;
use crate::app::trust::Roots;
use crate::clock::Clock;
use crate::config;
use crate::config::Problem;
use crate::config::Sources;
use crate::server::Tls;
use crate::server::TlsFiles;

/// How long the files have to stay as they are before they are read: who edits several is not
/// done with the first.
const SETTLE: Duration = Duration::from_millis(500);
/// How often that is waited for. A file that never rests is read all the same.
const SETTLES_MAX: usize = 10;

/// Reads the configuration anew, one reading at a time.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    built: Arc<Built>,
    clock: Clock,
    tls: Option<(Arc<Tls>, TlsFiles)>,
    /// The file of users, where callers log in with passwords.
    users: Option<PathBuf>,
    /// What was read last, be it good or not.
    sources: Mutex<Sources>,
}

/// What a reading came to.
type Read = (Sources, Result<(config::Loaded, Roots), Failure>);

enum Failure {
    Problems(Vec<Problem>),
    Other(anyhow::Error),
}

impl Reloader {
    /// For the configuration at `path`, from whose `sources` `built` was built.
    #[must_use]
    pub fn new(
        path: PathBuf,
        sources: Sources,
        built: Arc<Built>,
        clock: Clock,
        tls: Option<(Arc<Tls>, TlsFiles)>,
        users: Option<PathBuf>,
    ) -> Self {
        Self {
            path,
            built,
            clock,
            tls,
            users,
            sources: Mutex::new(sources),
        }
    }

    /// Reads everything anew, all or nothing: what does not load leaves the running policy as it
    /// is. True when it is in force: whoever asks from now on is judged by it.
    pub async fn reload(&self) -> bool {
        let mut sources = self.sources.lock().await;
        let success = self.read_into(&mut sources).await;
        self.built.service.metrics.policy_reloaded(success);
        success
    }

    /// Reloads when a file holds something else than when it was read last.
    pub async fn reload_if_changed(&self) {
        let known = self.sources.lock().await.clone();
        if self.look().await.is_none_or(|found| found == known) {
            return;
        }
        for _ in 0..SETTLES_MAX {
            let before = self.look().await;
            tokio::time::sleep(SETTLE).await;
            if self.look().await == before {
                break;
            }
        }
        info!("a file of the configuration has changed");
        self.reload().await;
    }

    async fn look(&self) -> Option<Sources> {
        let known = self.sources.lock().await.clone();
        tokio::task::spawn_blocking(move || known.look_again())
            .await
            .ok()
    }

    async fn read_into(&self, sources: &mut Sources) -> bool {
        self.reload_certificate();
        let (path, now) = (self.path.clone(), self.clock.now());
        let (built, users) = (Arc::clone(&self.built), self.users.clone());
        let read = tokio::task::spawn_blocking(move || -> Read {
            // Whatever becomes of the rest: somebody may have to go.
            if let (Some(callers), Some(file)) = (&built.service.callers, users) {
                callers::read_users(&callers.authn, &file);
            }
            let (sources, loaded) = config::load_watched(&path, &checks(), now);
            let ready = loaded.map_err(Failure::Problems).and_then(|loaded| {
                let roots = built.open_roots(&loaded.settings, now);
                roots.map(|roots| (loaded, roots)).map_err(Failure::Other)
            });
            (sources, ready)
        });
        let ready = match read.await {
            Ok((read, ready)) => {
                *sources = read;
                ready
            }
            Err(error) => Err(Failure::Other(error.into())),
        };
        match ready {
            Ok((loaded, roots)) => {
                self.put_in_force(loaded, roots);
                true
            }
            Err(failure) => {
                tell(&failure);
                false
            }
        }
    }

    fn put_in_force(&self, loaded: config::Loaded, roots: Roots) {
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        if self.built.needs_restart(&loaded.settings) {
            warn!(
                "listeners, upstreams, caches, the audit log or limits have changed: they are used from the \
                 next start on; policies and trust roots are in force now"
            );
        }
        let policies = loaded.settings.rules.policies.len();
        let now = self.clock.now();
        callers::reload(&self.built.service.callers, &loaded.settings);
        self.built.put_in_force(loaded.settings, roots, now);
        info!(policies, "the configuration was reloaded");
    }

    /// Takes the certificate of the pull listener anew, whatever becomes of the rest.
    fn reload_certificate(&self) {
        let Some((tls, files)) = &self.tls else {
            return;
        };
        // A certificate and its key are seldom exchanged at the same moment; the next change
        // leads here again.
        if let Err(error) = tls.reload(files) {
            warn!(%error, "the certificate is not usable; the one in use stays");
        }
    }
}

fn tell(failure: &Failure) {
    let problems = match failure {
        Failure::Problems(problems) => problems.as_slice(),
        Failure::Other(error) => {
            error!("the reload failed; the running policy stays: {error:#}");
            return;
        }
    };
    for problem in problems {
        error!("{problem}");
    }
    error!(
        problems = problems.len(),
        "the reload failed; the running policy stays"
    );
}

/// Looks at the files every `interval`, until `shutdown`.
pub(super) async fn watch(
    reloader: Arc<Reloader>,
    interval: Duration,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = reloader.reload_if_changed() => {}
            () = shutdown.cancelled() => return,
        }
    }
}
