//! A private TUF repository: a root, a timestamp, a snapshot and targets with their keys, minted
//! as python-tuf and tuf-on-ci write them, and a mirror that serves them, well or badly.
//!
//! [`Repository::publish`] does what maintainers do. A test that wants what they would never do
//! changes the public members of [`Role`] first: fewer signatures, an expiry in the past, an
//! older version.

mod mirror;

pub use mirror::{Mirror, Served};

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

use crate::oci::Digest;
use crate::sandbox::sigstore::KeyPair;

/// The target that a Sigstore client looks for.
const TARGET: &str = "trusted_root.json";

/// One of the four roles.
#[derive(Debug)]
pub struct Role {
    /// The keys that may sign for it, each under its own name.
    pub keys: Vec<KeyPair>,
    /// How many of them have to.
    pub threshold: usize,
    /// The version that was published last.
    pub version: u64,
    /// When what is published next expires.
    pub expires: Timestamp,
    /// How many of the keys sign.
    pub signing: usize,
}

impl Role {
    fn new(keys: usize, threshold: usize, expires: Timestamp) -> Self {
        Self {
            keys: (0..keys).map(|_| KeyPair::generate()).collect(),
            threshold,
            version: 0,
            expires,
            signing: keys,
        }
    }
}

/// A repository. Its files are what a mirror has.
#[derive(Debug)]
pub struct Repository {
    /// Signs the keys of all four: two of three.
    pub root: Role,
    /// Signs which snapshot is the latest.
    pub timestamp: Role,
    /// Signs which targets belong together.
    pub snapshot: Role,
    /// Signs what the targets are.
    pub targets: Role,
    /// Metadata by name, and targets under `targets/`.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    /// A repository with its first root. Roots last a year, targets and snapshots a month, the
    /// timestamp a week.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let mut repository = Self {
            root: Role::new(3, 2, days(365)),
            timestamp: Role::new(1, 1, days(7)),
            snapshot: Role::new(1, 1, days(30)),
            targets: Role::new(1, 1, days(30)),
            files: BTreeMap::new(),
        };
        repository.publish_root(&[]);
        repository
    }

    /// The root in which trust begins.
    #[must_use]
    pub fn pinned(&self) -> Vec<u8> {
        self.files.get("1.root.json").cloned().unwrap_or_default()
    }

    /// Publishes a trusted root: new targets, snapshot and timestamp.
    pub fn publish(&mut self, trusted_root: &str) {
        let digest = Digest::sha256(trusted_root.as_bytes());
        let hash = digest.hex();
        let target = json!({ "length": trusted_root.len(), "hashes": { "sha256": hash } });
        self.files.insert(
            format!("targets/{hash}.{TARGET}"),
            trusted_root.as_bytes().to_vec(),
        );
        self.publish_targets(&json!({ TARGET: target }));
        self.publish_snapshot();
        self.publish_timestamp();
    }

    /// Publishes the next targets.
    pub fn publish_targets(&mut self, targets: &Value) {
        self.targets.version += 1;
        let signed = json!({ "targets": targets });
        let document = document("targets", &self.targets, signed);
        let name = format!("{}.targets.json", self.targets.version);
        self.files.insert(name, document);
    }

    /// Publishes the next snapshot, of the latest targets.
    pub fn publish_snapshot(&mut self) {
        self.snapshot.version += 1;
        let version = self.targets.version;
        let signed = json!({ "meta": { "targets.json": { "version": version } } });
        let document = document("snapshot", &self.snapshot, signed);
        let name = format!("{}.snapshot.json", self.snapshot.version);
        self.files.insert(name, document);
    }

    /// Publishes the next timestamp, of the latest snapshot.
    pub fn publish_timestamp(&mut self) {
        self.timestamp.version += 1;
        let version = self.snapshot.version;
        let name = format!("{version}.snapshot.json");
        let bytes = self.files.get(&name).cloned().unwrap_or_default();
        let pinned = json!({
            "version": version,
            "length": bytes.len(),
            "hashes": { "sha256": Digest::sha256(&bytes).hex() },
        });
        let signed = json!({ "meta": { "snapshot.json": pinned } });
        let document = document("timestamp", &self.timestamp, signed);
        self.files.insert("timestamp.json".to_owned(), document);
    }

    /// Publishes the next root, signed by its own keys and by `also`, which are those of the
    /// root before where they have changed.
    pub fn publish_root(&mut self, also: &[KeyPair]) {
        self.root.version += 1;
        let mut keys = serde_json::Map::new();
        let mut roles = serde_json::Map::new();
        for (name, role) in [
            ("root", &self.root),
            ("timestamp", &self.timestamp),
            ("snapshot", &self.snapshot),
            ("targets", &self.targets),
        ] {
            let names = role.keys.iter().map(|key| {
                let name = key_name(key);
                keys.insert(name.clone(), public(key));
                name
            });
            let names: Vec<String> = names.collect();
            roles.insert(
                name.to_owned(),
                json!({ "keyids": names, "threshold": role.threshold }),
            );
        }
        let signed = json!({ "consistent_snapshot": true, "keys": keys, "roles": roles });
        let signers = also
            .iter()
            .chain(self.root.keys.iter().take(self.root.signing));
        let document = signed_by(&with_head("root", &self.root, signed), signers);
        let name = format!("{}.root.json", self.root.version);
        self.files.insert(name, document);
    }

    /// Exchanges the keys of the root, and publishes it: what its holders do when one is lost.
    pub fn rotate_root(&mut self) {
        let new = (0..self.root.keys.len()).map(|_| KeyPair::generate());
        let old = std::mem::replace(&mut self.root.keys, new.collect());
        self.publish_root(&old);
    }

    /// Exchanges the key of the timestamp, and publishes root and timestamp.
    pub fn rotate_timestamp(&mut self) {
        self.timestamp.keys = vec![KeyPair::generate()];
        self.publish_root(&[]);
        self.publish_timestamp();
    }
}

/// The name of a key; any name will do.
fn key_name(key: &KeyPair) -> String {
    Digest::sha256(&key.public_key_der()).hex()
}

/// A public key, as metadata lists it.
#[must_use]
pub fn public(key: &KeyPair) -> Value {
    json!({
        "keytype": "ecdsa",
        "scheme": "ecdsa-sha2-nistp256",
        "keyval": { "public": key.public_key_pem() },
    })
}

fn with_head(kind: &str, role: &Role, mut signed: Value) -> Value {
    signed["_type"] = kind.into();
    signed["spec_version"] = "1.0.31".into();
    signed["version"] = role.version.into();
    signed["expires"] = role
        .expires
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
        .into();
    signed
}

fn document(kind: &str, role: &Role, signed: Value) -> Vec<u8> {
    signed_by(
        &with_head(kind, role, signed),
        role.keys.iter().take(role.signing),
    )
}

/// A signed document.
#[must_use]
pub fn signed_by<'a>(signed: &Value, signers: impl Iterator<Item = &'a KeyPair>) -> Vec<u8> {
    let canonical = to_canonical_bytes(signed).unwrap_or_default();
    let signatures: Vec<Value> = signers
        .map(|key| {
            let signature = key.sign(&canonical);
            let digits = signature.iter().map(|byte| format!("{byte:02x}"));
            json!({ "keyid": key_name(key), "sig": digits.collect::<String>() })
        })
        .collect();
    let document = json!({ "signed": signed, "signatures": signatures });
    document.to_string().into_bytes()
}
