//! The latest records. They are moved to where they are kept many at a time: when one is driven out
//! there, its memory has long left the processor's caches, and a pull would wait for it.

use std::collections::VecDeque;

use crate::audit::Record;

/// So many are moved at a time.
const BATCH: usize = 64;

/// Records, of which the latest `capacity` can be read.
#[derive(Debug)]
pub(super) struct Latest {
    capacity: usize,
    /// Less than a batch.
    newest: Vec<Record>,
    /// Those before.
    kept: VecDeque<Record>,
}

impl Latest {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            newest: Vec::with_capacity(BATCH),
            kept: VecDeque::with_capacity(capacity.max(BATCH)),
        }
    }

    /// Adds one. Hands out those that it drives out: to free what only they hold takes a while.
    pub(super) fn push(&mut self, record: Record) -> Vec<Record> {
        self.newest.push(record);
        if self.newest.len() < BATCH {
            return Vec::new();
        }
        let surplus = (self.kept.len() + BATCH).saturating_sub(self.capacity);
        let driven_out = self.kept.drain(..surplus.min(self.kept.len())).collect();
        self.kept.extend(self.newest.drain(..));
        driven_out
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        let before = self.kept.iter().rev();
        let all = self.newest.iter().rev().chain(before);
        all.take(self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::Decided;
    use crate::audit::sample::{Nothing, record};

    #[test]
    fn the_latest_can_be_read_and_the_others_are_driven_out() {
        for capacity in [1, BATCH - 1, BATCH, BATCH + 1, 1000] {
            let decided: Arc<dyn Decided> = Arc::new(Nothing);
            let mut latest = Latest::new(capacity);
            for last in 0..2500 {
                drop(latest.push(record(last, &decided)));
                let read: Vec<u64> = latest.newest_first().map(|record| record.id.0).collect();
                let first = (last + 1).saturating_sub(capacity as u64);
                assert!(
                    read.into_iter().eq((first..=last).rev()),
                    "{capacity}: {last}"
                );
                let held = Arc::strong_count(&decided) - 1;
                assert!(held < capacity + 2 * BATCH, "{capacity}: {held} are held");
            }
        }
    }
}
