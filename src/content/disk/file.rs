//! Reading what is stored, and believing none of it until it has hashed to its digest.

use std::{
    fs::{File, Metadata},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use rustix::fs::OFlags;

use super::{Disk, FileName, index::Stamp, stamp};
use crate::content::room::Room;
use crate::metrics::DiskFailure;
use crate::oci::Hasher;

/// Bytes that are read at a time while a file is verified on its own.
const VERIFY_BYTES: u64 = 1 << 20;
/// The largest file that is read as a whole. What is read so is far smaller, if it is what it says.
const WHOLE_BYTES_MAX: u64 = 256 << 20;

/// The file does not hold what its name says, or cannot be read. It is gone, so asking again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::content) struct Corrupt;

/// A file that is open. Evicting it takes nothing from whoever reads it on the same machine. On another one
/// that shares the directory by a network file system, a read may fail (`ESTALE`).
#[derive(Debug)]
pub(in crate::content) struct StoredFile {
    disk: Arc<Disk>,
    name: FileName,
    file: File,
    stamp: Stamp,
    verified: bool,
    /// From the start on; `None` once bytes were skipped.
    hasher: Option<Hasher>,
    at: u64,
}

impl StoredFile {
    pub(super) fn new(
        disk: Arc<Disk>,
        name: FileName,
        file: File,
        stamp: Stamp,
        verified: bool,
    ) -> Self {
        let hasher = (!verified).then(|| Hasher::new(name.digest.algorithm()));
        Self {
            disk,
            name,
            file,
            stamp,
            verified,
            hasher,
            at: 0,
        }
    }

    /// Its size in bytes.
    pub(in crate::content) fn size(&self) -> u64 {
        self.stamp.bytes
    }

    /// Whether this process has hashed it, and it has not changed since.
    pub(in crate::content) fn is_verified(&self) -> bool {
        self.verified
    }

    /// How many bytes there are before `end`.
    pub(in crate::content) fn left(&self, end: u64) -> u64 {
        end.saturating_sub(self.at)
    }

    /// The next bytes before `end`, as many as there is room for, which is no more than there are. The
    /// last bytes of a file come only after all of it has hashed to its digest, or, where that was
    /// seen before, after the file system has said that it did not change since.
    pub(in crate::content) fn read(&mut self, end: u64, mut room: Room) -> Result<Bytes, Corrupt> {
        let read = self.file.read_exact(&mut room);
        read.map_err(|error| self.broken(&error))?;
        let bytes = self.have_read(room);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        if self.at >= end {
            self.conclude()?;
        }
        Ok(bytes)
    }

    /// The same, where that takes no time: the kernel has them in memory, nothing has to be
    /// hashed, and they are not the last, after which the file system is asked. Else the room is
    /// handed back.
    pub(in crate::content) fn read_at_hand(
        &mut self,
        end: u64,
        mut room: Room,
    ) -> Result<Bytes, Room> {
        if self.hasher.is_some() || self.left(end) <= room.len() as u64 {
            return Err(room);
        }
        let count = read_from_memory(&self.file, &mut room);
        if count == 0 {
            return Err(room);
        }
        room.truncate(count);
        Ok(self.have_read(room))
    }

    fn have_read(&mut self, room: Room) -> Bytes {
        self.at += room.len() as u64;
        room.freeze()
    }

    fn conclude(&mut self) -> Result<(), Corrupt> {
        let right = match self.hasher.take() {
            Some(hasher) => Ok(self.at == self.stamp.bytes && hasher.finish() == self.name.digest),
            None => self.is_as_it_was(),
        };
        match right.and_then(|right| Ok(right && self.note_verified()?)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.corrupt()),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn look(&self) -> io::Result<Stamp> {
        self.file.metadata().map(|metadata| stamp(&metadata))
    }

    /// Whether the file is the one that was verified. One that was touched meanwhile is hashed once
    /// more: names and times change when another repository shares it, and when it is evicted.
    fn is_as_it_was(&mut self) -> io::Result<bool> {
        if !self.verified {
            return Ok(false);
        }
        let known = {
            let index = self.disk.index();
            let now = self.look()?;
            index.is_verified(&now, &self.name.digest)
        };
        Ok(known || self.hash_again()?)
    }

    fn hash_again(&mut self) -> io::Result<bool> {
        let before = self.look()?;
        let mut hasher = Hasher::new(self.name.digest.algorithm());
        let mut bytes = vec![0; VERIFY_BYTES as usize];
        self.file.seek(SeekFrom::Start(0))?;
        loop {
            match self.file.read(&mut bytes)? {
                0 => break,
                count => hasher.update(&bytes[..count]),
            }
        }
        self.stamp = before;
        Ok(hasher.finish() == self.name.digest)
    }

    /// Lets others know that the file is right; false where it changed while it was read.
    fn note_verified(&mut self) -> io::Result<bool> {
        let mut index = self.disk.index();
        let now = self.look()?;
        self.verified = true;
        if now == self.stamp {
            index.verified(now, self.name.digest);
        }
        Ok(now.has_bytes_of(&self.stamp))
    }

    /// All of it.
    pub(in crate::content) fn whole(mut self) -> Result<Bytes, Corrupt> {
        let size = self.size();
        // A file may say that it is larger than all memory, and take no place on disk.
        if size > WHOLE_BYTES_MAX {
            return Err(self.corrupt());
        }
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        self.read(size, Room::own(room, None))
    }

    /// Makes it ready to be read from `first` on; all of it is verified before, since a part
    /// cannot be.
    pub(in crate::content) fn seek(&mut self, first: u64) -> Result<(), Corrupt> {
        let size = self.size();
        let mut last = None;
        while !self.verified {
            let count = self.left(size).min(VERIFY_BYTES) as usize;
            let bytes = self.read(size, Room::own(count, last))?;
            last = bytes.try_into_mut().ok();
        }
        self.file
            .seek(SeekFrom::Start(first))
            .map_err(|error| self.broken(&error))?;
        self.at = first;
        Ok(())
    }

    /// A read has failed.
    fn broken(&self, error: &io::Error) -> Corrupt {
        match error.kind() {
            // It is shorter than it was.
            ErrorKind::UnexpectedEof => return self.corrupt(),
            // Another machine has removed it. What has its name now, if anything, is another file.
            ErrorKind::StaleNetworkFileHandle => self.disk.failed(DiskFailure::Read, error),
            // Who asks next would find it again, and fail again, and so would all others.
            _ => {
                self.disk.failed(DiskFailure::Read, error);
                self.disk.discard(&self.name, self.stamp.inode);
            }
        }
        Corrupt
    }

    fn corrupt(&self) -> Corrupt {
        self.disk.discard_corrupt(&self.name, self.stamp.inode);
        Corrupt
    }
}

/// Opens what is a file, and nothing else: a link may lead out of the directory, and a pipe holds up
/// whoever opens it until somebody writes.
pub(in crate::content) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // It means nothing to a file.
    let at_once = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(at_once.bits()).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok((file, metadata))
}

/// Reads what the kernel has in memory, from where the file stands; nothing, where it has nothing,
/// and where its file system cannot do so. A failure is told by the read that comes after it.
#[cfg(target_os = "linux")]
fn read_from_memory(file: &File, into: &mut [u8]) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};

    let from_where_it_stands = u64::MAX;
    let into = &mut [io::IoSliceMut::new(into)];
    preadv2(file, into, from_where_it_stands, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// No other system tells.
#[cfg(not(target_os = "linux"))]
fn read_from_memory(_: &File, _: &mut [u8]) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::content::disk::tests::{metric, name, open as open_disk};

    const CORRUPT: &str = "pullgate_cache_disk_corrupt_total";
    const FAILED: &str = r#"pullgate_cache_disk_failures_total{operation="read"}"#;

    #[test]
    fn what_is_larger_than_memory_is_not_read_into_it() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = open_disk(root.path(), 1 << 20);
        let path = name(b"content").path(root.path());
        fs::create_dir_all(path.parent().expect("a folder")).expect("is made");
        let file = File::create_new(&path).expect("a file");
        file.set_len(WHOLE_BYTES_MAX + 1).expect("a hole");
        let found = disk.find(name(b"content")).expect("a file");
        assert_eq!(found.whole(), Err(Corrupt));
        assert!(!path.exists());
        assert_eq!(metric(&disk, CORRUPT), 1);
    }

    #[test]
    fn only_what_is_at_fault_itself_is_removed_and_only_wrong_bytes_are_corrupt() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = open_disk(root.path(), 1 << 20);
        let path = name(b"content").path(root.path());
        for (kind, there, corrupt, failed) in [
            (ErrorKind::StaleNetworkFileHandle, true, 0, 1),
            (ErrorKind::Other, false, 0, 2),
            (ErrorKind::UnexpectedEof, false, 1, 2),
        ] {
            disk.keep(name(b"content"), b"content");
            let found = disk.find(name(b"content")).expect("a file");
            assert_eq!(found.broken(&io::Error::from(kind)), Corrupt);
            assert_eq!(path.exists(), there, "{kind}");
            let counted = (metric(&disk, CORRUPT), metric(&disk, FAILED));
            assert_eq!(counted, (corrupt, failed), "{kind}");
        }
    }
}
