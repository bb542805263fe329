//! `--as`: a puller, as it is written on the command line.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config;
use crate::policy::Caller;
use crate::policy::CertificateIdentity;
use crate::policy::TokenIdentity;

/// Why a text names no puller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PullerError {
    /// It begins with none of the kinds, or has nothing after it.
    #[error(
        "write user:NAME, oidc:ISSUER,SUBJECT, oidc:ISSUER,SUBJECT,CLAIM=VALUE or certificate:DNS"
    )]
    Form,
    /// A claim without a value.
    #[error("{0:?} is no claim: write CLAIM=VALUE, or OUTER/INNER=VALUE for one within another")]
    Claim(String),
}

/// A puller for whom an image is to be judged. Nothing of it is verified: that is what the
/// person at the command line says.
pub(super) fn parse(text: &str) -> Result<Caller, PullerError> {
    let (kind, rest) = text.split_once(':').ok_or(PullerError::Form)?;
    if rest.is_empty() {
        return Err(PullerError::Form);
    }
    match kind {
        "user" => Ok(Caller::User(rest.into())),
        "certificate" => Ok(Caller::Certificate(Arc::new(CertificateIdentity {
            dns_names: rest.split(',').map(str::to_owned).collect(),
        }))),
        "oidc" => token(rest).map(|token| Caller::Token(Arc::new(token))),
        _ => Err(PullerError::Form),
    }
}

fn token(text: &str) -> Result<TokenIdentity, PullerError> {
    let mut parts = text.split(',');
    let (issuer, subject) = parts.next().zip(parts.next()).ok_or(PullerError::Form)?;
    if issuer.is_empty() || subject.is_empty() {
        return Err(PullerError::Form);
    }
    let issuer = config::named_issuer(issuer);
    let mut claims = BTreeMap::from([
        ("iss".to_owned(), Value::from(issuer)),
        ("sub".to_owned(), Value::from(subject)),
    ]);
    for part in parts {
        let claim = part.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = claim.ok_or_else(|| PullerError::Claim(part.to_owned()))?;
        // Some issuers name their claims by URLs.
        let (first, inner) = match name.split_once('/').filter(|_| !name.contains("://")) {
            None => (name, None),
            Some((first, inner)) => (first, Some(inner)),
        };
        let place = claims.entry(first.to_owned()).or_insert(Value::Null);
        put(place, inner, value);
    }
    Ok(TokenIdentity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        claims,
    })
}

/// Puts a value at the path within `place`.
fn put(place: &mut Value, path: Option<&str>, value: &str) {
    let Some(path) = path else {
        *place = value.into();
        return;
    };
    let (first, rest) = match path.split_once('/') {
        None => (path, None),
        Some((first, rest)) => (first, Some(rest)),
    };
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    put(&mut place[first], rest, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_has_its_form() {
        assert_eq!(parse("user:alice"), Ok(Caller::User("alice".into())));
        let Ok(Caller::Certificate(certificate)) = parse("certificate:a.test,b.test") else {
            panic!("a certificate");
        };
        assert_eq!(certificate.dns_names, ["a.test", "b.test"]);
        let text = "oidc:github-actions,repo:acme/app:ref:refs/heads/main,ref=refs/heads/main,\
                    kubernetes.io/namespace=a,kubernetes.io/serviceaccount/name=b,\
                    https://acme.test/role=x=y";
        let Ok(Caller::Token(token)) = parse(text) else {
            panic!("a token");
        };
        assert_eq!(token.issuer, "https://token.actions.githubusercontent.com");
        assert_eq!(token.subject, "repo:acme/app:ref:refs/heads/main");
        assert_eq!(
            token.claims["kubernetes.io"],
            json!({"namespace": "a", "serviceaccount": {"name": "b"}})
        );
        assert_eq!(token.claims["https://acme.test/role"], "x=y");
        assert_eq!(token.claims["sub"], "repo:acme/app:ref:refs/heads/main");
    }

    #[test]
    fn what_names_nobody_is_an_error() {
        for text in [
            "",
            "alice",
            "user:",
            "group:x",
            "oidc:google",
            "oidc:,x",
            "oidc:google,",
        ] {
            assert_eq!(parse(text), Err(PullerError::Form), "{text}");
        }
        let claim = parse("oidc:google,1,email");
        assert_eq!(claim, Err(PullerError::Claim("email".to_owned())));
    }
}
