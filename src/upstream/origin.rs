//! Origins (scheme, host, port) and the base URLs of registries.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};

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
        let (host, port) = split_port(host.as_str());
        Self {
            secure,
            host: host.to_owned(),
            port: port.unwrap_or(standard_port(secure)),
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

    fn scheme(&self) -> Scheme {
        if self.secure {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// Host and port. A standard port is left out, since some registries compare the Host
    /// header as text.
    fn authority(&self) -> String {
        if self.port == standard_port(self.secure) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn standard_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

/// Divides `host[:port]`, where the host may be an IPv6 address in brackets.
pub(super) fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

/// True where `host` is `domain` or a name below it.
pub(super) fn is_under(host: &str, domain: &str) -> bool {
    let front = host.strip_suffix(domain);
    front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
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

    /// The host that it names, with its port where that is not the standard one.
    ///
    /// # Errors
    /// [`ParseUrlError::Host`] when that is no host after all.
    pub fn host(&self) -> Result<RegistryHost, ParseUrlError> {
        let host = self.origin.authority().parse();
        host.map_err(|_| ParseUrlError::Host)
    }

    /// The path of `rest` (which starts with `/v2/`) on this registry.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The URL of a path and query on this registry.
    pub(super) fn join(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme(self.origin.scheme())
            .authority(self.origin.authority())
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

#[cfg(test)]
mod tests {
    use super::*;

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
