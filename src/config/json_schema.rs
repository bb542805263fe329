//! JSON Schemas of the configuration and of policy files, for editors.
//!
//! The keys are those of [`schema`], which the reader goes by. What each of them takes, and what an
//! editor shows beside it, is read from the tables of `docs/CONFIGURATION.md`, which tests hold
//! against the reader. So there is nothing here that could say otherwise than these two.
//!
//! A schema knows a file's form. What names mean, and whether what is named is there, is for
//! `pullgate check`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::schema;
use crate::config::schema::Section;

const REFERENCE: &str = include_str!("../../docs/CONFIGURATION.md");
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Sections that have the keys of another one.
const ALIKE: &[(&str, &str)] = &[
    (
        "signers.NAME.keyless.claims_glob",
        "signers.NAME.keyless.claims",
    ),
    ("signers.NAME.ca.claims", "signers.NAME.keyless.claims"),
    ("signers.NAME.ca.claims_glob", "signers.NAME.keyless.claims"),
    ("policies[].except", "policies[].images"),
    ("policies[].attested[].by", "policies[].signed_by"),
    ("policies[].any_of[].signed_by", "policies[].signed_by"),
    ("policies[].any_of[].attested", "policies[].attested"),
    ("policies[].any_of[].source", "policies[].source"),
];

/// What a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Described {
    /// The configuration file.
    Configuration,
    /// A policy file.
    Policies,
}

/// The schema of one kind of file.
#[must_use]
pub fn json_schema(of: Described) -> Value {
    let (root, title) = match of {
        Described::Configuration => (&schema::CONFIGURATION, "The configuration of pullgate"),
        Described::Policies => (&schema::POLICY_FILE, "A policy file of pullgate"),
    };
    let reference = Reference::read(REFERENCE);
    let definitions: Map<String, Value> = schema::ALL
        .iter()
        .map(|section| (definition_name(section), reference.section(section)))
        .collect();
    let own = reference_to(root);
    let file = match of {
        Described::Configuration => own,
        // A document of another engine has a schema of its own.
        Described::Policies => json!({
            "if": { "type": "object", "required": ["kind"] },
            "then": true,
            "else": own,
        }),
    };
    let mut document = json!({ "$schema": DIALECT, "title": title, "$defs": definitions });
    if let (Value::Object(document), Value::Object(file)) = (&mut document, file) {
        document.extend(file);
    }
    document
}

/// What the reference says of a key.
struct Entry<'a> {
    kind: &'a str,
    default: &'a str,
    meaning: &'a str,
}

/// The tables of the reference: by section, then by key.
struct Reference<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Entry<'a>>>);

impl<'a> Reference<'a> {
    fn read(text: &'a str) -> Self {
        let mut tables: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let mut section = None;
        for line in text.lines() {
            if line.starts_with('#') {
                let heading = line.strip_prefix("### `");
                section = heading.and_then(|heading| heading.strip_suffix('`'));
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let (Some(section), [_, key, kind, default, meaning, ..]) = (section, &*cells)
                && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
            {
                let entry = Entry {
                    kind,
                    default,
                    meaning,
                };
                tables
                    .entry(section)
                    .or_insert_with(BTreeMap::new)
                    .insert(key, entry);
            }
        }
        Self(tables)
    }

    fn section(&self, section: &Section) -> Value {
        let entries = self.0.get(section.name);
        let entry = |key: &str| entries.and_then(|entries| entries.get(key));
        let mut properties = Map::new();
        let mut required = Vec::new();
        for key in section.keys {
            let Some(entry) = entry(key) else {
                continue;
            };
            let mut property = form(entry.kind, Below::of(section, key));
            property["description"] = describe(entry).into();
            properties.insert((*key).to_owned(), property);
            if entry.default == "required" {
                required.push(*key);
            }
        }
        let kinds = match required.is_empty() {
            true => json!(["object", "null"]),
            false => json!("object"),
        };
        json!({
            "type": kinds,
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }
}

fn describe(entry: &Entry<'_>) -> String {
    let Entry {
        kind,
        default,
        meaning,
    } = entry;
    match *default {
        "" => format!("{kind}. {meaning}"),
        default => format!("{kind}; {default}. {meaning}"),
    }
}

/// The path of a section, as its heading has it without the words after it.
fn path_of(section: &Section) -> &'static str {
    section.name.split(": ").next().unwrap_or(section.name)
}

/// The sections that a key of another leads to.
#[derive(Clone, Copy)]
struct Below {
    /// That of a mapping, or of the entries of one by name.
    mapping: Option<&'static Section>,
    /// That of a list's items.
    item: Option<&'static Section>,
}

impl Below {
    fn of(section: &Section, key: &str) -> Self {
        // A file is where paths begin.
        let path = match path_of(section) {
            file if file.ends_with(".yaml") => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        let alike = ALIKE.iter().find(|(other, _)| *other == path);
        let path = alike.map_or(&*path, |(_, section)| section);
        let item = match (section.name == schema::CONFIGURATION.name, key) {
            // The items of both files' `policies` have the same path.
            (true, "policies") => Some(&schema::POLICY_SOURCE),
            (false, "policies") => Some(&schema::POLICY),
            _ => section_at(&format!("{path}[]")),
        };
        let mut ends = ["", ".NAME", ".HOST"].iter();
        let mapping = ends.find_map(|end| section_at(&format!("{path}{end}")));
        Self { mapping, item }
    }
}

fn section_at(path: &str) -> Option<&'static Section> {
    let mut all = schema::ALL.iter();
    let named = |section: &&&Section| path_of(section) == path && !section.keys.is_empty();
    all.find(named).copied()
}

fn definition_name(section: &Section) -> String {
    section.name.replace(['/', '*'], "")
}

fn reference_to(section: &Section) -> Value {
    // A fragment of a URI (RFC 3986), which has neither brackets nor spaces.
    let mut name = String::new();
    for character in definition_name(section).chars() {
        match character {
            '[' => name.push_str("%5B"),
            ']' => name.push_str("%5D"),
            ' ' => name.push_str("%20"),
            other => name.push(other),
        }
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// What the reference calls a key's type, as a schema.
fn form(kind: &str, below: Below) -> Value {
    let mut forms = Vec::new();
    // What stands in backticks stands for itself.
    let mut parts = kind.split('`');
    let mut words = Vec::new();
    let mut prose = String::new();
    while let Some(outside) = parts.next() {
        prose.push_str(outside);
        words.extend(parts.next());
    }
    if words.contains(&"true") {
        forms.push(json!({ "type": "boolean" }));
        words.retain(|word| !matches!(*word, "true" | "false"));
    }
    if !words.is_empty() {
        forms.push(json!({ "enum": words }));
    }
    for alternative in prose.split(" or ").flat_map(|part| part.split(", ")) {
        let alternative = alternative.trim_matches([' ', ',']);
        // "1 or more" says of a number how large it is.
        if !matches!(alternative, "" | "1" | "more") {
            forms.push(alternative_form(alternative, below));
        }
    }
    forms.dedup();
    match forms.len() {
        1 => forms.remove(0),
        _ => json!({ "anyOf": forms }),
    }
}

fn alternative_form(kind: &str, below: Below) -> Value {
    // Whatever is no list and no mapping is text to the reader.
    let text = json!({ "type": ["string", "number", "boolean"] });
    let mapping = below.mapping.map(reference_to);
    let item = below.item.map(reference_to);
    match kind {
        "mapping" => mapping.unwrap_or_else(|| json!({ "type": "object" })),
        "mapping by name" | "mapping by host" => json!({
            "type": ["object", "null"],
            "additionalProperties": mapping.unwrap_or(Value::Bool(true)),
        }),
        "list of mappings" | "list" => json!({
            "type": "array",
            "items": item.unwrap_or(Value::Bool(true)),
        }),
        "number" => json!({ "type": "integer", "minimum": 0 }),
        "size" => json!({
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9]+(KiB|MiB|GiB|TiB)?$",
        }),
        "duration" => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" }),
        // Some items may be more than a word.
        list if list.starts_with("a list") || list.starts_with("list") => {
            let items = item.map_or(text.clone(), |item| json!({ "anyOf": [text, item] }));
            json!({ "type": "array", "items": items })
        }
        _ => text,
    }
}
