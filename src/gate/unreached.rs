//! Blobs that nothing reaches, for a moment: a "no" costs a look at every manifest that may list
//! the blob, and whoever is refused may ask again at once.
//!
//! So does a "don't know" that is one since too many tags might vouch for the blob.
//!
//! Either is over when anything of the repository is admitted, by whatever name: that may be what
//! reaches the blob. It is told to whoever it was found out for, since registries show different
//! things to different people.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use moka::sync::Cache;

use crate::content::ContentKey;
use crate::oci::ImageName;
use crate::upstream::LoginKey;

/// How long a "no" is repeated.
const TOLD_FOR: Duration = Duration::from_secs(1);
/// How many are held, of some hundred bytes each.
const TOLD_MAX: u64 = 20_000;
/// Repositories share so many counters; who shares one asks anew more often, and no more.
const COUNTERS: usize = 1024;

/// The blobs that were found to be reached by nothing, as far as was asked.
#[derive(Debug)]
pub(super) struct Unreached {
    told: Cache<Asker, Told>,
    told_for: Duration,
    /// Admissions, by repository.
    admissions: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// A blob, and with whose credentials its registry is asked.
type Asker = (ContentKey, Option<LoginKey>);

/// One question, and how many admissions of its repository there had been.
pub(super) struct Asking {
    asker: Asker,
    admissions: u64,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    answer: NotReached,
    generation: u64,
    admissions: u64,
    until: Instant,
}

/// What was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotReached {
    /// Nothing reaches it.
    No,
    /// Not all was asked that might.
    Unknown,
}

impl Unreached {
    /// A "no" is repeated no longer than one about signatures would be.
    pub(super) fn new(unsigned_ttl: Duration) -> Self {
        Self {
            told: Cache::builder()
                .max_capacity(TOLD_MAX)
                .time_to_live(TOLD_FOR)
                .build(),
            told_for: TOLD_FOR.min(unsigned_ttl),
            admissions: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Something of this image was admitted, and is noted.
    pub(super) fn admitted(&self, image: &ImageName) {
        self.counter(image).fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn asking(
        &self,
        image: &ImageName,
        blob: &ContentKey,
        login: Option<LoginKey>,
    ) -> Asking {
        Asking {
            asker: (blob.clone(), login),
            admissions: self.counter(image).load(Ordering::Acquire),
        }
    }

    /// What was found out, if that holds still, under the ruling of this number.
    pub(super) fn told(&self, asking: &Asking, generation: u64) -> Option<NotReached> {
        let told = self.told.get(&asking.asker).filter(|told| {
            told.generation == generation
                && told.admissions == asking.admissions
                && Instant::now() < told.until
        });
        told.map(|told| told.answer)
    }

    /// Remembers what was found out.
    pub(super) fn tell(&self, asking: Asking, generation: u64, answer: NotReached) {
        let told = Told {
            answer,
            generation,
            admissions: asking.admissions,
            until: Instant::now() + self.told_for,
        };
        self.told.insert(asking.asker, told);
    }

    fn counter(&self, image: &ImageName) -> &AtomicU64 {
        let hash = self.hasher.hash_one(image) as usize;
        &self.admissions[hash % COUNTERS]
    }
}
