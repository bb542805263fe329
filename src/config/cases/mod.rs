//! Policy tests: files that say what is proven of an image, and which verdict is expected.
//!
//! The facts are written by hand in the test, or stand in a file that `pullgate verify
//! --record` has written; both are read by the same sections. Nothing is judged here.

mod certified;
mod facts;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::Checks;
use crate::config::Problem;
use crate::config::Settings;
use crate::config::files;
use crate::config::parse_image;
use crate::config::problem::Problems;
use crate::config::problem::Sheet;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::sources;
use crate::config::units;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Reason;
use crate::policy::Subject;

/// One test of the policy.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, for people.
    pub name: String,
    /// The file it stands in.
    pub file: PathBuf,
    /// The line it begins on, from 1.
    pub line: usize,
    /// The image that is asked for.
    pub image: ImageName,
    /// The tag or digest that is asked for.
    pub reference: Reference,
    /// What is proven of it.
    pub subject: Subject,
    /// Who pulls, as it was written.
    pub puller: Option<String>,
    /// The time of the judgement: as it was written, else as it was recorded.
    pub now: Option<Timestamp>,
    /// What should come of it.
    pub expected: Expected,
}

/// What a test expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The reason's word: `admitted`, or why not. `None`: any refusal.
    pub reason: Option<Reason>,
    /// The policy that refuses.
    pub policy: Option<String>,
}

/// Reads the tests of a file, or of all `*.yaml` and `*.yml` files of a folder.
///
/// # Errors
/// Every problem of every file.
pub fn load_cases(
    path: &Path,
    settings: &Settings,
    checks: &Checks,
) -> Result<Vec<Case>, Vec<Problem>> {
    let problems = Problems::default();
    let context = Context { settings, checks };
    let cases: Vec<Case> = case_files(path, &problems)
        .iter()
        .flat_map(|file| {
            let sheet = Sheet {
                file,
                problems: &problems,
            };
            let documents = sources::documents(&sheet).unwrap_or_default();
            documents
                .iter()
                .flat_map(|node| document(&Value::root(node, &sheet), &context))
                .collect::<Vec<Case>>()
        })
        .collect();
    let sheet = Sheet {
        file: path,
        problems: &problems,
    };
    if cases.is_empty() {
        sheet.error(0, "", "there is no test here", "write some under `tests:`");
    }
    let (_, problems) = problems.into_sorted(path);
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    Ok(cases)
}

/// What tests are read with.
struct Context<'a> {
    settings: &'a Settings,
    checks: &'a Checks,
}

fn case_files(path: &Path, problems: &Problems) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    match files::list(path) {
        Ok(folder) => folder.files,
        Err(error) => {
            let sheet = Sheet {
                file: path,
                problems,
            };
            let message = format!("cannot read this folder: {error}");
            sheet.error(0, "", &message, "make it readable, or name a file in it");
            Vec::new()
        }
    }
}

fn document(root: &Value<'_>, context: &Context<'_>) -> Vec<Case> {
    let tests = root
        .fields(&schema::TEST_FILE)
        .and_then(|fields| fields.required("tests", "write the tests as a list below `tests:`"))
        .and_then(|value| value.filled_list("write at least one test"));
    let tests = tests.unwrap_or_default();
    tests
        .iter()
        .filter_map(|test| case(test, context))
        .collect()
}

fn case(value: &Value<'_>, context: &Context<'_>) -> Option<Case> {
    let fields = value.fields(&schema::TEST)?;
    let name = fields.required("name", "say in a few words what it shows");
    let name = name.and_then(|value| value.text().map(str::to_owned));
    let asked = fields
        .required("image", "name the image: REGISTRY/REPOSITORY:TAG")
        .and_then(|value| {
            value.parsed(
                |text| parse_image(text, context.settings),
                "write REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@DIGEST, with the host of \
                 an upstream of the configuration",
            )
        });
    let now = fields
        .at("now")
        .map(|value| value.parsed(units::start, units::START_MEND));
    let puller = fields.at("as").map(|value| value.text().map(str::to_owned));
    let expected = fields
        .required("expect", "say what should come of it: `expect: admitted`")
        .and_then(|value| expected(&value));
    let (image, reference) = asked?;
    let read = match fields.at("facts") {
        Some(facts) => facts::lower(&facts, &image, &reference, context)?,
        None => facts::nothing(&image, &reference),
    };
    Some(Case {
        name: name?,
        file: value.sheet().file.to_owned(),
        line: value.line(),
        subject: read.subject,
        now: match now {
            Some(now) => Some(now?),
            None => read.recorded_at,
        },
        puller: whole(puller)?,
        image,
        reference,
        expected: expected?,
    })
}

/// `admitted`, `denied`, a reason's word, or a mapping with the policy.
fn expected(value: &Value<'_>) -> Option<Expected> {
    if value.as_text().is_some() {
        return Some(Expected {
            reason: reason(value)?,
            policy: None,
        });
    }
    let fields = value.fields(&schema::EXPECTATION)?;
    let reason = fields
        .required("reason", "write `admitted`, `denied` or a reason's word")
        .and_then(|value| reason(&value));
    let policy = fields.at("policy").map(|value| {
        let name = value.text()?;
        Some((name.to_owned(), value))
    });
    let reason = reason?;
    let policy = whole(policy)?;
    if let (Some(Reason::Admitted), Some((name, value))) = (reason, &policy) {
        value.error(
            &format!("an admitted image is not refused by {}", quoted(name)),
            "remove the line",
        );
        return None;
    }
    Some(Expected {
        reason,
        policy: policy.map(|(name, _)| name),
    })
}

fn reason(value: &Value<'_>) -> Option<Option<Reason>> {
    let mut words: Vec<(&str, Option<Reason>)> = Reason::ALL
        .iter()
        .map(|reason| (reason.as_str(), Some(*reason)))
        .collect();
    words.push(("denied", None));
    value.choice(&words)
}

#[cfg(test)]
mod tests;
