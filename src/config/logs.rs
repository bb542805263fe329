//! Trust roots that have the keys of transparency logs and nothing else: what a policy.json names
//! in `rekorPublicKey...`, and signers in `trust_root: { log_keys: [...] }`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::config::RootSource;
use crate::config::TrustRootSource;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::signers;
use crate::config::signers::Context;
use crate::oci::Digest;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// What the names of these roots begin with, and no other's: the rest is a hash of the keys.
pub(super) const PREFIX: &str = "logs/";

/// What the SubjectPublicKeyInfo of every ECDSA P-256 key begins with (RFC 5480, 2.1.1).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A text with a key of a log, where it stands, and the place to tell problems of it.
pub(super) struct Given<'a> {
    pub(super) value: &'a Value<'a>,
    pub(super) place: &'a str,
    pub(super) text: &'a str,
}

/// Lowers `trust_root` of a signer where it is no name: the keys of logs.
pub(super) fn lower(value: &Value<'_>, context: &Context<'_>) -> Option<RootName> {
    const MEND: &str =
        "write { log_keys: [\"-----BEGIN PUBLIC KEY-----...\"] }, or the name of a trust root";
    let fields = value.fields(&schema::SIGNER_TRUST_ROOT)?;
    let items = fields.required("log_keys", MEND)?.filled_list(MEND)?;
    let texts: Vec<&str> = items.iter().filter_map(Value::text).collect();
    if texts.len() < items.len() {
        return None;
    }
    let given = items.iter().zip(texts);
    let given: Vec<Given<'_>> = given
        .map(|(value, text)| Given {
            value,
            place: "",
            text,
        })
        .collect();
    root(&given, context)
}

/// The trust root with these logs; the same for the same keys.
pub(super) fn root(given: &[Given<'_>], context: &Context<'_>) -> Option<RootName> {
    let keys = given.iter().filter_map(|given| key(given, context));
    let keys: Vec<PublicKey> = keys.collect();
    let first = given.first().filter(|_| keys.len() == given.len())?;
    let json = document(&keys);
    // All of the digest: by a part of it, other keys could be found that have the same name.
    let name = format!("{PREFIX}{}", Digest::sha256(json.as_bytes()));
    let name = RootName::from(name.as_str());
    if let Err(why) = (context.checks.root)(&json) {
        first.value.error(
            &format!("{}these keys cannot be verified with: {why}", first.place),
            "give the public keys of Rekor logs",
        );
        return None;
    }
    context.roots.add(TrustRootSource {
        name: name.clone(),
        source: RootSource::Logs { keys, json },
        unsafe_keep_stale: false,
    });
    Some(name)
}

fn key(given: &Given<'_>, context: &Context<'_>) -> Option<PublicKey> {
    let Given { value, place, text } = given;
    let key = signers::public_key_in(text, place, value, context.checks)?;
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
