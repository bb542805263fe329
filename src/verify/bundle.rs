//! Sigstore bundles (protobuf-specs, `Bundle`), as cosign v3 writes them.

use bytes::Bytes;
use sigstore_verify::types::{
    Artifact, ArtifactDigest, Bundle, HashAlgorithm, Sha256Hash, SignatureContent,
    bundle::VerificationMaterialContent,
};

use crate::oci::Digest;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Material;
use crate::verify::PARTS_MAX;
use crate::verify::proof;
use crate::verify::proof::Signed;
use crate::verify::statement;

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// What carried a signature, for the facts.
#[derive(Clone, Copy)]
pub(super) struct Carrier {
    pub(super) format: Format,
    pub(super) source: Digest,
}

/// Proves a bundle about the image `digest`.
pub(super) fn prove(
    source: Digest,
    json: &Bytes,
    digest: &Digest,
    material: &Material,
) -> Result<Vec<Fact>, String> {
    let json = std::str::from_utf8(json).map_err(|_| "the bundle is not UTF-8".to_owned())?;
    let bundle =
        Bundle::from_json(json).map_err(|error| format!("the bundle does not parse: {error}"))?;
    // 1. Bounds.
    within_bounds(&bundle)?;
    let carrier = Carrier {
        format: Format::Bundle,
        source,
    };
    prove_envelope(&bundle, carrier, digest, material)
}

/// Proves a bundle that holds a statement in an envelope.
pub(super) fn prove_envelope(
    bundle: &Bundle,
    carrier: Carrier,
    digest: &Digest,
    material: &Material,
) -> Result<Vec<Fact>, String> {
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err(
            "the bundle signs bytes instead of a statement: not what cosign writes for \
                    an image"
                .to_owned(),
        );
    };
    if envelope.payload_type != IN_TOTO {
        return Err(format!(
            "the envelope's payload type is {:?}",
            envelope.payload_type
        ));
    }
    // 2. Cryptography.
    let proofs = proof::proofs(
        &Signed {
            bundle,
            artifact: artifact(digest)?,
            message: &envelope.pae(),
            signature: &envelope.signature.sig,
        },
        material,
    )?;
    // 3. Claims.
    let kind = statement::claims(envelope.payload.as_bytes(), digest, &material.predicates)?;
    // 4. Identity.
    let facts = proofs.into_iter().map(|proof| Fact {
        kind: kind.clone(),
        signer: proof.signer,
        root: proof.root,
        signed_at: proof.signed_at,
        assurance: proof.assurance,
        format: carrier.format,
        source: carrier.source,
        docker_reference: None,
    });
    Ok(facts.collect())
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
