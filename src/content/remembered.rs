//! What was known of names before the process began: what tags named, and where the evidence is that
//! proved something. It is asked only where a registry is away.
//!
//! Nothing here proves anything. What a name leads to is read by its digest, and judged, or proven, as
//! ever. Who can edit the store can say that a tag named another digest of which policy says yes,
//! or that it did so later than it did, and no more.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use tokio_util::task::TaskTracker;

use super::{
    adopt::in_batches,
    inner::lock,
    notebook::{
        Failure, Notebook, Queue, decode, encode, failure, forget_oldest, in_one, next_number,
    },
};
use crate::oci::Digest;

/// What one entry takes, roughly, in both tables and with the room that trees leave.
const ENTRY_BYTES: u64 = 300;
/// Bounds on the number of entries, whatever the room.
const ENTRIES: std::ops::RangeInclusive<u64> = 1_000..=200_000;

/// A hash of a name.
type Name = [u8; 32];
/// The number under which `BY_AGE` has the name; when it was known, in microseconds; the digest.
type Row = (u64, i64, &'static [u8]);

const REMEMBERED: TableDefinition<'_, Name, Row> = TableDefinition::new("remembered");
/// The names, those first whose entry was not changed for the longest time.
const BY_AGE: TableDefinition<'_, u64, Name> = TableDefinition::new("remembered-by-age");

/// What a name stood for, and when that was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What it stood for.
    pub digest: Digest,
    /// When that was so.
    pub at: Timestamp,
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Remembered(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    notebook: Arc<Notebook>,
    entries_max: u64,
    /// What each name stands for now; `None`: nothing any more.
    queue: Mutex<Queue<Name, Option<Memory>>>,
    tasks: TaskTracker,
}

impl Remembered {
    /// What is in this store, which may take about so many bytes.
    pub(super) fn new(notebook: Arc<Notebook>, bytes_max: u64, tasks: TaskTracker) -> Self {
        let entries_max = bytes_max / ENTRY_BYTES;
        Self(Arc::new(Shared {
            notebook,
            entries_max: entries_max.clamp(*ENTRIES.start(), *ENTRIES.end()),
            queue: Mutex::default(),
            tasks,
        }))
    }

    /// What a name stood for. It is to be read or proven anew, whatever it is for.
    pub async fn recall(&self, name: [u8; 32]) -> Option<Memory> {
        let shared = Arc::clone(&self.0);
        let reading = self.0.tasks.spawn_blocking(move || shared.read(name));
        reading.await.ok().flatten()
    }

    /// Notes what a name stands for now; `None` where it stands for nothing any more. It is written
    /// soon.
    pub fn note(&self, name: [u8; 32], memory: Option<Memory>) {
        let mut queue = lock(&self.0.queue);
        if let Some(waiting) = queue.entry(name) {
            *waiting = memory;
        }
        if queue.wants_a_writer() {
            let shared = Arc::clone(&self.0);
            self.0.tasks.spawn_blocking(move || shared.write_queue());
        }
    }
}

impl Shared {
    fn read(&self, name: Name) -> Option<Memory> {
        let look = || {
            let stored = self.notebook.with(|database| stored(database, name));
            stored.flatten()
        };
        look().or_else(|| {
            self.notebook.adopt();
            look()
        })
    }

    fn write_queue(&self) {
        let next = || lock(&self.queue).next();
        while let Some(batch) = next() {
            self.notebook.with(|database| {
                let change = |transaction: &_, (name, memory): (&Name, &Option<Memory>)| {
                    change(transaction, *name, *memory)
                };
                in_one(database, &batch, change, |transaction| {
                    let table = transaction.open_table(REMEMBERED).map_err(failure)?;
                    let by_age = transaction.open_table(BY_AGE).map_err(failure)?;
                    forget_oldest(table, by_age, self.entries_max)
                })
            });
        }
    }
}

pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(REMEMBERED).map_err(failure)?;
    transaction.open_table(BY_AGE).map_err(failure)?;
    Ok(())
}

/// What the store has, as far as it can be read.
fn stored(database: &Database, name: Name) -> Result<Option<Memory>, Failure> {
    let transaction = database.begin_read().map_err(failure)?;
    let table = transaction.open_table(REMEMBERED).map_err(failure)?;
    let found = table.get(name).map_err(failure)?;
    Ok(found.and_then(|found| memory(found.value())))
}

/// Puts what a name stands for in the place of what is there; false when that changes nothing.
fn change(
    transaction: &WriteTransaction,
    name: Name,
    memory: Option<Memory>,
) -> Result<bool, Failure> {
    let mut table = transaction.open_table(REMEMBERED).map_err(failure)?;
    let mut by_age = transaction.open_table(BY_AGE).map_err(failure)?;
    let known = table.get(name).map_err(failure)?;
    let age = known.map(|known| known.value().0);
    if let Some(age) = age {
        by_age.remove(age).map_err(failure)?;
    }
    let Some(Memory { digest, at }) = memory else {
        table.remove(name).map_err(failure)?;
        return Ok(age.is_some());
    };
    let number = next_number(&by_age)?;
    by_age.insert(number, name).map_err(failure)?;
    let row = (number, at.as_microsecond(), encode(&digest));
    let row = (row.0, row.1, row.2.as_slice());
    table.insert(name, row).map_err(failure)?;
    Ok(true)
}

/// Takes over what another store has of what is not known, or is older here; false where it cannot be
/// written down.
pub(super) fn take_over(from: &Database, to: &Notebook) -> Result<bool, Failure> {
    let transaction = from.begin_read().map_err(failure)?;
    let table = match transaction.open_table(REMEMBERED) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(true),
        table => table.map_err(failure)?,
    };
    let rows = table.iter().map_err(failure)?.map(|row| {
        let (name, row) = row.map_err(failure)?;
        Ok(memory(row.value()).map(|theirs| (name.value(), theirs)))
    });
    in_batches(rows, |batch| {
        let put = |transaction: &WriteTransaction, (name, theirs): (Name, Memory)| {
            let ours = {
                let table = transaction.open_table(REMEMBERED).map_err(failure)?;
                let ours = table.get(name).map_err(failure)?;
                ours.and_then(|row| memory(row.value()))
            };
            match ours.is_none_or(|ours| ours.at < theirs.at) {
                true => change(transaction, name, Some(theirs)),
                false => Ok(false),
            }
        };
        let written = to.with(|database| in_one(database, batch, put, |_| Ok(())));
        written.is_some()
    })
}

fn memory((_, at, digest): (u64, i64, &[u8])) -> Option<Memory> {
    Some(Memory {
        digest: *decode(digest).first()?,
        at: Timestamp::from_microsecond(at).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;

    fn remembered(directory: &Path) -> Remembered {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let notebook = Arc::new(Notebook::new(directory, 0, metrics, Clock::system()));
        Remembered::new(notebook, 0, TaskTracker::new())
    }

    fn name(number: u64) -> Name {
        let mut name = Name::default();
        name[..8].copy_from_slice(&number.to_le_bytes());
        name
    }

    fn memory(number: u64) -> Memory {
        let second = i64::try_from(number).expect("small");
        Memory {
            digest: Digest::sha256(&number.to_le_bytes()),
            at: Timestamp::from_second(second).expect("a time"),
        }
    }

    async fn end(store: Remembered) {
        let tasks = store.0.tasks.clone();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn the_latest_outlives_the_process_and_what_is_gone_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = remembered(directory.path());
        for number in 0..3 {
            store.note(name(1), Some(memory(number)));
            store.note(name(2), Some(memory(number)));
        }
        end(store).await;
        let store = remembered(directory.path());
        assert_eq!(store.recall(name(1)).await, Some(memory(2)));
        assert_eq!(store.recall(name(3)).await, None);
        store.note(name(1), None);
        store.note(name(3), None);
        end(store).await;
        let store = remembered(directory.path());
        assert_eq!(store.recall(name(1)).await, None);
        assert_eq!(store.recall(name(2)).await, Some(memory(2)));
        end(store).await;
    }

    #[tokio::test]
    async fn what_did_not_change_for_the_longest_time_goes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = remembered(directory.path());
        store.note(name(0), Some(memory(0)));
        store.note(name(1), Some(memory(1)));
        end(store.clone()).await;
        store.note(name(0), Some(memory(2)));
        end(store.clone()).await;
        for number in 2..*ENTRIES.start() + 1 {
            store.note(name(number), Some(memory(number)));
        }
        end(store.clone()).await;
        assert_eq!(store.recall(name(0)).await, Some(memory(2)));
        assert_eq!(store.recall(name(1)).await, None);
    }
}
