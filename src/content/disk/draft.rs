//! A file under way: nothing is seen of it until it is whole, and nothing is left of it if it
//! never is.

use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Disk, FileName, index::on_disk};
use crate::metrics::DiskFailure;

/// Room that is promised at a time to a file whose size nobody knows.
const STEP_BYTES: u64 = 8 << 20;

/// A file under way.
#[derive(Debug)]
pub(in crate::content) struct Draft {
    disk: Arc<Disk>,
    path: PathBuf,
    file: File,
    written: u64,
    reserved: u64,
}

impl Draft {
    /// Begins a file of this size, where it is known. `None` when there is no room for it, or
    /// the disk fails.
    pub(in crate::content) fn begin(disk: &Arc<Disk>, size: Option<u64>) -> Option<Self> {
        let reserved = on_disk(size.unwrap_or(STEP_BYTES));
        if disk.is_paused() {
            return None;
        }
        disk.have_stock_taken();
        if !disk.make_room(reserved) {
            return None;
        }
        let path = disk.temporary_path();
        let created = disk.in_folder(|| File::create_new(&path));
        match created {
            Ok(file) => Some(Self {
                disk: Arc::clone(disk),
                path,
                file,
                written: 0,
                reserved,
            }),
            Err(error) => {
                disk.index().release(reserved);
                disk.failed(DiskFailure::Write, &error);
                None
            }
        }
    }

    /// Where it lies as long as it is under way.
    pub(in crate::content) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub(in crate::content) fn written(&self) -> u64 {
        self.written
    }

    /// Writes more. After an error nothing more can be written; what was before is there.
    pub(in crate::content) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.grow(bytes.len() as u64)
            .and_then(|()| self.file.write_all(bytes))
            .inspect_err(|error| self.disk.failed(DiskFailure::Write, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let needed = on_disk(self.written.saturating_add(bytes));
        if needed <= self.reserved {
            return Ok(());
        }
        self.disk.have_stock_taken();
        let more = (needed - self.reserved).max(STEP_BYTES);
        if !self.disk.make_room(more) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.reserved += more;
        Ok(())
    }

    /// Gives the file its name: all its bytes have hashed to the digest.
    pub(in crate::content) fn publish(self, name: FileName) {
        if let Err(error) = self.disk.admit(name, &self.path, &self.file) {
            self.disk.failed(DiskFailure::Write, &error);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.disk.index().release(self.reserved);
        // Gone already, where it got its name.
        self.disk.remove(&self.path);
    }
}
