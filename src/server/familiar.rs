//! What manifests were asked for lately, so that a name which everybody pulls is parsed once: to
//! compare what a request says with what another said costs a fraction of that.
//!
//! What is held is what the parser made of the very same text, and is forgotten with the process.

use std::{
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use http::{HeaderMap, HeaderValue, Uri, header};

use crate::gate::Ask;

/// A power of two.
const PLACES: usize = 256;
/// Longer ones are not held, in bytes of target and host.
const TEXT_BYTES_MAX: usize = 512;
/// Who is there is driven out by each so many-th newcomer: two names that share a place do not take
/// it from each other each time, and a flood of names costs little more than without.
const PATIENCE: usize = 16;

/// All that a route depends on beside the method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    target: &'a str,
    host: Option<&'a HeaderValue>,
}

impl<'a> Words<'a> {
    /// None of a request whose target names a host, or that says too much.
    pub(super) fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Option<Self> {
        if uri.authority().is_some() {
            return None;
        }
        let words = Self {
            target: uri.path_and_query()?.as_str(),
            host: headers.get(header::HOST),
        };
        let bytes = words.target.len() + words.host.map_or(0, HeaderValue::len);
        (bytes <= TEXT_BYTES_MAX).then_some(words)
    }
}

#[derive(Debug)]
struct Known {
    target: Box<str>,
    host: Option<HeaderValue>,
    ask: Arc<Ask>,
}

/// Texts and what they ask for.
#[derive(Debug)]
pub(super) struct Familiar {
    places: Box<[ArcSwapOption<Known>]>,
    newcomers: AtomicUsize,
    seed: RandomState,
}

impl Default for Familiar {
    fn default() -> Self {
        Self {
            places: (0..PLACES).map(|_| ArcSwapOption::empty()).collect(),
            newcomers: AtomicUsize::new(0),
            seed: RandomState::default(),
        }
    }
}

impl Familiar {
    /// What these words ask for, if that is known.
    pub(super) fn find(&self, words: Words<'_>) -> Option<Arc<Ask>> {
        let known = self.place(words)?.load();
        let known = known.as_ref()?;
        let same = *known.target == *words.target && known.host.as_ref() == words.host;
        same.then(|| Arc::clone(&known.ask))
    }

    /// Holds what these words ask for, perhaps.
    pub(super) fn keep(&self, words: Words<'_>, ask: &Arc<Ask>) {
        let Some(place) = self.place(words) else {
            return;
        };
        // Not a part of the request's memory.
        let copied = |host: &HeaderValue| HeaderValue::from_bytes(host.as_bytes());
        let Ok(host) = words.host.map(copied).transpose() else {
            return;
        };
        let newcomers = self.newcomers.fetch_add(1, Ordering::Relaxed);
        if newcomers.is_multiple_of(PATIENCE) || place.load().is_none() {
            place.store(Some(Arc::new(Known {
                target: words.target.into(),
                host,
                ask: Arc::clone(ask),
            })));
        }
    }

    fn place(&self, words: Words<'_>) -> Option<&ArcSwapOption<Known>> {
        let hash = self.seed.hash_one(words.target);
        self.places.get(hash as usize & (PLACES - 1))
    }
}
