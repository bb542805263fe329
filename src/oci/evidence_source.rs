//! Where signatures and attestations are kept, where that is not beside the image.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::{ImageName, Tag};

/// A tag as it is made of a digest, behind which prefixes stand.
const TAG: &str = "sha256-0000000000000000000000000000000000000000000000000000000000000000.sig";

/// The place that has the evidence about an image, instead of the image's own repository and
/// its usual tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EvidenceSource {
    /// The repository that has it; the image's own where `None`.
    pub repository: Option<ImageName>,
    /// What stands before the usual tags.
    pub tag_prefix: Option<TagPrefix>,
}

/// What stands before `sha256-<hex>.sig`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagPrefix(Arc<str>);

/// The text makes no tag of `sha256-<hex>.sig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a prefix has letters, digits, dots, dashes and underscores, and leaves room for the rest of the tag"
)]
pub struct ParseTagPrefixError;

impl TagPrefix {
    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagPrefix {
    type Err = ParseTagPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match !text.is_empty() && Tag::is_valid(&format!("{text}{TAG}")) {
            true => Ok(Self(text.into())),
            false => Err(ParseTagPrefixError),
        }
    }
}

impl fmt::Debug for TagPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For people, behind the word "in".
impl fmt::Display for EvidenceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repository {
            Some(repository) => write!(f, "{repository}")?,
            None => f.write_str("the image's repository")?,
        }
        match &self.tag_prefix {
            Some(prefix) => write!(f, ", under tags that begin with {prefix:?}"),
            None => Ok(()),
        }
    }
}

impl Serialize for EvidenceSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        if let Some(repository) = &self.repository {
            map.serialize_entry("repository", &repository.to_string())?;
        }
        if let Some(prefix) = &self.tag_prefix {
            map.serialize_entry("tag_prefix", prefix.as_str())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_makes_a_tag() {
        for prefix in ["sigprefix", "a.b_c-", "_", &"a".repeat(53)] {
            assert!(prefix.parse::<TagPrefix>().is_ok(), "{prefix}");
        }
        for prefix in ["", "-a", ".", "a/b", "a:b", "a b", &"a".repeat(54)] {
            assert!(prefix.parse::<TagPrefix>().is_err(), "{prefix}");
        }
    }
}
