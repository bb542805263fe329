//! Conditions beside a model of what Kyverno's operators make of values of each kind: what holds
//! here holds there, and but for what docs/FOREIGN.md tells, the other way round.

use std::path::Path;

use regex::Regex;
use serde_json::{Value as Json, json};

use super::conditions;
use crate::config::problem::Problems;
use crate::config::problem::Sheet;
use crate::config::reader::Value;
use crate::config::yaml;
use crate::policy::Condition;
use crate::policy::wildcards;

/// The condition that `conditions:` of a document becomes.
fn lowered(text: &str) -> Option<Condition> {
    let problems = Problems::default();
    let sheet = Sheet {
        file: Path::new("p.yaml"),
        problems: &problems,
    };
    let nodes = yaml::parse(text, &sheet).expect("YAML");
    let text = conditions::lower(&Value::root(&nodes[0], &sheet), &[])?;
    Some(Condition::new(&text, 10_000).unwrap_or_else(|error| panic!("{text}: {error}")))
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(&wildcards(pattern))
        .expect("compiles")
        .is_match(text)
}

/// Go's way of writing a value.
fn sprint(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => {
            let number = number.as_f64().expect("a number");
            match number.abs() {
                size if size >= 1e21 || (size != 0.0 && size < 1e-4) => format!("{number:e}"),
                _ => number.to_string(),
            }
        }
        Json::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

/// What the operator says of `key` and `value`, where texts are no numbers, quantities or
/// durations.
fn kyverno(operator: &str, key: &Json, value: &Json) -> bool {
    let equal = || match (key, value) {
        (Json::String(key), Json::String(value)) => matches(value, key),
        (Json::Number(key), Json::Number(value)) => key.as_f64() == value.as_f64(),
        (Json::Number(key), Json::String(value)) => value
            .parse::<f64>()
            .ok()
            .is_some_and(|value| key.as_f64() == Some(value)),
        (key, value) => key == value && key.is_boolean(),
    };
    let known = !key.is_null();
    let size = match value {
        Json::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    let order = |holds: fn(f64, f64) -> bool| match (key.as_f64(), size) {
        (Some(key), Some(value)) => holds(key, value),
        _ => false,
    };
    let values: Vec<String> = value.as_array().into_iter().flatten().map(sprint).collect();
    let is_in = |item: &Json| {
        let item = sprint(item);
        values
            .iter()
            .any(|value| matches(value, &item) || matches(&item, value))
    };
    let among = |every: bool, absent: bool| match key {
        Json::Array(items) if every => items.iter().all(|item| is_in(item) != absent),
        Json::Array(items) => items.iter().any(|item| is_in(item) != absent),
        Json::Null | Json::Object(_) => false,
        scalar => is_in(scalar) != absent,
    };
    match operator {
        "Equals" => known && equal(),
        "NotEquals" => known && !equal(),
        "GreaterThan" => order(|key, value| key > value),
        "GreaterThanOrEquals" => order(|key, value| key >= value),
        "LessThan" => order(|key, value| key < value),
        "LessThanOrEquals" => order(|key, value| key <= value),
        "AnyIn" => among(false, false),
        "AllIn" => among(true, false),
        "AnyNotIn" => among(false, true),
        _ => among(true, true),
    }
}

#[test]
fn what_holds_here_holds_for_kyverno() {
    let keys = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(3),
        json!(3.5),
        json!(-2),
        json!(1_000_000),
        json!(0.000_01),
        json!(""),
        json!("main"),
        json!("mainly"),
        json!("v1.2"),
        json!("v*"),
        json!("*"),
        json!("a\nb"),
        json!("\"] || true || [\""),
        json!({}),
        json!({"a": 1}),
        json!([]),
        json!(["main"]),
        json!(["main", "dev"]),
        json!(["dev", 3]),
        json!([true, "x"]),
        json!(["*"]),
        json!(["main", null]),
        json!([["main"]]),
    ];
    let values = [
        "true",
        "false",
        "0",
        "3",
        "-2",
        "3.50",
        "\"\"",
        "main",
        "'v*'",
        "'ma?n'",
        "'3'",
        "'b*'",
        "[main]",
        "[main, dev]",
        "[3]",
        "['3', x]",
        "[true]",
        "['ma*']",
        "['v1.?', dev]",
        "[3.50]",
        r#"'"] || true || ["'"#,
        r#"["\"] || true || [\""]"#,
        r#""a\nb""#,
    ];
    let operators = [
        "Equals",
        "NotEquals",
        "GreaterThan",
        "GreaterThanOrEquals",
        "LessThan",
        "LessThanOrEquals",
        "AnyIn",
        "AllIn",
        "AnyNotIn",
        "AllNotIn",
    ];
    let mut compared = 0;
    for operator in operators {
        for text in values {
            let block = format!(
                "[{{ all: [{{ key: '{{{{ k }}}}', operator: {operator}, value: {text} }}] }}]"
            );
            let Some(condition) = lowered(&block) else {
                continue;
            };
            let value = literal(text);
            for key in &keys {
                let answer = condition.answer_about(&json!({ "k": key }).to_string());
                let theirs = kyverno(operator, key, &value);
                let place = format!(
                    "{key} {operator} {text}: {answer:?}, {}",
                    condition.as_str()
                );
                assert!(answer.is_err() || theirs, "{place}");
                let told = told_apart(operator, key, &value);
                assert!(told || answer.is_ok() == theirs, "{place}");
                compared += 1;
            }
        }
    }
    assert!(compared > 2000, "{compared}");
}

/// A value as the parsers of YAML that Kyverno uses take it.
fn literal(text: &str) -> Json {
    if let Some(text) = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
    {
        return json!(text);
    }
    if let Some(items) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        return match text.starts_with("[\"") {
            true => serde_json::from_str(text).expect("JSON"),
            false => items.split(", ").map(literal).collect(),
        };
    }
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// Where docs/FOREIGN.md says that what is attested is "no" here.
fn told_apart(operator: &str, key: &Json, value: &Json) -> bool {
    let pattern = |key: &Json| key.as_str().is_some_and(|key| key.contains(['*', '?']));
    let scalar = |key: &Json| !key.is_null() && !key.is_array() && !key.is_object();
    match key {
        Json::Array(items) => items.iter().any(|item| pattern(item) || !scalar(item)),
        Json::String(_) if value.is_number() => operator == "NotEquals",
        key => value.is_array() && pattern(key),
    }
}

#[test]
fn any_is_enough_where_every_path_is_there() {
    let condition = lowered(
        "- any:\n    - { key: '{{ a.b }}', operator: Equals, value: x }\n    \
         - { key: '{{ c }}', operator: Equals, value: good }\n  \
         all: [{ key: '{{ d }}', operator: NotEquals, value: z }]\n\
         - all: [{ key: '{{ e[0] }}', operator: GreaterThan, value: 1 }]",
    )
    .expect("lowered");
    let answer = |predicate: Json| condition.answer_about(&predicate.to_string());
    let good = json!({"a": {"b": "no"}, "c": "good", "d": "", "e": [2]});
    assert_eq!(answer(good.clone()), Ok(()));
    for (pointer, value) in [("/c", json!("no")), ("/d", json!("z")), ("/e/0", json!(1))] {
        let mut predicate = good.clone();
        *predicate.pointer_mut(pointer).expect("is there") = value;
        assert!(answer(predicate).is_err(), "{pointer}");
    }
    // For Kyverno it is an error that a path is missing, and so no "yes".
    let missing = json!({"a": {}, "c": "good", "d": "", "e": [2]});
    assert_eq!(
        answer(missing),
        Err("`predicate.a.b` is not there".to_owned())
    );
}
