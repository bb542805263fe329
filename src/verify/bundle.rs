//! Sigstore bundles (protobuf-specs, `Bundle`), as cosign v3 writes them.

use bytes::Bytes;
use sigstore_verify::types::{
    Artifact, ArtifactDigest, Bundle, DsseEnvelope, HashAlgorithm, Sha256Hash, SignatureContent,
    bundle::VerificationMaterialContent,
};

use crate::oci::Digest;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Kind;
use crate::verify::Material;
use crate::verify::PARTS_MAX;
use crate::verify::Signer;
use crate::verify::certificate;
use crate::verify::key;
use crate::verify::statement;
use crate::verify::unambiguous;

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Proves a bundle about the image `digest`.
pub(super) fn prove(
    source: Digest,
    json: &Bytes,
    digest: &Digest,
    material: &Material,
) -> Result<Vec<Fact>, String> {
    let json = std::str::from_utf8(json).map_err(|_| "the bundle is not UTF-8".to_owned())?;
    unambiguous::check(json)?;
    let bundle =
        Bundle::from_json(json).map_err(|error| format!("the bundle does not parse: {error}"))?;
    // 1. Bounds.
    within_bounds(&bundle)?;
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
    let artifact = artifact(digest)?;
    let fact = |kind: &Kind, signer, root, signed_at| Fact {
        kind: kind.clone(),
        signer,
        root,
        signed_at,
        format: Format::Bundle,
        source,
        docker_reference: None,
    };
    match &bundle.verification_material.content {
        VerificationMaterialContent::PublicKey(_) => {
            prove_keyed(&bundle, envelope, &artifact, digest, material, fact)
        }
        _ => {
            // 2. and 4.
            let certified = certificate::certified(&bundle, &artifact, material)?;
            // 3. Claims.
            let kind = statement::claims(envelope.payload.as_bytes(), digest)?;
            let facts = certified
                .into_iter()
                .map(|proof| fact(&kind, proof.signer, Some(proof.root), proof.signed_at));
            Ok(facts.collect())
        }
    }
}

fn prove_keyed(
    bundle: &Bundle,
    envelope: &DsseEnvelope,
    artifact: &Artifact<'_>,
    digest: &Digest,
    material: &Material,
    fact: impl Fn(&Kind, Signer, Option<crate::verify::RootName>, Option<jiff::Timestamp>) -> Fact,
) -> Result<Vec<Fact>, String> {
    // 2. Cryptography.
    let key = key::signer_of(&material.keys, &envelope.pae(), &envelope.signature.sig)?;
    // 3. Claims.
    let kind = statement::claims(envelope.payload.as_bytes(), digest)?;
    // 4. Identity: the key is the signer, and a log may have seen it.
    let signer = Signer::Key {
        fingerprint: key.fingerprint,
    };
    let logged = key::logged(bundle, artifact, key, material);
    if logged.is_empty() {
        return Ok(vec![fact(&kind, signer, None, None)]);
    }
    let facts = logged
        .into_iter()
        .map(|proof| fact(&kind, signer.clone(), Some(proof.root), proof.signed_at));
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
