//! Hints: which manifests were seen to list a digest, and which digests a tag named.
//!
//! A hint is never trusted. It says where to look; on use the parent is loaded by its digest,
//! seen to list the child, and judged as it stands now.

use std::sync::Arc;

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::content::ContentKey;
use crate::content::Document;
use crate::oci::Digest;

/// Parents remembered for one digest: the latest admitted, then others.
const PARENTS_MAX: usize = 16;
/// Children remembered of one manifest. Real images have some ten layers, and clients refuse
/// manifests long before this number.
const CHILDREN_MAX: usize = 1000;

/// What is remembered about one digest of one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Hint {
    /// The latest admitted first.
    pub(super) parents: Vec<Digest>,
    /// A tag named it.
    pub(super) tagged: bool,
}

#[derive(Debug)]
pub(super) struct Hints {
    held: Cache<ContentKey, Arc<Hint>>,
}

impl Hints {
    pub(super) fn new(entries_max: u64) -> Self {
        // The latest in, not the most often asked for, stay: a client asks for blobs right
        // after their manifest.
        let held = Cache::builder()
            .max_capacity(entries_max)
            .eviction_policy(EvictionPolicy::lru());
        Self { held: held.build() }
    }

    pub(super) fn of(&self, key: &ContentKey) -> Arc<Hint> {
        self.held.get(key).unwrap_or_default()
    }

    /// Remembers that a tag named this digest.
    pub(super) fn tagged(&self, key: ContentKey) {
        self.update(key, |hint| {
            let changed = !hint.tagged;
            hint.tagged = true;
            changed
        });
    }

    /// Remembers what a manifest lists. One that was `admitted` comes first; the others take
    /// from nobody, so that whoever pushes many cannot make an image's own manifest forgotten.
    pub(super) fn listed(&self, parent: &ContentKey, document: &Document, admitted: bool) {
        let Ok(manifest) = document.manifest() else {
            return;
        };
        for child in manifest.descriptors().take(CHILDREN_MAX) {
            let key = ContentKey {
                digest: child.digest,
                ..parent.clone()
            };
            self.update(key, |hint| {
                if !admitted {
                    let new =
                        hint.parents.len() < PARENTS_MAX && !hint.parents.contains(&parent.digest);
                    if new {
                        hint.parents.push(parent.digest);
                    }
                    return new;
                }
                if hint.parents.first() == Some(&parent.digest) {
                    return false;
                }
                hint.parents.retain(|known| *known != parent.digest);
                hint.parents.insert(0, parent.digest);
                hint.parents.truncate(PARENTS_MAX);
                true
            });
        }
    }

    fn update(&self, key: ContentKey, change: impl FnOnce(&mut Hint) -> bool) {
        self.held.entry(key).and_compute_with(|entry| {
            let mut hint = entry
                .map(|entry| Hint::clone(entry.value()))
                .unwrap_or_default();
            if change(&mut hint) {
                moka::ops::compute::Op::Put(Arc::new(hint))
            } else {
                moka::ops::compute::Op::Nop
            }
        });
    }
}
