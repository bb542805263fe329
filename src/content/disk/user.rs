//! Who uses the directory: any number of processes, on any machines that share its file system and
//! its locks. Each has a folder of its own for what is half done, and shows by a lock that it lives.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

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
        let entrance = open_lock(&root.join("lock")).map_err(unusable)?;
        if !locked_in_time(&entrance).map_err(unusable)? {
            return Err(OpenError::InUse(root.to_owned()));
        }
        clean_up(&all).map_err(unusable)?;
        let (number, folder) = new_folder(&all).map_err(unusable)?;
        let lock = open_lock(&folder.join("lock")).map_err(unusable)?;
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

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(path)
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

fn clean_up(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        let path = entry.path();
        match entry.file_type()?.is_dir() {
            true if is_used(&path)? => {}
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// Whether a process that lives has this folder.
fn is_used(folder: &Path) -> io::Result<bool> {
    let lock = match File::options().write(true).open(folder.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
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
    use super::*;

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
