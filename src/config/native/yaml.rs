//! YAML as people write it, from values in hand.

use std::fmt::Write as _;

/// A node of what is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    /// A scalar.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A mapping, in this order.
    Map(Vec<(String, Self)>),
    /// A node with lines of comment before it.
    Commented(Vec<String>, Box<Self>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A mapping of what is there.
    pub(super) fn map<const N: usize>(entries: [(&str, Option<Self>); N]) -> Self {
        let entries = entries.into_iter();
        let there = entries.filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Self::Map(there.collect())
    }

    /// The document, from its first line to its last.
    pub(super) fn document(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    /// Writes the node as a block whose lines begin `depth` steps in; the first line's steps are
    /// there already.
    fn write(&self, text: &mut String, depth: usize) {
        match self {
            Self::Text(scalar) => {
                text.push_str(&written(scalar, depth));
                text.push('\n');
            }
            Self::List(items) if items.is_empty() => text.push_str("[]\n"),
            Self::Map(entries) if entries.is_empty() => text.push_str("{}\n"),
            Self::List(items) => {
                for (position, item) in items.iter().enumerate() {
                    if position > 0 {
                        step(text, depth);
                    }
                    let item = item.comment(text, depth);
                    text.push_str("- ");
                    item.write(text, depth + 1);
                }
            }
            Self::Map(entries) => {
                for (position, (key, value)) in entries.iter().enumerate() {
                    if position > 0 {
                        step(text, depth);
                    }
                    let value = value.comment(text, depth);
                    let _ = write!(text, "{}:", on_one_line(key));
                    if value.is_block() {
                        text.push('\n');
                        step(text, depth + 1);
                    } else {
                        text.push(' ');
                    }
                    value.write(text, depth + 1);
                }
            }
            Self::Commented(_, node) => node.comment(text, depth).write(text, depth),
        }
    }

    /// Writes the comment of a node before it, and gives the node without.
    fn comment(&self, text: &mut String, depth: usize) -> &Self {
        let Self::Commented(lines, node) = self else {
            return self;
        };
        for line in lines {
            let line = line.replace(char::is_control, " ");
            let _ = writeln!(text, "# {line}");
            step(text, depth);
        }
        node.comment(text, depth)
    }

    fn is_block(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
            Self::Commented(_, node) => node.is_block(),
        }
    }
}

fn step(text: &mut String, depth: usize) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

/// A scalar: as lines where it has some, else on one line.
fn written(scalar: &str, depth: usize) -> String {
    if let Some(lines) = lines(scalar) {
        let mut text = String::from(if scalar.ends_with('\n') { "|" } else { "|-" });
        for line in lines {
            text.push('\n');
            step(&mut text, depth);
            text.push_str(line);
        }
        return text;
    }
    on_one_line(scalar)
}

/// A scalar without quotes where that says the same, else in quotes (YAML 1.2, 7.3.1).
fn on_one_line(scalar: &str) -> String {
    if is_plain(scalar) {
        return scalar.to_owned();
    }
    let mut text = String::from('"');
    for character in scalar.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            '\n' => text.push_str("\\n"),
            other => {
                let _ = match u16::try_from(u32::from(other)) {
                    Ok(code) => write!(text, "\\u{code:04x}"),
                    Err(_) => write!(text, "\\U{:08x}", u32::from(other)),
                };
            }
        }
    }
    text.push('"');
    text
}

/// Whether a scalar is itself without quotes, wherever it stands.
fn is_plain(scalar: &str) -> bool {
    const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off"];
    if !scalar.is_empty() && scalar.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    // A colon is part of the text where no space follows.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/@-:".contains(&byte);
    scalar.bytes().all(plain)
        && !scalar.ends_with(':')
        && scalar.starts_with(|first: char| first.is_ascii_alphabetic())
        && !WORDS.contains(&scalar.to_ascii_lowercase().as_str())
}

/// The lines of a text that a block of lines says as it is.
fn lines(scalar: &str) -> Option<Vec<&str>> {
    let body = scalar.strip_suffix('\n').unwrap_or(scalar);
    let sound = |line: &str| {
        !line.is_empty()
            && !line.starts_with([' ', '\t'])
            && line
                .chars()
                .all(|character| character == ' ' || character.is_ascii_graphic())
    };
    let lines: Vec<&str> = body.split('\n').collect();
    (scalar.contains('\n') && lines.iter().all(|line| sound(line))).then_some(lines)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::reader::Value;
    use crate::config::tests::parsed_alone;

    fn anything() -> impl Strategy<Value = Yaml> {
        let text = prop_oneof![
            "[ -~]{0,20}",
            "[a-z:/.0-9-]{0,12}",
            "([A-Za-z+/=]{1,9}\n){1,4}",
            "\\PC{0,8}",
            "[\\x00-\\x7f]{0,9}",
        ]
        .prop_map(Yaml::Text);
        text.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Yaml::List),
                prop::collection::btree_map("[ -~]{1,9}", inner.clone(), 0..4)
                    .prop_map(|map| Yaml::Map(map.into_iter().collect())),
                ("[ -~]{0,9}", inner)
                    .prop_map(|(line, node)| Yaml::Commented(vec![line], Box::new(node))),
            ]
        })
    }

    /// Whether what was read is what was written.
    fn same(read: &Value<'_>, wrote: &Yaml) -> bool {
        match wrote {
            Yaml::Text(text) => read.as_text() == Some(text.as_str()),
            Yaml::List(items) => read.list().is_some_and(|read| {
                read.len() == items.len() && read.iter().zip(items).all(|(one, two)| same(one, two))
            }),
            Yaml::Map(entries) => read.entries().is_some_and(|read| {
                read.len() == entries.len()
                    && read
                        .iter()
                        .zip(entries)
                        .all(|((key, one), (name, two))| key == name && same(one, two))
            }),
            Yaml::Commented(_, node) => same(read, node),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(yaml in anything()) {
            let yaml = Yaml::Map(vec![("root".to_owned(), yaml)]);
            let text = yaml.document();
            prop_assert!(parsed_alone(&text, |value| same(value, &yaml)), "{text}");
        }
    }
}
