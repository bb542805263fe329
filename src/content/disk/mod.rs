//! The cache directory. Sole home of its file system.
//!
//! ```text
//! <directory>/lock                                   held while a process begins to use it
//! <directory>/tmp/<number>/lock                      held while that process uses it
//! <directory>/tmp/<number>/<chance>.<number>         half written by it, or on its way out
//! <directory>/blobs/sha256/ab/<hex>.<repository>     content, verified before it got its name
//! <directory>/manifests/sha256/ab/<hex>.<repository>
//! <directory>/evidence/sha256/ab/<hex>.<repository>
//! ```
//!
//! A file's name says which bytes it holds and, as a hash, which repository of which registry
//! they were had from, so there is nothing beside the file that could disagree with it: what
//! another repository has is another name. Where two repositories have the same content, the
//! two names are hard links, and the bytes are stored and counted once.
//!
//! Content is written under `tmp` and renamed when all of it has hashed to its digest. Nothing
//! is synced to the disk: the bytes of a killed process are in the kernel's hands, and after a
//! loss of power a file may be short or empty, which its next use finds out. For no file is
//! believed: the first use in each process hashes it, and later ones ask the file system
//! whether it has changed since. At the start nothing is read but names and sizes.
//!
//! Any number of processes may use it, each with an index of its own. What another has written is found
//! by its name, and is hashed like all else before it is believed; what another has removed is not
//! there. A process that has company takes stock once a minute while it writes, by a task, so the
//! directory may hold more than its bound by what the others write in that time. On a network file
//! system locks may be lost, and two processes may take one folder below `tmp` for theirs: so what is
//! half done is named by chance, and what got its name is believed only if it is the file that was
//! written.
//!
//! Whoever calls is on a thread that may block. This room's index is locked for moments only.

mod check;
mod draft;
mod file;
mod index;
mod name;
mod user;

pub use check::check_directory;
pub(super) use draft::Draft;
pub(super) use file::{Corrupt, StoredFile, open};
pub(super) use name::{FileName, Kind};

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirEntry, File, FileTimes, Metadata},
    hash::{BuildHasher as _, RandomState},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::metrics::DiskFailure;
use crate::metrics::Metrics;
use crate::oci::Algorithm;
use crate::oci::ImageName;

use index::{Index, Stamp};
use user::User;

/// The most files that are kept, whatever room there is, since each is known in memory too.
const FILES_MAX: usize = 150_000;
/// How old the time of use on disk may get. It outlives the process; finer is not needed.
const USE_NOTED_EVERY: Duration = Duration::from_secs(600);
/// How often a process that has company takes stock, at most.
const STOCK_TAKEN_EVERY: Duration = Duration::from_secs(60);
/// For how long nothing is written after a write has failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a cache directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made, or not be written to: most likely its permissions are those of
    /// another user.
    #[error("the cache directory {directory:?} cannot be used: {error}")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// Another process begins to use it, and does not come to an end; or it is one of an early version,
    /// which shared it with nobody.
    #[error("the cache directory {0:?} is kept by another process, perhaps an older pullgate")]
    InUse(PathBuf),
}

/// The cache directory.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    bytes_max: u64,
    index: Mutex<Index>,
    /// Nothing is written before, since writing has failed.
    paused_until: Mutex<Option<Instant>>,
    temporary: AtomicU64,
    /// Keeps temporary names apart from those of others, who may have the same folder by mistake.
    chance: u64,
    metrics: Arc<Metrics>,
    clock: Clock,
    user: User,
    tasks: TaskTracker,
    /// When stock was taken last, or a task was begun that will. Locked while somebody counts.
    counted_at: Mutex<Option<Instant>>,
}

impl Disk {
    /// Takes the directory into use and removes what earlier processes left half done. Its
    /// content is counted by [`Disk::take_stock`], and now and then by one of `tasks`.
    pub(super) fn open(
        root: &Path,
        bytes_max: u64,
        metrics: Arc<Metrics>,
        clock: Clock,
        tasks: TaskTracker,
    ) -> Result<Self, OpenError> {
        let user = User::join(root)?;
        Ok(Self {
            root: root.to_owned(),
            bytes_max,
            index: Mutex::default(),
            paused_until: Mutex::default(),
            temporary: AtomicU64::new(0),
            chance: RandomState::new().hash_one(()),
            metrics,
            clock,
            user,
            tasks,
            counted_at: Mutex::default(),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Which of those who use the directory this process is: the lowest number that is free.
    pub(super) fn user_number(&self) -> u32 {
        self.user.number()
    }

    /// Counts what others have left, and makes it fit. Files can be read, and are written, before it
    /// is done.
    pub(super) fn take_stock(&self) {
        let mut counted_at = lock(&self.counted_at);
        self.count(|| true);
        *counted_at = Some(Instant::now());
        drop(counted_at);
        self.make_room(0);
    }

    /// Has stock taken where that is due: others write and remove files, too. By a task, since on a
    /// network file system it takes long, and whoever is about to write does not wait for it.
    fn have_stock_taken(self: &Arc<Self>) {
        // While somebody counts it is not due.
        let Ok(mut counted_at) = self.counted_at.try_lock() else {
            return;
        };
        let age = counted_at.map(|counted_at| counted_at.elapsed());
        if self.tasks.is_closed() || age.is_none_or(|age| age < STOCK_TAKEN_EVERY) {
            return;
        }
        // Nor is it for who comes before the task has begun.
        *counted_at = Some(Instant::now());
        drop(counted_at);
        let disk = Arc::clone(self);
        self.tasks
            .spawn_blocking(move || disk.take_stock_in_company());
    }

    fn take_stock_in_company(&self) {
        let mut counted_at = lock(&self.counted_at);
        // The program does not wait for it when it ends.
        let is_counted = self.has_company() && self.count(|| !self.tasks.is_closed());
        *counted_at = Some(Instant::now());
        drop(counted_at);
        if is_counted {
            self.make_room(0);
        }
    }

    /// Counts all that is there, as long as it is to go on; false when it was not.
    fn count(&self, goes_on: impl Fn() -> bool) -> bool {
        let started = Instant::now();
        for kind in Kind::ALL {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let folder = self.root.join(kind.folder()).join(algorithm.as_str());
                for shard in entries(&folder) {
                    if !goes_on() {
                        return false;
                    }
                    self.take_stock_of(kind, algorithm, &shard.path());
                }
            }
        }
        let (files, bytes) = self.holds();
        self.metrics.disk_holds(bytes);
        let took = started.elapsed();
        tracing::info!(files, bytes, ?took, "the cache directory is counted");
        true
    }

    /// Files and bytes that are there, as far as is known.
    pub(super) fn holds(&self) -> (usize, u64) {
        let index = self.index();
        (index.len(), index.bytes())
    }

    fn take_stock_of(&self, kind: Kind, algorithm: Algorithm, shard: &Path) {
        let found: Vec<_> = entries(shard)
            .filter_map(|entry| {
                let name = FileName::parse(kind, algorithm, entry.file_name().to_str()?)?;
                let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
                Some((name, stamp(&metadata), used(&metadata)))
            })
            .collect();
        let there: HashSet<FileName> = found.iter().map(|(name, ..)| *name).collect();
        let mut index = self.index();
        for (name, stamp, used) in found {
            // What is known may have been used by this process, or by another one, last.
            if index.contains(&name) {
                index.learn_use(&name, used);
            } else {
                index.insert(name, stamp, used);
            }
        }
        let is_missing = |name: &FileName| !there.contains(name);
        let missing = FileName::in_shard(kind, algorithm, shard)
            .map_or_else(Vec::new, |shard| index.within(shard, is_missing));
        drop(index);
        for name in missing {
            // It may have come after its folder was read. The file system may be slow, and is not
            // asked under the lock but for what is gone.
            let is_gone = || !name.path(&self.root).exists();
            if is_gone() {
                let mut index = self.index();
                if is_gone() {
                    index.remove(&name);
                }
            }
        }
    }

    /// The manifests that are there of these images, whoever has written them.
    pub(super) fn manifests_of<'a>(
        &self,
        images: &'a [ImageName],
    ) -> Vec<(&'a ImageName, FileName)> {
        let by_mark: HashMap<_, _> = images
            .iter()
            .map(|image| (name::mark(&image.registry, &image.repository), image))
            .collect();
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.root.join(Kind::Manifest.folder());
            let folder = folder.join(algorithm.as_str());
            let files = entries(&folder).flat_map(|shard| entries(&shard.path()));
            found.extend(files.filter_map(|file| {
                let name = file.file_name();
                let name = FileName::parse(Kind::Manifest, algorithm, name.to_str()?)?;
                Some((*by_mark.get(&name.mark())?, name))
            }));
        }
        found
    }

    /// Whether other processes use the directory now.
    pub(super) fn has_company(&self) -> bool {
        self.user.has_company()
    }

    /// A file, if it is there. Whoever reads it verifies it, unless it says it is.
    pub(super) fn find(self: &Arc<Self>, name: FileName) -> Option<StoredFile> {
        let (file, mut stamp, noted) = match open(&name.path(&self.root)) {
            Ok((file, metadata)) => (file, stamp(&metadata), used(&metadata)),
            Err(error) => {
                self.index().remove(&name);
                if error.kind() != ErrorKind::NotFound {
                    self.failed(DiskFailure::Read, &error);
                }
                return None;
            }
        };
        let now = self.now();
        let verified = {
            let mut index = self.index();
            if !index.has(&name, &stamp) {
                index.insert(name, stamp, now);
            }
            index.touch(&name, now);
            // Each note is a change of the file, after which all others hash it once more: one that
            // any of them has made will do.
            if index.is_note_due(&name, noted, now) {
                stamp = note_use(&mut index, &file, stamp, (&name, now));
            }
            index.is_verified(&stamp, &name.digest)
        };
        Some(StoredFile::new(
            Arc::clone(self),
            name,
            file,
            stamp,
            verified,
        ))
    }

    /// True when the file is there already; that is a use of it.
    pub(super) fn has(&self, name: &FileName) -> bool {
        let now = self.now();
        self.index().touch(name, now) && name.path(&self.root).exists()
    }

    /// Writes verified bytes, unless they are there.
    pub(super) fn keep(self: &Arc<Self>, name: FileName, bytes: &[u8]) {
        if self.has(&name) {
            return;
        }
        if let Some(mut draft) = Draft::begin(self, Some(bytes.len() as u64))
            && draft.append(bytes).is_ok()
        {
            draft.publish(name);
        }
    }

    /// Gives a finished file its name. Where another repository has the same content, that is
    /// shared instead, and the caller's file is not needed any more. `file` is the one whose bytes have
    /// hashed to the digest.
    fn admit(&self, name: FileName, temporary: &Path, file: &File) -> io::Result<()> {
        let path = name.path(&self.root);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let hashed = file.metadata().ok().map(|metadata| metadata.ino());
        // Renames and links happen under the lock, so that an eviction takes either the old
        // file or the new one, in the index and in the file system.
        let mut index = self.index();
        let sibling = index.sibling(&name).filter(|sibling| *sibling != name);
        let shared = sibling.and_then(|sibling| self.share(&sibling, &path).ok());
        if shared.is_none() {
            fs::rename(temporary, &path)?;
        }
        let stamp = stamp(&fs::metadata(&path)?);
        index.insert(name, stamp, self.now());
        match shared {
            Some(before) => index.touched(&before, stamp, &name.digest),
            None if hashed == Some(stamp.inode) => index.verified(stamp, name.digest),
            // Another process has put something there meanwhile: its next use hashes it.
            None => {}
        }
        self.metrics.disk_holds(index.bytes());
        Ok(())
    }

    /// Gives the content of another repository's file this name, too; how that was before.
    fn share(&self, sibling: &FileName, path: &Path) -> io::Result<Stamp> {
        let sibling = sibling.path(&self.root);
        let before = stamp(&fs::metadata(&sibling)?);
        match fs::hard_link(&sibling, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(path)?;
                fs::hard_link(&sibling, path)?;
            }
            other => other?,
        }
        Ok(before)
    }

    /// Removes a file that does not hold what its name says.
    fn discard_corrupt(&self, name: &FileName, inode: u64) {
        self.metrics.disk_corrupt();
        tracing::warn!(
            digest = %name.digest,
            "a file in the cache directory was corrupt and is removed"
        );
        self.discard(name, inode);
    }

    /// Removes a file that is of no use, under all its names.
    fn discard(&self, name: &FileName, inode: u64) {
        let mut index = self.index();
        for same in index.same_bytes(name, inode) {
            // Only the file that was found to be so: it may have been replaced.
            let path = same.path(&self.root);
            if fs::metadata(&path).is_ok_and(|found| found.ino() == inode) {
                self.remove(&path);
            }
            index.remove(&same);
        }
        self.metrics.disk_holds(index.bytes());
    }

    /// Promises room for so many more bytes, and takes it from what was not used for the
    /// longest time; false when there is none.
    fn make_room(&self, bytes: u64) -> bool {
        let mut evicted = Vec::new();
        let fits = {
            let mut index = self.index();
            // Nothing is given up for what cannot fit all the same.
            if index.reserved().saturating_add(bytes) > self.bytes_max {
                return false;
            }
            loop {
                let files_fit = index.len() <= FILES_MAX;
                if files_fit && index.claimed().saturating_add(bytes) <= self.bytes_max {
                    index.reserve(bytes);
                    break true;
                }
                let Some(oldest) = index.oldest() else {
                    break false;
                };
                index.remove(&oldest);
                // Out of the way at once; the slow part, giving back its blocks, comes after. Others
                // may have removed it before.
                let (path, grave) = (oldest.path(&self.root), self.temporary_path());
                if self.in_folder(|| fs::rename(&path, &grave)).is_ok() {
                    evicted.push(grave);
                    self.metrics.disk_evicted();
                }
            }
        };
        for grave in &evicted {
            self.remove(grave);
        }
        if !evicted.is_empty() {
            self.metrics.disk_holds(self.index().bytes());
        }
        fits
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            self.failed(DiskFailure::Write, &error);
        }
    }

    fn temporary_path(&self) -> PathBuf {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:016x}.{number}", self.chance);
        self.user.folder().join(name)
    }

    /// Does something in the folder for what is half done. It is made anew where another process has
    /// removed it: where locks were lost, one that lives may be taken for one that is gone.
    fn in_folder<T>(&self, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let folder = self.user.folder();
        match attempt() {
            Err(error) if error.kind() == ErrorKind::NotFound && !folder.exists() => {
                fs::create_dir_all(folder)?;
                attempt()
            }
            done => done,
        }
    }

    fn is_paused(&self) -> bool {
        let paused = *lock(&self.paused_until);
        paused.is_some_and(|until| Instant::now() < until)
    }

    /// Notes a failure; after one of writing, nothing is written for a while.
    fn failed(&self, failure: DiskFailure, error: &io::Error) {
        self.metrics.disk_failed(failure);
        tracing::warn!(?failure, %error, "the cache directory fails");
        if failure == DiskFailure::Write {
            *lock(&self.paused_until) = Some(Instant::now() + PAUSE);
        }
    }

    fn now(&self) -> SystemTime {
        self.clock.now().into()
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

/// What is in a folder; nothing, where it cannot be read or is not there.
fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Marks in the file system when a file was used, for the order in which files go: the time of
/// access, since a change of the other would look like one of the content. Answers how the file
/// is then. Under the lock, so that no reader sees the change before the index knows whose it is.
fn note_use(
    index: &mut Index,
    file: &File,
    found: Stamp,
    (name, now): (&FileName, SystemTime),
) -> Stamp {
    let look = || file.metadata().map(|metadata| stamp(&metadata));
    let Ok(before) = look() else {
        return found;
    };
    // Lost is the place in the line of a file that cannot be marked, and no more.
    let _ = file.set_times(FileTimes::new().set_accessed(now));
    let after = look().unwrap_or(before);
    index.touched(&before, after, &name.digest);
    after
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// When a file was used last, as far as the file system knows.
fn used(metadata: &Metadata) -> SystemTime {
    let times = [metadata.accessed(), metadata.modified()];
    let known = times.into_iter().flatten().max();
    known.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::ContentKey;
    use crate::oci::Digest;

    /// Room for two small files.
    const TWO: u64 = 8192;

    /// One of the processes that share a directory.
    pub(super) fn open(root: &Path, bytes_max: u64) -> Arc<Disk> {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let tasks = TaskTracker::new();
        let opened = Disk::open(root, bytes_max, metrics, Clock::system(), tasks);
        Arc::new(opened.expect("opens"))
    }

    pub(super) fn name(content: &[u8]) -> FileName {
        let key = ContentKey {
            host: "acme.test".parse().expect("a host"),
            repository: "app".parse().expect("a repository"),
            digest: Digest::sha256(content),
        };
        FileName::new(Kind::Blob, &key)
    }

    pub(super) fn metric(disk: &Disk, name: &str) -> u64 {
        let text = disk.metrics.render().expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    fn keep(disk: &Arc<Disk>, content: &[u8]) {
        disk.keep(name(content), content);
    }

    fn is_there(disk: &Disk, content: &[u8]) -> bool {
        name(content).path(&disk.root).exists()
    }

    /// Makes it look as if it had come, and were used last, so many seconds ago.
    fn make_old(disk: &Disk, content: &[u8], seconds: u64) {
        let at = disk.now() - Duration::from_secs(seconds);
        let path = name(content).path(&disk.root);
        let file = File::options().write(true).open(path).expect("a file");
        let times = FileTimes::new().set_accessed(at).set_modified(at);
        file.set_times(times).expect("are set");
    }

    fn accessed(disk: &Disk, content: &[u8]) -> SystemTime {
        let metadata = fs::metadata(name(content).path(&disk.root)).expect("a file");
        metadata.accessed().expect("a time")
    }

    #[test]
    fn temporary_names_of_two_processes_never_meet() {
        let root = tempfile::tempdir().expect("a directory");
        let (one, other) = (open(root.path(), TWO), open(root.path(), TWO));
        let paths = [&one, &one, &other, &other].map(|disk| disk.temporary_path());
        let names: HashSet<_> = paths.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names.len(), 4);
    }

    #[test]
    fn who_has_lost_its_folder_writes_and_evicts_all_the_same() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = open(root.path(), TWO);
        let lose = || fs::remove_dir_all(disk.user.folder()).expect("is removed");
        lose();
        keep(&disk, b"old");
        keep(&disk, b"new");
        lose();
        keep(&disk, b"next");
        let there = [&b"old"[..], b"new", b"next"].map(|content| is_there(&disk, content));
        assert_eq!(there, [false, true, true]);
    }

    #[test]
    fn what_is_not_the_file_that_was_written_is_not_believed() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = open(root.path(), TWO);
        let publish = |stranger: Option<&Path>| {
            let mut draft = Draft::begin(&disk, Some(5)).expect("room");
            draft.append(b"right").expect("writes");
            if let Some(stranger) = stranger {
                fs::rename(stranger, draft.path()).expect("is in its place");
            }
            draft.publish(name(b"right"));
            disk.find(name(b"right")).expect("a file")
        };
        let stranger = root.path().join("stranger");
        fs::write(&stranger, b"wrong").expect("writes");
        let found = publish(Some(&stranger));
        assert!(!found.is_verified());
        assert_eq!(found.whole(), Err(Corrupt));
        assert!(disk.find(name(b"right")).is_none());
        let found = publish(None);
        assert!(found.is_verified());
        assert_eq!(found.whole().expect("all of it"), &b"right"[..]);
    }

    #[tokio::test]
    async fn a_task_takes_stock_unless_the_program_ends() {
        let root = tempfile::tempdir().expect("a directory");
        let (one, other) = (open(root.path(), TWO), open(root.path(), TWO));
        one.take_stock();
        let begin_when_due = || {
            *lock(&one.counted_at) = Instant::now().checked_sub(STOCK_TAKEN_EVERY);
            drop(Draft::begin(&one, Some(1)));
        };
        keep(&other, b"first");
        begin_when_due();
        while !one.tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(one.holds().0, 1);
        keep(&other, b"second");
        // One is enough.
        drop(Draft::begin(&one, Some(1)));
        assert!(one.tasks.is_empty());
        one.tasks.close();
        begin_when_due();
        assert!(one.tasks.is_empty());
        // One that is under way then ends early.
        one.take_stock_in_company();
        assert_eq!(one.holds().0, 1);
    }

    #[test]
    fn what_others_use_stays() {
        let root = tempfile::tempdir().expect("a directory");
        let (one, other) = (open(root.path(), TWO), open(root.path(), TWO));
        keep(&one, b"in use");
        keep(&one, b"unused");
        make_old(&one, b"in use", 9000);
        make_old(&one, b"unused", 8000);
        other.take_stock();
        assert!(one.find(name(b"in use")).is_some());
        other.take_stock();
        keep(&other, b"new");
        let there = [&b"in use"[..], b"unused", b"new"].map(|content| is_there(&one, content));
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn a_use_is_noted_by_one_for_all() {
        let root = tempfile::tempdir().expect("a directory");
        let (one, other) = (open(root.path(), TWO), open(root.path(), TWO));
        keep(&one, b"content");
        make_old(&one, b"content", 9000);
        other.take_stock();
        let before = accessed(&one, b"content");
        assert!(one.find(name(b"content")).is_some());
        let noted = accessed(&one, b"content");
        assert!(noted > before);
        for disk in [&other, &one] {
            assert!(disk.find(name(b"content")).is_some());
            assert_eq!(accessed(&one, b"content"), noted);
        }
    }

    #[test]
    fn what_was_gone_already_was_not_evicted() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = open(root.path(), TWO);
        let evictions = || metric(&disk, "pullgate_cache_disk_evictions_total");
        keep(&disk, b"gone");
        keep(&disk, b"there");
        fs::remove_file(name(b"gone").path(root.path())).expect("is removed");
        keep(&disk, b"new");
        assert_eq!(evictions(), 0);
        keep(&disk, b"newer");
        assert_eq!(evictions(), 1);
    }
}
