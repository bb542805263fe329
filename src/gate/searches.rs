//! Searches for evidence: so many of one registry at a time, and so many bytes of evidence in
//! all, until they are proven. What is more waits in line, before its own time begins to count; so
//! a storm of first pulls is spread over time instead of running into its own deadlines.

use std::collections::HashMap;

use tokio::sync::OwnedSemaphorePermit;

use crate::evidence::Budget;
use crate::evidence::Share;
use crate::gate::Settings;
use crate::oci::RegistryHost;
use crate::places::NotDone;
use crate::places::Queue;
use crate::upstream::Upstream;

/// The places that searches have, and the bytes that they share.
#[derive(Debug)]
pub(super) struct Searches {
    /// Each registry has its own, so that one which is slow holds up nobody else's.
    places: HashMap<RegistryHost, Queue>,
    bytes: Budget,
}

/// One search that may go ahead, for as long as this lives.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) share: Share,
    _place: OwnedSemaphorePermit,
}

impl Searches {
    pub(super) fn new<'a>(
        settings: &Settings,
        upstreams: impl Iterator<Item = &'a Upstream>,
    ) -> Self {
        let (places_max, queue_max) = (settings.searches_max, settings.search_queue_max);
        let places = upstreams.map(|upstream| {
            let queue = Queue::new(places_max, queue_max);
            (upstream.host().clone(), queue)
        });
        Self {
            places: places.collect(),
            bytes: Budget::new(settings.evidence_in_flight_bytes_max),
        }
    }

    /// Waits until a search at this registry may go ahead.
    pub(super) async fn begin(&self, registry: &RegistryHost) -> Result<Search, NotDone> {
        // Every upstream of the gate has its places.
        let places = self.places.get(registry).ok_or(NotDone::Crashed)?;
        let place = places.enter().await?;
        Ok(Search {
            share: self.bytes.share(),
            _place: place,
        })
    }
}
