//! Signatures by plain public keys, with and without a transparency log.

use sigstore_verify::{
    PublicKeyVerificationPolicy,
    crypto::{self, KeyAlgorithm, SigningScheme},
    types::{Artifact, Bundle, DerPublicKey, SignatureBytes},
};

use crate::verify::Material;
use crate::verify::PublicKey;
use crate::verify::Signer;
use crate::verify::proof::Proof;
use crate::verify::proof::assurance;

/// Whether a key (SubjectPublicKeyInfo in DER) is one that signatures can be verified with.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check(spki: &[u8]) -> Result<(), String> {
    let scheme = scheme(&DerPublicKey::new(spki.to_vec()))?;
    crypto::VerificationKey::from_der(&DerPublicKey::new(spki.to_vec()), scheme)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn scheme(key: &DerPublicKey) -> Result<SigningScheme, String> {
    match KeyAlgorithm::from_spki(key) {
        Ok(
            algorithm @ (KeyAlgorithm::EcdsaP256
            | KeyAlgorithm::EcdsaP384
            | KeyAlgorithm::Ed25519
            | KeyAlgorithm::Rsa),
        ) => Ok(algorithm.default_signing_scheme()),
        Ok(other) => Err(format!("keys of type {other:?} are not supported")),
        Err(error) => Err(error.to_string()),
    }
}

/// The key among `keys` that made `signature` over `message`. A bundle's hint only says which
/// to try first, and with so few keys the order does not matter: it is not asked.
pub(super) fn signer_of<'a>(
    keys: &'a [PublicKey],
    message: &[u8],
    signature: &SignatureBytes,
) -> Result<&'a PublicKey, String> {
    if keys.is_empty() {
        return Err("signed with a key, and no policy for this image names a key".to_owned());
    }
    let made_it = |key: &&PublicKey| {
        let spki = DerPublicKey::new(key.spki.to_vec());
        scheme(&spki)
            .is_ok_and(|scheme| crypto::verify_signature(&spki, message, signature, scheme).is_ok())
    };
    keys.iter().find(made_it).ok_or_else(|| {
        "the signature does not verify with any key that policy names: another key signed, or \
         it was altered"
            .to_owned()
    })
}

/// The trust roots under which the bundle's log entries are proven. None of them is no error:
/// the signature holds without, and policy says whether it needs a log.
pub(super) fn logged(
    bundle: &Bundle,
    artifact: &Artifact<'_>,
    key: &PublicKey,
    material: &Material,
) -> Vec<Proof> {
    if bundle.verification_material.tlog_entries.is_empty() {
        return Vec::new();
    }
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki.to_vec()));
    let proven = material.roots.iter().filter_map(|root| {
        let result = root
            .verifier
            .verify(artifact.clone(), bundle, &policy)
            .ok()?;
        Some(Proof {
            signer: Signer::Key {
                fingerprint: key.fingerprint,
            },
            root: Some(root.name.clone()),
            signed_at: result.verified_timestamps().iter().min().copied(),
            assurance: assurance(bundle, false),
        })
    });
    proven.collect()
}
