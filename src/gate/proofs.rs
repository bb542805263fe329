//! Cryptography off the reactor: a bounded number of proofs at a time, and a bounded queue,
//! so that a flood of cold pulls does not slow the cached ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

#[derive(Debug)]
pub(super) struct Proofs {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    tasks: TaskTracker,
}

/// The queue is full, or the work crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotProven {
    Overloaded,
    Crashed,
}

impl Proofs {
    pub(super) fn new(threads: usize, waiting_max: usize, tasks: TaskTracker) -> Self {
        let places = Arc::new(Semaphore::new(threads.max(1)));
        Self {
            places,
            waiting: AtomicUsize::new(0),
            waiting_max,
            tasks,
        }
    }

    /// Runs `work` on a thread of its own when there is a place.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotProven> {
        let waiting = Waiting::enter(&self.waiting);
        if waiting.before >= self.waiting_max {
            return Err(NotProven::Overloaded);
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        drop(waiting);
        let Ok(place) = place else {
            return Err(NotProven::Crashed);
        };
        let work = self.tasks.spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        work.await.map_err(|_| NotProven::Crashed)
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
