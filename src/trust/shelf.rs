//! The documents of one TUF repository that were verified: in memory, and in one file, so that
//! the last good ones outlive the process.
//!
//! Nothing on the shelf is believed because it lies there. It is verified from the pinned root
//! whenever it is taken up.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Write as _},
    path::Path,
    process,
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
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Writes all of it or nothing: a crash leaves the old file or the new one. Others may write the same
/// file meanwhile: each has a draft of its own, so that the file is always what one of them wrote.
///
/// # Errors
/// When the disk says no.
pub(super) fn save(saved: &Saved, path: &Path) -> io::Result<()> {
    let bytes = serde_json::to_vec(saved)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // In containers every process may have the same number. `RandomState` is seeded by the system,
    // which is chance enough.
    let chance = RandomState::new().hash_one(());
    let draft = path.with_extension(format!("{}-{chance:x}.draft", process::id()));
    let written = write(&bytes, &draft).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // Nobody would write it anew, under a name by chance.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write(bytes: &[u8], path: &Path) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn saved(text: String) -> Saved {
        Saved {
            seen: [("root.json".to_owned(), text)].into(),
            ..Saved::default()
        }
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a directory").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect()
    }

    #[test]
    fn many_save_at_once_and_what_one_of_them_wrote_is_there() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("trust/acme.json");
        thread::scope(|scope| {
            for writer in 1..=8_usize {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..4 {
                        let text = writer.to_string().repeat(10_000 * writer);
                        save(&saved(text), path).expect("it is written");
                        let there = load(path).expect("it can be read");
                        assert_ne!(there, Saved::default(), "it does not parse");
                    }
                });
            }
        });
        assert_eq!(names_in(&folder.path().join("trust")), ["acme.json"]);
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_no_draft() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("acme.json");
        fs::create_dir(&path).expect("a folder in its place");
        save(&saved("{}".to_owned()), &path).expect_err("no file replaces a folder");
        assert_eq!(names_in(folder.path()), ["acme.json"]);
    }

    #[test]
    fn what_is_no_text_is_an_empty_shelf() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("acme.json");
        fs::write(&path, [0xff, 0xfe]).expect("a file");
        assert_eq!(load(&path).expect("it can be read"), Saved::default());
    }
}
