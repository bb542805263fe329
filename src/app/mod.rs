//! Puts the rooms together, owns every task, reloads, drains.

mod build;
mod helper;
mod logging;
mod upstreams;

pub use build::{Built, build, checks};
pub use logging::{LogFormat, start_logging};

use std::{io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::admin;
use crate::clock::Clock;
use crate::config;
use crate::config::Problem;
use crate::config::TlsFiles;
use crate::server;
use crate::server::Tls;

/// How often the certificate's files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);

/// How many pairs of hands the reactor has: one per processor, as tokio counts them.
///
/// # Errors
/// When the operating system gives no threads.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the reactor could not be started")
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a listener cannot be bound, or a signal cannot be listened for. Problems of the
/// configuration were told before.
pub async fn serve(path: PathBuf, settings: config::Settings, clock: Clock) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let shutdown = CancellationToken::new();
    let built = build(&settings, clock.clone(), tasks.clone())?;
    let pulls = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listen: {} cannot be bound", settings.listen))?;
    let operators = TcpListener::bind(settings.admin)
        .await
        .with_context(|| format!("admin: {} cannot be bound", settings.admin))?;
    let (pulls_at, operators_at) = (pulls.local_addr()?, operators.local_addr()?);
    let tls = settings
        .tls
        .as_ref()
        .map(|files| Tls::load(&files.certificate, &files.key).map(Arc::new))
        .transpose()?;

    let operators_end = CancellationToken::new();
    let admin = Arc::new(admin::Service {
        metrics: Arc::clone(&built.service.metrics),
        decisions: Arc::clone(&built.service.decisions),
        readiness: Arc::clone(&built.readiness),
    });
    let operators_tasks = TaskTracker::new();
    operators_tasks.spawn(admin::serve(
        operators,
        admin,
        operators_end.clone(),
        operators_tasks.clone(),
    ));
    let listener = server::Listener {
        socket: pulls,
        tls: tls.clone(),
        limits: built.connections,
    };
    tasks.spawn(server::serve(
        listener,
        Arc::clone(&built.service),
        shutdown.clone(),
        tasks.clone(),
    ));
    if let (Some(tls), Some(files)) = (tls, settings.tls.clone()) {
        tasks.spawn(watch_certificate(tls, files, shutdown.clone()));
    }
    built.readiness.ready();
    announce(pulls_at, operators_at)?;

    run_until_told(&path, &built, &clock).await?;

    info!("draining");
    built.readiness.draining();
    shutdown.cancel();
    tasks.close();
    if tokio::time::timeout(settings.limits.drain_deadline, tasks.wait())
        .await
        .is_err()
    {
        warn!("pulls were still under way after the drain deadline");
    }
    operators_end.cancel();
    operators_tasks.close();
    operators_tasks.wait().await;
    info!("stopped");
    Ok(())
}

/// The one line on stdout; it may go nowhere, which is no reason not to serve.
fn announce(pulls: std::net::SocketAddr, operators: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "listening on {pulls}, admin on {operators}").is_ok() {
        // As above.
        let _ = stdout.flush();
    }
    info!(%pulls, %operators, version = env!("CARGO_PKG_VERSION"), "serving");
    Ok(())
}

/// Reloads on SIGHUP; returns on SIGTERM and SIGINT.
async fn run_until_told(
    path: &std::path::Path,
    built: &Built,
    clock: &Clock,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(path, built, clock).await,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// Reads the configuration anew: all or nothing. What does not load leaves the running policy
/// as it is.
async fn reload(path: &std::path::Path, built: &Built, clock: &Clock) {
    let (path, now) = (path.to_owned(), clock.now());
    let read = tokio::task::spawn_blocking(move || {
        let loaded = config::load(&path, &checks(), now)?;
        let material = build::material(&loaded.settings);
        Ok((loaded, material))
    });
    let outcome: Result<_, Vec<Problem>> = match read.await {
        Ok(outcome) => outcome,
        Err(error) => {
            error!(%error, "the reload crashed; the running policy stays");
            built.service.metrics.policy_reloaded(false);
            return;
        }
    };
    match outcome {
        Ok((loaded, Ok(material))) => {
            for warning in &loaded.warnings {
                warn!("{warning}");
            }
            if built.needs_restart(&loaded.settings) {
                warn!(
                    "listeners, upstreams, caches or limits have changed: they are used from the \
                     next start on; policies and trust roots are in force now"
                );
            }
            build::count_roots(&built.service.metrics, &material);
            let policies = loaded.settings.rules.policies.len();
            built.service.gate.reload(loaded.settings.rules, material);
            built.service.metrics.policy_reloaded(true);
            info!(policies, "the configuration was reloaded");
        }
        Ok((_, Err(error))) => {
            error!(%error, "the reload failed; the running policy stays");
            built.service.metrics.policy_reloaded(false);
        }
        Err(problems) => {
            for problem in &problems {
                error!("{problem}");
            }
            error!(
                problems = problems.len(),
                "the reload failed; the running policy stays"
            );
            built.service.metrics.policy_reloaded(false);
        }
    }
}

/// Takes a new certificate into use when its files change.
async fn watch_certificate(tls: Arc<Tls>, files: TlsFiles, shutdown: CancellationToken) {
    let changed = |files: &TlsFiles| {
        let at = |path: &std::path::Path| {
            std::fs::metadata(path)
                .and_then(|data| data.modified())
                .ok()
        };
        (at(&files.certificate), at(&files.key))
    };
    let mut known = changed(&files);
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        let now = changed(&files);
        if now == known {
            continue;
        }
        match tls.reload(&files.certificate, &files.key) {
            Ok(()) => {
                info!("the new certificate is in use");
                known = now;
            }
            // A certificate and its key are seldom exchanged at the same moment.
            Err(error) => warn!(%error, "the new certificate is not usable yet; the old one stays"),
        }
    }
}
