//! Which manifests were seen to list a digest, beyond the life of the process. Sole home of
//! the embedded store.
//!
//! What is read here proves nothing: it says where to look, and `gate` loads what it finds
//! there by digest, sees that it lists the child, and judges it. So a store that was edited, or
//! is an old one, admits nothing. One that cannot be read is put aside, and a new one begun.
//!
//! Writes are queued and come in batches, from a task that ends when there is nothing left to
//! write. Each batch is a transaction that is synced to the disk.

use std::{
    collections::HashMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, WriteTransaction,
};
use tokio_util::task::TaskTracker;

use super::ContentKey;
use crate::metrics::DiskFailure;
use crate::metrics::Metrics;
use crate::oci::Algorithm;
use crate::oci::Digest;

/// Parents that are kept of one digest: the latest seen.
const PARENTS_MAX: usize = 16;
/// Questions and answers that wait to be written. More are dropped, since they are hints.
const QUEUE_MAX: usize = 100_000;
/// Bytes of the store's pages that are held in memory.
const PAGES_BYTES_MAX: usize = 4 << 20;
/// What one entry takes, roughly, in both tables and with the room that trees leave.
const ENTRY_BYTES: u64 = 400;
/// Bounds on the number of entries, whatever the room.
const ENTRIES: std::ops::RangeInclusive<u64> = 1_000..=500_000;

/// Registry, repository and digest, each on its own, so that none runs into another.
type Key = (&'static str, &'static str, &'static [u8]);

/// The parents of a digest, behind the number under which `BY_AGE` has it.
const PARENTS: TableDefinition<'_, Key, (u64, &[u8])> = TableDefinition::new("parents");
/// The digests, those first whose entry was not changed for the longest time.
const BY_AGE: TableDefinition<'_, u64, Key> = TableDefinition::new("by-age");

type Failure = Box<redb::Error>;

/// The store of hints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parents(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    entries_max: u64,
    database: Mutex<State>,
    queue: Mutex<Queue>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(Arc<Database>),
    /// Not even a new one could be begun. It is not tried again by this process.
    Broken,
}

#[derive(Debug, Default)]
struct Queue {
    /// What each digest was seen in, the latest last.
    seen: HashMap<ContentKey, Vec<Digest>>,
    is_written: bool,
}

impl Parents {
    /// The store in this directory, which may take about so many bytes, and which a task
    /// opens.
    pub(super) fn new(
        directory: &Path,
        bytes_max: u64,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Self {
        let entries_max = bytes_max / ENTRY_BYTES;
        let shared = Arc::new(Shared {
            path: directory.join("hints.redb"),
            entries_max: entries_max.clamp(*ENTRIES.start(), *ENTRIES.end()),
            database: Mutex::default(),
            queue: Mutex::default(),
            metrics,
            tasks,
        });
        let opened = Arc::clone(&shared);
        shared.tasks.spawn_blocking(move || opened.open());
        Self(shared)
    }

    /// The manifests that were seen to list a digest, the latest first: where to look.
    pub async fn of(&self, child: &ContentKey) -> Vec<Digest> {
        let (shared, child) = (Arc::clone(&self.0), child.clone());
        let reading = self.0.tasks.spawn_blocking(move || shared.read(&child));
        reading.await.unwrap_or_default()
    }

    /// Notes that `parent` was seen to list the children. It is written soon.
    pub fn add(&self, children: Vec<ContentKey>, parent: Digest) {
        let mut queue = lock(&self.0.queue);
        for child in children {
            if queue.seen.len() >= QUEUE_MAX {
                break;
            }
            let parents = queue.seen.entry(child).or_default();
            parents.retain(|known| *known != parent);
            parents.push(parent);
        }
        if !queue.is_written && !queue.seen.is_empty() {
            queue.is_written = true;
            let shared = Arc::clone(&self.0);
            self.0.tasks.spawn_blocking(move || shared.write_queue());
        }
    }
}

impl Shared {
    fn read(&self, child: &ContentKey) -> Vec<Digest> {
        self.with(|database| stored(database, child))
            .unwrap_or_default()
    }

    fn write_queue(&self) {
        loop {
            let batch = {
                let mut queue = lock(&self.queue);
                if queue.seen.is_empty() {
                    queue.is_written = false;
                    return;
                }
                std::mem::take(&mut queue.seen)
            };
            self.with(|database| write(database, &batch, self.entries_max));
        }
    }

    /// Does something with the database. Where that fails because the file is damaged, the
    /// file is put aside, and `None` is the answer, as it is for every other failure.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Option<T> {
        let database = self.open()?;
        // The store promises errors for what it can detect, and panics on the rest.
        let result = catch_unwind(AssertUnwindSafe(|| work(&database)));
        match result {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => {
                self.failed(&*error);
                if !is_damage(&error) {
                    return None;
                }
            }
            Err(_) => self.failed(&"it crashed while it was read or written"),
        }
        let mut state = lock(&self.database);
        // Another thread may have found it damaged, too, and begun a new one.
        if matches!(&*state, State::Open(open) if Arc::ptr_eq(open, &database)) {
            *state = State::Closed;
            self.put_aside();
        }
        None
    }

    fn open(&self) -> Option<Arc<Database>> {
        let mut state = lock(&self.database);
        if matches!(*state, State::Closed) {
            *state = self.begin().map_or(State::Broken, State::Open);
        }
        match &*state {
            State::Open(database) => Some(Arc::clone(database)),
            State::Closed | State::Broken => None,
        }
    }

    /// Opens the file, or a new one in its place.
    fn begin(&self) -> Option<Arc<Database>> {
        for attempt in 0..2 {
            match catch_unwind(AssertUnwindSafe(|| create(&self.path))) {
                Ok(Ok(database)) => return Some(Arc::new(database)),
                Ok(Err(error)) => self.failed(&*error),
                Err(_) => self.failed(&"it crashed while it was opened"),
            }
            if attempt == 0 {
                self.put_aside();
            }
        }
        None
    }

    /// Moves the file out of the way. One such file is kept, for whoever wants to know.
    fn put_aside(&self) {
        let aside = self.path.with_extension("redb.damaged");
        tracing::warn!(?aside, "the store of hints is begun anew");
        if let Err(error) = fs::rename(&self.path, aside) {
            self.failed(&error);
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        self.metrics.disk_failed(DiskFailure::Hints);
        tracing::warn!(%error, "the store of hints fails");
    }
}

fn create(path: &Path) -> Result<Database, Failure> {
    let database = Database::builder()
        .set_cache_size(PAGES_BYTES_MAX)
        // It is small, and it is better read once than believed.
        .set_check_integrity_on_open(true)
        .create(path)
        .map_err(failure)?;
    let transaction = database.begin_write().map_err(failure)?;
    transaction.open_table(PARENTS).map_err(failure)?;
    transaction.open_table(BY_AGE).map_err(failure)?;
    transaction.commit().map_err(failure)?;
    Ok(database)
}

fn stored(database: &Database, child: &ContentKey) -> Result<Vec<Digest>, Failure> {
    let transaction = database.begin_read().map_err(failure)?;
    let table = transaction.open_table(PARENTS).map_err(failure)?;
    let digest = encode(&child.digest);
    let found = table.get(key(child, &digest)).map_err(failure)?;
    Ok(found.map_or_else(Vec::new, |found| decode(found.value().1)))
}

fn write(
    database: &Database,
    batch: &HashMap<ContentKey, Vec<Digest>>,
    entries_max: u64,
) -> Result<(), Failure> {
    let transaction = database.begin_write().map_err(failure)?;
    let mut changed = false;
    for (child, seen) in batch {
        changed |= merge(&transaction, child, seen)?;
    }
    if changed {
        forget_oldest(&transaction, entries_max)?;
        transaction.commit().map_err(failure)
    } else {
        transaction.abort().map_err(failure)
    }
}

/// Puts the parents of one digest before those that are known; false when that changes nothing.
fn merge(
    transaction: &WriteTransaction,
    child: &ContentKey,
    seen: &[Digest],
) -> Result<bool, Failure> {
    let mut table = transaction.open_table(PARENTS).map_err(failure)?;
    let mut by_age = transaction.open_table(BY_AGE).map_err(failure)?;
    let digest = encode(&child.digest);
    let key = key(child, &digest);
    let known = table.get(key).map_err(failure)?;
    let (age, known) = match known.map(|known| (known.value().0, decode(known.value().1))) {
        Some((age, known)) => (Some(age), known),
        None => (None, Vec::new()),
    };
    let mut parents: Vec<Digest> = seen.iter().rev().copied().collect();
    let earlier = known.iter().filter(|parent| !seen.contains(parent));
    parents.extend(earlier);
    parents.truncate(PARENTS_MAX);
    if parents == known {
        return Ok(false);
    }
    if let Some(age) = age {
        by_age.remove(age).map_err(failure)?;
    }
    let latest = by_age.last().map_err(failure)?;
    let number = latest.map_or(0, |(number, _)| number.value().wrapping_add(1));
    by_age.insert(number, key).map_err(failure)?;
    let encoded: Vec<u8> = parents.iter().flat_map(encode).collect();
    table
        .insert(key, (number, encoded.as_slice()))
        .map_err(failure)?;
    Ok(true)
}

fn forget_oldest(transaction: &WriteTransaction, entries_max: u64) -> Result<(), Failure> {
    let mut table = transaction.open_table(PARENTS).map_err(failure)?;
    let mut by_age = transaction.open_table(BY_AGE).map_err(failure)?;
    while by_age.len().map_err(failure)? > entries_max {
        let Some((_, oldest)) = by_age.pop_first().map_err(failure)? else {
            break;
        };
        table.remove(oldest.value()).map_err(failure)?;
    }
    Ok(())
}

fn key<'a>(child: &'a ContentKey, digest: &'a [u8]) -> (&'a str, &'a str, &'a [u8]) {
    (child.host.as_str(), child.repository.as_str(), digest)
}

/// A digest as the length of its bytes and the bytes.
fn encode(digest: &Digest) -> Vec<u8> {
    let bytes = digest.as_bytes();
    let length = u8::try_from(bytes.len()).unwrap_or(0);
    [&[length], bytes].concat()
}

/// Digests, as far as they can be read.
fn decode(mut bytes: &[u8]) -> Vec<Digest> {
    let mut digests = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let algorithm = match length {
            32 => Algorithm::Sha256,
            64 => Algorithm::Sha512,
            _ => break,
        };
        let Some((digest, rest)) = rest.split_at_checked(usize::from(length)) else {
            break;
        };
        digests.extend(Digest::from_bytes(algorithm, digest));
        bytes = rest;
    }
    digests.truncate(PARENTS_MAX);
    digests
}

fn failure(error: impl Into<redb::Error>) -> Failure {
    Box::new(error.into())
}

/// Whether the file is to blame, and not the disk.
fn is_damage(error: &redb::Error) -> bool {
    use redb::Error;
    matches!(
        error,
        Error::Corrupted(_)
            | Error::TableTypeMismatch { .. }
            | Error::TableIsMultimap(_)
            | Error::TypeDefinitionChanged { .. }
            | Error::TableDoesNotExist(_)
            | Error::PreviousIo
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().expect("metrics"))
    }

    fn parents(directory: &Path) -> Parents {
        Parents::new(directory, 0, metrics(), TaskTracker::new())
    }

    fn child(repository: &str, number: u32) -> ContentKey {
        ContentKey {
            host: "registry.acme.test".parse().expect("a host"),
            repository: repository.parse().expect("a repository"),
            digest: digest(number),
        }
    }

    fn digest(number: u32) -> Digest {
        Digest::sha256(&number.to_le_bytes())
    }

    async fn end(parents: Parents) {
        let tasks = parents.0.tasks.clone();
        tasks.close();
        tasks.wait().await;
        drop(parents);
    }

    #[tokio::test]
    async fn the_latest_parents_of_each_repository_outlive_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = parents(directory.path());
        for number in 0..20 {
            store.add(vec![child("app", 1), child("app", 2)], digest(100 + number));
        }
        store.add(vec![child("app", 1)], digest(110));
        end(store).await;
        let store = parents(directory.path());
        let found = store.of(&child("app", 1)).await;
        assert_eq!(found.len(), PARENTS_MAX);
        assert_eq!(found[..2], [digest(110), digest(119)]);
        assert_eq!(store.of(&child("app", 2)).await[0], digest(119));
        assert_eq!(store.of(&child("other", 1)).await, []);
        end(store).await;
    }

    #[tokio::test]
    async fn the_oldest_entries_go_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = parents(directory.path());
        let max = u32::try_from(*ENTRIES.start()).expect("few");
        let all = (0..max + 10).map(|number| child("app", number));
        let (first, rest): (Vec<_>, Vec<_>) = all.partition(|key| *key == child("app", 0));
        store.add(first, digest(1));
        end(store.clone()).await;
        store.add(rest, digest(1));
        end(store.clone()).await;
        assert_eq!(store.of(&child("app", 0)).await, []);
        let database = store.0.open().expect("open");
        let transaction = database.begin_read().expect("reads");
        for length in [
            transaction.open_table(PARENTS).expect("a table").len(),
            transaction.open_table(BY_AGE).expect("a table").len(),
        ] {
            assert_eq!(length.expect("a number"), u64::from(max));
        }
    }

    // THREATS C8.
    #[tokio::test]
    async fn a_damaged_store_is_put_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("hints.redb");
        let damages: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes.truncate(1000),
            |bytes| bytes.clear(),
            |bytes| bytes[..64].fill(0x55),
            |bytes| bytes.iter_mut().skip(4096).for_each(|byte| *byte ^= 0xff),
        ];
        for damage in damages {
            let store = parents(directory.path());
            store.add(vec![child("app", 1)], digest(2));
            end(store).await;
            let mut bytes = fs::read(&file).expect("a file");
            damage(&mut bytes);
            fs::write(&file, bytes).expect("writes");
            let store = parents(directory.path());
            assert_eq!(store.of(&child("app", 1)).await, []);
            store.add(vec![child("app", 1)], digest(3));
            end(store.clone()).await;
            assert_eq!(store.of(&child("app", 1)).await, [digest(3)]);
            drop(store);
            fs::remove_file(&file).expect("a new one");
        }
    }
}
