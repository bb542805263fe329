//! Which files a configuration was read from, and what they held: so that a change is noticed.
//!
//! Contents are compared, by their digests, and no notifications of the file system are listened
//! to: a Kubernetes ConfigMap changes by a symbolic link that is exchanged far away from the files
//! that were named, editors replace files, and network file systems notify nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::files;
use crate::config::files::Folder;
use crate::config::files::ReadError;
use crate::oci::Digest;

/// Everything that was looked at, with what was found: `None` where nothing could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, Option<Digest>>);

impl Sources {
    /// Looks at all of it again, and gives what is found now. It equals what was found before
    /// exactly when nothing has changed.
    #[must_use]
    pub fn look_again(&self) -> Self {
        let paths = self.0.keys().cloned();
        Self(paths.map(|path| (path.clone(), look(&path))).collect())
    }

    pub(super) fn file(&mut self, path: &Path, read: &Result<Vec<u8>, ReadError>) {
        let found = read.as_ref().ok().map(|bytes| Digest::sha256(bytes));
        self.0.insert(path.to_owned(), found);
    }

    pub(super) fn folder(&mut self, path: &Path, listed: &Result<Folder, ReadError>) {
        let found = listed.as_ref().ok().map(names);
        self.0.insert(path.to_owned(), found);
    }
}

fn look(path: &Path) -> Option<Digest> {
    if path.is_dir() {
        return files::list(path).ok().as_ref().map(names);
    }
    let bytes = files::read(path).ok()?;
    Some(Digest::sha256(&bytes))
}

fn names(folder: &Folder) -> Digest {
    let mut names = Vec::new();
    for path in folder.files.iter().chain(&folder.folders) {
        names.extend_from_slice(path.as_os_str().as_encoded_bytes());
        names.push(0);
    }
    Digest::sha256(&names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use crate::config::load_watched;
    use crate::config::tests::{CHECKS, now};

    /// A configuration in a folder as Kubernetes mounts a ConfigMap: links to files in `..data`,
    /// which is a link itself.
    fn mounted() -> TempDir {
        let folder = TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (version, policy) in [("..1", "default: deny"), ("..2", "default: unsafe_allow")] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("policy.yaml"), policy).expect("a file");
        }
        symlink("..1", at("..data")).expect("a link");
        symlink("..data/policy.yaml", at("policy.yaml")).expect("a link");
        fs::create_dir(at("more")).expect("a folder");
        fs::write(
            at("pullgate.yaml"),
            "upstreams: { ghcr.io: {} }\npolicies: [policy.yaml, more, later.yaml]\n",
        )
        .expect("a file");
        folder
    }

    #[test]
    fn every_change_is_noticed_and_nothing_else() {
        let folder = mounted();
        let at = |name: &str| folder.path().join(name);
        let (sources, _) = load_watched(&at("pullgate.yaml"), &CHECKS, now());
        assert_eq!(sources.look_again(), sources);
        // Touched, and as before.
        let text = fs::read(at("pullgate.yaml")).expect("a file");
        fs::write(at("pullgate.yaml"), text).expect("a file");
        fs::write(at("unrelated.txt"), "x").expect("a file");
        assert_eq!(sources.look_again(), sources);

        type Change<'a> = (&'a str, &'a dyn Fn());
        let changes: [Change<'_>; 4] = [
            ("the swap of a ConfigMap", &|| {
                symlink("..2", at("..next")).expect("a link");
                fs::rename(at("..next"), at("..data")).expect("a swap");
            }),
            ("a file that was not there", &|| {
                fs::write(at("later.yaml"), "").expect("a file");
            }),
            ("a new file in a folder", &|| {
                fs::write(at("more/new.yaml"), "").expect("a file");
            }),
            ("a file that goes", &|| {
                fs::remove_file(at("policy.yaml")).expect("a file");
            }),
        ];
        let mut known = sources;
        for (what, change) in changes {
            change();
            assert_ne!(known.look_again(), known, "{what}");
            known = load_watched(&at("pullgate.yaml"), &CHECKS, now()).0;
            assert_eq!(known.look_again(), known, "{what}");
        }
    }
}
