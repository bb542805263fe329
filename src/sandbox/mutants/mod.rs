//! Mutants: every way in which one place of a document can be wrong.
//!
//! [`of_json`] walks a JSON document and whatever is packed into its texts (base64, hexadecimal,
//! PEM, signed notes, JSON once more, and DER in any of these), and changes one place at a time:
//! flipped, removed, emptied, duplicated, of another type, or swapped with what stands at the
//! same place of another document. The walk knows no format, so that a new field of any of them
//! is mutated without a word about it here.
//!
//! What a mutant means is not known here: whether it may still prove something is for the test
//! that tries it.

mod bytes;
mod der;
mod json;
mod text;

use json::Tree;

/// A document with one place changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// The place and what was done to it, as
    /// `verificationMaterial.certificate.rawBytes/base64/der.0.3: removed`.
    pub change: String,
    /// The document.
    pub document: Vec<u8>,
}

/// How many bits of a run of plain bytes are flipped, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// A few, spread over the run.
    Quick,
    /// One in every byte; which, is told by the seed.
    Thorough {
        /// Another seed, other bits.
        seed: u64,
    },
}

/// Every mutant of a JSON document. The donors are documents of the same format, whose parts are
/// put in the places of its own.
///
/// A document that is no JSON has no mutants.
#[must_use]
pub fn of_json(document: &[u8], donors: &[&[u8]], thoroughness: Thoroughness) -> Vec<Mutant> {
    let Some(tree) = Tree::parse(document) else {
        return Vec::new();
    };
    let donors: Vec<_> = donors.iter().copied().filter_map(Tree::parse).collect();
    let donors: Vec<_> = donors.iter().collect();
    let unchanged = tree.to_string();
    json::mutations(&tree, &donors, thoroughness)
        .into_iter()
        .map(|mutation| (mutation.change, mutation.changed.to_string()))
        // What is empty cannot be emptied.
        .filter(|(_, document)| *document != unchanged)
        .map(|(change, document)| Mutant {
            change,
            document: document.into_bytes(),
        })
        .collect()
}

/// Something of a kind with one place changed.
struct Mutation<T> {
    change: String,
    changed: T,
}

impl<T> Mutation<T> {
    fn new(change: impl Into<String>, changed: T) -> Self {
        Self {
            change: change.into(),
            changed,
        }
    }

    /// The same change, seen from the thing that this is a part of.
    fn within<U>(self, place: &str, whole: impl FnOnce(T) -> U) -> Mutation<U> {
        let separator = if self.change.starts_with([':', '.', '/', '[']) {
            ""
        } else {
            "."
        };
        Mutation {
            change: format!("{place}{separator}{}", self.change),
            changed: whole(self.changed),
        }
    }
}

#[cfg(test)]
mod tests;
