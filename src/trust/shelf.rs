//! The documents of one TUF repository that were verified: in memory, and in one file, so that
//! the last good ones outlive the process.
//!
//! Nothing on the shelf is believed because it lies there. It is verified from the pinned root
//! whenever it is taken up.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_tuf::MetadataStore;
use sigstore_tuf::Repository;
use sigstore_tuf::transport::FetchFuture;

/// The largest file that is read back: several times what a repository has.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Documents by the name under which the TUF client keeps them.
pub(super) type Documents = BTreeMap<String, String>;

/// What is kept of one repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The latest of each document that verified. They need not fit together: a refresh may
    /// have broken off. They say which versions are too old.
    pub(super) seen: Documents,
    /// The documents of the last refresh that came to its end. They fit together.
    pub(super) good: Documents,
    /// When that was. A claim of the file; signed expiries bound what it can do.
    pub(super) confirmed_at: Option<Timestamp>,
}

/// A missing file is an empty shelf; so is one that does not parse, since nothing is lost but
/// what can be fetched again.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn load(path: &Path) -> io::Result<Saved> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// Writes all of it or nothing: a crash leaves the old file or the new one.
///
/// # Errors
/// When the disk says no.
pub(super) fn save(saved: &Saved, path: &Path) -> io::Result<()> {
    let bytes = serde_json::to_vec(saved)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// What the TUF client keeps, in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<Documents>>);

impl Shelf {
    pub(super) fn of(documents: Documents) -> Self {
        Self(Arc::new(Mutex::new(documents)))
    }

    pub(super) fn documents(&self) -> Documents {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, Documents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, name: &str) -> Option<Vec<u8>> {
        self.held().get(name).map(|text| text.as_bytes().to_vec())
    }
}

impl MetadataStore for Shelf {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        Ok(self.named(name))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        // The client keeps a snapshot under its version as well, and never looks there: the
        // shelf would grow with every version.
        if !is_versioned(name)
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            self.held().insert(name.to_owned(), text.to_owned());
        }
        Ok(())
    }
}

/// The shelf in place of a mirror: what is asked for under its version is what lies there, and
/// the client sees whether it is that version. There are no later roots.
impl Repository for Shelf {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _max_length: u64) -> FetchFuture<'a> {
        let plain = match name.split_once('.') {
            Some(_) if name.ends_with(".root.json") => None,
            Some((_, plain)) if is_versioned(name) => self.named(plain),
            _ => self.named(name),
        };
        Box::pin(std::future::ready(Ok(plain)))
    }

    fn fetch_target<'a>(&'a self, _path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        // Targets are found on the shelf before any repository is asked.
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// `17.snapshot.json`, and not `root_history/17.root.json`.
fn is_versioned(name: &str) -> bool {
    let version = name.split_once('.').map(|(version, _)| version);
    version.is_some_and(|version| {
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}
