//! What vouches for a signature in cosign's first formats: the annotations of a layer (cosign,
//! specs/SIGNATURE_SPEC.md).
//!
//! The verifier family knows bundles only, so they are put together as the verification material
//! of a bundle of version 0.1: with a log entry that has a promise and no proof, as these
//! formats keep it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use sigstore_verify::types::{
    CanonicalizedBody, CertificateContent, DerCertificate, InclusionPromise, KindVersion, LogId,
    LogIndex, LogKeyId, PublicKeyIdentifier, SignedTimestamp, TransparencyLogEntry,
    VerificationMaterial, bundle::VerificationMaterialContent,
};

use crate::oci::Descriptor;
use crate::oci::Digest;

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// The annotations that vouch for a signature, unread.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// The signing certificate in PEM, where it is keyless.
    pub certificate: Option<String>,
    /// The log's promise (`dev.sigstore.cosign/bundle`), where it was logged.
    pub log_entry: Option<String>,
}

impl Annotations {
    pub(super) fn of(descriptor: &Descriptor) -> Self {
        Self {
            certificate: filled(descriptor, CERTIFICATE),
            log_entry: filled(descriptor, BUNDLE),
        }
    }

    /// The verification material of a bundle; `kinds` are the log entries that fit what is
    /// signed.
    pub(super) fn material(&self, kinds: &[KindVersion]) -> Result<VerificationMaterial, String> {
        let content = match &self.certificate {
            Some(pem) => {
                let certificate = DerCertificate::from_pem(pem)
                    .map_err(|error| format!("the certificate annotation: {error}"))?;
                VerificationMaterialContent::Certificate(CertificateContent::new(certificate))
            }
            None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
        };
        let entry = self.log_entry.as_deref();
        let entries = entry.map(|json| log_entry(json, kinds)).transpose()?;
        Ok(VerificationMaterial::new(content).with_tlog_entries(entries.into_iter().collect()))
    }
}

/// An annotation that is there and not empty: cosign writes empty ones.
pub(super) fn filled(descriptor: &Descriptor, key: &str) -> Option<String> {
    let text = descriptor.annotation(key).filter(|text| !text.is_empty());
    text.map(str::to_owned)
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

fn log_entry(json: &str, kinds: &[KindVersion]) -> Result<TransparencyLogEntry, String> {
    let unreadable = |what: &str| format!("the log entry annotation is unreadable: {what}");
    let entry: LogEntry =
        serde_json::from_str(json).map_err(|error| unreadable(&error.to_string()))?;
    let body = STANDARD
        .decode(&entry.payload.body)
        .map_err(|_| unreadable("its body"))?;
    let stated: LogBody = serde_json::from_slice(&body).map_err(|_| unreadable("its body"))?;
    let fits =
        |kind: &&KindVersion| (kind.kind(), kind.version()) == (&stated.kind, &stated.api_version);
    let Some(kind) = kinds.iter().find(fits) else {
        return Err(unreadable(&format!(
            "a {} {} entry",
            stated.kind, stated.api_version
        )));
    };
    let log_id = decode_hex(&entry.payload.log_id).ok_or_else(|| unreadable("its log ID"))?;
    let promise = SignedTimestamp::from_base64(&entry.signed_entry_timestamp)
        .map_err(|_| unreadable("its promise"))?;
    let integrated_time = Timestamp::from_second(entry.payload.integrated_time)
        .map_err(|_| unreadable("its time"))?;
    let index = LogIndex::new(entry.payload.log_index).map_err(|_| unreadable("its index"))?;
    Ok(TransparencyLogEntry::new(
        index,
        LogId::new(log_id),
        *kind,
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
