//! Scopes of the `docker` transport: which images each is for, and which of two is the more
//! specific (containers/image, `PolicyConfigurationNamespaces`).
//!
//! The requirements of the most specific scope decide alone. So a scope becomes globs over the
//! images that it is for, and the globs of every scope within it become exceptions.

use crate::oci::Digest;
use crate::oci::RegistryHost;
use crate::oci::Repository;
use crate::oci::Tag;
use crate::policy::Glob;
use crate::policy::GlobError;

const DOCKER_HUB: &str = "docker.io";
/// Other names of Docker Hub. References are normalized, so that no image has one.
const DOCKER_HUB_OTHER: &str = "index.docker.io";

/// What a scope is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything: the transport's default, or the document's.
    All,
    /// Every host below this domain, on any port.
    Below {
        /// The domain, without `*.`.
        domain: String,
    },
    /// A host with its port, a namespace or a repository, and all that is within it.
    Name {
        /// As it is written.
        text: String,
    },
    /// One tag or digest of a repository.
    Reference {
        /// As it is written.
        text: String,
    },
}

/// Why a scope can never match, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unmatched {
    pub(super) why: &'static str,
    pub(super) mend: String,
}

fn unmatched<T>(why: &'static str, mend: impl Into<String>) -> Result<T, Unmatched> {
    let mend = mend.into();
    Err(Unmatched { why, mend })
}

const MEND_NAME: &str = "write whole names: a host, `docker.io/library`, \
                         `docker.io/library/busybox`, or that with `:TAG` or `@DIGEST`";

impl Scope {
    /// Parses what is written.
    pub(super) fn parse(text: &str) -> Result<Self, Unmatched> {
        if text.is_empty() {
            return Ok(Self::All);
        }
        if let Some(domain) = text.strip_prefix("*.") {
            return Self::below(domain);
        }
        if text.contains('*') {
            return unmatched(
                "a `*` has a meaning only as the first label of a host",
                "write `*.example.com`, or name the host or namespace: each is for all within",
            );
        }
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        };
        Self::checked_host(host, path)?;
        let text = text.to_owned();
        let Some(path) = path else {
            return Ok(Self::Name { text });
        };
        let (name, is_whole) = split_reference(path)?;
        if !Repository::is_valid(name) {
            return unmatched("no repository or namespace has such a name", MEND_NAME);
        }
        if !is_whole {
            return Ok(Self::Name { text });
        }
        if host == DOCKER_HUB && !name.contains('/') {
            return unmatched(
                "on Docker Hub every repository has a namespace",
                format!("write `{DOCKER_HUB}/library/{path}`"),
            );
        }
        Ok(Self::Reference { text })
    }

    fn below(domain: &str) -> Result<Self, Unmatched> {
        if domain.contains('/') {
            return unmatched(
                "a scope that begins with `*.` is for whole hosts, and this one goes on behind",
                "remove what stands behind the host, or name the host in full",
            );
        }
        if domain.contains(':') {
            return unmatched(
                "a scope that begins with `*.` is compared with hosts without their ports",
                "remove the port: the scope is for every port",
            );
        }
        if domain.parse::<RegistryHost>().is_err() {
            return unmatched("no host can be below it", "write `*.example.com`");
        }
        let domain = domain.to_owned();
        Ok(Self::Below { domain })
    }

    fn checked_host(host: &str, path: Option<&str>) -> Result<(), Unmatched> {
        if host == DOCKER_HUB_OTHER {
            let rest = path.map(|path| format!("/{path}")).unwrap_or_default();
            return unmatched(
                "images of Docker Hub are named by `docker.io`",
                format!("write `{DOCKER_HUB}{rest}`"),
            );
        }
        // Without one of these the first part of a name is no host, but a namespace of Docker Hub.
        let is_host = host.contains(['.', ':']) || host == "localhost";
        if !is_host || host.parse::<RegistryHost>().is_err() {
            return unmatched(
                "names begin with a host: one with a dot or a port, or `localhost`, in lower case",
                MEND_NAME,
            );
        }
        Ok(())
    }

    /// The globs over the images that it is for.
    pub(super) fn globs(&self) -> Result<Vec<Glob>, GlobError> {
        match self {
            Self::All => Ok(vec![Glob::new("**")?]),
            Self::Below { domain } => Ok(vec![
                Glob::new(&format!("*.{domain}/**"))?,
                Glob::new(&format!("*.{domain}:*/**"))?,
            ]),
            Self::Name { text } => {
                let within = Glob::new(&format!("{text}/**"))?;
                Ok(match text.contains('/') {
                    true => vec![Glob::new(text)?, within],
                    false => vec![within],
                })
            }
            Self::Reference { text } => {
                // Globs over references know Docker Hub by its other name.
                let hub = text.starts_with(&format!("{DOCKER_HUB}/"));
                let prefix = if hub { "index." } else { "" };
                Ok(vec![Glob::over_references(&format!("{prefix}{text}"))?])
            }
        }
    }

    /// Whether `other` is within it, and so decides alone on what both are for.
    pub(super) fn has_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, other) => *other != Self::All,
            (Self::Below { domain }, Self::Below { domain: other }) => is_below(other, domain),
            (Self::Below { domain }, Self::Name { text } | Self::Reference { text }) => {
                let host = text.split('/').next().unwrap_or(text);
                is_below(host.split(':').next().unwrap_or(host), domain)
            }
            (Self::Name { text }, Self::Name { text: other } | Self::Reference { text: other }) => {
                other.strip_prefix(text.as_str()).is_some_and(|rest| {
                    rest.starts_with('/') || (text.contains('/') && rest.starts_with([':', '@']))
                })
            }
            _ => false,
        }
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// The name in what follows the host, and whether a tag or a digest follows.
fn split_reference(path: &str) -> Result<(&str, bool), Unmatched> {
    if let Some((name, digest)) = path.split_once('@') {
        if digest.parse::<Digest>().is_err() {
            return unmatched(
                "what stands behind the `@` is no digest",
                "write `@sha256:` and 64 digits",
            );
        }
        if name.contains(':') {
            return unmatched(
                "nothing is pulled by a tag and a digest at once",
                "keep one of the two",
            );
        }
        return Ok((name, true));
    }
    let Some((name, tag)) = path.split_once(':') else {
        return Ok((path, false));
    };
    match Tag::is_valid(tag) {
        true => Ok((name, true)),
        false => unmatched("what stands behind the `:` is no tag", MEND_NAME),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Scope {
        Scope::parse(text).unwrap_or_else(|unmatched| panic!("{text}: {unmatched:?}"))
    }

    /// The scopes that containers/image looks for, in this order, written down once more from its
    /// documentation: what the globs have to agree with.
    fn looked_for(name: &str, reference: &str) -> Vec<String> {
        let mut scopes = vec![format!("{name}{reference}"), name.to_owned()];
        let mut rest = name;
        while let Some((parent, _)) = rest.rsplit_once('/') {
            scopes.push(parent.to_owned());
            rest = parent;
        }
        let mut host = rest.split(':').next().unwrap_or(rest);
        while let Some((_, parent)) = host.split_once('.') {
            scopes.push(format!("*.{parent}"));
            host = parent;
        }
        scopes.push(String::new());
        scopes
    }

    fn is_for(scopes: &[Scope], position: usize, name: &str, reference: &str) -> bool {
        let whole = match name.starts_with("docker.io/") {
            true => format!("index.{name}{reference}"),
            false => format!("{name}{reference}"),
        };
        let fits = |scope: &Scope| {
            scope.globs().expect("globs").iter().any(|glob| {
                let text = if glob.is_over_references() {
                    &whole
                } else {
                    name
                };
                glob.matches(text)
            })
        };
        let scope = &scopes[position];
        let mut within = scopes.iter().filter(|other| scope.has_within(other));
        fits(scope) && !within.any(fits)
    }

    proptest! {
        // Whatever scopes there are, the globs choose the one that containers/image chooses.
        #[test]
        fn the_most_specific_scope_decides_alone(
            chosen in proptest::sample::subsequence(vec![
                "", "*.test", "*.b.test", "*.a.b.test", "a.b.test", "a.b.test:5000", "b.test",
                "b.test/x", "b.test/x/y", "b.test/x/y/z", "b.test/xx", "b.test/x:1", "b.test/x/y:1",
                "b.test/x/y:11", "b.test:5000/x", "docker.io", "docker.io/library",
                "docker.io/library/x", "docker.io/library/x:1", "localhost", "c.a.b.test:5000/x",
            ], 0..21),
            host in proptest::sample::select(vec![
                "b.test", "a.b.test", "a.b.test:5000", "b.test:5000", "c.a.b.test:5000",
                "docker.io", "localhost", "test.example", "ab.test",
            ]),
            path in proptest::sample::select(vec!["x", "x/y", "x/y/z", "xx", "library/x"]),
            reference in proptest::sample::select(vec![":1", ":11", ":2"]),
        ) {
            prop_assume!(host != "docker.io" || path.contains('/'));
            let scopes: Vec<Scope> = chosen.iter().map(|text| parsed(text)).collect();
            let name = format!("{host}/{path}");
            let expected = looked_for(&name, reference)
                .into_iter()
                .find_map(|text| chosen.iter().position(|chosen| *chosen == text));
            let found: Vec<usize> = (0..scopes.len())
                .filter(|position| is_for(&scopes, *position, &name, reference))
                .collect();
            prop_assert_eq!(found, Vec::from_iter(expected), "{}{} {:?}", name, reference, chosen);
        }
    }

    #[test]
    fn a_digest_is_a_scope_of_its_own() {
        let digest = format!("@sha256:{}", "ab".repeat(32));
        let scopes = [parsed("b.test/x"), parsed(&format!("b.test/x{digest}"))];
        assert!(is_for(&scopes, 1, "b.test/x", &digest));
        assert!(!is_for(&scopes, 0, "b.test/x", &digest));
        assert!(is_for(&scopes, 0, "b.test/x", ":1"));
    }

    #[test]
    fn what_can_never_match_is_told() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for text in [
            "busybox",
            "library/busybox",
            "index.docker.io/library/busybox",
            "docker.io/busybox:latest",
            "docker.io/library/",
            "docker.io/Library/busybox",
            "A.test",
            "a.test/*",
            "exa*.test",
            "*",
            "*.",
            "*.a.test:5000",
            "*.a.test/b",
            "*.*.test",
            "a.test/b:",
            "a.test/b:a:b",
            "a.test/b@sha256:00",
            &format!("a.test/b:1@{digest}"),
            "a.test/b c",
            "https://a.test/b",
            "a.test:port/b",
        ] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
        assert!(Scope::parse("docker.io/openshift").is_ok());
        assert!(Scope::parse("127.0.0.1:5000/a/b:1").is_ok());
    }
}
