//! Proofs that give way: between two signatures whoever waits for the processor has it.
//!
//! A proof takes most of a millisecond, and Linux lets even a thread of low priority go on to the end
//! of its slice. The verifier's own provider does all that is asked of this one.

use sigstore_verify::crypto::{
    CryptoProvider, Error, HashContext, KeyAlgorithm, SigningKeyPair, SigningScheme,
    aws_lc_provider, install_default_provider,
};
use sigstore_verify::types::HashAlgorithm;

use crate::hands::give_way;

/// The verifier's provider, with others' turns between its signatures.
#[derive(Debug)]
struct InTurns;

/// Has the verifier's proofs give way from now on, in all of this process. Without it they take as long
/// as they take, and prove the same.
pub fn take_turns() {
    // Where it has been done before, it is done.
    let _ = install_default_provider(&InTurns);
}

impl CryptoProvider for InTurns {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>, Error> {
        aws_lc_provider().hash(algorithm)
    }

    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        aws_lc_provider().sha256(data)
    }

    fn sha384(&self, data: &[u8]) -> [u8; 48] {
        aws_lc_provider().sha384(data)
    }

    fn sha512(&self, data: &[u8]) -> [u8; 64] {
        aws_lc_provider().sha512(data)
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        give_way();
        aws_lc_provider().verify_raw(scheme, key, data, signature)
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        give_way();
        aws_lc_provider().verify_prehashed(scheme, key, digest, signature)
    }

    fn generate_key_pair(&self, algorithm: KeyAlgorithm) -> Result<Box<dyn SigningKeyPair>, Error> {
        aws_lc_provider().generate_key_pair(algorithm)
    }

    fn key_pair_from_pkcs8_der(&self, pkcs8: &[u8]) -> Result<Box<dyn SigningKeyPair>, Error> {
        aws_lc_provider().key_pair_from_pkcs8_der(pkcs8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turns_the_same_is_proven_and_refused() {
        let scheme = SigningScheme::EcdsaP256Sha256;
        let signer = InTurns.generate_key_pair(KeyAlgorithm::EcdsaP256);
        let signer = signer.expect("a key");
        let key = signer.public_key_bytes();
        let mut signature = signer.sign_raw(b"signed").expect("a signature");
        let both = |bytes: &[u8], signature: &[u8]| {
            let digest = InTurns.sha256(bytes);
            [
                InTurns.verify_raw(scheme, key, bytes, signature).is_ok(),
                InTurns
                    .verify_prehashed(scheme, key, &digest, signature)
                    .is_ok(),
            ]
        };
        assert_eq!(both(b"signed", &signature), [true; 2]);
        assert_eq!(both(b"other", &signature), [false; 2]);
        *signature.last_mut().expect("bytes") ^= 1;
        assert_eq!(both(b"signed", &signature), [false; 2]);
    }

    #[test]
    fn the_verifier_takes_turns_once_it_is_told_to() {
        take_turns();
        take_turns();
        let provider = sigstore_verify::crypto::default_provider();
        assert_eq!(format!("{provider:?}"), "InTurns");
    }
}
