//! Documents of other engines as tests/config holds them, and what docs/FOREIGN.md's tables say of
//! them.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use regex::Regex;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the table below a heading of docs/FOREIGN.md, without its head.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
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
pub(crate) fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The files of a case, by name.
pub(crate) fn files(case: &str) -> BTreeMap<String, String> {
    let text = read(&format!("tests/config/{case}"));
    let parts = text.split("\n-- ").skip(1);
    let part = |part: &str| {
        let (name, text) = part.split_once(" --\n").expect("a name");
        (name.to_owned(), text.to_owned())
    };
    parts.map(part).collect()
}

/// Each document of a case, with the errors that are told of it: the field and the rest.
pub(crate) fn documents(case: &str) -> BTreeMap<String, Vec<(String, String)>> {
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

/// The evidence with which an image passes, and whether all else passes with a warning, as the
/// last cell of a row tells it: `passes: A, B; all else with a warning`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passes {
    pub(crate) evidence: BTreeSet<String>,
    pub(crate) else_warned: bool,
}

impl Passes {
    /// None, where the cell tells of no verdict; `all` is everything.
    pub(crate) fn told(cell: &str, all: &[&str]) -> Option<Self> {
        let (_, told) = cell.split_once("passes: ")?;
        let (list, rest) = told.split_once("; ").unwrap_or((told, ""));
        assert!(["", "all else with a warning"].contains(&rest), "{cell}");
        let evidence = match list {
            "nothing" => Vec::new(),
            "everything" => all.to_vec(),
            list => list.split(", ").collect(),
        };
        Some(Self {
            evidence: evidence.into_iter().map(str::to_owned).collect(),
            else_warned: !rest.is_empty(),
        })
    }
}
