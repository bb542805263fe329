//! What becomes of the store of hints of a process that lives no more: another one takes it over.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use redb::{Database, DatabaseError};

use super::{
    notebook::{EXTENSION, Failure, NAME, Notebook, failure, is_of_the_disk},
    parents, remembered,
};

/// What a store ends in that is being taken over.
const TAKEN: &str = "taken";
/// Rows that are written at once.
const TAKEN_AT_ONCE: usize = 1000;
/// How often it is looked for stores that are left, at most.
const LOOKED_EVERY: Duration = Duration::from_secs(10);
/// One that was written to a moment ago may be of a process that only starts again.
const LEFT_AFTER: Duration = Duration::from_secs(60);

impl Notebook {
    /// Takes over the stores of processes that live no more, now and then.
    pub(super) fn adopt(&self) {
        // Nobody waits for who is at it.
        let Ok(mut adopted_at) = self.adopted_at.try_lock() else {
            return;
        };
        if adopted_at.is_some_and(|at| at.elapsed() < LOOKED_EVERY) {
            return;
        }
        let mut is_left = false;
        for store in self.others() {
            match self.take_over(&store) {
                Ok(true) => tracing::info!(?store, "the hints of another process are taken over"),
                Ok(false) => is_left = true,
                Err(error) => {
                    tracing::warn!(?store, %error, "hints of another process cannot be read");
                    is_left = true;
                }
            }
        }
        self.lacks_some.fetch_or(is_left, Ordering::Relaxed);
        *adopted_at = Some(Instant::now());
    }

    fn others(&self) -> Vec<PathBuf> {
        let files = self.path.parent().map(fs::read_dir);
        let files = files.into_iter().flatten().flatten().flatten();
        let is_store = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let mut ends = [EXTENSION, TAKEN].into_iter();
            name.starts_with(NAME)
                && ends.any(|end| name.ends_with(&format!(".{end}")))
                && *path != self.path
        };
        files.map(|file| file.path()).filter(is_store).collect()
    }

    /// Whether nobody has written to it for a while.
    fn is_left(&self, store: &Path) -> bool {
        let written = fs::metadata(store).and_then(|about| about.modified());
        let now = SystemTime::from(self.clock.now());
        let age = written.map(|written| now.duration_since(written));
        age.is_ok_and(|age| age.is_ok_and(|age| age >= LEFT_AFTER))
    }

    /// False where a process lives that has it, or may come back for it, and where it cannot be read
    /// now, or be written down here.
    fn take_over(&self, store: &Path) -> Result<bool, Failure> {
        let taken = store.with_extension(TAKEN);
        let is_taken = store == taken;
        if !is_taken && (taken.exists() || !self.is_left(store)) {
            return Ok(false);
        }
        let from = match catch_unwind(|| Database::open(store)) {
            Ok(Ok(from)) => from,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => return Ok(false),
            Ok(Err(error)) => {
                let error = failure(error);
                return match is_of_the_disk(&error) {
                    true => Ok(false),
                    false => put_aside(store, error),
                };
            }
            Err(_) => return put_aside(store, crashed()),
        };
        // Whoever begins to use its name meanwhile has a new one, and not this one.
        if !is_taken && fs::rename(store, &taken).is_err() {
            return Ok(false);
        }
        // What is wrong with it is not to be taken for what is wrong with ours.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let parents = parents::take_over(&from, self)?;
            Ok(parents && remembered::take_over(&from, self)?)
        }));
        drop(from);
        match read {
            Ok(Ok(true)) => {
                fs::remove_file(taken).ok();
                Ok(true)
            }
            Ok(Ok(false)) => Ok(false),
            Ok(Err(error)) => put_aside(&taken, error),
            Err(_) => put_aside(&taken, crashed()),
        }
    }
}

/// Hands the rows of another store on, so many at a time, those of them that can be read; false where
/// they cannot be written.
pub(super) fn in_batches<T>(
    mut rows: impl Iterator<Item = Result<Option<T>, Failure>>,
    mut write: impl FnMut(Vec<T>) -> bool,
) -> Result<bool, Failure> {
    loop {
        let batch = rows.by_ref().take(TAKEN_AT_ONCE);
        let batch = batch.collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            return Ok(true);
        }
        if !write(batch.into_iter().flatten().collect()) {
            return Ok(false);
        }
    }
}

/// So that nobody tries again.
fn put_aside(store: &Path, error: Failure) -> Result<bool, Failure> {
    fs::rename(store, store.with_extension("damaged")).ok();
    Err(error)
}

fn crashed() -> Failure {
    Box::new(redb::Error::Corrupted("it cannot be read".to_owned()))
}
