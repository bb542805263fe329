//! Repository names, tags and references (OCI distribution-spec, "Pulling manifests").

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use super::{Digest, ParseDigestError};

/// Why a text is not a name, a tag or a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Not `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/...)*`, or longer than 255 characters.
    #[error(
        "a repository name has lower-case letters, digits and single separators (. _ __ -) in \
         segments divided by /, 255 characters at most"
    )]
    Repository,
    /// Not `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    #[error("a tag has up to 128 letters, digits, dots, dashes and underscores")]
    Tag,
    /// Not a host name or address with an optional port.
    #[error("a registry is named by its host, with a port where it has one, in lower case")]
    Host,
    /// A reference with a colon has to be a digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

/// A valid repository name, without its registry: `library/busybox`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when `text` would parse; allocates nothing. It is asked on every pull, so it looks at each
    /// byte once.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        // The two bytes before; at the beginning as behind a slash.
        let mut before = (b'/', b'/');
        let fits = text.len() <= 255
            && text.bytes().all(|byte| {
                let fits = match (byte, before) {
                    (b'.' | b'_' | b'-' | b'/', (_, last)) if alphanumeric(last) => true,
                    (b'_', (first, b'_')) => alphanumeric(first),
                    (b'-', (_, b'-')) => true,
                    _ => alphanumeric(byte),
                };
                before = (before.1, byte);
                fits
            });
        fits && alphanumeric(before.1)
    }
}

impl FromStr for Repository {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Self::is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError::Repository)
        }
    }
}

/// A valid tag. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when `text` would parse; allocates nothing.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bytes = text.as_bytes();
        bytes.len() <= 128
            && bytes.first().is_some_and(|&byte| word(byte))
            && bytes
                .iter()
                .all(|&byte| word(byte) || byte == b'.' || byte == b'-')
    }
}

impl FromStr for Tag {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Self::is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError::Tag)
        }
    }
}

/// What follows `/manifests/`: a tag or a digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A name that can move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(ParseDigestError::NoAlgorithm) => text.parse().map(Self::Tag),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag.as_str()),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The host that image names carry: `ghcr.io`, `127.0.0.1:5000`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryHost(Arc<str>);

impl RegistryHost {
    /// The host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for this machine's own addresses and their name.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = match self.0.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => &self.0,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for RegistryHost {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let host_fits = if let Some(address) = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            address.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            !host.is_empty()
                && host.len() <= 253
                && host.split('.').all(|label| {
                    let label = label.as_bytes();
                    label.first().is_some_and(|&byte| name(byte))
                        && label.last().is_some_and(|&byte| name(byte))
                        && label.iter().all(|&byte| name(byte) || byte == b'-')
                })
        };
        let port_fits = port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
        if host_fits && port_fits {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError::Host)
        }
    }
}

/// A full image name, as policies see it: registry and repository, without tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName {
    /// The registry that the name carries.
    pub registry: RegistryHost,
    /// The repository there.
    pub repository: Repository,
}

impl ImageName {
    /// `name:tag` or `name@digest`, as people write it.
    #[must_use]
    pub fn with(&self, reference: &Reference) -> String {
        match reference {
            Reference::Tag(tag) => format!("{self}:{tag}"),
            Reference::Digest(digest) => format!("{self}@{digest}"),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

macro_rules! text_like {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}
text_like!(Repository, Tag, RegistryHost);

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_specification() {
        for name in ["a", "library/busybox", "a.b/c_d/e__f/g-h/i---j", "0/1"] {
            assert!(Repository::is_valid(name), "{name}");
        }
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "a/../b", "a b",
            "a%2fb", "ä", "a:b", "a@b",
        ] {
            assert!(!Repository::is_valid(name), "{name}");
        }
        assert!(!Repository::is_valid(&"a".repeat(256)));
    }

    #[test]
    fn repository_names_are_those_of_the_specifications_pattern() {
        // OCI distribution-spec, "Pulling manifests".
        const NAME: &str =
            r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$";
        let pattern = regex::Regex::new(NAME).expect("a pattern");
        let mut names = vec![String::new()];
        for _ in 0..6 {
            let longer = |name: &String| {
                ['a', '0', '.', '_', '-', '/', 'A'].map(|next| format!("{name}{next}"))
            };
            names = names.iter().flat_map(longer).collect();
            for name in &names {
                assert_eq!(Repository::is_valid(name), pattern.is_match(name), "{name}");
            }
        }
    }

    #[test]
    fn tags_and_references() {
        for tag in ["latest", "v1.0.0", "_x", "sha256-00.sig", "A-b_C.9"] {
            assert!(Tag::is_valid(tag), "{tag}");
        }
        for tag in ["", ".x", "-x", "a/b", "a:b", "a b"] {
            assert!(!Tag::is_valid(tag), "{tag}");
        }
        assert!(!Tag::is_valid(&"a".repeat(129)));
        assert!("sha256:xyz".parse::<Reference>().is_err());
    }

    // THREATS A3: user information, CRLF and paths are no host.
    #[test]
    fn registry_hosts() {
        for host in [
            "ghcr.io",
            "127.0.0.1:5000",
            "localhost",
            "[::1]:80",
            "a-b.example:443",
        ] {
            assert!(host.parse::<RegistryHost>().is_ok(), "{host}");
        }
        for host in [
            "", "a@b", "a/b", "a:b", "a:99999", "a:+1", "GHCR.io", "a\r\nb", "a b", "http://a",
            "[::1", "a..b", ".a", "a:", "-a",
        ] {
            assert!(host.parse::<RegistryHost>().is_err(), "{host:?}");
        }
    }
}
