//! The tables of documents in docs/FOREIGN.md, held against the cases of tests/config that load
//! a document of each shape: what a table says of a document is what `check` says.

use std::collections::{BTreeMap, BTreeSet};

use pullgate::policy::Glob;
use regex::Regex;
use serde_json::Value;

use crate::read;

/// The cells of the table below a heading, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = read("docs/FOREIGN.md");
    let (_, below) = page
        .split_once(&format!("### {heading}\n"))
        .unwrap_or_else(|| panic!("{heading}"));
    let rows = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

/// What stands between backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The files of a case, by name.
fn files(case: &str) -> BTreeMap<String, String> {
    let text = read(&format!("tests/config/{case}"));
    let parts = text.split("\n-- ").skip(1);
    let part = |part: &str| {
        let (name, text) = part.split_once(" --\n").expect("a name");
        (name.to_owned(), text.to_owned())
    };
    parts.map(part).collect()
}

/// Each document of a case, with the errors that are told of it: the field and the rest.
fn documents(case: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let files = files(case);
    let names = files.keys().filter_map(|name| name.strip_suffix(".yaml"));
    let mut documents: BTreeMap<String, Vec<(String, String)>> = names
        .filter(|name| *name != "pullgate")
        .map(|name| (name.to_owned(), Vec::new()))
        .collect();
    let position = Regex::new(r"\[[0-9]+\]").expect("compiles");
    let problems = &files["problems"];
    let problems = problems.lines().filter(|line| *line != "it loads");
    for problem in problems.filter(|line| !line.contains(": warning: ")) {
        let parts: Vec<&str> = problem.splitn(3, ": ").collect();
        let [place, field, message] = parts.as_slice() else {
            panic!("{problem}");
        };
        let (file, _) = place.split_once(".yaml:").expect("a file");
        let field = position.replace_all(field, "[]").into_owned();
        let errors = documents.get_mut(file).unwrap_or_else(|| panic!("{file}"));
        errors.push((field, (*message).to_owned()));
    }
    documents
}

/// Every document is in one row, and is loaded or refused as it says: for these fields, each of
/// them, and for no other.
fn holds(heading: &str, cases: &[&str]) {
    let documents: BTreeMap<_, _> = cases.iter().flat_map(|case| documents(case)).collect();
    let mut told = BTreeSet::new();
    for row in table(heading) {
        let globs: Vec<Glob> = code(&row[0])
            .into_iter()
            .map(|name| Glob::new(name).expect("a glob"))
            .collect();
        let matching = |name: &&String| globs.iter().any(|glob| glob.matches(name));
        let names: Vec<&String> = documents.keys().filter(matching).collect();
        for glob in &globs {
            let some = names.iter().any(|name| glob.matches(name));
            assert!(some, "no document is {glob:?}");
        }
        let fields: BTreeSet<&str> = match row[1].strip_prefix("refused: ") {
            Some(fields) => code(fields).into_iter().collect(),
            None => BTreeSet::new(),
        };
        assert_eq!(row[1] == "loads", fields.is_empty(), "{row:?}");
        let mut seen = BTreeSet::new();
        for name in names {
            assert!(told.insert(name), "{name} is in two rows");
            let errors = &documents[name];
            assert_eq!(errors.is_empty(), fields.is_empty(), "{name}: {errors:?}");
            for (field, message) in errors {
                let means = |told: &&&str| {
                    field.ends_with(**told) || message.contains(&format!("`{told}`"))
                };
                let field = fields.iter().find(means);
                seen.insert(*field.unwrap_or_else(|| panic!("{name}: {errors:?}, {fields:?}")));
            }
        }
        assert_eq!(seen, fields, "{row:?}");
    }
    assert_eq!(told, documents.keys().collect(), "{heading}");
}

#[test]
fn policy_controllers_documents_load_or_are_refused_as_the_table_says() {
    holds(
        "The documents of policy-controller's repository",
        &[
            "20_policy_controller_documents.txt",
            "20_policy_controller_documents_valid_and_not.txt",
        ],
    );
}

#[test]
fn kyvernos_documents_load_or_are_refused_as_the_table_says() {
    holds(
        "The examples of Kyverno's documentation",
        &["21_kyverno_documents.txt"],
    );
}

/// The table has every scope of the manual's document; the verdicts are asked for in
/// tests/threats/policy_json.rs.
#[test]
fn the_manuals_scopes_are_those_of_the_table() {
    let loads = files("23_policy_json_manual.txt");
    assert!(loads["problems"].starts_with("it loads\n"));
    let document: Value = serde_json::from_str(&loads["locked-down.json"]).expect("JSON");
    let docker = document["transports"]["docker"]
        .as_object()
        .expect("scopes");
    let rows = table("The examples of the manual");
    let told: Vec<&str> = rows
        .iter()
        .flat_map(|row| {
            let scopes = row[0].split(" (").next().unwrap_or_default();
            code(scopes)
        })
        .collect();
    for scope in docker.keys() {
        let named = |told: &&&str| scope.ends_with(told.trim_start_matches("..."));
        let count = told.iter().filter(named).count();
        assert_eq!(count, 1, "{scope} in {told:?}");
    }
    assert_eq!(
        told.len(),
        docker.len() + 3,
        "default, dir and atomic beside"
    );
    let spaced = files("23_policy_json_manual_as_it_stands.txt");
    let problems: Vec<&str> = spaced["problems"].lines().collect();
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert!(problem.contains("fulcio-rekor- allows"), "{problem}");
}
