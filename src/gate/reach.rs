//! Closure for blobs: a blob leaves because a manifest that is admitted now lists it, in the
//! repository that it is asked for in.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::content::BlobAnswer;
use crate::content::ByteRange;
use crate::content::ContentKey;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Grounds;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admit::no_policy;
use crate::gate::refusal::own_shortfall;
use crate::gate::ruling::Validity;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::oci::media_type;
use crate::oci::media_type::EvidenceForm;
use crate::policy::Reason;
use crate::upstream::Upstream;

/// A blob that may leave: the only key to its bytes. It can only be had from [`Gate::blob`].
#[derive(Debug)]
pub struct AdmittedBlob {
    reach: Arc<Reach>,
    key: ContentKey,
    upstream: Upstream,
}

/// Why a blob may leave, and for how long that holds.
#[derive(Debug)]
pub(super) struct Reach {
    validity: Validity,
    /// Set when only evidence reaches it: what it has to be for that.
    form: Option<EvidenceForm>,
}

impl Gate {
    /// Asks for a blob.
    ///
    /// # Errors
    /// A [`Refusal`]. A blob that nothing reaches is refused whether or not it exists.
    pub async fn blob(&self, image: &ImageName, digest: Digest) -> Result<AdmittedBlob, Refusal> {
        let Some(upstream) = self.upstream(&image.registry) else {
            return Err(Refusal::NotFound(Missing::Repository));
        };
        let key = ContentKey {
            host: image.registry.clone(),
            repository: image.repository.clone(),
            digest,
        };
        let ruling = self.0.ruling.load_full();
        let held = self.0.reaches.get(&key);
        let held = held.filter(|reach| reach.validity.holds(&ruling, &self.0.clock));
        let reach = match held {
            Some(reach) => reach,
            None => {
                let reach = Arc::new(Box::pin(self.reach(&ruling, upstream, image, &key)).await?);
                // What only evidence reaches now, an image may reach a moment later: whoever lists
                // an image's layers as signatures must not lock them up.
                if reach.form.is_none() {
                    self.0.reaches.insert(key.clone(), Arc::clone(&reach));
                }
                reach
            }
        };
        Ok(AdmittedBlob {
            reach,
            key,
            upstream: upstream.clone(),
        })
    }

    async fn reach(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        image: &ImageName,
        key: &ContentKey,
    ) -> Result<Reach, Refusal> {
        let unjudged = ruling.rules.matching(image).is_empty();
        if unjudged && ruling.allows_by_default() {
            let validity = Validity {
                generation: ruling.generation,
                until: Instant::now() + self.0.settings.facts_ttl,
                ends_at: None,
            };
            return Ok(Reach {
                validity,
                form: None,
            });
        }
        let mut doubt = None;
        let mut evidence = None;
        for parent in &self.0.hints.of(key).await.parents {
            let parent = ContentKey {
                digest: *parent,
                ..key.clone()
            };
            match self
                .reach_through(ruling, upstream, image, &parent, key)
                .await
            {
                Ok(Some(reach)) if reach.form.is_none() => return Ok(reach),
                Ok(reach) => evidence = evidence.or(reach),
                Err(Refusal::Unavailable(unavailable)) => doubt = Some(unavailable),
                Err(Refusal::Denied(..) | Refusal::NotFound(_)) => {}
            }
        }
        match (evidence, doubt) {
            (Some(reach), _) => Ok(reach),
            (None, Some(doubt)) => Err(Refusal::Unavailable(doubt)),
            (None, None) => Err(self.not_reachable(image, key.digest, unjudged)),
        }
    }

    /// Whether `parent`, as it is judged now, lists the blob. A hint says where to look; the
    /// manifest itself is read.
    async fn reach_through(
        &self,
        ruling: &Ruling,
        upstream: &Upstream,
        image: &ImageName,
        parent: &ContentKey,
        key: &ContentKey,
    ) -> Result<Option<Reach>, Refusal> {
        let asked = || Asked::Blob(image.clone(), key.digest);
        let document = self.0.content.manifest(upstream, parent).await;
        let document = document.map_err(|error| self.not_found(&error, asked(), Missing::Blob))?;
        let Ok(manifest) = document.manifest() else {
            return Ok(None);
        };
        if manifest.as_image().is_none() || !manifest.lists(&key.digest) {
            return Ok(None);
        }
        let ask = Ask {
            image: image.clone(),
            reference: Reference::Digest(parent.digest),
        };
        let held = self
            .0
            .admissions
            .get(&ask)
            .filter(|held| held.validity.holds(ruling, &self.0.clock));
        let admission = match held {
            Some(held) => held,
            None => self.admit(ruling, &ask).await?.admission,
        };
        let form = match admission.decision.grounds {
            Grounds::Evidence => Some(form_of(manifest, &key.digest)),
            Grounds::Judged(_) | Grounds::Unjudged => None,
        };
        let validity = admission.validity;
        Ok(Some(Reach { validity, form }))
    }

    fn not_reachable(&self, image: &ImageName, digest: Digest, unjudged: bool) -> Refusal {
        let shortfall = if unjudged {
            no_policy(image)
        } else {
            own_shortfall(
                Reason::NotReachable,
                "no admitted manifest of this repository that lists it".to_owned(),
                "a blob of an image that policy admits",
                "pull the image by its tag or digest; if the image is refused, its own message \
                 says why",
            )
        };
        self.denied(
            Denied {
                asked: Asked::Blob(image.clone(), digest),
                refused: None,
                shortfall,
                policy: None,
                judgement: None,
            },
            Arc::default(),
        )
    }

    /// The bytes of an admitted blob, or of a part of it.
    ///
    /// # Errors
    /// A [`Refusal`] when the upstream does not give them, or when what passed as evidence is
    /// not what evidence is made of.
    pub async fn open(
        &self,
        blob: &AdmittedBlob,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, Refusal> {
        let AdmittedBlob {
            reach,
            key,
            upstream,
        } = blob;
        let answer = match reach.form {
            None => self.0.content.blob(upstream, key, range).await,
            Some(form) => {
                let bytes_max = self.0.settings.evidence_bytes_max;
                let bytes = self.0.content.whole_blob(upstream, key, bytes_max).await;
                match bytes {
                    Ok(bytes) if has_form(&bytes, form) => Ok(BlobAnswer::held(bytes, range)),
                    Ok(_) => return Err(self.not_evidence(blob)),
                    Err(error) => Err(error),
                }
            }
        };
        answer.map_err(|error| self.not_found(&error, blob.asked(), Missing::Blob))
    }

    /// The size of an admitted blob in bytes; the upstream's claim where it is not held.
    ///
    /// # Errors
    /// A [`Refusal`] when the upstream does not say.
    pub async fn blob_size(&self, blob: &AdmittedBlob) -> Result<Option<u64>, Refusal> {
        let size = self.0.content.blob_size(&blob.upstream, &blob.key).await;
        size.map_err(|error| self.not_found(&error, blob.asked(), Missing::Blob))
    }

    fn not_evidence(&self, blob: &AdmittedBlob) -> Refusal {
        self.denied(Denied {
            asked: blob.asked(),
            refused: None,
            shortfall: own_shortfall(
                Reason::NotReachable,
                "bytes that a manifest passes off as a signature or attestation, and that are \
                 none"
                    .to_owned(),
                "JSON or text, as signatures and attestations are",
                "look who pushed the manifest: this is how a refused layer would be smuggled out",
            ),
            policy: None,
            judgement: None,
        }, Arc::default())
    }
}

impl AdmittedBlob {
    /// The blob's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.key.digest
    }

    fn asked(&self) -> Asked {
        let ContentKey {
            host,
            repository,
            digest,
        } = self.key.clone();
        Asked::Blob(
            ImageName {
                registry: host,
                repository,
            },
            digest,
        )
    }
}

/// What a blob that only evidence reaches has to be. A config is JSON, as is a digest that is
/// listed as several things.
fn form_of(manifest: &Manifest, digest: &Digest) -> EvidenceForm {
    let layers = manifest
        .as_image()
        .map(|image| image.layers.as_slice())
        .unwrap_or_default();
    let is_text =
        |media_type: &str| media_type::evidence_form(media_type) == Some(EvidenceForm::Text);
    let mut listed = layers.iter().filter(|layer| layer.digest == *digest);
    match listed.next() {
        Some(layer) if is_text(&layer.media_type) && listed.next().is_none() => EvidenceForm::Text,
        _ => EvidenceForm::Json,
    }
}

/// Whether bytes can be evidence. A layer that runs is a tar archive, mostly compressed, and
/// is neither JSON nor text; so that nobody gets one out by calling it a signature.
fn has_form(bytes: &Bytes, form: EvidenceForm) -> bool {
    match form {
        EvidenceForm::Json => serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok(),
        EvidenceForm::Text => std::str::from_utf8(bytes).is_ok_and(|text| {
            text.chars()
                .all(|character| !character.is_control() || "\t\r\n".contains(character))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_no_evidence() {
        let mut tar = vec![0_u8; 1024];
        tar[..4].copy_from_slice(b"file");
        for bytes in [Bytes::from(tar), Bytes::from_static(&[0x1f, 0x8b, 8, 0])] {
            assert!(!has_form(&bytes, EvidenceForm::Json));
            assert!(!has_form(&bytes, EvidenceForm::Text));
        }
        assert!(has_form(&Bytes::from_static(b"{}"), EvidenceForm::Json));
        assert!(has_form(
            &Bytes::from_static(b"SPDXVersion: 2.3\n"),
            EvidenceForm::Text
        ));
    }
}
