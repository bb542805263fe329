//! Finds the policies for an image without trying every pattern: by what a pattern has before its
//! first star, which what it matches begins with. What that leaves is tried as ever.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Glob;
use crate::policy::Policy;
use crate::policy::Rules;
use crate::policy::written::Written;

/// The policies of some rules, by what their patterns begin with.
#[derive(Debug, Default)]
pub struct Index {
    policies: Vec<Arc<Policy>>,
    /// Positions in `policies` of those with a pattern over names that begins so.
    over_names: Positions,
    /// The same, of patterns over whole references.
    over_references: Positions,
    /// Positions of those with a pattern over what people may have written, which begins in
    /// several ways: each is tried.
    over_written: Vec<usize>,
}

/// Positions of policies, by what one of their patterns begins with.
#[derive(Debug, Default)]
struct Positions {
    by_beginning: HashMap<Box<str>, Vec<usize>>,
    /// The lengths of the beginnings, in bytes: no other beginning of a text is looked up.
    lengths: BTreeSet<usize>,
}

impl Index {
    /// An index of these rules.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        let mut index = Self {
            policies: rules.policies.clone(),
            ..Self::default()
        };
        for (position, policy) in rules.policies.iter().enumerate() {
            if policy.images.iter().any(Glob::is_over_written) {
                index.over_written.push(position);
            }
            for glob in &policy.images {
                if glob.is_over_written() {
                    continue;
                }
                let positions = match glob.is_over_references() {
                    true => &mut index.over_references,
                    false => &mut index.over_names,
                };
                positions.note(beginning(glob), position);
            }
        }
        index
    }

    /// As [`Rules::matching`].
    #[must_use]
    pub fn matching(&self, image: &ImageName, reference: &Reference) -> Vec<Arc<Policy>> {
        let (name, whole) = Rules::names_of(image, reference);
        let written = Written::new(image, reference);
        let mut found = self.over_names.candidates(&name);
        found.extend(self.over_references.candidates(&whole));
        found.extend(&self.over_written);
        self.those(found, |policy| {
            policy.applies_to_reference(&name, &whole, &written)
        })
    }

    /// As [`Rules::for_image`].
    #[must_use]
    pub fn for_image(&self, image: &ImageName) -> Vec<Arc<Policy>> {
        let name = image.to_string();
        let found = self.over_names.candidates(&name);
        self.those(found, |policy| policy.applies_to(&name))
    }

    /// As [`Rules::may_match`].
    #[must_use]
    pub fn may_match(&self, image: &ImageName) -> bool {
        let some_reference = !self.over_references.is_empty() || !self.over_written.is_empty();
        some_reference || !self.for_image(image).is_empty()
    }

    /// Those of the candidates that apply, in the order of the files.
    fn those(&self, mut found: Vec<usize>, applies: impl Fn(&Policy) -> bool) -> Vec<Arc<Policy>> {
        found.sort_unstable();
        found.dedup();
        let found = found.iter().map(|position| &self.policies[*position]);
        found.filter(|policy| applies(policy)).cloned().collect()
    }
}

impl Positions {
    fn note(&mut self, beginning: &str, position: usize) {
        self.lengths.insert(beginning.len());
        let same = self.by_beginning.entry(beginning.into()).or_default();
        if same.last() != Some(&position) {
            same.push(position);
        }
    }

    fn is_empty(&self) -> bool {
        self.by_beginning.is_empty()
    }

    fn candidates(&self, text: &str) -> Vec<usize> {
        let lengths = self.lengths.range(..=text.len());
        let beginnings = lengths.filter_map(|length| text.get(..*length));
        let found = beginnings.filter_map(|beginning| self.by_beginning.get(beginning));
        found.flatten().copied().collect()
    }
}

/// What everything begins with that the pattern matches: all of it where it has no star.
fn beginning(glob: &Glob) -> &str {
    let text = glob.as_str();
    text.split_once('*').map_or(text, |(literal, _)| literal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Mode;
    use crate::policy::Requirement;
    use crate::policy::Signs;

    fn policy(name: usize, images: &[Glob], except: &[Glob]) -> Arc<Policy> {
        Arc::new(Policy {
            name: name.to_string().into(),
            images: images.to_vec(),
            except: except.to_vec(),
            mode: Mode::Enforce,
            requirement: Requirement::Deny {
                reason: String::new(),
            },
            signs: Signs::Either,
            pulled_by: None,
            no_rollback: None,
        })
    }

    /// Patterns that often match: of few letters, and of stars in every place.
    fn glob() -> impl Strategy<Value = Glob> {
        let segment = prop_oneof![
            Just("a"),
            Just("b"),
            Just("*"),
            Just("**"),
            Just("a*"),
            Just("*b"),
            Just("a**b"),
        ];
        let host = prop_oneof![
            Just("h.test"),
            Just("docker.io"),
            Just("index.docker.io"),
            Just("*"),
            Just("**"),
            Just("h*"),
            Just("h.t**"),
        ];
        let end = prop_oneof![Just(""), Just(":v1"), Just(":*"), Just("@**"), Just("*")];
        let segments = prop::collection::vec(segment, 0..4);
        (host, segments, end, 0..3).prop_filter_map("a glob", |(host, segments, end, over)| {
            let text = [vec![host], segments].concat().join("/");
            match over {
                0 => Glob::over_references(&(text + end)).ok(),
                1 => Glob::over_written(&(text + end)).ok(),
                _ => Glob::new(&text).ok(),
            }
        })
    }

    fn image() -> impl Strategy<Value = (ImageName, Reference)> {
        let host = prop_oneof![Just("h.test"), Just("docker.io"), Just("hh.test")];
        let segment = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("aab")];
        let digest = crate::oci::Digest::sha256(b"one").to_string();
        let reference = prop_oneof![Just("v1".to_owned()), Just("a".to_owned()), Just(digest)];
        (host, prop::collection::vec(segment, 1..4), reference).prop_map(
            |(host, segments, reference)| {
                let image = ImageName {
                    registry: host.parse().expect("a host"),
                    repository: segments.join("/").parse().expect("a repository"),
                };
                (image, reference.parse().expect("a reference"))
            },
        )
    }

    proptest! {
        #[test]
        fn the_index_finds_what_trying_all_finds(
            patterns in prop::collection::vec(
                (prop::collection::vec(glob(), 1..4), prop::collection::vec(glob(), 0..2)),
                0..8,
            ),
            (image, reference) in image(),
        ) {
            let policies = patterns
                .iter()
                .enumerate()
                .map(|(number, (images, except))| policy(number, images, except));
            let rules = Rules { policies: policies.collect(), ..Rules::default() };
            let index = Index::new(&rules);
            prop_assert_eq!(
                index.matching(&image, &reference),
                rules.matching(&image, &reference)
            );
            prop_assert_eq!(index.for_image(&image), rules.for_image(&image));
            prop_assert_eq!(index.may_match(&image), rules.may_match(&image));
        }
    }
}
