//! JSON text into the same located tree as YAML, for documents of others that are JSON and nothing
//! more lenient.
//!
//! Only texts, lists and objects are read, since the documents hold no others: so a number that
//! stands for a text is told of, and not taken for one. Every key that stands twice is told.

use std::collections::HashMap;

use crate::config::problem::Sheet;
use crate::config::problem::joined;
use crate::config::yaml::Content;
use crate::config::yaml::Entry;
use crate::config::yaml::Node;

/// How deep lists and objects may be nested.
const DEPTH_MAX: usize = 32;

/// The one value in `text`. What is wrong is told to `sheet`; `None` when the text cannot be read
/// on from there.
pub(super) fn parse(text: &str, sheet: &Sheet<'_>) -> Option<Node> {
    let mut parser = Parser {
        sheet,
        text,
        at: 0,
        line: 1,
        path: Vec::new(),
    };
    let node = parser.value()?;
    parser.skip();
    match parser.peek() {
        None => Some(node),
        Some(_) => parser.fail("something stands behind the end of the document"),
    }
}

struct Parser<'a> {
    sheet: &'a Sheet<'a>,
    text: &'a str,
    at: usize,
    line: usize,
    /// The keys and positions that lead to where it is.
    path: Vec<Step>,
}

enum Step {
    Key(String),
    Position(usize),
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        self.line += usize::from(next == '\n');
        Some(next)
    }

    /// Passes over the space that JSON knows.
    fn skip(&mut self) {
        while self
            .peek()
            .is_some_and(|next| matches!(next, ' ' | '\t' | '\r' | '\n'))
        {
            self.take();
        }
    }

    fn fail<T>(&self, what: &str) -> Option<T> {
        self.sheet.error(
            self.line,
            &self.place(),
            &format!("this is not JSON: {what}"),
            "check commas, quotes and brackets on this line and the one above; JSON has no \
             comments and no comma behind the last entry",
        );
        None
    }

    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => place = joined(&place, key),
                Step::Position(position) => place.push_str(&format!("[{position}]")),
            }
        }
        place
    }

    fn value(&mut self) -> Option<Node> {
        self.skip();
        let line = self.line;
        let content = match self.peek() {
            Some('{') => self.object()?,
            Some('[') => self.list()?,
            Some('"') => Content::Text(self.string()?),
            Some(_) => return self.other(),
            None => return self.fail("the text ends where a value belongs"),
        };
        Some(Node {
            line,
            content,
            plain: false,
        })
    }

    /// What is neither a text nor a list nor an object.
    fn other<T>(&self) -> Option<T> {
        let ends = |next: char| next.is_whitespace() || ",:]}".contains(next);
        let end = self.rest().find(ends).unwrap_or(self.rest().len());
        let word = &self.rest()[..end];
        if !matches!(word, "null" | "true" | "false") && word.parse::<f64>().is_err() {
            return self.fail("a value is a text in quotes, a list or an object");
        }
        self.sheet.error(
            self.line,
            &self.place(),
            "this is neither a text nor a list nor an object, and nothing else can stand here",
            "write a text in quotes, or remove the entry",
        );
        None
    }

    fn deeper(&mut self, step: Step) -> Option<()> {
        self.path.push(step);
        match self.path.len() > DEPTH_MAX {
            true => self.fail("lists and objects are nested too deep"),
            false => Some(()),
        }
    }

    fn list(&mut self) -> Option<Content> {
        self.take();
        let mut nodes = Vec::new();
        self.skip();
        if self.peek() == Some(']') {
            self.take();
            return Some(Content::List(nodes));
        }
        loop {
            self.deeper(Step::Position(nodes.len()))?;
            nodes.push(self.value()?);
            self.skip();
            let next = self.take();
            if !matches!(next, Some(',' | ']')) {
                return self.fail("a `,` or the `]` of the list is missing");
            }
            self.path.pop();
            if next == Some(']') {
                return Some(Content::List(nodes));
            }
        }
    }

    fn object(&mut self) -> Option<Content> {
        self.take();
        let mut entries = Vec::new();
        let mut lines = HashMap::new();
        self.skip();
        if self.peek() == Some('}') {
            self.take();
            return Some(Content::Map(entries));
        }
        loop {
            self.skip();
            let line = self.line;
            if self.peek() != Some('"') {
                return self.fail("a key in quotes belongs here");
            }
            let key = self.string()?;
            self.deeper(Step::Key(key.clone()))?;
            self.skip();
            if self.take() != Some(':') {
                return self.fail("the `:` behind the key is missing");
            }
            let value = self.value()?;
            if let Some(first) = lines.insert(key.clone(), line) {
                let message = format!("this key stands twice; it was first given on line {first}");
                let place = self.place();
                self.sheet
                    .error(line, &place, &message, "keep one of the two");
            } else {
                entries.push(Entry { key, line, value });
            }
            self.skip();
            let next = self.take();
            if !matches!(next, Some(',' | '}')) {
                return self.fail("a `,` or the `}` of the object is missing");
            }
            self.path.pop();
            if next == Some('}') {
                return Some(Content::Map(entries));
            }
        }
    }

    /// A text, from its first quote to its last. What escapes mean is left to serde.
    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.take();
        loop {
            match self.take() {
                Some('"') => break,
                Some('\\') => drop(self.take()),
                Some('\n') | None => return self.fail("a text has no closing quote"),
                Some(_) => {}
            }
        }
        match serde_json::from_str(&self.text[start..self.at]) {
            Ok(text) => Some(text),
            Err(_) => self.fail("a text has an escape or a character that JSON does not know"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::problem::Problems;

    fn parsed(text: &str) -> Result<Node, String> {
        let problems = Problems::default();
        let file = Path::new("p.json");
        let node = parse(
            text,
            &Sheet {
                file,
                problems: &problems,
            },
        );
        let (_, told) = problems.into_sorted(file);
        match (node, told.first()) {
            (Some(node), None) => Ok(node),
            (_, Some(problem)) => Err(problem.to_string()),
            (None, None) => panic!("neither a tree nor a problem: {text}"),
        }
    }

    /// The tree as serde would have it.
    fn value(node: &Node) -> serde_json::Value {
        match &node.content {
            Content::Null => serde_json::Value::Null,
            Content::Text(text) => text.as_str().into(),
            Content::List(nodes) => nodes.iter().map(value).collect(),
            Content::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), value(&entry.value)))
                .collect(),
        }
    }

    #[test]
    fn what_is_read_is_what_serde_reads() {
        for text in [
            "{}",
            " [ ] ",
            "{\"a\":\"b\",\n\t\"c\" : [\"d\", {\"e\":[]}]}\r\n",
            r#"["\u00e9\n\ud83d\ude00\/", "é"]"#,
        ] {
            let node = parsed(text).unwrap_or_else(|problem| panic!("{problem}"));
            let expected: serde_json::Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(value(&node), expected);
        }
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        for text in [
            "",
            "{",
            "[\"a\",]",
            "{\"a\":\"b\",}",
            "{a: \"b\"}",
            "{\"a\" \"b\"}",
            "{\"a\":\"b\"} x",
            "['a']",
            "// x\n{}",
            "{} /* x */",
            "\u{feff}{}",
            "{\"a\":1}",
            "[null]",
            "[true]",
            "[\"a\nb\"]",
            r#"["\x"]"#,
            r#"["\ud83d"]"#,
            "{\"a\":\"b\",\"a\":\"b\"}",
            &"[".repeat(100_000),
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_are_those_of_the_text() {
        let node = parsed("{\n\"a\":\n[\"x\",\n\"y\"]}").expect("JSON");
        let Content::Map(entries) = node.content else {
            panic!("an object");
        };
        assert_eq!(entries[0].line, 2);
        let Content::List(nodes) = &entries[0].value.content else {
            panic!("a list");
        };
        assert_eq!(nodes[1].line, 4);
        let problem = parsed("{\"a\": [\"x\",\n 5]}").expect_err("a number");
        assert!(problem.starts_with("p.json:2: a[1]: "), "{problem}");
    }

    proptest! {
        // Nothing is taken that serde does not take, and no text makes it panic.
        #[test]
        fn nothing_is_read_that_is_no_json(text in "[\\[\\]{}\",:\\\\ a0\n]{0,30}") {
            if parsed(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
