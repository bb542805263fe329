//! Lists of attestors within lists, and the ways in which they can be met.

use std::sync::Arc;

use crate::config::reader::Value;
use crate::config::signers;
use crate::policy::SignedBy;
use crate::policy::SignerRule;

/// In how many ways lists within lists may be met.
const WAYS_MAX: usize = 64;

/// A list of attestors of whom so many have to have signed.
pub(super) struct Set {
    pub(super) at_least: usize,
    pub(super) members: Vec<Member>,
}

pub(super) enum Member {
    Signer(Arc<SignerRule>),
    Set(Set),
}

/// A way in which a list can be met: all of these sign.
type Way = Vec<Arc<SignerRule>>;

impl Set {
    /// As one threshold, unless there are lists within it.
    pub(super) fn flat(self) -> Result<SignedBy, Self> {
        let signer = |member: &Member| match member {
            Member::Signer(rule) => Some(Arc::clone(rule)),
            Member::Set(_) => None,
        };
        let of: Option<Vec<_>> = self.members.iter().map(signer).collect();
        let at_least = self.at_least;
        of.map(|of| SignedBy { at_least, of }).ok_or(self)
    }

    /// Every way in which it can be met, by as many signers as it asks for; `None` where there
    /// are too many.
    fn ways(&self) -> Option<Vec<Way>> {
        // By how many members have signed.
        let mut ways: Vec<Vec<Way>> = vec![Vec::new(); self.at_least + 1];
        ways[0].push(Vec::new());
        for member in &self.members {
            let own = match member {
                Member::Signer(rule) => vec![vec![Arc::clone(rule)]],
                Member::Set(set) => set.ways()?,
            };
            for count in (0..self.at_least).rev() {
                let longer: Vec<Way> = ways[count]
                    .iter()
                    .flat_map(|way| own.iter().map(|own| joined(way, own)))
                    .collect();
                ways[count + 1].extend(longer);
            }
            if ways.iter().map(Vec::len).sum::<usize>() > WAYS_MAX {
                return None;
            }
        }
        let mut ways = ways.pop().unwrap_or_default();
        // One signer is never two.
        ways.retain(|way| way.len() >= self.at_least);
        Some(ways)
    }
}

fn joined(way: &Way, more: &Way) -> Way {
    let mut joined = way.clone();
    for rule in more {
        if !joined.iter().any(|other| signers::same(other, rule)) {
            joined.push(Arc::clone(rule));
        }
    }
    joined
}

/// Every way in which lists within lists can be met.
pub(super) fn nested(item: &Value<'_>, set: &Set) -> Option<Vec<SignedBy>> {
    let Some(ways) = set.ways() else {
        item.error(
            &format!("these lists within lists can be met in more than {WAYS_MAX} ways"),
            "ask for it in several lists, each of which then has to be met",
        );
        return None;
    };
    if ways.is_empty() {
        item.error(
            "signers are counted by key or identity, so there can never be so many of them",
            "name signers with different keys or identities, or ask for fewer",
        );
        return None;
    }
    let all = |of: Way| SignedBy {
        at_least: of.len(),
        of,
    };
    Some(ways.into_iter().map(all).collect())
}

/// How many of the entries.
pub(super) fn count(value: &Value<'_>, entries: usize) -> Option<usize> {
    let count = value.parsed(
        |text| text.parse::<usize>().map_err(|_| "not a whole number"),
        "write a whole number, like 1, or remove the line, which asks for all",
    )?;
    // THREATS T7: a threshold of 0 is met by nobody's signature.
    let (message, mend) = match count {
        0 => (
            "at least 0 signatures would let everything pass".to_owned(),
            "write 1 or more, or remove the line, which asks for all",
        ),
        count if count > entries => (
            format!("at least {count} of {entries} entries can never be met"),
            "lower the number, or name more attestors",
        ),
        count => return Some(count),
    };
    value.error(&message, mend);
    None
}
