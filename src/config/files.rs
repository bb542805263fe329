//! Reads the files that a configuration names, each within a bound, and lists the policy
//! files of a folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most that one file of a configuration may hold: YAML, keys, certificates, trust roots.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most policy files that one folder may hold.
const FOLDER_FILES_MAX: usize = 1000;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Most likely a slip in the path, or a secret that is not mounted.
    #[error("it is not there")]
    Missing,
    /// The file belongs to somebody else, or a folder above it may not be entered.
    #[error("permission denied")]
    Forbidden,
    /// A folder stands where a file belongs.
    #[error("it is a folder")]
    Folder,
    /// Not a configuration by any measure; most likely another file was meant.
    #[error("it is larger than {0} MiB")]
    TooLarge(u64),
    /// The folder holds more than [`FOLDER_FILES_MAX`] policy files.
    #[error("it holds more than {FOLDER_FILES_MAX} policy files")]
    TooMany,
    /// The disk says no for another reason.
    #[error(transparent)]
    Other(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            io::ErrorKind::IsADirectory => Self::Folder,
            _ => Self::Other(error),
        }
    }
}

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    read_up_to(path, FILE_BYTES_MAX)
}

/// The bytes of a file that may have so many.
pub(super) fn read_up_to(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ReadError::TooLarge(bytes_max >> 20));
    }
    Ok(bytes)
}

/// What a folder of policies holds.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Its `*.yaml` and `*.yml` files, sorted by name.
    pub(super) files: Vec<PathBuf>,
    /// Folders within it, which are not looked into.
    pub(super) folders: Vec<PathBuf>,
}

/// Lists a folder of policies. Hidden entries are left out: editors keep their drafts there,
/// and a mounted Kubernetes ConfigMap its `..data` and `..2026_01_01...` folders.
pub(super) fn list(path: &Path) -> Result<Folder, ReadError> {
    let mut folder = Folder::default();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // Followed through symbolic links, which a ConfigMap is made of.
        let path = entry.path();
        let policy = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if path.is_dir() {
            folder.folders.push(path);
        } else if policy {
            folder.files.push(path);
        }
        if folder.files.len() > FOLDER_FILES_MAX {
            return Err(ReadError::TooMany);
        }
    }
    folder.files.sort();
    folder.folders.sort();
    Ok(folder)
}
