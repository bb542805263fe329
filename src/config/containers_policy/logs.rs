//! The public keys of transparency logs, which a requirement gives itself: a trust root with
//! these logs and nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::config::RootSource;
use crate::config::TrustRootSource;
use crate::config::containers_policy::Reader;
use crate::config::containers_policy::keys::Given;
use crate::config::signers;
use crate::oci::Digest;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// What the SubjectPublicKeyInfo of every ECDSA P-256 key begins with (RFC 5480, 2.1.1).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The trust root with these logs; the same for the same keys.
pub(super) fn root(given: &[Given<'_>], reader: &Reader<'_>) -> Option<RootName> {
    let keys: Vec<PublicKey> = given
        .iter()
        .filter_map(|given| key(given, reader))
        .collect();
    if keys.len() < given.len() {
        return None;
    }
    let json = document(&keys);
    let digest = Digest::sha256(json.as_bytes()).to_string();
    let short = digest.trim_start_matches("sha256:").get(..12)?;
    let name = RootName::from(format!("policy.json/{short}").as_str());
    if let Err(why) = (reader.context.signers.checks.root)(&json) {
        let first = given.first()?;
        first.value.error(
            &format!("{}these keys cannot be verified with: {why}", first.place),
            "give the public keys of Rekor logs",
        );
        return None;
    }
    let mut roots = reader.roots.borrow_mut();
    if roots.iter().all(|root| root.name != name) {
        roots.push(TrustRootSource {
            name: name.clone(),
            source: RootSource::Given { json },
            unsafe_keep_stale: false,
        });
    }
    Some(name)
}

fn key(given: &Given<'_>, reader: &Reader<'_>) -> Option<PublicKey> {
    let Given {
        value,
        place,
        bytes,
        ..
    } = given;
    let text = String::from_utf8_lossy(bytes);
    let key = signers::public_key_in(&text, place, value, reader.context.signers.checks)?;
    if !key.spki.starts_with(P256) {
        value.error(
            &format!("{place}logs with another key than ECDSA P-256 are not known here"),
            "give the key of a Rekor log of the first version",
        );
        return None;
    }
    Some(key)
}

/// A `trusted_root.json` with these logs (Sigstore protobuf-specs, `TrustedRoot`).
fn document(keys: &[PublicKey]) -> String {
    let logs: Vec<serde_json::Value> = keys
        .iter()
        .map(|key| {
            json!({
                "baseUrl": "",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(&key.spki),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": { "start": "1970-01-01T00:00:00Z" },
                },
                "logId": { "keyId": STANDARD.encode(key.fingerprint.as_bytes()) },
            })
        })
        .collect();
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": logs,
        "certificateAuthorities": [],
        "ctlogs": [],
        "timestampAuthorities": [],
    })
    .to_string()
}
