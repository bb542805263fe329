//! Images as a Pod may have named them, which is what Kyverno's patterns are matched with.
//!
//! A pull does not tell how the Pod names the image. Docker Hub has several spellings; and a
//! runtime that was given a tag asks for its digest, and for the digests that an index lists. So
//! a pattern that some tag of the repository matches is for every digest of it.

use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Glob;
use crate::policy::rule::DOCKER_HUB;

/// What is asked for, in every spelling.
pub(super) struct Written {
    spellings: Vec<Spelling>,
    is_tag: bool,
}

/// One of them.
struct Spelling {
    /// The name, and the colon that is before a tag.
    name: String,
    /// The name with the tag or digest that is asked for.
    whole: String,
}

impl Written {
    pub(super) fn new(image: &ImageName, reference: &Reference) -> Self {
        let name = image.to_string();
        let names = match name.strip_prefix(DOCKER_HUB) {
            Some(repository) if image.registry.as_str() == DOCKER_HUB => {
                let short = repository.strip_prefix("/library");
                let repositories = [Some(repository), short].into_iter().flatten();
                let hosts = [DOCKER_HUB, "index.docker.io"];
                repositories
                    .flat_map(|repository| hosts.map(|host| format!("{host}{repository}")))
                    .collect()
            }
            _ => vec![name],
        };
        let spell = |name: String| Spelling {
            whole: match reference {
                Reference::Tag(tag) => format!("{name}:{tag}"),
                Reference::Digest(digest) => format!("{name}@{digest}"),
            },
            name: name + ":",
        };
        Self {
            spellings: names.into_iter().map(spell).collect(),
            is_tag: matches!(reference, Reference::Tag(_)),
        }
    }

    /// Whether one of the patterns `images` is for it, and none of `except`.
    pub(super) fn fits(&self, images: &[Glob], except: &[Glob]) -> bool {
        let some = |globs: &[Glob], fits: &dyn Fn(&Glob, &Spelling) -> bool| {
            let fits = |glob: &Glob| self.spellings.iter().any(|spelling| fits(glob, spelling));
            globs.iter().any(fits)
        };
        some(images, &|glob, spelling| self.may_mean(glob, spelling))
            && !some(except, &|glob, spelling| self.must_mean(glob, spelling))
    }

    /// Whether a Pod may have written what the pattern matches.
    fn may_mean(&self, glob: &Glob, spelling: &Spelling) -> bool {
        let some_tag = || rests(glob.as_str(), &spelling.name).any(is_some_tag);
        glob.matches(&spelling.whole) || (!self.is_tag && some_tag())
    }

    /// Whether the pattern matches whatever a Pod may have written.
    fn must_mean(&self, glob: &Glob, spelling: &Spelling) -> bool {
        let every_tag = || rests(glob.as_str(), &spelling.name).any(is_every_tag);
        glob.matches(&spelling.whole) && (self.is_tag || pins(glob) || every_tag())
    }
}

/// Whether the pattern ends with a whole digest: then it is about content, whatever its tags.
fn pins(glob: &Glob) -> bool {
    let (_, digest) = glob.as_str().rsplit_once('@').unwrap_or_default();
    digest.parse::<Digest>().is_ok()
}

/// Whether some tag matches the rest of a pattern.
fn is_some_tag(rest: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_.-*?".contains(character);
    !rest.is_empty() && rest.chars().all(plain)
}

/// Whether every tag matches the rest of a pattern.
fn is_every_tag(rest: &str) -> bool {
    rest.contains('*')
        && rest
            .replacen('?', "", 1)
            .chars()
            .all(|character| character == '*')
}

/// The ends of `pattern` that are left once it has matched `text`.
fn rests<'p>(pattern: &'p str, text: &str) -> impl Iterator<Item = &'p str> + use<'p> {
    let bytes = pattern.as_bytes();
    let mut places = vec![false; bytes.len() + 1];
    places[0] = true;
    pass_stars(bytes, &mut places);
    for byte in text.bytes() {
        let mut next = vec![false; bytes.len() + 1];
        for (place, wanted) in bytes.iter().enumerate().filter(|(place, _)| places[*place]) {
            match wanted {
                b'*' => next[place] = true,
                b'?' => next[place + 1] = true,
                wanted => next[place + 1] |= *wanted == byte,
            }
        }
        pass_stars(bytes, &mut next);
        places = next;
    }
    let ends = places.into_iter().enumerate();
    ends.filter_map(move |(place, reached)| reached.then(|| pattern.get(place..)).flatten())
}

/// A star may match nothing.
fn pass_stars(pattern: &[u8], places: &mut [bool]) {
    for (place, byte) in pattern.iter().enumerate() {
        if *byte == b'*' && places[place] {
            places[place + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::glob::wildcards;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn fits(images: &[&str], except: &[&str], asked: &str) -> bool {
        let (name, reference) = asked
            .split_once('@')
            .or_else(|| asked.rsplit_once(':'))
            .expect("a reference");
        let (registry, repository) = name.split_once('/').expect("a registry");
        let image = ImageName {
            registry: registry.parse().expect("a host"),
            repository: repository.parse().expect("a repository"),
        };
        let globs = |texts: &[&str]| -> Vec<Glob> {
            let globs = texts.iter().map(|text| Glob::over_written(text));
            globs.collect::<Result<_, _>>().expect("patterns")
        };
        let reference = reference.parse().expect("a reference");
        Written::new(&image, &reference).fits(&globs(images), &globs(except))
    }

    #[test]
    fn wildcards_know_no_segments() {
        for (pattern, asked, expected) in [
            ("ghcr.io/acme*", "ghcr.io/acme/a/b:v1", true),
            ("ghcr.io/acme*", "ghcr.io/acmeevil/a:v1", true),
            ("ghcr.io/acme/*", "ghcr.io/acmeevil/a:v1", false),
            ("*", "ghcr.io/a:v1", true),
            ("ghcr.io/acme/app", "ghcr.io/acme/app:v1", false),
            ("ghcr.io/acme/app:v?", "ghcr.io/acme/app:v1", true),
            ("ghcr.io/acme/app:v?", "ghcr.io/acme/app:v", false),
            ("ghcr.io/acme/app:v?", "ghcr.io/acme/app:v12", false),
            ("ghcr.io/acme/app:v1", "ghcr.io/acme/app:v10", false),
            // THREATS I2: a dot is a dot.
            ("ghcr.io/acme/app:*", "ghcrxio/acme/app:v1", false),
        ] {
            assert_eq!(fits(&[pattern], &[], asked), expected, "{pattern} {asked}");
        }
    }

    #[test]
    fn docker_hub_is_known_however_it_is_spelt() {
        for pattern in [
            "docker.io/nginx:*",
            "docker.io/library/nginx:*",
            "index.docker.io/library/nginx:*",
            "*/nginx:*",
        ] {
            assert!(
                fits(&[pattern], &[], "docker.io/library/nginx:1"),
                "{pattern}"
            );
        }
        assert!(!fits(&["docker.io/nginx:*"], &[], "docker.io/acme/nginx:1"));
        assert!(!fits(
            &["*"],
            &["docker.io/nginx*"],
            "docker.io/library/nginx:1"
        ));
    }

    #[test]
    fn a_digest_may_be_any_tag_of_its_repository() {
        let asked = format!("ghcr.io/acme/app@{DIGEST}");
        let other = DIGEST.replace('0', "1");
        for (images, except, expected) in [
            ("ghcr.io/acme/app:*", "", true),
            ("ghcr.io/acme/app:v1*", "", true),
            ("ghcr.io/acme/app:v1", "", true),
            ("ghcr.io/acme/*p:v1", "", true),
            ("ghcr.io/acme/apps:v1", "", false),
            ("ghcr.io/acme/app@sha256:00*", "", true),
            (&format!("ghcr.io/acme/app@{other}"), "", false),
            // What is skipped by its tag is not skipped by its digest: it may have another tag.
            ("ghcr.io/*", "ghcr.io/acme/app:dev", true),
            ("ghcr.io/*", "ghcr.io/acme/app:*", true),
            ("ghcr.io/*", "ghcr.io/acme/app@*", true),
            ("ghcr.io/*", "ghcr.io/acme/*", false),
            ("ghcr.io/*", "*acme*", false),
            ("ghcr.io/*", "ghcr.io/acme/app?*", false),
            ("ghcr.io/*", &asked, false),
            ("ghcr.io/*", &format!("ghcr.io/acme/app@{other}"), true),
        ] {
            let except = Some(except).filter(|text| !text.is_empty());
            let found = fits(&[images], except.as_slice(), &asked);
            assert_eq!(found, expected, "{images} {except:?}");
        }
    }

    proptest! {
        // The places that are reached are those that matching as a whole would go through.
        #[test]
        fn a_rest_is_what_matches_after_the_text(
            pattern in "[ab*?]{0,8}", text in "[ab]{0,6}", tail in "[ab]{0,4}",
        ) {
            let matches = |pattern: &str, text: &str| {
                regex::Regex::new(&wildcards(pattern)).expect("compiles").is_match(text)
            };
            let whole = matches(&pattern, &format!("{text}{tail}"));
            let rest = rests(&pattern, &text).any(|rest| matches(rest, &tail));
            prop_assert_eq!(whole, rest);
        }
    }
}
