//! Who made a signature, whatever format carried it (steps 2 and 4).

use std::collections::BTreeSet;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sigstore_verify::types::{
    Artifact, Bundle, DsseEnvelope, SignatureBytes, bundle::VerificationMaterialContent,
};

use crate::oci::Digest;
use crate::verify::Assurance;
use crate::verify::HashAlgorithm;
use crate::verify::Logged;
use crate::verify::Material;
use crate::verify::PARTS_MAX;
use crate::verify::RootName;
use crate::verify::Signer;
use crate::verify::TrustRoot;
use crate::verify::certificate;
use crate::verify::certified;
use crate::verify::key;
use crate::verify::log;
use crate::verify::log::Recorded;
use crate::verify::log::Verifier;

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
    /// Certificates in PEM that stand beside the bundle, in cosign's first formats.
    pub(super) chain: Option<&'a str>,
}

impl Signed<'_> {
    /// The certificates that came with the signer's, in DER; their order says nothing.
    pub(super) fn chain(&self) -> Result<Vec<Vec<u8>>, String> {
        let mut chain = Vec::new();
        let content = &self.bundle.verification_material.content;
        if let VerificationMaterialContent::X509CertificateChain { certificates } = content {
            let above = certificates.iter().skip(1);
            chain.extend(above.map(|one| one.raw_bytes.as_bytes().to_vec()));
        }
        let beside = CertificateDer::pem_slice_iter(self.chain.unwrap_or_default().as_bytes());
        for certificate in beside.take(PARTS_MAX + 1) {
            let certificate =
                certificate.map_err(|_| "the chain annotation does not parse".to_owned())?;
            chain.push(certificate.to_vec());
        }
        Ok(chain)
    }
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
    let VerificationMaterialContent::PublicKey(identifier) = vouchers else {
        return by_certificate(signed, material, now);
    };
    let (key, hash) = key::signer_of(
        &material.keys,
        &identifier.hint,
        signed.message,
        signed.signature,
    )?;
    let signer = Signer::Key {
        fingerprint: key.fingerprint,
    };
    let vouched = material
        .roots
        .iter()
        .filter_map(|root| vouched(signed, Verifier::Key(&key.spki), root, now));
    let proofs: Vec<Proof> = vouched
        .map(|vouched| Proof {
            signer: signer.clone(),
            root: Some(vouched.root),
            signed_at: vouched.times.into_iter().min(),
            assurance: vouched.assurance,
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

/// Proves a signature by certificate: Fulcio's under each trust root, one's own authority's under
/// each of these.
fn by_certificate(
    signed: &Signed<'_>,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Proof>, String> {
    let keyless = || certificate::proofs(signed.bundle, &signed.artifact, material);
    if material.authorities.is_empty() {
        return keyless();
    }
    let certified = certified::proofs(signed, material, now);
    if material.roots.is_empty() {
        return certified;
    }
    match (certified, keyless()) {
        (Ok(one), Ok(two)) => Ok(one.into_iter().chain(two).collect()),
        (Ok(proofs), Err(_)) | (Err(_), Ok(proofs)) => Ok(proofs),
        (Err(one), Err(two)) => Err(format!("{one}; {two}")),
    }
}

/// The proofs of several readings of one signature: under each of so many trust roots those of
/// the first that it vouches for. What none vouches for is taken from the last, where no other
/// speaks of the same signer.
pub(super) fn of_readings(
    bundles: &[Bundle],
    roots: usize,
    prove: impl Fn(&Bundle) -> Result<Vec<Proof>, String>,
) -> Result<Vec<Proof>, String> {
    let mut proofs: Vec<Proof> = Vec::new();
    let mut unvouched = Err("there is nothing to prove".to_owned());
    for bundle in bundles {
        let (vouched, others): (Vec<Proof>, _) = match prove(bundle) {
            Ok(found) => found.into_iter().partition(|proof| proof.root.is_some()),
            Err(why) => {
                unvouched = Err(why);
                continue;
            }
        };
        unvouched = Ok(others);
        for proof in vouched {
            let known = |one: &Proof| one.root == proof.root && one.signer == proof.signer;
            if !proofs.iter().any(known) {
                proofs.push(proof);
            }
        }
        let named: BTreeSet<_> = proofs.iter().map(|proof| &proof.root).collect();
        if named.len() >= roots.max(1) {
            break;
        }
    }
    if proofs.is_empty() {
        return unvouched;
    }
    for proof in unvouched.unwrap_or_default() {
        if proofs.iter().all(|one| one.signer != proof.signer) {
            proofs.push(proof);
        }
    }
    Ok(proofs)
}

/// What a trust root vouches for about a signature.
pub(super) struct Vouched {
    pub(super) root: RootName,
    /// When the signature was there.
    pub(super) times: Vec<Timestamp>,
    pub(super) assurance: Assurance,
}

/// What a trust root vouches for: when all log entries and timestamps of a signature are proven
/// under it, and there are any. One that is not makes the others doubtful.
pub(super) fn vouched(
    signed: &Signed<'_>,
    verifier: Verifier<'_>,
    root: &TrustRoot,
    now: Timestamp,
) -> Option<Vouched> {
    let material = &signed.bundle.verification_material;
    let what = Recorded {
        envelope: signed.envelope,
        message: signed.message,
        signature: signed.signature,
        verifier,
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
    Some(Vouched {
        root: root.name.clone(),
        times,
        assurance,
    })
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
