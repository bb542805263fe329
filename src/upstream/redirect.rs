//! Where a redirect may lead (THREATS A3).

use std::{net::IpAddr, str::FromStr};

use http::{HeaderMap, Uri, header, uri::PathAndQuery};

use super::{RedirectRefusal, UpstreamError, address, origin, origin::Origin};
use crate::oci::RegistryHost;

/// Where blobs may be redirected to, beside the registry itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Redirects {
    /// To public addresses. The name is resolved once, every address it has must be public,
    /// and the connection goes to those very addresses.
    #[default]
    PublicAddresses,
    /// To these hosts, whatever their address, and to no others.
    Listed(Vec<HostPattern>),
}

/// A host, or all hosts under a domain; any port where none is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// True for `*.name`: any host below `name`, at any depth, but not `name` itself.
    below: bool,
    name: String,
    port: Option<u16>,
}

/// The text is not a host or `*.` and a domain, with an optional port; perhaps a whole URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a redirect host is a host name or address, or *.domain, with an optional port")]
pub struct ParseHostPatternError;

impl FromStr for HostPattern {
    type Err = ParseHostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_ascii_lowercase();
        let below = text.starts_with("*.");
        let host: RegistryHost = text
            .strip_prefix("*.")
            .unwrap_or(&text)
            .parse()
            .map_err(|_| ParseHostPatternError)?;
        let (name, port) = origin::split_port(host.as_str());
        Ok(Self {
            below,
            name: name.to_owned(),
            port,
        })
    }
}

impl HostPattern {
    fn matches(&self, origin: &Origin) -> bool {
        let name_fits = if self.below {
            origin
                .host()
                .strip_suffix(self.name.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.'))
        } else {
            origin.host() == self.name
        };
        name_fits && self.port.is_none_or(|port| port == origin.port())
    }
}

/// Who answers the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    /// The registry itself, which may have our credentials.
    Registry,
    /// A listed host, at whatever address; no credentials.
    Listed,
    /// Any host with public addresses only; no credentials.
    Public,
}

/// Judges the redirect that `headers` carry in answer to a request to `from`. Without
/// `redirects` it may not leave the registry.
pub(super) fn judge(
    headers: &HeaderMap,
    from: &Uri,
    registry: &Origin,
    redirects: Option<&Redirects>,
) -> Result<(Uri, Hop), UpstreamError> {
    let location = headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or_else(|| refuse("(nowhere)", RedirectRefusal::Location))?;
    let to = resolve(location, from)?;
    // A host only: the path and query of a presigned URL are secrets.
    let shown = to.host().unwrap_or("(no host)");
    let target = Origin::of(&to).map_err(|_| refuse(shown, RedirectRefusal::NotAnUrl))?;
    if target == *registry {
        return Ok((to, Hop::Registry));
    }
    let redirects = redirects.ok_or_else(|| refuse(shown, RedirectRefusal::AnotherHost))?;
    if registry.is_secure() && !target.is_secure() {
        return Err(refuse(shown, RedirectRefusal::Plain));
    }
    let hop = match redirects {
        Redirects::Listed(hosts) if hosts.iter().any(|host| host.matches(&target)) => Hop::Listed,
        Redirects::Listed(_) => return Err(refuse(shown, RedirectRefusal::NotListed)),
        Redirects::PublicAddresses => {
            // Names are checked where they are resolved; a literal address is not resolved.
            if literal(target.host()).is_some_and(|address| !address::is_public(address)) {
                return Err(refuse(shown, RedirectRefusal::NotPublic));
            }
            Hop::Public
        }
    };
    Ok((to, hop))
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

pub(super) fn refuse(to: &str, reason: RedirectRefusal) -> UpstreamError {
    UpstreamError::RefusedRedirect {
        to: to.to_owned(),
        reason,
    }
}

/// An absolute URL, a URL without a scheme, or an absolute path; registries send nothing else.
fn resolve(location: &str, from: &Uri) -> Result<Uri, UpstreamError> {
    let malformed = || refuse("(not a URL)", RedirectRefusal::Location);
    if location.starts_with("//") {
        let scheme = from.scheme_str().unwrap_or("https");
        return format!("{scheme}:{location}")
            .parse()
            .map_err(|_| malformed());
    }
    if !location.starts_with('/') {
        return location.parse().map_err(|_| malformed());
    }
    let path: PathAndQuery = location.parse().map_err(|_| malformed())?;
    let mut parts = from.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge_location(
        location: &str,
        registry: &str,
        redirects: &Redirects,
    ) -> Result<Hop, RedirectRefusal> {
        let from: Uri = registry.parse().expect("a URL");
        let registry = Origin::of(&from).expect("an origin");
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().expect("a header value"));
        match judge(&headers, &from, &registry, Some(redirects)) {
            Ok((_, hop)) => Ok(hop),
            Err(UpstreamError::RefusedRedirect { reason, .. }) => Err(reason),
            Err(other) => panic!("another error: {other}"),
        }
    }

    // THREATS A3: redirects to internal hosts, in every spelling.
    #[test]
    fn redirects_to_public_addresses() {
        use RedirectRefusal::{Location, NotAnUrl, NotPublic, Plain};
        for (location, expected) in [
            ("/v2/other", Ok(Hop::Registry)),
            ("https://r.acme.test/x", Ok(Hop::Registry)),
            ("//r.acme.test/x", Ok(Hop::Registry)),
            ("https://storage.test/x?sig=1", Ok(Hop::Public)),
            ("//storage.test/x", Ok(Hop::Public)),
            ("https://r.acme.test:8443/x", Ok(Hop::Public)),
            ("https://1.1.1.1/x", Ok(Hop::Public)),
            ("http://storage.test/x", Err(Plain)),
            ("http://r.acme.test/x", Err(Plain)),
            ("https://127.0.0.1/x", Err(NotPublic)),
            ("https://169.254.169.254/latest/meta-data", Err(NotPublic)),
            ("https://[::1]/x", Err(NotPublic)),
            ("https://[::ffff:10.0.0.1]/x", Err(NotPublic)),
            ("https://[64:ff9b::a00:1]/x", Err(NotPublic)),
            ("https://u:p@storage.test/x", Err(NotAnUrl)),
            ("https://storage.test@127.0.0.1/x", Err(NotAnUrl)),
            ("https://storage.test./x", Err(NotAnUrl)),
            ("file:///etc/passwd", Err(Location)),
            ("gopher://storage.test/", Err(NotAnUrl)),
            ("data:text/plain,x", Err(Location)),
            ("", Err(Location)),
            ("x/y", Err(Location)),
        ] {
            let found = judge_location(location, "https://r.acme.test", &Redirects::default());
            assert_eq!(found, expected, "{location}");
        }
    }

    #[test]
    fn redirects_to_listed_hosts() {
        let listed = Redirects::Listed(vec![
            "*.acme-storage.test".parse().expect("a pattern"),
            "127.0.0.1:9000".parse().expect("a pattern"),
        ]);
        for (location, expected) in [
            ("http://a.acme-storage.test/x", Ok(Hop::Listed)),
            ("http://a.b.ACME-storage.test:9000/x", Ok(Hop::Listed)),
            ("http://127.0.0.1:9000/x", Ok(Hop::Listed)),
            ("http://127.0.0.1:9001/x", Err(RedirectRefusal::NotListed)),
            (
                "http://acme-storage.test/x",
                Err(RedirectRefusal::NotListed),
            ),
            (
                "http://.acme-storage.test/x",
                Err(RedirectRefusal::NotAnUrl),
            ),
            (
                "http://evil-acme-storage.test/",
                Err(RedirectRefusal::NotListed),
            ),
            (
                "http://a.acme-storage.test.evil.test/",
                Err(RedirectRefusal::NotListed),
            ),
            ("http://1.1.1.1/x", Err(RedirectRefusal::NotListed)),
        ] {
            let found = judge_location(location, "http://127.0.0.1:5000", &listed);
            assert_eq!(found, expected, "{location}");
        }
    }

    #[test]
    fn patterns_are_hosts() {
        for text in [
            "",
            "*",
            "*.",
            "a.*",
            "https://a.test",
            "*.a.test/x",
            "*.*.test",
            "a b",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
