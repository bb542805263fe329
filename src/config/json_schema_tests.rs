//! The schemas for editors are held against the reader: what loads is what they take, and a key
//! that the reader does not know is none of theirs.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::json_schema::{Described, json_schema};
use super::problem::{Problems, Sheet};
use super::tests::{CHECKS, now, parts, written};
use super::yaml::{Content, Node};
use super::*;

fn validator(of: Described) -> Validator {
    jsonschema::validator_for(&json_schema(of)).expect("a schema")
}

/// As an editor reads it: plain words are numbers, or yes and no, where they look like it.
fn value_of(node: &Node) -> Value {
    match &node.content {
        Content::Null => Value::Null,
        Content::Text(text) => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => text
                .parse::<i64>()
                .map_or(json!(text), |number| json!(number)),
        },
        Content::List(items) => items.iter().map(value_of).collect(),
        Content::Map(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|entry| (entry.key.clone(), value_of(&entry.value)));
            Value::Object(entries.collect())
        }
    }
}

/// The documents of a file, where it is YAML.
fn documents(file: &Path) -> Option<Vec<Value>> {
    let problems = Problems::default();
    let sheet = Sheet {
        file,
        problems: &problems,
    };
    let nodes = sources::documents(&sheet)?;
    Some(nodes.iter().map(value_of).collect())
}

/// Why a schema does not take a file; `None` when it does.
fn refused(validator: &Validator, file: &Path) -> Option<String> {
    let documents = documents(file).expect("YAML");
    documents.iter().find_map(|document| {
        let error = validator.iter_errors(document).next()?;
        Some(format!("{}: {error}", error.instance_path()))
    })
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect()
}

#[test]
fn the_examples_are_taken() {
    let policies = validator(Described::Policies);
    let files = yaml_files("config/policies");
    assert!(files.len() > 3);
    for file in files {
        assert_eq!(refused(&policies, &file), None, "{}", file.display());
    }
    let configuration = validator(Described::Configuration);
    for file in yaml_files("config") {
        assert_eq!(refused(&configuration, &file), None, "{}", file.display());
    }
}

/// Every case of tests/config: a file without an error is taken, one with an unknown key is not.
#[test]
fn the_schemas_say_what_the_reader_says() {
    let (configuration, policies) = (
        validator(Described::Configuration),
        validator(Described::Policies),
    );
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let (mut taken, mut unknown) = (0, 0);
    for entry in std::fs::read_dir(cases).expect("the cases") {
        let case = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&case).expect("a case");
        let mut files = parts(&text);
        files.pop();
        let folder = written(&files);
        let path = folder.path().join("pullgate.yaml");
        let problems = match load(&path, &CHECKS, now()) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems,
        };
        for (name, _) in files.iter().filter(|(name, _)| name.ends_with(".yaml")) {
            let file = folder.path().join(name);
            let schema = match *name {
                "pullgate.yaml" => &configuration,
                _ => &policies,
            };
            let Some(documents) = documents(&file) else {
                continue;
            };
            // A document of another engine is taken as it is.
            let foreign = documents.iter().any(|document| !document["kind"].is_null());
            let mut of_file = problems.iter().filter(|problem| problem.file == file);
            let told = refused(schema, &file);
            if of_file.clone().all(|problem| !problem.is_error()) && problems_are_whole(&problems) {
                assert_eq!(told, None, "{} {name}", case.display());
                taken += 1;
            } else if !foreign && of_file.any(|problem| problem.message == "there is no such key") {
                assert!(told.is_some(), "{} {name}", case.display());
                unknown += 1;
            }
        }
    }
    assert!(taken > 5 && unknown > 5, "{taken} taken, {unknown} unknown");
}

/// True where the policy files were read: where the configuration is broken, they may not be.
fn problems_are_whole(problems: &[Problem]) -> bool {
    !problems
        .iter()
        .any(|problem| problem.file.ends_with("pullgate.yaml") && problem.is_error())
}

/// No mapping is open by mistake: those whose keys the user chooses are known.
#[test]
fn every_key_has_its_form() {
    let mut open = Vec::new();
    for of in [Described::Configuration, Described::Policies] {
        let schema = json_schema(of);
        let definitions = schema["$defs"].as_object().expect("definitions");
        for (name, definition) in definitions {
            assert_eq!(definition["additionalProperties"], json!(false), "{name}");
            let properties = definition["properties"].as_object().expect("properties");
            for (key, property) in properties {
                let text = property["description"].as_str().expect("a description");
                assert!(text.len() > 10, "{name}.{key}: {text}");
                if property["type"] == "object" || property["items"] == json!(true) {
                    open.push(format!("{name}.{key}"));
                }
            }
        }
    }
    open.sort_unstable();
    open.dedup();
    let chosen = ["pullers.NAME.oidc.claims", "pullers.NAME.oidc.claims_glob"];
    assert_eq!(open, chosen);
    for section in schema::ALL {
        let schema = json_schema(Described::Policies);
        let name = section.name.replace(['/', '*'], "");
        let properties = schema["$defs"][&name]["properties"].as_object();
        let keys = properties.map_or(0, serde_json::Map::len);
        assert_eq!(keys, section.keys.len(), "{name}");
    }
}
