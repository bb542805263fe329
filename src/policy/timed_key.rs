//! Signers who hold keys, each for a while: so that keys can be rotated.

use std::fmt;

use jiff::Timestamp;

use crate::oci::Digest;
use crate::policy::signer::Miss;
use crate::verify::Fact;
use crate::verify::HashAlgorithm;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// The holder of one of these keys.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyHolder {
    /// The keys, each with its window.
    pub keys: Vec<TimedKey>,
    /// The trust root whose log must hold the signature, or whose logs and timestamp authorities
    /// say when it was made; `None` where nothing is to say that.
    pub root: Option<RootName>,
    /// Whether a log of that trust root must hold the signature.
    pub logged: bool,
    /// Whether a timestamp authority of that trust root must have seen it.
    pub timestamped: bool,
}

/// A key, and when it signs.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedKey {
    /// The key.
    pub key: PublicKey,
    /// What its signatures must hash with, where that is not left to the signer. Those of keys
    /// that sign in one way only meet any.
    pub hash: Option<HashAlgorithm>,
    /// The first moment at which it signs, where it has one.
    pub not_before: Option<Timestamp>,
    /// The moment from which on it signs no more, where it has one.
    pub not_after: Option<Timestamp>,
}

impl TimedKey {
    /// A key that signs at any time.
    #[must_use]
    pub fn always(key: PublicKey) -> Self {
        Self {
            key,
            hash: None,
            not_before: None,
            not_after: None,
        }
    }

    /// Whether it does not sign at any time.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.not_before.is_some() || self.not_after.is_some()
    }

    fn signs_at(&self, at: Timestamp) -> bool {
        self.not_before.is_none_or(|first| first <= at) && self.not_after.is_none_or(|end| at < end)
    }

    /// The next moment after `now` at which its window opens or closes.
    pub(super) fn changes_after(&self, now: Timestamp) -> Option<Timestamp> {
        let edges = [self.not_before, self.not_after];
        edges.into_iter().flatten().filter(|edge| *edge > now).min()
    }
}

impl fmt::Display for TimedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key.fingerprint)?;
        if let Some(hash) = self.hash {
            write!(f, " over {}", hash.as_str())?;
        }
        if let Some(first) = self.not_before {
            write!(f, " from {first}")?;
        }
        if let Some(end) = self.not_after {
            write!(f, " until {end}")?;
        }
        Ok(())
    }
}

impl KeyHolder {
    /// The holder of a key that signs at any time; with `log`, that trust root's log must hold
    /// the signature.
    #[must_use]
    pub fn of(key: PublicKey, log: Option<RootName>) -> Self {
        Self {
            keys: vec![TimedKey::always(key)],
            logged: log.is_some(),
            root: log,
            timestamped: false,
        }
    }

    /// Whether the fact is by one of the keys, in its window. Only a time that this signer's own
    /// trust root proves says when it was made; without one it is held against `now`, so that an
    /// old key cannot sign anew (THREATS T2).
    pub(super) fn compare(
        &self,
        fingerprint: &Digest,
        fact: &Fact,
        now: Timestamp,
    ) -> Result<(), Miss> {
        let mut keys = self.keys.iter();
        let key = keys.find(|timed| timed.key.fingerprint == *fingerprint);
        let key = key.ok_or(Miss::Stranger)?;
        if let (Some(wanted), Some(found)) = (key.hash, fact.hash)
            && found != wanted
        {
            return Err(Miss::Hash(found));
        }
        let ours = fact.root.is_some() && fact.root == self.root;
        if self.logged && !(ours && fact.assurance.log.is_some()) {
            return Err(Miss::NotLogged);
        }
        if self.timestamped && !(ours && fact.assurance.timestamp) {
            return Err(Miss::Missing("no proven timestamp (RFC 3161)"));
        }
        let proven = fact.signed_at.filter(|_| ours);
        match key.signs_at(proven.unwrap_or(now)) {
            true => Ok(()),
            false => Err(Miss::Window(proven)),
        }
    }

    /// The rule in words, for people.
    pub(super) fn describe(&self, name: &str) -> String {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let mut vouchers = String::new();
        if let Some(root) = &self.root {
            for (asked, what) in [(self.logged, "logged"), (self.timestamped, "timestamped")] {
                if asked {
                    vouchers.push_str(&format!(", {what} under {root}"));
                }
            }
        }
        format!("{name} (the key {}{vouchers})", keys.join(" or "))
    }

    /// Whether the two can only ever mean one and the same signer.
    #[must_use]
    pub fn means_the_same(&self, other: &Self) -> bool {
        match (self.keys.as_slice(), other.keys.as_slice()) {
            ([one], [two]) => one.key == two.key,
            _ => false,
        }
    }
}
