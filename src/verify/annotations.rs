//! What vouches for a signature in cosign's first formats: the annotations of a layer (cosign,
//! specs/SIGNATURE_SPEC.md).
//!
//! The verifier family knows bundles only, so they are put together as the verification material
//! of a bundle of version 0.1: with a log entry that has a promise and no proof, as these
//! formats keep it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_verify::types::{
    Bundle, CanonicalizedBody, CertificateContent, DerCertificate, InclusionPromise, KindVersion,
    LogId, LogIndex, LogKeyId, MediaType, PublicKeyIdentifier, SignatureContent, SignedTimestamp,
    TimestampToken, TransparencyLogEntry, VerificationMaterial,
    bundle::{Rfc3161Timestamp, TimestampVerificationData, VerificationMaterialContent},
};

use crate::oci::Descriptor;
use crate::oci::Digest;

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// The annotations that vouch for a signature, unread.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Annotations {
    /// The signing certificate in PEM, where it is keyless.
    pub certificate: Option<String>,
    /// Certificates that lead from it to an authority, in PEM. They only help to find the way.
    pub chain: Option<String>,
    /// The log's promise (`dev.sigstore.cosign/bundle`), where it was logged.
    pub log_entry: Option<String>,
    /// A timestamp over the signature (`dev.sigstore.cosign/rfc3161timestamp`), where there is
    /// one.
    pub timestamp: Option<String>,
}

impl Annotations {
    pub(super) fn of(descriptor: &Descriptor) -> Self {
        Self {
            certificate: filled(descriptor, CERTIFICATE),
            chain: filled(descriptor, CHAIN),
            log_entry: filled(descriptor, BUNDLE),
            timestamp: filled(descriptor, TIMESTAMP),
        }
    }

    /// The signature as a bundle with all that vouches for it; `kinds` are the log entries that
    /// fit what is signed. Where there are a log's promise and a timestamp, the promise is enough:
    /// then a second bundle is without the timestamp. It may be by an authority of which the
    /// trust root knows nothing, and cosign 2 put it on something else than the signature.
    pub(super) fn bundles(
        &self,
        kinds: &[KindVersion],
        content: &SignatureContent,
    ) -> Result<Vec<Bundle>, String> {
        // A bundle without a promise is of no version but the second.
        let version = match self.log_entry {
            Some(_) => MediaType::Bundle0_1,
            None => MediaType::Bundle0_2,
        };
        let bundle = |annotations: &Self| -> Result<Bundle, String> {
            let material = annotations.material(kinds)?;
            Ok(Bundle::new(version, material, content.clone()))
        };
        if self.log_entry.is_none() || self.timestamp.is_none() {
            return Ok(vec![bundle(self)?]);
        }
        let promised = bundle(&Self {
            timestamp: None,
            ..self.clone()
        })?;
        Ok(bundle(self).into_iter().chain([promised]).collect())
    }

    fn material(&self, kinds: &[KindVersion]) -> Result<VerificationMaterial, String> {
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
        let timestamp = self.timestamp.as_deref().map(timestamp).transpose()?;
        let timestamps = timestamp.into_iter().map(Rfc3161Timestamp::new).collect();
        Ok(VerificationMaterial::new(content)
            .with_tlog_entries(entries.into_iter().collect())
            .with_timestamp_verification_data(TimestampVerificationData::new(timestamps)))
    }
}

/// An annotation that is there and not empty: cosign writes empty ones.
pub(super) fn filled(descriptor: &Descriptor, key: &str) -> Option<String> {
    let text = descriptor.annotation(key).filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

/// A timestamp as the `dev.sigstore.cosign/rfc3161timestamp` annotation keeps it.
#[derive(Deserialize)]
struct SignedTimestamp3161 {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

fn timestamp(json: &str) -> Result<TimestampToken, String> {
    let stated: SignedTimestamp3161 = serde_json::from_str(json)
        .map_err(|error| format!("the timestamp annotation is unreadable: {error}"))?;
    TimestampToken::from_base64(&stated.token)
        .map_err(|_| "the timestamp annotation is not Base64".to_owned())
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
