//! Who made a signature, whatever format carried it (steps 2 and 4).

use jiff::Timestamp;
use sigstore_verify::types::{
    Artifact, Bundle, SignatureBytes, bundle::VerificationMaterialContent,
};

use crate::verify::Assurance;
use crate::verify::Logged;
use crate::verify::Material;
use crate::verify::RootName;
use crate::verify::Signer;
use crate::verify::certificate;
use crate::verify::key;

/// A signature, in the form that the verifier family reads and in plain.
pub(super) struct Signed<'a> {
    /// The signature with all that vouches for it.
    pub(super) bundle: &'a Bundle,
    /// What the bundle is about: the image, or the bytes that are signed.
    pub(super) artifact: Artifact<'a>,
    /// The bytes that are signed.
    pub(super) message: &'a [u8],
    /// The signature over them.
    pub(super) signature: &'a SignatureBytes,
}

/// One way in which a signature holds.
pub(super) struct Proof {
    pub(super) signer: Signer,
    pub(super) root: Option<RootName>,
    pub(super) signed_at: Option<Timestamp>,
    pub(super) assurance: Assurance,
}

/// Proves a signature by certificate, or by key where it has none: one proof for each trust
/// root under which it holds.
pub(super) fn proofs(signed: &Signed<'_>, material: &Material) -> Result<Vec<Proof>, String> {
    let vouchers = &signed.bundle.verification_material.content;
    if !matches!(vouchers, VerificationMaterialContent::PublicKey(_)) {
        return certificate::proofs(signed.bundle, &signed.artifact, material);
    }
    let key = key::signer_of(&material.keys, signed.message, signed.signature)?;
    let logged = key::logged(signed.bundle, &signed.artifact, key, material);
    if logged.is_empty() {
        return Ok(vec![Proof {
            signer: Signer::Key {
                fingerprint: key.fingerprint,
            },
            root: None,
            signed_at: None,
            assurance: Assurance::default(),
        }]);
    }
    Ok(logged)
}

/// What vouches for a bundle that was proven with all of its parts.
pub(super) fn assurance(bundle: &Bundle, certificate_timestamp: bool) -> Assurance {
    let material = &bundle.verification_material;
    let logged = material
        .tlog_entries
        .iter()
        .map(|entry| match entry.inclusion_proof {
            Some(_) => Logged::Included,
            None => Logged::Promised,
        });
    Assurance {
        log: logged.max(),
        timestamp: !material
            .timestamp_verification_data
            .rfc3161_timestamps
            .is_empty(),
        certificate_timestamp,
    }
}
