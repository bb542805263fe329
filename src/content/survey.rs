//! What the manifests on disk list, for digests of which no hint is known: other processes that share
//! the directory have written them, or hints were lost.
//!
//! Names of files are read for all who wait, and for no more than a part of the time; each manifest is
//! read once, so many in one go.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    ContentKey,
    disk::{Disk, FileName},
    inner::lock,
};
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Manifest;

/// Manifests of which it is kept in mind that they were read. Beyond that all of them are read anew.
const READ_MAX: usize = 500_000;
/// Children that are looked at in one manifest. Real ones have some ten.
const CHILDREN_MAX: usize = 1000;
/// Manifests whose children are written at once.
const BATCH: usize = 256;
/// For so many times as long as a survey took there is none.
const REST: u32 = 4;
/// How long one takes, but for the names. What is left then is for the next.
const GO_MAX: Duration = Duration::from_secs(1);

/// In which manifests digests were seen.
pub(super) type Listed = HashMap<ContentKey, Vec<Digest>>;

#[derive(Debug)]
pub(super) struct Survey {
    disk: Arc<Disk>,
    /// Others were seen to use the directory.
    had_company: AtomicBool,
    /// Whose manifests are to be read.
    wanted: Mutex<HashSet<ImageName>>,
    /// Of whoever reads for all; when the next may begin.
    turn: Arc<tokio::sync::Mutex<Instant>>,
    /// Hashes of the names that were read, keyed by chance.
    read: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// What came of a survey, for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// All of its manifests were read.
    All,
    /// There are more.
    Some,
    /// What they list could not be written down.
    Failed,
}

/// The right to read for all who wait, until it is dropped.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<Instant>;

impl Survey {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        let now = Instant::now();
        Self {
            disk,
            had_company: AtomicBool::new(false),
            wanted: Mutex::default(),
            turn: Arc::new(tokio::sync::Mutex::new(now)),
            read: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Whether others use the directory, and write manifests of which this process knows nothing. Who
    /// once had company has it for good.
    pub(super) fn has_company(&self) -> bool {
        let had = self.had_company.load(Ordering::Relaxed);
        let has = had || self.disk.has_company();
        self.had_company.store(has, Ordering::Relaxed);
        has
    }

    /// Waits until the manifests of an image were read after this was called; or until it is the
    /// caller's turn to [read them](Self::read), for all who wait.
    pub(super) async fn turn_for(&self, image: &ImageName) -> Option<Turn> {
        lock(&self.wanted).insert(image.clone());
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if !lock(&self.wanted).contains(image) {
            return None;
        }
        tokio::time::sleep_until((*turn).into()).await;
        Some(turn)
    }

    /// Reads the manifests of all images that are wanted, as far as they were not read and there is
    /// time, and has `learn` write down what they list. Says what came of it for one of them; what is
    /// left goes on being wanted.
    pub(super) fn read(
        &self,
        mut turn: Turn,
        asked: &ImageName,
        learn: impl Fn(&Listed) -> bool,
    ) -> Read {
        let started = Instant::now();
        let images: Vec<ImageName> = std::mem::take(&mut *lock(&self.wanted))
            .into_iter()
            .collect();
        let named = self.disk.manifests_of(&images);
        let mut unread: Vec<(u64, &ImageName, FileName)> = {
            let read = lock(&self.read);
            let named = named.into_iter();
            let hashed = named.map(|(image, name)| (self.hasher.hash_one(name), image, name));
            hashed.filter(|(hash, ..)| !read.contains(hash)).collect()
        };
        // Whoever has its turn is served first.
        unread.sort_by_key(|(_, image, _)| *image == asked);
        let listing = started.elapsed();
        let mut outcome = Read::All;
        while !unread.is_empty() && outcome == Read::All {
            if started.elapsed() >= listing + GO_MAX {
                let is_left = unread.iter().any(|(_, image, _)| *image == asked);
                outcome = if is_left { Read::Some } else { Read::All };
                break;
            }
            let batch = unread.split_off(unread.len().saturating_sub(BATCH));
            let mut listed = Listed::new();
            let mut hashes = Vec::new();
            for (hash, image, name) in batch {
                if self.list(image, name, &mut listed) {
                    hashes.push(hash);
                }
            }
            if !learn(&listed) {
                outcome = Read::Failed;
            }
            let mut read = lock(&self.read);
            if read.len() >= READ_MAX {
                read.clear();
            }
            read.extend(hashes);
        }
        lock(&self.wanted).extend(unread.into_iter().map(|(_, image, _)| image.clone()));
        let now = Instant::now();
        *turn = now + (now - started) * REST;
        outcome
    }

    /// Notes what a manifest lists; false where it could not be read now.
    fn list(&self, image: &ImageName, name: FileName, listed: &mut Listed) -> bool {
        // What is not what its name says is removed by whoever reads it.
        let Some(bytes) = self.disk.find(name).and_then(|file| file.whole().ok()) else {
            return false;
        };
        if let Ok(manifest) = Manifest::parse(&bytes, None) {
            for child in manifest.descriptors().take(CHILDREN_MAX) {
                let key = ContentKey::of(image, child.digest);
                listed.entry(key).or_default().push(name.digest());
            }
        }
        true
    }
}
