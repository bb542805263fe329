//! The tables of documents in docs/FOREIGN.md, held against the cases of tests/config that load
//! a document of each shape: what a table says of a document is what `check` says.

use std::collections::{BTreeMap, BTreeSet};

use pullgate::policy::Glob;
use serde_json::Value;

use crate::documents::{code, documents, files, table};

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

/// The table has every scope of the manual's documents. The verdicts are asked for in
/// tests/threats/foreign/manual.rs.
#[test]
fn the_manuals_scopes_are_those_of_the_table() {
    let loads = files("23_policy_json_manual.txt");
    assert!(loads["problems"].starts_with("it loads\n"));
    let scopes = ["locked-down.json", "official.json"].map(|name| {
        let document: Value = serde_json::from_str(&loads[name]).expect("JSON");
        let docker = document["transports"]["docker"].as_object();
        docker.expect("scopes").clone()
    });
    let scopes: Vec<String> = scopes
        .into_iter()
        .flat_map(|scopes| scopes.into_iter())
        .map(|(scope, _)| scope)
        .collect();
    let rows = table("The examples of the manual");
    let told: Vec<&str> = rows
        .iter()
        .flat_map(|row| {
            let scopes = row[0].split(" (").next().unwrap_or_default();
            code(scopes)
        })
        .collect();
    for scope in &scopes {
        let named = |told: &&&str| scope.ends_with(told.trim_start_matches("..."));
        let count = told.iter().filter(named).count();
        assert_eq!(count, 1, "{scope} in {told:?}");
    }
    assert_eq!(
        told.len(),
        scopes.len() + 3,
        "default, dir and atomic beside"
    );
    let spaced = files("23_policy_json_manual_as_it_stands.txt");
    let problems: Vec<&str> = spaced["problems"].lines().collect();
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert!(problem.contains("fulcio-rekor- allows"), "{problem}");
}
