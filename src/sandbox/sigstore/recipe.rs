//! How to mint one signature: by whom, in which log, and what is wrong with it.

use super::authority::CertificateAuthority;
use super::fault::Fault;
use super::identity::Identity;
use super::keys::{KeyPair, KeyType};

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub enum Signer<'a> {
    /// An identity, with a key that lives for one signature.
    Keyless(&'a Identity),
    /// The holder of a key.
    Key(&'a KeyPair),
    /// A name that an authority of one's own certifies, instead of Fulcio; with a key that lives
    /// for one signature.
    Certified {
        /// The authority.
        authority: &'a CertificateAuthority,
        /// The e-mail address, URI or domain name.
        subject: &'a str,
    },
}

/// Which log records the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Rekor v1: `dsse` 0.0.1 or `hashedrekord` 0.0.1, with promise, proof and checkpoint.
    RekorV1,
    /// Rekor v1 with the entry that clients wrote before `dsse` came up: `intoto` 0.0.2.
    RekorV1Intoto,
    /// Rekor v2: `hashedrekord` 0.0.2, with proof and checkpoint.
    RekorV2,
    /// Another shard of Rekor v2, with a key and a tree of its own, in the same trusted root.
    RekorV2Shard,
    /// No log.
    None,
}

/// How to mint one signature.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    pub(super) signer: Signer<'a>,
    pub(super) log: Log,
    pub(super) timestamped: bool,
    pub(super) key_type: KeyType,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Recipe<'a> {
    /// Signed by `signer` and recorded in `log`; timestamped where the log tells no time,
    /// which is what cosign does.
    #[must_use]
    pub fn new(signer: Signer<'a>, log: Log) -> Self {
        Self {
            signer,
            log,
            timestamped: matches!(log, Log::RekorV2 | Log::RekorV2Shard),
            key_type: KeyType::P256,
            faults: Vec::new(),
        }
    }

    /// A keyless signature.
    #[must_use]
    pub fn keyless(identity: &'a Identity, log: Log) -> Self {
        Self::new(Signer::Keyless(identity), log)
    }

    /// A signature by key.
    #[must_use]
    pub fn key(key: &'a KeyPair, log: Log) -> Self {
        Self::new(Signer::Key(key), log)
    }

    /// With a timestamp, whatever the log.
    #[must_use]
    pub fn timestamped(mut self) -> Self {
        self.timestamped = true;
        self
    }

    /// With a key of this type where a key is made for the one signature.
    #[must_use]
    pub fn by(mut self, key_type: KeyType) -> Self {
        self.key_type = key_type;
        self
    }

    /// With one more fault.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
