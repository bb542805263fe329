//! What a client sent to prove who it is, on its way to an upstream that is asked with just that
//! (`credentials: caller`).
//!
//! It is a secret: it prints as nothing, goes to the upstream and its token service and nowhere
//! else, and is known in tables by a keyed hash only.

use std::{fmt, sync::LazyLock};

use aws_lc_rs::{hmac, rand};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};

/// The credentials of a caller, or that there are none.
#[derive(Clone)]
pub struct Login {
    header: Option<HeaderValue>,
    key: LoginKey,
}

/// Stands for a login in tables: equal for equal credentials, and of no use to whoever reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginKey([u8; 32]);

/// The key of the hashes, new for each process.
static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    let random = rand::SystemRandom::new();
    // A system without randomness has no TLS either; a key of zeros would still be no reason to
    // take one login for another, since the hash stays free of collisions.
    hmac::Key::generate(hmac::HMAC_SHA256, &random)
        .unwrap_or_else(|_| hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]))
});

impl Login {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            header: None,
            key: LoginKey::of(b""),
        }
    }

    /// What the one Authorization header of a request carries. Without one it is nobody, and so
    /// it is with an empty user and password, which containerd sends where it has none.
    ///
    /// # Errors
    /// [`UnusableLogin`] for several headers, and for what is neither Basic nor Bearer.
    pub fn of(headers: &HeaderMap) -> Result<Self, UnusableLogin> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = all.next() else {
            return Ok(Self::anonymous());
        };
        if all.next().is_some() {
            return Err(UnusableLogin);
        }
        let text = value.to_str().map_err(|_| UnusableLogin)?;
        let (scheme, rest) = text.split_once(' ').ok_or(UnusableLogin)?;
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = BASE64_STANDARD
                .decode(rest.trim())
                .map_err(|_| UnusableLogin)?;
            if !decoded.contains(&b':') {
                return Err(UnusableLogin);
            }
            if decoded == b":" {
                return Ok(Self::anonymous());
            }
        } else if !scheme.eq_ignore_ascii_case("bearer") || rest.trim().is_empty() {
            return Err(UnusableLogin);
        }
        let mut header = value.clone();
        header.set_sensitive(true);
        Ok(Self {
            key: LoginKey::of(value.as_bytes()),
            header: Some(header),
        })
    }

    /// Stands for it in tables.
    #[must_use]
    pub fn key(&self) -> LoginKey {
        self.key
    }

    /// True where there are no credentials.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.header.is_none()
    }

    /// User and password, for a registry or a token service that asks for them.
    pub(super) fn basic(&self) -> Option<&HeaderValue> {
        self.header.as_ref().filter(|header| !is_bearer(header))
    }

    /// A token that the client had from the registry's token service itself.
    pub(super) fn bearer(&self) -> Option<&HeaderValue> {
        self.header.as_ref().filter(|header| is_bearer(header))
    }
}

fn is_bearer(header: &HeaderValue) -> bool {
    header
        .as_bytes()
        .get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
}

impl LoginKey {
    fn of(credentials: &[u8]) -> Self {
        let tag = hmac::sign(&KEY, credentials);
        let mut key = [0; 32];
        key.copy_from_slice(tag.as_ref());
        Self(key)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(login)")
    }
}

impl fmt::Debug for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(login)")
    }
}

/// A client's Authorization header that no registry would understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization header is neither Basic nor Bearer")]
pub struct UnusableLogin;

#[cfg(test)]
mod tests {
    use super::*;

    fn login(values: &[&'static str]) -> Result<Login, UnusableLogin> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        Login::of(&headers)
    }

    #[test]
    fn logins_are_read_and_told_apart() {
        let alice = login(&["Basic YWxpY2U6d29yZA=="]).expect("a login");
        assert!(alice.basic().is_some() && alice.bearer().is_none());
        let token = login(&["bearer abc"]).expect("a login");
        assert!(token.bearer().is_some() && token.basic().is_none());
        assert_ne!(alice.key(), token.key());
        assert_ne!(alice.key(), Login::anonymous().key());
        assert_eq!(
            alice.key(),
            login(&["Basic YWxpY2U6d29yZA=="]).expect("a login").key()
        );
    }

    #[test]
    fn empty_ones_are_nobody_and_odd_ones_are_none() {
        assert!(login(&[]).expect("nobody").is_anonymous());
        // What containerd sends where it has no credentials: an empty user and password.
        assert!(login(&["Basic Og=="]).expect("nobody").is_anonymous());
        for odd in [
            "Basic",
            "Basic ???",
            "Basic YQ==",
            "Bearer ",
            "Digest a=b",
            "",
        ] {
            assert!(login(&[odd]).is_err(), "{odd:?}");
        }
        assert!(login(&["Bearer a", "Bearer b"]).is_err());
    }

    #[test]
    fn a_login_does_not_print() {
        let shown = format!("{:?}", login(&["Bearer abcdef"]).expect("a login"));
        assert_eq!(shown, "(login)");
        assert!(
            login(&["Bearer abcdef"])
                .expect("a login")
                .bearer()
                .expect("one")
                .is_sensitive()
        );
    }
}
