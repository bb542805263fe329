//! Which manifests were seen to list a digest, beyond the life of the process.
//!
//! What is read here proves nothing: it says where to look, and `gate` loads what it finds
//! there by digest, sees that it lists the child, and judges it.
//!
//! The store is this process's own. What others have seen that share the directory is in the manifests
//! themselves (`survey`).

use std::sync::{Arc, Mutex};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use tokio_util::task::TaskTracker;

use super::{
    ContentKey,
    disk::Disk,
    inner::lock,
    notebook::{
        Failure, Notebook, Queue, decode, encode, failure, forget_oldest, in_one, next_number,
    },
    survey::{Listed, Survey},
};
use crate::oci::Digest;
use crate::oci::ImageName;

/// Parents that are kept of one digest: the latest seen.
const PARENTS_MAX: usize = 16;
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

/// The store of hints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parents(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    notebook: Arc<Notebook>,
    survey: Survey,
    entries_max: u64,
    /// What each digest was seen in, the latest last.
    queue: Mutex<Queue<ContentKey, Vec<Digest>>>,
    tasks: TaskTracker,
}

impl Parents {
    /// The hints in this store, which may take about so many bytes, and in the manifests on disk.
    pub(super) fn new(
        notebook: Arc<Notebook>,
        disk: Arc<Disk>,
        bytes_max: u64,
        tasks: TaskTracker,
    ) -> Self {
        let entries_max = bytes_max / ENTRY_BYTES;
        Self(Arc::new(Shared {
            survey: Survey::new(disk, !notebook.knows_all()),
            notebook,
            entries_max: entries_max.clamp(*ENTRIES.start(), *ENTRIES.end()),
            queue: Mutex::default(),
            tasks,
        }))
    }

    /// The manifests that were seen to list a digest, the latest first: where to look.
    pub async fn of(&self, child: &ContentKey) -> Vec<Digest> {
        let known = self.known(child).await;
        if known.is_empty() && self.0.survey.may_find_something() {
            self.learn(child).await;
            return self.known(child).await;
        }
        known
    }

    async fn known(&self, child: &ContentKey) -> Vec<Digest> {
        let (shared, child) = (Arc::clone(&self.0), child.clone());
        let reading = self.0.tasks.spawn_blocking(move || shared.read(&child));
        reading.await.unwrap_or_default()
    }

    /// Has the manifests of a digest's repository read that were not.
    async fn learn(&self, child: &ContentKey) {
        let image = ImageName {
            registry: child.host.clone(),
            repository: child.repository.clone(),
        };
        let Some(turn) = self.0.survey.turn_for(&image).await else {
            return;
        };
        let shared = Arc::clone(&self.0);
        let reading = self.0.tasks.spawn_blocking(move || {
            shared.survey.read(turn, |listed| shared.write(listed));
        });
        // A crash is told by what is not found then.
        reading.await.ok();
    }

    /// Notes that `parent` was seen to list the children. It is written soon.
    pub fn add(&self, children: Vec<ContentKey>, parent: Digest) {
        let mut queue = lock(&self.0.queue);
        for child in children {
            let Some(parents) = queue.entry(child) else {
                break;
            };
            parents.retain(|known| *known != parent);
            parents.push(parent);
        }
        if queue.wants_a_writer() {
            let shared = Arc::clone(&self.0);
            self.0.tasks.spawn_blocking(move || shared.write_queue());
        }
    }
}

impl Shared {
    fn read(&self, child: &ContentKey) -> Vec<Digest> {
        self.notebook
            .with(|database| stored(database, child))
            .unwrap_or_default()
    }

    fn write_queue(&self) {
        let next = || lock(&self.queue).next();
        while let Some(batch) = next() {
            self.write(&batch);
        }
    }

    /// Writes in which manifests digests were seen; true when that is done.
    fn write(&self, batch: &Listed) -> bool {
        let written = self.notebook.with(|database| {
            let merge =
                |transaction: &_, (child, seen): (&_, &Vec<_>)| merge(transaction, child, seen);
            in_one(database, batch, merge, |transaction| {
                let table = transaction.open_table(PARENTS).map_err(failure)?;
                let by_age = transaction.open_table(BY_AGE).map_err(failure)?;
                forget_oldest(table, by_age, self.entries_max)
            })
        });
        written.is_some()
    }
}

pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(PARENTS).map_err(failure)?;
    transaction.open_table(BY_AGE).map_err(failure)?;
    Ok(())
}

fn stored(database: &Database, child: &ContentKey) -> Result<Vec<Digest>, Failure> {
    let transaction = database.begin_read().map_err(failure)?;
    let table = transaction.open_table(PARENTS).map_err(failure)?;
    let digest = encode(&child.digest);
    let found = table.get(key(child, &digest)).map_err(failure)?;
    Ok(found.map_or_else(Vec::new, |found| parents(found.value().1)))
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
    let (age, known) = match known.map(|known| (known.value().0, parents(known.value().1))) {
        Some((age, known)) => (Some(age), known),
        None => (None, Vec::new()),
    };
    let mut all: Vec<Digest> = seen.iter().rev().copied().collect();
    let earlier = known.iter().filter(|parent| !seen.contains(parent));
    all.extend(earlier);
    all.truncate(PARENTS_MAX);
    if all == known {
        return Ok(false);
    }
    if let Some(age) = age {
        by_age.remove(age).map_err(failure)?;
    }
    let number = next_number(&by_age)?;
    by_age.insert(number, key).map_err(failure)?;
    let encoded: Vec<u8> = all.iter().flat_map(encode).collect();
    table
        .insert(key, (number, encoded.as_slice()))
        .map_err(failure)?;
    Ok(true)
}

fn key<'a>(child: &'a ContentKey, digest: &'a [u8]) -> (&'a str, &'a str, &'a [u8]) {
    (child.host.as_str(), child.repository.as_str(), digest)
}

fn parents(bytes: &[u8]) -> Vec<Digest> {
    let mut parents = decode(bytes);
    parents.truncate(PARENTS_MAX);
    parents
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use redb::ReadableTableMetadata as _;

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;

    fn parents(directory: &Path) -> Parents {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let disk = Disk::open(directory, 1 << 20, Arc::clone(&metrics), Clock::system());
        let notebook = Arc::new(Notebook::new(directory, 0, metrics));
        Parents::new(
            notebook,
            Arc::new(disk.expect("opens")),
            0,
            TaskTracker::new(),
        )
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
        let database = store.0.notebook.open().expect("open");
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
