//! Who made a signature, whatever format carried it (steps 2 and 4).

use jiff::Timestamp;
use sigstore_verify::types::{
    Artifact, Bundle, DsseEnvelope, SignatureBytes, bundle::VerificationMaterialContent,
};

use crate::oci::Digest;
use crate::verify::Assurance;
use crate::verify::HashAlgorithm;
use crate::verify::Logged;
use crate::verify::Material;
use crate::verify::PublicKey;
use crate::verify::RootName;
use crate::verify::Signer;
use crate::verify::TrustRoot;
use crate::verify::certificate;
use crate::verify::key;
use crate::verify::log;
use crate::verify::log::Recorded;

/// A signature, in the form that the verifier family reads and in plain.
pub(super) struct Signed<'a> {
    /// The signature with all that vouches for it.
    pub(super) bundle: &'a Bundle,
    /// What the bundle is about: the image, or the bytes that are signed.
    pub(super) artifact: Artifact<'a>,
    /// The envelope that is signed, where it is one.
    pub(super) envelope: Option<&'a DsseEnvelope>,
    /// What is signed: of an envelope, its pre-authentication encoding.
    pub(super) message: Message<'a>,
    /// The signature over it.
    pub(super) signature: &'a SignatureBytes,
}

/// What a signature is over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Message<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// Bytes of which only this is known: the image's own manifest.
    Digest(&'a Digest),
}

/// One way in which a signature holds.
pub(super) struct Proof {
    pub(super) signer: Signer,
    pub(super) root: Option<RootName>,
    pub(super) signed_at: Option<Timestamp>,
    pub(super) assurance: Assurance,
    pub(super) hash: Option<HashAlgorithm>,
}

/// Proves a signature by certificate, or by key where it has none: one proof for each trust
/// root under which it holds.
pub(super) fn proofs(
    signed: &Signed<'_>,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Proof>, String> {
    let vouchers = &signed.bundle.verification_material.content;
    if !matches!(vouchers, VerificationMaterialContent::PublicKey(_)) {
        return certificate::proofs(signed.bundle, &signed.artifact, material);
    }
    let (key, hash) = key::signer_of(&material.keys, signed.message, signed.signature)?;
    let signer = Signer::Key {
        fingerprint: key.fingerprint,
    };
    let vouched = material
        .roots
        .iter()
        .filter_map(|root| vouched(signed, key, root, now));
    let proofs: Vec<Proof> = vouched
        .map(|(root, signed_at, assurance)| Proof {
            signer: signer.clone(),
            root: Some(root),
            signed_at,
            assurance,
            hash,
        })
        .collect();
    if proofs.is_empty() {
        // None of them is no error: the signature holds without, and policy says whether it
        // needs a log.
        return Ok(vec![Proof {
            signer,
            root: None,
            signed_at: None,
            assurance: Assurance::default(),
            hash,
        }]);
    }
    Ok(proofs)
}

/// The proofs of the first of several readings of one signature that a trust root vouches for;
/// else those of the last.
pub(super) fn of_first(
    bundles: &[Bundle],
    prove: impl Fn(&Bundle) -> Result<Vec<Proof>, String>,
) -> Result<Vec<Proof>, String> {
    let mut proofs = Err("there is nothing to prove".to_owned());
    for bundle in bundles {
        proofs = prove(bundle);
        let vouched = |proofs: &Vec<Proof>| proofs.iter().any(|proof| proof.root.is_some());
        if proofs.as_ref().is_ok_and(vouched) {
            break;
        }
    }
    proofs
}

/// What a trust root vouches for: when all log entries and timestamps of a key's signature are
/// proven under it, and there are any. One that is not makes the others doubtful.
fn vouched(
    signed: &Signed<'_>,
    key: &PublicKey,
    root: &TrustRoot,
    now: Timestamp,
) -> Option<(RootName, Option<Timestamp>, Assurance)> {
    let material = &signed.bundle.verification_material;
    let what = Recorded {
        envelope: signed.envelope,
        message: signed.message,
        signature: signed.signature,
        key: &key.spki,
    };
    let mut times = Vec::new();
    let mut logged = Vec::new();
    for entry in &material.tlog_entries {
        log::describes(entry, &what).ok()?;
        let proven = log::prove(entry, &root.log_keys, now).ok()?;
        logged.push(proven.logged);
        times.extend(proven.at);
    }
    let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
    for timestamp in timestamps {
        times.push(root.seen_at(&timestamp.signed_timestamp, signed.signature)?);
    }
    if logged.is_empty() && timestamps.is_empty() {
        return None;
    }
    let assurance = Assurance {
        // An entry that is promised is no weaker for standing beside one that is shown.
        log: logged.into_iter().max(),
        timestamp: !timestamps.is_empty(),
        certificate_timestamp: false,
    };
    Some((root.name.clone(), times.into_iter().min(), assurance))
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
