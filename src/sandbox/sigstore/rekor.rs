//! Rekor, version 1 and 2: entries, promises, inclusion proofs and checkpoints.
//!
//! Each log is a real append-only tree. An entry is proven against the tree that ends with
//! it, so that only the right edge of the tree has to be kept.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::encoding::{base64, random, sha256};
use super::fault::{Fault, flip};
use super::keys::{Hash, LogKey};
use super::signed::{Content, Signed, Verifier};

/// A log entry, as it stands in a bundle. Every member is public, so that a test can put the
/// entry of one signature beside another.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// `hashedrekord`, `dsse` or `intoto`.
    pub kind: &'static str,
    /// The version of the kind.
    pub version: &'static str,
    /// The canonical JSON that the log keeps.
    pub body: Vec<u8>,
    /// The number of the entry.
    pub log_index: u64,
    /// Which log it is in.
    pub log_id: [u8; 32],
    /// When it was logged; Rekor v2 does not say.
    pub integrated_time: Option<Timestamp>,
    /// The promise to include it (signed entry timestamp); Rekor v2 gives none.
    pub promise: Option<Vec<u8>>,
    /// The proof that it is included.
    pub proof: Option<InclusionProof>,
}

/// A proof that an entry is in a log.
#[derive(Debug, Clone, PartialEq)]
pub struct InclusionProof {
    /// The size of the tree.
    pub tree_size: u64,
    /// The root of the tree.
    pub root: [u8; 32],
    /// The siblings on the way up.
    pub hashes: Vec<[u8; 32]>,
    /// The log's word for size and root.
    pub checkpoint: Checkpoint,
}

/// A signed tree head, in the form of a signed note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Origin, size and root, a line each.
    pub text: String,
    /// Who signed.
    pub signer: String,
    /// The key hint and the signature.
    pub signature: Vec<u8>,
}

impl Entry {
    /// The member of a bundle's `tlogEntries`. Numbers are text, as in protobuf's JSON.
    pub(super) fn json(&self) -> Value {
        let mut entry = json!({
            "logIndex": self.log_index.to_string(),
            "logId": {"keyId": base64(self.log_id)},
            "kindVersion": {"kind": self.kind, "version": self.version},
            "canonicalizedBody": base64(&self.body),
        });
        if let Some(time) = self.integrated_time {
            entry["integratedTime"] = time.as_second().to_string().into();
        }
        if let Some(promise) = &self.promise {
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": base64(promise)});
        }
        if let Some(proof) = &self.proof {
            let hashes: Vec<_> = proof.hashes.iter().map(base64).collect();
            entry["inclusionProof"] = json!({
                "logIndex": self.log_index.to_string(),
                "treeSize": proof.tree_size.to_string(),
                "rootHash": base64(proof.root),
                "hashes": hashes,
                "checkpoint": {"envelope": proof.checkpoint.note()},
            });
        }
        entry
    }

    /// The value of cosign's annotation `dev.sigstore.cosign/bundle`.
    pub(super) fn annotation(&self) -> String {
        let promise = self.promise.as_deref().unwrap_or_default();
        json!({"SignedEntryTimestamp": base64(promise), "Payload": self.promised()}).to_string()
    }

    /// What a promise is signed over. The members are in alphabetical order and without white
    /// space, which for these values is canonical JSON (RFC 8785).
    fn promised(&self) -> Value {
        json!({
            "body": base64(&self.body),
            "integratedTime": self.integrated_time.map_or(0, Timestamp::as_second),
            "logID": const_hex::encode(self.log_id),
            "logIndex": self.log_index,
        })
    }

    pub(super) fn suffer(&mut self, faults: &[Fault]) {
        if faults.contains(&Fault::NoPromise) {
            self.promise = None;
        }
        if faults.contains(&Fault::NoInclusionProof) {
            self.proof = None;
        }
        let Some(proof) = &mut self.proof else { return };
        if faults.contains(&Fault::BrokenCheckpoint) {
            flip(&mut proof.checkpoint.signature);
        }
        if faults.contains(&Fault::BrokenInclusionProof)
            && let Some(hash) = proof.hashes.last_mut()
        {
            flip(hash);
        }
    }
}

impl Checkpoint {
    /// The note: text, blank line, signature line.
    #[must_use]
    pub fn note(&self) -> String {
        let Self { text, signer, .. } = self;
        format!("{text}\n\u{2014} {signer} {}\n", base64(&self.signature))
    }
}

/// What a log writes for a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Rekor v1: `dsse` for envelopes, `hashedrekord` 0.0.1 for plain bytes.
    V1,
    /// Rekor v1: `intoto` 0.0.2, which older clients wrote for envelopes.
    V1Intoto,
    /// Rekor v2: `hashedrekord` 0.0.2 for everything.
    V2,
}

/// A transparency log.
pub(super) struct Rekor {
    host: &'static str,
    origin: String,
    key: LogKey,
    tree: Mutex<Tree>,
}

impl Rekor {
    pub(super) fn v1() -> Self {
        let host = "rekor.sandbox.test";
        // Rekor v1 names the tree behind the host.
        Self::new(
            host,
            format!("{host} - 1193050959916656506"),
            LogKey::ecdsa(),
        )
    }

    /// The shard of that name, as `log2026-1`.
    pub(super) fn v2(host: &'static str) -> Self {
        Self::new(host, host.to_owned(), LogKey::ed25519())
    }

    fn new(host: &'static str, origin: String, key: LogKey) -> Self {
        let mut tree = Tree::default();
        // Others use the log too: proofs then have hashes from the first entry on.
        for _ in 0..3 {
            tree.append(random());
        }
        Self {
            host,
            origin,
            key,
            tree: Mutex::new(tree),
        }
    }

    /// The log as a trusted root names it.
    pub(super) fn base_url(&self) -> String {
        format!("https://{}", self.host)
    }

    pub(super) fn key(&self) -> &LogKey {
        &self.key
    }

    pub(super) fn log_id(&self) -> [u8; 32] {
        self.key.log_id(&self.origin)
    }

    /// Logs a signature. The log does not look whether it holds.
    pub(super) fn record(&self, signed: &Signed, form: Form, time: Timestamp) -> Entry {
        let (kind, version, body) = body(signed, form);
        let body = body.to_string().into_bytes();
        let leaf = sha256(&[&[0], &body]);
        let appended = self
            .tree
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(leaf);
        let mut entry = Entry {
            kind,
            version,
            body,
            log_index: appended.index,
            log_id: self.log_id(),
            integrated_time: None,
            promise: None,
            proof: Some(InclusionProof {
                tree_size: appended.index + 1,
                root: appended.root,
                hashes: appended.siblings,
                checkpoint: self.checkpoint(appended.index + 1, &appended.root),
            }),
        };
        if form != Form::V2 {
            entry.integrated_time = Some(time);
            entry.promise = Some(self.promise(&entry));
        }
        entry
    }

    /// This log's promise to include an entry, whatever the entry says about its log.
    pub(super) fn promise(&self, entry: &Entry) -> Vec<u8> {
        self.key.sign(entry.promised().to_string().as_bytes())
    }

    fn checkpoint(&self, tree_size: u64, root: &[u8; 32]) -> Checkpoint {
        let text = format!("{}\n{tree_size}\n{}\n", self.origin, base64(root));
        let signature = self.key.sign(text.as_bytes());
        Checkpoint {
            text,
            signer: self.host.to_owned(),
            signature: [&self.log_id()[..4], &signature].concat(),
        }
    }
}

/// Kind, version and canonical body of an entry; the members of each object are in
/// alphabetical order.
fn body(signed: &Signed, form: Form) -> (&'static str, &'static str, Value) {
    let (kind, version, spec) = match (form, &signed.content) {
        (Form::V1, Content::Message(_)) => ("hashedrekord", "0.0.1", hashed_rekord(signed)),
        (Form::V1, Content::Envelope { .. }) => ("dsse", "0.0.1", dsse(signed)),
        (Form::V1Intoto, _) => ("intoto", "0.0.2", in_toto(signed)),
        (Form::V2, _) => ("hashedrekord", "0.0.2", hashed_rekord_v2(signed)),
    };
    let body = json!({"apiVersion": version, "kind": kind, "spec": spec});
    (kind, version, body)
}

fn hashed_rekord(signed: &Signed) -> Value {
    json!({
        "data": {"hash": hash_by(signed.key_type.hash(), &signed.content.signed_bytes())},
        "signature": {
            "content": base64(&signed.signature),
            "publicKey": {"content": base64(signed.verifier.pem())},
        },
    })
}

fn dsse(signed: &Signed) -> Value {
    json!({
        "envelopeHash": hash_of(envelope_text(signed).as_bytes()),
        "payloadHash": hash_of(signed.content.payload()),
        "signatures": [{
            "signature": base64(&signed.signature),
            "verifier": base64(signed.verifier.pem()),
        }],
    })
}

fn in_toto(signed: &Signed) -> Value {
    json!({
        "content": {
            "envelope": {
                "payloadType": super::signed::IN_TOTO,
                "signatures": [{
                    "publicKey": base64(signed.verifier.pem()),
                    // Base64 twice: the log encodes what the envelope already encoded.
                    "sig": base64(base64(&signed.signature)),
                }],
            },
            "hash": hash_of(envelope_text(signed).as_bytes()),
            "payloadHash": hash_of(signed.content.payload()),
        },
    })
}

fn hashed_rekord_v2(signed: &Signed) -> Value {
    let mut verifier = match &signed.verifier {
        Verifier::Certificate(_) | Verifier::Chain(_) => {
            let leaf = signed.verifier.certificates().first();
            json!({"x509Certificate": {"rawBytes": leaf.map(base64)}})
        }
        Verifier::PublicKey(der) => json!({"publicKey": {"rawBytes": base64(der)}}),
        Verifier::Absent => json!({}),
    };
    verifier["keyDetails"] = signed.key_type.details().into();
    let hash = signed.key_type.hash();
    json!({
        "hashedRekordV002": {
            "data": {
                "algorithm": hash.protobuf_name(),
                "digest": base64(hash.of(&signed.content.signed_bytes())),
            },
            "signature": {"content": base64(&signed.signature), "verifier": verifier},
        },
    })
}

fn envelope_text(signed: &Signed) -> String {
    signed.envelope().unwrap_or_default().to_string()
}

fn hash_of(bytes: &[u8]) -> Value {
    hash_by(Hash::Sha256, bytes)
}

fn hash_by(hash: Hash, bytes: &[u8]) -> Value {
    json!({"algorithm": hash.name(), "value": const_hex::encode(hash.of(bytes))})
}

/// The right edge of a Merkle tree (RFC 6962, 2.1): the root of the complete subtree at each
/// level where the size has a bit set.
#[derive(Default)]
struct Tree {
    size: u64,
    edge: Vec<Option<[u8; 32]>>,
}

/// Where a leaf went.
struct Appended {
    index: u64,
    root: [u8; 32],
    siblings: Vec<[u8; 32]>,
}

impl Tree {
    /// Appends a leaf and proves it against the tree that ends with it: its siblings are the
    /// complete subtrees to its left, lowest first.
    fn append(&mut self, leaf: [u8; 32]) -> Appended {
        let siblings: Vec<_> = self.edge.iter().flatten().copied().collect();
        let root = siblings
            .iter()
            .fold(leaf, |right, left| parent(left, &right));
        let index = self.size;
        self.size += 1;

        let mut carried = leaf;
        for slot in &mut self.edge {
            match slot.take() {
                Some(left) => carried = parent(&left, &carried),
                None => {
                    *slot = Some(carried);
                    return Appended {
                        index,
                        root,
                        siblings,
                    };
                }
            }
        }
        self.edge.push(Some(carried));
        Appended {
            index,
            root,
            siblings,
        }
    }
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left, right])
}
