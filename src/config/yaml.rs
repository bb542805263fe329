//! YAML text into a small tree in which every node knows its line. The sole home of the YAML
//! parser.
//!
//! The tree is built from the parser's events and not by its own loader: so the depth is
//! bounded before anything recurses, every duplicate key is told (not only the first), and a
//! scalar stays the text that was written (`1.10` is no number here). This module does not
//! know what any key means.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::config::problem::Sheet;
use crate::config::problem::joined;
use crate::config::problem::quoted;
use crate::config::problem::shown;

/// How deep lists and mappings may be nested.
const DEPTH_MAX: usize = 32;

/// How many nodes anchors and aliases may copy in one file, all together.
const COPIED_NODES_MAX: usize = 10_000;

/// A node and the line it starts on.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    /// What it holds.
    pub(super) content: Content,
    /// Whether it is a scalar without quotes.
    pub(super) plain: bool,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing: `key:`, `key: ~`, `key: null`.
    Null,
    /// A scalar, as it was written.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file. No key stands twice.
    Map(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// The key's line, from 1.
    pub(super) line: usize,
    /// The value.
    pub(super) value: Node,
}

/// The documents in `text`. What is wrong is told to `sheet`; `None` when the text cannot be
/// read on from there.
pub(super) fn parse(text: &str, sheet: &Sheet<'_>) -> Option<Vec<Node>> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::new(sheet);
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return Some(builder.documents),
            Some(Ok((event, span))) => builder.take(event, span)?,
            Some(Err(error)) => {
                let column = error.marker().col() + 1;
                sheet.error(
                    error.marker().line(),
                    &builder.path(),
                    &format!(
                        "this is not YAML (column {column}): {}",
                        shown(error.info())
                    ),
                    "check the indentation, quotes and brackets on this line and the one above",
                );
                return None;
            }
        }
    }
}

/// A list or mapping that has not ended yet.
struct Frame {
    line: usize,
    anchor: usize,
    kind: FrameKind,
}

enum FrameKind {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        lines: HashMap<String, usize>,
        /// The key whose value comes next, and its line.
        pending: Option<(String, usize)>,
    },
}

struct Builder<'a> {
    sheet: &'a Sheet<'a>,
    documents: Vec<Node>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    copies_left: usize,
}

impl<'a> Builder<'a> {
    fn new(sheet: &'a Sheet<'a>) -> Self {
        Self {
            sheet,
            documents: Vec::new(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            copies_left: COPIED_NODES_MAX,
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(line, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let content = if null {
                    Content::Null
                } else {
                    Content::Text(text.into_owned())
                };
                let node = Node {
                    line,
                    content,
                    plain,
                };
                self.insert(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(line, tag.is_some());
                self.open(line, anchor, FrameKind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(line, tag.is_some());
                let kind = FrameKind::Map {
                    entries: Vec::new(),
                    lines: HashMap::new(),
                    pending: None,
                };
                self.open(line, anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let frame = self.stack.pop()?;
                let content = match frame.kind {
                    FrameKind::List(nodes) => Content::List(nodes),
                    FrameKind::Map { entries, .. } => Content::Map(entries),
                };
                let node = Node {
                    line: frame.line,
                    content,
                    plain: false,
                };
                self.insert(node, frame.anchor)
            }
            Event::Alias(anchor) => {
                let node = self.copy(anchor, line)?;
                self.insert(node, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Some(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, kind: FrameKind) -> Option<()> {
        if self.expects_key() {
            return self.refuse_key(line);
        }
        if self.stack.len() >= DEPTH_MAX {
            self.sheet.error(
                line,
                &self.path(),
                &format!("lists and mappings are nested more than {DEPTH_MAX} deep"),
                "nothing here needs such a depth; check the indentation and brackets",
            );
            return None;
        }
        self.stack.push(Frame { line, anchor, kind });
        Some(())
    }

    fn insert(&mut self, node: Node, anchor: usize) -> Option<()> {
        if anchor > 0 {
            self.pay_for(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        if self.expects_key() {
            let Content::Text(key) = node.content else {
                return self.refuse_key(node.line);
            };
            if let Some(FrameKind::Map { pending, .. }) = self.top() {
                *pending = Some((key, node.line));
            }
            return Some(());
        }
        let mut duplicate = None;
        match self.top() {
            None => self.documents.push(node),
            Some(FrameKind::List(nodes)) => nodes.push(node),
            Some(FrameKind::Map {
                entries,
                lines,
                pending,
            }) => {
                let (key, line) = pending.take()?;
                if let Some(first) = lines.get(&key) {
                    duplicate = Some((key, line, *first));
                } else {
                    lines.insert(key.clone(), line);
                    entries.push(Entry {
                        key,
                        line,
                        value: node,
                    });
                }
            }
        }
        if let Some((key, line, first)) = duplicate {
            self.sheet.error(
                line,
                &joined(&self.path(), &key),
                &format!("this key stands twice; it was first given on line {first}"),
                "keep one of the two",
            );
        }
        Some(())
    }

    fn top(&mut self) -> Option<&mut FrameKind> {
        self.stack.last_mut().map(|frame| &mut frame.kind)
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.stack.last(),
            Some(Frame {
                kind: FrameKind::Map { pending: None, .. },
                ..
            })
        )
    }

    /// The node that the alias names, in the alias's place.
    fn copy(&mut self, anchor: usize, line: usize) -> Option<Node> {
        let Some(mut node) = self.anchors.get(&anchor).cloned() else {
            self.sheet.error(
                line,
                &self.path(),
                "this alias names an anchor that has not ended yet",
                "write the value out",
            );
            return None;
        };
        self.pay_for(&node)?;
        node.line = line;
        Some(node)
    }

    fn pay_for(&mut self, node: &Node) -> Option<()> {
        match self.copies_left.checked_sub(count(node)) {
            Some(left) => {
                self.copies_left = left;
                Some(())
            }
            None => {
                self.sheet.error(
                    node.line,
                    &self.path(),
                    &format!("anchors and aliases copy more than {COPIED_NODES_MAX} values"),
                    "write the values out",
                );
                None
            }
        }
    }

    fn refuse_key(&self, line: usize) -> Option<()> {
        self.sheet.error(
            line,
            &self.path(),
            "a key must be a word, and this is empty, a list or a mapping",
            "write `key: value`; quote a value that starts with `{`, `[`, `?` or `*`",
        );
        None
    }

    fn refuse_tag(&self, line: usize, tagged: bool) {
        if tagged {
            self.sheet.error(
                line,
                &self.path(),
                "tags (`!...`) have no meaning here",
                "remove the tag; quote a value that starts with `!`",
            );
        }
    }

    /// The dotted path of the place that is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match &frame.kind {
                FrameKind::List(nodes) => path.push_str(&format!("[{}]", nodes.len())),
                FrameKind::Map { pending, .. } => {
                    if let Some((key, _)) = pending {
                        path = joined(&path, key);
                    }
                }
            }
        }
        path
    }
}

/// How many nodes a tree has. Its depth is bounded by [`DEPTH_MAX`] and that of the anchors
/// within it, which were paid for when they were made.
fn count(node: &Node) -> usize {
    1 + match &node.content {
        Content::Null | Content::Text(_) => 0,
        Content::List(nodes) => nodes.iter().map(count).sum(),
        Content::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
    }
}

impl Node {
    /// What it is, in words.
    pub(super) fn describe(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Text(text) => quoted(text),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }
}
