//! The audit log itself: lines of JSON in a file that is rotated by size, or on stderr.
//!
//! A file that was moved away, deleted or cut short by others (logrotate) is noticed before the
//! next lines are written. What cannot be written is counted, told once, and lost: the disk may be
//! full, and pulls go on. A line is there as a whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::audit::Record;
use crate::metrics::AuditOutcome;
use crate::metrics::Metrics;

/// Who pulled what is for operators.
const MODE: u32 = 0o640;

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To stderr, between the lines of the log.
    Stderr,
    /// Into a file.
    File {
        /// Its path; older ones have a number after it.
        path: PathBuf,
        /// The size at which another is begun.
        bytes_max: u64,
        /// How many there are at most, the one that is written included.
        files_max: usize,
    },
}

/// The audit log. Whoever calls is on a thread that may block.
#[derive(Debug)]
pub struct Trail {
    place: Place,
    file: Option<File>,
    /// Whether the last write failed.
    is_failing: bool,
    metrics: Arc<Metrics>,
}

impl Trail {
    /// Opens the log.
    ///
    /// # Errors
    /// When its file can be neither opened nor made: who wants a log learns so at the start.
    pub fn open(place: Place, metrics: Arc<Metrics>) -> io::Result<Self> {
        let file = match &place {
            Place::Stderr => None,
            Place::File { path, .. } => Some(open(path)?),
        };
        Ok(Self {
            place,
            file,
            is_failing: false,
            metrics,
        })
    }

    /// Writes a line for each record, or counts those that it could not write.
    pub fn write(&mut self, records: &[Record]) {
        let mut lines = Vec::new();
        let mut count = 0;
        for record in records {
            let line = line(record);
            if !lines.is_empty() && self.is_full(lines.len() + line.len()) {
                self.write_lines(&lines, count);
                (lines, count) = (Vec::new(), 0);
            }
            lines.extend(line);
            count += 1;
        }
        self.write_lines(&lines, count);
    }

    /// Whether so much more would be too much for one file.
    fn is_full(&self, more: usize) -> bool {
        let Place::File { bytes_max, .. } = &self.place else {
            return false;
        };
        let held = self.file.as_ref().and_then(|file| file.metadata().ok());
        held.map_or(0, |held| held.len()) + more as u64 > *bytes_max
    }

    fn write_lines(&mut self, lines: &[u8], count: u64) {
        if count == 0 {
            return;
        }
        let result = self.try_write(lines);
        match &result {
            Ok(()) if self.is_failing => tracing::info!("the audit log is written again"),
            Err(error) if !self.is_failing => tracing::error!(
                place = ?self.place, %error,
                "the audit log cannot be written; decisions are counted, and not on record"
            ),
            _ => {}
        }
        self.is_failing = result.is_err();
        let outcome = match result {
            Ok(()) => AuditOutcome::Written,
            Err(_) => AuditOutcome::Failed,
        };
        self.metrics.audited(outcome, count);
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        let Place::File {
            path,
            bytes_max,
            files_max,
        } = self.place.clone()
        else {
            return io::stderr().lock().write_all(lines);
        };
        if self.file.as_ref().is_some_and(|file| is_gone(file, &path)) {
            self.file = None;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&path)?,
        };
        let mut before = file.metadata()?.len();
        if before > 0 && before + lines.len() as u64 > bytes_max {
            rotate(&path, files_max)?;
            file = open(&path)?;
            before = file.metadata()?.len();
        }
        let written = file.write_all(lines);
        if written.is_err() {
            // No half a line stays, where that can be helped.
            file.set_len(before)?;
        }
        self.file = Some(file);
        written
    }
}

fn line(record: &Record) -> Vec<u8> {
    let mut line = record.to_json().to_string().into_bytes();
    line.push(b'\n');
    line
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)
}

/// Whether something else, or nothing, has the file's name by now.
fn is_gone(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) != (named.dev(), named.ino()),
        _ => true,
    }
}

/// Moves the file to the first number, what is there to the next, and so on; what would be one too
/// many is overwritten, and with it what a larger `files_max` has left.
fn rotate(path: &Path, files_max: usize) -> io::Result<()> {
    let numbered = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if files_max <= 1 {
        return fs::remove_file(path);
    }
    for number in (1..files_max - 1).rev() {
        let (from, to) = (numbered(number), numbered(number + 1));
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::audit::Decided;
    use crate::audit::Decisions;

    struct Note(String);

    impl Decided for Note {
        fn describe(&self) -> Value {
            json!({ "image": self.0 })
        }
    }

    struct Log {
        folder: tempfile::TempDir,
        metrics: Arc<Metrics>,
        trail: Trail,
        decisions: Decisions,
    }

    impl Log {
        fn new(bytes_max: u64, files_max: usize) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let metrics = Arc::new(Metrics::new().expect("metrics"));
            let place = Place::File {
                path: folder.path().join("audit.jsonl"),
                bytes_max,
                files_max,
            };
            Self {
                trail: Trail::open(place, Arc::clone(&metrics)).expect("opens"),
                folder,
                metrics,
                decisions: Decisions::new(20, 7),
            }
        }

        fn decide(&self, name: &str) {
            let client = [127, 0, 0, 1].into();
            let decided = Arc::new(Note(name.to_owned()));
            let time = jiff::Timestamp::UNIX_EPOCH;
            self.decisions.record(time, client, None, decided);
        }

        fn write(&mut self, name: &str) {
            self.decide(name);
            self.trail.write(&self.decisions.latest(1));
        }

        fn read(&self, name: &str) -> Vec<String> {
            let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let image = |line: &str| {
                let line: Value = serde_json::from_str(line).expect("a line of JSON");
                line["image"].as_str().expect("an image").to_owned()
            };
            text.lines().map(image).collect()
        }

        fn counted(&self, outcome: &str, count: u64) {
            let text = self.metrics.render().expect("metrics");
            let line = format!("pullgate_audit_records_total{{outcome=\"{outcome}\"}} {count}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }

    #[test]
    fn files_are_rotated_by_size_and_bounded_in_number() {
        let mut log = Log::new(300, 3);
        for number in 0..12 {
            log.write(&format!("image-{number:02}"));
        }
        log.counted("written", 12);
        let mut all = Vec::new();
        for name in ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"] {
            let lines = log.read(name);
            assert!(!lines.is_empty() && lines.len() <= 3, "{name}: {lines:?}");
            all.extend(lines);
        }
        assert!(!log.folder.path().join("audit.jsonl.3").exists());
        let latest: Vec<String> = (12 - all.len()..12)
            .map(|number| format!("image-{number:02}"))
            .collect();
        assert_eq!(all, latest, "none is lost between");
        // Many that come at once are no reason for a file that is larger.
        let mut burst = Log::new(300, 20);
        for number in 0..12 {
            burst.decide(&format!("image-{number:02}"));
        }
        burst.trail.write(&burst.decisions.latest(12));
        burst.counted("written", 12);
        for entry in fs::read_dir(burst.folder.path()).expect("a folder") {
            let held = entry.expect("an entry").metadata().expect("metadata").len();
            assert!(held <= 300, "{held}");
        }
        let mut one = Log::new(1, 1);
        one.write("a");
        one.write("b");
        assert_eq!(one.read("audit.jsonl"), ["b"]);
        assert_eq!(
            fs::read_dir(one.folder.path()).expect("a folder").count(),
            1
        );
    }

    #[test]
    fn a_file_that_was_moved_away_or_cut_is_begun_anew() {
        let mut log = Log::new(1 << 20, 3);
        log.write("a");
        let path = log.folder.path().join("audit.jsonl");
        fs::rename(&path, log.folder.path().join("moved")).expect("moves");
        log.write("b");
        assert_eq!(log.read("moved"), ["a"]);
        assert_eq!(log.read("audit.jsonl"), ["b"]);
        fs::remove_file(&path).expect("is removed");
        log.write("c");
        assert_eq!(log.read("audit.jsonl"), ["c"]);
        File::create(&path).expect("is cut");
        log.write("d");
        assert_eq!(log.read("audit.jsonl"), ["d"]);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_pulls_go_on() {
        let mut log = Log::new(1 << 20, 3);
        log.write("a");
        let path = log.folder.path().join("audit.jsonl");
        fs::remove_file(&path).expect("is removed");
        fs::create_dir(&path).expect("in its way");
        log.write("b");
        log.write("c");
        log.counted("failed", 2);
        fs::remove_dir(&path).expect("is removed");
        log.write("d");
        assert_eq!(log.read("audit.jsonl"), ["d"]);
        log.counted("written", 2);
    }

    // /dev/full is a full disk: every write to it fails.
    #[test]
    fn a_full_disk_is_counted() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let place = Place::File {
            path: "/dev/full".into(),
            bytes_max: 1 << 20,
            files_max: 2,
        };
        let mut log = Log::new(1, 1);
        log.trail = Trail::open(place, Arc::clone(&metrics)).expect("opens");
        log.metrics = metrics;
        log.write("a");
        log.counted("failed", 1);
    }
}
