//! Mutations of bytes, and of what is packed into them.

use super::json::{self, Tree};
use super::{Mutation, Thoroughness, der, text};

/// The fewest and the most bits that are flipped in one run of bytes by [`Thoroughness::Quick`].
const FLIPS: (usize, usize) = (3, 32);

pub(super) fn mutations(
    bytes: &[u8],
    donors: &[&[u8]],
    thoroughness: Thoroughness,
) -> Vec<Mutation<Vec<u8>>> {
    if let Some(tree) = Tree::parse_exactly(bytes) {
        let donors = donors.iter().filter_map(|donor| Tree::parse_exactly(donor));
        let donors: Vec<_> = donors.collect();
        let donors: Vec<_> = donors.iter().collect();
        let mut mutations: Vec<_> = json::mutations(&tree, &donors, thoroughness)
            .into_iter()
            .map(|inner| inner.within("/json", |tree| tree.to_string().into_bytes()))
            .collect();
        let spaced = [bytes, b" "].concat();
        mutations.push(Mutation::new("/json: a space after it", spaced));
        return mutations;
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.starts_with("-----BEGIN ")
    {
        let donors = donors.iter();
        let donors: Vec<_> = donors
            .filter_map(|donor| std::str::from_utf8(donor).ok())
            .collect();
        return text::mutations(text, &donors, thoroughness)
            .into_iter()
            .map(|inner| inner.within("", String::into_bytes))
            .collect();
    }
    if let Some(element) = der::Element::parse_exactly(bytes) {
        let donors = donors.iter();
        let donors: Vec<_> = donors
            .filter_map(|donor| der::Element::parse_exactly(donor))
            .collect();
        let donors: Vec<_> = donors.iter().collect();
        return der::mutations(&element, &donors, thoroughness);
    }
    let mut mutations = flipped(bytes, thoroughness);
    mutations.push(Mutation::new(": emptied", Vec::new()));
    mutations.push(Mutation::new(": prolonged", [bytes, &[0]].concat()));
    mutations
}

/// One bit flipped, at several places.
pub(super) fn flipped(bytes: &[u8], thoroughness: Thoroughness) -> Vec<Mutation<Vec<u8>>> {
    let flip = |place: usize, bit: u32| {
        let mut bytes = bytes.to_vec();
        bytes[place] ^= 1 << bit;
        Mutation::new(format!(": bit {bit} of byte {place} flipped"), bytes)
    };
    match thoroughness {
        Thoroughness::Quick => {
            let (fewest, most) = FLIPS;
            let count = (bytes.len() / 4).clamp(fewest, most).min(bytes.len());
            let last = bytes.len().saturating_sub(1);
            let places = (0..count).map(|number| number * last / (count - 1).max(1));
            places.map(|place| flip(place, 0)).collect()
        }
        Thoroughness::Thorough { seed } => {
            // A linear congruence is random enough to choose among eight.
            let next = |state: u64| {
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1)
            };
            let states = std::iter::successors(Some(next(seed)), |state| Some(next(*state)));
            let places = (0..bytes.len()).zip(states);
            places
                .map(|(place, state)| flip(place, (state >> 61) as u32))
                .collect()
        }
    }
}
