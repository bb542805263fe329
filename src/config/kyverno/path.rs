//! The paths of JMESPath, which conditions name values of an attestation by. Of that language only
//! names and positions are read: `a."b-c"[0].d`.

use std::fmt;

/// A path to a value of what an attestation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Position(u32),
}

/// What CEL does not take for a name after a dot.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

impl Path {
    /// The path in `{{ ... }}`; the error is what else stands there.
    pub(super) fn of_variable(text: &str) -> Result<Self, String> {
        let inner = text
            .trim()
            .strip_prefix("{{")
            .and_then(|text| text.strip_suffix("}}"))
            .ok_or("it is not one variable, `{{ a.b }}`, as a whole")?;
        Self::parse(inner.trim())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = name(rest)?;
            steps.push(Step::Name(name));
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let (position, after) = position(inner)?;
                steps.push(Step::Position(position));
                rest = after;
            }
            if rest.is_empty() {
                return Ok(Self(steps));
            }
            rest = rest.strip_prefix('.').ok_or_else(|| other(rest))?;
        }
    }

    /// The name that it begins with.
    pub(super) fn root(&self) -> &str {
        match self.0.first() {
            Some(Step::Name(name)) => name,
            _ => "",
        }
    }
}

/// A name, bare or quoted, and what follows it.
fn name(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let name = names.next().and_then(Result::ok);
        let name = name.ok_or_else(|| format!("{text} is no quoted name"))?;
        return Ok((name, &text[names.byte_offset()..]));
    }
    let letter = |character: char| character.is_ascii_alphabetic() || character == '_';
    let end = text
        .find(|character: char| !letter(character) && !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if !name.starts_with(letter) {
        return Err(other(text));
    }
    if rest.starts_with('(') {
        return Err(format!("`{name}` is a function"));
    }
    Ok((name.to_owned(), rest))
}

fn position(text: &str) -> Result<(u32, &str), String> {
    let (inner, rest) = text.split_once(']').ok_or_else(|| other(text))?;
    let plain = inner.bytes().all(|byte| byte.is_ascii_digit());
    let position = inner.parse().ok().filter(|_| plain);
    Ok((
        position.ok_or_else(|| format!("`[{inner}]` is no position"))?,
        rest,
    ))
}

fn other(rest: &str) -> String {
    match rest.trim_start() {
        "" => "a name is missing".to_owned(),
        rest => format!("`{rest}` is neither a name nor a position"),
    }
}

/// The path in CEL.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("predicate")?;
        for step in &self.0 {
            match step {
                Step::Position(position) => write!(f, "[{position}]")?,
                Step::Name(name) => {
                    let plain = name
                        .chars()
                        .all(|character| character.is_ascii_alphanumeric() || character == '_')
                        && !name.starts_with(|first: char| first.is_ascii_digit())
                        && !name.is_empty();
                    match plain && !RESERVED.contains(&name.as_str()) {
                        true => write!(f, ".{name}")?,
                        false => write!(f, "[{}]", super::scalar::quote(name))?,
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Condition;

    fn said(text: &str) -> Result<String, String> {
        Path::of_variable(text).map(|path| path.to_string())
    }

    #[test]
    fn names_and_positions_are_paths() {
        for (text, expected) in [
            ("{{ repo.uri }}", "predicate.repo.uri"),
            ("{{repo}}", "predicate.repo"),
            ("{{ a[0].b[12] }}", "predicate.a[0].b[12]"),
            ("{{ a[0][1] }}", "predicate.a[0][1]"),
            (
                r#"{{ "a-b"."c\"d".in }}"#,
                r#"predicate["a-b"]["c\"d"]["in"]"#,
            ),
            (r#"{{ "a.b" }}"#, r#"predicate["a.b"]"#),
        ] {
            assert_eq!(said(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_rest_of_jmespath_is_told_of() {
        for (text, why) in [
            ("main", "not one variable"),
            ("x{{ a }}", "not one variable"),
            ("{{ a }}{{ b }}", "}}{{ b` is neither"),
            ("{{ length(a) }}", "`length` is a function"),
            ("{{ a | length(@) }}", "`| length(@)`"),
            ("{{ a[] }}", "`[]` is no position"),
            ("{{ a[*].b }}", "`[*]` is no position"),
            ("{{ a[-1] }}", "`[-1]` is no position"),
            ("{{ a[+1] }}", "`[+1]` is no position"),
            ("{{ a[?b=='c'].d }}", "is no position"),
            ("{{ a || 'b' }}", "is neither a name nor a position"),
            ("{{ @ }}", "`@` is neither"),
            ("{{ a. }}", "a name is missing"),
            ("{{ }}", "a name is missing"),
            ("{{ 1a }}", "`1a` is neither"),
            (r#"{{ "a }}"#, "no quoted name"),
        ] {
            let error = said(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_cel_and_no_text_crashes_it(
            text in r#"\{\{ [a-c."\[\]0-9(@|\\\-]{0,12} \}\}"#,
        ) {
            if let Ok(path) = Path::of_variable(&text) {
                let condition = format!("{path} == 1");
                prop_assert!(Condition::new(&condition, 1000).is_ok(), "{} {}", text, path);
            }
        }

        // A name of any letters is one name, and not a way out of it.
        #[test]
        fn a_name_stays_a_name(name in "\\PC{1,8}") {
            let quoted = serde_json::to_string(&name).expect("a text");
            let path = Path::of_variable(&format!("{{{{ {quoted} }}}}"));
            prop_assert_eq!(path, Ok(Path(vec![Step::Name(name)])));
        }
    }
}
