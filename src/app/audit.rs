//! Keeps the audit log: takes what was decided from its queue, and has it written where it may
//! block.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::audit::Place;
use crate::audit::Queue;
use crate::audit::Queued;
use crate::audit::Trail;
use crate::config;
use crate::server;

/// How long records gather before they are written: so that a pull wakes nobody.
const GATHER: Duration = Duration::from_millis(50);

/// Where the audit log goes, by the configuration.
fn place(settings: &config::AuditSettings) -> Place {
    match settings {
        config::AuditSettings::Stderr => Place::Stderr,
        config::AuditSettings::File {
            path,
            bytes_max,
            files_max,
        } => Place::File {
            path: path.clone(),
            bytes_max: *bytes_max,
            files_max: *files_max,
        },
    }
}

/// Opens the log, and has what is decided from now on put on the way to it.
pub(super) fn keeper(
    settings: &config::AuditSettings,
    service: &server::Service,
    shutdown: CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let place = place(settings);
    let metrics = Arc::clone(&service.metrics);
    let trail = Trail::open(place.clone(), Arc::clone(&metrics))
        .with_context(|| format!("audit: the log cannot be opened: {place:?}"))?;
    let (queue, queued) = Queue::new(metrics);
    service.decisions.log_to(queue);
    Ok(keep(trail, queued, shutdown, tasks.clone()))
}

/// Writes what is decided until `shutdown`, and then what still waits.
async fn keep(
    mut trail: Trail,
    mut queued: Queued,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let records = tokio::select! {
            records = queued.take() => records,
            () = shutdown.cancelled() => queued.take_now(),
        };
        if records.is_empty() {
            return;
        }
        let writing = tasks.spawn_blocking(move || {
            trail.write(&records);
            trail
        });
        // A crash ends the log, and nothing else; what is decided then is counted as dropped.
        let Ok(written) = writing.await else {
            tracing::error!("the audit log crashed, and ends here");
            return;
        };
        trail = written;
        if !shutdown.is_cancelled() {
            tokio::time::sleep(GATHER).await;
        }
    }
}
