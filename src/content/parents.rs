//! Which manifests were seen to list a digest, beyond the life of the process.
//!
//! What is read here proves nothing: it says where to look, and `gate` loads what it finds
//! there by digest, sees that it lists the child, and judges it.
//!
//! The store is this process's own. What others have seen that share the directory is in the manifests
//! themselves (`survey`).

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, WriteTransaction,
};
use tokio_util::task::TaskTracker;

use super::{
    ContentKey,
    adopt::in_batches,
    disk::Disk,
    inner::lock,
    notebook::{
        Failure, Notebook, Queue, decode, encode, failure, forget_oldest, in_one, next_number,
    },
    survey::{Listed, Survey},
};
use crate::oci::Digest;

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

    /// The manifests that were seen to list a digest, the latest first: where to look.
    pub async fn of(&self, child: &ContentKey) -> Vec<Digest> {
        let (shared, child) = (Arc::clone(&self.0), child.clone());
        let reading = self.0.tasks.spawn_blocking(move || shared.read(&child));
        reading.await.unwrap_or_default()
    }

    /// The same, and what can be learned from the manifests on disk that others have written. It may
    /// take a while, and is for those who would say "no" otherwise.
    pub async fn of_anew(&self, child: &ContentKey) -> Vec<Digest> {
        let (shared, asked) = (Arc::clone(&self.0), child.clone());
        let looking = self.0.tasks.spawn_blocking(move || {
            shared.notebook.adopt();
            let may_learn = shared.notebook.lacks_some() || shared.survey.has_company();
            (shared.read(&asked), may_learn)
        });
        let (mut known, may_learn) = looking.await.unwrap_or_default();
        if may_learn {
            let learned = self.learn(child).await;
            known.retain(|parent| !learned.contains(parent));
            known.extend(learned);
        }
        known
    }

    /// Has the manifests of a digest's repository read that were not: those that list it.
    async fn learn(&self, child: &ContentKey) -> Vec<Digest> {
        let surveys = self.0.survey.want(child);
        while let Some(turn) = self.0.survey.turn_for(child).await {
            let shared = Arc::clone(&self.0);
            let reading = self.0.tasks.spawn_blocking(move || {
                let learn = |listed: &Listed| shared.write(listed, Rank::Learned);
                shared
                    .survey
                    .read(turn, shared.notebook.beginnings(), learn);
            });
            if reading.await.is_err() {
                break;
            }
        }
        self.0.survey.found(child, surveys)
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

    /// Writes in which manifests digests were seen; true when all of it has a place there.
    fn write(&self, batch: &Listed, rank: Rank) -> bool {
        let (entries_max, mut has_place) = (self.entries_max, true);
        let written = self.notebook.with(|database| {
            let refused = Cell::new(false);
            let merge = |transaction: &_, (child, seen): (&_, &Vec<_>)| {
                let merged = merge(transaction, child, seen, rank, entries_max)?;
                refused.set(refused.get() || merged == Merged::Refused);
                Ok(merged == Merged::News)
            };
            in_one(database, batch, merge, |transaction| {
                let table = transaction.open_table(PARENTS).map_err(failure)?;
                let by_age = transaction.open_table(BY_AGE).map_err(failure)?;
                forget_oldest(table, by_age, entries_max)
            })?;
            has_place = !refused.get();
            Ok(())
        });
        written.is_some() && has_place
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

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merged {
    News,
    Known,
    /// There is no place for it.
    Refused,
}

/// Puts the parents of one digest, the one that comes first being last, to those that are known.
fn merge(
    transaction: &WriteTransaction,
    child: &ContentKey,
    seen: &[Digest],
    rank: Rank,
    entries_max: u64,
) -> Result<Merged, Failure> {
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
        return Ok(Merged::Refused);
    }
    let seen: Vec<Digest> = seen.iter().rev().copied().collect();
    let (first, second) = match rank {
        Rank::Admitted => (&seen, &known),
        Rank::Learned => (&known, &seen),
    };
    let mut all = first.clone();
    all.extend(second.iter().filter(|parent| !first.contains(parent)));
    let is_over = all.len() > PARENTS_MAX;
    all.truncate(PARENTS_MAX);
    if all == known {
        return Ok(match is_over {
            true => Merged::Refused,
            false => Merged::Known,
        });
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
    Ok(Merged::News)
}

/// Takes over what another store has, where there is a place for it; false where it cannot be written
/// down.
pub(super) fn take_over(from: &Database, to: &Notebook) -> Result<bool, Failure> {
    let transaction = from.begin_read().map_err(failure)?;
    let table = match transaction.open_table(PARENTS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(true),
        table => table.map_err(failure)?,
    };
    let rows = table.iter().map_err(failure)?.map(|row| {
        let (name, row) = row.map_err(failure)?;
        let (host, repository, digest) = name.value();
        let child = decode(digest).first().and_then(|digest| {
            Some(ContentKey {
                host: host.parse().ok()?,
                repository: repository.parse().ok()?,
                digest: *digest,
            })
        });
        Ok(child.map(|child| (child, parents(row.value().1))))
    });
    in_batches(rows, |batch| {
        let put = |transaction: &_, (child, seen): (ContentKey, Vec<_>)| {
            let merged = merge(transaction, &child, &seen, Rank::Learned, *ENTRIES.end())?;
            Ok(merged == Merged::News)
        };
        let written = to.with(|database| in_one(database, batch, put, |_| Ok(())));
        written.is_some()
    })
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
        let notebook = Arc::new(Notebook::new(directory, user, metrics, Clock::system()));
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
        // There is no place for all of it.
        assert!(!store.0.write(&listed, Rank::Learned));
        let found = store.of(&child("app", 1)).await;
        assert_eq!((found[0], found.len()), (digest(100), PARENTS_MAX));
        let others = Listed::from([(child("other", 1), vec![digest(1)])]);
        assert!(!store.0.write(&others, Rank::Learned));
        assert_eq!(store.of(&child("other", 1)).await, []);
        assert!(store.0.write(&others, Rank::Admitted));
        assert_eq!(store.of(&child("other", 1)).await, [digest(1)]);
        end(store).await;
    }

    /// Nobody has written to it for a while.
    fn age(file: &Path) {
        let file = fs::File::options().write(true).open(file);
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let aged = file.and_then(|file| file.set_modified(long_ago));
        aged.expect("it is there");
    }

    #[tokio::test]
    async fn what_a_process_left_is_taken_over_and_what_lives_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let [first, second, young] = [0, 1, 3].map(|user| parents_of(directory.path(), user));
        for (store, number) in [(&first, 1), (&second, 2), (&young, 3)] {
            store.add(vec![child("app", number)], digest(100 * number));
            end(store.clone()).await;
        }
        drop((second, young));
        age(&path("hints.redb"));
        age(&path("hints-1.redb"));
        let third = parents_of(directory.path(), 2);
        third.0.notebook.adopt();
        // One is open still, and one may only be starting again.
        assert_eq!(third.of(&child("app", 1)).await, []);
        assert_eq!(third.of(&child("app", 2)).await, [digest(200)]);
        assert_eq!(third.of(&child("app", 3)).await, []);
        assert!(path("hints.redb").exists() && path("hints-3.redb").exists());
        assert!(!path("hints-1.redb").exists());
        assert!(third.0.notebook.lacks_some());
        drop(first);
        age(&path("hints.redb"));
        end(third).await;
        let fourth = parents_of(directory.path(), 2);
        fourth.0.notebook.adopt();
        assert_eq!(fourth.of(&child("app", 1)).await, [digest(100)]);
        assert_eq!(fourth.of(&child("app", 2)).await, [digest(200)]);
        assert!(!path("hints.redb").exists());
        end(fourth).await;
    }

    // THREATS C8: whatever others have left, what is here stays.
    #[tokio::test]
    async fn what_others_left_damaged_damages_nothing_here() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let ours = parents(directory.path());
        ours.add(vec![child("app", 1)], digest(100));
        end(ours.clone()).await;
        let other = parents_of(directory.path(), 1);
        other.add(vec![child("app", 2)], digest(200));
        end(other).await;
        let whole = fs::read(path("hints-1.redb")).expect("a store");
        let damages: [fn(&mut Vec<u8>); 5] = [
            |bytes| bytes.truncate(1000),
            |bytes| bytes.clear(),
            |bytes| bytes[..64].fill(0x55),
            |bytes| bytes.iter_mut().skip(4096).for_each(|byte| *byte ^= 0xff),
            |bytes| bytes.iter_mut().skip(8192).for_each(|byte| *byte ^= 1),
        ];
        for damage in damages {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(path("hints-1.redb"), bytes).expect("writes");
            age(&path("hints-1.redb"));
            *lock(&ours.0.notebook.adopted_at) = None;
            ours.0.notebook.adopt();
            assert_eq!(ours.of(&child("app", 1)).await, [digest(100)]);
            for left in ["hints-1.redb", "hints-1.taken"] {
                assert!(!path(left).exists(), "{left} is tried again and again");
            }
        }
        // One of an earlier version, or of a process that came to no more: without its tables.
        drop(Database::create(path("hints-1.redb")).expect("a store"));
        age(&path("hints-1.redb"));
        *lock(&ours.0.notebook.adopted_at) = None;
        ours.0.notebook.adopt();
        assert_eq!(ours.of(&child("app", 1)).await, [digest(100)]);
        assert!(!path("hints-1.redb").exists() && !path("hints.redb.damaged").exists());
        end(ours).await;
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
