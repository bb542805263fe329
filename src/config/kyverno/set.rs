//! Lists of attestors within lists, and the ways in which they can be met.

use std::sync::Arc;

use crate::config::kyverno::repository::Source;
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
    Signer(Attestor),
    Set(Set),
}

/// One of them, and where what they sign is kept.
#[derive(Clone)]
pub(super) struct Attestor {
    pub(super) rule: Arc<SignerRule>,
    pub(super) source: Source,
}

/// Who has to have signed, all with what they signed in one place.
pub(super) struct Signed {
    pub(super) by: SignedBy,
    pub(super) source: Source,
}

/// A way in which a list can be met: all of these sign.
type Way = Vec<Attestor>;

/// Why it cannot be said in which ways a list can be met.
enum Unsaid {
    /// There are too many.
    TooMany,
    /// One signer is named twice, and not the same is asked of what they sign. To take one of
    /// the two would ask for less.
    NamedTwice,
}

impl Unsaid {
    /// What to say of it, and what to do.
    fn told(&self) -> (String, &'static str) {
        match self {
            Self::TooMany => (
                format!("this can be met in more than {WAYS_MAX} ways"),
                "ask for it in several lists, each of which then has to be met",
            ),
            Self::NamedTwice => (
                "not supported by this version: a signer who is named twice in one list, or in the \
                 lists within it, with another `repository` or other demands"
                    .to_owned(),
                "name the signer once, or ask for each in a list of its own under `attestors`",
            ),
        }
    }
}

impl Signed {
    /// So many of these; `None` where what they sign is kept in several places.
    fn of(at_least: usize, attestors: &[Attestor]) -> Option<Self> {
        let source = attestors.first()?.source.clone();
        let one_place = attestors.iter().all(|attestor| attestor.source == source);
        let of = attestors.iter().map(|attestor| Arc::clone(&attestor.rule));
        let of = of.collect();
        one_place.then_some(Self {
            by: SignedBy { at_least, of },
            source,
        })
    }
}

impl Set {
    /// As one threshold, unless there are lists within it, or several places.
    pub(super) fn flat(&self) -> Option<Signed> {
        let attestor = |member: &Member| match member {
            Member::Signer(attestor) => Some(attestor.clone()),
            Member::Set(_) => None,
        };
        let attestors: Option<Vec<_>> = self.members.iter().map(attestor).collect();
        Signed::of(self.at_least, &attestors?)
    }

    /// Every way in which it can be met, by as many signers as it asks for.
    fn ways(&self) -> Result<Vec<Way>, Unsaid> {
        // By how many members have signed.
        let mut ways: Vec<Vec<Way>> = vec![Vec::new(); self.at_least + 1];
        ways[0].push(Vec::new());
        for member in &self.members {
            let own = match member {
                Member::Signer(attestor) => vec![vec![attestor.clone()]],
                Member::Set(set) => set.ways()?,
            };
            for count in (0..self.at_least).rev() {
                let pairs = ways[count]
                    .iter()
                    .flat_map(|way| own.iter().map(move |own| joined(way, own)));
                let longer: Vec<Way> = pairs.collect::<Result<_, _>>()?;
                ways[count + 1].extend(longer);
            }
            if ways.iter().map(Vec::len).sum::<usize>() > WAYS_MAX {
                return Err(Unsaid::TooMany);
            }
        }
        let mut ways = ways.pop().unwrap_or_default();
        // One signer is never two.
        ways.retain(|way| way.len() >= self.at_least);
        Ok(ways)
    }
}

impl Attestor {
    /// Whether the same is asked of what the two sign.
    fn asks_the_same(&self, other: &Self) -> bool {
        let (one, two) = (&self.rule, &other.rule);
        one.kind == two.kind
            && one.signed_identity == two.signed_identity
            && self.source == other.source
    }
}

fn joined(way: &Way, more: &Way) -> Result<Way, Unsaid> {
    let mut joined = way.clone();
    for attestor in more {
        let same = |other: &&Attestor| signers::same(&other.rule, &attestor.rule);
        match joined.iter().find(same) {
            None => joined.push(attestor.clone()),
            Some(other) if other.asks_the_same(attestor) => {}
            Some(_) => return Err(Unsaid::NamedTwice),
        }
    }
    Ok(joined)
}

/// Every way in which lists within lists can be met, or those with several places.
pub(super) fn nested(item: &Value<'_>, set: &Set) -> Option<Vec<Signed>> {
    let ways = match set.ways() {
        Ok(ways) => ways,
        Err(unsaid) => {
            let (message, mend) = unsaid.told();
            item.error(&message, mend);
            return None;
        }
    };
    if ways.is_empty() {
        item.error(
            "signers are counted by key or identity, so there can never be so many of them",
            "name signers with different keys or identities, or ask for fewer",
        );
        return None;
    }
    let all: Option<Vec<Signed>> = ways.iter().map(|way| Signed::of(way.len(), way)).collect();
    if all.is_none() {
        several_places(item);
    }
    all
}

/// Tells of signers who have to be counted together, and whose evidence is not kept together.
pub(super) fn several_places(item: &Value<'_>) {
    item.error(
        "not supported by this version: entries that are counted together, and keep what they sign \
         in different repositories",
        "keep it in one, or ask for each in a list of its own",
    );
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
