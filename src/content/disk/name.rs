//! What files are called, and so what they are.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use crate::content::ContentKey;
use crate::oci::Algorithm;
use crate::oci::Digest;
use crate::oci::RegistryHost;
use crate::oci::Repository;

/// What a file holds. A blob that happens to be a manifest is not one for those who ask for
/// manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::content) enum Kind {
    /// The bytes of a manifest.
    Manifest,
    /// The bytes of a blob.
    Blob,
    /// What proved something, written down as one.
    Evidence,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Manifest, Self::Blob, Self::Evidence];

    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Manifest => "manifests",
            Self::Blob => "blobs",
            Self::Evidence => "evidence",
        }
    }
}

/// Digits of a repository's mark: 128 bits of a hash, which nobody meets by choice of a name.
const MARK_BYTES: usize = 16;

/// One file: what it holds, and the repository that it was had from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::content) struct FileName {
    pub(super) kind: Kind,
    pub(super) digest: Digest,
    /// A hash of the registry's host and the repository: names may be longer than a file's
    /// name may be.
    mark: [u8; MARK_BYTES],
}

/// What stands for a repository.
pub(super) fn mark(host: &RegistryHost, repository: &Repository) -> [u8; MARK_BYTES] {
    // Neither part can contain the byte between them.
    let full = format!("{host}\0{repository}");
    let mut mark = [0; MARK_BYTES];
    let hash = Digest::sha256(full.as_bytes());
    mark.copy_from_slice(&hash.as_bytes()[..MARK_BYTES]);
    mark
}

impl FileName {
    pub(in crate::content) fn new(kind: Kind, key: &ContentKey) -> Self {
        Self {
            kind,
            digest: key.digest,
            mark: mark(&key.host, &key.repository),
        }
    }

    /// The content's digest.
    pub(in crate::content) fn digest(&self) -> Digest {
        self.digest
    }

    /// What stands for its repository.
    pub(super) fn mark(&self) -> [u8; MARK_BYTES] {
        self.mark
    }

    /// The names that the same content can have, from the first to the last.
    pub(super) fn siblings(&self) -> RangeInclusive<Self> {
        let marked = |digit| Self {
            mark: [digit; MARK_BYTES],
            ..*self
        };
        marked(0)..=marked(u8::MAX)
    }

    /// The names that files in this folder can have, from the first to the last.
    pub(super) fn in_shard(
        kind: Kind,
        algorithm: Algorithm,
        folder: &Path,
    ) -> Option<RangeInclusive<Self>> {
        let first = u8::from_str_radix(folder.file_name()?.to_str()?, 16).ok()?;
        let bytes = match algorithm {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        };
        let bound = |digit: u8| {
            let mut digest = vec![digit; bytes];
            digest[0] = first;
            Some(Self {
                kind,
                digest: Digest::from_bytes(algorithm, &digest)?,
                mark: [digit; MARK_BYTES],
            })
        };
        Some(bound(0)?..=bound(u8::MAX)?)
    }

    /// Where the file lies below the root.
    pub(super) fn path(&self, root: &Path) -> PathBuf {
        let hex = self.digest.hex();
        let mut path = root.join(self.kind.folder());
        path.push(self.digest.algorithm().as_str());
        path.push(&hex[..2]);
        path.push(format!("{hex}.{:032x}", u128::from_be_bytes(self.mark)));
        path
    }

    /// The name of a file that was found in a folder; `None` for a stray one.
    pub(super) fn parse(kind: Kind, algorithm: Algorithm, name: &str) -> Option<Self> {
        let (hex, mark) = name.split_once('.')?;
        let digest = format!("{}:{hex}", algorithm.as_str()).parse().ok()?;
        let fits = mark.len() == MARK_BYTES * 2
            && mark
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let mark = u128::from_str_radix(mark, 16).ok().filter(|_| fits)?;
        Some(Self {
            kind,
            digest,
            mark: mark.to_be_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: &str, repository: &str) -> ContentKey {
        ContentKey {
            host: host.parse().expect("a host"),
            repository: repository.parse().expect("a repository"),
            digest: Digest::sha256(b"content"),
        }
    }

    #[test]
    fn a_name_survives_the_round_trip() {
        let name = FileName::new(Kind::Blob, &key("acme.test", "team/app"));
        let path = name.path(Path::new("/cache"));
        let file = path.file_name().expect("a file").to_str().expect("text");
        assert_eq!(
            FileName::parse(Kind::Blob, Algorithm::Sha256, file),
            Some(name)
        );
        assert!(path.starts_with("/cache/blobs/sha256/ed"), "{path:?}");
    }

    #[test]
    fn stray_files_have_no_name() {
        let hex = Digest::sha256(b"").hex();
        let mark = "0".repeat(32);
        for stray in [
            "lost+found".to_owned(),
            hex.clone(),
            format!("{hex}.+{}", "0".repeat(31)),
            format!("{hex}.{}", "A".repeat(32)),
            format!("{}.{mark}", &hex[1..]),
        ] {
            assert_eq!(
                FileName::parse(Kind::Blob, Algorithm::Sha256, &stray),
                None,
                "{stray}"
            );
        }
    }

    // THREATS C5: parts that run into one another would be one repository's content in another.
    #[test]
    fn repositories_do_not_run_into_one_another() {
        let name = |host, repository| FileName::new(Kind::Blob, &key(host, repository));
        assert_ne!(name("a.test", "b/c"), name("a.test", "b"));
        assert_ne!(name("a.test", "b"), name("a.tes", "tb"));
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_one_of_ours_or_a_stray(
            stray in "\\PC{0,40}",
            like in "[0-9a-f]{64}\\.\\+?[0-9a-f]{29,33}",
        ) {
            for text in [stray, like] {
                for kind in Kind::ALL {
                    let Some(name) = FileName::parse(kind, Algorithm::Sha256, &text) else {
                        continue;
                    };
                    let path = name.path(Path::new("/cache"));
                    proptest::prop_assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(&*text));
                }
            }
        }
    }
}
