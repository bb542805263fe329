//! The pull listener: HTTP in, HTTP out.
//!
//! A request becomes a `Route`, the gate is asked, and its answer becomes a
//! response. This room knows no Sigstore and no policy; what it serves it has from an
//! `Admitted`, and every refusal becomes a status in one place, `respond`.

mod alarm;
mod answer;
mod callers;
mod connection;
mod familiar;
#[cfg(test)]
mod property_tests;
mod range;
mod readers;
mod respond;
mod route;
mod socket;
mod stalled;
mod tls;

pub use callers::Callers;
pub use connection::{Limits, Listener, serve};
pub use route::Router;
pub use socket::Acceptor;
pub use tls::{ClientFiles, Tls, TlsError, TlsFiles};

use std::sync::Arc;

use crate::audit::Decisions;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::metrics::Metrics;

/// What a request is answered with.
#[derive(Debug)]
pub struct Service {
    /// The gate.
    pub gate: Gate,
    /// How names are found in requests.
    pub router: Router,
    /// The record of decisions.
    pub decisions: Arc<Decisions>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// The time, for the record.
    pub clock: Clock,
    /// How callers are asked who they are; where nobody is, whoever reaches the port pulls.
    pub callers: Option<Callers>,
}
