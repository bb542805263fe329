//! Facts: gathered once per digest and trust epoch, whatever policies make of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::content::ContentKey;
use crate::evidence;
use crate::evidence::Place;
use crate::gate::Gate;
use crate::gate::Ruling;
use crate::gate::refusal::{Cause, Doubt};
use crate::metrics::CacheKind;
use crate::oci::EvidenceSource;
use crate::places::NotDone;
use crate::upstream::Upstream;
use crate::verify;
use crate::verify::Evidence;
use crate::verify::Fact;
use crate::verify::Facts;
use crate::verify::Material;

/// What facts depend on, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FactsKey {
    pub(super) content: ContentKey,
    /// Where the evidence is kept; `None`: beside the image.
    pub(super) source: Option<Arc<EvidenceSource>>,
    pub(super) trust_epoch: u64,
}

/// Facts with their age.
#[derive(Debug)]
pub(super) struct FactsEntry {
    pub(super) facts: Arc<Facts>,
    /// What could not be read. Facts with a doubt are never kept: what looks unsigned may
    /// not be.
    pub(super) doubt: Option<Cause>,
    pub(super) gathered_at: Instant,
}

impl FactsEntry {
    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.facts.size_hint() + 200).unwrap_or(u32::MAX)
    }

    /// Until when the entry may be taken as it is.
    pub(super) fn expires_at(&self, settings: &crate::gate::Settings) -> Instant {
        self.gathered_at + settings.lifetimes().of(self)
    }
}

/// Drops entries from the cache when they expire, instead of keeping a day's unsigned digests.
#[derive(Debug)]
pub(super) struct Lifetimes {
    pub(super) facts_ttl: Duration,
    pub(super) unsigned_ttl: Duration,
}

impl moka::Expiry<FactsKey, Arc<FactsEntry>> for Lifetimes {
    fn expire_after_create(
        &self,
        _key: &FactsKey,
        entry: &Arc<FactsEntry>,
        _created_at: Instant,
    ) -> Option<Duration> {
        Some(self.of(entry))
    }

    fn expire_after_update(
        &self,
        _key: &FactsKey,
        entry: &Arc<FactsEntry>,
        _updated_at: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.of(entry))
    }
}

impl Lifetimes {
    /// How long an entry may be taken as it is. "Nothing proven" is asked again soon: somebody
    /// may be about to sign.
    fn of(&self, entry: &FactsEntry) -> Duration {
        if entry.doubt.is_some() {
            Duration::ZERO
        } else if entry.facts.proven.is_empty() {
            self.unsigned_ttl.min(self.facts_ttl)
        } else {
            self.facts_ttl
        }
    }
}

impl Gate {
    /// The facts about a digest from one place: held ones that are young enough, or gathered
    /// now, in one flight for all who ask. `not_before` refuses held ones that are older.
    pub(super) async fn facts(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        (content, source): (&ContentKey, Option<&Arc<EvidenceSource>>),
        not_before: Option<Instant>,
    ) -> Result<Arc<FactsEntry>, Cause> {
        let key = FactsKey {
            content: content.clone(),
            source: source.cloned(),
            trust_epoch: ruling.trust_epoch,
        };
        let held = self.0.facts.get(&key).filter(|entry| {
            let ends_at = entry.facts.ends_at();
            Instant::now() < entry.expires_at(&self.0.settings)
                && ends_at.is_none_or(|ends_at| self.0.clock.now() < ends_at)
                && not_before.is_none_or(|not_before| entry.gathered_at >= not_before)
        });
        self.0
            .metrics
            .cache_requested(CacheKind::Facts, held.is_some());
        if let Some(entry) = held {
            return Ok(entry);
        }
        let (gate, upstream, material) =
            (self.clone(), upstream.clone(), Arc::clone(&ruling.material));
        let flight = {
            let key = key.clone();
            || async move {
                let entry = Arc::new(gate.gather(&upstream, &key, material).await?);
                if entry.doubt.is_none() {
                    gate.0.facts.insert(key, Arc::clone(&entry));
                }
                Ok(entry)
            }
        };
        let landed = self.0.facts_flights.join(key, flight).await;
        landed.unwrap_or_else(|_| Err(crashed()))
    }

    /// Finds evidence and proves it.
    async fn gather(
        &self,
        upstream: &Upstream,
        FactsKey {
            content, source, ..
        }: &FactsKey,
        material: Arc<Material>,
    ) -> Result<FactsEntry, Cause> {
        let place = self.place(upstream, content, source.as_deref())?;
        // Held until all is proven: what waits for its proof waits with its bytes.
        let search = self.0.searches.begin(place.upstream.host()).await;
        let search = search.map_err(not_searched)?;
        // The age counts from the first question, not from the last answer.
        let gathered_at = Instant::now();
        // Detached signatures lie beside the image, or nowhere.
        let detached = source.is_none() && !material.gpg_keys.is_empty();
        let (digest, limits) = (&content.digest, &self.0.settings.evidence);
        let found = evidence::find(place, digest, limits, &search.share, detached).await;
        let mut facts = Facts {
            truncated: found.truncated,
            ..Facts::default()
        };
        if !found.evidence.is_empty() {
            let (metrics, now, digest) = (Arc::clone(&self.0.metrics), self.0.clock.now(), *digest);
            let proofs = self.0.proofs.run(move || {
                let prove = |evidence: &Evidence| {
                    let started = Instant::now();
                    let proof = verify::prove(evidence, &digest, &material, now);
                    let format = evidence.format().as_str();
                    metrics.verified(format, proof.is_ok(), started.elapsed());
                    proof
                };
                found.evidence.iter().map(prove).collect::<Vec<_>>()
            });
            for proof in proofs.await.map_err(not_proven)? {
                match proof {
                    Ok(proven) => {
                        let found_in = |fact: Fact| Fact {
                            found_in: source.clone(),
                            ..fact
                        };
                        facts.proven.extend(proven.into_iter().map(found_in));
                    }
                    Err(rejected) => facts.rejected.push(rejected),
                }
            }
        }
        drop(search);
        // They are kept for long.
        facts.proven.shrink_to_fit();
        facts.rejected.shrink_to_fit();
        let doubt = found.failures.first().map(Cause::of_failure);
        Ok(FactsEntry {
            facts: Arc::new(facts),
            doubt,
            gathered_at,
        })
    }

    /// Where the evidence about an image is looked for.
    fn place<'a>(
        &'a self,
        upstream: &'a Upstream,
        content: &'a ContentKey,
        source: Option<&'a EvidenceSource>,
    ) -> Result<Place<'a>, Cause> {
        let tag_prefix = source.and_then(|source| source.tag_prefix.as_ref());
        let elsewhere = source.and_then(|source| source.repository.as_ref());
        let Some(image) = elsewhere else {
            return Ok(Place {
                upstream,
                repository: &content.repository,
                tag_prefix,
            });
        };
        // Configuration refuses any other; what is not there is no "unsigned".
        let upstream = self.upstream(&image.registry).ok_or_else(|| {
            let text = format!("signatures are kept in {image}, which is on no upstream");
            Cause::new(Doubt::EvidenceUnavailable, text)
        })?;
        Ok(Place {
            upstream,
            repository: &image.repository,
            tag_prefix,
        })
    }
}

pub(super) fn not_proven(error: NotDone) -> Cause {
    match error {
        NotDone::Overloaded => Cause::new(
            Doubt::Overloaded,
            "too many images are waiting for their proofs",
        ),
        NotDone::Crashed => crashed(),
    }
}

fn not_searched(error: NotDone) -> Cause {
    match error {
        NotDone::Overloaded => Cause::new(
            Doubt::Overloaded,
            "too many images wait for the search for their signatures",
        ),
        NotDone::Crashed => crashed(),
    }
}

pub(super) fn crashed() -> Cause {
    Cause::new(
        Doubt::Overloaded,
        "the proof crashed: please report this with the image's name",
    )
}
