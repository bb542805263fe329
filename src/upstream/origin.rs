//! Origins (scheme, host, port), base URLs, and which token services belong to a registry.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};

use super::RealmRefusal;
use crate::oci::RegistryHost;

/// Why a text is not the address of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlError {
    /// It does not parse as an absolute URL.
    #[error("a registry's URL has the form https://host[:port][/path]")]
    NotAnUrl,
    /// Another scheme than http or https.
    #[error("a registry's URL starts with https:// or http://")]
    Scheme,
    /// A user name or password in front of the host; credentials have a key of their own.
    #[error("a registry's URL carries no user name or password")]
    UserInfo,
    /// The host is not a name or an address, perhaps because of a trailing dot.
    #[error("the host of the URL is not a host name or address with an optional port")]
    Host,
    /// A query or fragment, which no registry's address has.
    #[error("a registry's URL has no query")]
    Query,
}

/// Who answers: two URLs of one origin are answered by the same server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    secure: bool,
    /// In lower case; IPv6 addresses in brackets.
    host: String,
    port: u16,
}

impl Origin {
    pub(super) fn of(uri: &Uri) -> Result<Self, ParseUrlError> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(ParseUrlError::Scheme),
        };
        let authority = uri.authority().ok_or(ParseUrlError::NotAnUrl)?.as_str();
        if authority.contains('@') {
            return Err(ParseUrlError::UserInfo);
        }
        let host: RegistryHost = authority
            .to_ascii_lowercase()
            .parse()
            .map_err(|_| ParseUrlError::Host)?;
        Ok(Self::new(secure, &host))
    }

    fn new(secure: bool, host: &RegistryHost) -> Self {
        let standard = if secure { 443 } else { 80 };
        let (host, port) = split_port(host.as_str());
        Self {
            secure,
            host: host.to_owned(),
            port: port.unwrap_or(standard),
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Divides `host[:port]`, where the host may be an IPv6 address in brackets.
pub(super) fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

/// Where a registry listens: an origin, and perhaps a path in front of `/v2/`.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    origin: Origin,
    /// Empty, or with a leading and without a trailing slash.
    prefix: String,
}

impl BaseUrl {
    /// `https://<host>`.
    #[must_use]
    pub fn https(host: &RegistryHost) -> Self {
        Self {
            origin: Origin::new(true, host),
            prefix: String::new(),
        }
    }

    /// The address of Docker Hub's registry, which is not `docker.io`.
    pub(super) fn docker_hub() -> Self {
        Self {
            origin: Origin {
                secure: true,
                host: "registry-1.docker.io".to_owned(),
                port: 443,
            },
            prefix: String::new(),
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path of `rest` (which starts with `/v2/`) on this registry.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The URL of a path and query on this registry.
    pub(super) fn join(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let origin = &self.origin;
        let scheme = if origin.secure {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        // A standard port is left out, since some registries compare the Host header as text.
        let standard = if origin.secure { 443 } else { 80 };
        let authority = if origin.port == standard {
            origin.host.clone()
        } else {
            format!("{}:{}", origin.host, origin.port)
        };
        Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path_and_query)
            .build()
    }
}

impl FromStr for BaseUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(['#', '?']) {
            return Err(ParseUrlError::Query);
        }
        let uri: Uri = text.parse().map_err(|_| ParseUrlError::NotAnUrl)?;
        Ok(Self {
            origin: Origin::of(&uri)?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The URL of a token service, where it belongs to the registry that named it: it is the
/// registry's own origin, or it is https on a name under the same registered domain, as
/// `auth.docker.io` is to `registry-1.docker.io`. Everything else, and whatever does not
/// parse, gets no request and no credentials.
pub(super) fn realm_of(realm: &str, registry: &Origin) -> Result<Uri, RealmRefusal> {
    let uri: Uri = realm.parse().map_err(|_| RealmRefusal::NotAnUrl)?;
    let origin = Origin::of(&uri).map_err(|_| RealmRefusal::NotAnUrl)?;
    if origin == *registry {
        return Ok(uri);
    }
    if !same_registered_domain(&origin.host, &registry.host) {
        return Err(RealmRefusal::Foreign);
    }
    if !origin.secure {
        return Err(RealmRefusal::Plain);
    }
    Ok(uri)
}

/// Domains under which strangers are neighbours, so that a common ending says nothing. Not
/// complete, and need not be: a registry that is hosted there asks tokens of itself.
const SHARED_DOMAINS: [&str; 20] = [
    "amazonaws.com",
    "aliyuncs.com",
    "appspot.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudapp.net",
    "cloudfront.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "jfrog.io",
    "netlify.app",
    "ngrok.io",
    "pages.dev",
    "pkg.dev",
    "run.app",
    "vercel.app",
    "windows.net",
    "workers.dev",
];

/// True when two host names surely belong to one owner: they are equal names of two labels or
/// more, or end in the same registered domain. Addresses have no owner that a name tells.
fn same_registered_domain(one: &str, other: &str) -> bool {
    let labels = |host: &str| -> Vec<String> { host.rsplit('.').map(str::to_owned).collect() };
    if is_address(one) || is_address(other) {
        return false;
    }
    let common: Vec<String> = labels(one)
        .into_iter()
        .zip(labels(other))
        .take_while(|(one, other)| one == other)
        .map(|(label, _)| label)
        .collect();
    let [top, second, ..] = common.as_slice() else {
        return false;
    };
    if SHARED_DOMAINS.contains(&format!("{second}.{top}").as_str()) {
        return one == other;
    }
    // Under country codes the second label is often a register of its own (co.uk, com.au,
    // gov.br); then the owner's name is the third.
    let register = top.len() == 2 && second.len() <= 3;
    common.len() > 2 || !register
}

/// True for IP addresses, also in forms that only system resolvers take for one (`0x7f.1`).
fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    host.starts_with('[') || last.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(&url.parse().expect("a URL")).expect("an origin")
    }

    // THREATS A1, A2 (CVE-2026-33540).
    #[test]
    fn realms_that_belong() {
        for (realm, registry) in [
            (
                "https://auth.docker.io/token",
                "https://registry-1.docker.io",
            ),
            (
                "https://AUTH.Docker.io/token",
                "https://registry-1.docker.io",
            ),
            ("https://ghcr.io/token", "https://ghcr.io"),
            ("https://ghcr.io:443/token", "https://ghcr.io"),
            ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com"),
            ("https://auth.quay.io/token", "https://quay.io"),
            ("https://r.azurecr.io/oauth2/token", "https://r.azurecr.io"),
            (
                "https://auth.acme.co.uk/token",
                "https://registry.acme.co.uk",
            ),
            (
                "https://registry.acme.test:5001/t",
                "https://registry.acme.test:5000",
            ),
            (
                "https://auth.acme.test/token",
                "http://registry.acme.test:5000",
            ),
            ("http://127.0.0.1:5000/token", "http://127.0.0.1:5000"),
            ("http://[::1]:5000/token", "http://[::1]:5000"),
            ("http://registry:5000/token", "http://registry:5000"),
        ] {
            let registry = origin(registry);
            assert!(realm_of(realm, &registry).is_ok(), "{realm} for {registry}");
        }
    }

    #[test]
    fn foreign_realms() {
        use RealmRefusal::{Foreign, NotAnUrl, Plain};
        for (realm, registry, refusal) in [
            (
                "https://evil-docker.io/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://auth.evil-docker.io/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://docker.io.evil.test/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://auth.docker.io.evil.test/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://auth.docker.com/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            ("https://io/t", "https://registry-1.docker.io", Foreign),
            (
                "https://auth.docker.io@evil.test/t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "https://user@auth.docker.io/t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "https://auth.docker.io./t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "https://auth.docker.io:/t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "http://auth.docker.io/t",
                "https://registry-1.docker.io",
                Plain,
            ),
            (
                "http://registry-1.docker.io/t",
                "https://registry-1.docker.io",
                Plain,
            ),
            (
                "http://auth.acme.test/t",
                "http://registry.acme.test",
                Plain,
            ),
            ("https://evil.co.uk/t", "https://registry.co.uk", Foreign),
            (
                "https://auth.evil.com.au/t",
                "https://registry.acme.com.au",
                Foreign,
            ),
            (
                "https://evil.azurecr.io/t",
                "https://acme.azurecr.io",
                Foreign,
            ),
            (
                "https://evil.github.io/t",
                "https://acme.github.io",
                Foreign,
            ),
            ("https://10.0.0.1/t", "https://10.0.0.2", Foreign),
            (
                "https://127.0.0.1:5001/t",
                "https://127.0.0.1:5000",
                Foreign,
            ),
            ("http://127.0.0.1:5001/t", "http://127.0.0.1:5000", Foreign),
            ("http://127.0.0.1/t", "http://127.0.0.1:5000", Foreign),
            ("https://[::1]:5001/t", "https://[::1]:5000", Foreign),
            ("https://1.0x7f.1/t", "https://2.0x7f.1", Foreign),
            ("http://registry:5001/t", "http://registry:5000", Foreign),
            ("https://localhost/t", "https://ghcr.io", Foreign),
            ("file:///etc/passwd", "https://ghcr.io", NotAnUrl),
            ("ftp://ghcr.io/t", "https://ghcr.io", NotAnUrl),
            ("data:text/plain,x", "https://ghcr.io", NotAnUrl),
            ("/token", "https://ghcr.io", NotAnUrl),
            ("//ghcr.io/token", "https://ghcr.io", NotAnUrl),
            ("https:///token", "https://ghcr.io", NotAnUrl),
            ("", "https://ghcr.io", NotAnUrl),
            ("https://ghcr.io\\@evil.test/", "https://ghcr.io", NotAnUrl),
            ("https://gh\u{441}r.io/t", "https://ghcr.io", NotAnUrl),
        ] {
            let registry = origin(registry);
            assert_eq!(
                realm_of(realm, &registry).err(),
                Some(refusal),
                "{realm} for {registry}"
            );
        }
    }

    #[test]
    fn base_urls() {
        let url: BaseUrl = "https://acme.jfrog.io/artifactory/api/docker/remote/"
            .parse()
            .expect("a base URL");
        let uri = url.join(&url.path("/v2/a/manifests/b")).expect("joins");
        assert_eq!(
            uri.to_string(),
            "https://acme.jfrog.io/artifactory/api/docker/remote/v2/a/manifests/b"
        );
        for (text, error) in [
            ("ghcr.io", ParseUrlError::Scheme),
            ("ftp://ghcr.io", ParseUrlError::Scheme),
            ("https://user:word@ghcr.io", ParseUrlError::UserInfo),
            ("https://ghcr.io/?x", ParseUrlError::Query),
            ("https://ghcr.io./", ParseUrlError::Host),
            ("https://a b", ParseUrlError::NotAnUrl),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
        }
    }
}
