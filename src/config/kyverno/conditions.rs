//! `conditions`: what an attestation has to say, lowered into CEL.
//!
//! What each operator makes of values of every kind is Kyverno's, as far as it can be said
//! exactly; a text where a number is compared, which Kyverno would read as a quantity or duration,
//! meets no condition here.

use crate::config::kyverno::path::Path;
use crate::config::kyverno::scalar::{self, Scalar};
use crate::config::kyverno::sections;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::policy::wildcards;

/// What Kyverno gives conditions beside the attestation.
const GIVEN: &[&str] = &[
    "element",
    "elementIndex",
    "image",
    "images",
    "request",
    "serviceAccountName",
    "serviceAccountNamespace",
    "target",
];

#[derive(Clone, Copy)]
enum Operator {
    Equals,
    NotEquals,
    /// As CEL writes it.
    Compares(&'static str),
    Among(Among),
}

/// Whether one value, or each, has to be in the list, or must not be.
#[derive(Clone, Copy)]
struct Among {
    every: bool,
    absent: bool,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("Equals", Operator::Equals),
    ("Equal", Operator::Equals),
    ("NotEquals", Operator::NotEquals),
    ("NotEqual", Operator::NotEquals),
    ("GreaterThan", Operator::Compares(">")),
    ("GreaterThanOrEquals", Operator::Compares(">=")),
    ("LessThan", Operator::Compares("<")),
    ("LessThanOrEquals", Operator::Compares("<=")),
    ("AnyIn", among(false, false)),
    ("AllIn", among(true, false)),
    ("AnyNotIn", among(false, true)),
    ("AllNotIn", among(true, true)),
];

const fn among(every: bool, absent: bool) -> Operator {
    Operator::Among(Among { every, absent })
}

/// A condition in CEL, with the path that it asks for.
struct Lowered {
    path: Path,
    text: String,
}

/// The conditions in CEL; all blocks have to hold.
pub(super) fn lower(value: &Value<'_>, named: &[&str]) -> Option<String> {
    let items = value.filled_list("write { all: [...] } or { any: [...] }, or remove the line")?;
    let blocks: Vec<String> = items.iter().filter_map(|item| block(item, named)).collect();
    (blocks.len() == items.len()).then(|| blocks.join(" && "))
}

fn block(item: &Value<'_>, named: &[&str]) -> Option<String> {
    const MEND: &str = "write { all: [...] } or { any: [...] }";
    let fields = item.fields(&sections::BLOCK)?;
    if fields.is_empty() {
        item.error("this asks for nothing", MEND);
        return None;
    }
    let read = |key| match fields.at(key) {
        Some(value) => list(&value, named),
        None => Some(Vec::new()),
    };
    let (any, all) = (read("any"), read("all"));
    let (any, all) = (any?, all?);
    let mut parts: Vec<String> = all.into_iter().map(|condition| condition.text).collect();
    match any.as_slice() {
        [] => {}
        [only] => parts.push(only.text.clone()),
        several => {
            // A path that is not there is an error to Kyverno, whatever else holds.
            let mut paths: Vec<String> = several.iter().map(|one| one.path.to_string()).collect();
            paths.sort();
            paths.dedup();
            let (list, count) = (paths.join(", "), paths.len());
            parts.push(format!("size([{list}]) == {count}"));
            let texts: Vec<String> = several
                .iter()
                .map(|one| format!("({})", one.text))
                .collect();
            parts.push(format!("({})", texts.join(" || ")));
        }
    }
    (!parts.is_empty()).then(|| parts.join(" && "))
}

fn list(value: &Value<'_>, named: &[&str]) -> Option<Vec<Lowered>> {
    let items = value.filled_list("write { key: ..., operator: ..., value: ... }")?;
    let conditions: Vec<Lowered> = items.iter().filter_map(|item| one(item, named)).collect();
    (conditions.len() == items.len()).then_some(conditions)
}

fn one(item: &Value<'_>, named: &[&str]) -> Option<Lowered> {
    let fields = item.fields(&sections::CONDITION)?;
    let path = fields.required("key", "write key: \"{{ a.b }}\"");
    let path = path.and_then(|value| path_of(&value, named));
    let operator = fields.required("operator", "write operator: Equals");
    let operator = operator.and_then(|value| operator_of(&value));
    let value = fields.required("value", "say what it is compared with");
    let (path, operator, value) = (path?, operator?, value?);
    let text = compare(&path.to_string(), operator, &value)?;
    Some(Lowered { path, text })
}

fn path_of(value: &Value<'_>, named: &[&str]) -> Option<Path> {
    const MEND: &str = "write the path to a value of the attestation, `{{ a.b }}`; or write the \
                        rule as a policy of pullgate's own, with `attested` and `where`";
    let text = value.text()?;
    let path = match Path::of_variable(text) {
        Ok(path) => path,
        Err(why) => {
            let message = format!("not supported by this version: {} ({why})", quoted(text));
            value.error(&message, MEND);
            return None;
        }
    };
    if GIVEN.contains(&path.root()) || named.contains(&path.root()) {
        let root = quoted(path.root());
        let message =
            format!("not supported by this version: {root}, which is not in the attestation");
        value.error(&message, MEND);
        return None;
    }
    Some(path)
}

fn operator_of(value: &Value<'_>) -> Option<Operator> {
    let text = value.text()?;
    let known = OPERATORS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, operator)) = known {
        return Some(*operator);
    }
    let mend = match text {
        "In" => "write AnyIn or AllIn, which have replaced it",
        "NotIn" => "write AnyNotIn or AllNotIn, which have replaced it",
        _ => {
            "write Equals, NotEquals, GreaterThan, GreaterThanOrEquals, LessThan, \
             LessThanOrEquals, AnyIn, AllIn, AnyNotIn or AllNotIn"
        }
    };
    value.error(
        &format!(
            "not supported by this version: the operator {}",
            quoted(text)
        ),
        mend,
    );
    None
}

fn compare(key: &str, operator: Operator, value: &Value<'_>) -> Option<String> {
    match operator {
        Operator::Equals => equals(key, value),
        Operator::NotEquals => differs(key, value),
        Operator::Compares(sign) => match scalar::read(value)? {
            Scalar::Number(number) => Some(format!("{key} {sign} {number}")),
            Scalar::Text(text) if scalar::is_decimal(text) => Some(format!("{key} {sign} {text}")),
            _ => {
                value.error(
                    "not supported by this version: an order of other things than numbers",
                    "write a number; durations, quantities and versions are not compared",
                );
                None
            }
        },
        Operator::Among(among) => is_among(key, among, value),
    }
}

fn equals(key: &str, value: &Value<'_>) -> Option<String> {
    Some(match scalar::read(value)? {
        Scalar::Truth(truth) => format!("{key} == {truth}"),
        Scalar::Number(number) => format!("{key} == {number}"),
        Scalar::Text(text) => {
            let literal = scalar::quote(text);
            if is_whole(text) {
                format!("({key} == {text} || {key} == {literal})")
            } else if text.contains(['*', '?']) {
                format!("{key}.matches({})", pattern(value, text)?)
            } else if scalar::is_measure(text) {
                refuse_measure(value, text);
                return None;
            } else {
                format!("{key} == {literal}")
            }
        }
    })
}

/// What differs: everything but nothing at all, and what is equal.
fn differs(key: &str, value: &Value<'_>) -> Option<String> {
    Some(match scalar::read(value)? {
        Scalar::Truth(truth) => format!("{key} != null && {key} != {truth}"),
        Scalar::Number(number) => {
            format!("{key} != null && type({key}) != string && {key} != {number}")
        }
        Scalar::Text(text) if text.contains(['*', '?']) => {
            let pattern = pattern(value, text)?;
            format!("{key} != null && (type({key}) != string || !{key}.matches({pattern}))")
        }
        Scalar::Text(text) if scalar::is_measure(text) => {
            refuse_measure(value, text);
            return None;
        }
        Scalar::Text(text) => {
            format!("{key} != null && {key} != {}", scalar::quote(text))
        }
    })
}

fn is_whole(text: &str) -> bool {
    scalar::is_decimal(text) && !text.contains('.')
}

/// A text with wildcards as a regular expression, in CEL.
fn pattern(value: &Value<'_>, text: &str) -> Option<String> {
    if !scalar::matches_no_measure(text) {
        value.error(
            &format!(
                "not supported by this version: {}, which could match a number, and Kyverno \
                 compares those by their size",
                quoted(text)
            ),
            "write more of the text that is meant",
        );
        return None;
    }
    Some(scalar::quote(&wildcards(text)))
}

fn refuse_measure(value: &Value<'_>, text: &str) {
    value.error(
        &format!(
            "not supported by this version: {}, which Kyverno compares by its size, as a number, \
             quantity or duration",
            quoted(text)
        ),
        "write a number without quotes, or a text that is none",
    );
}

fn is_among(key: &str, among: Among, value: &Value<'_>) -> Option<String> {
    if !value.is_list() {
        value.error(
            "not supported by this version: a value that is no list beside this operator",
            "write it as a list, even of one",
        );
        return None;
    }
    let items = value.filled_list("name at least one value")?;
    let texts: Vec<String> = items.iter().filter_map(element).collect();
    if texts.len() < items.len() {
        return None;
    }
    let (patterns, plain): (Vec<&String>, Vec<&String>) =
        texts.iter().partition(|text| text.contains(['*', '?']));
    let plain: Vec<String> = plain.iter().map(|text| scalar::quote(text)).collect();
    let is_in = |item: &str| {
        let mut ways = Vec::new();
        if !plain.is_empty() {
            ways.push(format!("string({item}) in [{}]", plain.join(", ")));
        }
        for text in &patterns {
            let pattern = scalar::quote(&wildcards(text));
            ways.push(format!("string({item}).matches({pattern})"));
        }
        let ways = ways.join(" || ");
        match among.absent {
            // To Kyverno, what is attested may be a pattern, too.
            true => format!("!({ways} || string({item}).matches(\"[*?]\"))"),
            false => ways,
        }
    };
    let every = if among.every { "all" } else { "exists" };
    let (item, each) = (is_in(key), is_in("item"));
    Some(format!(
        "(type({key}) == list ? {key}.{every}(item, {each}) : {item})"
    ))
}

/// An element as text, as Kyverno compares them.
fn element(value: &Value<'_>) -> Option<String> {
    let text = match scalar::read(value)? {
        Scalar::Truth(truth) => return Some(truth.to_string()),
        Scalar::Number(number) if number.contains('.') => number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        Scalar::Number(text) | Scalar::Text(text) => text.to_owned(),
    };
    if text.contains(['*', '?']) {
        pattern(value, &text)?;
    }
    // Go writes numbers of other sizes with an exponent, and those it reads.
    let size = text.parse::<f64>().ok().map(f64::abs);
    let plain =
        |size: f64| scalar::is_decimal(&text) && size < 1e6 && (size == 0.0 || size >= 1e-4);
    if size.is_some_and(|size| !plain(size)) {
        value.error(
            &format!("not supported by this version: {} in a list", quoted(&text)),
            "write numbers below a million, in plain digits",
        );
        return None;
    }
    Some(text)
}
