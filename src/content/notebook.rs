//! The embedded store of what outlives the process and proves nothing. Sole home of its file.
//!
//! What is read here says where to look, and no more: so a store that was edited, or is an old one,
//! admits nothing. One that cannot be read is put aside, and a new one begun.
//!
//! Writes are queued and come in batches, from a task that ends when there is nothing left to
//! write. Each batch is a transaction that is synced to the disk.

use std::{
    collections::HashMap,
    fs,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redb::{Database, ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};

use super::{inner::lock, parents, remembered};
use crate::clock::Clock;
use crate::metrics::DiskFailure;
use crate::metrics::Metrics;
use crate::oci::Algorithm;
use crate::oci::Digest;

/// What waits to be written, in each queue. More is dropped, since nothing rests on it.
const QUEUE_MAX: usize = 100_000;
/// What files of stores are called, before the number of whose they are, and after it.
pub(super) const NAME: &str = "hints";
pub(super) const EXTENSION: &str = "redb";
/// How long another process may take to let go of the store.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of the store's pages that are held in memory.
const PAGES_BYTES_MAX: usize = 4 << 20;

pub(super) type Failure = Box<redb::Error>;

/// The store.
#[derive(Debug)]
pub(super) struct Notebook {
    pub(super) path: PathBuf,
    /// There were manifests in the directory when this process began.
    had_content: bool,
    database: Mutex<State>,
    /// When it was looked for what others have left.
    pub(super) adopted_at: Mutex<Option<Instant>>,
    pub(super) lacks_some: AtomicBool,
    /// How often it was begun anew.
    beginnings: AtomicU64,
    metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(Arc<Database>),
    /// The disk failed, or not even a new one could be begun. It is not tried again by this process.
    Broken,
}

impl Notebook {
    /// The store in this directory, which is [opened](Self::open) later. It is of one process at a
    /// time: `user` says of which, where several use the directory.
    pub(super) fn new(directory: &Path, user: u32, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let name = match user {
            0 => format!("{NAME}.{EXTENSION}"),
            other => format!("{NAME}-{other}.{EXTENSION}"),
        };
        Self {
            // Before anything is written by this process.
            had_content: directory.join("manifests").exists(),
            path: directory.join(name),
            database: Mutex::default(),
            adopted_at: Mutex::default(),
            lacks_some: AtomicBool::new(false),
            beginnings: AtomicU64::new(0),
            metrics,
            clock,
        }
    }

    /// Whether hints were once written in this directory that are not in this store, as far as can be
    /// told: it had to be begun anew, or others have theirs.
    pub(super) fn lacks_some(&self) -> bool {
        self.lacks_some.load(Ordering::Relaxed)
    }

    /// How often the store was begun anew: what was written before is not in it.
    pub(super) fn beginnings(&self) -> u64 {
        self.beginnings.load(Ordering::Relaxed)
    }

    /// Does something with the database. Where that fails because the file is damaged, the
    /// file is put aside, and `None` is the answer, as it is for every other failure.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Option<T> {
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

    pub(super) fn open(&self) -> Option<Arc<Database>> {
        let mut state = lock(&self.database);
        if matches!(*state, State::Closed) {
            *state = self.begin().map_or(State::Broken, State::Open);
        }
        match &*state {
            State::Open(database) => Some(Arc::clone(database)),
            State::Closed | State::Broken => None,
        }
    }

    /// Opens the file, or a new one in its place where it is damaged.
    fn begin(&self) -> Option<Arc<Database>> {
        let is_missing = !self.path.exists();
        let begun = Instant::now();
        let mut is_anew = false;
        loop {
            let created = catch_unwind(AssertUnwindSafe(|| create(&self.path)));
            let is_damaged = match created {
                Ok(Ok(database)) => {
                    let lacks_some = is_anew || (is_missing && self.had_content);
                    self.lacks_some.fetch_or(lacks_some, Ordering::Relaxed);
                    if is_anew || is_missing {
                        self.beginnings.fetch_add(1, Ordering::Relaxed);
                    }
                    return Some(Arc::new(database));
                }
                // Somebody who takes it over is done with it in a moment.
                Ok(Err(error)) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => {
                    if begun.elapsed() >= OPENED_WITHIN {
                        self.failed(&*error);
                        return None;
                    }
                    thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Ok(Err(error)) => {
                    self.failed(&*error);
                    !is_of_the_disk(&error)
                }
                Err(_) => {
                    self.failed(&"it crashed while it was opened");
                    true
                }
            };
            if !is_damaged || is_anew {
                return None;
            }
            self.put_aside();
            is_anew = true;
        }
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
    parents::make_tables(&transaction)?;
    remembered::make_tables(&transaction)?;
    transaction.commit().map_err(failure)?;
    Ok(database)
}

/// Forgets the entries that were not changed for the longest time, beyond so many.
pub(super) fn forget_oldest<K, V>(
    mut table: Table<'_, K, V>,
    mut by_age: Table<'_, u64, K>,
    entries_max: u64,
) -> Result<(), Failure>
where
    K: redb::Key + 'static,
    V: redb::Value + 'static,
{
    while by_age.len().map_err(failure)? > entries_max {
        let Some((_, oldest)) = by_age.pop_first().map_err(failure)? else {
            break;
        };
        table.remove(oldest.value()).map_err(failure)?;
    }
    Ok(())
}

/// The number under which the next entry is the youngest.
pub(super) fn next_number<K: redb::Key + 'static>(
    by_age: &Table<'_, u64, K>,
) -> Result<u64, Failure> {
    let latest = by_age.last().map_err(failure)?;
    Ok(latest.map_or(0, |(number, _)| number.value().wrapping_add(1)))
}

/// Writes a batch in one transaction; nothing, where that changes nothing.
pub(super) fn in_one<I>(
    database: &Database,
    batch: impl IntoIterator<Item = I>,
    write: impl Fn(&WriteTransaction, I) -> Result<bool, Failure>,
    finish: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let transaction = database.begin_write().map_err(failure)?;
    let mut changed = false;
    for one in batch {
        changed |= write(&transaction, one)?;
    }
    if changed {
        finish(&transaction)?;
        transaction.commit().map_err(failure)
    } else {
        transaction.abort().map_err(failure)
    }
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queue<K, V> {
    waiting: HashMap<K, V>,
    is_written: bool,
}

impl<K, V> Default for Queue<K, V> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            is_written: false,
        }
    }
}

impl<K: Hash + Eq, V: Default> Queue<K, V> {
    /// What waits under a key, or begins to; `None` when too much waits.
    pub(super) fn entry(&mut self, key: K) -> Option<&mut V> {
        if self.waiting.len() >= QUEUE_MAX && !self.waiting.contains_key(&key) {
            return None;
        }
        Some(self.waiting.entry(key).or_default())
    }

    /// True when something waits and nobody writes: then whoever asks has to.
    pub(super) fn wants_a_writer(&mut self) -> bool {
        let wants = !self.is_written && !self.waiting.is_empty();
        self.is_written |= wants;
        wants
    }

    /// All that waits; `None` when nothing does, and whoever writes is done.
    pub(super) fn next(&mut self) -> Option<HashMap<K, V>> {
        if self.waiting.is_empty() {
            self.is_written = false;
            return None;
        }
        Some(std::mem::take(&mut self.waiting))
    }
}

/// A digest as the length of its bytes and the bytes.
pub(super) fn encode(digest: &Digest) -> Vec<u8> {
    let bytes = digest.as_bytes();
    let length = u8::try_from(bytes.len()).unwrap_or(0);
    [&[length], bytes].concat()
}

/// Digests, as far as they can be read.
pub(super) fn decode(mut bytes: &[u8]) -> Vec<Digest> {
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
    digests
}

pub(super) fn failure(error: impl Into<redb::Error>) -> Failure {
    Box::new(error.into())
}

/// Whether the disk is to blame, or the system, and the file may be right.
pub(super) fn is_of_the_disk(error: &redb::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        redb::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
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
