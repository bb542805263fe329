//! Hints: which manifests were seen to list a digest, and which digests a tag named.
//!
//! A hint is never trusted. It says where to look; on use the parent is loaded by its digest,
//! seen to list the child, and judged as it stands now.
//!
//! Parents outlive the process, where there is a cache directory. So does what tags named, for when
//! the registry is away; but then it counts for nothing that a digest [is tagged](Hint::is_tagged):
//! nothing could prove it again, and an edited store could make a signed member of an unsigned index
//! pass where policy asks for a signed index. The next answer of the registry tells.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::content::ContentKey;
use crate::content::Document;
use crate::content::Parents;
use crate::oci::Digest;
use crate::oci::Tag;

/// Parents remembered for one digest: the latest admitted, then others.
const PARENTS_MAX: usize = 16;
/// Tags remembered for one digest: the latest that vouched for it, then others.
const TAGS_MAX: usize = 4;
/// Children remembered of one manifest. Real images have some ten layers, and clients refuse
/// manifests long before this number.
const CHILDREN_MAX: usize = 1000;
/// What one hint takes without its parents and tags, and what each of these takes (a tag its text
/// as well), with the room that the tables and the allocator leave.
const HINT_BYTES: usize = 104;
const PARENT_BYTES: usize = 80;
const TAG_BYTES: usize = 40;

/// What is remembered about one digest of one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Hint {
    /// The latest admitted first, then what the store knows, then others.
    pub(super) parents: Vec<Digest>,
    /// The tags that named it, the latest that vouched for it first.
    pub(super) tags: Vec<Tag>,
    /// So many of the parents, from the first, were seen to vouch for it by this process.
    vouching: u8,
    /// What the store knows is among the parents.
    loaded: bool,
    /// The registry said that a tag names it.
    pub(super) is_tagged: bool,
}

/// Who says that a tag names a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// The registry did, to this process.
    ByRegistry,
    /// What outlived the process does, which proves nothing.
    AsRemembered,
}

/// The hints. A cache that keeps an order of use has several hundred bytes beside each entry,
/// which is more than a hint is. So there are two generations: what is new or used is in the
/// young one; when that is full it becomes the old one, and what was in the old one until then is
/// forgotten. Between one half and all of the bound is kept, the latest used: a client asks for
/// blobs right after their manifest.
#[derive(Debug)]
pub(super) struct Hints {
    /// Keys are two hashes of 64 bits, keyed by chance: nobody can make two that meet.
    hashers: [RandomState; 2],
    young_bytes_max: usize,
    held: Mutex<Held>,
    /// How often the young have grown old.
    turns: AtomicU64,
    store: Option<Parents>,
}

#[derive(Debug, Default)]
struct Held {
    young: HashMap<u128, Hint>,
    young_bytes: usize,
    old: HashMap<u128, Hint>,
}

impl Hint {
    fn bytes(&self) -> usize {
        let tags = self.tags.iter();
        let tags: usize = tags.map(|tag| TAG_BYTES + tag.as_str().len()).sum();
        HINT_BYTES + self.parents.len() * PARENT_BYTES + tags
    }
}

impl Held {
    /// What is known, out of the table.
    fn take(&mut self, key: u128) -> Option<Hint> {
        let young = self.young.remove(&key);
        let young = young.inspect(|hint| self.young_bytes -= hint.bytes());
        young.or_else(|| self.old.remove(&key))
    }

    /// Puts it among the young, which grow old when they are too many; true when they did.
    fn put(&mut self, key: u128, hint: Hint, young_bytes_max: usize) -> bool {
        let is_full = self.young_bytes + hint.bytes() > young_bytes_max;
        if is_full {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += hint.bytes();
        self.young.insert(key, hint);
        is_full
    }
}

impl Hints {
    pub(super) fn new(bytes_max: usize, store: Option<Parents>) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            young_bytes_max: bytes_max / 2,
            held: Mutex::default(),
            turns: AtomicU64::new(0),
            store,
        }
    }

    /// What this process has noted.
    pub(super) fn noted(&self, key: &ContentKey) -> Hint {
        self.update(key, |_| false)
    }

    /// What it has noted, and the parents that the store knows. For those who look for parents: where
    /// there are none, it may take a while.
    pub(super) async fn of(&self, key: &ContentKey) -> Hint {
        let held = self.noted(key);
        let Some(store) = self.store.as_ref().filter(|_| !held.loaded) else {
            return held;
        };
        let stored = store.of(key).await;
        if stored.is_empty() && held.parents.is_empty() && held.tags.is_empty() {
            // Nothing is known, and nothing is kept, so that asking for what is not there
            // drives nothing out that is.
            return held;
        }
        self.update(key, |hint| {
            // The store has those that vouched, so what is not known to vouch gives way to it.
            let vouching = usize::from(hint.vouching).min(hint.parents.len());
            let known = hint.parents.split_off(vouching);
            for parent in stored.iter().chain(&known) {
                if !hint.parents.contains(parent) {
                    hint.parents.push(*parent);
                }
            }
            hint.parents.truncate(PARENTS_MAX);
            hint.loaded = true;
            true
        })
    }

    /// Learns parents of which others know: those that are news. They come before those that were not
    /// seen to vouch, which whoever asks this has just looked at.
    pub(super) async fn learn(&self, key: &ContentKey) -> Vec<Digest> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        let stored = store.of_anew(key).await;
        let known = self.noted(key).parents;
        let mut news = stored;
        news.retain(|parent| !known.contains(parent));
        if !news.is_empty() {
            self.update(key, |hint| {
                let vouching = usize::from(hint.vouching).min(hint.parents.len());
                let others = hint.parents.split_off(vouching);
                hint.parents.extend(&news);
                hint.parents.extend(others);
                hint.parents.truncate(PARENTS_MAX);
                true
            });
        }
        news
    }

    /// How often what was noted and not used has grown old. What was noted two turns ago may be
    /// forgotten, and is noted again by whoever still rests on it.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Remembers that a tag named this digest. One that does not vouch for it, since policy refuses
    /// it under that tag or has not spoken yet, takes a free place and nobody else's: or a few of
    /// them would keep what the tag admits from being found.
    pub(super) fn tagged(&self, key: &ContentKey, tag: &Tag, named: Named, vouches: bool) {
        self.update(key, |hint| {
            let was_tagged = hint.is_tagged;
            hint.is_tagged |= named == Named::ByRegistry;
            let is_news = hint.is_tagged != was_tagged;
            if !vouches {
                let takes = hint.tags.len() < TAGS_MAX && !hint.tags.contains(tag);
                hint.tags.extend(takes.then(|| tag.clone()));
                return takes || is_news;
            }
            if hint.tags.first() == Some(tag) {
                return is_news;
            }
            hint.tags.retain(|known| known != tag);
            hint.tags.insert(0, tag.clone());
            hint.tags.truncate(TAGS_MAX);
            true
        });
    }

    /// Remembers what a manifest lists. One that does not vouch for it, since it is refused or
    /// passes as evidence only, takes a free place and nobody else's: or a few of them, which
    /// anybody can push, would keep a good image's layers from being found.
    pub(super) fn listed(&self, parent: &ContentKey, document: &Document, vouches: bool) {
        let Ok(manifest) = document.manifest() else {
            return;
        };
        let mut news = Vec::new();
        for child in manifest.descriptors().take(CHILDREN_MAX) {
            let key = ContentKey {
                digest: child.digest,
                ..parent.clone()
            };
            let mut is_news = false;
            self.update(&key, |hint| {
                if !vouches {
                    let takes =
                        hint.parents.len() < PARENTS_MAX && !hint.parents.contains(&parent.digest);
                    hint.parents.extend(takes.then_some(parent.digest));
                    return takes;
                }
                if hint.vouching > 0 && hint.parents.first() == Some(&parent.digest) {
                    return false;
                }
                is_news = true;
                let counted = hint.parents.iter().take(hint.vouching.into());
                let is_counted = counted.into_iter().any(|known| *known == parent.digest);
                hint.parents.retain(|known| *known != parent.digest);
                hint.parents.insert(0, parent.digest);
                hint.parents.truncate(PARENTS_MAX);
                let vouching = hint.vouching.saturating_add(u8::from(!is_counted));
                hint.vouching = vouching.min(PARENTS_MAX as u8);
                true
            });
            if is_news {
                news.push(key);
            }
        }
        if let Some(store) = &self.store
            && !news.is_empty()
        {
            store.add(news, parent.digest);
        }
    }

    /// Changes what is known, or begins it, and answers what is known then. It counts as used;
    /// what is not there and does not change is not kept.
    fn update(&self, key: &ContentKey, change: impl FnOnce(&mut Hint) -> bool) -> Hint {
        let [first, second] = &self.hashers;
        let key = u128::from(first.hash_one(key)) << 64 | u128::from(second.hash_one(key));
        let mut held = self.held();
        let known = held.take(key);
        let is_known = known.is_some();
        let mut hint = known.unwrap_or_default();
        if change(&mut hint) || is_known {
            hint.parents.shrink_to_fit();
            hint.tags.shrink_to_fit();
            if held.put(key, hint.clone(), self.young_bytes_max) {
                self.turns.fetch_add(1, Ordering::Relaxed);
            }
        }
        hint
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one takes that has this tag and no parents.
    const TAGGED_BYTES: usize = HINT_BYTES + TAG_BYTES + 2;

    fn key(number: usize) -> ContentKey {
        ContentKey {
            host: "r.test".parse().expect("a host"),
            repository: "app".parse().expect("a repository"),
            digest: Digest::sha256(&number.to_be_bytes()),
        }
    }

    fn is_tagged(hints: &Hints, number: usize) -> bool {
        !hints.noted(&key(number)).tags.is_empty()
    }

    fn tag() -> Tag {
        "v1".parse().expect("a tag")
    }

    #[test]
    fn the_latest_used_stay_and_the_bound_holds() {
        let hints = Hints::new(100 * TAGGED_BYTES, None);
        for number in 0..1000 {
            hints.tagged(&key(number), &tag(), Named::ByRegistry, true);
            // One that is used again and again is not forgotten.
            assert!(is_tagged(&hints, 0), "after {number}");
            let held = hints.held();
            assert!(held.young_bytes <= 50 * TAGGED_BYTES);
            assert!(held.young.len() + held.old.len() <= 100);
        }
        let kept = (0..1000).filter(|number| is_tagged(&hints, *number));
        let kept: Vec<usize> = kept.collect();
        assert!(kept.len() >= 50, "{kept:?}");
        assert!(
            kept.iter().all(|number| *number == 0 || *number > 890),
            "{kept:?}"
        );
    }

    #[test]
    fn what_is_asked_for_and_not_known_is_not_kept() {
        let hints = Hints::new(100 * HINT_BYTES, None);
        for number in 0..1000 {
            assert!(!is_tagged(&hints, number));
        }
        assert!(hints.held().young.is_empty());
    }

    #[test]
    fn what_is_only_remembered_makes_nothing_tagged() {
        let hints = Hints::new(100 * TAGGED_BYTES, None);
        let is_tagged = || hints.noted(&key(0)).is_tagged;
        for vouches in [false, true] {
            hints.tagged(&key(0), &tag(), Named::AsRemembered, vouches);
            assert!(!is_tagged());
        }
        hints.tagged(&key(0), &tag(), Named::ByRegistry, true);
        hints.tagged(&key(0), &tag(), Named::AsRemembered, true);
        assert!(is_tagged());
    }

    #[test]
    fn tags_that_do_not_vouch_drive_none_out_that_does() {
        let hints = Hints::new(100 * TAGGED_BYTES, None);
        let refused: Vec<Tag> = (0..8)
            .map(|number| format!("t{number}").parse().expect("a tag"))
            .collect();
        let tags = || hints.noted(&key(0)).tags;
        for tag in &refused {
            hints.tagged(&key(0), tag, Named::ByRegistry, false);
        }
        assert_eq!(tags(), refused[..TAGS_MAX]);
        // Even the last of them is noted once it vouches, and stays.
        hints.tagged(&key(0), &refused[7], Named::ByRegistry, true);
        for tag in &refused {
            hints.tagged(&key(0), tag, Named::ByRegistry, false);
        }
        assert_eq!(tags()[0], refused[7]);
        assert_eq!(tags().len(), TAGS_MAX);
    }
}
