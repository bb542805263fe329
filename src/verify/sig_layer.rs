//! Layers of `.sig` manifests: cosign's first format (cosign, specs/SIGNATURE_SPEC.md).
//!
//! The layer is what is signed, and its annotations hold the signature and what vouches for it.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use sigstore_verify::types::{
    Artifact, KindVersion, MessageSignature, SignatureBytes, SignatureContent,
};

use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::verify::Annotations;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Kind;
use crate::verify::Material;
use crate::verify::annotations::filled;
use crate::verify::proof;
use crate::verify::proof::Message;
use crate::verify::proof::Signed;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The longest image name in bytes. Facts are kept, and this is anybody's text.
const DOCKER_REFERENCE_BYTES_MAX: usize = 1024;
/// The `type` that cosign writes into its payloads.
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// What logs record of a signature over bytes.
const LOG_ENTRIES: &[KindVersion] = &[KindVersion::HashedRekordV001];

/// A signature layer with the annotations that hold its signature.
#[derive(Debug, Clone)]
pub struct SigLayer {
    /// The layer's digest.
    pub source: Digest,
    /// The layer's bytes: the signed payload.
    pub payload: Bytes,
    /// The signature, in Base64.
    pub signature: String,
    /// What vouches for it.
    pub annotations: Annotations,
}

impl SigLayer {
    /// The layer that `descriptor` describes, or `None` when it carries no signature.
    #[must_use]
    pub fn from_descriptor(descriptor: &Descriptor, payload: Bytes) -> Option<Self> {
        Some(Self {
            source: descriptor.digest,
            payload,
            signature: filled(descriptor, SIGNATURE)?,
            annotations: Annotations::of(descriptor),
        })
    }
}

/// Proves a layer about the image `digest`.
pub(super) fn prove(
    layer: &SigLayer,
    digest: &Digest,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Fact>, String> {
    // 1. Bounds: the payload's are the registry client's; one log entry is all there can be.
    let signature = SignatureBytes::from_base64(&layer.signature)
        .map_err(|_| "the signature annotation is not Base64".to_owned())?;
    let content = SignatureContent::MessageSignature(MessageSignature::new(signature.clone()));
    let bundles = layer.annotations.bundles(LOG_ENTRIES, &content)?;
    // 2. Cryptography.
    let proofs = proof::of_first(&bundles, |bundle| {
        let signed = Signed {
            bundle,
            artifact: Artifact::from(layer.payload.as_ref()),
            envelope: None,
            message: Message::Bytes(&layer.payload),
            signature: &signature,
            chain: layer.annotations.chain.as_deref(),
        };
        proof::proofs(&signed, material, now)
    })?;
    // 3. Claims.
    let docker_reference = claims(&layer.payload, digest)?;
    // 4. Identity.
    let facts = proofs.into_iter().map(|proof| Fact {
        kind: Kind::Signature,
        signer: proof.signer,
        root: proof.root,
        signed_at: proof.signed_at,
        assurance: proof.assurance,
        hash: proof.hash,
        format: Format::SigLayer,
        source: layer.source,
        docker_reference: docker_reference.clone(),
        found_in: None,
    });
    Ok(facts.collect())
}

/// The signed payload ("simple signing", containers/image docs/containers-signature.5.md).
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(default)]
    identity: Option<PayloadIdentity>,
    image: PayloadImage,
    #[serde(rename = "type")]
    payload_type: String,
}

#[derive(Deserialize)]
struct PayloadIdentity {
    #[serde(default, rename = "docker-reference")]
    docker_reference: Option<String>,
}

#[derive(Deserialize)]
struct PayloadImage {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

fn claims(payload: &[u8], digest: &Digest) -> Result<Option<String>, String> {
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| format!("the signed payload does not parse: {error}"))?;
    let critical = payload.critical;
    if critical.payload_type != PAYLOAD_TYPE {
        return Err(format!(
            "the payload is of the type {:?}",
            critical.payload_type
        ));
    }
    let named = critical.image.docker_manifest_digest;
    if named.parse() != Ok(*digest) {
        return Err(format!("it was signed for another digest, {named:.128}"));
    }
    let reference = critical
        .identity
        .and_then(|identity| identity.docker_reference);
    if reference
        .as_ref()
        .is_some_and(|reference| reference.len() > DOCKER_REFERENCE_BYTES_MAX)
    {
        return Err("the image that the payload names has too long a name".to_owned());
    }
    Ok(reference.filter(|reference| !reference.is_empty()))
}
