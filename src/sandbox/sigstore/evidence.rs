//! A signature with everything that vouches for it, and how it is written down: as a bundle
//! beside the image (cosign 3), or as a layer under a `.sig` or `.att` tag (cosign before).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::oci::{Descriptor, Digest, media_type};

use crate::sandbox::image::{BUNDLE, Blob, Draft, Package, fallback_tag};

use super::encoding::base64;
use super::rekor::Entry;
use super::signed::{Content, Signed, Verifier};

/// A signature with everything that vouches for it. The members are public, so that a test
/// can take any of them from other evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The signature, what it is over and what it is checked with.
    pub signed: Signed,
    /// Log entries.
    pub entries: Vec<Entry>,
    /// Timestamp responses, DER.
    pub timestamps: Vec<Vec<u8>>,
    /// When it was signed.
    pub time: Timestamp,
}

impl Evidence {
    /// The bundle (protobuf-specs, sigstore_bundle.proto), version 0.3.
    #[must_use]
    pub fn bundle(&self) -> Vec<u8> {
        let mut material = self.signed.verifier.material();
        if !self.entries.is_empty() {
            material["tlogEntries"] = self.entries.iter().map(Entry::json).collect();
        }
        material["timestampVerificationData"] = self.timestamp_data();
        let mut bundle = json!({"mediaType": BUNDLE, "verificationMaterial": material});
        match (&self.signed.content, self.signed.envelope()) {
            (Content::Message(message), _) => {
                let digest = Digest::sha256(message);
                bundle["messageSignature"] = json!({
                    "messageDigest": {
                        "algorithm": "SHA2_256",
                        "digest": base64(digest.as_bytes()),
                    },
                    "signature": base64(&self.signed.signature),
                });
            }
            (Content::Envelope { .. }, envelope) => {
                bundle["dsseEnvelope"] = envelope.into();
            }
        }
        bundle.to_string().into_bytes()
    }

    fn timestamp_data(&self) -> Value {
        if self.timestamps.is_empty() {
            return json!({});
        }
        let timestamps: Vec<_> = self
            .timestamps
            .iter()
            .map(|response| json!({"signedTimestamp": base64(response)}))
            .collect();
        json!({"rfc3161Timestamps": timestamps})
    }

    /// The bundle as an artifact that refers to `image`, as cosign 3 pushes it.
    #[must_use]
    pub fn artifact(&self, image: &Descriptor) -> Package {
        let created = self.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let annotations = BTreeMap::from([
            ("org.opencontainers.image.created".to_owned(), created),
            (
                "dev.sigstore.bundle.content".to_owned(),
                "dsse-envelope".to_owned(),
            ),
            (
                "dev.sigstore.bundle.predicateType".to_owned(),
                self.predicate_type(),
            ),
        ]);
        Draft {
            artifact_type: Some(BUNDLE.to_owned()),
            config: Blob::empty(),
            layers: vec![Blob::new(BUNDLE, self.bundle())],
            subject: Some(image.clone()),
            annotations,
        }
        .pack()
    }

    /// What the statement says of itself; empty where it cannot be read.
    fn predicate_type(&self) -> String {
        serde_json::from_slice::<Value>(self.signed.content.payload())
            .ok()
            .and_then(|statement| Some(statement.get("predicateType")?.as_str()?.to_owned()))
            .unwrap_or_default()
    }

    /// The evidence as a layer of the old format. There is no room for more than one log entry
    /// or timestamp, nor for inclusion proofs or entries of Rekor v2.
    ///
    /// Cosign 3 timestamps the signature in `.att` layers too; cosign 2 timestamped the whole
    /// layer there, which takes [`Sigstore::timestamp`](super::Sigstore::timestamp) over the
    /// layer's bytes.
    #[must_use]
    pub fn layer(&self) -> Blob {
        let (media_type, bytes, signature) = match self.signed.envelope() {
            Some(envelope) => (
                media_type::DSSE_ENVELOPE,
                envelope.to_string().into_bytes(),
                String::new(),
            ),
            None => (
                media_type::SIMPLE_SIGNING,
                self.signed.content.payload().to_vec(),
                base64(&self.signed.signature),
            ),
        };
        let mut layer = Blob::new(media_type, bytes);
        layer.annotate("dev.cosignproject.cosign/signature", signature);
        if media_type == media_type::DSSE_ENVELOPE {
            layer.annotate("predicateType", self.predicate_type());
        }
        if let Verifier::Certificate(_) = &self.signed.verifier {
            let certificate = self.signed.verifier.pem();
            layer.annotate("dev.sigstore.cosign/certificate", certificate);
            layer.annotate("dev.sigstore.cosign/chain", String::new());
        }
        if let Some(entry) = self.entries.first()
            && entry.promise.is_some()
        {
            layer.annotate("dev.sigstore.cosign/bundle", entry.annotation());
        }
        if let Some(response) = self.timestamps.first() {
            let value = json!({"SignedRFC3161Timestamp": base64(response)});
            layer.annotate("dev.sigstore.cosign/rfc3161timestamp", value.to_string());
        }
        layer
    }
}

/// Puts layers under the tag `sha256-<hex>.sig` of the image, as cosign does before bundles.
#[must_use]
pub fn signature_tag(image: &Digest, layers: Vec<Blob>) -> Package {
    tagged(image, "sig", layers)
}

/// Puts layers under the tag `sha256-<hex>.att` of the image.
#[must_use]
pub fn attestation_tag(image: &Digest, layers: Vec<Blob>) -> Package {
    tagged(image, "att", layers)
}

fn tagged(image: &Digest, suffix: &str, layers: Vec<Blob>) -> Package {
    let diff_ids: Vec<_> = layers.iter().map(Blob::digest).collect();
    let config = json!({
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "history": vec![json!({"created": "0001-01-01T00:00:00Z"}); layers.len()],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {},
    });
    let mut package = Draft::of(Blob::config(&config), layers).pack();
    package.tag = Some(format!("{}.{suffix}", fallback_tag(image)));
    package
}
