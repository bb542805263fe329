//! The values that conditions compare with, as YAML, JSON and Kyverno take them.

use crate::config::kyverno::identity::refuse_variable;
use crate::config::problem::quoted;
use crate::config::reader::Value;

/// A value that is written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Truth(bool),
    /// In plain decimal digits, and small enough to be exact everywhere.
    Number(&'a str),
    Text(&'a str),
}

/// Reads a value. What the parsers of YAML do not all take for the same thing is refused.
pub(super) fn read<'a>(value: &Value<'a>) -> Option<Scalar<'a>> {
    const MEND: &str = "write a text, a number, true or false; or a list of them beside AnyIn, \
                        AllIn, AnyNotIn and AllNotIn";
    let Some(text) = value.as_text() else {
        value.error("this cannot be compared with", MEND);
        return None;
    };
    if refuse_variable(value, text) {
        return None;
    }
    if !value.is_plain() {
        return Some(Scalar::Text(text));
    }
    match text {
        "true" => return Some(Scalar::Truth(true)),
        "false" => return Some(Scalar::Truth(false)),
        _ => {}
    }
    if is_decimal(text) {
        return Some(Scalar::Number(text));
    }
    let word = ["y", "yes", "on", "n", "no", "off", "true", "false"];
    if word.iter().any(|word| text.eq_ignore_ascii_case(word)) || looks_like_a_number(text) {
        value.error(
            &format!(
                "{} is not the same value to every reader of YAML",
                quoted(text)
            ),
            "quote it if it is a text; write numbers in plain digits, and true or false so",
        );
        return None;
    }
    Some(Scalar::Text(text))
}

/// Whether it is a number of up to 15 plain digits, `-12` or `3.25`.
pub(super) fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    plain(whole)
        && plain(fraction)
        && (whole == "0" || !whole.starts_with('0'))
        && whole.len() + fraction.len() <= 16
}

fn looks_like_a_number(text: &str) -> bool {
    let bare = text.trim_start_matches(['+', '-']).replace('_', "");
    let lower = bare.to_ascii_lowercase();
    bare.parse::<f64>().is_ok()
        || [".inf", ".nan", "0x", "0o", "0b"]
            .iter()
            .any(|start| lower.starts_with(start))
}

/// Whether Kyverno compares the text by its size: a number, a quantity (`1Gi`) or a duration
/// (`1h30m`).
pub(super) fn is_measure(text: &str) -> bool {
    const SUFFIXES: &[&str] = &[
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    if looks_like_a_number(text) {
        return true;
    }
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |character: char| character.is_ascii_digit() || character == '.';
    let end = bare
        .find(|character| !digits(character))
        .unwrap_or(bare.len());
    let (number, suffix) = bare.split_at(end);
    is_amount(number) && (SUFFIXES.contains(&suffix) || is_duration(bare))
}

fn is_amount(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().filter(|byte| *byte == b'.').count() <= 1
}

fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = |character: char| character.is_ascii_digit() || character == '.';
        let end = rest
            .find(|character| !digits(character))
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let unit = units.iter().find(|unit| after.starts_with(**unit));
        let Some(unit) = unit.filter(|_| is_amount(number)) else {
            return false;
        };
        rest = &after[unit.len()..];
    }
    !text.is_empty()
}

/// Whether a pattern has a letter that no number, quantity or duration has, so that what it
/// matches is none.
pub(super) fn matches_no_measure(pattern: &str) -> bool {
    let of_measures =
        |character: char| character.is_ascii_digit() || "+-.*?eEnumkKMGTPishµμ".contains(character);
    !pattern.chars().all(of_measures)
}

/// A text of CEL.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            plain if !plain.is_control() => quoted.push(plain),
            other => quoted.push_str(&format!("\\u{:04x}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_told_from_texts() {
        for text in [
            "1", "0", "-1.5", "1e3", "1E3", "100m", "1Gi", "5k", "1h", "1h30m", "1.5h", "250ms",
            "+1", "inf", "NaN", "0x1p-2", "1.", ".5",
        ] {
            assert!(is_measure(text), "{text}");
        }
        for text in [
            "main",
            "v1",
            "1.2.3",
            "2026-01-01",
            "1x",
            "",
            "m",
            "1 h",
            "sha256:00",
            "1h30",
            "-",
            ".",
        ] {
            assert!(!is_measure(text), "{text}");
        }
    }

    #[test]
    fn a_pattern_is_of_texts_when_one_of_its_letters_is() {
        assert!(matches_no_measure("https://*"));
        assert!(matches_no_measure("*@acme.test"));
        for pattern in ["*", "1*", "?", "*m", "1.*"] {
            assert!(!matches_no_measure(pattern), "{pattern}");
        }
    }

    #[test]
    fn plain_digits_are_numbers() {
        for text in ["0", "-1", "12.50", "123456789012345"] {
            assert!(is_decimal(text), "{text}");
        }
        for text in [
            "",
            "-",
            "01",
            "1.",
            ".5",
            "1e3",
            "+1",
            "0x1",
            "1234567890123456789",
            "1_0",
        ] {
            assert!(!is_decimal(text), "{text}");
        }
    }
}
