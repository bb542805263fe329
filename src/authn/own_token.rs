//! The tokens that pullgate gives out itself: short-lived, for pulling from named repositories,
//! and for nothing else.
//!
//! A token is what it says and a MAC over it (HMAC-SHA256). It is not a JWT, so that no JWT
//! library's idea of an algorithm has a say in it. Whose it is stands in it, as it was verified;
//! so replicas that share the key need share nothing else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::{hmac, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::authn::credential::OWN_PREFIX;
use crate::oci::ImageName;
use crate::policy::Caller;
use crate::policy::CertificateIdentity;
use crate::policy::TokenIdentity;

/// Who gives these tokens out, and whom they are for: the `service` of the challenge.
pub const SERVICE: &str = "pullgate";
/// What is MACed begins so: no other use of the key makes a MAC of the same text.
const PURPOSE: &str = "pullgate pull token 1\n";
/// The least that a shared key has, in bytes.
const KEY_BYTES_MIN: usize = 32;

/// The key of the MAC.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    /// The operating system gives no random bytes.
    #[error("no random key could be had from the operating system")]
    NoRandom,
    /// A key that could be guessed.
    #[error("a key has at least {KEY_BYTES_MIN} bytes")]
    TooShort,
}

impl TokenKey {
    /// A key that nobody else has; it ends with the process.
    ///
    /// # Errors
    /// [`TokenKeyError::NoRandom`].
    pub fn random() -> Result<Self, TokenKeyError> {
        let random = rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random);
        key.map(Self).map_err(|_| TokenKeyError::NoRandom)
    }

    /// A key that replicas share: all bytes of a file, without white space at its end.
    ///
    /// # Errors
    /// [`TokenKeyError::TooShort`].
    pub fn shared(bytes: &[u8]) -> Result<Self, TokenKeyError> {
        let bytes = bytes.trim_ascii_end();
        if bytes.len() < KEY_BYTES_MIN {
            return Err(TokenKeyError::TooShort);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// A keyed hash, for looking secrets up without keeping them.
    pub(super) fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OwnToken {
    pub(super) caller: Caller,
    /// The repositories, by their whole names.
    pub(super) access: Vec<String>,
    pub(super) expires_at: Timestamp,
}

/// Why one of our own tokens is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnRefusal {
    /// The MAC does not fit: made by nobody here, or before a restart.
    #[error("it was not given out by this gate, or before it was restarted")]
    Foreign,
    /// It has ended, as they all soon do.
    #[error("it has expired")]
    Expired,
    /// Whoever it is of is not known here any more.
    #[error("whoever it was given to is not known any more")]
    Gone,
    /// It is for other repositories.
    #[error("it is for another repository")]
    OtherRepository,
    /// It was sent where a new one is given out.
    #[error("it cannot be exchanged for another")]
    NotExchanged,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    aud: String,
    iat: i64,
    exp: i64,
    access: Vec<String>,
    who: Who,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Who {
    User(String),
    Token {
        issuer: String,
        subject: String,
        claims: BTreeMap<String, serde_json::Value>,
    },
    Certificate(Vec<String>),
}

impl Who {
    /// Nobody in particular is given no token.
    fn of(caller: &Caller) -> Option<Self> {
        match caller {
            Caller::Anonymous => None,
            Caller::User(name) => Some(Self::User(name.to_string())),
            Caller::Token(token) => Some(Self::Token {
                issuer: token.issuer.clone(),
                subject: token.subject.clone(),
                claims: token.claims.clone(),
            }),
            Caller::Certificate(certificate) => {
                Some(Self::Certificate(certificate.dns_names.clone()))
            }
        }
    }

    fn into_caller(self) -> Caller {
        match self {
            Self::User(name) => Caller::User(name.into()),
            Self::Token {
                issuer,
                subject,
                claims,
            } => Caller::Token(Arc::new(TokenIdentity {
                issuer,
                subject,
                claims,
            })),
            Self::Certificate(dns_names) => {
                Caller::Certificate(Arc::new(CertificateIdentity { dns_names }))
            }
        }
    }
}

/// Makes a token of `caller` for these repositories; with when it ends. It outlives neither
/// `lifetime` nor `until`, the end of what it was exchanged for.
pub(super) fn mint(
    key: &TokenKey,
    caller: &Caller,
    access: &[ImageName],
    now: Timestamp,
    lifetime: Duration,
    until: Option<Timestamp>,
) -> Option<(String, Timestamp)> {
    let end = now + SignedDuration::try_from(lifetime).ok()?;
    let end = until.map_or(end, |until| end.min(until));
    let payload = Payload {
        aud: SERVICE.to_owned(),
        iat: now.as_second(),
        exp: end.as_second(),
        access: access.iter().map(ToString::to_string).collect(),
        who: Who::of(caller)?,
    };
    let payload = serde_json::to_vec(&payload).ok()?;
    let payload = BASE64_URL_SAFE_NO_PAD.encode(payload);
    let mac = hmac::sign(&key.0, format!("{PURPOSE}{payload}").as_bytes());
    let mac = BASE64_URL_SAFE_NO_PAD.encode(mac.as_ref());
    let expires_at = Timestamp::from_second(end.as_second()).ok()?;
    Some((format!("{OWN_PREFIX}{payload}.{mac}"), expires_at))
}

/// Reads a token of ours. The MAC is compared first, in constant time, and nothing is parsed
/// that it does not fit.
pub(super) fn verify(key: &TokenKey, token: &str, now: Timestamp) -> Result<OwnToken, OwnRefusal> {
    let rest = token.strip_prefix(OWN_PREFIX).ok_or(OwnRefusal::Foreign)?;
    let (payload, mac) = rest.split_once('.').ok_or(OwnRefusal::Foreign)?;
    let mac = BASE64_URL_SAFE_NO_PAD
        .decode(mac)
        .map_err(|_| OwnRefusal::Foreign)?;
    hmac::verify(&key.0, format!("{PURPOSE}{payload}").as_bytes(), &mac)
        .map_err(|_| OwnRefusal::Foreign)?;
    let payload: Payload = BASE64_URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .and_then(|payload| serde_json::from_slice(&payload).ok())
        .ok_or(OwnRefusal::Foreign)?;
    if payload.aud != SERVICE {
        return Err(OwnRefusal::Foreign);
    }
    let expires_at = Timestamp::from_second(payload.exp).map_err(|_| OwnRefusal::Foreign)?;
    if expires_at <= now {
        return Err(OwnRefusal::Expired);
    }
    Ok(OwnToken {
        caller: payload.who.into_caller(),
        access: payload.access,
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);

    fn image(name: &str) -> ImageName {
        ImageName {
            registry: "r.test".parse().expect("a host"),
            repository: name.parse().expect("a name"),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn minted(key: &TokenKey, until: Option<Timestamp>) -> String {
        let alice = Caller::User("alice".into());
        let (token, _) = mint(key, &alice, &[image("a")], at(1000), LIFETIME, until).expect("one");
        token
    }

    #[test]
    fn a_token_says_whose_it_is_and_for_what() {
        let key = TokenKey::random().expect("a key");
        let token = minted(&key, None);
        let read = verify(&key, &token, at(1299)).expect("good");
        assert_eq!(read.caller, Caller::User("alice".into()));
        assert_eq!(read.access, ["r.test/a"]);
        assert_eq!(read.expires_at, at(1300));
        for caller in [
            Caller::Token(Arc::new(TokenIdentity {
                issuer: "https://issuer.test".to_owned(),
                subject: "me".to_owned(),
                claims: [("a".to_owned(), serde_json::json!({"b": [1]}))].into(),
            })),
            Caller::Certificate(Arc::new(CertificateIdentity {
                dns_names: vec!["a.test".to_owned()],
            })),
        ] {
            let (token, _) = mint(&key, &caller, &[], at(0), LIFETIME, None).expect("one");
            assert_eq!(verify(&key, &token, at(0)).expect("good").caller, caller);
        }
        assert!(mint(&key, &Caller::Anonymous, &[], at(0), LIFETIME, None).is_none());
    }

    #[test]
    fn it_ends_and_no_later_than_what_it_was_exchanged_for() {
        let key = TokenKey::random().expect("a key");
        assert_eq!(
            verify(&key, &minted(&key, None), at(1300)),
            Err(OwnRefusal::Expired)
        );
        let short = minted(&key, Some(at(1010)));
        assert!(verify(&key, &short, at(1009)).is_ok());
        assert_eq!(verify(&key, &short, at(1010)), Err(OwnRefusal::Expired));
    }

    #[test]
    fn whatever_is_changed_in_it_is_foreign() {
        let key = TokenKey::random().expect("a key");
        let token = minted(&key, None);
        let other = TokenKey::random().expect("a key");
        assert_eq!(verify(&other, &token, at(1000)), Err(OwnRefusal::Foreign));
        for position in OWN_PREFIX.len()..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("text");
            assert_eq!(
                verify(&key, &changed, at(1000)),
                Err(OwnRefusal::Foreign),
                "{position}"
            );
        }
        // Ours, and for somebody else.
        let payload = json!({"aud": "other", "iat": 1000, "exp": 1300, "access": [], "who": {"user": "alice"}});
        let payload = BASE64_URL_SAFE_NO_PAD.encode(payload.to_string());
        let mac = hmac::sign(&key.0, format!("{PURPOSE}{payload}").as_bytes());
        let mac = BASE64_URL_SAFE_NO_PAD.encode(mac.as_ref());
        let other = format!("{OWN_PREFIX}{payload}.{mac}");
        assert_eq!(verify(&key, &other, at(1000)), Err(OwnRefusal::Foreign));
        for odd in ["pullgate.", "pullgate..", "pullgate.a", "x.y.z", ""] {
            assert_eq!(
                verify(&key, odd, at(1000)),
                Err(OwnRefusal::Foreign),
                "{odd}"
            );
        }
    }

    #[test]
    fn replicas_that_share_a_key_know_each_others_tokens() {
        let shared = |bytes: &[u8]| TokenKey::shared(bytes);
        let token = minted(&shared(&[7; 32]).expect("a key"), None);
        let replica = shared(b"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\n").expect("a key");
        assert!(verify(&replica, &token, at(1000)).is_ok());
        assert_eq!(shared(&[7; 31]).err(), Some(TokenKeyError::TooShort));
    }
}
