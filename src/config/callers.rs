//! Who may ask: `callers` lowered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use crate::authn::TokenKey;
use crate::authn::Users;
use crate::config::Secret;
use crate::config::pem;
use crate::config::problem::Sheet;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::units;
use crate::config::upstreams;
use crate::oci::RegistryHost;

/// How callers are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallersSettings {
    /// The file of users and what it held, where there is one. It is read again when it changes.
    pub htpasswd: Option<UsersFile>,
    /// The issuers whose tokens are taken.
    pub oidc: Vec<OidcIssuer>,
    /// What clients' certificates are held against, where they are asked for any.
    pub client_certificates: Option<ClientCertificateFiles>,
    /// The tokens that pullgate gives out itself.
    pub tokens: TokenSettings,
    /// The URL by which clients reach the pull listener, where it is not what they see there.
    pub public_url: Option<String>,
}

/// What clients' certificates are held against. The files were there and had the right form
/// when the configuration was read; they are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificateFiles {
    /// The authorities that issue them, in PEM.
    pub ca: PathBuf,
    /// Lists of those that are revoked, in PEM.
    pub revocation_list: Option<PathBuf>,
}

/// A file of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersFile {
    /// Its path.
    pub path: PathBuf,
    /// What it held when the configuration was read.
    pub users: Users,
}

/// An issuer of OpenID Connect tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcIssuer {
    /// Its URL, to the letter what its tokens have as `iss`: https, or http on loopback.
    pub url: String,
    /// What its tokens have to have as `aud`.
    pub audience: String,
    /// Certificate authorities beside those of the web: the bytes of a PEM file. Empty when
    /// there is none.
    pub ca: Vec<u8>,
}

/// The tokens that pullgate gives out itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// The key that replicas share; without one it is random, and of this process alone.
    pub key: Option<Secret>,
    /// How long they live.
    pub lifetime: Duration,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            key: None,
            lifetime: Duration::from_secs(5 * 60),
        }
    }
}

const MEND_CALLERS: &str =
    "write { htpasswd: FILE }, or { oidc: [{ issuer: URL, audience: TEXT }] }";
const MEND_ISSUER: &str = "write { issuer: https://ISSUER, audience: pullgate }";
/// What a lifetime may be: below, clients ask for a token with every request; above, who was
/// removed goes on pulling.
const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(60 * 60);

/// Lowers `callers`.
pub(super) fn lower(value: &Value<'_>, has_tls: bool) -> Option<CallersSettings> {
    let fields = value.fields(&schema::CALLERS)?;
    let htpasswd = fields.at("htpasswd").map(|value| users(&value));
    let oidc = fields.at("oidc").map(|value| issuers(&value));
    let certificates = fields
        .at("client_certificates")
        .map(|value| client_certificates(&value, has_tls));
    let somebody = htpasswd.is_some() || oidc.is_some() || certificates.is_some();
    if !somebody {
        value.error("nobody could log in", MEND_CALLERS);
    }
    let tokens = fields
        .at("tokens")
        .map_or(Some(TokenSettings::default()), |value| tokens(&value));
    let public_url = fields.at("public_url").map(|value| public_url(&value));
    somebody.then_some(())?;
    Some(CallersSettings {
        htpasswd: whole(htpasswd)?,
        oidc: oidc.map_or(Some(Vec::new()), |oidc| oidc)?,
        client_certificates: whole(certificates)?,
        tokens: tokens?,
        public_url: whole(public_url)?,
    })
}

fn users(value: &Value<'_>) -> Option<UsersFile> {
    let (path, bytes) = value.file()?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        let message = format!("{} is not UTF-8", path.display());
        value.error(&message, "write it anew with `htpasswd -nB USER`");
        return None;
    };
    let users = match Users::parse(text) {
        Ok(users) => users,
        Err(wrong) => {
            let sheet = Sheet {
                file: &path,
                problems: value.sheet().problems,
            };
            for problem in wrong {
                sheet.error(problem.line, "", &problem.message, problem.mend);
            }
            return None;
        }
    };
    if users.is_empty() {
        let message = format!("there is no user in {}", path.display());
        value.warn(&message, "add one: htpasswd -B FILE USER");
    }
    Some(UsersFile { path, users })
}

fn issuers(value: &Value<'_>) -> Option<Vec<OidcIssuer>> {
    let items = value.filled_list(MEND_ISSUER)?;
    let wanted = items.len();
    let issuers: Vec<OidcIssuer> = items.iter().filter_map(issuer).collect();
    for (position, issuer) in issuers.iter().enumerate() {
        if issuers[..position].contains(issuer) {
            value.warn(
                &format!(
                    "{} with the audience {} stands twice",
                    issuer.url, issuer.audience
                ),
                "remove one",
            );
        }
    }
    (issuers.len() == wanted).then_some(issuers)
}

fn issuer(value: &Value<'_>) -> Option<OidcIssuer> {
    let fields = value.fields(&schema::OIDC)?;
    let url = fields.required("issuer", MEND_ISSUER);
    let url = url.and_then(|value| issuer_url(&value));
    let audience = fields.required("audience", MEND_ISSUER);
    let audience = audience.and_then(|value| value.text().map(str::to_owned));
    let ca = fields.at("ca").map(|value| upstreams::certificates(&value));
    Some(OidcIssuer {
        url: url?,
        audience: audience?,
        ca: ca.map_or(Some(Vec::new()), |ca| ca)?,
    })
}

/// Not normalised: `iss` is compared to the letter, and some issuers end in a slash.
fn issuer_url(value: &Value<'_>) -> Option<String> {
    // Apart from the rest, so that the message does not show a password.
    if value.as_text().is_some_and(|text| text.contains('@')) {
        value.error(
            "there is a user name or password in this URL",
            "take it out",
        );
        return None;
    }
    value.parsed(
        |text| {
            let (uri, host) = parts(text).ok_or("not a URL of an issuer")?;
            match uri.scheme_str() {
                Some("https") => Ok(text.to_owned()),
                Some("http") if host.is_loopback() => Ok(text.to_owned()),
                _ => Err("an issuer is https, or http on this machine"),
            }
        },
        "write the `iss` of its tokens, to the letter: https://issuer.example",
    )
}

/// A URL with a host, and without user, query and fragment.
fn parts(text: &str) -> Option<(Uri, RegistryHost)> {
    if text.contains(['?', '#', '@', '"', '\\']) {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let host = uri
        .authority()?
        .as_str()
        .to_ascii_lowercase()
        .parse()
        .ok()?;
    Some((uri, host))
}

fn public_url(value: &Value<'_>) -> Option<String> {
    value.parsed(
        |text| {
            let (uri, _) = parts(text).ok_or("not a URL")?;
            let bare = matches!(uri.path(), "" | "/");
            match uri.scheme_str() {
                Some("https" | "http") if bare => Ok(text.trim_end_matches('/').to_owned()),
                _ => Err("not an https or http URL of a host alone"),
            }
        },
        "write https://HOST or https://HOST:PORT, as clients reach this gate",
    )
}

fn client_certificates(value: &Value<'_>, has_tls: bool) -> Option<ClientCertificateFiles> {
    const MEND: &str = "write { ca: clients-ca.pem }";
    if !has_tls {
        value.error(
            "without TLS no client can show a certificate",
            "add `tls: { certificate: tls.crt, key: tls.key }`",
        );
    }
    let fields = value.fields(&schema::CLIENT_CERTIFICATES)?;
    let ca = fields.required("ca", MEND).and_then(|value| {
        let (path, _) = value.file()?;
        upstreams::certificates(&value)?;
        Some(path)
    });
    let lists = fields
        .at("revocation_list")
        .map(|value| revocation_list(&value));
    Some(ClientCertificateFiles {
        ca: ca?,
        revocation_list: whole(lists)?,
    })
}

fn revocation_list(value: &Value<'_>) -> Option<PathBuf> {
    let (path, bytes) = value.file()?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let mut lists = pem::blocks(text)
        .into_iter()
        .filter(|block| block.label == "X509 CRL")
        .peekable();
    if lists.peek().is_none() || !lists.all(|block| block.der.is_some()) {
        value.error(
            &format!("{} holds no revocation list in PEM", path.display()),
            "give a file with a `-----BEGIN X509 CRL-----` block of each authority: openssl ca \
             -gencrl",
        );
        return None;
    }
    Some(path)
}

fn tokens(value: &Value<'_>) -> Option<TokenSettings> {
    let fields = value.fields(&schema::TOKENS)?;
    let key = fields.at("key_file").map(|value| token_key(&value));
    let lifetime = lifetime(&fields);
    Some(TokenSettings {
        key: whole(key)?,
        lifetime: lifetime?,
    })
}

fn token_key(value: &Value<'_>) -> Option<Secret> {
    let (path, bytes) = value.file()?;
    let text = std::str::from_utf8(&bytes).ok().map(str::trim_ascii_end);
    let text = text.filter(|text| TokenKey::shared(text.as_bytes()).is_ok());
    if text.is_none() {
        no_key(value, &path);
    }
    text.map(Secret::new)
}

fn no_key(value: &Value<'_>, path: &Path) {
    value.error(
        &format!("{} holds no text of at least 32 characters", path.display()),
        "make one, and give it to every replica: openssl rand -base64 48",
    );
}

fn lifetime(fields: &Fields<'_>) -> Option<Duration> {
    let Some(value) = fields.at("lifetime") else {
        return Some(TokenSettings::default().lifetime);
    };
    let lifetime = value.parsed(units::duration, units::DURATION_MEND)?;
    if !LIFETIMES.contains(&lifetime) {
        value.error(
            "tokens live between 1m and 1h",
            "write 5m, or remove the line",
        );
        return None;
    }
    Some(lifetime)
}
