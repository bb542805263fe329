//! The private keys of the sandbox.

use std::fmt;

use aws_lc_rs::digest::{Digest, SHA384};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};

use super::encoding::{built, pem, sha256};

/// An ECDSA P-256 key that signs with SHA-256: what `cosign generate-key-pair` makes.
pub struct KeyPair(EcdsaKeyPair);

impl KeyPair {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        Self(built(EcdsaKeyPair::generate(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
        )))
    }

    /// The public key, as the DER of a SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = built(self.0.public_key().as_der());
        der.as_ref().to_vec()
    }

    /// The public key, as a PEM document: the content of `cosign.pub`.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_key_der())
    }

    /// An ASN.1 signature over the SHA-256 of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        built(self.0.sign(&SystemRandom::new(), message))
            .as_ref()
            .to_vec()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair")
    }
}

/// An ECDSA P-384 key: certificate and timestamp authorities have such.
pub(super) struct AuthorityKey(EcdsaKeyPair);

impl AuthorityKey {
    pub(super) fn generate() -> Self {
        Self(built(EcdsaKeyPair::generate(
            &ECDSA_P384_SHA384_ASN1_SIGNING,
        )))
    }

    pub(super) fn public_key_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = built(self.0.public_key().as_der());
        der.as_ref().to_vec()
    }

    /// A signature over the SHA-384 of `message`, as in certificates.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        built(self.0.sign(&SystemRandom::new(), message))
            .as_ref()
            .to_vec()
    }

    /// A signature over the SHA-256 of `message`, as timestamp authorities make it.
    ///
    /// The backend ties the hash to the curve when it signs. ECDSA only sees an integer that
    /// is at most as long as the curve's order, so a SHA-256 digest with zeros in front is
    /// the same integer, and the signature the same, as if the hash had been free.
    pub(super) fn sign_sha256(&self, message: &[u8]) -> Vec<u8> {
        let mut widened = [0; 48];
        widened[16..].copy_from_slice(&sha256(&[message]));
        let digest = built(Digest::import_less_safe(&widened, &SHA384));
        built(self.0.sign_digest(&digest)).as_ref().to_vec()
    }
}

/// The key of a transparency log.
pub(super) enum LogKey {
    /// Rekor v1.
    Ecdsa(KeyPair),
    /// Rekor v2.
    Ed25519(Ed25519KeyPair),
}

impl LogKey {
    pub(super) fn ecdsa() -> Self {
        Self::Ecdsa(KeyPair::generate())
    }

    pub(super) fn ed25519() -> Self {
        Self::Ed25519(built(Ed25519KeyPair::generate()))
    }

    pub(super) fn public_key_der(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa(key) => key.public_key_der(),
            Self::Ed25519(key) => {
                let der: PublicKeyX509Der<'_> = built(key.public_key().as_der());
                der.as_ref().to_vec()
            }
        }
    }

    /// What a trusted root calls the kind of key.
    pub(super) fn details(&self) -> &'static str {
        match self {
            Self::Ecdsa(_) => "PKIX_ECDSA_P256_SHA_256",
            Self::Ed25519(_) => "PKIX_ED25519",
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ecdsa(key) => key.sign(message),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The identifier of the log with this key and origin. Its first four bytes are the key
    /// hint of a checkpoint. ECDSA logs predate the signed-note standard and hash the key
    /// alone (rekor-tiles, `pkg/note`).
    pub(super) fn log_id(&self, origin: &str) -> [u8; 32] {
        const NOTE_TYPE_ED25519: u8 = 1;
        match self {
            Self::Ecdsa(key) => sha256(&[&key.public_key_der()]),
            Self::Ed25519(key) => sha256(&[
                origin.as_bytes(),
                b"\n",
                &[NOTE_TYPE_ED25519],
                key.public_key().as_ref(),
            ]),
        }
    }
}
