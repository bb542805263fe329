//! Reads a located tree by the sections of [`schema`](crate::config::schema): every reading
//! yields a value or says what is wrong and where, and goes on, so that all problems of all
//! files are told at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::problem::Sheet;
use crate::config::problem::joined;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::schema;
use crate::config::schema::Section;
use crate::config::suggest::nearest;
use crate::config::yaml::Content;
use crate::config::yaml::Node;

/// A node, with the place to tell problems about it.
#[derive(Clone)]
pub(super) struct Value<'a> {
    node: &'a Node,
    sheet: &'a Sheet<'a>,
    /// The line of the key that introduces it, or its own.
    line: usize,
    /// The dotted path of keys that leads to it.
    path: String,
}

impl<'a> Value<'a> {
    /// The root of a document.
    pub(super) fn root(node: &'a Node, sheet: &'a Sheet<'a>) -> Self {
        Self {
            node,
            sheet,
            line: node.line,
            path: String::new(),
        }
    }

    /// The file it stands in.
    pub(super) fn sheet(&self) -> &'a Sheet<'a> {
        self.sheet
    }

    /// The line it stands on.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Tells that the value is wrong.
    pub(super) fn error(&self, message: &str, mend: &str) {
        self.sheet.error(self.line, &self.path, message, mend);
    }

    /// Tells that the value is probably not what was meant.
    pub(super) fn warn(&self, message: &str, mend: &str) {
        self.sheet.warn(self.line, &self.path, message, mend);
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.content, Content::Null)
    }

    /// The text, when it is a scalar.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match &self.node.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a scalar without quotes, so that YAML may take it for another thing than a
    /// text.
    pub(super) fn is_plain(&self) -> bool {
        self.node.plain
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.content, Content::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.content, Content::List(_))
    }

    /// An entry of a mapping, before it is known which section the mapping is.
    pub(super) fn peek(&self, key: &str) -> Option<(&'a str, Self)> {
        match &self.node.content {
            Content::Map(_) => self.entries()?.into_iter().find(|(name, _)| *name == key),
            _ => None,
        }
    }

    fn wrong_kind<T>(&self, wanted: &str, mend: &str) -> Option<T> {
        let message = match &self.node.content {
            Content::Null => format!("this has no value; it wants {wanted}"),
            _ => format!("this wants {wanted}, and has {}", self.node.describe()),
        };
        self.error(&message, mend);
        None
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.content {
            Content::Text(text) if text.trim().is_empty() => {
                self.error("this is empty", "give it a value, or remove the line");
                None
            }
            Content::Text(text) => Some(text),
            _ => self.wrong_kind("a text", "give it a single value, or remove the line"),
        }
    }

    /// What `parse` makes of the text; its error is what is wrong.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
        mend: &str,
    ) -> Option<T> {
        let text = self.text()?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(&format!("{}: {error}", quoted(text)), mend);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known = || words.iter().map(|(word, _)| *word);
        self.error(
            &format!("{} is none of the words that can stand here", quoted(text)),
            &match nearest(text, known()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write {}", listed(known(), "or")),
            },
        );
        None
    }

    /// An address with its port.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.parsed(
            |text| {
                text.parse::<SocketAddr>()
                    .map_err(|_| "not an address with a port")
            },
            "write an IP address and a port, like 127.0.0.1:5080, 0.0.0.0:5080 or [::]:5080",
        )
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Option<Vec<Self>> {
        let Content::List(nodes) = &self.node.content else {
            let mend = match &self.node.content {
                Content::Text(text) => {
                    format!(
                        "write it as a list, even of one: [{}]",
                        quoted(text).replace('`', "\"")
                    )
                }
                _ => "write [one, two], or one item on each line after a `-`".to_owned(),
            };
            return self.wrong_kind("a list", &mend);
        };
        Some(
            nodes
                .iter()
                .enumerate()
                .map(|(position, node)| Self {
                    node,
                    sheet: self.sheet,
                    line: node.line,
                    path: format!("{}[{position}]", self.path),
                })
                .collect(),
        )
    }

    /// The items of a list, where it is one: whoever reads it tells of anything else.
    pub(super) fn list_quietly(&self) -> Option<Vec<Self>> {
        self.is_list().then(|| self.list()).flatten()
    }

    /// The items of a list that may not be empty.
    pub(super) fn filled_list(&self, mend: &str) -> Option<Vec<Self>> {
        let items = self.list()?;
        if items.is_empty() {
            self.error("the list is empty", mend);
            return None;
        }
        Some(items)
    }

    /// The entries of a mapping whose keys the user chooses. Nothing is an empty mapping.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let entries = match &self.node.content {
            Content::Map(entries) => entries.as_slice(),
            Content::Null => &[],
            _ => {
                return self
                    .wrong_kind("a mapping", "write `name: value` lines below it, indented");
            }
        };
        Some(
            entries
                .iter()
                .map(|entry| {
                    let value = Self {
                        node: &entry.value,
                        sheet: self.sheet,
                        line: entry.line,
                        path: joined(&self.path, &entry.key),
                    };
                    (entry.key.as_str(), value)
                })
                .collect(),
        )
    }

    /// The keys of a section. Tells of every key that the section does not have, or does not
    /// have in this version.
    pub(super) fn fields(&self, section: &'static Section) -> Option<Fields<'a>> {
        if !matches!(self.node.content, Content::Map(_) | Content::Null) {
            return self.wrong_kind("a mapping", &section.keys_told());
        }
        let entries = self.entries()?;
        for (key, value) in &entries {
            section.complain_about(key, value);
        }
        Some(Fields {
            value: self.clone(),
            section,
            entries,
        })
    }

    /// The path of a file or folder, resolved.
    pub(super) fn path_value(&self) -> Option<PathBuf> {
        self.text().map(|text| self.sheet.resolve(text))
    }

    /// The bytes of the file that it names.
    pub(super) fn file(&self) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path_value()?;
        match self.sheet.read(&path) {
            Ok(bytes) => Some((path, bytes)),
            Err(error) => {
                self.error(
                    &format!("cannot read {}: {error}", path.display()),
                    "name a file that is there and may be read; a relative path starts at the \
                     file that names it",
                );
                None
            }
        }
    }
}

/// What may be absent, and where it is there has to be right.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and right are three things, and become two here"
)]
pub(super) fn whole<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

impl Section {
    /// The keys that can stand here, or where to find them if there are more than one reads.
    fn keys_told(&self) -> String {
        const TOLD_MAX: usize = 10;
        if self.keys.len() > TOLD_MAX {
            return format!(
                "the keys are listed under `{}` in docs/CONFIGURATION.md",
                self.name
            );
        }
        format!(
            "the keys here are {}",
            listed(self.keys.iter().copied(), "and")
        )
    }

    /// The sections of this one in which there is such a key, as near as they are.
    fn within(&self, key: &str) -> Vec<&'static str> {
        let (own, _) = self.name.split_once(": ").unwrap_or((self.name, ""));
        let below = schema::ALL.iter().filter(|section| section.knows(key));
        let below = below.filter_map(|section| {
            let path = section.name.strip_prefix(own)?.strip_prefix('.')?;
            Some(path.trim_end_matches("[]"))
        });
        let depth = |path: &&str| path.matches('.').count();
        let least = below.clone().map(|path| depth(&path)).min();
        let mut found: Vec<&str> = below.filter(|path| Some(depth(path)) == least).collect();
        found.dedup();
        found
    }

    fn complain_about(&'static self, key: &str, value: &Value<'_>) {
        if self.keys.contains(&key) {
            return;
        }
        if let Some(later) = self.later.iter().find(|later| later.key == key) {
            value.error(
                &format!("not supported by this version: {}", later.why),
                later.mend,
            );
            return;
        }
        let mend = match nearest(key, self.keys.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None if self.keys.is_empty() => "write a path".to_owned(),
            None => match self.within(key).as_slice() {
                [] => format!("remove it; {}", self.keys_told()),
                sections => format!(
                    "it stands under {}: write it there, or check how far the line is indented",
                    listed(sections.iter().copied(), "or")
                ),
            },
        };
        value.error("there is no such key", &mend);
    }
}

/// The keys of a section, as a file gives them.
pub(super) struct Fields<'a> {
    value: Value<'a>,
    section: &'static Section,
    entries: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Fields<'a> {
    /// The mapping itself.
    pub(super) fn value(&self) -> &Value<'a> {
        &self.value
    }

    /// The value of a key, where it is given.
    pub(super) fn at(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(
            self.section.knows(key),
            "{key} is not in the section {}",
            self.section.name
        );
        self.entries
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.clone())
    }

    /// The value of a key that must be given.
    pub(super) fn required(&self, key: &'static str, mend: &str) -> Option<Value<'a>> {
        let found = self.at(key);
        if found.is_none() && !self.is_misspelt(key) {
            self.value.error(&format!("`{key}` is missing"), mend);
        }
        found
    }

    /// The one key that is given of several that exclude each other. Tells when there is none
    /// or more than one.
    pub(super) fn exactly_one(
        &self,
        keys: &[&'static str],
        mend: &str,
    ) -> Option<(&'static str, Value<'a>)> {
        let mut given: Vec<(&'static str, Value<'a>)> = keys
            .iter()
            .filter_map(|key| Some((*key, self.at(key)?)))
            .collect();
        if given.len() == 1 {
            return given.pop();
        }
        if given.len() > 1 {
            let names = listed(given.iter().map(|(key, _)| *key), "and");
            let message = format!("{names} stand side by side, and only one of them can");
            self.value.error(&message, "keep the one that you mean");
        } else if !self.has_later() && !keys.iter().any(|key| self.is_misspelt(key)) {
            let names = listed(keys.iter().copied(), "or");
            self.value.error(&format!("{names} is missing"), mend);
        }
        None
    }

    /// Tells of each of these keys that is given that it has no meaning here.
    pub(super) fn refuse(&self, keys: &[&'static str], message: &str, mend: &str) {
        for value in keys.iter().filter_map(|key| self.at(key)) {
            value.error(message, mend);
        }
    }

    /// Whether no key is given.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a key is given that this version does not have yet. It has been told of.
    pub(super) fn has_later(&self) -> bool {
        let later = |key: &str| self.section.later.iter().any(|later| later.key == key);
        self.entries.iter().any(|(key, _)| later(key))
    }

    /// Whether a key is given that was told of as a slip for `key`.
    fn is_misspelt(&self, key: &str) -> bool {
        self.entries.iter().any(|(given, _)| {
            !self.section.knows(given)
                && nearest(given, self.section.keys.iter().copied()) == Some(key)
        })
    }
}
