//! A private Sigstore in one process: Fulcio with its transparency log, Rekor 1 and 2, and a
//! timestamp authority, with everything that cosign would make of them.
//!
//! [`Sigstore::sign_bundle`] and its siblings mint evidence by a [`Recipe`], broken on request
//! by [`Fault`]s. They are made of steps that a test can take one by one: [`Sigstore::sign`],
//! [`Sigstore::record`], [`Sigstore::timestamp`]; the [`Evidence`] that comes of it has public
//! members to swap. A foreign Sigstore is a second one.
//!
//! What this room does not know: registries, and how any of it is verified.

mod authority;
mod certificate;
pub(super) mod encoding;
mod evidence;
mod fault;
mod fulcio;
mod identity;
mod keys;
mod recipe;
mod rekor;
mod signed;
mod statement;
mod timestamp;
mod trusted_root;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::oci::{Descriptor, Digest};
use crate::sandbox::image::{Blob, Package};

use certificate::{Window, moved};
use fault::flip;
use fulcio::{Fulcio, TransparencyLog};
use rekor::{Form, Rekor};
use timestamp::TimestampAuthority;

pub use authority::{AuthorityFault, CertificateAuthority};
pub use evidence::{BundleVersion, Evidence, attestation_tag, signature_tag};
pub use fault::Fault;
pub use identity::{Claim, Identity};
pub use keys::{KeyPair, KeyType};
pub use recipe::{Log, Recipe, Signer};
pub use rekor::{Checkpoint, Entry, InclusionProof};
pub use signed::{Content, IN_TOTO, Signed, Verifier};
pub use statement::COSIGN_SIGN;
pub use trusted_root::TrustedRoot;

const YEAR: i64 = 365 * 24 * 3600;
const HOUR: i64 = 3600;

/// A private Sigstore. Clones and views share keys and logs.
#[derive(Clone)]
pub struct Sigstore {
    services: Arc<Services>,
    time: Timestamp,
}

struct Services {
    window: Window,
    fulcio: Fulcio,
    certificate_log: TransparencyLog,
    rekor_v1: Rekor,
    rekor_v2: Rekor,
    rekor_v2_shard: Rekor,
    timestamp_authority: TimestampAuthority,
}

impl fmt::Debug for Sigstore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sigstore")
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl Sigstore {
    /// A fresh Sigstore that signs at `now`, in whole seconds. Its authorities are valid from
    /// a year before to ten years after.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let time = whole_seconds(now);
        let window = Window {
            start: moved(time, -YEAR),
            end: moved(time, 10 * YEAR),
        };
        let services = Services {
            window,
            fulcio: Fulcio::new(window, time),
            certificate_log: TransparencyLog::new(),
            rekor_v1: Rekor::v1(),
            rekor_v2: Rekor::v2("log2026-1.rekor.sandbox.test"),
            rekor_v2_shard: Rekor::v2("log2026-2.rekor.sandbox.test"),
            timestamp_authority: TimestampAuthority::new(window),
        };
        Self {
            services: Arc::new(services),
            time,
        }
    }

    /// The same Sigstore at another time.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> Self {
        Self {
            services: Arc::clone(&self.services),
            time: whole_seconds(time),
        }
    }

    /// Its trusted root.
    #[must_use]
    pub fn trusted_root(&self) -> TrustedRoot {
        let services = &*self.services;
        TrustedRoot::of(&trusted_root::Parts {
            start: services.window.start,
            logs: [
                &services.rekor_v1,
                &services.rekor_v2,
                &services.rekor_v2_shard,
            ],
            certificate_log: &services.certificate_log,
            certificate_authority: [
                &services.fulcio.issuing.certificate,
                &services.fulcio.root.certificate,
            ],
            retired_authority: &services.fulcio.expired.certificate,
            timestamp_authority: &services.timestamp_authority.chain,
        })
    }

    /// Its trusted root, as `trusted_root.json`.
    #[must_use]
    pub fn trusted_root_json(&self) -> String {
        self.trusted_root().json()
    }

    /// What `cosign sign` pushes beside `image`.
    #[must_use]
    pub fn sign_bundle(&self, image: &Descriptor, recipe: &Recipe<'_>) -> Package {
        self.signature(&image.digest, recipe).artifact(image)
    }

    /// What `cosign attest` pushes beside `image`.
    #[must_use]
    pub fn attest_bundle(
        &self,
        image: &Descriptor,
        predicate_type: &str,
        predicate: &Value,
        recipe: &Recipe<'_>,
    ) -> Package {
        self.attestation(&image.digest, predicate_type, predicate, recipe)
            .artifact(image)
    }

    /// One layer of a `.sig` manifest, for [`signature_tag`].
    #[must_use]
    pub fn sign_layer(&self, image: &Digest, docker_reference: &str, recipe: &Recipe<'_>) -> Blob {
        self.simple_signature(image, docker_reference, recipe)
            .layer()
    }

    /// One layer of an `.att` manifest, for [`attestation_tag`].
    #[must_use]
    pub fn attest_layer(
        &self,
        image: &Digest,
        predicate_type: &str,
        predicate: &Value,
        recipe: &Recipe<'_>,
    ) -> Blob {
        self.attestation(image, predicate_type, predicate, recipe)
            .layer()
    }

    /// The evidence of `cosign sign`.
    #[must_use]
    pub fn signature(&self, image: &Digest, recipe: &Recipe<'_>) -> Evidence {
        self.evidence(statement::signature(image, &recipe.faults), recipe)
    }

    /// The evidence of `cosign attest`.
    #[must_use]
    pub fn attestation(
        &self,
        image: &Digest,
        predicate_type: &str,
        predicate: &Value,
        recipe: &Recipe<'_>,
    ) -> Evidence {
        let content = statement::attestation(image, predicate_type, predicate, &recipe.faults);
        self.evidence(content, recipe)
    }

    /// The evidence of `cosign sign` before bundles.
    #[must_use]
    pub fn simple_signature(
        &self,
        image: &Digest,
        docker_reference: &str,
        recipe: &Recipe<'_>,
    ) -> Evidence {
        let content = statement::simple_signing(image, docker_reference, &recipe.faults);
        self.evidence(content, recipe)
    }

    /// A signature over the bytes of a manifest, without a statement about it.
    #[must_use]
    pub fn message_signature(&self, manifest: &[u8], recipe: &Recipe<'_>) -> Evidence {
        self.evidence(Content::Message(manifest.to_vec()), recipe)
    }

    /// Evidence over any content: signed, recorded, timestamped.
    #[must_use]
    pub fn evidence(&self, content: Content, recipe: &Recipe<'_>) -> Evidence {
        let mut signed = self.sign(content, recipe);
        let entries = self.entries(&signed, recipe);
        let timestamps = self.timestamps(&signed.signature, recipe);
        if recipe.has(Fault::NoVerifier) {
            signed.verifier = Verifier::Absent;
        }
        Evidence {
            signed,
            entries,
            timestamps,
            time: self.time,
        }
    }

    /// Signs content, with a certificate for a keyless signer. Of the faults of the recipe only
    /// those of certificate and signature count.
    #[must_use]
    pub fn sign(&self, content: Content, recipe: &Recipe<'_>) -> Signed {
        let message = content.signed_bytes();
        let fresh;
        let (key, verifier) = match recipe.signer {
            Signer::Key(key) => (key, Verifier::PublicKey(key.public_key_der())),
            Signer::Keyless(identity) => {
                fresh = KeyPair::of(recipe.key_type);
                let certificate = self.certify(identity, &fresh, &recipe.faults);
                (&fresh, Verifier::Certificate(certificate))
            }
            Signer::Certified { authority, subject } => {
                fresh = KeyPair::of(recipe.key_type);
                let chain = authority.certify(subject, &fresh, self.time, &recipe.faults);
                (&fresh, Verifier::Chain(chain))
            }
        };
        let mut signature = key.sign(&message);
        if recipe.has(Fault::BrokenSignature) {
            flip(&mut signature);
        }
        Signed {
            content,
            signature,
            key_type: key.kind(),
            verifier,
        }
    }

    /// A certificate by which `identity` vouches for `key`, DER. Of the faults only those of
    /// certificates count.
    #[must_use]
    pub fn certify(&self, identity: &Identity, key: &KeyPair, faults: &[Fault]) -> Vec<u8> {
        let issue = |fulcio: &Fulcio| {
            fulcio.issue(
                identity,
                &key.public_key_der(),
                self.time,
                &self.services.certificate_log,
                faults,
            )
        };
        if faults.contains(&Fault::ForeignAuthority) {
            issue(&Fulcio::new(self.services.window, self.time))
        } else {
            issue(&self.services.fulcio)
        }
    }

    /// Records a signature in a log; `None` for [`Log::None`].
    #[must_use]
    pub fn record(&self, signed: &Signed, log: Log) -> Option<Entry> {
        let (rekor, form) = match log {
            Log::RekorV1 => (&self.services.rekor_v1, Form::V1),
            Log::RekorV1Intoto => (&self.services.rekor_v1, Form::V1Intoto),
            Log::RekorV2 => (&self.services.rekor_v2, Form::V2),
            Log::RekorV2Shard => (&self.services.rekor_v2_shard, Form::V2),
            Log::None => return None,
        };
        Some(rekor.record(signed, form, self.time))
    }

    /// A timestamp response over a signature, DER.
    #[must_use]
    pub fn timestamp(&self, signature: &[u8]) -> Vec<u8> {
        let authority = &self.services.timestamp_authority;
        authority.respond(signature, self.time, &[])
    }

    fn entries(&self, signed: &Signed, recipe: &Recipe<'_>) -> Vec<Entry> {
        let logged = self.as_logged(signed, recipe);
        let recorded = if recipe.has(Fault::ForeignLog) {
            Self::new(self.time).record(&logged, recipe.log)
        } else {
            self.record(&logged, recipe.log)
        };
        let Some(mut entry) = recorded else {
            return Vec::new();
        };
        if recipe.has(Fault::ForeignPromise) && entry.promise.is_some() {
            entry.promise = Some(Rekor::v1().promise(&entry));
        }
        entry.suffer(&recipe.faults);
        if recipe.has(Fault::DuplicateEntry) {
            return vec![entry.clone(), entry];
        }
        vec![entry]
    }

    /// What the log is told: the signature itself, but for faults.
    fn as_logged<'a>(&self, signed: &'a Signed, recipe: &Recipe<'_>) -> Cow<'a, Signed> {
        let mut logged = Cow::Borrowed(signed);
        if recipe.has(Fault::EntryOfOtherDigest) {
            logged.to_mut().content = match &signed.content {
                Content::Message(_) => Content::Message(b"another payload".to_vec()),
                Content::Envelope { payload_type, .. } => Content::Envelope {
                    payload_type: payload_type.clone(),
                    payload: b"another payload".to_vec(),
                },
            };
        }
        let honest = Recipe::new(recipe.signer, recipe.log).by(recipe.key_type);
        if recipe.has(Fault::EntryOfOtherSignature) {
            // ECDSA never makes the same signature twice; Ed25519 and RSA make no other.
            let mut other = self.sign(signed.content.clone(), &honest).signature;
            if other == signed.signature {
                flip(&mut other);
            }
            logged.to_mut().signature = other;
        }
        if recipe.has(Fault::EntryOfOtherVerifier) {
            logged.to_mut().verifier = match recipe.signer {
                Signer::Keyless(_) | Signer::Certified { .. } => {
                    self.sign(signed.content.clone(), &honest).verifier
                }
                Signer::Key(_) => Verifier::PublicKey(KeyPair::generate().public_key_der()),
            };
        }
        logged
    }

    fn timestamps(&self, signature: &[u8], recipe: &Recipe<'_>) -> Vec<Vec<u8>> {
        if !recipe.timestamped || recipe.has(Fault::NoTimestamp) {
            return Vec::new();
        }
        let window = self.services.window;
        let response = if recipe.has(Fault::ForeignTimestamp) {
            TimestampAuthority::new(window).respond(signature, self.time, &[])
        } else if recipe.has(Fault::ImpostorTimestamp) {
            let impostor = self.services.timestamp_authority.impostor(window);
            let [leaf, _] = &impostor.chain;
            impostor.respond(signature, self.time, std::slice::from_ref(leaf))
        } else if recipe.has(Fault::TimestampOfOtherSignature) {
            self.timestamp(b"another signature")
        } else if recipe.has(Fault::EarlyTimestamp) {
            self.at(moved(self.time, -HOUR)).timestamp(signature)
        } else {
            self.timestamp(signature)
        };
        if recipe.has(Fault::DuplicateTimestamp) {
            return vec![response.clone(), response];
        }
        vec![response]
    }
}

/// Certificates, logs and timestamps count in whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod tests;
