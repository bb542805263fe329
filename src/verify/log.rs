//! Entries of transparency logs, for signatures by key and by certificates of one's own
//! authority: that a log holds an entry (step 2), and
//! that the entry is of this very signature (THREATS B1).
//!
//! The verifier family does the same for keyless signatures. Of keys it knows one way of signing
//! each: what cosign signs with ECDSA P-521 and Ed25519, and used to sign with P-384, is nothing
//! to it, and neither is RSA-PSS.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_merkle::{hash_leaf, verify_inclusion_proof};
use sigstore_verify::{
    crypto::{self, Checkpoint, Keyring},
    rekor::body::RekorEntryBody,
    types::{
        DerCertificate, DerPublicKey, DsseEnvelope, HashAlgorithm, KindVersion, Sha256Hash,
        SignatureBytes, TransparencyLogEntry, bundle::InclusionProof,
    },
};

use crate::verify::Logged;
use crate::verify::proof::Message;

/// What a log should have recorded.
pub(super) struct Recorded<'a> {
    /// The envelope that is signed, where it is one.
    pub(super) envelope: Option<&'a DsseEnvelope>,
    /// What is signed: of an envelope, its pre-authentication encoding.
    pub(super) message: Message<'a>,
    /// The signature.
    pub(super) signature: &'a SignatureBytes,
    /// What it is verified with.
    pub(super) verifier: Verifier<'a>,
}

/// What a signature is verified with, as logs record it; in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verifier<'a> {
    /// A key, as SubjectPublicKeyInfo.
    Key(&'a [u8]),
    /// The certificate of a key.
    Certificate(&'a [u8]),
}

impl Verifier<'_> {
    /// Whether a PEM holds it, and is of its kind.
    fn is_in(self, pem: &[u8]) -> bool {
        let Ok(pem) = std::str::from_utf8(pem) else {
            return false;
        };
        match self {
            Self::Key(der) => DerPublicKey::from_pem(pem).is_ok_and(|key| key.as_bytes() == der),
            Self::Certificate(der) => {
                DerCertificate::from_pem(pem).is_ok_and(|certificate| certificate.as_bytes() == der)
            }
        }
    }
}

/// What a proven entry says.
pub(super) struct Entry {
    pub(super) logged: Logged,
    /// When the log took it in. Only a promise vouches for that.
    pub(super) at: Option<Timestamp>,
}

/// Proves that a log with one of `keys` holds the entry, or has promised to.
pub(super) fn prove(
    entry: &TransparencyLogEntry,
    keys: &Keyring,
    now: Timestamp,
) -> Result<Entry, String> {
    let sharded = entry.kind_version == KindVersion::HashedRekordV002;
    if let Some(proof) = &entry.inclusion_proof {
        included(entry, proof, sharded, keys, now)?;
    }
    let mut at = None;
    if entry.inclusion_promise.is_some() {
        promised(entry, keys, now)?;
        at = entry.integrated_time.filter(|_| !sharded);
        if at.is_some_and(|at| at > now) {
            return Err("the log's time lies in the future".to_owned());
        }
    }
    let logged = match (&entry.inclusion_proof, &entry.inclusion_promise) {
        (Some(_), _) => Logged::Included,
        (None, Some(_)) => Logged::Promised,
        (None, None) => return Err("the log entry has neither proof nor promise".to_owned()),
    };
    Ok(Entry { logged, at })
}

/// The inclusion proof leads from the entry to the root that a checkpoint of the log signs. What
/// Rekor v2 repeats beside the checkpoint is not signed, and not asked.
fn included(
    entry: &TransparencyLogEntry,
    proof: &InclusionProof,
    v2: bool,
    keys: &Keyring,
    now: Timestamp,
) -> Result<(), String> {
    let checkpoint = Checkpoint::from_text(proof.checkpoint.envelope())
        .map_err(|error| format!("the checkpoint does not parse: {error}"))?;
    let root = *checkpoint.root_hash();
    let (index, size) = if v2 {
        (entry.log_index.get(), checkpoint.tree_size())
    } else if root.as_bytes() == proof.root_hash.as_bytes() {
        (proof.log_index.get(), proof.tree_size)
    } else {
        return Err("the checkpoint is of another tree than the inclusion proof".to_owned());
    };
    let leaf = hash_leaf(entry.canonicalized_body.as_bytes());
    verify_inclusion_proof(&leaf, index, size, &proof.hashes, &root)
        .map_err(|error| format!("the inclusion proof: {error}"))?;
    let message = checkpoint.signed_data();
    let signed = checkpoint.signatures().iter().any(|signature| {
        keys.keys_by_hint(&signature.key_id, now)
            .any(|key| key.verify(message, &signature.signature).is_ok())
    });
    match signed {
        true => Ok(()),
        false => Err("no log of the trust root signed the checkpoint".to_owned()),
    }
}

/// What a promise (SET) signs: canonical JSON, in the order of the members here.
#[derive(Serialize)]
struct Promise {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    #[serde(rename = "logIndex")]
    log_index: u64,
}

fn promised(entry: &TransparencyLogEntry, keys: &Keyring, now: Timestamp) -> Result<(), String> {
    let id = Sha256Hash::try_from(entry.log_id.key_id.as_bytes())
        .map_err(|_| "the log's ID is none".to_owned())?;
    let key = match entry.integrated_time {
        Some(at) => keys.key_at(&id, at),
        None => keys.key_started_by(&id, now),
    };
    let key = key.ok_or("the trust root has no such log, or not at that time")?;
    let promise = Promise {
        body: entry.canonicalized_body.to_base64(),
        integrated_time: entry.integrated_time.map_or(0, Timestamp::as_second),
        log_id: id.to_hex(),
        log_index: entry.log_index.get(),
    };
    let signed = serde_json::to_vec(&promise).map_err(|error| error.to_string())?;
    let signature = entry.inclusion_promise.as_ref();
    let signature = signature.map(|promise| promise.signed_entry_timestamp.as_bytes().to_vec());
    key.verify(&signed, &SignatureBytes::new(signature.unwrap_or_default()))
        .map_err(|error| format!("the log's promise: {error}"))
}

/// Checks that the entry is of this signature: of these bytes, by this key.
pub(super) fn describes(entry: &TransparencyLogEntry, what: &Recorded<'_>) -> Result<(), String> {
    if entry.kind_version == KindVersion::HashedRekordV002 {
        return describes_v2(entry, what);
    }
    let body = RekorEntryBody::parse(&entry.canonicalized_body, entry.kind_version)
        .map_err(|error| format!("the log entry does not parse: {error}"))?;
    let fits = match (&body, what.envelope) {
        (RekorEntryBody::HashedRekordV001(body), None) => {
            let (data, signature) = (&body.spec.data.hash, &body.spec.signature);
            what.message
                .hashes_to(data.algorithm, &decoded_hex(data.value.as_str()))
                && signature.content == *what.signature
                && what.verifier.is_in(signature.public_key.content.as_bytes())
        }
        (RekorEntryBody::DsseV001(body), Some(envelope)) => {
            let hash = &body.spec.payload_hash;
            let [signature] = body.spec.signatures.as_slice() else {
                return Err("the log entry is not of one signature".to_owned());
            };
            let payload = Message::Bytes(envelope.payload.as_bytes());
            payload.hashes_to(hash.algorithm, &decoded_hex(&hash.value))
                && signature.signature == *what.signature
                && what.verifier.is_in(signature.verifier.as_bytes())
        }
        (RekorEntryBody::IntotoV002(body), Some(envelope)) => {
            let content = &body.spec.content;
            let [signature] = content.envelope.signatures.as_slice() else {
                return Err("the log entry is not of one signature".to_owned());
            };
            let payload = Message::Bytes(envelope.payload.as_bytes());
            let hash = content.payload_hash.value.decode().unwrap_or_default();
            // This entry has the signature in Base64 twice over.
            let logged = STANDARD.decode(signature.sig.as_bytes()).ok();
            payload.hashes_to(content.payload_hash.algorithm, &hash)
                && content.envelope.payload_type == envelope.payload_type
                && logged.as_deref() == Some(what.signature.as_bytes())
                && what.verifier.is_in(signature.public_key.as_bytes())
        }
        _ => return Err("the log entry is of another kind of signature".to_owned()),
    };
    fits.then_some(()).ok_or_else(another)
}

fn another() -> String {
    "the log entry is of another signature".to_owned()
}

/// The body of a `hashedrekord` 0.0.2 (Rekor v2, hashedrekord.proto). The verifier family reads
/// it for ECDSA P-256 only. What kind of key it says to have is not asked: the key itself is
/// compared, and the signature has been verified with it.
#[derive(Deserialize)]
struct BodyV2 {
    spec: SpecV2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecV2 {
    hashed_rekord_v002: HashedRekordV2,
}

#[derive(Deserialize)]
struct HashedRekordV2 {
    data: DataV2,
    signature: SignatureV2,
}

#[derive(Deserialize)]
struct DataV2 {
    algorithm: HashAlgorithm,
    digest: String,
}

#[derive(Deserialize)]
struct SignatureV2 {
    content: String,
    verifier: VerifierV2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VerifierV2 {
    #[serde(rename = "keyDetails")]
    _key_details: String,
    public_key: Option<BytesV2>,
    x509_certificate: Option<BytesV2>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BytesV2 {
    raw_bytes: String,
}

fn describes_v2(entry: &TransparencyLogEntry, what: &Recorded<'_>) -> Result<(), String> {
    let body: BodyV2 = serde_json::from_slice(entry.canonicalized_body.as_bytes())
        .map_err(|error| format!("the log entry does not parse: {error}"))?;
    let record = body.spec.hashed_rekord_v002;
    let is = |text: &str, bytes: &[u8]| STANDARD.decode(text).is_ok_and(|found| found == bytes);
    let hash = STANDARD.decode(&record.data.digest).unwrap_or_default();
    let recorded = record.signature.verifier;
    let verifier = match (
        what.verifier,
        recorded.public_key,
        recorded.x509_certificate,
    ) {
        (Verifier::Key(der), Some(found), None)
        | (Verifier::Certificate(der), None, Some(found)) => is(&found.raw_bytes, der),
        _ => false,
    };
    let fits = what.message.hashes_to(record.data.algorithm, &hash)
        && is(&record.signature.content, what.signature.as_bytes())
        && verifier;
    fits.then_some(()).ok_or_else(another)
}

impl Message<'_> {
    /// Whether its hash is this one. A digest has one hash only.
    fn hashes_to(self, algorithm: HashAlgorithm, hash: &[u8]) -> bool {
        use crate::oci::Digest;
        match (self, algorithm) {
            (Self::Bytes(bytes), HashAlgorithm::Sha2256) => {
                crypto::sha256(bytes).as_bytes() == hash
            }
            (Self::Bytes(bytes), HashAlgorithm::Sha2384) => {
                crypto::sha384(bytes).as_bytes() == hash
            }
            (Self::Bytes(bytes), HashAlgorithm::Sha2512) => {
                crypto::sha512(bytes).as_bytes() == hash
            }
            (Self::Digest(Digest::Sha256(digest)), HashAlgorithm::Sha2256) => digest[..] == *hash,
            (Self::Digest(Digest::Sha512(digest)), HashAlgorithm::Sha2512) => digest[..] == *hash,
            _ => false,
        }
    }
}

fn decoded_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().unwrap_or_default()
}
