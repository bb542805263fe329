//! What lies on disk, in memory: which file goes first when room is needed, and which were
//! seen to hold what their names say.
//!
//! Whether a file is there is for the file system to say; the index only counts.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    time::SystemTime,
};

use super::{USE_NOTED_EVERY, name::FileName};
use crate::oci::Digest;

/// What a file takes on disk, roughly: whole blocks.
const BLOCK_BYTES: u64 = 4096;

/// Bytes on disk of a file with so many bytes.
pub(super) fn on_disk(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(BLOCK_BYTES)
}

/// What the file system says about a file, by which a change shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
    /// When anything of it changed last, its times and its names as well, in seconds and
    /// nanoseconds. Nobody but the file system can set it.
    pub(super) changed: (i64, i64),
}

impl Stamp {
    /// Whether both are of one file with the same bytes, as far as it says itself: names and times
    /// of use may have changed.
    pub(super) fn has_bytes_of(&self, other: &Self) -> bool {
        let changed = self.changed;
        *self == Self { changed, ..*other }
    }
}

/// The files. Two names of one content share an inode, whose bytes count once.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: BTreeMap<FileName, Entry>,
    by_use: BTreeMap<Use, FileName>,
    inodes: HashMap<u64, Inode>,
    uses: u64,
    /// Bytes of all files.
    bytes: u64,
    /// Bytes that are promised to drafts.
    reserved: u64,
}

#[derive(Debug)]
struct Entry {
    inode: u64,
    used: Use,
    /// When this process last had its use noted on disk.
    noted: SystemTime,
}

/// A use of a file. The number keeps uses of one moment apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    at: SystemTime,
    number: u64,
}

#[derive(Debug)]
struct Inode {
    files: usize,
    bytes: u64,
    /// How it was when all its bytes were hashed, and to what.
    verified: Option<(Stamp, Digest)>,
}

impl Index {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Bytes that are taken or promised.
    pub(super) fn claimed(&self) -> u64 {
        self.bytes.saturating_add(self.reserved)
    }

    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(super) fn reserve(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_add(bytes);
    }

    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// Those of the files in a range for which something holds.
    pub(super) fn within(
        &self,
        range: RangeInclusive<FileName>,
        holds: impl Fn(&FileName) -> bool,
    ) -> Vec<FileName> {
        let names = self.files.range(range).map(|(name, _)| *name);
        names.filter(holds).collect()
    }

    pub(super) fn contains(&self, name: &FileName) -> bool {
        self.files.contains_key(name)
    }

    /// Whether this very file is known by the name.
    pub(super) fn has(&self, name: &FileName, stamp: &Stamp) -> bool {
        let known = self.files.get(name);
        known.is_some_and(|entry| entry.inode == stamp.inode)
    }

    /// Takes in a file, or what has become of it.
    pub(super) fn insert(&mut self, name: FileName, stamp: Stamp, at: SystemTime) {
        self.remove(&name);
        let used = self.next_use(at);
        self.by_use.insert(used, name);
        let inode = stamp.inode;
        let entry = Entry {
            inode,
            used,
            noted: SystemTime::UNIX_EPOCH,
        };
        self.files.insert(name, entry);
        let shared = self.inodes.entry(inode).or_insert(Inode {
            files: 0,
            bytes: on_disk(stamp.bytes),
            verified: None,
        });
        if shared.files == 0 {
            self.bytes += shared.bytes;
        }
        shared.files += 1;
    }

    pub(super) fn remove(&mut self, name: &FileName) {
        let Some(entry) = self.files.remove(name) else {
            return;
        };
        self.by_use.remove(&entry.used);
        if let Some(inode) = self.inodes.get_mut(&entry.inode) {
            inode.files -= 1;
            if inode.files == 0 {
                self.bytes -= inode.bytes;
                self.inodes.remove(&entry.inode);
            }
        }
    }

    /// Notes a use; false where the file is not known.
    pub(super) fn touch(&mut self, name: &FileName, at: SystemTime) -> bool {
        let used = self.next_use(at);
        let Some(entry) = self.files.get_mut(name) else {
            return false;
        };
        let before = std::mem::replace(&mut entry.used, used);
        self.by_use.remove(&before);
        self.by_use.insert(used, *name);
        true
    }

    /// Notes a use of which the file system tells, if it is later than the last one that is known.
    pub(super) fn learn_use(&mut self, name: &FileName, at: SystemTime) {
        let known = self.files.get(name);
        if known.is_some_and(|entry| entry.used.at < at) {
            self.touch(name, at);
        }
    }

    /// Whether a use is to be noted on disk, where the last one is that the file system tells of, whoever
    /// has noted it. It is taken for noted then: a file that takes no notes is not asked each time.
    pub(super) fn is_note_due(
        &mut self,
        name: &FileName,
        on_disk: SystemTime,
        now: SystemTime,
    ) -> bool {
        let Some(entry) = self.files.get_mut(name) else {
            return false;
        };
        let age = now.duration_since(entry.noted.max(on_disk));
        // What is from the future is recent.
        let is_due = age.is_ok_and(|age| age >= USE_NOTED_EVERY);
        if is_due {
            entry.noted = now;
        }
        is_due
    }

    fn next_use(&mut self, at: SystemTime) -> Use {
        self.uses += 1;
        Use {
            at,
            number: self.uses,
        }
    }

    /// The file that was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<FileName> {
        self.by_use.first_key_value().map(|(_, name)| *name)
    }

    /// A file with the same content, had from whichever repository.
    pub(super) fn sibling(&self, name: &FileName) -> Option<FileName> {
        let mut siblings = self.files.range(name.siblings());
        siblings.next().map(|(sibling, _)| *sibling)
    }

    /// All files with the same bytes on disk.
    pub(super) fn same_bytes(&self, name: &FileName, inode: u64) -> Vec<FileName> {
        let siblings = self.files.range(name.siblings());
        let same = siblings.filter(|(_, entry)| entry.inode == inode);
        same.map(|(sibling, _)| *sibling).collect()
    }

    pub(super) fn verified(&mut self, stamp: Stamp, digest: Digest) {
        if let Some(inode) = self.inodes.get_mut(&stamp.inode) {
            inode.verified = Some((stamp, digest));
        }
    }

    /// Whether the file was hashed to this digest by this process and has not changed since.
    pub(super) fn is_verified(&self, stamp: &Stamp, digest: &Digest) -> bool {
        let inode = self.inodes.get(&stamp.inode);
        inode.and_then(|inode| inode.verified) == Some((*stamp, *digest))
    }

    /// A change of our own, to the names or times of a file: what was verified still is.
    pub(super) fn touched(&mut self, before: &Stamp, after: Stamp, digest: &Digest) {
        if self.is_verified(before, digest) && after.has_bytes_of(before) {
            self.verified(after, *digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::ContentKey;
    use crate::content::disk::name::Kind;

    fn name(repository: &str, content: &[u8]) -> FileName {
        let key = ContentKey {
            host: "acme.test".parse().expect("a host"),
            repository: repository.parse().expect("a repository"),
            digest: Digest::sha256(content),
        };
        FileName::new(Kind::Blob, &key)
    }

    fn stamp(inode: u64, bytes: u64) -> Stamp {
        Stamp {
            inode,
            bytes,
            modified: SystemTime::UNIX_EPOCH,
            changed: (0, 0),
        }
    }

    fn second(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(number)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut index = Index::default();
        let (old, new) = (name("app", b"old"), name("app", b"new"));
        index.insert(new, stamp(2, 10), second(2));
        index.insert(old, stamp(1, 10), second(1));
        assert_eq!(index.oldest(), Some(old));
        assert!(index.touch(&old, second(3)));
        assert_eq!(index.oldest(), Some(new));
        index.remove(&new);
        index.remove(&old);
        assert_eq!((index.oldest(), index.bytes(), index.len()), (None, 0, 0));
    }

    #[test]
    fn the_latest_use_counts_whoever_it_was() {
        let mut index = Index::default();
        let (one, other) = (name("app", b"one"), name("app", b"other"));
        index.insert(one, stamp(1, 10), second(2));
        index.insert(other, stamp(2, 10), second(3));
        index.learn_use(&one, second(1));
        assert_eq!(index.oldest(), Some(one));
        index.learn_use(&one, second(4));
        assert_eq!(index.oldest(), Some(other));
        index.learn_use(&name("app", b"unknown"), second(9));
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn a_use_is_noted_now_and_then_whether_or_not_the_disk_takes_it() {
        let mut index = Index::default();
        let file = name("app", b"file");
        index.insert(file, stamp(1, 10), second(0));
        let mut is_due = |on_disk, now| index.is_note_due(&file, second(on_disk), second(now));
        assert!(!is_due(100, 699));
        assert!(is_due(100, 700));
        assert!(!is_due(100, 1299));
        // Another's note.
        assert!(!is_due(1000, 1300));
        assert!(is_due(1000, 1600));
        // A clock that is ahead.
        assert!(!is_due(9000, 5000));
    }

    #[test]
    fn shared_bytes_count_once_and_until_the_last_name_is_gone() {
        let mut index = Index::default();
        let (one, other) = (name("one", b"layer"), name("other", b"layer"));
        index.insert(one, stamp(1, 5000), second(1));
        index.insert(other, stamp(1, 5000), second(2));
        index.insert(other, stamp(1, 5000), second(3));
        assert_eq!(index.bytes(), 8192);
        assert_eq!(index.same_bytes(&one, 1).len(), 2);
        index.remove(&one);
        assert_eq!(index.sibling(&one), Some(other));
        assert_eq!(index.bytes(), 8192);
        index.remove(&other);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn a_change_takes_the_verification_back() {
        let mut index = Index::default();
        index.insert(name("app", b"x"), stamp(1, 10), second(1));
        let (digest, other) = (Digest::sha256(b"x"), Digest::sha256(b"y"));
        assert!(!index.is_verified(&stamp(1, 10), &digest));
        index.verified(stamp(1, 10), digest);
        assert!(index.is_verified(&stamp(1, 10), &digest));
        assert!(!index.is_verified(&stamp(1, 10), &other));
        let changed = Stamp {
            modified: second(9),
            ..stamp(1, 10)
        };
        let renamed = Stamp {
            changed: (9, 0),
            ..stamp(1, 10)
        };
        for other in [&changed, &renamed] {
            assert!(!index.is_verified(other, &digest));
        }
        index.touched(&stamp(1, 10), changed, &digest);
        assert!(!index.is_verified(&changed, &digest));
        index.touched(&stamp(1, 10), renamed, &digest);
        assert!(index.is_verified(&renamed, &digest));
    }
}
