//! What outlives the process for the time when a registry is away: what tags named, and the evidence
//! that proved something.
//!
//! None of it is trusted. Evidence is proven anew, under the trust that is in force. What a tag named
//! is read by its digest and judged as it stands; it does not make that digest
//! [a tagged one](super::hints::Hint::is_tagged). Both are old from the start, so they are asked for
//! anew where that can be.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::content::ContentKey;
use crate::content::Memory;
use crate::evidence;
use crate::gate::Gate;
use crate::gate::Resolved;
use crate::gate::facts::{FactsEntry, FactsKey};
use crate::gate::hints::Named;
use crate::gate::searches::Search;
use crate::gate::table::Key;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Tag;
use crate::verify::Evidence;
use crate::verify::Material;

/// How old the time at which a tag was resolved may get on disk, at most.
const NOTED_EVERY: Duration = Duration::from_secs(600);

/// The name of a tag in the store.
pub(super) fn tag_name(image: &ImageName, tag: &Tag) -> [u8; 32] {
    let parts = [
        "tag",
        image.registry.as_str(),
        image.repository.as_str(),
        tag.as_str(),
    ];
    Key::of(&parts.map(str::as_bytes)).bytes()
}

impl Gate {
    /// Takes what a tag names for what it named before: in memory at once, and on disk now and then.
    pub(super) fn note_resolved(
        &self,
        (image, tag): (&ImageName, &Tag),
        digest: Digest,
        at: Instant,
        known: Option<Resolved>,
    ) {
        let same = known.filter(|known| known.digest == digest);
        let noted_at = same.and_then(|known| known.noted_at);
        let often = NOTED_EVERY.min(self.0.settings.stale_ttl / 10);
        let is_noted = noted_at.is_some_and(|noted_at| at.duration_since(noted_at) < often);
        if !is_noted && let Some(remembered) = self.0.content.remembered() {
            // Later than it was asked for by as long as the answer took.
            let at = self.0.clock.now() - at.elapsed();
            remembered.note(tag_name(image, tag), Some(Memory { digest, at }));
        }
        let resolved = Resolved {
            digest,
            at,
            noted_at: if is_noted { noted_at } else { Some(at) },
            named: Named::ByRegistry,
        };
        let key = super::tag_key(image, tag);
        self.0.tags.insert(key, resolved, 0);
    }

    /// A tag is there no more.
    pub(super) fn forget_tag(&self, image: &ImageName, tag: &Tag) {
        self.0.tags.remove(&super::tag_key(image, tag));
        if let Some(remembered) = self.0.content.remembered() {
            remembered.note(tag_name(image, tag), None);
        }
    }

    /// What a tag named before this process began.
    pub(super) async fn remembered_tag(&self, image: &ImageName, tag: &Tag) -> Option<Resolved> {
        let remembered = self.0.content.remembered()?;
        let memory = remembered.recall(tag_name(image, tag)).await?;
        Some(Resolved {
            digest: memory.digest,
            at: self.instant_of(&memory)?,
            noted_at: None,
            named: Named::AsRemembered,
        })
    }

    /// Writes down the evidence of these facts, in place of what was; none, where none proves anything
    /// any more. The search keeps its bytes until that is done.
    pub(super) fn remember_evidence(
        &self,
        key: &FactsKey,
        evidence: &[Evidence],
        gathered_at: Instant,
        search: Search,
    ) {
        let Some(remembered) = self.0.content.remembered() else {
            return;
        };
        let record = (!evidence.is_empty()).then(|| evidence::write_down(evidence));
        let memory = record.flatten().map(|record| {
            let digest = Digest::sha256(&record);
            let kept_as = ContentKey {
                digest,
                ..key.content.clone()
            };
            self.0.content.keep_evidence(&kept_as, record, search);
            let at = self.0.clock.now() - gathered_at.elapsed();
            Memory { digest, at }
        });
        remembered.note(key.remembered_as(), memory);
    }

    /// The facts that evidence from before this process began proves now, where it is young enough to
    /// stand for what cannot be had.
    pub(super) async fn remembered_facts(
        &self,
        key: &FactsKey,
        material: Arc<Material>,
    ) -> Option<FactsEntry> {
        let remembered = self.0.content.remembered()?;
        let memory = remembered.recall(key.remembered_as()).await?;
        let gathered_at = self.instant_of(&memory)?;
        if gathered_at.elapsed() >= self.0.settings.stale_ttl {
            return None;
        }
        let kept_as = ContentKey {
            digest: memory.digest,
            ..key.content.clone()
        };
        let record = self.0.content.kept_evidence(&kept_as).await?;
        let evidence = evidence::read_back(record);
        let proven = self.prove(evidence, key, material).await.ok()?;
        Some(FactsEntry {
            facts: Arc::new(proven.facts),
            doubt: None,
            gathered_at,
            retry_at: None,
            stale: true,
        })
    }

    /// When something was remembered, by the clock that does not jump; `None` for what is said to be
    /// of the future.
    fn instant_of(&self, memory: &Memory) -> Option<Instant> {
        let age = self.0.clock.now().duration_since(memory.at);
        Instant::now().checked_sub(age.try_into().ok()?)
    }
}
