//! What is wrong with a configuration, said so that a person can mend it.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::Sources;
use crate::config::files;
use crate::config::files::Folder;
use crate::config::files::ReadError;

/// How many problems are kept; a person mends the first ones and asks again.
const PROBLEMS_MAX: usize = 200;

/// Whether a problem stops the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It does: the running configuration stays.
    Error,
    /// It does not, and it is probably not what was meant.
    Warning,
}

/// One problem: where it stands, what is wrong, and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// The dotted path of the key: `policies[2].signed_by`. Empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
    /// Whether it stops the load.
    pub severity: Severity,
}

impl Problem {
    /// True when it stops the load.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {} (mend: {})", self.message, self.mend)
    }
}

/// Collects problems while the files are read, so that all of them are told at once; and which
/// files these are.
#[derive(Debug, Default)]
pub(super) struct Problems {
    told: RefCell<Vec<Problem>>,
    sources: RefCell<Sources>,
}

impl Problems {
    /// Keeps the problem, unless there are already more than anybody reads. The first error
    /// is always kept.
    pub(super) fn push(&self, problem: Problem) {
        let mut problems = self.told.borrow_mut();
        let kept = problems.len();
        if kept < PROBLEMS_MAX || (problem.is_error() && !problems.iter().any(Problem::is_error)) {
            problems.push(problem);
        }
    }

    /// All of them: the file `first` first, then by file and line.
    pub(super) fn into_sorted(self, first: &Path) -> (Sources, Vec<Problem>) {
        let mut problems = self.told.into_inner();
        problems.sort_by(|one, two| {
            let key =
                |problem: &Problem| (problem.file != first, problem.file.clone(), problem.line);
            key(one).cmp(&key(two))
        });
        (self.sources.into_inner(), problems)
    }
}

/// A file that is being read, and where its problems go.
#[derive(Clone, Copy)]
pub(super) struct Sheet<'a> {
    /// The file, as it was named.
    pub(super) file: &'a Path,
    /// Where its problems go.
    pub(super) problems: &'a Problems,
}

impl Sheet<'_> {
    /// Tells that what stands there is wrong.
    pub(super) fn error(&self, line: usize, key: &str, message: &str, mend: &str) {
        self.push(Severity::Error, line, key, message, mend);
    }

    /// Tells that what stands there is probably not what was meant.
    pub(super) fn warn(&self, line: usize, key: &str, message: &str, mend: &str) {
        self.push(Severity::Warning, line, key, message, mend);
    }

    fn push(&self, severity: Severity, line: usize, key: &str, message: &str, mend: &str) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            message: message.to_owned(),
            mend: mend.to_owned(),
            severity,
        });
    }

    /// The bytes of a file, which is watched from now on.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let read = files::read(path);
        self.problems.sources.borrow_mut().file(path, &read);
        read
    }

    /// What a folder of policies holds; it is watched from now on.
    pub(super) fn list(&self, path: &Path) -> Result<Folder, ReadError> {
        let listed = files::list(path);
        self.problems.sources.borrow_mut().folder(path, &listed);
        listed
    }

    /// `path` as this file means it: relative paths are relative to the file itself.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// A text of the user's within a message: quoted, on one line, of bounded length.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// A text of the user's, on one line and of bounded length.
pub(super) fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    let mut shown: String = text
        .chars()
        .take(CHARACTERS_MAX)
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// `a`, `b` or `c`.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>, before_last: &str) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    match words.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} {before_last} {last}", most.join(", ")),
    }
}

/// The dotted path of `key` within what stands at `path`.
pub(super) fn joined(path: &str, key: &str) -> String {
    let key = match key {
        "" => "\"\"".to_owned(),
        key => shown(key),
    };
    match path {
        "" => key,
        path => format!("{path}.{key}"),
    }
}
