//! Reading what is stored, and believing none of it until it has hashed to its digest.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;

use super::{Disk, FileName, index::Stamp, stamp};
use crate::metrics::DiskFailure;
use crate::oci::Hasher;

/// Bytes that are read at a time while a file is verified on its own.
const VERIFY_BYTES: u64 = 1 << 20;

/// The file does not hold what its name says, or cannot be read, and is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::content) struct Corrupt;

/// A file that is open. Evicting it takes nothing from whoever reads it.
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

    /// The next bytes before `end`, at most `bytes_max`. The last bytes of a file come only
    /// after all of it has hashed to its digest, or, where that was seen before, after the
    /// file system has said that it did not change since.
    pub(in crate::content) fn read(&mut self, end: u64, bytes_max: u64) -> Result<Bytes, Corrupt> {
        let count = end.saturating_sub(self.at).min(bytes_max);
        let bytes = self
            .read_exactly(count)
            .map_err(|error| self.broken(&error))?;
        self.at += count;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        if self.at >= end {
            self.conclude()?;
        }
        Ok(bytes.into())
    }

    fn read_exactly(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let read = Read::by_ref(&mut self.file)
            .take(count)
            .read_to_end(&mut bytes)?;
        if read as u64 == count {
            Ok(bytes)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn conclude(&mut self) -> Result<(), Corrupt> {
        let now = self.file.metadata().map(|metadata| stamp(&metadata));
        let unchanged = now.is_ok_and(|now| now == self.stamp);
        let right = match self.hasher.take() {
            Some(hasher) => self.at == self.stamp.bytes && hasher.finish() == self.name.digest,
            None => self.verified,
        };
        if !unchanged || !right {
            return Err(self.corrupt());
        }
        if !self.verified {
            self.verified = true;
            self.disk.index().verified(self.stamp);
        }
        Ok(())
    }

    /// All of it.
    pub(in crate::content) fn whole(mut self) -> Result<Bytes, Corrupt> {
        let size = self.size();
        self.read(size, size)
    }

    /// Makes it ready to be read from `first` on; all of it is verified before, since a part
    /// cannot be.
    pub(in crate::content) fn seek(&mut self, first: u64) -> Result<(), Corrupt> {
        let size = self.size();
        while !self.verified {
            self.read(size, VERIFY_BYTES)?;
        }
        self.file
            .seek(SeekFrom::Start(first))
            .map_err(|error| self.broken(&error))?;
        self.at = first;
        Ok(())
    }

    fn broken(&self, error: &io::Error) -> Corrupt {
        self.disk.failed(DiskFailure::Read, error);
        self.corrupt()
    }

    fn corrupt(&self) -> Corrupt {
        self.disk.discard(&self.name, self.stamp.inode);
        Corrupt
    }
}
