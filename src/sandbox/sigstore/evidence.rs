//! A signature with everything that vouches for it, and how it is written down: as a bundle
//! beside the image (cosign 3), or as a layer under a `.sig` or `.att` tag (cosign before).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::oci::{Descriptor, Digest, media_type};

use crate::sandbox::image::{BUNDLE, Blob, Draft, Package, fallback_tag};

use super::encoding::base64;
use super::rekor::Entry;
use super::signed::{Content, Signed};

/// The versions of the bundle, by the media types that stand in them and name their layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleVersion {
    /// Certificates as a chain; a log's promise, and perhaps no proof.
    V0_1,
    /// Certificates as a chain; a log's proof.
    V0_2,
    /// The leaf certificate alone, under the media type that cosign writes.
    V0_3,
    /// The same under the media type that version 0.3 had at first.
    V0_3Parameter,
}

impl BundleVersion {
    /// Every version.
    pub const ALL: [Self; 4] = [Self::V0_1, Self::V0_2, Self::V0_3, Self::V0_3Parameter];

    /// The media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::V0_1 => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            Self::V0_2 => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            Self::V0_3 => BUNDLE,
            Self::V0_3Parameter => "application/vnd.dev.sigstore.bundle+json;version=0.3",
        }
    }

    fn has_one_certificate(self) -> bool {
        matches!(self, Self::V0_3 | Self::V0_3Parameter)
    }
}

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
        self.bundle_of(BundleVersion::V0_3)
    }

    /// The bundle in any version.
    #[must_use]
    pub fn bundle_of(&self, version: BundleVersion) -> Vec<u8> {
        let mut material = self.signed.verifier.material(version.has_one_certificate());
        if !self.entries.is_empty() {
            material["tlogEntries"] = self.entries.iter().map(Entry::json).collect();
        }
        material["timestampVerificationData"] = self.timestamp_data();
        let mut bundle = json!({
            "mediaType": version.media_type(),
            "verificationMaterial": material,
        });
        match (&self.signed.content, self.signed.envelope()) {
            (Content::Message(message), _) => {
                let hash = self.signed.key_type.hash();
                bundle["messageSignature"] = json!({
                    "messageDigest": {
                        "algorithm": hash.protobuf_name(),
                        "digest": base64(hash.of(message)),
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
        self.artifact_of(image, BundleVersion::V0_3)
    }

    /// The same with a bundle in any version.
    #[must_use]
    pub fn artifact_of(&self, image: &Descriptor, version: BundleVersion) -> Package {
        let content = match self.signed.content {
            Content::Envelope { .. } => "dsse-envelope",
            Content::Message(_) => "message-signature",
        };
        let created = self.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let annotations = BTreeMap::from([
            ("org.opencontainers.image.created".to_owned(), created),
            ("dev.sigstore.bundle.content".to_owned(), content.to_owned()),
            (
                "dev.sigstore.bundle.predicateType".to_owned(),
                self.predicate_type(),
            ),
        ]);
        Draft {
            artifact_type: Some(version.media_type().to_owned()),
            config: Blob::empty(),
            layers: vec![Blob::new(version.media_type(), self.bundle_of(version))],
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
        let verifier = &self.signed.verifier;
        if !verifier.certificates().is_empty() {
            layer.annotate("dev.sigstore.cosign/certificate", verifier.pem());
            layer.annotate("dev.sigstore.cosign/chain", verifier.chain_pem());
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
