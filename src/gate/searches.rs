//! Searches for evidence: so many of one registry at a time, and so many bytes of its evidence,
//! until they are proven. What is more waits in line, before its own time begins to count; so
//! a storm of first pulls is spread over time instead of running into its own deadlines.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::evidence::Budget;
use crate::evidence::Share;
use crate::gate::Settings;
use crate::oci::RegistryHost;
use crate::places::NotDone;
use crate::places::Queue;

/// The places that searches have, and the bytes that they share.
#[derive(Debug)]
pub(super) struct Searches {
    /// Each registry has its own, so that one which is slow holds up nobody else's.
    registries: HashMap<RegistryHost, Registry>,
    wait_max: Duration,
}

/// What the searches of one registry have.
#[derive(Debug)]
struct Registry {
    places: Queue,
    bytes: Budget,
}

/// One search that may go ahead, for as long as this lives.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) share: Share,
    _place: OwnedSemaphorePermit,
}

impl Search {
    /// Leaves its place to the next, and keeps its bytes.
    pub(super) fn into_share(self) -> Share {
        self.share
    }
}

impl Searches {
    pub(super) fn new<'a>(
        settings: &Settings,
        hosts: impl ExactSizeIterator<Item = &'a RegistryHost>,
    ) -> Self {
        let (places_max, queue_max) = (settings.searches_max, settings.search_queue_max);
        // Bytes as well, or one that drips holds all of them until its deadlines.
        let registries_count = u64::try_from(hosts.len()).unwrap_or(u64::MAX).max(1);
        // Each has room for one search, however many there are.
        let bytes_max = settings.evidence_in_flight_bytes_max / registries_count;
        let bytes_max = bytes_max.max(settings.evidence_bytes_max);
        let registries = hosts.map(|host| {
            let registry = Registry {
                places: Queue::new(places_max, queue_max),
                bytes: Budget::new(bytes_max),
            };
            (host.clone(), registry)
        });
        Self {
            registries: registries.collect(),
            wait_max: settings.decision_deadline,
        }
    }

    /// Waits until a search at this registry may go ahead; not longer than anybody waits for its
    /// decision, or searches for those who have left would stand in the way of others.
    pub(super) async fn begin(&self, registry: &RegistryHost) -> Result<Search, NotDone> {
        // Every upstream of the gate has its places.
        let registry = self.registries.get(registry).ok_or(NotDone::Crashed)?;
        let place = tokio::time::timeout(self.wait_max, registry.places.enter()).await;
        let place = place.map_err(|_| NotDone::Overloaded)??;
        Ok(Search {
            share: registry.bytes.share(),
            _place: place,
        })
    }
}

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests {
    use super::*;
    use crate::gate::test_world::settings;

    #[tokio::test]
    async fn a_search_leaves_the_queue_when_nobody_can_wait_for_it_any_more() {
        let settings = Settings {
            searches_max: 1,
            search_queue_max: 1,
            decision_deadline: Duration::from_millis(20),
            ..settings()
        };
        let host: RegistryHost = "slow.test".parse().expect("a host");
        let searches = Searches::new(&settings, [&host].into_iter());
        let under_way = searches.begin(&host).await.expect("a place");
        for _ in 0..3 {
            let waits = searches.begin(&host);
            let waits = tokio::time::timeout(Duration::from_secs(10), waits).await;
            let left = waits.expect("it leaves").expect_err("no place is free");
            assert_eq!(left, NotDone::Overloaded);
        }
        drop(under_way);
        searches.begin(&host).await.expect("a place again");
    }
}
