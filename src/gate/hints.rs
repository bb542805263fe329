//! Hints: which manifests were seen to list a digest, and which digests a tag named.
//!
//! A hint is never trusted. It says where to look; on use the parent is loaded by its digest,
//! seen to list the child, and judged as it stands now.
//!
//! Parents outlive the process, where there is a cache directory. That a tag named a digest
//! does not: nothing could prove it again, so an edited store could make a signed member of an
//! unsigned index pass where policy asks for a signed index. The next pull by the tag tells.

use std::sync::Arc;

use moka::{Entry, ops::compute::Op, policy::EvictionPolicy, sync::Cache};

use crate::content::ContentKey;
use crate::content::Document;
use crate::content::Parents;
use crate::oci::Digest;
use crate::oci::Tag;

/// Parents remembered for one digest: the latest admitted, then others.
const PARENTS_MAX: usize = 16;
/// Tags remembered for one digest.
const TAGS_MAX: usize = 4;
/// Children remembered of one manifest. Real images have some ten layers, and clients refuse
/// manifests long before this number.
const CHILDREN_MAX: usize = 1000;

/// What is remembered about one digest of one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Hint {
    /// The latest admitted first.
    pub(super) parents: Vec<Digest>,
    /// The tags that named it, the latest first.
    pub(super) tags: Vec<Tag>,
    /// What the store knows is among the parents.
    loaded: bool,
}

#[derive(Debug)]
pub(super) struct Hints {
    held: Cache<ContentKey, Arc<Hint>>,
    store: Option<Parents>,
}

impl Hints {
    pub(super) fn new(entries_max: u64, store: Option<Parents>) -> Self {
        // The latest in, not the most often asked for, stay: a client asks for blobs right
        // after their manifest.
        let held = Cache::builder()
            .max_capacity(entries_max)
            .eviction_policy(EvictionPolicy::lru());
        let held = held.build();
        Self { held, store }
    }

    pub(super) async fn of(&self, key: &ContentKey) -> Arc<Hint> {
        let held = self.held.get(key).unwrap_or_default();
        let Some(store) = self.store.as_ref().filter(|_| !held.loaded) else {
            return held;
        };
        let stored = store.of(key).await;
        if stored.is_empty() && held.parents.is_empty() && held.tags.is_empty() {
            // Nothing is known, and nothing is kept, so that asking for what is not there
            // drives nothing out that is.
            return held;
        }
        self.update(key.clone(), |hint| {
            let earlier = stored
                .iter()
                .filter(|parent| !hint.parents.contains(parent));
            let earlier: Vec<Digest> = earlier.copied().collect();
            hint.parents.extend(earlier);
            hint.parents.truncate(PARENTS_MAX);
            hint.loaded = true;
            true
        })
    }

    /// Remembers that a tag named this digest.
    pub(super) fn tagged(&self, key: ContentKey, tag: &Tag) {
        self.update(key, |hint| {
            if hint.tags.first() == Some(tag) {
                return false;
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
            self.update(key.clone(), |hint| {
                if !vouches {
                    let takes =
                        hint.parents.len() < PARENTS_MAX && !hint.parents.contains(&parent.digest);
                    hint.parents.extend(takes.then_some(parent.digest));
                    return takes;
                }
                if hint.parents.first() == Some(&parent.digest) {
                    return false;
                }
                is_news = true;
                hint.parents.retain(|known| *known != parent.digest);
                hint.parents.insert(0, parent.digest);
                hint.parents.truncate(PARENTS_MAX);
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

    fn update(&self, key: ContentKey, change: impl FnOnce(&mut Hint) -> bool) -> Arc<Hint> {
        let result = self.held.entry(key).and_compute_with(|entry| {
            let mut hint = entry
                .map(|entry| Hint::clone(entry.value()))
                .unwrap_or_default();
            if change(&mut hint) {
                Op::Put(Arc::new(hint))
            } else {
                Op::Nop
            }
        });
        result
            .into_entry()
            .map_or_else(Arc::default, Entry::into_value)
    }
}
