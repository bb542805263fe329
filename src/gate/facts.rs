//! Facts: gathered once per digest and trust epoch, whatever policies make of them.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::content::ContentKey;
use crate::evidence;
use crate::evidence::Place;
use crate::gate::Gate;
use crate::gate::Ruling;
use crate::gate::find::{STALE_RETRY, in_grace};
use crate::gate::refusal::{Cause, Doubt};
use crate::gate::table::{Key, Table};
use crate::metrics::CacheKind;
use crate::oci::EvidenceSource;
use crate::oci::TagPrefix;
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
    /// When it is worth the while to ask again, where the doubt is only that a registry is away.
    pub(super) retry_at: Option<Instant>,
    /// True when these are old facts, which stand for others only where those cannot be had.
    pub(super) stale: bool,
}

impl FactsEntry {
    /// Until when the entry may be taken as it is.
    pub(super) fn expires_at(&self, settings: &crate::gate::Settings) -> Instant {
        let expires_at = self.gathered_at + settings.lifetimes().of(self);
        self.retry_at.unwrap_or(expires_at)
    }
}

/// Facts as they are held.
#[derive(Debug, Clone)]
struct Held {
    facts: Arc<Facts>,
    gathered_at: Instant,
    /// They are from before this process began.
    remembered: bool,
}

/// Evidence that was looked at.
#[derive(Debug, Default)]
pub(super) struct Proven {
    pub(super) facts: Facts,
    /// The pieces that proved something.
    pub(super) evidence: Vec<Evidence>,
}

/// The facts that are held. Those that prove nothing have a table of their own, which is small: they
/// are for seconds, and whoever asks for digests that nobody has signed drives out nothing proven.
#[derive(Debug)]
pub(super) struct HeldFacts {
    proven: Table<Held>,
    unproven: Table<Held>,
}

impl HeldFacts {
    pub(super) fn new(proven_bytes_max: usize, unproven_bytes_max: usize) -> Self {
        Self {
            proven: Table::new(proven_bytes_max),
            unproven: Table::new(unproven_bytes_max),
        }
    }

    fn get(&self, key: &FactsKey) -> Option<FactsEntry> {
        let key = key.hashed();
        let held = self.proven.get(&key).or_else(|| self.unproven.get(&key))?;
        Some(FactsEntry {
            facts: held.facts,
            doubt: None,
            gathered_at: held.gathered_at,
            retry_at: None,
            stale: held.remembered,
        })
    }

    /// Holds an entry in place of what was held under its key, unless there is a doubt.
    fn insert(&self, key: &FactsKey, entry: &FactsEntry) {
        if entry.doubt.is_some() {
            return;
        }
        let (table, other) = match entry.facts.proven.is_empty() {
            true => (&self.unproven, &self.proven),
            false => (&self.proven, &self.unproven),
        };
        let (key, held) = (
            key.hashed(),
            Held {
                facts: Arc::clone(&entry.facts),
                gathered_at: entry.gathered_at,
                remembered: entry.stale,
            },
        );
        other.remove(&key);
        let bytes = held.facts.size_hint();
        table.insert(key, held, bytes);
    }
}

impl FactsKey {
    fn hashed(&self) -> Key {
        self.named(&[b"facts", &self.trust_epoch.to_le_bytes()])
    }

    /// The name of the evidence on disk: what it proves is asked anew, under whatever trust.
    pub(super) fn remembered_as(&self) -> [u8; 32] {
        self.named(&[b"evidence"]).bytes()
    }

    fn named(&self, kind: &[&[u8]]) -> Key {
        let Self {
            content:
                ContentKey {
                    host,
                    repository,
                    digest,
                },
            source,
            trust_epoch: _,
        } = self;
        let source = source.as_deref();
        let elsewhere = source.and_then(|source| source.repository.as_ref());
        let prefix = source.and_then(|source| source.tag_prefix.as_ref());
        // No host, repository or prefix is empty, so what is empty is what is not there.
        let parts = [
            &[u8::from(source.is_some())],
            host.as_str().as_bytes(),
            repository.as_str().as_bytes(),
            digest.as_bytes(),
            elsewhere
                .map_or("", |image| image.registry.as_str())
                .as_bytes(),
            elsewhere
                .map_or("", |image| image.repository.as_str())
                .as_bytes(),
            prefix.map_or("", TagPrefix::as_str).as_bytes(),
        ];
        Key::of(&[kind, &parts].concat())
    }
}

/// How long facts may be taken as they are.
#[derive(Debug)]
pub(super) struct Lifetimes {
    pub(super) facts_ttl: Duration,
    pub(super) unsigned_ttl: Duration,
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
    /// now, in one flight for all who ask. Held ones from before `not_before` are too old.
    ///
    /// While a registry is away, old ones are had for `stale_ttl`, with the doubt that this leaves:
    /// what is proven stays proven, and what is not may have been proven since.
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
        let is_fresh = |entry: &FactsEntry| {
            !entry.stale
                && Instant::now() < entry.expires_at(&self.0.settings)
                && not_before.is_none_or(|not_before| entry.gathered_at >= not_before)
        };
        let fresh = self.held_facts(&key).filter(is_fresh);
        self.0
            .metrics
            .cache_requested(CacheKind::Facts, fresh.is_some());
        if let Some(entry) = fresh {
            return Ok(Arc::new(entry));
        }
        let (gate, asked, material) =
            (self.clone(), upstream.clone(), Arc::clone(&ruling.material));
        let flight = {
            let (key, material) = (key.clone(), Arc::clone(&material));
            || async move {
                let entry = gate.gather(&asked, &key, material).await?;
                gate.0.facts.insert(&key, &entry);
                Ok(Arc::new(entry))
            }
        };
        let kept_by = self.place(upstream, content, source.map(Arc::as_ref))?;
        let landing = self.0.facts_flights.join(key.clone(), flight);
        let mut landing = pin!(landing);
        let landed = in_grace(kept_by.upstream, &mut landing).await;
        if landed.is_none()
            && let doubt = silent(kept_by.upstream)
            && let Some(stale) = self.old_facts(&key, &material, doubt).await
        {
            return Ok(Arc::new(stale));
        }
        let landed = match landed {
            Some(landed) => landed,
            None => landing.await,
        };
        let gathered = landed.unwrap_or_else(|_| Err(crashed()))?;
        if let (Some(doubt), Some(retry_at)) = (&gathered.doubt, gathered.retry_at)
            && let Some(stale) = self.old_facts(&key, &material, doubt.clone()).await
        {
            let retry_at = Some(retry_at);
            return Ok(Arc::new(FactsEntry { retry_at, ..stale }));
        }
        Ok(gathered)
    }

    /// What is held of facts, whose keys and signatures are still good.
    fn held_facts(&self, key: &FactsKey) -> Option<FactsEntry> {
        let held = self.0.facts.get(key);
        held.filter(|held| self.have_not_ended(&held.facts))
    }

    /// Old facts that prove something, for when no others can be had because of `doubt`: those that
    /// are held, else what was remembered.
    async fn old_facts(
        &self,
        key: &FactsKey,
        material: &Arc<Material>,
        doubt: Cause,
    ) -> Option<FactsEntry> {
        if self.held_facts(key).is_none() {
            let (gate, recalled, material) = (self.clone(), key.clone(), Arc::clone(material));
            let recall = || async move {
                let remembered = gate.remembered_facts(&recalled, material).await;
                // What has been gathered meanwhile is better.
                if let Some(entry) = remembered
                    && gate.held_facts(&recalled).is_none()
                {
                    gate.0.facts.insert(&recalled, &entry);
                }
            };
            self.0.recalls.join(key.clone(), recall).await.ok();
        }
        let old = self.held_facts(key)?;
        let is_usable =
            old.gathered_at.elapsed() < self.0.settings.stale_ttl && !old.facts.proven.is_empty();
        is_usable.then(|| FactsEntry {
            doubt: Some(doubt),
            retry_at: Some(Instant::now() + STALE_RETRY),
            stale: true,
            ..old
        })
    }

    /// Whether the keys and signatures that facts rest on are still good.
    fn have_not_ended(&self, facts: &Facts) -> bool {
        let ends_at = facts.ends_at();
        ends_at.is_none_or(|ends_at| self.0.clock.now() < ends_at)
    }

    /// Finds evidence and proves it.
    async fn gather(
        &self,
        upstream: &Upstream,
        key: &FactsKey,
        material: Arc<Material>,
    ) -> Result<FactsEntry, Cause> {
        let FactsKey {
            content, source, ..
        } = key;
        let place = self.place(upstream, content, source.as_deref())?;
        // Held until all is proven: what waits for its proof waits with its bytes.
        let search = self.0.searches.begin(place.upstream.host()).await;
        let search = search.map_err(not_searched)?;
        // The age counts from the first question, not from the last answer.
        let gathered_at = Instant::now();
        // Detached signatures lie beside the image, or nowhere.
        let detached = source.is_none() && !material.gpg_keys.is_empty();
        let (digest, limits) = (&content.digest, &self.0.settings.evidence);
        // By far the largest part of a search, which those who wait for their turn need no room for.
        let find = evidence::find(place, digest, limits, &search.share, detached);
        let found = Box::pin(find).await;
        let failures = found.failures;
        let has_all_roots = material.missing.is_empty();
        let Proven {
            mut facts,
            evidence,
        } = self.prove(found.evidence, key, material).await?;
        facts.truncated = found.truncated;
        // What proves nothing for want of a root to prove it with is not gone.
        let is_known = !evidence.is_empty() || has_all_roots;
        if failures.is_empty() && is_known {
            self.remember_evidence(key, evidence, gathered_at, search.into_share());
        }
        let is_away = !failures.is_empty() && failures.iter().all(evidence::Failure::is_transient);
        Ok(FactsEntry {
            facts: Arc::new(facts),
            doubt: failures.first().map(Cause::of_failure),
            gathered_at,
            retry_at: is_away.then(|| Instant::now() + STALE_RETRY),
            stale: false,
        })
    }

    /// Proves evidence about a digest, on threads for that.
    pub(super) async fn prove(
        &self,
        evidence: Vec<Evidence>,
        FactsKey {
            content, source, ..
        }: &FactsKey,
        material: Arc<Material>,
    ) -> Result<Proven, Cause> {
        let mut proven = Proven::default();
        if evidence.is_empty() {
            return Ok(proven);
        }
        let (metrics, now) = (Arc::clone(&self.0.metrics), self.0.clock.now());
        let digest = content.digest;
        let proofs = self.0.proofs.run(move || {
            let prove = |evidence: Evidence| {
                let started = Instant::now();
                let proof = verify::prove(&evidence, &digest, &material, now);
                let format = evidence.format().as_str();
                metrics.verified(format, proof.is_ok(), started.elapsed());
                (evidence, proof)
            };
            evidence.into_iter().map(prove).collect::<Vec<_>>()
        });
        for (evidence, proof) in proofs.await.map_err(not_proven)? {
            match proof {
                Ok(facts) => {
                    let found_in = |fact: Fact| Fact {
                        found_in: source.clone(),
                        ..fact
                    };
                    proven.facts.proven.extend(facts.into_iter().map(found_in));
                    proven.evidence.push(evidence);
                }
                Err(rejected) => proven.facts.rejected.push(rejected),
            }
        }
        // They are kept for long.
        proven.facts.proven.shrink_to_fit();
        proven.facts.rejected.shrink_to_fit();
        Ok(proven)
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

fn silent(upstream: &Upstream) -> Cause {
    let text = format!(
        "{} gave no answer in time a moment ago, and is asked again meanwhile",
        upstream.host()
    );
    Cause::new(Doubt::EvidenceUnavailable, text)
}

pub(super) fn crashed() -> Cause {
    Cause::new(
        Doubt::Overloaded,
        "the proof crashed: please report this with the image's name",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use crate::oci::ImageName;
    use crate::verify::{Assurance, Format, Identity, Kind, Signer};

    fn key(host: &str, repository: &str, source: Option<EvidenceSource>, epoch: u64) -> FactsKey {
        FactsKey {
            content: ContentKey {
                host: host.parse().expect("a host"),
                repository: repository.parse().expect("a repository"),
                digest: Digest::sha256(b"an image"),
            },
            source: source.map(Arc::new),
            trust_epoch: epoch,
        }
    }

    fn fact() -> Fact {
        Fact {
            kind: Kind::Signature,
            signer: Signer::Identity(Arc::new(Identity {
                issuer: "https://issuer.test".to_owned(),
                subject: "somebody".to_owned(),
                claims: std::collections::BTreeMap::new(),
            })),
            root: None,
            signed_at: None,
            assurance: Assurance {
                log: None,
                timestamp: false,
                certificate_timestamp: true,
            },
            hash: None,
            format: Format::Bundle,
            source: Digest::sha256(b"a bundle"),
            docker_reference: None,
            found_in: None,
        }
    }

    fn entry(proven: Vec<Fact>, doubt: Option<Cause>) -> FactsEntry {
        FactsEntry {
            facts: Arc::new(Facts {
                proven,
                ..Facts::default()
            }),
            doubt,
            gathered_at: Instant::now(),
            retry_at: None,
            stale: false,
        }
    }

    // THREATS C5: facts are of one digest in one repository, from one place, under one trust.
    #[test]
    fn what_facts_depend_on_is_in_their_name() {
        let elsewhere = EvidenceSource {
            repository: Some(ImageName {
                registry: "one.test".parse().expect("a host"),
                repository: "signatures".parse().expect("a repository"),
            }),
            tag_prefix: None,
        };
        let prefixed = EvidenceSource {
            repository: None,
            tag_prefix: Some("v".parse().expect("a prefix")),
        };
        let keys = [
            key("one.test", "app", None, 1),
            key("two.test", "app", None, 1),
            key("one.test", "other", None, 1),
            key("one.test", "app", None, 2),
            key("one.test", "app", Some(elsewhere), 1),
            key("one.test", "app", Some(prefixed), 1),
        ];
        let held = HeldFacts::new(100_000, 100_000);
        held.insert(&keys[0], &entry(vec![fact()], None));
        for other in &keys[1..] {
            assert!(held.get(other).is_none(), "{other:?}");
        }
        assert!(held.get(&keys[0]).is_some());
    }

    // THREATS C4.
    #[test]
    fn facts_in_doubt_are_not_held() {
        let held = HeldFacts::new(100_000, 100_000);
        let key = key("one.test", "app", None, 1);
        let doubt = Cause::new(Doubt::EvidenceUnavailable, "away");
        held.insert(&key, &entry(Vec::new(), Some(doubt)));
        assert!(held.get(&key).is_none());
    }

    #[test]
    fn what_proves_nothing_any_more_replaces_what_did() {
        let held = HeldFacts::new(100_000, 100_000);
        let key = key("one.test", "app", None, 1);
        for proven in [vec![fact()], Vec::new(), vec![fact()]] {
            let count = proven.len();
            held.insert(&key, &entry(proven, None));
            let now = held.get(&key).expect("held");
            assert_eq!(now.facts.proven.len(), count);
        }
    }
}
