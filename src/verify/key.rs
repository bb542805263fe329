//! Public keys: which are usable, and what each of them signs.
//!
//! A key has one encoding here, so that one key is never two signers: whatever else says the
//! same is refused when it is loaded.

use aws_lc_rs::signature::{
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Digest as _, Sha512, Signature, VerifyingKey};
use sigstore_verify::{
    crypto::{self, SigningScheme},
    types::{DerPublicKey, SignatureBytes},
};
use x509_cert::{
    der::{Decode as _, Encode as _, asn1::UintRef, oid::ObjectIdentifier},
    spki::SubjectPublicKeyInfoRef,
};

use crate::oci::Digest;
use crate::verify::HashAlgorithm;
use crate::verify::PublicKey;
use crate::verify::proof::Message;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The sizes of RSA keys in bits: what cosign makes, and what is not too slow to verify.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The kinds of keys that signatures are verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa,
}

/// One way in which a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Family(SigningScheme),
    /// As the scheme has it, but over the first bytes of a SHA-512: ECDSA takes as many of a hash
    /// as its curve has (FIPS 186-5, 6.4.1).
    OverSha512(SigningScheme),
    EcdsaP521(HashAlgorithm),
    Ed25519ph,
}

impl KeyKind {
    /// How such a key signs, the usual way first: as cosign does (P-384 over SHA-384 since
    /// version 3, over SHA-256 before; Ed25519ph since version 3, Ed25519 before; RSA by
    /// PKCS #1 v1.5), as those do who choose another hash (containers/image takes
    /// SHA-256 for everything), and as key services do that leave no
    /// choice (RSA).
    fn schemes(self) -> &'static [Scheme] {
        use Scheme::Family;
        match self {
            Self::P256 => &[
                Family(SigningScheme::EcdsaP256Sha256),
                Family(SigningScheme::EcdsaP256Sha384),
                Scheme::OverSha512(SigningScheme::EcdsaP256Sha256),
            ],
            Self::P384 => &[
                Family(SigningScheme::EcdsaP384Sha384),
                Family(SigningScheme::EcdsaP384Sha256),
                Scheme::OverSha512(SigningScheme::EcdsaP384Sha384),
            ],
            Self::P521 => &[
                Scheme::EcdsaP521(HashAlgorithm::Sha512),
                Scheme::EcdsaP521(HashAlgorithm::Sha384),
                Scheme::EcdsaP521(HashAlgorithm::Sha256),
            ],
            Self::Ed25519 => &[Scheme::Ed25519ph, Family(SigningScheme::Ed25519)],
            Self::Rsa => &[
                Family(SigningScheme::RsaPkcs1Sha256),
                Family(SigningScheme::RsaPssSha256),
                Family(SigningScheme::RsaPkcs1Sha512),
                Family(SigningScheme::RsaPssSha512),
                Family(SigningScheme::RsaPkcs1Sha384),
                Family(SigningScheme::RsaPssSha384),
            ],
        }
    }
}

/// Whether a key (SubjectPublicKeyInfo in DER) is one that signatures can be verified with.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check(spki: &[u8]) -> Result<(), String> {
    kind(spki).map(|_| ())
}

fn kind(der: &[u8]) -> Result<KeyKind, String> {
    let spki = SubjectPublicKeyInfoRef::from_der(der)
        .map_err(|error| format!("it does not parse: {error}"))?;
    if spki.to_der().ok().as_deref() != Some(der) {
        return Err("it is not written in DER".to_owned());
    }
    let key = spki.subject_public_key.as_bytes().unwrap_or_default();
    let parameters = spki.algorithm.parameters;
    match spki.algorithm.oid {
        EC => match spki.algorithm.parameters_oid() {
            Ok(P256) => point(key, 65).map(|()| KeyKind::P256),
            Ok(P384) => point(key, 97).map(|()| KeyKind::P384),
            Ok(P521) => point(key, 133).map(|()| KeyKind::P521),
            Ok(other) => Err(format!("keys on the curve {other} are not supported")),
            Err(_) => Err("its curve is spelled out instead of named".to_owned()),
        },
        ED25519 if parameters.is_none() && key.len() == 32 => Ok(KeyKind::Ed25519),
        ED25519 => Err("it is no Ed25519 key as RFC 8410 has it".to_owned()),
        RSA if parameters.is_none_or(|parameters| !parameters.is_null()) => {
            Err("its parameters are not NULL, as RFC 3279 has it for RSA".to_owned())
        }
        RSA => rsa(key),
        other => Err(format!("keys of the type {other} are not supported")),
    }
}

/// A point of so many bytes, in the form without compression (SEC 1, 2.3.3).
fn point(key: &[u8], bytes: usize) -> Result<(), String> {
    match key {
        [4, ..] if key.len() == bytes => Ok(()),
        [2 | 3, ..] => Err("its point is compressed".to_owned()),
        _ => Err("its point does not fit its curve".to_owned()),
    }
}

fn rsa(key: &[u8]) -> Result<KeyKind, String> {
    let unreadable = |error: x509_cert::der::Error| format!("it is no RSA key: {error}");
    let mut reader = x509_cert::der::SliceReader::new(key).map_err(unreadable)?;
    let modulus = x509_cert::der::Reader::sequence(&mut reader, |inner| {
        let modulus = UintRef::decode(inner)?;
        UintRef::decode(inner)?;
        Ok(modulus)
    })
    .map_err(unreadable)?;
    let bytes = modulus.as_bytes();
    let leading = bytes.first().map_or(0, |first| first.leading_zeros());
    let bits = (bytes.len() * 8).saturating_sub(leading as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!(
            "it is an RSA key of {bits} bits, and {} to {} are supported",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    Ok(KeyKind::Rsa)
}

/// The key among `keys` that made `signature` over `message`, and what it hashes with. A bundle's
/// hint (the SHA-256 of the key, as cosign writes it) says which to try first, and nothing else: it
/// is anybody's word.
pub(super) fn signer_of<'a>(
    keys: &'a [PublicKey],
    hint: &str,
    message: Message<'_>,
    signature: &SignatureBytes,
) -> Result<(&'a PublicKey, Option<HashAlgorithm>), String> {
    if keys.is_empty() {
        return Err("signed with a key, and no policy for this image names a key".to_owned());
    }
    let hint = STANDARD.decode(hint).unwrap_or_default();
    let hinted = |key: &&PublicKey| key.fingerprint.as_bytes() == hint;
    let others = keys.iter().filter(|key| !hinted(key));
    let mut in_order = keys.iter().filter(hinted).chain(others);
    let made_it = |key: &'a PublicKey| Some((key, made(key, message, signature)?));
    in_order.find_map(made_it).ok_or_else(|| {
        "the signature does not verify with any key that policy names: another key signed, or \
         it was altered"
            .to_owned()
    })
}

/// What the signature hashes with, where the key made it in one of the ways in which such keys sign.
pub(super) fn made(
    key: &PublicKey,
    message: Message<'_>,
    signature: &SignatureBytes,
) -> Option<Option<HashAlgorithm>> {
    let kind = kind(&key.spki).ok()?;
    let mut schemes = kind.schemes().iter();
    let scheme = schemes.find(|scheme| scheme.verifies(&key.spki, message, signature))?;
    Some(scheme.hash())
}

impl Scheme {
    /// What it hashes with; `None` where the kind of key says so already.
    fn hash(self) -> Option<HashAlgorithm> {
        use sigstore_verify::types::HashAlgorithm as Family;
        match self {
            Self::Family(scheme) => match scheme.hash_algorithm()? {
                Family::Sha2256 => Some(HashAlgorithm::Sha256),
                Family::Sha2384 => Some(HashAlgorithm::Sha384),
                Family::Sha2512 => Some(HashAlgorithm::Sha512),
                _ => None,
            },
            Self::OverSha512(_) => Some(HashAlgorithm::Sha512),
            Self::EcdsaP521(hash) => Some(hash),
            Self::Ed25519ph => None,
        }
    }

    fn verifies(self, spki: &[u8], message: Message<'_>, signature: &SignatureBytes) -> bool {
        let key = || {
            let spki = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
            spki.subject_public_key.as_bytes().map(<[u8]>::to_vec)
        };
        match (self, message) {
            (Self::Family(scheme), Message::Bytes(bytes)) => {
                let spki = DerPublicKey::new(spki.to_vec());
                crypto::verify_signature(&spki, bytes, signature, scheme).is_ok()
            }
            (Self::Family(scheme), Message::Digest(digest)) => {
                let spki = DerPublicKey::new(spki.to_vec());
                hashed_as(scheme, digest).is_some_and(|hash| {
                    crypto::verify_signature_prehashed(&spki, hash, signature, scheme).is_ok()
                })
            }
            (Self::OverSha512(scheme), Message::Bytes(bytes)) => {
                let spki = DerPublicKey::new(spki.to_vec());
                let hash = Sha512::digest(bytes);
                let curve = scheme.hash_algorithm().map_or(0, |own| own.digest_size());
                hash.get(..curve).is_some_and(|hash| {
                    crypto::verify_signature_prehashed(&spki, hash, signature, scheme).is_ok()
                })
            }
            (Self::EcdsaP521(hash), Message::Bytes(bytes)) => key().is_some_and(|key| {
                let scheme = match hash {
                    HashAlgorithm::Sha256 => &ECDSA_P521_SHA256_ASN1,
                    HashAlgorithm::Sha384 => &ECDSA_P521_SHA384_ASN1,
                    HashAlgorithm::Sha512 => &ECDSA_P521_SHA512_ASN1,
                };
                let key = UnparsedPublicKey::new(scheme, key);
                key.verify(bytes, signature.as_bytes()).is_ok()
            }),
            (Self::Ed25519ph, Message::Bytes(bytes)) => {
                key().is_some_and(|key| ed25519ph(&key, bytes, signature).is_some())
            }
            // Whoever has a digest alone seldom has the one that these want.
            (Self::OverSha512(_) | Self::EcdsaP521(_) | Self::Ed25519ph, Message::Digest(_)) => {
                false
            }
        }
    }
}

/// The digest's bytes, where it is by the algorithm that the scheme hashes with.
fn hashed_as(scheme: SigningScheme, digest: &Digest) -> Option<&[u8]> {
    use sigstore_verify::types::HashAlgorithm;
    match (scheme.hash_algorithm()?, digest) {
        (HashAlgorithm::Sha2256, Digest::Sha256(_))
        | (HashAlgorithm::Sha2512, Digest::Sha512(_)) => Some(digest.as_bytes()),
        _ => None,
    }
}

/// Ed25519 over the SHA-512 of the message (RFC 8032, Ed25519ph), with no context.
fn ed25519ph(key: &[u8], message: &[u8], signature: &SignatureBytes) -> Option<()> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    let signature = Signature::from_slice(signature.as_bytes()).ok()?;
    let hash = Sha512::new().chain_update(message);
    key.verify_prehashed_strict(hash, None, &signature).ok()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    /// A key of each curve, and what it signed over each hash, by OpenSSL.
    const SIGNED: &[(&str, [&str; 3])] = &[
        (
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEv0epSL62n7s/D7yKsOGor7Y+yCIGRgtNzi1h4J/6dthY\
             dZLip8AhC9FWb8sSQ3uhPG7qVH+iXX1JV3kET/xFwQ==",
            [
                "MEUCICgBIazcw+e9oG3/brR8hRnlt2j+2xjRtZXer85LgqfAAiEAjqlZ67iL/AHFAHRc9vZWBr93jzmS\
             +BrzM9T0jw1eOjA=",
                "MEQCIAb5J3hVthcZRDtYAUud6YPHG3pzI13JI26AueR+ZrWiAiANiacqNTNMYvEszNUdVc2wvVSdz5g3\
             DJAdg++lZRzALg==",
                "MEUCIGmyyC3bjqK7J4PG8auyq02EGKsbOTLzPAtmqjPRP3LwAiEA8FOEXru3eP64WpRrsqE3zu4kuXhA\
             8sGn8JuzKdj6D4E=",
            ],
        ),
        (
            "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEnlvKCc1eQmv7mqly1l3RuAy4uDt52f0UaoeIIQWSbqAmeyJv\
             EWumXBwk+FQVmDxiqzUkGDIjYFEEwohtWChBUFP1P2COjwbka2NRa49YQE0o7FryAnE7kgQIhi+EKET9",
            [
                "MGUCMQD1R93kmdPJdmJMkv3qveArctwu/OfLJpubvv0kjIuSYQbSZwri5MNjoJgjGFmJrWICMDxzjMJA\
             OUr3UginSU71G+dUXM8O+E7Suhx7HrHVhQJ1zNiMf526YT6mLWDnPKcr0Q==",
                "MGUCMQCJuH29HGDdMmp4UtmgGIDnyNPvPf2nu4Dq5e/E2pBosX1jGZvofkb8AhmXZ1nYq28CMGmnn4bT\
             THxxQl6p+AUdvs0G6ai7Np+VNDNftX2jUh3BI5omXWFAJXVi/nwPdjqyWQ==",
                "MGUCMQDi88RqboeYhqxx/OdRUd8x5chUd+P4zyPzlGqRj9tPeMzn3sgDT0S9oSsqIJFoNWgCMGTKOjdZ\
             Ui+OKnB86kCB2cj2dvFTMisJTA9LExagyFFsHrVBDt8v6zQgHHG8jcH0Yw==",
            ],
        ),
        (
            "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQA2zIV6Dy5fiMNURpQ7Rg9rb4pMJ8v9z9r2LqkWoXS5zxv\
             vaXi2oSzWbzhwt6EFaseNyUzxFJMJccEYK3eHYs4FeYAbNb6cpTngIefzn0ct7uSaEwK8Ll2acibp7Bx\
             L9+btKmU6XZoE40MLKs04hU+7axqSyWPIaZ9rvIxQWrBcDKsTWk=",
            [
                "MIGIAkIAjDUkN7FuHEw9zA0CUcstg/qcdRmGHlwnSMuK85NGJcCh7/QQ+6DJKGBJjTNieStRgtiE0J2V\
             tmzMi4yO68gw9sACQgEHnf1mCWrJgCZg8++L4+a/lvYV3Zem7P8dBExb82JGTfi4RnOk7MTIiN9Inpbp\
             MqGPC4nXjb8HyTP8JObtAlf/pg==",
                "MIGHAkIB4jFas3Mpa5rqCn5d2QsZ7wlxltidg5HeIVrdF4yuvNUyN68gLPdkWzo8kAOI3Mse9vahBEtI\
             +YmnZLHnt7pdo0sCQWkCUS2C6JZWTQELSe9G/NKiDXNXWsaS4SIQpITz4S7nGow3/ZvBlxWaV1v4biKC\
             5inZIoxOcCjg1wxefLOp9npY",
                "MIGHAkIBRxgGUNNqXyo5qkBYPCB3+4asr3CtBiMgr3uoj59oRzGOAPYE4lTafGKVh4eGTh2xPDT7rSFd\
             nAUodoUapiWv1KcCQUREUu4MKd/UONUgrUp31j0aHkZt9eDJ6GnC7p0xpgHBGo8yKw1Jl968tS54AT9Z\
             kjzO29IK4NFx9SP/goYTNH9r",
            ],
        ),
    ];
    const MESSAGE: &[u8] = b"what is signed";

    fn decoded(base64: &str) -> Vec<u8> {
        BASE64_STANDARD.decode(base64).expect("Base64")
    }

    #[test]
    fn every_curve_signs_over_every_hash() {
        for (key, signatures) in SIGNED {
            let keys = [PublicKey::from_spki(&decoded(key))];
            for (hash, signature) in HashAlgorithm::ALL.iter().zip(signatures) {
                let signature = SignatureBytes::new(decoded(signature));
                let found = signer_of(&keys, "", Message::Bytes(MESSAGE), &signature);
                let (_, found) = found.expect("signed");
                assert_eq!(found, Some(*hash));
                let other = signer_of(&keys, "", Message::Bytes(b"what is not"), &signature);
                assert!(other.is_err(), "{hash:?}");
            }
        }
    }
}
