//! A bounded number of places for work that takes a processor, off the reactor, and a bounded
//! queue for them; so that a flood of such work slows nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::hands::Hands;

/// A bounded number of places, and those who wait for one in the order in which they came.
#[derive(Debug)]
pub(crate) struct Queue {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Places on threads that work.
#[derive(Debug)]
pub(crate) struct Places {
    queue: Queue,
    hands: Hands,
}

/// Why work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The queue is full.
    Overloaded,
    /// The work crashed: a bug, which fails this one piece of work.
    Crashed,
}

impl Queue {
    pub(crate) fn new(places: usize, waiting_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.max(1))),
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// A place, when there is one.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, NotDone> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let waiting = Waiting::enter(&self.waiting);
        if waiting.before >= self.waiting_max {
            return Err(NotDone::Overloaded);
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| NotDone::Crashed)
    }
}

impl Places {
    pub(crate) fn new(places: usize, waiting_max: usize, hands: Hands) -> Self {
        Self {
            queue: Queue::new(places, waiting_max),
            hands,
        }
    }

    /// Runs `work` on a thread when there is a place.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let place = self.queue.enter().await?;
        let work = move || {
            let result = work();
            drop(place);
            result
        };
        self.hands.work(work).await.map_err(|_| NotDone::Crashed)
    }
}

/// One who waits; stops counting when dropped, also when the waiter goes away.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        Self {
            count,
            before: count.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
