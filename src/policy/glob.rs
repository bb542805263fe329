//! The globs of policy files: `*` within one segment, `**` across, everything else literal,
//! and the whole text must match.

use std::fmt;

use regex::Regex;

/// A compiled glob over texts with segments divided by `/`.
#[derive(Clone)]
pub struct Glob {
    text: String,
    regex: Regex,
    over: Over,
}

/// What a glob is matched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The name: `registry/repository`.
    Name,
    /// The name with what is asked for: `registry/repository:tag`, or `...@digest`.
    Reference,
    /// The same, in each way that people may have written it.
    Written,
}

/// Why a text is not a glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// An empty pattern would match nothing, or be read as everything.
    #[error("the pattern is empty")]
    Empty,
    /// Three or more stars in a row mean nothing.
    #[error("`***` means nothing; use `*` within a segment or `**` across segments")]
    Stars,
    /// Too long to be compiled within bounds.
    #[error("the pattern is too long")]
    TooLong,
}

impl Glob {
    /// Compiles `text`.
    ///
    /// # Errors
    /// [`GlobError`] when the pattern is empty, has `***`, or is too long.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.contains("***") {
            return Err(GlobError::Stars);
        }
        let mut pattern = String::from(r"\A(?s:");
        for (position, part) in text.split("**").enumerate() {
            if position > 0 {
                pattern.push_str(".*");
            }
            for (position, literal) in part.split('*').enumerate() {
                if position > 0 {
                    pattern.push_str("[^/]*");
                }
                pattern.push_str(&regex::escape(literal));
            }
        }
        pattern.push_str(r")\z");
        let regex = Regex::new(&pattern).map_err(|_| GlobError::TooLong)?;
        Ok(Self {
            text: text.to_owned(),
            regex,
            over: Over::Name,
        })
    }

    /// Compiles `text` for image names with their tag or digest, as Kubernetes' policy
    /// controller matches them: Docker Hub is `index.docker.io` there.
    ///
    /// # Errors
    /// [`GlobError`] as above.
    pub fn over_references(text: &str) -> Result<Self, GlobError> {
        Ok(Self {
            over: Over::Reference,
            ..Self::new(text)?
        })
    }

    /// Compiles `text` for images as Pods name them, as Kyverno matches them: `*` is any run of
    /// characters, `?` any one, and segments are not told apart.
    ///
    /// # Errors
    /// [`GlobError`] when the pattern is empty or too long.
    pub fn over_written(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        let regex = Regex::new(&wildcards(text)).map_err(|_| GlobError::TooLong)?;
        Ok(Self {
            text: text.to_owned(),
            regex,
            over: Over::Written,
        })
    }

    /// True when tags and digests are matched as well.
    #[must_use]
    pub fn is_over_references(&self) -> bool {
        self.over != Over::Name
    }

    /// True when what is matched is what people have written.
    #[must_use]
    pub fn is_over_written(&self) -> bool {
        self.over == Over::Written
    }

    /// True when the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The regular expression that is Kyverno's wildcard pattern `text`, anchored at both ends.
#[must_use]
pub fn wildcards(text: &str) -> String {
    let mut pattern = String::from(r"\A(?s:");
    let mut literal = [0; 4];
    for character in text.chars() {
        match character {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            other => pattern.push_str(&regex::escape(other.encode_utf8(&mut literal))),
        }
    }
    pattern.push_str(r")\z");
    pattern
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.text)
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.over == other.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).expect("a pattern").matches(text)
    }

    #[test]
    fn stars_stay_in_their_segment_and_double_stars_do_not() {
        assert!(matches("docker.io/library/*", "docker.io/library/busybox"));
        assert!(!matches("docker.io/library/*", "docker.io/library/a/b"));
        assert!(!matches("docker.io/library/*", "xdocker.io/library/a"));
        assert!(matches("ghcr.io/intelops/**", "ghcr.io/intelops/a/b/c"));
        assert!(!matches("ghcr.io/intelops/**", "ghcr.io/intelops"));
        assert!(matches("**/miner", "a/b/miner"));
        assert!(!matches("**/miner", "a/b/miner2"));
        assert!(matches("**", "anything/at/all"));
    }

    // THREATS I2: what is not a star is literal.
    #[test]
    fn everything_else_is_literal() {
        assert!(!matches("ghcr.io/a", "ghcrXio/a"));
        assert!(!matches("a[b]", "ab"));
        assert!(!matches("a?", "ab"));
        assert!(!matches("a|b", "b"));
        assert!(!matches("a", "a\n"));
        assert!(!matches("*@acme.test", "x@acme.test.evil"));
    }

    // The answers are those of the library that Kyverno matches with (go-wildcard 1.0.3, which
    // Kyverno 1.11 to 1.19 name): a question mark is one character, never none, as it is in
    // version 2, and a dot is a dot.
    #[test]
    fn wildcards_match_what_kyverno_matches() {
        for (pattern, text, expected) in [
            ("a?", "a", false),
            ("a?", "ab", true),
            ("a?", "a\u{e9}", true),
            ("a?", "abc", false),
            ("a?b", "ab", false),
            ("?", "", false),
            ("?*", "", false),
            ("*?", "", false),
            ("*?", "x", true),
            ("a*?b", "ab", false),
            ("a*?b", "axb", true),
            ("a.b", "axb", false),
            ("a.b", "a.b", true),
            ("*", "", true),
            ("a**b", "ab", true),
            ("a*", "a/b\nc", true),
        ] {
            let glob = Glob::over_written(pattern).expect("a pattern");
            assert_eq!(glob.matches(text), expected, "{pattern} {text:?}");
        }
    }

    #[test]
    fn empty_and_tripled_patterns_are_errors() {
        assert_eq!(Glob::new(""), Err(GlobError::Empty));
        assert_eq!(Glob::new("a/***"), Err(GlobError::Stars));
    }
}
