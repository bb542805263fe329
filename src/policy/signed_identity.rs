//! Which image a signature must have been made for, where it names one: the rules of
//! containers/image (containers-policy.json(5), `signedIdentity`).

use std::fmt;

use crate::oci::DockerReference;
use crate::oci::ImageName;

/// What the image that a signature names has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedIdentity {
    /// The very reference that is asked for.
    MatchExact,
    /// The very reference where a tag is asked for; the repository where a digest is.
    MatchRepoDigestOrExact,
    /// The repository that is asked for, under any tag.
    MatchRepository,
    /// This reference, whatever is asked for.
    ExactReference(DockerReference),
    /// This repository, whatever is asked for.
    ExactRepository(ImageName),
    /// As `MatchRepoDigestOrExact`, with one prefix of names in place of another.
    RemapIdentity {
        /// The prefix of what is asked for: a host, a namespace or a repository.
        prefix: String,
        /// The prefix that signatures carry instead.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// Whether a signature for `signed` (as the signature has it) may stand for what was asked
    /// for.
    #[must_use]
    pub fn accepts(&self, signed: &str, asked: &DockerReference) -> bool {
        let Ok(signed) = DockerReference::parse(signed) else {
            return false;
        };
        match self {
            Self::MatchExact => !signed.is_name_only() && signed == *asked,
            Self::MatchRepoDigestOrExact => digest_or_exact(&signed, asked),
            Self::MatchRepository => signed.name == asked.name,
            Self::ExactReference(reference) => !signed.is_name_only() && signed == *reference,
            Self::ExactRepository(name) => signed.name == *name,
            Self::RemapIdentity {
                prefix,
                signed_prefix,
            } => remapped(asked, prefix, signed_prefix)
                .is_some_and(|asked| digest_or_exact(&signed, &asked)),
        }
    }

    /// The rule's word, as containers/image has it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::MatchExact => "matchExact",
            Self::MatchRepoDigestOrExact => "matchRepoDigestOrExact",
            Self::MatchRepository => "matchRepository",
            Self::ExactReference(_) => "exactReference",
            Self::ExactRepository(_) => "exactRepository",
            Self::RemapIdentity { .. } => "remapIdentity",
        }
    }
}

/// Which digest is asked for needs no comparison: that the signature is for this digest is
/// proven elsewhere.
fn digest_or_exact(signed: &DockerReference, asked: &DockerReference) -> bool {
    if signed.is_name_only() {
        return false;
    }
    match (&asked.tag, &asked.digest) {
        (Some(_), _) => signed == asked,
        (None, Some(_)) => signed.name == asked.name,
        (None, None) => false,
    }
}

/// `asked` with the one prefix in place of the other; as it is where the prefix is not its own;
/// `None` where the result names nothing.
fn remapped(asked: &DockerReference, prefix: &str, signed_prefix: &str) -> Option<DockerReference> {
    let name = asked.name.to_string();
    match name.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let text = format!("{signed_prefix}{rest}");
            let renamed = DockerReference::parse(&text).ok()?;
            // What is not in its normal form there is refused, and not made so.
            if renamed.to_string() != text {
                return None;
            }
            Some(DockerReference {
                name: renamed.name,
                ..asked.clone()
            })
        }
        _ => Some(asked.clone()),
    }
}

impl fmt::Display for SignedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MatchExact => f.write_str("made for the very reference that is pulled"),
            Self::MatchRepoDigestOrExact => f.write_str(
                "made for the tag that is pulled, or for this repository if a digest is",
            ),
            Self::MatchRepository => f.write_str("made for this repository"),
            Self::ExactReference(reference) => write!(f, "made for {reference}"),
            Self::ExactRepository(name) => write!(f, "made for {name}"),
            Self::RemapIdentity {
                prefix,
                signed_prefix,
            } => write!(f, "made for {signed_prefix} in place of {prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> DockerReference {
        DockerReference::parse(text).expect("a reference")
    }

    // The cases of containers/image's policy_reference_match_test.go, in our own words.
    #[test]
    fn the_rules_are_those_of_containers_image() {
        use SignedIdentity::{MatchExact, MatchRepoDigestOrExact, MatchRepository};
        let digest = format!("sha256:{}", "ab".repeat(32));
        let other = format!("sha256:{}", "cd".repeat(32));
        let by_digest = format!("a.test/b@{digest}");
        let by_other = format!("a.test/b@{other}");
        let both = format!("a.test/b:v1@{digest}");
        // Asked for, signed for, and whether each of the three accepts it.
        for (asked, signed, exact, digest_or_exact, repository) in [
            ("a.test/b:v1", "a.test/b:v1", true, true, true),
            ("a.test/b:v1", "a.test/b:v2", false, false, true),
            ("a.test/b:v1", "a.test/c:v1", false, false, false),
            ("a.test/b:v1", "b.test/b:v1", false, false, false),
            ("a.test/b:v1", "a.test/b", false, false, true),
            ("a.test/b:v1", &by_digest, false, false, true),
            ("a.test/b:v1", &both, false, false, true),
            ("a.test/b:v1", "", false, false, false),
            ("a.test/b:v1", "not a reference", false, false, false),
            (&by_digest, "a.test/b:v1", false, true, true),
            (&by_digest, &by_digest, true, true, true),
            (&by_digest, &by_other, false, true, true),
            (&by_digest, "a.test/b", false, false, true),
            (&by_digest, "a.test/c:v1", false, false, false),
            ("docker.io/library/busybox:1", "busybox:1", true, true, true),
            ("a.test/b:v1", "a.test/b/c:v1", false, false, false),
        ] {
            let asked = parsed(asked);
            assert_eq!(
                MatchExact.accepts(signed, &asked),
                exact,
                "{asked} {signed}"
            );
            let accepts = MatchRepoDigestOrExact.accepts(signed, &asked);
            assert_eq!(accepts, digest_or_exact, "{asked} {signed}");
            let accepts = MatchRepository.accepts(signed, &asked);
            assert_eq!(accepts, repository, "{asked} {signed}");
        }
    }

    #[test]
    fn exact_ones_do_not_ask_what_is_pulled() {
        let asked = parsed("mirror.test/b:v9");
        let reference = SignedIdentity::ExactReference(parsed("a.test/b:v1"));
        assert!(reference.accepts("a.test/b:v1", &asked));
        assert!(!reference.accepts("a.test/b:v2", &asked));
        assert!(!reference.accepts("mirror.test/b:v9", &asked));
        let repository = SignedIdentity::ExactRepository(parsed("a.test/b").name);
        assert!(repository.accepts("a.test/b:v2", &asked));
        assert!(repository.accepts("a.test/b", &asked));
        assert!(!repository.accepts("mirror.test/b:v9", &asked));
    }

    #[test]
    fn prefixes_are_replaced_at_whole_parts_of_a_name() {
        let remap = |prefix: &str, signed_prefix: &str| SignedIdentity::RemapIdentity {
            prefix: prefix.to_owned(),
            signed_prefix: signed_prefix.to_owned(),
        };
        for (prefix, signed_prefix, asked, signed, accepted) in [
            ("m.test", "a.test", "m.test/b/c:v1", "a.test/b/c:v1", true),
            ("m.test", "a.test", "m.test/b/c:v1", "a.test/b/c:v2", false),
            ("m.test", "a.test", "m.test/b/c:v1", "m.test/b/c:v1", false),
            ("m.test", "a.test/x", "m.test/b:v1", "a.test/x/b:v1", true),
            ("m.test/b", "a.test/x", "m.test/b:v1", "a.test/x:v1", true),
            (
                "m.test/b",
                "a.test/x",
                "m.test/bc:v1",
                "a.test/xc:v1",
                false,
            ),
            ("m.test/b", "a.test/x", "m.test/bc:v1", "m.test/bc:v1", true),
            (
                "m.test",
                "a.test",
                "m.test:5000/b:v1",
                "a.test:5000/b:v1",
                false,
            ),
            // Not docker.io/library/b: only names in their normal form are renamed to.
            ("m.test", "docker.io", "m.test/b:v1", "b:v1", false),
            ("m.test", "docker.io", "m.test/a/b:v1", "a/b:v1", true),
            (
                "m.test/x",
                "docker.io/library",
                "m.test/x/b:v1",
                "b:v1",
                true,
            ),
        ] {
            let accepts = remap(prefix, signed_prefix).accepts(signed, &parsed(asked));
            assert_eq!(
                accepts, accepted,
                "{prefix} {signed_prefix} {asked} {signed}"
            );
        }
    }
}
