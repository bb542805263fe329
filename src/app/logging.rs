//! Logs: to stderr, as text for people or JSON for machines.

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging, filtered by `PULLGATE_LOG` (as the `tracing` crates filter; default `info`).
///
/// # Errors
/// When the filter does not parse.
pub fn start_logging(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("PULLGATE_LOG") {
        Ok(filter) => EnvFilter::try_new(&filter)
            .map_err(|error| anyhow::anyhow!("PULLGATE_LOG={filter:?}: {error}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // Logging that is already started (by a test) is good enough.
    let _ = match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(())
}
