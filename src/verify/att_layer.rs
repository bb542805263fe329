//! Layers of `.att` manifests: attestations in cosign's first format (cosign,
//! specs/ATTESTATION_SPEC.md).
//!
//! The layer is a DSSE envelope, which holds the signature; what vouches for it is in the
//! layer's annotations. They also repeat the predicate type, which is a claim and not asked.

use bytes::Bytes;
use jiff::Timestamp;
use sigstore_verify::types::{DsseEnvelope, KindVersion, SignatureContent};

use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::verify::Annotations;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Material;
use crate::verify::bundle;
use crate::verify::bundle::Carrier;

/// What logs record of an envelope: today, and before.
const LOG_ENTRIES: &[KindVersion] = &[KindVersion::DsseV001, KindVersion::IntotoV002];

/// An attestation layer with its annotations.
#[derive(Debug, Clone)]
pub struct AttLayer {
    /// The layer's digest.
    pub source: Digest,
    /// The layer's bytes: a DSSE envelope.
    pub envelope: Bytes,
    /// What vouches for its signature.
    pub annotations: Annotations,
}

impl AttLayer {
    /// The layer that `descriptor` describes.
    #[must_use]
    pub fn from_descriptor(descriptor: &Descriptor, envelope: Bytes) -> Self {
        Self {
            source: descriptor.digest,
            envelope,
            annotations: Annotations::of(descriptor),
        }
    }
}

/// Proves a layer about the image `digest`. A statement is what it is in either format: the sign
/// predicate makes it a signature, and any other an attestation.
pub(super) fn prove(
    layer: &AttLayer,
    digest: &Digest,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Fact>, String> {
    // 1. Bounds: the layer's are the registry client's; one log entry is all there can be.
    let envelope: DsseEnvelope = serde_json::from_slice(&layer.envelope)
        .map_err(|error| format!("the layer is no DSSE envelope: {error}"))?;
    let content = SignatureContent::DsseEnvelope(envelope.clone());
    let bundles = layer.annotations.bundles(LOG_ENTRIES, &content)?;
    let carrier = Carrier {
        format: Format::AttLayer,
        source: layer.source,
        chain: layer.annotations.chain.as_deref(),
    };
    bundle::prove_envelope(&bundles, &envelope, carrier, digest, (material, now))
}
