//! OpenPGP "simple signing" (containers/image, containers-signature(5)): a signed message whose
//! payload names an image and its digest. Sole home of `pgp`.
//!
//! The crate does the packets and the cryptography; what a key is worth at which time is
//! decided here (`key`), since the crate leaves that to its users. The time that a signature
//! states is its signer's claim: it is held against the key's own times, and proves nothing.

mod key;
mod keyring;
mod message;
mod payload;

pub use key::{GpgKey, Standing};
pub use keyring::{KeyringError, read as read_keyring};

use bytes::Bytes;
use jiff::Timestamp;
use pgp::{packet::Signature, types::Timestamp as Seconds};

use crate::oci::Digest;
use crate::verify::Assurance;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::Kind;
use crate::verify::Material;
use crate::verify::Signer;

/// A signature as a lookaside store has it.
#[derive(Debug, Clone)]
pub struct GpgSignature {
    /// The digest of `message`, to name it by.
    pub source: Digest,
    /// The signed OpenPGP message.
    pub message: Bytes,
}

impl GpgSignature {
    /// A signature from its bytes.
    #[must_use]
    pub fn new(message: Bytes) -> Self {
        Self {
            source: Digest::sha256(&message),
            message,
        }
    }
}

/// Proves a signature about the image `digest`.
pub(super) fn prove(
    signature: &GpgSignature,
    digest: &Digest,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Fact>, String> {
    // 1. Bounds, and the shape of the message.
    let opened = message::open(&signature.message)?;
    // 2. Cryptography: the signature, and what the key is worth at this time.
    let signed = Signed::read(&opened.signature, now)?;
    let (key, standing) = signed.by(&material.gpg_keys, &opened, now)?;
    // 3. Claims.
    let docker_reference = payload::claims(&opened.payload, digest)?;
    // 4. Identity.
    let ends = [standing.ends_at, signed.ends_at];
    Ok(vec![Fact {
        kind: Kind::Signature,
        signer: Signer::Gpg {
            fingerprint: key.fingerprint().into(),
            ends_at: ends.into_iter().flatten().min(),
        },
        root: None,
        signed_at: None,
        assurance: Assurance::default(),
        hash: None,
        format: Format::SimpleSigning,
        source: signature.source,
        docker_reference: Some(docker_reference),
        found_in: None,
    }])
}

/// The times that a signature states, by which it holds now.
struct Signed {
    created: Seconds,
    ends_at: Option<Timestamp>,
}

impl Signed {
    fn read(signature: &Signature, now: Timestamp) -> Result<Self, String> {
        let created = key::created(signature)
            .ok_or_else(|| "the signature does not say when it was made".to_owned())?;
        if key::timestamp(created) > now {
            return Err("the signature says that it was made in the future".to_owned());
        }
        let ends_at = key::after(created, signature.signature_expiration_time());
        if let Some(ended) = ends_at.filter(|ends_at| *ends_at <= now) {
            return Err(format!("the signature expired at {ended}"));
        }
        Ok(Self { created, ends_at })
    }

    /// The key that made the signature, where it is one of `keys` and may sign.
    fn by<'a>(
        &self,
        keys: &'a [GpgKey],
        opened: &message::Opened,
        now: Timestamp,
    ) -> Result<(&'a GpgKey, Standing), String> {
        // The issuer is a hint, which says what to try; what it says wrongly does not verify.
        let named = keys
            .iter()
            .filter_map(|key| Some((key, key.part_named(&opened.signature)?)));
        let mut last = None;
        for (key, part) in named {
            if part.verifies(&opened.signature, &opened.payload) {
                let standing = key.standing(part, self.created, now);
                return standing.map(|standing| (key, standing));
            }
            last = Some(format!(
                "the signature does not verify with the OpenPGP key {} that it names: it was \
                 altered",
                key.fingerprint()
            ));
        }
        Err(last.unwrap_or_else(|| {
            format!(
                "signed with the OpenPGP key {}, which no policy for this image names",
                key::issuer(&opened.signature)
            )
        }))
    }
}

#[cfg(test)]
#[cfg(feature = "sandbox")]
#[path = "tests.rs"]
mod tests;
