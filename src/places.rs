//! A bounded number of places for work that takes a processor, off the reactor, and a bounded
//! queue for them; so that a flood of such work slows nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// The places, and those who wait for one.
#[derive(Debug)]
pub(crate) struct Places {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    tasks: TaskTracker,
}

/// Why work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The queue is full.
    Overloaded,
    /// The work crashed: a bug, which fails this one piece of work.
    Crashed,
}

impl Places {
    pub(crate) fn new(places: usize, waiting_max: usize, tasks: TaskTracker) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.max(1))),
            waiting: AtomicUsize::new(0),
            waiting_max,
            tasks,
        }
    }

    /// A place, when there is one, in the order of those who ask.
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

    /// Runs `work` on a thread of its own when there is a place.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let place = self.enter().await?;
        let work = self.tasks.spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        work.await.map_err(|_| NotDone::Crashed)
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
