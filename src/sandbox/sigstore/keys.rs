//! The private keys of the sandbox.

use std::fmt;

use aws_lc_rs::digest::{self, Digest, SHA256, SHA384, SHA512};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};

use super::encoding::{built, pem, sha256};

/// What a key is, and how it signs.
///
/// Which hash belongs to which key is what cosign 3.1.3 was seen to use (`import-key-pair`, then
/// `sign --key` and `attest --key`): the hash fits the curve, RSA signs by PKCS #1 v1.5 with
/// SHA-256 whatever its size. Its own `verify --key` takes SHA-256 for granted, and wants to be
/// told of another one (`--signature-digest-algorithm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// ECDSA P-256 with SHA-256: what `cosign generate-key-pair` makes.
    P256,
    /// ECDSA P-384 with SHA-384.
    P384,
    /// ECDSA P-384 with SHA-256, which earlier versions of cosign used for every curve.
    P384Sha256,
    /// ECDSA P-521 with SHA-512.
    P521,
    /// Ed25519 over the message itself. (cosign 3 signs images by Ed25519ph instead, which its
    /// own `verify --key` refuses.)
    Ed25519,
    /// RSA of 2048 bits, PKCS #1 v1.5.
    Rsa2048,
    /// RSA of 3072 bits, PKCS #1 v1.5.
    Rsa3072,
    /// RSA of 4096 bits, PKCS #1 v1.5.
    Rsa4096,
    /// RSA of 2048 bits, PSS: what some key management services make.
    Rsa2048Pss,
}

impl KeyType {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::P256,
        Self::P384,
        Self::P384Sha256,
        Self::P521,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::Rsa2048Pss,
    ];

    /// What Sigstore's `PublicKeyDetails` call it.
    pub(super) fn details(self) -> &'static str {
        match self {
            Self::P256 => "PKIX_ECDSA_P256_SHA_256",
            Self::P384 => "PKIX_ECDSA_P384_SHA_384",
            Self::P384Sha256 => "PKIX_ECDSA_P384_SHA_256",
            Self::P521 => "PKIX_ECDSA_P521_SHA_512",
            Self::Ed25519 => "PKIX_ED25519",
            Self::Rsa2048 => "PKIX_RSA_PKCS1V15_2048_SHA256",
            Self::Rsa3072 => "PKIX_RSA_PKCS1V15_3072_SHA256",
            Self::Rsa4096 => "PKIX_RSA_PKCS1V15_4096_SHA256",
            Self::Rsa2048Pss => "PKIX_RSA_PSS_2048_SHA256",
        }
    }

    /// The hash under which logs keep what such a key signed. Pure Ed25519 has none of its own;
    /// logs then take SHA-256.
    pub(super) fn hash(self) -> Hash {
        match self {
            Self::P384 => Hash::Sha384,
            Self::P521 => Hash::Sha512,
            _ => Hash::Sha256,
        }
    }
}

/// A hash algorithm by its names in logs and bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// Its name in entries of Rekor v1.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Its name in Sigstore's protobuf messages.
    pub(super) fn protobuf_name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA2_256",
            Self::Sha384 => "SHA2_384",
            Self::Sha512 => "SHA2_512",
        }
    }

    pub(super) fn of(self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }
}

/// A signer's key.
pub struct KeyPair {
    kind: KeyType,
    private: Private,
}

enum Private {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

impl KeyPair {
    /// A fresh key of the usual type, P-256.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(KeyType::P256)
    }

    /// A fresh key. Large RSA keys take a second.
    #[must_use]
    pub fn of(kind: KeyType) -> Self {
        let ecdsa = |algorithm| Private::Ecdsa(built(EcdsaKeyPair::generate(algorithm)));
        let rsa = |size| Private::Rsa(built(rsa::KeyPair::generate(size)));
        let private = match kind {
            KeyType::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyType::P384 | KeyType::P384Sha256 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyType::P521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeyType::Ed25519 => Private::Ed25519(built(Ed25519KeyPair::generate())),
            KeyType::Rsa2048 | KeyType::Rsa2048Pss => rsa(KeySize::Rsa2048),
            KeyType::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyType::Rsa4096 => rsa(KeySize::Rsa4096),
        };
        Self { kind, private }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// The public key, as the DER of a SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.private {
            Private::Ecdsa(key) => built(key.public_key().as_der()),
            Private::Ed25519(key) => built(key.public_key().as_der()),
            Private::Rsa(key) => built(key.public_key().as_der()),
        };
        der.as_ref().to_vec()
    }

    /// The public key, as a PEM document: the content of `cosign.pub`.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_key_der())
    }

    /// A signature over `message`, in the way of its type.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Ecdsa(key) if self.kind == KeyType::P384Sha256 => {
                sign_sha256_with_p384(key, message)
            }
            Private::Ecdsa(key) => built(key.sign(&random, message)).as_ref().to_vec(),
            Private::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                built(match self.kind {
                    KeyType::Rsa2048Pss => {
                        key.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                    }
                    _ => key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature),
                });
                signature
            }
        }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.kind)
    }
}

/// A signature over the SHA-256 of `message` by a key on P-384.
///
/// The backend ties the hash to the curve when it signs. ECDSA only sees an integer that is at
/// most as long as the curve's order, so a SHA-256 digest with zeros in front is the same
/// integer, and the signature the same, as if the hash had been free.
fn sign_sha256_with_p384(key: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    let mut widened = [0; 48];
    widened[16..].copy_from_slice(&sha256(&[message]));
    let digest = built(Digest::import_less_safe(&widened, &SHA384));
    built(key.sign_digest(&digest)).as_ref().to_vec()
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
    pub(super) fn sign_sha256(&self, message: &[u8]) -> Vec<u8> {
        sign_sha256_with_p384(&self.0, message)
    }
}

/// The key of a transparency log: P-256 for Rekor v1, Ed25519 for Rekor v2.
pub(super) struct LogKey(KeyPair);

impl LogKey {
    pub(super) fn ecdsa() -> Self {
        Self(KeyPair::of(KeyType::P256))
    }

    pub(super) fn ed25519() -> Self {
        Self(KeyPair::of(KeyType::Ed25519))
    }

    pub(super) fn public_key_der(&self) -> Vec<u8> {
        self.0.public_key_der()
    }

    /// What a trusted root calls the kind of key.
    pub(super) fn details(&self) -> &'static str {
        self.0.kind.details()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }

    /// The identifier of the log with this key and origin. Its first four bytes are the key
    /// hint of a checkpoint. ECDSA logs predate the signed-note standard and hash the key
    /// alone (rekor-tiles, `pkg/note`).
    pub(super) fn log_id(&self, origin: &str) -> [u8; 32] {
        const NOTE_TYPE_ED25519: u8 = 1;
        match &self.0.private {
            Private::Ed25519(key) => sha256(&[
                origin.as_bytes(),
                b"\n",
                &[NOTE_TYPE_ED25519],
                key.public_key().as_ref(),
            ]),
            _ => sha256(&[&self.public_key_der()]),
        }
    }
}
