//! How many bytes of evidence may be held at once, by all searches together. A search takes what
//! a piece is said to have before it reads it, and waits where there is no room; what it has taken
//! comes back when its evidence is proven.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What is counted: a semaphore has too few permits for single bytes.
const UNIT_BYTES: u64 = 1 << 10;

/// The bytes that all searches share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    units_max: u32,
    /// Is with the one search that need not wait for room: searches that each hold some and wait
    /// for more would otherwise wait for one another.
    pass: Arc<Semaphore>,
}

/// What one search has taken of the budget. It comes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: Mutex<Vec<OwnedSemaphorePermit>>,
    has_pass: CancellationToken,
}

impl Budget {
    /// Room for so many bytes, and for one search beyond them.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let units_max = u32::try_from(bytes_max / UNIT_BYTES).unwrap_or(u32::MAX);
        let units_max =
            units_max.clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            room: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            pass: Arc::new(Semaphore::new(1)),
        }
    }

    /// The share of one search, with nothing in it yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            taken: Mutex::default(),
            has_pass: CancellationToken::new(),
        }
    }
}

impl Share {
    /// Takes so many bytes, when there is room for them.
    pub(super) async fn take(&self, bytes: u64) {
        if self.has_pass.is_cancelled() {
            return;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let Budget {
            room,
            units_max,
            pass,
        } = &self.budget;
        let taken = tokio::select! {
            biased;
            taken = Arc::clone(room).acquire_many_owned(units.min(*units_max)) => taken,
            pass = Arc::clone(pass).acquire_owned() => {
                // For the others of this search, who wait as well.
                self.has_pass.cancel();
                pass
            }
            () = self.has_pass.cancelled() => return,
        };
        // Nobody closes the semaphores.
        if let Ok(taken) = taken {
            let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test]
    async fn what_is_taken_is_waited_for_and_comes_back() {
        let budget = Budget::new(4 * MIB);
        let (first, beyond, waits) = (budget.share(), budget.share(), budget.share());
        first.take(4 * MIB).await;
        // One search goes on all the same, and no other.
        beyond.take(MIB).await;
        beyond.take(100 * MIB).await;
        let mut waiting = Box::pin(waits.take(3 * MIB));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(first);
        waiting.await;
        assert_eq!(budget.room.available_permits(), 1024);
        drop((beyond, waits));
        assert_eq!(budget.room.available_permits(), 4096);
        assert_eq!(budget.pass.available_permits(), 1);
    }

    #[tokio::test]
    async fn searches_that_hold_some_and_want_more_do_not_wait_for_one_another() {
        let budget = Budget::new(2 * MIB);
        let search = || async {
            let share = budget.share();
            share.take(MIB).await;
            tokio::task::yield_now().await;
            tokio::join!(share.take(MIB), share.take(MIB), share.take(MIB));
        };
        let all = futures_util::future::join_all((0..100).map(|_| search()));
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(10), all);
        in_time.await.expect("they get on");
    }

    #[tokio::test]
    async fn what_never_fits_is_taken_as_all_there_is() {
        let budget = Budget::new(MIB);
        let share = budget.share();
        share.take(u64::MAX).await;
        assert_eq!(budget.room.available_permits(), 0);
    }
}
