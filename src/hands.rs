//! Whose threads do what is asked for the first time: searches, transfers, proofs. A gate that is
//! busy with these must not be late with what it knows already, so they can be other threads than
//! those that answer.

use std::{cell::Cell, future::poll_fn, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::{runtime::Handle, task::JoinError};
use tokio_util::task::TaskTracker;

/// How much of a processor a thread uses before it gives way. Linux takes the rest of the slice from one
/// that does, which is some milliseconds: with a tenth of this, new work would have a hundredth of a
/// processor beside a thread that never stops, and with this it has a twentieth.
const TURN: Duration = Duration::from_micros(300);

thread_local! {
    /// What this thread had used when it last gave way.
    static USED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Lets whoever waits for this processor have it, if they come before this thread, and it has used it for
/// a while. Linux would let it go on to the end of its slice, whatever its priority.
pub(crate) fn give_way() {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is negative.
    let used = Duration::try_from(used).unwrap_or_default();
    if used.saturating_sub(USED.get()) >= TURN {
        USED.set(used);
        std::thread::yield_now();
    }
}

/// The threads for new work, and the tracker of all tasks, which have one owner who waits for
/// them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hands {
    tasks: TaskTracker,
    threads: Handle,
}

impl Hands {
    /// New work is done by `threads`, and is among `tasks`.
    #[must_use]
    pub fn new(tasks: TaskTracker, threads: Handle) -> Self {
        Self { tasks, threads }
    }

    /// All tasks, these and others.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Begins new work, which goes on whether or not anybody waits for it.
    pub(crate) fn begin<F>(&self, work: F)
    where
        F: Future<Output: Send> + Send + 'static,
    {
        // Boxed: polled from within, it would be in the task twice.
        let mut work = Box::pin(work);
        let in_turns = poll_fn(move |cx| {
            give_way();
            work.as_mut().poll(cx)
        });
        self.tasks.spawn_on(in_turns, &self.threads);
    }

    /// Does work that keeps a thread busy.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.tasks.spawn_blocking_on(work, &self.threads).await
    }
}
