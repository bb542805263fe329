//! Which manifests were seen to list a digest, beyond the life of the process.
//!
//! What is read here proves nothing: it says where to look, and `gate` loads what it finds
//! there by digest, sees that it lists the child, and judges it.
//!
//! The store is this process's own. What others have seen that share the directory is in the manifests
//! themselves (`survey`).

use std::sync::{Arc, Mutex};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, WriteTransaction,
};
use tokio_util::task::TaskTracker;

use super::{
    ContentKey,
    disk::Disk,
    inner::lock,
    notebook::{
        Failure, Notebook, Queue, decode, encode, failure, forget_oldest, in_one, next_number,
    },
    survey::{Listed, Read, Survey},
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
            survey: Survey::new(disk),
            notebook,
            entries_max: entries_max.clamp(*ENTRIES.start(), *ENTRIES.end()),
            queue: Mutex::default(),
            tasks,
        }))
    }

    /// The manifests that were seen to list a digest, the latest first: where to look. Where none is
    /// known, the manifests on disk are read of which others have written some.
    pub async fn of(&self, child: &ContentKey) -> Vec<Digest> {
        let (known, may_learn) = self.look(child, |known| known.is_empty()).await;
        match may_learn && self.learn(child).await {
            true => self.look(child, |_| false).await.0,
            false => known,
        }
    }

    /// The same, with what can be learned from the manifests on disk; `None` where there is nothing to
    /// learn. For those who would say "no" otherwise.
    pub async fn of_anew(&self, child: &ContentKey) -> Option<Vec<Digest>> {
        let (_, may_learn) = self.look(child, |_| true).await;
        match may_learn && self.learn(child).await {
            true => Some(self.look(child, |_| false).await.0),
            false => None,
        }
    }

    /// What the store knows; and, where that is wanted, whether there may be more on disk.
    async fn look(
        &self,
        child: &ContentKey,
        wants_more: impl FnOnce(&[Digest]) -> bool + Send + 'static,
    ) -> (Vec<Digest>, bool) {
        let (shared, child) = (Arc::clone(&self.0), child.clone());
        let looking = self.0.tasks.spawn_blocking(move || {
            let mut known = shared.read(&child);
            let mut may_learn = wants_more(&known);
            if may_learn {
                shared.notebook.adopt();
                known = shared.read(&child);
                let lacks_some = shared.notebook.lacks_some();
                may_learn = lacks_some || shared.survey.has_company();
            }
            (known, may_learn)
        });
        looking.await.unwrap_or_default()
    }

    /// Has the manifests of a digest's repository read that were not; false where that failed.
    async fn learn(&self, child: &ContentKey) -> bool {
        let image = ImageName {
            registry: child.host.clone(),
            repository: child.repository.clone(),
        };
        while let Some(turn) = self.0.survey.turn_for(&image).await {
            let (shared, asked) = (Arc::clone(&self.0), image.clone());
            let reading = self.0.tasks.spawn_blocking(move || {
                let learn = |listed: &Listed| shared.write(listed, Rank::Learned);
                shared.survey.read(turn, &asked, learn)
            });
            match reading.await {
                Ok(Read::All) => return true,
                Ok(Read::Some) => {}
                Ok(Read::Failed) | Err(_) => return false,
            }
        }
        true
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
            self.write(&batch, Rank::Admitted);
        }
    }

    /// Writes in which manifests digests were seen; true when that is done.
    fn write(&self, batch: &Listed, rank: Rank) -> bool {
        let entries_max = self.entries_max;
        let written = self.notebook.with(|database| {
            let merge = |transaction: &_, (child, seen): (&_, &Vec<_>)| {
                merge(transaction, child, seen, rank, entries_max)
            };
            in_one(database, batch, merge, |transaction| {
                let table = transaction.open_table(PARENTS).map_err(failure)?;
                let by_age = transaction.open_table(BY_AGE).map_err(failure)?;
                forget_oldest(table, by_age, entries_max)
            })
        });
        written.is_some()
    }
}

/// How much is known of a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// It was admitted: it comes first, and drives out what was not seen for long.
    Admitted,
    /// It is there, and may be anybody's: it takes what is free, and no more.
    Learned,
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

/// Puts the parents of one digest to those that are known; false when that changes nothing.
fn merge(
    transaction: &WriteTransaction,
    child: &ContentKey,
    seen: &[Digest],
    rank: Rank,
    entries_max: u64,
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
    let is_full = by_age.len().map_err(failure)? >= entries_max;
    if rank == Rank::Learned && age.is_none() && is_full {
        return Ok(false);
    }
    let seen: Vec<Digest> = seen.iter().rev().copied().collect();
    let (first, second) = match rank {
        Rank::Admitted => (&seen, &known),
        Rank::Learned => (&known, &seen),
    };
    let mut all = first.clone();
    all.extend(second.iter().filter(|parent| !first.contains(parent)));
    all.truncate(PARENTS_MAX);
    if all == known {
        return Ok(false);
    }
    let number = match (age, rank) {
        (Some(age), Rank::Learned) => age,
        _ => next_number(&by_age)?,
    };
    if let Some(age) = age {
        by_age.remove(age).map_err(failure)?;
    }
    by_age.insert(number, key).map_err(failure)?;
    let encoded: Vec<u8> = all.iter().flat_map(encode).collect();
    table
        .insert(key, (number, encoded.as_slice()))
        .map_err(failure)?;
    Ok(true)
}

/// Takes over what another store has, where there is a place for it.
pub(super) fn take_over(from: &Database, to: &WriteTransaction) -> Result<(), Failure> {
    let transaction = from.begin_read().map_err(failure)?;
    let table = transaction.open_table(PARENTS).map_err(failure)?;
    for row in table.iter().map_err(failure)? {
        let (name, row) = row.map_err(failure)?;
        let (host, repository, digest) = name.value();
        let child = decode(digest).first().and_then(|digest| {
            Some(ContentKey {
                host: host.parse().ok()?,
                repository: repository.parse().ok()?,
                digest: *digest,
            })
        });
        if let Some(child) = child {
            let mut seen = parents(row.value().1);
            seen.reverse();
            merge(to, &child, &seen, Rank::Learned, *ENTRIES.end())?;
        }
    }
    Ok(())
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

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;

    fn parents(directory: &Path) -> Parents {
        parents_of(directory, 0)
    }

    fn parents_of(directory: &Path, user: u32) -> Parents {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (metrics_of_disk, tasks) = (Arc::clone(&metrics), TaskTracker::new());
        let disk = Disk::open(directory, 1 << 20, metrics_of_disk, Clock::system(), tasks);
        let notebook = Arc::new(Notebook::new(directory, user, metrics));
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

    // THREATS G5: what anybody may have pushed takes what is free.
    #[tokio::test]
    async fn what_is_only_learned_drives_nothing_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = parents(directory.path());
        store.add(vec![child("app", 1)], digest(100));
        end(store.clone()).await;
        let junk = (0..40).map(digest).collect();
        let max = u32::try_from(*ENTRIES.start()).expect("few");
        let mut listed = Listed::from([(child("app", 1), junk)]);
        listed.extend((2..=max + 10).map(|number| (child("app", number), vec![digest(1)])));
        assert!(store.0.write(&listed, Rank::Learned));
        let found = store.of(&child("app", 1)).await;
        assert_eq!((found[0], found.len()), (digest(100), PARENTS_MAX));
        let others = Listed::from([(child("other", 1), vec![digest(1)])]);
        assert!(store.0.write(&others, Rank::Learned));
        assert_eq!(store.of(&child("other", 1)).await, []);
        assert!(store.0.write(&others, Rank::Admitted));
        assert_eq!(store.of(&child("other", 1)).await, [digest(1)]);
        end(store).await;
    }

    #[tokio::test]
    async fn what_a_process_left_is_taken_over_and_what_lives_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let (first, second) = (
            parents_of(directory.path(), 0),
            parents_of(directory.path(), 1),
        );
        first.add(vec![child("app", 1)], digest(100));
        second.add(vec![child("app", 2)], digest(200));
        end(first.clone()).await;
        end(second).await;
        let third = parents_of(directory.path(), 2);
        // It is open still.
        assert_eq!(third.of(&child("app", 1)).await, []);
        assert_eq!(third.of(&child("app", 2)).await, [digest(200)]);
        assert!(path("hints.redb").exists());
        assert!(!path("hints-1.redb").exists());
        drop(first);
        end(third).await;
        let fourth = parents_of(directory.path(), 2);
        assert_eq!(fourth.of(&child("app", 1)).await, [digest(100)]);
        assert_eq!(fourth.of(&child("app", 2)).await, [digest(200)]);
        assert!(!path("hints.redb").exists());
        end(fourth).await;
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
