//! `trusted_root.json`: what a verifier has to know of a private Sigstore.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::encoding::base64;
use super::fulcio::TransparencyLog;
use super::rekor::Rekor;

/// A trusted root, to be written out with [`TrustedRoot::json`].
#[derive(Debug, Clone)]
pub struct TrustedRoot {
    document: Value,
    /// The retired authority's certificate and the root's, base64.
    retired: [String; 2],
    start: Timestamp,
}

/// The parts of a Sigstore that its trusted root lists.
pub(super) struct Parts<'a> {
    pub(super) start: Timestamp,
    pub(super) logs: [&'a Rekor; 3],
    pub(super) certificate_log: &'a TransparencyLog,
    /// Issuing authority first, root last; DER.
    pub(super) certificate_authority: [&'a [u8]; 2],
    pub(super) retired_authority: &'a [u8],
    /// Leaf first, root last; DER.
    pub(super) timestamp_authority: &'a [Vec<u8>; 2],
}

impl TrustedRoot {
    pub(super) fn of(parts: &Parts<'_>) -> Self {
        let start = parts.start;
        let [issuing, root] = parts.certificate_authority;
        let retired = [parts.retired_authority, root].map(base64);
        let log_keys = parts.logs.map(|log| {
            let key = log.key();
            log_entry(
                &log.base_url(),
                &key.public_key_der(),
                key.details(),
                &log.log_id(),
                start,
            )
        });
        let document = json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": log_keys,
            "certificateAuthorities": [certificate_authority(
                "sandbox-fulcio",
                "https://fulcio.sandbox.test",
                &[issuing, root].map(base64),
                start,
            )],
            "ctlogs": [log_entry(
                "https://ctfe.sandbox.test",
                &parts.certificate_log.public_key_der(),
                "PKIX_ECDSA_P256_SHA_256",
                &parts.certificate_log.log_id(),
                start,
            )],
            "timestampAuthorities": [certificate_authority(
                "sandbox-tsa",
                "https://timestamp.sandbox.test/api/v1/timestamp",
                &parts.timestamp_authority.each_ref().map(base64),
                start,
            )],
        });
        Self {
            document,
            retired,
            start,
        }
    }

    /// Lists the authority that issues under
    /// [`Fault::ExpiredAuthority`](super::Fault::ExpiredAuthority) too, without an end of its
    /// use: only its own certificate says that it has expired.
    #[must_use]
    pub fn with_expired_authority(mut self) -> Self {
        let authority = certificate_authority(
            "sandbox-fulcio",
            "https://fulcio.sandbox.test",
            &self.retired,
            self.start,
        );
        if let Some(authorities) = self.document["certificateAuthorities"].as_array_mut() {
            authorities.push(authority);
        }
        self
    }

    /// Lists an authority of one's own beside Fulcio: root last, DER.
    #[cfg(test)]
    pub(super) fn with_authority(mut self, certificates: &[Vec<u8>]) -> Self {
        let certificates: Vec<_> = certificates.iter().map(base64).collect();
        let authority = certificate_authority(
            "sandbox-own",
            "https://ca.sandbox.test",
            &certificates,
            self.start,
        );
        if let Some(authorities) = self.document["certificateAuthorities"].as_array_mut() {
            authorities.push(authority);
        }
        self
    }

    /// Ends the use of every log and authority at `end`. (T2)
    #[must_use]
    pub fn ending(mut self, end: Timestamp) -> Self {
        let window = validity(self.start, Some(end));
        for (list, key) in [
            ("tlogs", "/publicKey/validFor"),
            ("ctlogs", "/publicKey/validFor"),
            ("certificateAuthorities", "/validFor"),
            ("timestampAuthorities", "/validFor"),
        ] {
            for member in self.document[list].as_array_mut().into_iter().flatten() {
                if let Some(valid_for) = member.pointer_mut(key) {
                    *valid_for = window.clone();
                }
            }
        }
        self
    }

    /// The document.
    #[must_use]
    pub fn json(&self) -> String {
        self.document.to_string()
    }
}

fn log_entry(
    base_url: &str,
    public_key: &[u8],
    details: &str,
    log_id: &[u8; 32],
    start: Timestamp,
) -> Value {
    json!({
        "baseUrl": base_url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64(public_key),
            "keyDetails": details,
            "validFor": validity(start, None),
        },
        "logId": {"keyId": base64(log_id)},
    })
}

fn certificate_authority(
    common_name: &str,
    uri: &str,
    certificates: &[String],
    start: Timestamp,
) -> Value {
    let certificates: Vec<_> = certificates
        .iter()
        .map(|certificate| json!({"rawBytes": certificate}))
        .collect();
    json!({
        "subject": {"organization": "sandbox.test", "commonName": common_name},
        "uri": uri,
        "certChain": {"certificates": certificates},
        "validFor": validity(start, None),
    })
}

fn validity(start: Timestamp, end: Option<Timestamp>) -> Value {
    match end {
        Some(end) => json!({"start": start.to_string(), "end": end.to_string()}),
        None => json!({"start": start.to_string()}),
    }
}
