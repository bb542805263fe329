//! The words for why an image is let through or refused.

use serde::Serialize;

/// Why an image was let through or refused. The same words stand in messages, JSON, metrics
/// and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every matching policy passed.
    Admitted,
    /// No policy matches, and the default is to deny.
    NoPolicy,
    /// No signature was found.
    Unsigned,
    /// Signatures were found, and none verifies.
    InvalidSignature,
    /// Valid signatures were found, and none is by a signer that policy names.
    UntrustedSigner,
    /// Fewer signers than policy asks for.
    NotEnoughSigners,
    /// An attestation that policy asks for is missing.
    MissingAttestation,
    /// A condition over an attestation does not hold.
    ConditionFailed,
    /// The caller is not one who may pull this.
    WrongPuller,
    /// A policy says no, or does not list this digest.
    DeniedByPolicy,
    /// No admitted root reaches this content.
    NotReachable,
    /// The manifest cannot be read in one way only.
    Malformed,
    /// There is more than the limits let be looked at.
    OverLimit,
}

impl Reason {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::NoPolicy => "no_policy",
            Self::Unsigned => "unsigned",
            Self::InvalidSignature => "invalid_signature",
            Self::UntrustedSigner => "untrusted_signer",
            Self::NotEnoughSigners => "not_enough_signers",
            Self::MissingAttestation => "missing_attestation",
            Self::ConditionFailed => "condition_failed",
            Self::WrongPuller => "wrong_puller",
            Self::DeniedByPolicy => "denied_by_policy",
            Self::NotReachable => "not_reachable",
            Self::Malformed => "malformed",
            Self::OverLimit => "over_limit",
        }
    }
}
