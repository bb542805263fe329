//! The files that hold YAML: which policy files there are, and the documents in each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::containers_policy;
use crate::config::policies;
use crate::config::problem::Sheet;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::yaml;
use crate::config::yaml::Node;
use crate::policy::Rules;

/// The YAML documents of the file that `sheet` is about.
pub(super) fn documents(sheet: &Sheet<'_>) -> Option<Vec<Node>> {
    let bytes = match sheet.read(sheet.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("cannot read this file: {error}");
            sheet.error(0, "", &message, "name a file that is there and may be read");
            return None;
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => yaml::parse(text, sheet),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
            sheet.error(line, "", "this is not UTF-8", "save the file as UTF-8");
            None
        }
    }
}

/// Reads the policy files that `policies` names.
pub(super) fn rules(fields: &Fields<'_>, context: &policies::Context<'_>) -> Rules {
    let Named { files, foreign } = policy_files(fields);
    let problems = fields.value().sheet().problems;
    let sheets: Vec<Sheet<'_>> = files.iter().map(|file| Sheet { file, problems }).collect();
    let parsed: Vec<(&Sheet<'_>, Vec<Node>)> = sheets
        .iter()
        .filter_map(|sheet| Some((sheet, documents(sheet)?)))
        .collect();
    for (sheet, nodes) in &parsed {
        if nodes.is_empty() {
            sheet.warn(1, "", "there is nothing in this file", "remove it");
        }
    }
    let documents: Vec<Value<'_>> = parsed
        .iter()
        .flat_map(|(sheet, nodes)| nodes.iter().map(|node| Value::root(node, sheet)))
        .collect();
    let mut rules = policies::lower(&documents, context);
    containers_policy::lower(&foreign, context, &mut rules);
    rules
}

/// What `policies` names.
struct Named<'a> {
    /// Files of our own.
    files: Vec<PathBuf>,
    /// Files of containers/image.
    foreign: Vec<containers_policy::Source<'a>>,
}

/// The policy files, each once, in the order in which they are named; those of a folder by
/// name.
fn policy_files<'a>(fields: &Fields<'a>) -> Named<'a> {
    const MEND: &str = "name files or folders of *.yaml: policies: [policies/]";
    let given = fields.at("policies");
    let place = given.as_ref().unwrap_or(fields.value());
    let items = given.as_ref().map_or(Some(Vec::new()), Value::list);
    if items.as_ref().is_some_and(Vec::is_empty) {
        place.warn("there is no policy, so every pull is refused", MEND);
    }
    let mut named = Named {
        files: Vec::new(),
        foreign: Vec::new(),
    };
    let mut seen = BTreeSet::new();
    // One file by two ways would be told as a heap of names that stand twice.
    let mut is_new = |item: &Value<'_>, file: &Path| {
        let new = seen.insert(file.canonicalize().unwrap_or_else(|_| file.to_owned()));
        if !new {
            let message = format!("{} is named more than once", file.display());
            item.warn(&message, "it is read once; remove the other");
        }
        new
    };
    for item in items.unwrap_or_default() {
        if item.as_text().is_none() && !item.is_null() {
            let source = foreign(&item, MEND);
            let source = source.filter(|source| is_new(&item, &source.path));
            named.foreign.extend(source);
            continue;
        }
        let files = item.path_value().map(|path| expand(&item, path));
        let files = files.unwrap_or_default();
        let new = files.into_iter().filter(|file| is_new(&item, file));
        named.files.extend(new);
    }
    named
}

/// A file that is not of our own kind.
fn foreign<'a>(item: &Value<'a>, mend: &str) -> Option<containers_policy::Source<'a>> {
    let fields = item.fields(&schema::POLICY_SOURCE)?;
    if fields.is_empty() {
        item.error("this names no file", mend);
    }
    let value = fields.at("containers_policy_json")?;
    let path = value.path_value()?;
    Some(containers_policy::Source { value, path })
}

/// The file itself, or those of the folder.
fn expand(item: &Value<'_>, path: PathBuf) -> Vec<PathBuf> {
    if !path.is_dir() {
        return match path.exists() {
            true => vec![path],
            false => {
                // Watched, so that it is noticed when it comes.
                let _ = item.sheet().read(&path);
                item.error(
                    &format!("there is no file or folder {}", path.display()),
                    "a relative path starts at the file that names it",
                );
                Vec::new()
            }
        };
    }
    let folder = match item.sheet().list(&path) {
        Ok(folder) => folder,
        Err(error) => {
            let message = format!("cannot read the folder {}: {error}", path.display());
            item.error(&message, "make it readable, or name its files one by one");
            return Vec::new();
        }
    };
    for inner in &folder.folders {
        let message = format!(
            "{} is a folder within a folder, and is not read",
            inner.display()
        );
        item.warn(
            &message,
            "name it under `policies` too, if it holds policies",
        );
    }
    if folder.files.is_empty() {
        let message = format!("{} holds no *.yaml file", path.display());
        item.warn(&message, "put policies there, or remove it");
    }
    folder.files
}
