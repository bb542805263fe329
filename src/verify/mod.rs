//! Proofs: evidence bytes, trust material and the time go in, facts come out.
//!
//! This room is the sole home of the Sigstore verifier and of OpenPGP. It is pure: it awaits nothing, spawns
//! nothing, logs nothing, and takes the time as an argument. (The pinned verifier family reads
//! the clock itself for one check, that a log's time is not in the future; ours comes on top. And a
//! thread gives way between two signatures: `turns`.)
//! It knows no policy: whose signature is good enough is for `policy` to say.
//!
//! Every proof goes the same way, and the same numbers stand in the code:
//!
//! 1. Bounds: sizes and counts are checked before anything is parsed or computed.
//! 2. Cryptography: the signature, and what vouches for the key that made it (a certificate
//!    with its chain, SCT, log entry and time; or a key that policy names).
//! 3. Claims: what was signed is about this very digest and of a type we know.
//! 4. Identity: who signed, read from what step 2 proved and from nothing else.

mod annotations;
mod att_layer;
mod authority;
mod bundle;
mod certificate;
mod certified;
mod claims;
mod facts;
mod gpg;
mod key;
mod log;
mod proof;
mod sig_layer;
mod statement;
mod trust;
mod turns;
mod unambiguous;

pub use annotations::Annotations;
pub use att_layer::AttLayer;
pub use authority::Authority;
pub use certified::{Certified, Name};
pub use claims::CLAIMS;
pub use facts::{
    Assurance, Demands, Fact, Facts, Format, HashAlgorithm, Identity, Kind, Logged, PublicKey,
    Rejected, RootName, Signer,
};
pub use gpg::{GpgKey, GpgSignature, KeyringError, Standing, read_keyring};
pub use key::check as check_key;
pub use sig_layer::SigLayer;
pub use statement::Statement;
pub use trust::{Material, MissingRoot, TrustRoot, TrustRootError};
pub use turns::take_turns;

use bytes::Bytes;
use jiff::Timestamp;

use crate::oci::Digest;

/// The most log entries, timestamps or certificates that one bundle may carry. Real ones have
/// one or two of each.
const PARTS_MAX: usize = 8;

/// The most that is told of why one piece of evidence proves nothing, in characters.
const WHY_CHARACTERS_MAX: usize = 400;

/// Evidence as it was found in a registry: bytes whose digest was checked, and nothing known.
#[derive(Debug, Clone)]
pub enum Evidence {
    /// A layer with the media type of a Sigstore bundle.
    Bundle {
        /// The layer's digest.
        source: Digest,
        /// The layer's bytes.
        json: Bytes,
    },
    /// A layer of a `.sig` manifest with its annotations.
    SigLayer(SigLayer),
    /// A signed OpenPGP message from a lookaside store.
    Gpg(GpgSignature),
    /// A layer of an `.att` manifest with its annotations.
    AttLayer(AttLayer),
}

impl Evidence {
    /// The format, for metrics.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Bundle { .. } => Format::Bundle,
            Self::SigLayer(_) => Format::SigLayer,
            Self::Gpg(_) => Format::SimpleSigning,
            Self::AttLayer(_) => Format::AttLayer,
        }
    }

    fn source(&self) -> Digest {
        match self {
            Self::Bundle { source, .. } => *source,
            Self::SigLayer(layer) => layer.source,
            Self::Gpg(signature) => signature.source,
            Self::AttLayer(layer) => layer.source,
        }
    }
}

/// Proves one piece of evidence about the image `digest`: one fact for each trust root under
/// which it holds.
///
/// # Errors
/// [`Rejected`], with the reason for people, when it proves nothing.
pub fn prove(
    evidence: &Evidence,
    digest: &Digest,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Fact>, Rejected> {
    let proven = match evidence {
        Evidence::Bundle { source, json } => bundle::prove(*source, json, digest, material, now),
        Evidence::SigLayer(layer) => sig_layer::prove(layer, digest, material, now),
        Evidence::Gpg(signature) => gpg::prove(signature, digest, material, now),
        Evidence::AttLayer(layer) => att_layer::prove(layer, digest, material, now),
    };
    let rejected = |why: String| Rejected {
        source: evidence.source(),
        format: evidence.format(),
        // What an error says may come from the evidence, and so may its length.
        why: why
            .chars()
            .take(WHY_CHARACTERS_MAX)
            .map(|character| match character.is_control() {
                true => char::REPLACEMENT_CHARACTER,
                false => character,
            })
            .collect(),
    };
    let mut facts = proven.map_err(rejected)?;
    facts.retain(|fact| fact.signed_at.is_none_or(|signed_at| signed_at <= now));
    if facts.is_empty() {
        return Err(rejected(
            "the proven time of signing lies in the future".to_owned(),
        ));
    }
    Ok(facts)
}

#[cfg(all(test, feature = "sandbox"))]
mod format_tests;
