//! What tags named when they were last served, for policies that let no tag move back
//! (`no_rollback`): the latest content that was served under a tag, by when it was signed.
//!
//! All of it is held in memory, and is on disk before an answer rests on it. It is bounded: beyond
//! a number of tags the content that was signed first is forgotten, and what remains of it is a
//! floor. Where a tag is not known, whatever was signed before the floor of its policy may be a
//! step back, and is told as such.
//!
//! A store that is there and cannot be read makes nothing up: who asks learns that nobody knows,
//! until somebody mends or removes the file. One that was edited can make a gate forget, and
//! refuse; what it lets pass is still signed as policy asks.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::metrics::DiskFailure;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Tag;

/// How long it takes until a store that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// When the content was signed and served, in microseconds; its digest; the policy.
type Row = (i64, i64, &'static str, &'static str);
const SERVED: TableDefinition<'_, &[u8], Row> = TableDefinition::new("served");
/// By policy: what was forgotten was signed by then, in microseconds.
const FLOORS: TableDefinition<'_, &str, i64> = TableDefinition::new("floors");

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is remembered of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What it named.
    pub digest: Digest,
    /// When that was signed, as the policy counts.
    pub signed_at: Timestamp,
    /// When it was first served.
    pub served_at: Timestamp,
}

/// What is known of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled {
    /// It was never served.
    Nothing,
    /// The latest that was served.
    Mark(Mark),
    /// It may have been served, with content that was signed by then.
    Forgotten(Timestamp),
}

/// Nobody knows what was served, or it cannot be written down. The log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store of what tags named cannot be used")]
pub struct Unusable;

/// A tag of an image, under one policy: policies count different signers, and so different times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagKey {
    hash: [u8; 32],
    policy: Arc<str>,
}

impl TagKey {
    /// The tag under this policy. None of the names has a NUL in it.
    #[must_use]
    pub fn new(policy: &Arc<str>, image: &ImageName, tag: &Tag) -> Self {
        let named = [
            policy,
            image.registry.as_str(),
            image.repository.as_str(),
            tag.as_str(),
        ];
        let mut hash = [0; 32];
        hash.copy_from_slice(Digest::sha256(named.join("\0").as_bytes()).as_bytes());
        Self {
            hash,
            policy: Arc::clone(policy),
        }
    }
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Served(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The file; in memory only without.
    path: Option<PathBuf>,
    marks: Mutex<Marks>,
    database: OnceLock<Option<Database>>,
    /// When reading failed, and that somebody reads.
    failed_at: tokio::sync::Mutex<Option<Instant>>,
    queue: Mutex<Queue>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Marks {
    by_hash: HashMap<[u8; 32], Entry>,
    by_time: BTreeSet<(Timestamp, [u8; 32])>,
    floors: HashMap<Arc<str>, Timestamp>,
    /// Forgotten in memory, and not on disk yet.
    dropped: HashSet<[u8; 32]>,
    entries_max: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    mark: Mark,
    policy: Arc<str>,
    is_written: bool,
}

#[derive(Debug, Default)]
struct Queue {
    changed: HashSet<[u8; 32]>,
    waiting: Vec<oneshot::Sender<bool>>,
    is_written: bool,
}

/// What becomes of a new mark.
#[derive(Debug, PartialEq, Eq)]
enum Raised {
    /// Later content has been served meanwhile.
    Overtaken,
    /// It is written down already.
    Written,
    /// It has to be written down.
    Unwritten,
}

impl Served {
    /// The store in this directory, or in memory, for so many tags. Nothing is read until
    /// somebody asks.
    pub(super) fn new(
        directory: Option<&Path>,
        entries_max: usize,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Shared {
            path: directory.map(|directory| directory.join("served.redb")),
            marks: Mutex::new(Marks::new(entries_max)),
            database: OnceLock::new(),
            failed_at: tokio::sync::Mutex::default(),
            queue: Mutex::default(),
            metrics,
            tasks,
        }))
    }

    /// What is known of a tag.
    ///
    /// # Errors
    /// [`Unusable`] where the store is there and cannot be read.
    pub async fn recall(&self, tag: &TagKey) -> Result<Recalled, Unusable> {
        self.ready().await?;
        Ok(lock(&self.0.marks).recall(tag))
    }

    /// Whether nothing later was served under the tag than this; for answers that are repeated.
    #[must_use]
    pub fn is_latest(&self, tag: &TagKey, digest: &Digest, signed_at: Timestamp) -> bool {
        match lock(&self.0.marks).by_hash.get(&tag.hash) {
            Some(entry) => !entry.mark.is_after(digest, signed_at),
            None => true,
        }
    }

    /// Remembers what is about to be served, and returns when that is written down; false where
    /// later content was served meanwhile.
    ///
    /// # Errors
    /// [`Unusable`] where it cannot be written down.
    pub async fn note(&self, tag: &TagKey, mark: Mark) -> Result<bool, Unusable> {
        self.ready().await?;
        let raised = lock(&self.0.marks).raise(tag, mark);
        match raised {
            Raised::Overtaken => return Ok(false),
            Raised::Written => return Ok(true),
            Raised::Unwritten => {}
        }
        let (written, wait) = oneshot::channel();
        {
            let mut queue = lock(&self.0.queue);
            queue.changed.insert(tag.hash);
            queue.waiting.push(written);
            if !queue.is_written {
                queue.is_written = true;
                let shared = Arc::clone(&self.0);
                self.0.tasks.spawn_blocking(move || shared.write_queue());
            }
        }
        match wait.await {
            Ok(true) => Ok(true),
            _ => Err(Unusable),
        }
    }

    /// Reads the store, once; and after a while again where that failed, since somebody may have
    /// mended it.
    async fn ready(&self) -> Result<(), Unusable> {
        if self.0.database.get().is_some() {
            return Ok(());
        }
        let mut failed_at = self.0.failed_at.lock().await;
        if self.0.database.get().is_some() {
            return Ok(());
        }
        if failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return Err(Unusable);
        }
        let shared = Arc::clone(&self.0);
        let read = self.0.tasks.spawn_blocking(move || shared.read_all());
        match read.await {
            Ok(true) => Ok(()),
            _ => {
                *failed_at = Some(Instant::now());
                Err(Unusable)
            }
        }
    }
}

impl Mark {
    /// Whether it forbids content that was signed then. The same content is never a step back,
    /// whatever became of its signatures.
    #[must_use]
    pub fn is_after(&self, digest: &Digest, signed_at: Timestamp) -> bool {
        self.digest != *digest && self.signed_at > signed_at
    }
}

impl Marks {
    fn new(entries_max: usize) -> Self {
        Self {
            by_hash: HashMap::new(),
            by_time: BTreeSet::new(),
            floors: HashMap::new(),
            dropped: HashSet::new(),
            entries_max: entries_max.max(1),
        }
    }

    fn recall(&self, tag: &TagKey) -> Recalled {
        match (
            self.by_hash.get(&tag.hash),
            self.floors.get(&*tag.policy).copied(),
        ) {
            (Some(entry), _) => Recalled::Mark(entry.mark),
            (None, Some(floor)) => Recalled::Forgotten(floor),
            (None, None) => Recalled::Nothing,
        }
    }

    fn raise(&mut self, tag: &TagKey, mark: Mark) -> Raised {
        if let Some(entry) = self.by_hash.get(&tag.hash) {
            let known = entry.mark;
            if known.is_after(&mark.digest, mark.signed_at) {
                return Raised::Overtaken;
            }
            if known.digest == mark.digest && known.signed_at >= mark.signed_at {
                return match entry.is_written {
                    true => Raised::Written,
                    false => Raised::Unwritten,
                };
            }
        }
        self.put(
            tag.hash,
            Entry {
                mark,
                policy: Arc::clone(&tag.policy),
                is_written: false,
            },
        );
        self.forget();
        Raised::Unwritten
    }

    fn put(&mut self, hash: [u8; 32], entry: Entry) {
        let signed_at = entry.mark.signed_at;
        if let Some(former) = self.by_hash.insert(hash, entry) {
            self.by_time.remove(&(former.mark.signed_at, hash));
        }
        self.by_time.insert((signed_at, hash));
        self.dropped.remove(&hash);
    }

    /// Forgets what was signed first, and keeps of it that it may have been served.
    fn forget(&mut self) {
        while self.by_hash.len() > self.entries_max {
            let Some((signed_at, hash)) = self.by_time.pop_first() else {
                return;
            };
            let Some(entry) = self.by_hash.remove(&hash) else {
                continue;
            };
            let floor = self.floors.entry(entry.policy).or_insert(signed_at);
            *floor = signed_at.max(*floor);
            self.dropped.insert(hash);
        }
    }
}

/// What one transaction writes.
struct Batch {
    rows: Vec<([u8; 32], Entry)>,
    dropped: Vec<[u8; 32]>,
    floors: Vec<(Arc<str>, Timestamp)>,
}

impl Shared {
    fn write_queue(&self) {
        loop {
            let (changed, waiting) = {
                let mut queue = lock(&self.queue);
                if queue.waiting.is_empty() {
                    queue.is_written = false;
                    return;
                }
                (
                    std::mem::take(&mut queue.changed),
                    std::mem::take(&mut queue.waiting),
                )
            };
            let batch = self.batch(&changed);
            let written = self.write(&batch);
            if written {
                self.settle(&batch);
            }
            for waiter in waiting {
                // Whoever went away needs no answer.
                let _ = waiter.send(written);
            }
        }
    }

    fn batch(&self, changed: &HashSet<[u8; 32]>) -> Batch {
        let marks = lock(&self.marks);
        let rows = changed
            .iter()
            .filter_map(|hash| Some((*hash, marks.by_hash.get(hash)?.clone())));
        Batch {
            rows: rows.collect(),
            dropped: marks.dropped.iter().copied().collect(),
            floors: marks
                .floors
                .iter()
                .map(|(policy, floor)| (Arc::clone(policy), *floor))
                .collect(),
        }
    }

    fn settle(&self, batch: &Batch) {
        let mut marks = lock(&self.marks);
        for (hash, written) in &batch.rows {
            if let Some(entry) = marks.by_hash.get_mut(hash)
                && entry.mark == written.mark
            {
                entry.is_written = true;
            }
        }
        for hash in &batch.dropped {
            marks.dropped.remove(hash);
        }
    }

    fn write(&self, batch: &Batch) -> bool {
        let Some(Some(database)) = self.database.get() else {
            // In memory only.
            return true;
        };
        self.told(|| put(database, batch)).is_some()
    }

    /// Reads the store into memory; false where that failed.
    fn read_all(&self) -> bool {
        let opened = match &self.path {
            None => Some(None),
            Some(path) => self.told(|| open(path)).map(Some),
        };
        let Some(database) = opened else {
            return false;
        };
        if let Some(database) = &database {
            let Some((rows, floors)) = self.told(|| take_all(database)) else {
                return false;
            };
            let mut marks = lock(&self.marks);
            marks.floors = floors;
            for (hash, entry) in rows {
                marks.put(hash, entry);
            }
            marks.forget();
        }
        // It is done by one at a time.
        let _ = self.database.set(database);
        true
    }

    /// Counts and tells a failure. The embedded store promises errors for what it can detect, and
    /// panics on the rest.
    fn told<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
        let error: Failure = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error,
            Err(_) => "it crashed while it was read or written".into(),
        };
        self.metrics.disk_failed(DiskFailure::Served);
        let database_error = error.downcast_ref::<redb::DatabaseError>();
        if matches!(
            database_error,
            Some(redb::DatabaseError::DatabaseAlreadyOpen)
        ) {
            tracing::error!(
                path = ?self.path,
                "another process that shares the cache directory remembers what tags named: here, \
                 policies with `no_rollback` refuse tags; give each process a directory of its own"
            );
            return None;
        }
        tracing::error!(
            path = ?self.path, %error,
            "what tags named before cannot be looked up or written down: policies with \
             `no_rollback` refuse tags until it can; restore the file, or remove it so that what \
             was served is forgotten, and start anew"
        );
        None
    }
}

/// Opens the file, or makes one. A new one gets its name when it is whole, so that one that is
/// there and cannot be read is never one that was just begun.
fn open(path: &Path) -> Result<Database, Failure> {
    if !path.try_exists()? {
        let new = path.with_extension("redb.new");
        if new.try_exists()? {
            fs::remove_file(&new)?;
        }
        let database = Database::create(&new)?;
        let transaction = database.begin_write()?;
        transaction.open_table(SERVED)?;
        transaction.open_table(FLOORS)?;
        transaction.commit()?;
        drop(database);
        fs::rename(&new, path)?;
    }
    let database = Database::builder()
        .set_check_integrity_on_open(true)
        .open(path)?;
    Ok(database)
}

type All = (Vec<([u8; 32], Entry)>, HashMap<Arc<str>, Timestamp>);

/// Everything that is stored, or nothing: a row that cannot be read could be the one that forbids.
fn take_all(database: &Database) -> Result<All, Failure> {
    let transaction = database.begin_read()?;
    let mut rows = Vec::new();
    for row in transaction.open_table(SERVED)?.iter()? {
        let (hash, value) = row?;
        let (signed_at, served_at, digest, policy) = value.value();
        let mark = Mark {
            digest: digest.parse()?,
            signed_at: Timestamp::from_microsecond(signed_at)?,
            served_at: Timestamp::from_microsecond(served_at)?,
        };
        let entry = Entry {
            mark,
            policy: policy.into(),
            is_written: true,
        };
        rows.push((hash.value().try_into()?, entry));
    }
    let mut floors = HashMap::new();
    for row in transaction.open_table(FLOORS)?.iter()? {
        let (policy, floor) = row?;
        let floor = Timestamp::from_microsecond(floor.value())?;
        floors.insert(policy.value().into(), floor);
    }
    Ok((rows, floors))
}

fn put(database: &Database, batch: &Batch) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    {
        let mut served = transaction.open_table(SERVED)?;
        for (hash, Entry { mark, policy, .. }) in &batch.rows {
            let (signed_at, served_at) = (
                mark.signed_at.as_microsecond(),
                mark.served_at.as_microsecond(),
            );
            let digest = mark.digest.to_string();
            let row = (signed_at, served_at, digest.as_str(), &**policy);
            served.insert(hash.as_slice(), row)?;
        }
        for hash in &batch.dropped {
            served.remove(hash.as_slice())?;
        }
        let mut floors = transaction.open_table(FLOORS)?;
        for (policy, floor) in &batch.floors {
            floors.insert(&**policy, floor.as_microsecond())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: Option<&Path>, entries_max: usize) -> Served {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        Served::new(directory, entries_max, metrics, TaskTracker::new())
    }

    fn tag(name: &str) -> TagKey {
        let image = ImageName {
            registry: "registry.acme.test".parse().expect("a host"),
            repository: "app".parse().expect("a repository"),
        };
        TagKey::new(&"releases".into(), &image, &name.parse().expect("a tag"))
    }

    fn mark(content: &str, second: i64) -> Mark {
        Mark {
            digest: Digest::sha256(content.as_bytes()),
            signed_at: Timestamp::from_second(second).expect("a time"),
            served_at: Timestamp::from_second(second + 1).expect("a time"),
        }
    }

    async fn end(store: Served) {
        let tasks = store.0.tasks.clone();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn the_latest_is_kept_and_outlives_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = store(Some(directory.path()), 10);
        assert_eq!(first.recall(&tag("v1")).await, Ok(Recalled::Nothing));
        for (content, second, is_latest) in [("a", 10, true), ("b", 20, true), ("a", 10, false)] {
            let noted = first.note(&tag("v1"), mark(content, second)).await;
            assert_eq!(noted, Ok(is_latest));
        }
        // What was not served is nobody's, and another tag is another's.
        assert_eq!(first.note(&tag("v2"), mark("a", 10)).await, Ok(true));
        end(first).await;
        let second = store(Some(directory.path()), 10);
        let recalled = second.recall(&tag("v1")).await;
        assert_eq!(recalled, Ok(Recalled::Mark(mark("b", 20))));
        assert_eq!(second.note(&tag("v1"), mark("c", 19)).await, Ok(false));
        // The same content is no step back, nor is what was signed at the same time.
        assert_eq!(second.note(&tag("v1"), mark("b", 5)).await, Ok(true));
        assert_eq!(second.note(&tag("v1"), mark("c", 20)).await, Ok(true));
        end(second).await;
    }

    #[tokio::test]
    async fn what_is_forgotten_leaves_a_floor() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = store(Some(directory.path()), 2);
        for (name, second) in [("one", 30), ("two", 10), ("three", 20), ("four", 40)] {
            let noted = first.note(&tag(name), mark(name, second)).await;
            assert_eq!(noted, Ok(true));
        }
        end(first).await;
        let second = store(Some(directory.path()), 2);
        let floor = Recalled::Forgotten(Timestamp::from_second(20).expect("a time"));
        for name in ["two", "three", "never"] {
            assert_eq!(second.recall(&tag(name)).await, Ok(floor), "{name}");
        }
        let kept = second.recall(&tag("one")).await;
        assert_eq!(kept, Ok(Recalled::Mark(mark("one", 30))));
        assert_eq!(lock(&second.0.marks).by_time.len(), 2);
        end(second).await;
    }

    // THREATS C7: two memories of one tag would let it move back at either.
    #[tokio::test]
    async fn a_store_has_one_user() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = store(Some(directory.path()), 10);
        assert_eq!(first.note(&tag("v1"), mark("b", 20)).await, Ok(true));
        let second = store(Some(directory.path()), 10);
        assert_eq!(second.recall(&tag("v1")).await, Err(Unusable));
        assert_eq!(second.note(&tag("v1"), mark("a", 10)).await, Err(Unusable));
        assert_eq!(first.note(&tag("v1"), mark("a", 10)).await, Ok(false));
        end(first).await;
        end(second).await;
    }

    // THREATS C8: nothing is made up for a store that cannot be read.
    #[tokio::test]
    async fn a_damaged_store_is_nothing_known() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("served.redb");
        let damages: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes.truncate(1000),
            |bytes| bytes.clear(),
            |bytes| bytes[..64].fill(0x55),
        ];
        for damage in damages {
            let whole = store(Some(directory.path()), 10);
            assert_eq!(whole.note(&tag("v1"), mark("a", 10)).await, Ok(true));
            end(whole).await;
            let mut bytes = fs::read(&file).expect("a file");
            damage(&mut bytes);
            fs::write(&file, bytes).expect("writes");
            let damaged = store(Some(directory.path()), 10);
            assert_eq!(damaged.recall(&tag("v1")).await, Err(Unusable));
            assert_eq!(damaged.note(&tag("v1"), mark("a", 10)).await, Err(Unusable));
            end(damaged).await;
            fs::remove_file(&file).expect("a new one");
        }
    }

    // What is not on disk is forgotten with the process, so it is not served.
    #[tokio::test]
    async fn what_cannot_be_written_is_not_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = directory.path().join("missing");
        let nowhere = store(Some(&missing), 10);
        assert_eq!(nowhere.note(&tag("v1"), mark("a", 10)).await, Err(Unusable));
        let memory = store(None, 10);
        assert_eq!(memory.note(&tag("v1"), mark("a", 10)).await, Ok(true));
        assert_eq!(memory.note(&tag("v1"), mark("b", 9)).await, Ok(false));
    }
}
