//! Sigstore bundles (protobuf-specs, `Bundle`), as cosign v3 writes them.

use bytes::Bytes;
use jiff::Timestamp;
use sigstore_verify::types::{
    Artifact, ArtifactDigest, Bundle, DsseEnvelope, HashAlgorithm, MessageSignature, Sha256Hash,
    SignatureContent,
    bundle::{MediaType, VerificationMaterialContent},
};

use crate::oci::Digest;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Kind;
use crate::verify::Material;
use crate::verify::PARTS_MAX;
use crate::verify::proof;
use crate::verify::proof::Message;
use crate::verify::proof::Proof;
use crate::verify::proof::Signed;
use crate::verify::statement;
use crate::verify::unambiguous;

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// What carried a signature, for the facts.
#[derive(Clone, Copy)]
pub(super) struct Carrier<'a> {
    pub(super) format: Format,
    pub(super) source: Digest,
    /// Certificates in PEM that stand beside it.
    pub(super) chain: Option<&'a str>,
}

/// Proves a bundle about the image `digest`.
pub(super) fn prove(
    source: Digest,
    json: &Bytes,
    digest: &Digest,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Fact>, String> {
    let json = std::str::from_utf8(json).map_err(|_| "the bundle is not UTF-8".to_owned())?;
    unambiguous::check(json)?;
    let bundle =
        Bundle::from_json(json).map_err(|error| format!("the bundle does not parse: {error}"))?;
    // 1. Bounds.
    within_bounds(&bundle)?;
    as_its_version_wants(&bundle)?;
    let carrier = Carrier {
        format: Format::Bundle,
        source,
        chain: None,
    };
    let content = bundle.content.clone();
    let bundles = [bundle];
    match &content {
        SignatureContent::DsseEnvelope(envelope) => {
            prove_envelope(&bundles, envelope, carrier, digest, (material, now))
        }
        SignatureContent::MessageSignature(message) => {
            prove_message(&bundles, message, carrier, digest, (material, now))
        }
        _ => Err("the bundle signs in a way that is not known".to_owned()),
    }
}

/// Proves an envelope with a statement, of which `bundles` are the readings.
pub(super) fn prove_envelope(
    bundles: &[Bundle],
    envelope: &DsseEnvelope,
    carrier: Carrier<'_>,
    digest: &Digest,
    (material, now): (&Material, Timestamp),
) -> Result<Vec<Fact>, String> {
    if envelope.payload_type != IN_TOTO {
        return Err(format!(
            "the envelope's payload type is {:?}",
            envelope.payload_type
        ));
    }
    let (artifact, message) = (artifact(digest)?, envelope.pae());
    // 2. Cryptography.
    let proofs = proof::of_readings(bundles, material.roots.len(), |bundle| {
        let signed = Signed {
            bundle,
            artifact: artifact.clone(),
            envelope: Some(envelope),
            message: Message::Bytes(&message),
            signature: &envelope.signature.sig,
            chain: carrier.chain,
        };
        proof::proofs(&signed, material, now)
    })?;
    // 3. Claims.
    let kind = statement::claims(envelope.payload.as_bytes(), digest, &material.predicates)?;
    // 4. Identity.
    Ok(facts(proofs, &kind, carrier))
}

/// Proves a signature over the bytes of the image's own manifest. It claims nothing (step 3): what
/// is signed is the digest, in the algorithm that the key signs over.
fn prove_message(
    bundles: &[Bundle],
    message: &MessageSignature,
    carrier: Carrier<'_>,
    digest: &Digest,
    (material, now): (&Material, Timestamp),
) -> Result<Vec<Fact>, String> {
    let stated = message.message_digest.as_ref();
    if stated.is_some_and(|stated| stated.digest.as_bytes() != digest.as_bytes()) {
        return Err("it was signed for another digest".to_owned());
    }
    let artifact = artifact(digest)?;
    // 2. Cryptography.
    let proofs = proof::of_readings(bundles, material.roots.len(), |bundle| {
        let signed = Signed {
            bundle,
            artifact: artifact.clone(),
            envelope: None,
            message: Message::Digest(digest),
            signature: &message.signature,
            chain: carrier.chain,
        };
        proof::proofs(&signed, material, now)
    })?;
    // 4. Identity.
    Ok(facts(proofs, &Kind::Signature, carrier))
}

fn facts(proofs: Vec<Proof>, kind: &Kind, carrier: Carrier<'_>) -> Vec<Fact> {
    let facts = proofs.into_iter().map(|proof| Fact {
        kind: kind.clone(),
        signer: proof.signer,
        root: proof.root,
        signed_at: proof.signed_at,
        assurance: proof.assurance,
        hash: proof.hash,
        format: carrier.format,
        source: carrier.source,
        docker_reference: None,
        found_in: None,
    });
    facts.collect()
}

/// Since version 0.2 a bundle has an inclusion proof for each log entry (protobuf-specs,
/// sigstore_bundle.proto); before, a promise did.
fn as_its_version_wants(bundle: &Bundle) -> Result<(), String> {
    let entries = &bundle.verification_material.tlog_entries;
    let promised = entries.iter().any(|entry| entry.inclusion_proof.is_none());
    if promised && bundle.media_type() != MediaType::Bundle0_1 {
        return Err("a bundle of its version has an inclusion proof for each log entry".to_owned());
    }
    Ok(())
}

fn within_bounds(bundle: &Bundle) -> Result<(), String> {
    let material = &bundle.verification_material;
    let certificates = match &material.content {
        VerificationMaterialContent::X509CertificateChain { certificates } => certificates.len(),
        _ => 1,
    };
    let timestamps = material
        .timestamp_verification_data
        .rfc3161_timestamps
        .len();
    for (count, what) in [
        (material.tlog_entries.len(), "log entries"),
        (timestamps, "timestamps"),
        (certificates, "certificates"),
    ] {
        if count > PARTS_MAX {
            return Err(format!(
                "the bundle has {count} {what}; {PARTS_MAX} are looked at"
            ));
        }
    }
    Ok(())
}

fn artifact(digest: &Digest) -> Result<Artifact<'static>, String> {
    match digest {
        Digest::Sha256(bytes) => Ok(Artifact::from(Sha256Hash::from(*bytes))),
        Digest::Sha512(bytes) => ArtifactDigest::new(HashAlgorithm::Sha2512, bytes.to_vec())
            .map(Artifact::Digest)
            .map_err(|error| error.to_string()),
    }
}
