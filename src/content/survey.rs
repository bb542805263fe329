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
/// Digests of which it is kept who lists them, and how many of those.
const FOUND_MAX: usize = 10_000;
const PARENTS_MAX: usize = 256;
/// How long one takes, but for the names. What is left then is for the next.
const GO_MAX: Duration = Duration::from_secs(1);

/// In which manifests digests were seen.
pub(super) type Listed = HashMap<ContentKey, Vec<Digest>>;

/// The manifests that were read, and what they list is written down.
#[derive(Debug, Default)]
struct AlreadyRead {
    /// Hashes of their names, keyed by chance.
    names: HashSet<u64>,
    /// Which beginning of the store it is written to.
    beginning: u64,
}

/// What the latest surveys have found.
#[derive(Debug, Default)]
struct Found {
    surveys: u64,
    /// Who lists a digest, by the latest survey that was for it.
    parents: HashMap<ContentKey, (u64, Vec<Digest>)>,
}

#[derive(Debug)]
pub(super) struct Survey {
    disk: Arc<Disk>,
    /// Others were seen to use the directory.
    had_company: AtomicBool,
    /// Of what it is to be found who lists it.
    wanted: Mutex<HashSet<ContentKey>>,
    found: Mutex<Found>,
    /// Of whoever reads for all; when the next may begin.
    turn: Arc<tokio::sync::Mutex<Instant>>,
    read: Mutex<AlreadyRead>,
    hasher: RandomState,
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
            found: Mutex::default(),
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

    /// Wants to know who lists a digest; for how many surveys that comes too late.
    pub(super) fn want(&self, child: &ContentKey) -> u64 {
        // Counted first: a survey that begins in between may be for it already.
        let surveys = lock(&self.found).surveys;
        lock(&self.wanted).insert(child.clone());
        surveys
    }

    /// Waits until it was looked who lists a digest that is wanted; or until it is the caller's turn to
    /// [look](Self::read), for all who wait.
    pub(super) async fn turn_for(&self, child: &ContentKey) -> Option<Turn> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if !lock(&self.wanted).contains(child) {
            return None;
        }
        tokio::time::sleep_until((*turn).into()).await;
        Some(turn)
    }

    /// Who was found to list a digest, by surveys that came after so many.
    pub(super) fn found(&self, child: &ContentKey, surveys: u64) -> Vec<Digest> {
        let found = lock(&self.found);
        let parents = found.parents.get(child);
        let parents = parents.filter(|(survey, _)| *survey > surveys);
        parents.map_or_else(Vec::new, |(_, parents)| parents.clone())
    }

    /// Reads the manifests beside all that is wanted, as far as they were not read and there is time,
    /// and has `learn` write down what they list, in the store's so-manieth beginning. What is left
    /// goes on being wanted.
    pub(super) fn read(&self, mut turn: Turn, beginning: u64, learn: impl Fn(&Listed) -> bool) {
        let started = Instant::now();
        let survey = {
            let mut found = lock(&self.found);
            found.surveys += 1;
            found.surveys
        };
        let wanted = std::mem::take(&mut *lock(&self.wanted));
        let image_of = |key: &ContentKey| ImageName {
            registry: key.host.clone(),
            repository: key.repository.clone(),
        };
        let images: HashSet<ImageName> = wanted.iter().map(image_of).collect();
        let images: Vec<ImageName> = images.into_iter().collect();
        let named = self.disk.manifests_of(&images);
        let mut unread: Vec<(u64, &ImageName, FileName)> = {
            let mut read = lock(&self.read);
            if read.beginning != beginning || read.names.len() >= READ_MAX {
                *read = AlreadyRead {
                    beginning,
                    ..AlreadyRead::default()
                };
            }
            let named = named.into_iter();
            let hashed = named.map(|(image, name)| (self.hasher.hash_one(name), image, name));
            let is_unread = |(hash, ..): &(u64, _, _)| !read.names.contains(hash);
            hashed.filter(is_unread).collect()
        };
        let listing = started.elapsed();
        let mut found = Listed::new();
        while !unread.is_empty() && started.elapsed() < listing + GO_MAX {
            let batch = unread.split_off(unread.len().saturating_sub(BATCH));
            let mut listed = Listed::new();
            let mut hashes = Vec::new();
            for (hash, image, name) in batch {
                if self.list(image, name, &mut listed) {
                    hashes.push(hash);
                }
            }
            let is_written = learn(&listed);
            for (child, parents) in listed {
                if wanted.contains(&child) {
                    found.entry(child).or_default().extend(parents);
                }
            }
            // What has no place in the store is read anew for whoever asks next.
            if is_written {
                lock(&self.read).names.extend(hashes);
            }
        }
        {
            let mut kept = lock(&self.found);
            if kept.parents.len() >= FOUND_MAX {
                // Whoever still waits does so for this one.
                kept.parents.clear();
            }
            for (child, mut parents) in found {
                let (latest, known) = kept.parents.entry(child).or_default();
                parents.retain(|parent| !known.contains(parent));
                known.extend(parents);
                known.truncate(PARENTS_MAX);
                *latest = survey;
            }
        }
        let left: HashSet<&ImageName> = unread.iter().map(|(_, image, _)| *image).collect();
        let left = wanted
            .into_iter()
            .filter(|key| left.contains(&image_of(key)));
        lock(&self.wanted).extend(left);
        let now = Instant::now();
        *turn = now + (now - started) * REST;
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
