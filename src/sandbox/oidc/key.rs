//! The keys of an issuer: what they sign with (RFC 7518, section 3.1; RFC 8037), and what of
//! them is published (RFC 7517).

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};

use crate::sandbox::sigstore::encoding::{built, pem, random};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what most issuers use.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The `alg` of a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A key that signs tokens in one way.
pub(super) struct SigningKey {
    id: String,
    algorithm: Algorithm,
    private: Private,
}

enum Private {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    pub(super) fn generate(algorithm: Algorithm) -> Self {
        let ecdsa = |curve: &'static EcdsaSigningAlgorithm| {
            Private::Ecdsa(built(EcdsaKeyPair::generate(curve)))
        };
        let private = match algorithm {
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => {
                Private::Rsa(built(RsaKeyPair::generate(KeySize::Rsa2048)))
            }
            Algorithm::Es256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDsa => Private::Ed25519(built(Ed25519KeyPair::generate())),
        };
        Self {
            id: const_hex::encode(random::<8>()),
            algorithm,
            private,
        }
    }

    /// Its `kid`.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A signature over `message`, as it stands in a token.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Rsa(key) => {
                let encoding: &'static dyn RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                built(key.sign(encoding, &SystemRandom::new(), message, &mut signature));
                signature
            }
            Private::Ecdsa(key) => built(key.sign(&SystemRandom::new(), message))
                .as_ref()
                .to_vec(),
            Private::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// An HMAC-SHA-256 over `message`, with the public key's PEM as the secret: what a verifier
    /// falls for that lets the token choose between a key and a secret.
    pub(super) fn confuse(&self, message: &[u8]) -> Vec<u8> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.public_key_pem().as_bytes());
        hmac::sign(&secret, message).as_ref().to_vec()
    }

    fn public_key_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.private {
            Private::Rsa(key) => built(key.public_key().as_der()),
            Private::Ecdsa(key) => built(key.public_key().as_der()),
            Private::Ed25519(key) => built(key.public_key().as_der()),
        };
        pem("PUBLIC KEY", der.as_ref())
    }

    /// What is published of it.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.private {
            Private::Rsa(key) => {
                let (modulus, exponent) = rsa_integers(key.public_key().as_ref());
                json!({"kty": "RSA", "n": modulus, "e": exponent})
            }
            Private::Ecdsa(key) => {
                // 4, x, y: the uncompressed point (SEC 1, section 2.3.3).
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match self.algorithm {
                    Algorithm::Es384 => "P-384",
                    _ => "P-256",
                };
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            Private::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key())})
            }
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.id.as_str().into();
        jwk["alg"] = self.algorithm.name().into();
        jwk
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1), as they stand in a JWK.
fn rsa_integers(der: &[u8]) -> (String, String) {
    let mut reader = built(SliceReader::new(der));
    built(reader.sequence(|inner| {
        let modulus = base64url(UintRef::decode(inner)?.as_bytes());
        let exponent = base64url(UintRef::decode(inner)?.as_bytes());
        Ok((modulus, exponent))
    }))
}

/// Base64 as tokens and their keys have it.
pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
