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

/// How much of one name a text for people holds, in characters.
const NAME_CHARACTERS_MAX: usize = 256;
/// How many names of one certificate a text for people holds.
const NAMES_MAX: usize = 5;

/// On one line and of bounded length, since callers choose what their names are.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |text: &str| short(text, NAME_CHARACTERS_MAX);
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::User(user) => write!(f, "user {}", name(user)),
            Self::Token(token) => {
                let (subject, issuer) = (name(&token.subject), name(&token.issuer));
                write!(f, "{subject} (issuer {issuer})")
            }
            Self::Certificate(certificate) => {
                let names = certificate.dns_names.iter().take(NAMES_MAX);
                let names: Vec<String> = names.map(|text| name(text)).collect();
                write!(f, "certificate for {}", names.join(", "))
            }
        }
    }
}

/// A text of a stranger's, without control characters and so long at most.
pub(super) fn short(text: &str, characters_max: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(characters_max)
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(characters_max).is_some() {
        shown.push('…');
    }
    shown
}
