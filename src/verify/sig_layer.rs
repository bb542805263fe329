//! Layers of `.sig` manifests: cosign's first format (cosign, specs/SIGNATURE_SPEC.md).
//!
//! The verifier family knows bundles only, so a layer and its annotations are put together as
//! a bundle of version 0.1: a signature over the payload's bytes, with a log entry that has a
//! promise and no proof, as this format keeps it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use sigstore_verify::types::{
    Artifact, Bundle, CanonicalizedBody, CertificateContent, DerCertificate, InclusionPromise,
    KindVersion, LogId, LogIndex, LogKeyId, MediaType, MessageSignature, PublicKeyIdentifier,
    SignatureBytes, SignatureContent, SignedTimestamp, TransparencyLogEntry, VerificationMaterial,
    bundle::VerificationMaterialContent,
};

use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Kind;
use crate::verify::Material;
use crate::verify::Signer;
use crate::verify::certificate;
use crate::verify::key;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// The longest image name in bytes. Facts are kept, and this is anybody's text.
const DOCKER_REFERENCE_BYTES_MAX: usize = 1024;
/// The `type` that cosign writes into its payloads.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// A signature layer with the annotations that hold its signature.
#[derive(Debug, Clone)]
pub struct SigLayer {
    /// The layer's digest.
    pub source: Digest,
    /// The layer's bytes: the signed payload.
    pub payload: Bytes,
    /// The signature, in Base64.
    pub signature: String,
    /// The signing certificate in PEM, where it is keyless.
    pub certificate: Option<String>,
    /// The log's promise (`dev.sigstore.cosign/bundle`), where it was logged.
    pub log_entry: Option<String>,
}

impl SigLayer {
    /// The layer that `descriptor` describes, or `None` when it carries no signature.
    #[must_use]
    pub fn from_descriptor(descriptor: &Descriptor, payload: Bytes) -> Option<Self> {
        let filled = |key| descriptor.annotation(key).filter(|text| !text.is_empty());
        Some(Self {
            source: descriptor.digest,
            payload,
            signature: filled(SIGNATURE)?.to_owned(),
            certificate: filled(CERTIFICATE).map(str::to_owned),
            log_entry: filled(BUNDLE).map(str::to_owned),
        })
    }
}

/// Proves a layer about the image `digest`.
pub(super) fn prove(
    layer: &SigLayer,
    digest: &Digest,
    material: &Material,
) -> Result<Vec<Fact>, String> {
    // 1. Bounds: the payload's are the registry client's; one log entry is all there can be.
    let signature = SignatureBytes::from_base64(&layer.signature)
        .map_err(|_| "the signature annotation is not Base64".to_owned())?;
    let bundle = assemble(layer, &signature)?;
    let artifact = Artifact::from(layer.payload.as_ref());
    // 2. Cryptography.
    let proofs: Vec<(Signer, _, _)> = if layer.certificate.is_some() {
        certificate::certified(&bundle, &artifact, material)?
            .into_iter()
            .map(|proof| (proof.signer, Some(proof.root), proof.signed_at))
            .collect()
    } else {
        let key = key::signer_of(&material.keys, &layer.payload, &signature)?;
        let signer = Signer::Key {
            fingerprint: key.fingerprint,
        };
        let logged = key::logged(&bundle, &artifact, key, material);
        if logged.is_empty() {
            vec![(signer, None, None)]
        } else {
            let proofs = logged.into_iter();
            proofs
                .map(|proof| (signer.clone(), Some(proof.root), proof.signed_at))
                .collect()
        }
    };
    // 3. Claims.
    let docker_reference = claims(&layer.payload, digest)?;
    // 4. Identity.
    let facts = proofs.into_iter().map(|(signer, root, signed_at)| Fact {
        kind: Kind::Signature,
        signer,
        root,
        signed_at,
        format: Format::SigLayer,
        source: layer.source,
        docker_reference: docker_reference.clone(),
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

/// A log entry as the `dev.sigstore.cosign/bundle` annotation keeps it.
#[derive(Deserialize)]
struct LogEntry {
    #[serde(rename = "SignedEntryTimestamp")]
    signed_entry_timestamp: String,
    #[serde(rename = "Payload")]
    payload: LogPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogPayload {
    body: String,
    integrated_time: i64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogBody {
    api_version: String,
    kind: String,
}

fn assemble(layer: &SigLayer, signature: &SignatureBytes) -> Result<Bundle, String> {
    let content = match &layer.certificate {
        Some(pem) => {
            let certificate = DerCertificate::from_pem(pem)
                .map_err(|error| format!("the certificate annotation: {error}"))?;
            VerificationMaterialContent::Certificate(CertificateContent::new(certificate))
        }
        None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
    };
    let entries = layer.log_entry.as_deref().map(log_entry).transpose()?;
    let material =
        VerificationMaterial::new(content).with_tlog_entries(entries.into_iter().collect());
    let signature = SignatureContent::MessageSignature(MessageSignature::new(signature.clone()));
    Ok(Bundle::new(MediaType::Bundle0_1, material, signature))
}

fn log_entry(json: &str) -> Result<TransparencyLogEntry, String> {
    let unreadable = |what: &str| format!("the log entry annotation is unreadable: {what}");
    let entry: LogEntry =
        serde_json::from_str(json).map_err(|error| unreadable(&error.to_string()))?;
    let body = STANDARD
        .decode(&entry.payload.body)
        .map_err(|_| unreadable("its body"))?;
    let kind: LogBody = serde_json::from_slice(&body).map_err(|_| unreadable("its body"))?;
    if (kind.kind.as_str(), kind.api_version.as_str()) != ("hashedrekord", "0.0.1") {
        return Err(unreadable(&format!(
            "a {} {} entry",
            kind.kind, kind.api_version
        )));
    }
    let log_id = decode_hex(&entry.payload.log_id).ok_or_else(|| unreadable("its log ID"))?;
    let promise = SignedTimestamp::from_base64(&entry.signed_entry_timestamp)
        .map_err(|_| unreadable("its promise"))?;
    let integrated_time = Timestamp::from_second(entry.payload.integrated_time)
        .map_err(|_| unreadable("its time"))?;
    let index = LogIndex::new(entry.payload.log_index).map_err(|_| unreadable("its index"))?;
    Ok(TransparencyLogEntry::new(
        index,
        LogId::new(log_id),
        KindVersion::HashedRekordV001,
        CanonicalizedBody::new(body),
    )
    .with_integrated_time(integrated_time)
    .with_inclusion_promise(InclusionPromise::new(promise)))
}

/// A log's ID is a SHA-256, and this format writes it in hexadecimal.
fn decode_hex(log_id: &str) -> Option<LogKeyId> {
    let digest: Digest = format!("sha256:{log_id}").parse().ok()?;
    Some(LogKeyId::from_bytes(digest.as_bytes()))
}
