//! A trust root that is kept fresh by TUF, with the last good one for while its source is away.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use crate::trust::BuiltIn;
use crate::trust::WalkError;
use crate::trust::chain;
use crate::trust::chain::Walked;
use crate::trust::mirror::Mirror;
use crate::trust::shelf;
use crate::trust::shelf::Documents;
use crate::trust::shelf::Saved;
use crate::trust::shelf::Shelf;
use crate::upstream::Upstream;
use crate::verify::RootName;
use crate::verify::TrustRoot;

/// The wait after a first failure; it doubles with each further one, up to the interval.
const RETRY: Duration = Duration::from_secs(60);

/// What a trust root is kept by.
#[derive(Debug, Clone)]
pub struct KeptSettings {
    /// Its name in the configuration.
    pub name: RootName,
    /// The mirror that is asked.
    pub mirror: Upstream,
    /// The TUF root in which trust begins.
    pub pinned: Arc<[u8]>,
    /// What is used until a mirror has answered for the first time.
    pub built_in: Option<BuiltIn>,
    /// Where the last good one is kept on disk.
    pub file: Option<PathBuf>,
    /// Whether the file is written as well.
    pub writes: bool,
    /// Whether it is used beyond its bound.
    pub unsafe_keep_stale: bool,
    /// Bounds on time.
    pub times: KeptTimes,
}

/// Bounds on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptTimes {
    /// How often the mirror is asked.
    pub interval: Duration,
    /// How long one refresh may take in all.
    pub deadline: Duration,
    /// How long a root may be used after its mirror last confirmed it.
    pub stale_max: Duration,
}

/// A trust root that is kept fresh.
#[derive(Debug)]
pub struct Kept {
    settings: KeptSettings,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    saved: Saved,
    /// Whether there is something in it that was not on disk when that was last looked at.
    is_unsaved: bool,
    held: Option<Held>,
    failures: u32,
    /// When the mirror is to be asked again; at once where nothing is said.
    due_at: Option<Timestamp>,
    /// Why the last refresh failed.
    trouble: Option<String>,
}

/// A root in hand.
#[derive(Debug, Clone)]
struct Held {
    root: Arc<TrustRoot>,
    /// When a document that vouches for it expires: signed, so no file can move it.
    expires_at: Timestamp,
    confirmed_at: Option<Timestamp>,
}

/// How a trust root stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The root, where it may be used.
    pub root: Result<Arc<TrustRoot>, String>,
    /// When its mirror last confirmed it.
    pub confirmed_at: Option<Timestamp>,
    /// Until when it may be used if nothing else happens.
    pub usable_until: Option<Timestamp>,
}

impl Kept {
    /// Takes up what is on disk, or built in. Asks no network.
    #[must_use]
    pub fn open(settings: KeptSettings, now: Timestamp) -> Self {
        let loaded = settings.file.as_deref().map(shelf::load);
        let saved = match loaded {
            Some(Ok(saved)) => saved,
            Some(Err(error)) => {
                tracing::warn!(root = %settings.name, %error, "the last good trust root cannot be read");
                Saved::default()
            }
            None => Saved::default(),
        };
        let held = last_good(&settings, &saved, now).or_else(|| built_in(&settings));
        let due_at = saved
            .confirmed_at
            .filter(|confirmed_at| held.is_some() && *confirmed_at <= now)
            .map(|confirmed_at| later(confirmed_at, settings.times.interval));
        Self {
            settings,
            refreshing: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                saved,
                held,
                due_at,
                ..State::default()
            }),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &RootName {
        &self.settings.name
    }

    /// Whether the mirror is to be asked again.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let state = self.state();
        // After a step back of the clock, what was to come soon would be far away.
        let horizon = later(now, self.settings.times.interval);
        state
            .due_at
            .is_none_or(|due_at| due_at <= now || due_at > horizon)
    }

    /// How it stands at `now`. One whose bound has passed is not given out, unless told so.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let state = self.state();
        let trouble = state.trouble.as_deref().unwrap_or("nobody asked yet");
        let mirror = self.settings.mirror.host();
        let Some(held) = &state.held else {
            return Standing {
                root: Err(format!("it was never had from {mirror}: {trouble}")),
                confirmed_at: None,
                usable_until: None,
            };
        };
        let usable_until = self.usable_until(held);
        let usable = now < usable_until || self.settings.unsafe_keep_stale;
        let root = match usable {
            true => Ok(Arc::clone(&held.root)),
            false => Err(format!(
                "the last good one could be used until {usable_until}, and {mirror} confirms no \
                 newer one: {trouble}"
            )),
        };
        Standing {
            root,
            confirmed_at: held.confirmed_at,
            usable_until: Some(usable_until),
        }
    }

    /// A confirmed root may be used for a while after its confirmation. When that was is the
    /// word of a file, and the signed expiry says how late it can have been. One that is built in
    /// and was never confirmed may be used until the TUF root that it came with expires.
    fn usable_until(&self, held: &Held) -> Timestamp {
        match held.confirmed_at {
            Some(confirmed_at) => later(
                confirmed_at.min(held.expires_at),
                self.settings.times.stale_max,
            ),
            None => held.expires_at,
        }
    }

    /// Asks the mirror, and takes up what it has when all of it verifies. Whatever goes wrong
    /// leaves the last good one as it is.
    ///
    /// # Errors
    /// [`WalkError`] when the mirror does not confirm a root.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), WalkError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let shelf = Shelf::of(self.state().saved.seen.clone());
        let KeptTimes {
            interval, deadline, ..
        } = self.settings.times;
        let repository = Mirror(self.settings.mirror.clone());
        let walk = chain::walk(&self.settings.pinned, repository, &shelf, now);
        let walked = timeout(deadline, walk).await.unwrap_or_else(|_| {
            let text = format!("the refresh took longer than {} s", deadline.as_secs());
            Err(WalkError::Unreachable(text))
        });
        let seen = shelf.documents();
        let outcome = walked.and_then(|walked| self.usable(&walked).map(|root| (walked, root)));
        let mut state = self.state();
        let is_new = outcome.is_ok() || state.saved.seen != seen;
        state.is_unsaved |= is_new;
        let outcome = match outcome {
            Ok((walked, root)) => {
                state.saved.good.clone_from(&seen);
                state.saved.confirmed_at = Some(now);
                state.held = Some(Held {
                    root,
                    expires_at: walked.expires_at,
                    confirmed_at: Some(now),
                });
                state.failures = 0;
                state.trouble = None;
                state.due_at = Some(later(now, interval));
                Ok(())
            }
            Err(error) => {
                let wait = RETRY.saturating_mul(1 << state.failures.min(16));
                state.failures = state.failures.saturating_add(1);
                state.trouble = Some(error.to_string());
                state.due_at = Some(later(now, wait.min(interval)));
                Err(error)
            }
        };
        state.saved.seen = seen;
        drop(state);
        self.save(now);
        outcome
    }

    /// The root that was walked to: the one in hand where nothing has changed.
    fn usable(&self, walked: &Walked) -> Result<Arc<TrustRoot>, WalkError> {
        let root = TrustRoot::from_json(self.settings.name.clone(), &walked.json)
            .map_err(|error| WalkError::Refused(error.to_string()))?;
        let held = self.state().held.clone();
        let same = held.filter(|held| held.root.document == root.document);
        Ok(same.map_or_else(|| Arc::new(root), |held| held.root))
    }

    /// Writes down what is new. Others may share the file: what they have written since, and is
    /// newer, stays there and is taken up. Of two that write at the same moment the last one
    /// wins, until the other's next refresh.
    fn save(&self, now: Timestamp) {
        let Some(file) = self.settings.file.as_deref() else {
            return;
        };
        let ours = {
            let state = self.state();
            if !self.settings.writes || !state.is_unsaved {
                return;
            }
            state.saved.clone()
        };
        // What cannot be read may be newer, and stays as it is.
        let newest = shelf::load(file).and_then(|there| {
            let newest = newer_of(&self.settings.pinned, &there, ours, now);
            if newest != there {
                shelf::save(&newest, file)?;
            }
            Ok(newest)
        });
        match newest {
            Ok(newest) => {
                let mut state = self.state();
                state.saved = newest;
                state.is_unsaved = false;
            }
            Err(error) => {
                // It is in memory, and is written with the next refresh.
                tracing::warn!(root = %self.settings.name, %error, "the trust root cannot be kept on disk");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newer of what was seen, and the newer of what was good; of the same, that which was
/// confirmed last. Only what verifies counts, so that nothing that was put there stays for ever.
fn newer_of(pinned: &[u8], there: &Saved, mut ours: Saved, now: Timestamp) -> Saved {
    let versions = |documents: &Documents| chain::versions(pinned, documents);
    if versions(&there.seen) > versions(&ours.seen) {
        ours.seen.clone_from(&there.seen);
    }
    // A time that is yet to come is no confirmation: none of ours would ever replace it.
    let good = |saved: &Saved| {
        let confirmed_at = saved.confirmed_at;
        let confirmed_at = confirmed_at.filter(|confirmed_at| *confirmed_at <= now);
        (versions(&saved.good), confirmed_at)
    };
    if good(there) > good(&ours) {
        ours.good.clone_from(&there.good);
        ours.confirmed_at = there.confirmed_at;
    }
    ours
}

/// What is on disk, when it still leads from the pinned root to a trust root.
fn last_good(settings: &KeptSettings, saved: &Saved, now: Timestamp) -> Option<Held> {
    if saved.good.is_empty() {
        return None;
    }
    let walked = chain::walk_again(&settings.pinned, &saved.good, now);
    let read = walked.and_then(|walked| {
        let root = TrustRoot::from_json(settings.name.clone(), &walked.json)
            .map_err(|error| WalkError::Refused(error.to_string()))?;
        Ok(Held {
            root: Arc::new(root),
            expires_at: walked.expires_at,
            // Who has no time of confirmation has one that is long past.
            confirmed_at: Some(saved.confirmed_at.unwrap_or(Timestamp::UNIX_EPOCH)),
        })
    });
    match read {
        Ok(held) => Some(held),
        Err(error) => {
            tracing::warn!(root = %settings.name, %error, "the last good trust root on disk is not used");
            None
        }
    }
}

fn built_in(settings: &KeptSettings) -> Option<Held> {
    let built_in = settings.built_in?;
    let root = TrustRoot::from_json(settings.name.clone(), built_in.trusted_root()).ok()?;
    Some(Held {
        root: Arc::new(root),
        expires_at: chain::root_expires_at(&settings.pinned)?,
        confirmed_at: None,
    })
}

/// `time` and `wait` after it, as far as time is told.
fn later(time: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}
