//! What a request says of who it is from: the `Authorization` header (RFC 7617, RFC 6750),
//! parsed and not yet believed.
//!
//! Nothing else of a request is looked at: a token in the query of an URL is in logs and
//! histories, and is none here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, header};

/// The largest header that is read, in bytes: tokens with many claims have some thousand.
pub(super) const CREDENTIAL_BYTES_MAX: usize = 24 << 10;
/// What tokens of the token endpoint begin with; no JWT does.
pub(super) const OWN_PREFIX: &str = "pullgate.";

/// A credential as it was sent.
#[derive(PartialEq, Eq)]
pub(super) enum Credential {
    /// User name and password.
    Password { user: String, password: String },
    /// A token that pullgate itself gave out.
    Own(String),
    /// A token of somebody else, as a bearer's or as a password.
    Token(String),
}

/// Why there is no credential to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCredential {
    /// None was sent; or none that is one: containerd says `Basic Og==`, an empty user with an
    /// empty password, where it has none.
    Absent,
    /// More than one was sent, and which one counts is anybody's guess.
    Several,
    /// More than [`CREDENTIAL_BYTES_MAX`].
    TooLong,
    /// Neither Basic nor Bearer, or not in their form.
    Unreadable,
}

/// The one value of the header, as bytes.
pub(super) fn header_of(headers: &HeaderMap) -> Result<&[u8], NoCredential> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(NoCredential::Absent)?;
    if values.next().is_some() {
        return Err(NoCredential::Several);
    }
    if value.len() > CREDENTIAL_BYTES_MAX {
        return Err(NoCredential::TooLong);
    }
    Ok(value.as_bytes())
}

impl Credential {
    /// Reads the header's value.
    pub(super) fn parse(value: &[u8]) -> Result<Self, NoCredential> {
        let text = std::str::from_utf8(value).map_err(|_| NoCredential::Unreadable)?;
        let (scheme, rest) = text
            .trim_ascii()
            .split_once(' ')
            .ok_or(NoCredential::Unreadable)?;
        let rest = rest.trim_ascii_start();
        if scheme.eq_ignore_ascii_case("bearer") {
            return bearer(rest);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return basic(rest);
        }
        Err(NoCredential::Unreadable)
    }
}

fn bearer(token: &str) -> Result<Credential, NoCredential> {
    let visible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    match visible && !token.contains(',') {
        true if token.starts_with(OWN_PREFIX) => Ok(Credential::Own(token.to_owned())),
        true => Ok(Credential::Token(token.to_owned())),
        false => Err(NoCredential::Unreadable),
    }
}

fn basic(encoded: &str) -> Result<Credential, NoCredential> {
    let decoded = BASE64_STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(NoCredential::Unreadable)?;
    let (user, password) = decoded.split_once(':').ok_or(NoCredential::Unreadable)?;
    if decoded.contains(char::is_control) {
        return Err(NoCredential::Unreadable);
    }
    if user.is_empty() && password.is_empty() {
        return Err(NoCredential::Absent);
    }
    if looks_like_jwt(password) {
        return Ok(Credential::Token(password.to_owned()));
    }
    Ok(Credential::Password {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// Three parts in base64url of which the first begins like a JSON object: no password that a
/// person chose, and longer than bcrypt reads.
fn looks_like_jwt(password: &str) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    password.starts_with("eyJ")
        && password.split('.').count() == 3
        && password.split('.').take(2).all(|part| !part.is_empty())
        && password.bytes().all(|byte| byte == b'.' || base64url(byte))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn basic_of(text: &str) -> Result<Credential, NoCredential> {
        Credential::parse(format!("Basic {}", BASE64_STANDARD.encode(text)).as_bytes())
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let password = |user: &str, password: &str| Credential::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        assert!(basic_of("alice:a:b") == Ok(password("alice", "a:b")));
        assert!(basic_of("alice:") == Ok(password("alice", "")));
        assert!(basic_of(":word") == Ok(password("", "word")));
        let token = Credential::Token("eyJh.eyJp.c2ln".to_owned());
        assert!(basic_of("anybody:eyJh.eyJp.c2ln") == Ok(token));
        for scheme in ["Bearer", "bearer", "BEARER "] {
            let parsed = Credential::parse(format!("{scheme} a.b.c").as_bytes());
            assert!(parsed == Ok(Credential::Token("a.b.c".to_owned())));
        }
        let own = Credential::parse(b"Bearer pullgate.x.y");
        assert!(own == Ok(Credential::Own("pullgate.x.y".to_owned())));
        // Our own token is a bearer's, and nobody's password.
        assert!(basic_of("x:pullgate.x.y") == Ok(password("x", "pullgate.x.y")));
    }

    #[test]
    fn what_is_no_credential_is_told() {
        assert!(Credential::parse(b"Basic Og==") == Err(NoCredential::Absent));
        for odd in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic YWxpY2U=",
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,Basic b",
            "Digest x",
            "Basic/YTpi",
        ] {
            let parsed = Credential::parse(odd.as_bytes());
            assert!(parsed == Err(NoCredential::Unreadable), "{odd}");
        }
        assert!(basic_of("a\0b:c") == Err(NoCredential::Unreadable));
        assert!(Credential::parse(b"Bearer \xff") == Err(NoCredential::Unreadable));
    }

    #[test]
    fn one_header_of_bounded_size_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(header_of(&headers), Err(NoCredential::Absent));
        headers.append(
            header::AUTHORIZATION,
            HeaderValue::from_static("Basic YTpi"),
        );
        assert_eq!(header_of(&headers), Ok(b"Basic YTpi".as_slice()));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(header_of(&headers), Err(NoCredential::Several));
        let long = format!("Bearer {}", "x".repeat(64 << 10));
        let long = HeaderValue::try_from(long).expect("a value");
        headers.insert(header::AUTHORIZATION, long);
        assert_eq!(header_of(&headers), Err(NoCredential::TooLong));
    }
}
