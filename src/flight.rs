//! One flight per key: however many ask for the same cold thing at once, it is done once, in
//! a task of its own, so that whoever goes away takes nothing from the others.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::{FutureExt as _, Shared};
use tokio::sync::oneshot;

use crate::hands::Hands;

type Landing<V> = Shared<oneshot::Receiver<V>>;
type UnderWay<K, V> = Arc<Mutex<HashMap<K, Landing<V>>>>;

/// The flights under way.
pub(crate) struct Flights<K, V> {
    under_way: UnderWay<K, V>,
    hands: Hands,
}

/// The flight crashed: a bug, which fails this one question and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crashed;

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(hands: Hands) -> Self {
        Self {
            under_way: Arc::default(),
            hands,
        }
    }

    /// Joins the flight for `key`, or starts it with `make`.
    pub(crate) async fn join<F>(&self, key: K, make: impl FnOnce() -> F) -> Result<V, Crashed>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let landing = {
            let mut under_way = self
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&key) {
                Some(landing) => landing.clone(),
                None => {
                    let (sender, receiver) = oneshot::channel();
                    let landing = receiver.shared();
                    under_way.insert(key.clone(), landing.clone());
                    let landed = Landed {
                        key,
                        under_way: Arc::clone(&self.under_way),
                    };
                    // In a place of its own: moved into the task, it would be there twice.
                    let flight = Box::pin(make());
                    self.hands.begin(async move {
                        let value = flight.await;
                        // Off the list first: who comes now starts anew.
                        drop(landed);
                        // Nobody may be waiting any more, which is all right.
                        let _ = sender.send(value);
                    });
                    landing
                }
            }
        };
        landing.await.map_err(|_| Crashed)
    }
}

/// Takes a flight off the list, also when it crashes.
struct Landed<K: Hash + Eq, V> {
    key: K,
    under_way: UnderWay<K, V>,
}

impl<K: Hash + Eq, V> Drop for Landed<K, V>
where
    oneshot::Receiver<V>: Future,
{
    fn drop(&mut self) {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::runtime::Handle;
    use tokio_util::task::TaskTracker;

    use super::*;

    fn here() -> Hands {
        Hands::new(TaskTracker::new(), Handle::current())
    }

    #[tokio::test]
    async fn a_waiter_who_leaves_takes_nothing_from_the_others() {
        let flights = Arc::new(Flights::<u8, usize>::new(here()));
        let started = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let fly = |flights: Arc<Flights<u8, usize>>| {
            let (started, mut gate) = (Arc::clone(&started), gate.clone());
            async move {
                let flight = || async move {
                    let _ = gate.wait_for(|open| *open).await;
                    started.fetch_add(1, Ordering::SeqCst) + 1
                };
                flights.join(1, flight).await
            }
        };
        let first = tokio::spawn(fly(Arc::clone(&flights)));
        let others: Vec<_> = (0..1000)
            .map(|_| tokio::spawn(fly(Arc::clone(&flights))))
            .collect();
        tokio::task::yield_now().await;
        first.abort();
        open.send(true).expect("the flight waits");
        for other in others {
            assert_eq!(other.await.expect("lands"), Ok(1));
        }
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_crash_fails_one_flight_and_not_the_next() {
        let flights = Flights::<u8, u8>::new(here());
        assert_eq!(
            flights.join(1, || async { panic!("a test's crash") }).await,
            Err(Crashed)
        );
        assert_eq!(flights.join(1, || async { 2 }).await, Ok(2));
    }
}
