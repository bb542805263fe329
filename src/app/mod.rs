//! Puts the rooms together, owns every task, reloads, drains.

mod audit;
mod build;
mod callers;
mod helper;
mod logging;
mod reload;
mod threads;
mod trust;
mod upstreams;

pub use build::{Built, build, checks};
pub use logging::{LogFormat, start_logging};
pub use reload::Reloader;

use std::{io::Write as _, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::admin;
use crate::clock::Clock;
use crate::config;
use crate::server;
use crate::server::Tls;
use crate::verify;

/// How many pairs of hands the reactor has: one per processor, as tokio counts them.
///
/// # Errors
/// When the operating system gives no threads.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    small_pages();
    verify::take_turns();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the reactor could not be started")
}

/// Has memory come in pages of 4 KiB. The allocator asks for huge ones, each of which is 2 MiB that
/// the kernel clears while somebody waits for an answer, and that stay for a few bytes. Where that is
/// refused, it is as the machine is set up.
fn small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a listener cannot be bound, or a signal cannot be listened for. Problems of the
/// configuration were told before.
pub async fn serve(path: PathBuf, loaded: config::Loaded, clock: Clock) -> anyhow::Result<()> {
    let config::Loaded {
        settings, sources, ..
    } = loaded;
    let tasks = TaskTracker::new();
    let shutdown = CancellationToken::new();
    let built = Arc::new(build(&settings, clock.clone(), tasks.clone())?);
    let pulls = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listen: {} cannot be bound", settings.listen))?;
    let operators = TcpListener::bind(settings.admin)
        .await
        .with_context(|| format!("admin: {} cannot be bound", settings.admin))?;
    let (pulls_at, operators_at) = (pulls.local_addr()?, operators.local_addr()?);
    let tls_files = callers::tls_files(&settings);
    let tls = tls_files
        .as_ref()
        .map(|files| Tls::load(files).map(Arc::new))
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
        socket: server::Acceptor::new(pulls)?,
        tls: tls.clone(),
        limits: built.connections,
    };
    tasks.spawn(server::serve(
        listener,
        Arc::clone(&built.service),
        shutdown.clone(),
        tasks.clone(),
    ));
    let users = settings
        .callers
        .as_ref()
        .and_then(|set| set.htpasswd.as_ref());
    let users = users.map(|file| file.path.clone());
    let reloader = Arc::new(Reloader::new(
        path,
        sources,
        Arc::clone(&built),
        clock.clone(),
        tls.zip(tls_files),
        users,
    ));
    tasks.spawn(reload::watch(
        Arc::clone(&reloader),
        settings.limits.watch_interval,
        shutdown.clone(),
    ));
    if let Some(audit) = &settings.audit {
        let kept = audit::keeper(
            audit,
            &built.service,
            operators_end.clone(),
            &operators_tasks,
        )?;
        operators_tasks.spawn(kept);
    }
    built.apply_trust(clock.now());
    tasks.spawn(trust::keep_fresh(
        Arc::clone(&built),
        clock.clone(),
        shutdown.clone(),
    ));
    built.readiness.bound();
    announce(pulls_at, operators_at)?;

    run_until_told(&reloader).await?;

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
async fn run_until_told(reloader: &Reloader) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                reloader.reload().await;
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}
