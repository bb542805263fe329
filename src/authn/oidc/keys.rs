//! An issuer's public keys (RFC 7517), and signatures under them.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::authn::oidc::TokenRefusal;
use crate::authn::oidc::jwt::Jwt;

/// The most keys that are read of one issuer.
const KEYS_MAX: usize = 64;

/// The keys of one issuer.
pub(super) struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    /// What it may sign with, by its type; and by its own word, where it has one.
    algorithms: &'static [Algorithm],
    only: Option<KeyAlgorithm>,
    public: DecodingKey,
}

/// Why there is no key to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None of that name; it may be newer than what we have.
    Unknown,
    /// The token names none, and there is more than one that it could be.
    Unnamed,
}

impl KeySet {
    /// Reads a key set. Keys of kinds that we do not verify with are passed over, as the
    /// specification asks (RFC 7517, section 5).
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(bytes)?;
        let keys = document.keys.into_iter().take(KEYS_MAX);
        Ok(Self(keys.filter_map(Key::read).collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies the signature of `jwt` with the key that it names, or with the only one that it
    /// could be signed with. `Err(NoKey)` when there is none.
    pub(super) fn verify(&self, jwt: &Jwt<'_>) -> Result<Result<(), TokenRefusal>, NoKey> {
        let fitting = || self.0.iter().filter(|key| key.signs_with(jwt.algorithm));
        let mut candidates = match &jwt.key_id {
            Some(id) => fitting()
                .filter(|key| key.id.as_ref() == Some(id))
                .collect::<Vec<_>>(),
            None => match fitting().count() {
                0 | 1 => fitting().collect(),
                _ => return Err(NoKey::Unnamed),
            },
        }
        .into_iter()
        .peekable();
        if candidates.peek().is_none() {
            return Err(NoKey::Unknown);
        }
        // Two keys of one name are two to try; their number is bounded.
        let verified = candidates.any(|key| key.verifies(jwt));
        Ok(verified.then_some(()).ok_or(TokenRefusal::Signature))
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if matches!(
            jwk.common.public_key_use,
            Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))
        ) {
            return None;
        }
        let algorithms = algorithms(&jwk.algorithm)?;
        let public = DecodingKey::from_jwk(&jwk).ok()?;
        // A shared secret published as a key would be everybody's.
        if public.family() == AlgorithmFamily::Hmac {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id,
            algorithms,
            only: jwk.common.key_algorithm,
            public,
        })
    }

    fn signs_with(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
            && self
                .only
                .is_none_or(|only| only == KeyAlgorithm::from(algorithm))
    }

    fn verifies(&self, jwt: &Jwt<'_>) -> bool {
        jsonwebtoken::crypto::verify(
            jwt.signature,
            jwt.message.as_bytes(),
            &self.public,
            jwt.algorithm,
        )
        .unwrap_or(false)
    }
}

/// What a key of this type can sign with. The type decides and never the token, so that no key
/// is used for another algorithm than its own.
fn algorithms(parameters: &AlgorithmParameters) -> Option<&'static [Algorithm]> {
    const RSA: &[Algorithm] = &[
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ];
    match parameters {
        AlgorithmParameters::RSA(_) => Some(RSA),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Some(&[Algorithm::ES256]),
            EllipticCurve::P384 => Some(&[Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
            EllipticCurve::Ed25519 => Some(&[Algorithm::EdDSA]),
            _ => None,
        },
        _ => None,
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_cannot_verify_are_passed_over() {
        let point = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let ec = |curve: &str| json!({"kty": "EC", "crv": curve, "x": point, "y": point});
        let with = |name: &str, value: &str| {
            let mut key = ec("P-256");
            key[name] = value.into();
            key
        };
        for (key, count) in [
            (ec("P-256"), 1),
            (ec("P-521"), 0),
            (ec("secp256k1"), 0),
            (with("use", "sig"), 1),
            (with("use", "enc"), 0),
            (json!({"kty": "oct", "k": "c2VjcmV0"}), 0),
            (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), 1),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": point}), 1),
            (json!({"kty": "OKP", "crv": "X25519", "x": point}), 0),
            (json!({"kty": "odd"}), 0),
            (json!("odd"), 0),
        ] {
            let text = json!({"keys": [key]}).to_string();
            let keys = KeySet::parse(text.as_bytes()).expect("a key set");
            assert_eq!(keys.len(), count, "{text}");
        }
        assert!(KeySet::parse(b"{}").is_err());
        let many = json!({"keys": vec![ec("P-256"); 1000]}).to_string();
        let many = KeySet::parse(many.as_bytes()).expect("a key set");
        assert_eq!(many.len(), KEYS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_keys_or_not(
            bytes: Vec<u8>,
            kind in "(RSA|EC|OKP|oct)",
            curve in "(P-256|P-384|Ed25519|x)",
            number in "[A-Za-z0-9_=-]{0,50}",
        ) {
            let _ = KeySet::parse(&bytes);
            let key = json!({
                "kty": kind, "crv": curve, "n": number, "e": "AQAB", "x": number, "y": number, "k": number,
            });
            let text = json!({"keys": [key, key]}).to_string();
            let keys = KeySet::parse(text.as_bytes()).expect("a key set");
            proptest::prop_assert!(keys.len() <= 2);
            if let Ok(jwt) = Jwt::parse("eyJhbGciOiJFUzI1NiJ9.e30.c2ln") {
                let _ = keys.verify(&jwt);
            }
        }
    }
}
