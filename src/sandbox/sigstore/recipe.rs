//! How to mint one signature: by whom, in which log, and what is wrong with it.

use super::fault::Fault;
use super::identity::Identity;
use super::keys::KeyPair;

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub enum Signer<'a> {
    /// An identity, with a key that lives for one signature.
    Keyless(&'a Identity),
    /// The holder of a key.
    Key(&'a KeyPair),
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
    /// No log.
    None,
}

/// How to mint one signature.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    pub(super) signer: Signer<'a>,
    pub(super) log: Log,
    pub(super) timestamped: bool,
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
            timestamped: log == Log::RekorV2,
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
