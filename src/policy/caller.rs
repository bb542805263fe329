//! Who pulls, as far as it was verified.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A caller. Everything in it was verified by the room that made it; nothing is a claim of the
/// client's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Caller {
    /// Nobody was asked, or nobody said.
    #[default]
    Anonymous,
    /// A user of the htpasswd file, by that name.
    User(Arc<str>),
    /// The bearer of an OIDC token (OpenID Connect Core 1.0, section 2).
    Token(Arc<TokenIdentity>),
    /// The holder of a client certificate.
    Certificate(Arc<CertificateIdentity>),
}

/// What a verified OIDC token says.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenIdentity {
    /// `iss`, an URL.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// Every claim, by its name.
    pub claims: BTreeMap<String, serde_json::Value>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// Its DNS names (RFC 5280, 4.2.1.6); the common name is not one of them.
    pub dns_names: Vec<String>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Token(token) => write!(f, "{} (issuer {})", token.subject, token.issuer),
            Self::Certificate(certificate) => {
                write!(f, "certificate for {}", certificate.dns_names.join(", "))
            }
        }
    }
}
