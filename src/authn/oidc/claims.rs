//! What a token whose signature is proven has to claim (OpenID Connect Core 1.0, section
//! 3.1.3.7; RFC 7519, section 4.1).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::authn::oidc::TokenRefusal;
use crate::policy::TokenIdentity;

/// How far an issuer's clock may be off.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The longest subject, in bytes: it stands in records and messages.
const SUBJECT_BYTES_MAX: usize = 1024;

/// What is asked of the claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// The issuer, as it is configured.
    pub(super) issuer: &'a str,
    /// The audiences, one of which has to be meant.
    pub(super) audiences: &'a [String],
}

/// Holds the claims against what is expected.
///
/// 1. `iss` is the issuer's URL, to the letter.
/// 2. `aud` is or has one of the audiences.
/// 3. `exp` is there, and not past; `nbf` and `iat`, where they are there, are not ahead.
/// 4. `sub` is there.
///
/// Gives the identity, and when the token ends.
pub(super) fn check(
    claims: Map<String, Value>,
    expected: Expected<'_>,
    now: Timestamp,
) -> Result<(TokenIdentity, Timestamp), TokenRefusal> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(TokenRefusal::Issuer);
    }
    audience(&claims, expected.audiences)?;
    let skew = SignedDuration::try_from(CLOCK_SKEW).unwrap_or_default();
    let expires_at = time(&claims, "exp")?.ok_or(TokenRefusal::NoExpiry)?;
    if now.duration_since(expires_at) >= skew {
        return Err(TokenRefusal::Expired { at: expires_at });
    }
    for name in ["nbf", "iat"] {
        if let Some(at) = time(&claims, name)?
            && at.duration_since(now) > skew
        {
            return Err(TokenRefusal::NotYet { at });
        }
    }
    let subject = claims
        .get("sub")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let readable = !subject.contains(char::is_control) && subject.len() <= SUBJECT_BYTES_MAX;
    if subject.is_empty() || !readable {
        return Err(TokenRefusal::Subject);
    }
    let identity = TokenIdentity {
        issuer: expected.issuer.to_owned(),
        subject: subject.to_owned(),
        claims: claims.into_iter().collect(),
    };
    Ok((identity, expires_at))
}

fn audience(claims: &Map<String, Value>, audiences: &[String]) -> Result<(), TokenRefusal> {
    let is_ours = |value: &Value| {
        let named = value.as_str();
        audiences
            .iter()
            .any(|audience| Some(audience.as_str()) == named)
    };
    let meant = match claims.get("aud") {
        Some(Value::Array(several)) => several.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => return Err(TokenRefusal::NoAudience),
    };
    meant.then_some(()).ok_or_else(|| TokenRefusal::Audience {
        expected: audiences.join(", "),
    })
}

/// A NumericDate: seconds, perhaps with a fraction. What is there and is none refuses the token.
fn time(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<Timestamp>, TokenRefusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_i64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
        // Saturates, which is far outside of what a timestamp can be.
        Some(seconds.floor() as i64)
    });
    let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map(Some).ok_or(TokenRefusal::Time(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn checked(change: impl FnOnce(&mut Value)) -> Result<TokenIdentity, TokenRefusal> {
        let mut claims = json!({
            "iss": "https://issuer.test/a", "sub": "me", "aud": "pullgate", "exp": NOW + 600,
            "iat": NOW, "nbf": NOW, "extra": {"deep": 1},
        });
        change(&mut claims);
        let Value::Object(claims) = claims else {
            panic!("no object");
        };
        let audiences = ["pullgate".to_owned(), "other".to_owned()];
        let expected = Expected {
            issuer: "https://issuer.test/a",
            audiences: &audiences,
        };
        let now = Timestamp::from_second(NOW).expect("a time");
        check(claims, expected, now).map(|(identity, _)| identity)
    }

    #[test]
    fn good_claims_are_an_identity() {
        let identity = checked(|_| {}).expect("good");
        assert_eq!(identity.subject, "me");
        assert_eq!(identity.claims["extra"]["deep"], 1);
        for change in [
            |claims: &mut Value| claims["aud"] = json!(["x", "other"]),
            |claims: &mut Value| claims["exp"] = json!(NOW as f64 + 0.5),
            // Within the skew.
            |claims: &mut Value| claims["exp"] = json!(NOW - 59),
            |claims: &mut Value| claims["nbf"] = json!(NOW + 60),
            |claims: &mut Value| _ = claims.as_object_mut().expect("claims").remove("nbf"),
        ] {
            checked(change).expect("good");
        }
    }

    #[test]
    fn every_other_claim_refuses() {
        let time = |at: i64| Timestamp::from_second(at).expect("a time");
        let remove = |name: &'static str| {
            checked(|claims| _ = claims.as_object_mut().expect("claims").remove(name))
        };
        let set = |name: &'static str, value: Value| checked(|claims| claims[name] = value);
        assert_eq!(remove("iss"), Err(TokenRefusal::Issuer));
        for other in [
            "https://issuer.test/",
            "https://issuer.test/a/",
            "https://issuer.test/ab",
        ] {
            assert_eq!(
                set("iss", json!(other)),
                Err(TokenRefusal::Issuer),
                "{other}"
            );
        }
        assert_eq!(
            set("iss", json!(["https://issuer.test/a"])),
            Err(TokenRefusal::Issuer)
        );
        assert_eq!(remove("aud"), Err(TokenRefusal::NoAudience));
        for other in [
            json!("pullgate2"),
            json!([]),
            json!({}),
            json!(""),
            json!(null),
        ] {
            assert!(matches!(
                set("aud", other),
                Err(TokenRefusal::Audience { .. })
            ));
        }
        assert_eq!(remove("exp"), Err(TokenRefusal::NoExpiry));
        let at = time(NOW - 60);
        assert_eq!(
            set("exp", json!(NOW - 60)),
            Err(TokenRefusal::Expired { at })
        );
        for name in ["nbf", "iat"] {
            let at = time(NOW + 61);
            assert_eq!(set(name, json!(NOW + 61)), Err(TokenRefusal::NotYet { at }));
        }
        for name in ["exp", "nbf", "iat"] {
            for odd in [
                json!("1800000600"),
                json!(1e300),
                json!(null),
                json!(u64::MAX),
            ] {
                assert_eq!(set(name, odd), Err(TokenRefusal::Time(name)));
            }
        }
        assert_eq!(remove("sub"), Err(TokenRefusal::Subject));
        for odd in [json!(""), json!(1), json!("a\nb"), json!("x".repeat(2000))] {
            assert_eq!(set("sub", odd), Err(TokenRefusal::Subject));
        }
    }
}
