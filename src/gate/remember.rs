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

use jiff::Timestamp;

use crate::content::ContentKey;
use crate::content::Memory;
use crate::content::Remembered;
use crate::evidence;
use crate::evidence::Share;
use crate::gate::Gate;
use crate::gate::Resolved;
use crate::gate::facts::{FactsEntry, FactsKey};
use crate::gate::hints::Named;
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
        if !is_noted && let Some(remembered) = self.remembered() {
            let at = self.clock_at(at);
            remembered.note(tag_name(image, tag), Some(Memory { digest, at }));
            self.0.content.use_manifest(&ContentKey::of(image, digest));
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
        if let Some(remembered) = self.remembered() {
            remembered.note(tag_name(image, tag), None);
        }
    }

    /// What a tag named before this process began.
    pub(super) async fn remembered_tag(&self, image: &ImageName, tag: &Tag) -> Option<Resolved> {
        let remembered = self.remembered()?;
        let memory = remembered.recall(tag_name(image, tag)).await?;
        Some(Resolved {
            digest: memory.digest,
            at: self.instant_of(&memory)?,
            noted_at: None,
            named: Named::AsRemembered,
        })
    }

    /// Writes down the evidence of these facts, in place of what was; none, where none proves anything
    /// any more. Its bytes are paid for until that is done.
    pub(super) fn remember_evidence(
        &self,
        key: &FactsKey,
        evidence: Vec<Evidence>,
        gathered_at: Instant,
        share: Share,
    ) {
        let Some(remembered) = self.remembered().cloned() else {
            return;
        };
        let (name, at) = (key.remembered_as(), self.clock_at(gathered_at));
        if evidence.is_empty() {
            remembered.note(name, None);
            return;
        }
        let write_down = move || evidence::write_down(&evidence);
        let kept = move |digest| {
            remembered.note(name, Some(Memory { digest, at }));
            drop(share);
        };
        self.0
            .content
            .keep_evidence(key.content.clone(), write_down, kept);
    }

    /// The facts that evidence from before this process began proves now, where it is young enough to
    /// stand for what cannot be had.
    pub(super) async fn remembered_facts(
        &self,
        key: &FactsKey,
        material: Arc<Material>,
    ) -> Option<FactsEntry> {
        let remembered = self.remembered()?;
        let memory = remembered.recall(key.remembered_as()).await?;
        let gathered_at = self.instant_of(&memory)?;
        if gathered_at.elapsed() >= self.0.settings.stale_ttl {
            return None;
        }
        let _place = self.0.recall_places.acquire().await.ok()?;
        let kept_as = ContentKey {
            digest: memory.digest,
            ..key.content.clone()
        };
        let record = self.0.content.kept_evidence(&kept_as).await?;
        let reading = self.0.proofs.run(move || evidence::read_back(record));
        let evidence = reading.await.ok()?;
        let proven = self.prove(evidence, key, material).await.ok()?;
        Some(FactsEntry {
            facts: Arc::new(proven.facts),
            doubt: None,
            gathered_at,
            retry_at: None,
            stale: true,
        })
    }

    /// The store, where there is one and what is old is wanted at all.
    fn remembered(&self) -> Option<&Remembered> {
        let is_wanted = !self.0.settings.stale_ttl.is_zero();
        self.0.content.remembered().filter(|_| is_wanted)
    }

    /// The wall clock's time of a moment that has passed.
    fn clock_at(&self, moment: Instant) -> Timestamp {
        self.0.clock.now() - moment.elapsed()
    }

    /// When something was remembered, by the clock that does not jump; `None` for what is said to be
    /// of the future.
    fn instant_of(&self, memory: &Memory) -> Option<Instant> {
        let age = self.0.clock.now().duration_since(memory.at);
        Instant::now().checked_sub(age.try_into().ok()?)
    }
}
