//! Who uses the directory: any number of processes, on any machines that share its file system and
//! its locks. Each has a folder of its own for what is half done, and shows by a lock that it lives.

use std::{
    fs::{self, DirEntry, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

use super::OpenError;

/// How long others may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// More processes than will ever share one directory.
const USERS_MAX: u32 = 10_000;

/// One process that uses the directory.
#[derive(Debug)]
pub(super) struct User {
    number: u32,
    /// What all have their folders in.
    all: PathBuf,
    folder: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl User {
    /// Joins those who use the directory, and removes what others left half done who live no more.
    pub(super) fn join(root: &Path) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::Unusable {
            directory: root.to_owned(),
            error,
        };
        let all = root.join("tmp");
        fs::create_dir_all(&all).map_err(unusable)?;
        // One begins at a time, so that nobody takes another who begins for one who is gone.
        let entrance = open_lock(&root.join("lock"), true).map_err(unusable)?;
        if !locked_in_time(&entrance).map_err(unusable)? {
            return Err(OpenError::InUse(root.to_owned()));
        }
        clean_up(&all).map_err(unusable)?;
        let (number, folder) = new_folder(&all).map_err(unusable)?;
        let lock = open_lock(&folder.join("lock"), true).map_err(unusable)?;
        lock.lock().map_err(unusable)?;
        Ok(Self {
            number,
            all,
            folder,
            _lock: lock,
        })
    }

    /// The lowest number that no other process had when this one began.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Where it keeps what is half done.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether others use the directory now.
    pub(super) fn has_company(&self) -> bool {
        let folders = fs::read_dir(&self.all).into_iter().flatten().flatten();
        let mut others = folders.map(|entry| entry.path());
        others.any(|other| other != self.folder && is_used(&other).unwrap_or(true))
    }
}

/// Opens what is a file, and nothing else, as `file::open` does: a link may lead out of the directory,
/// and a pipe holds up whoever opens it.
fn open_lock(path: &Path, create: bool) -> io::Result<File> {
    let at_once = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(at_once.bits()).map_err(io::Error::other)?;
    let mut options = File::options();
    options.create(create).truncate(false).write(true);
    let lock = options.custom_flags(flags).open(path)?;
    if !lock.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(lock)
}

/// Locks it, unless others have it for too long.
fn locked_in_time(lock: &File) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= PATIENCE => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Removes what nobody uses. What cannot be removed stays, and so does what may be used as far as
/// anybody can tell: it takes room, and keeps nobody from beginning.
fn clean_up(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        if let Err(error) = remove_unused(&entry) {
            tracing::warn!(
                path = ?entry.path(),
                %error,
                "what may be left over in the cache directory stays there"
            );
        }
    }
    Ok(())
}

fn remove_unused(entry: &DirEntry) -> io::Result<()> {
    let path = entry.path();
    match entry.file_type()?.is_dir() {
        true if is_used(&path)? => Ok(()),
        true => fs::remove_dir_all(&path),
        false => fs::remove_file(&path),
    }
}

/// Whether a process that lives has this folder.
fn is_used(folder: &Path) -> io::Result<bool> {
    let lock = match open_lock(&folder.join("lock"), false) {
        Ok(lock) => lock,
        // Nothing is in a file, such as one that could not be removed.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn new_folder(all: &Path) -> io::Result<(u32, PathBuf)> {
    for number in 0..USERS_MAX {
        let folder = all.join(number.to_string());
        match fs::create_dir(&folder) {
            Ok(()) => return Ok((number, folder)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many processes use it"))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    fn make_pipe(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo").success());
    }

    #[test]
    fn each_has_a_place_of_its_own_and_leaves_it_to_the_next() {
        let root = tempfile::tempdir().expect("a directory");
        let join = || User::join(root.path()).expect("joins");
        let (first, second) = (join(), join());
        assert_eq!((first.number(), second.number()), (0, 1));
        fs::write(first.folder().join("7"), "half").expect("a file");
        fs::write(second.folder().join("7"), "half").expect("a file");
        fs::write(root.path().join("tmp/stray"), "half").expect("a file");
        assert!(first.has_company());
        drop(first);
        // What the first left is gone, what the second has is not.
        let third = join();
        assert_eq!(third.number(), 0);
        assert!(!third.folder().join("7").exists());
        assert!(second.folder().join("7").exists());
        assert!(!root.path().join("tmp/stray").exists());
        drop(second);
        assert!(!third.has_company());
    }

    #[test]
    fn a_folder_of_which_nobody_can_tell_stays_and_keeps_nobody_out() {
        let root = tempfile::tempdir().expect("a directory");
        let elsewhere = root.path().join("elsewhere");
        fs::write(&elsewhere, "").expect("a file");
        let lock = |number: u32| {
            let folder = root.path().join("tmp").join(number.to_string());
            fs::create_dir_all(&folder).expect("a folder");
            folder.join("lock")
        };
        fs::create_dir(lock(0)).expect("a folder");
        symlink(&elsewhere, lock(1)).expect("a link");
        make_pipe(&lock(2));
        // Nobody has this one.
        fs::write(lock(3), "").expect("a file");
        let user = User::join(root.path()).expect("joins");
        assert_eq!(user.number(), 3);
        assert!(user.has_company());
        for number in 0..3 {
            assert!(fs::symlink_metadata(lock(number)).is_ok(), "{number}");
        }
    }

    #[test]
    fn an_entrance_that_is_no_file_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let (entrance, elsewhere) = (root.path().join("lock"), root.path().join("elsewhere"));
        symlink(&elsewhere, &entrance).expect("a link");
        User::join(root.path()).expect_err("a link");
        assert!(!elsewhere.exists());
        fs::remove_file(&entrance).expect("the link");
        make_pipe(&entrance);
        User::join(root.path()).expect_err("a pipe");
    }

    #[test]
    fn a_file_is_no_company() {
        let root = tempfile::tempdir().expect("a directory");
        let user = User::join(root.path()).expect("joins");
        fs::write(root.path().join("tmp/stray"), "half").expect("a file");
        assert!(!user.has_company());
    }

    #[test]
    fn many_begin_at_once() {
        let root = tempfile::tempdir().expect("a directory");
        let join = |_| {
            thread::spawn({
                let root = root.path().to_owned();
                move || User::join(&root).expect("joins")
            })
        };
        let all: Vec<_> = (0..16).map(join).collect();
        let all = all.into_iter().map(|user| user.join().expect("no panic"));
        let all: Vec<User> = all.collect();
        let mut numbers: Vec<u32> = all.iter().map(User::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..16).collect::<Vec<u32>>());
    }
}
