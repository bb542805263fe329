//! The world that the tests share: started by the first test that asks, once per process.

pub(crate) mod catalogue;
pub(crate) mod cosign;
mod ct_log;
pub(crate) mod front;
pub(crate) mod gate;
pub(crate) mod image;
mod issuer;
pub(crate) mod office;
mod pki;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod proxy;
pub(crate) mod registry;
mod rekor_v1;
mod sigstore;
pub(crate) mod web;

use std::sync::OnceLock;

use tokio::runtime::Runtime;

use crate::harness::catalogue::Catalogue;
use crate::harness::cosign::Cosign;
use crate::harness::front::Front;
use crate::harness::gate::Gate;
use crate::harness::process::Undertaker;
use crate::harness::registry::Registry;
use crate::harness::sigstore::Sigstore;

/// Everything that runs, in the order in which it was started.
pub(crate) struct World {
    /// Runs the small servers of the harness itself.
    pub(crate) runtime: Runtime,
    /// The signing tool, pointed at the private Sigstore.
    pub(crate) cosign: Cosign,
    /// One site per registry.
    pub(crate) sites: Vec<Site>,
    /// Keeps the log, the authority and the rest alive.
    _sigstore: Sigstore,
    /// Ends all of it with the process.
    pub(crate) undertaker: Undertaker,
}

/// A registry with its images, and the gate before it.
pub(crate) struct Site {
    /// Which registry program it is.
    pub(crate) name: &'static str,
    /// What a client that is not sealed would talk to; it sees every request.
    pub(crate) front: Front,
    /// The images that were pushed and what ought to become of them.
    pub(crate) catalogue: Catalogue,
    /// `pullgate serve`.
    pub(crate) gate: Gate,
    _registry: Registry,
}

/// The shared world. Panics with the reason when a part is missing or does not start.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::start)
}

impl World {
    fn start() -> Self {
        let undertaker = Undertaker::call();
        let runtime = Runtime::new().expect("a tokio runtime");
        let sigstore = Sigstore::start(&runtime, &undertaker);
        let cosign = Cosign::new(&sigstore, &undertaker);
        let registries = [
            Registry::distribution(&undertaker),
            Registry::ferro(&undertaker),
        ];
        let sites = registries
            .into_iter()
            .map(|registry| {
                let front = Front::before(registry.address(), &runtime);
                let catalogue = Catalogue::publish(&front, &cosign, &undertaker);
                let gate = Gate::start(&front, &cosign, &undertaker);
                Site {
                    name: registry.name(),
                    front,
                    catalogue,
                    gate,
                    _registry: registry,
                }
            })
            .collect();
        Self {
            runtime,
            cosign,
            sites,
            _sigstore: sigstore,
            undertaker,
        }
    }
}
