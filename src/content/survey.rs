//! What the manifests on disk list, for digests of which no hint is known: other processes that share
//! the directory have written them, or hints were lost.
//!
//! Names of files are read for all who wait, and for no more than a tenth of the time; each manifest is
//! read once.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex},
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
/// How long it is believed that nobody else uses the directory.
const COMPANY_SOUGHT_EVERY: Duration = Duration::from_secs(1);
/// For so many times as long as a survey took there is none, but for no longer than this.
const REST: u32 = 9;
const REST_MAX: Duration = Duration::from_secs(2);

/// In which manifests digests were seen.
pub(super) type Listed = HashMap<ContentKey, Vec<Digest>>;

#[derive(Debug)]
pub(super) struct Survey {
    disk: Arc<Disk>,
    /// When it was looked whether others use the directory, unless they are known to.
    alone_at: Mutex<Option<Instant>>,
    /// Whose manifests are to be read.
    wanted: Mutex<HashSet<ImageName>>,
    /// Of whoever reads for all; when the next may begin.
    turn: Arc<tokio::sync::Mutex<Instant>>,
    /// Hashes of the names that were read, keyed by chance.
    read: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// The right to read for all who wait, until it is dropped.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<Instant>;

impl Survey {
    /// `inherits`: there may be manifests on disk of which hints were never written, or are lost.
    pub(super) fn new(disk: Arc<Disk>, inherits: bool) -> Self {
        let now = Instant::now();
        Self {
            disk,
            alone_at: Mutex::new((!inherits).then_some(now)),
            wanted: Mutex::default(),
            turn: Arc::new(tokio::sync::Mutex::new(now)),
            read: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Whether there may be manifests of which this process does not know. Who once had company has
    /// it for good.
    pub(super) fn may_find_something(&self) -> bool {
        let mut alone_at = lock(&self.alone_at);
        let is_old = |at: &Instant| at.elapsed() >= COMPANY_SOUGHT_EVERY;
        if alone_at.as_ref().is_some_and(is_old) {
            *alone_at = (!self.disk.has_company()).then(Instant::now);
        }
        alone_at.is_none()
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

    /// Reads the manifests of all images that are wanted, as far as they were not read, and has
    /// `learn` write down what they list. What it cannot write is read again the next time.
    pub(super) fn read(&self, mut turn: Turn, learn: impl Fn(&Listed) -> bool) {
        let started = Instant::now();
        let images: Vec<ImageName> = std::mem::take(&mut *lock(&self.wanted))
            .into_iter()
            .collect();
        let named = self.disk.manifests_of(&images);
        let unread: Vec<_> = {
            let read = lock(&self.read);
            let hash = |name: &FileName| self.hasher.hash_one(name);
            let named = named
                .into_iter()
                .map(|(image, name)| (hash(&name), image, name));
            named.filter(|(hash, ..)| !read.contains(hash)).collect()
        };
        for batch in unread.chunks(BATCH) {
            let mut listed = Listed::new();
            for (_, image, name) in batch {
                self.list(image, *name, &mut listed);
            }
            if learn(&listed) {
                let mut read = lock(&self.read);
                if read.len() >= READ_MAX {
                    read.clear();
                }
                read.extend(batch.iter().map(|(hash, ..)| *hash));
            }
        }
        let now = Instant::now();
        *turn = now + ((now - started) * REST).min(REST_MAX);
    }

    fn list(&self, image: &ImageName, name: FileName, listed: &mut Listed) {
        // What is not what its name says is removed by whoever reads it.
        let bytes = self.disk.find(name).and_then(|file| file.whole().ok());
        let manifest = bytes.and_then(|bytes| Manifest::parse(&bytes, None).ok());
        let Some(manifest) = manifest else {
            return;
        };
        for child in manifest.descriptors().take(CHILDREN_MAX) {
            let key = ContentKey::of(image, child.digest);
            listed.entry(key).or_default().push(name.digest());
        }
    }
}
