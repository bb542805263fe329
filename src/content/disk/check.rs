//! Whether a directory could be used, before it is.

use std::{
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io,
    path::Path,
    process,
};

/// Whether a cache directory can be written to: itself, or, as long as it is not there, the
/// nearest one above it that is. Leaves nothing behind.
///
/// # Errors
/// What the file system says.
pub fn check_directory(directory: &Path) -> io::Result<()> {
    let there = directory.ancestors().find(|above| above.exists());
    // A relative path has the directory that we are in above it.
    let there = there.filter(|above| !above.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    // Others may check at once, and in containers every process may have the same number.
    // `RandomState` is seeded by the system, which is chance enough.
    let chance = RandomState::new().hash_one(());
    let trial = there.join(format!(".pullgate-{}-{chance:x}", process::id()));
    File::options().create_new(true).write(true).open(&trial)?;
    fs::remove_file(trial)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn many_check_at_once() {
        let folder = tempfile::tempdir().expect("a directory");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        check_directory(folder.path()).expect("it can be written to");
                    }
                });
            }
        });
        let left = fs::read_dir(folder.path()).expect("a directory").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn what_is_no_directory_is_told_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a directory");
        check_directory(folder.path()).expect("it can be written to");
        check_directory(&folder.path().join("not/yet/there")).expect("it could be made");
        let left = fs::read_dir(folder.path()).expect("a directory").count();
        assert_eq!(left, 0);
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        for wrong in [file.clone(), file.join("below")] {
            check_directory(&wrong).expect_err("a file is no directory");
        }
        // There even root writes nothing.
        check_directory(Path::new("/proc/pullgate")).expect_err("it cannot be written to");
    }
}
