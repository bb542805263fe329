//! containers' `policy.json` (containers/image 5.42, containers-policy.json(5)), lowered into
//! policies like any other: one for each requirement of each scope, since all of them have to
//! hold. They mean what they mean there, but for what docs/FOREIGN.md tells; what cannot be said
//! here is a load error that names the field.
//!
//! Of the transports, `docker` is the one that pulls come by. What stands under the others is
//! read as strictly and has no effect, so its keys need not be there.

mod authorities;
mod identity;
mod keys;
mod requirement;
mod scope;
mod sections;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::containers_policy::scope::Scope;
use crate::config::json;
use crate::config::policies::Context;
use crate::config::problem::Sheet;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::problem::shown;
use crate::config::reader::Value;
use crate::config::suggest::nearest;
use crate::policy::Glob;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::Rules;
use crate::policy::Signs;

/// The transport of registries.
const DOCKER: &str = "docker";

/// The transports that containers/image knows beside it.
const OTHERS: &[&str] = &[
    "atomic",
    "containers-storage",
    "dir",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
];

const MEND_EMPTY: &str = "write [{ \"type\": \"reject\" }], or what is asked for";

/// The most characters of a file's name that stand in the names of its policies.
const FILE_CHARACTERS_MAX: usize = 100;

/// A file as the configuration names it.
pub(super) struct Source<'a> {
    /// The value that names it.
    pub(super) value: Value<'a>,
    /// Its path.
    pub(super) path: PathBuf,
}

/// What requirements are read with.
pub(super) struct Reader<'a> {
    context: &'a Context<'a>,
    /// Whether what is read can decide on a pull. Otherwise only its shape is looked at.
    has_effect: bool,
}

impl<'a> Reader<'a> {
    fn new(context: &'a Context<'a>, has_effect: bool) -> Self {
        Self {
            context,
            has_effect,
        }
    }
}

/// Adds the policies of these files to `rules`.
pub(super) fn lower(sources: &[Source<'_>], context: &Context<'_>, rules: &mut Rules) {
    let reader = Reader::new(context, true);
    let mut names: BTreeSet<Arc<str>> = rules
        .policies
        .iter()
        .map(|policy| Arc::clone(&policy.name))
        .collect();
    for source in sources {
        let problems = source.value.sheet().problems;
        let sheet = Sheet {
            file: &source.path,
            problems,
        };
        let Some(text) = text(source) else {
            continue;
        };
        let Some(node) = json::parse(&text, &sheet) else {
            continue;
        };
        let parts = document(&Value::root(&node, &sheet), &reader);
        let file = file_name(&source.path);
        let policies = parts.unwrap_or_default();
        for part in &policies {
            let name = unused(&format!("{file}:{}", part.line), &names);
            names.insert(Arc::clone(&name));
            rules.policies.push(Arc::new(part.policy(name, &policies)));
        }
    }
}

fn text(source: &Source<'_>) -> Option<String> {
    let (path, bytes) = source.value.file()?;
    String::from_utf8(bytes)
        .map_err(|_| {
            let message = format!("{} is not UTF-8", path.display());
            source.value.error(&message, "save the file as UTF-8");
        })
        .ok()
}

/// The file's name as far as it fits into the names of policies.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = |one: char| match one.is_ascii_graphic() && !matches!(one, '"' | '\\') {
        true => one,
        false => '_',
    };
    name.chars().take(FILE_CHARACTERS_MAX).map(plain).collect()
}

/// `name`, or with a number behind it where there is one already: several requirements may stand
/// on one line.
fn unused(name: &str, names: &BTreeSet<Arc<str>>) -> Arc<str> {
    let numbered = (2..).map(|number| format!("{name}.{number}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(|name| !names.contains(name.as_str()))
        .unwrap_or_default()
        .into()
}

/// A requirement of a scope.
struct Part {
    scope: Scope,
    globs: Vec<Glob>,
    line: usize,
    requirement: Requirement,
}

impl Part {
    /// The policy that it comes to among all of its file: for what no scope within its own is
    /// for.
    fn policy(&self, name: Arc<str>, all: &[Self]) -> Policy {
        let mut within: Vec<&Self> = all
            .iter()
            .filter(|part| self.scope.has_within(&part.scope))
            .collect();
        // The requirements of one scope stand side by side.
        within.dedup_by(|one, two| one.scope == two.scope);
        let except = within.iter().flat_map(|part| part.globs.clone());
        Policy {
            name,
            images: self.globs.clone(),
            except: except.collect(),
            mode: Mode::Enforce,
            requirement: self.requirement.clone(),
            signs: Signs::Asked,
            pulled_by: None,
            no_rollback: None,
        }
    }
}

/// All requirements that can decide on a pull.
fn document(document: &Value<'_>, reader: &Reader<'_>) -> Option<Vec<Part>> {
    let fields = document.fields(&sections::DOCUMENT)?;
    let default = fields.required("default", "write \"default\": [{ \"type\": \"reject\" }]");
    let docker = document
        .peek("transports")
        .and_then(|(_, transports)| transports.peek(DOCKER));
    let default_is_docker = docker.is_some_and(|(_, docker)| docker.peek("").is_some());
    let mut parts = Vec::new();
    if let Some(value) = default {
        let called = "what no scope names";
        match default_is_docker {
            // It is for the other transports alone.
            true => drop(requirements(
                &value,
                called,
                &Reader::new(reader.context, false),
            )),
            false => {
                warn_of_accepting(&value);
                add(&mut parts, &Scope::All, &value, called, reader);
            }
        }
    }
    let transports = fields.at("transports").and_then(|value| value.entries());
    for (transport, value) in transports.unwrap_or_default() {
        let scopes = value.entries().unwrap_or_default();
        match transport {
            DOCKER => {
                for (text, value) in scopes {
                    scope(text, &value, &mut parts, reader);
                }
            }
            other if OTHERS.contains(&other) => {
                let reader = Reader::new(reader.context, false);
                for (text, value) in scopes {
                    requirements(&value, text, &reader);
                }
            }
            other => unknown(other, &value),
        }
    }
    Some(parts)
}

fn unknown(transport: &str, value: &Value<'_>) {
    let known = || OTHERS.iter().copied().chain([DOCKER]);
    value.error(
        &format!("there is no transport {}", quoted(transport)),
        &match nearest(transport, known()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!(
                "write `{DOCKER}`; there are also {}",
                listed(OTHERS.iter().copied(), "and")
            ),
        },
    );
}

fn warn_of_accepting(value: &Value<'_>) {
    let items = value.is_list().then(|| value.list()).flatten();
    let accepts = |item: &Value<'_>| {
        let word = item.peek("type").and_then(|(_, word)| word.as_text());
        word == Some("insecureAcceptAnything")
    };
    if items.is_some_and(|items| !items.is_empty() && items.iter().all(accepts)) {
        value.warn(
            "every image that no scope names passes, signed or not",
            "write [{ \"type\": \"reject\" }]",
        );
    }
}

fn scope(text: &str, value: &Value<'_>, parts: &mut Vec<Part>, reader: &Reader<'_>) {
    let scope = match Scope::parse(text) {
        Ok(scope) => scope,
        Err(unmatched) => {
            let message = format!("{} can never match: {}", quoted(text), unmatched.why);
            value.error(&message, &unmatched.mend);
            return;
        }
    };
    if matches!(&scope, Scope::Reference { text } if !text.contains('@')) {
        value.warn(
            "docker and containerd look a tag up and then ask for its digest, which this scope is \
             not for: they fall to the wider scopes and the default",
            "name the repository, unless all who pull are podman, skopeo or CRI-O",
        );
    }
    match &scope {
        Scope::All => {
            warn_of_accepting(value);
            add(parts, &scope, value, "what no scope names", reader);
        }
        _ => add(parts, &scope, value, &shown(text), reader),
    }
}

/// Adds the requirements of a scope, if they are right.
fn add(parts: &mut Vec<Part>, scope: &Scope, value: &Value<'_>, called: &str, reader: &Reader<'_>) {
    let Ok(globs) = scope.globs() else {
        value.error("the scope is too long", "name a namespace, or the host");
        return;
    };
    for (line, requirement) in requirements(value, called, reader) {
        parts.push(Part {
            scope: scope.clone(),
            globs: globs.clone(),
            line,
            requirement,
        });
    }
}

/// The requirements of a list. All of them have to hold, so that none may be missing: where one
/// is wrong the document does not load.
fn requirements(value: &Value<'_>, called: &str, reader: &Reader<'_>) -> Vec<(usize, Requirement)> {
    let items = value.filled_list(MEND_EMPTY).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| Some((item.line(), requirement::lower(item, called, reader)?)))
        .collect()
}
