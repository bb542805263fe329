//! JSON Web Tokens as they travel (RFC 7515, RFC 7519): taken apart, and not yet believed.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::authn::oidc::TokenRefusal;

/// The largest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The largest header of a token, encoded: an algorithm and a key's name.
const HEADER_BYTES_MAX: usize = 2 << 10;

/// A token in its parts.
pub(super) struct Jwt<'a> {
    /// How it says it is signed; one of those that we verify.
    pub(super) algorithm: Algorithm,
    /// The key that it says it is signed with.
    pub(super) key_id: Option<String>,
    /// What is signed: header and claims, encoded.
    pub(super) message: &'a str,
    /// The signature, encoded.
    pub(super) signature: &'a str,
    /// What it claims.
    pub(super) claims: Map<String, Value>,
}

/// The members of a header that mean something here. A key that the token brings along (`jwk`,
/// `jku`, `x5c`) is not looked at: a token does not vouch for itself.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenRefusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefusal::Malformed("it is larger than 16 KiB"));
        }
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(TokenRefusal::Malformed("it does not have three parts"));
        };
        if header.len() > HEADER_BYTES_MAX {
            return Err(TokenRefusal::Malformed("its header is larger than 2 KiB"));
        }
        let header: Header = part(header, "its header is not what a header is")?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: what is critical and not understood makes the token invalid.
            return Err(TokenRefusal::Malformed(
                "its header has critical extensions",
            ));
        }
        Ok(Self {
            algorithm: algorithm(&header.alg)?,
            key_id: header.kid,
            message: &token[..token.len() - signature.len() - 1],
            signature,
            claims: part(claims, "its claims are not a JSON object")?,
        })
    }

    /// The issuer that it names, before anything is proven.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

fn part<T: for<'de> Deserialize<'de>>(
    encoded: &str,
    wrong: &'static str,
) -> Result<T, TokenRefusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded);
    let bytes = bytes.map_err(|_| TokenRefusal::Malformed(wrong))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenRefusal::Malformed(wrong))
}

/// The algorithms that we verify. `none` is not one, nor is any with a shared secret: an
/// issuer's keys are public, so a signature made with one as a secret is anybody's.
fn algorithm(name: &str) -> Result<Algorithm, TokenRefusal> {
    match name {
        "RS256" => Ok(Algorithm::RS256),
        "RS384" => Ok(Algorithm::RS384),
        "RS512" => Ok(Algorithm::RS512),
        "PS256" => Ok(Algorithm::PS256),
        "PS384" => Ok(Algorithm::PS384),
        "PS512" => Ok(Algorithm::PS512),
        "ES256" => Ok(Algorithm::ES256),
        "ES384" => Ok(Algorithm::ES384),
        "EdDSA" => Ok(Algorithm::EdDSA),
        _ => Err(TokenRefusal::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let encoded = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encoded(header), encoded(claims))
    }

    fn refusal(token: &str) -> TokenRefusal {
        Jwt::parse(token).err().expect("a refusal")
    }

    #[test]
    fn a_token_is_taken_apart() {
        let token = token(r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#, r#"{"iss":"x"}"#);
        let jwt = Jwt::parse(&token).expect("a token");
        assert_eq!(jwt.algorithm, Algorithm::ES256);
        assert_eq!(jwt.key_id.as_deref(), Some("k"));
        assert_eq!(jwt.issuer(), Some("x"));
        assert_eq!(format!("{}.{}", jwt.message, jwt.signature), token);
    }

    #[test]
    fn algorithms_that_prove_nothing_are_refused() {
        for name in [
            "none", "None", "HS256", "HS384", "HS512", "rs256", "ES512", "ES256K", "",
        ] {
            let token = token(&format!(r#"{{"alg":"{name}"}}"#), "{}");
            assert_eq!(refusal(&token), TokenRefusal::Algorithm, "{name}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_before_anything_is_asked() {
        let good = r#"{"alg":"ES256"}"#;
        for odd in [
            String::new(),
            "a.b".to_owned(),
            "a.b.c".to_owned(),
            format!("{}.x", token(good, "{}")),
            token(good, "[]"),
            token(good, "{"),
            token("{}", "{}"),
            token(r#"{"alg":1}"#, "{}"),
            token(r#"{"alg":"ES256","crit":["x"]}"#, "{}"),
            token(
                &format!(r#"{{"alg":"ES256","x":"{}"}}"#, "x".repeat(4000)),
                "{}",
            ),
            token(good, &format!(r#"{{"x":"{}"}}"#, "x".repeat(64 << 10))),
            token(good, &"[".repeat(10_000)),
        ] {
            let refused = refusal(&odd);
            assert!(matches!(refused, TokenRefusal::Malformed(_)), "{refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_tokens_never_panic(token in "[A-Za-z0-9._-]{0,80}") {
            let _ = Jwt::parse(&token);
        }
    }
}
