//! Layers of `.sig` manifests: cosign's first format (cosign, specs/SIGNATURE_SPEC.md).
//!
//! The layer is what is signed, and its annotations hold the signature and what vouches for it.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
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
    let proofs = proof::of_readings(&bundles, material.roots.len(), |bundle| {
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
    image: PayloadImage,
    #[serde(rename = "type")]
    payload_type: String,
}

#[derive(Deserialize)]
struct PayloadImage {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

fn claims(payload: &[u8], digest: &Digest) -> Result<Option<String>, String> {
    let Payload { critical } = serde_json::from_slice(payload)
        .map_err(|error| format!("the signed payload does not parse: {error}"))?;
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
    let reference = named_image(payload);
    if reference
        .as_ref()
        .is_some_and(|reference| reference.len() > DOCKER_REFERENCE_BYTES_MAX)
    {
        return Err("the image that the payload names has too long a name".to_owned());
    }
    Ok(reference.filter(|reference| !reference.is_empty()))
}

/// The payload as containers/image reads it. Whatever `critical` has beside these members could
/// restrict what the signature is good for, so that the image it names is not believed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    critical: WholeCritical,
    optional: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeCritical {
    #[serde(rename = "type")]
    _payload_type: IgnoredAny,
    #[serde(rename = "image")]
    _image: WholeImage,
    identity: WholeIdentity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeImage {
    #[serde(rename = "docker-manifest-digest")]
    _docker_manifest_digest: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeIdentity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

fn named_image(payload: &[u8]) -> Option<String> {
    let whole: Whole = serde_json::from_slice(payload).ok()?;
    // cosign writes `null` where there are no annotations.
    let readable = whole.optional.is_null() || whole.optional.is_object();
    readable.then_some(whole.critical.identity.docker_reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    // What containers/image does not read names no image; it is a signature all the same.
    #[test]
    fn an_image_is_named_by_what_can_be_read_in_one_way_only() {
        let digest = Digest::sha256(b"content");
        let payload = |identity: &str, more: &str, optional: &str| {
            format!(
                r#"{{"critical":{{"identity":{identity},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{PAYLOAD_TYPE}"{more}}}{optional}}}"#
            )
        };
        let good = r#"{"docker-reference":"a.test/b"}"#;
        for (text, named) in [
            (payload(good, "", r#","optional":null"#), Some("a.test/b")),
            (
                payload(good, "", r#","optional":{"a":1}"#),
                Some("a.test/b"),
            ),
            (payload(good, "", ""), None),
            (payload(good, "", r#","optional":[]"#), None),
            (payload(good, "", r#","optional":null,"more":1"#), None),
            (
                payload(good, r#","only-until":"2020""#, r#","optional":null"#),
                None,
            ),
            (
                payload(r#"{"docker-reference":""}"#, "", r#","optional":null"#),
                None,
            ),
            (payload("{}", "", r#","optional":null"#), None),
            (
                payload(
                    r#"{"docker-reference":"a.test/b","x":1}"#,
                    "",
                    r#","optional":{}"#,
                ),
                None,
            ),
        ] {
            let found = claims(text.as_bytes(), &digest);
            assert_eq!(found, Ok(named.map(str::to_owned)), "{text}");
        }
        let other = Digest::sha256(b"other");
        let text = payload(good, "", r#","optional":null"#);
        assert!(claims(text.as_bytes(), &other).is_err());
    }
}
