//! Conditions over attestations, in CEL (the Common Expression Language).
//!
//! The sole home of the CEL parser. What it parses is checked and lowered into [`term`]s when a
//! policy is loaded (`compile`), and evaluated here (`evaluate`) and not by the crate's own
//! interpreter: that one can be stopped neither by time nor by steps, and would copy a list of
//! packages of 32 MiB before it looks at it. Ours counts its steps, reads the attestation where
//! it lies, and knows the whole path of what is missing.
//!
//! What is left out of the language is a load error: bytes, unsigned numbers, structs, and regular
//! expressions that are computed. Types are only compared.

mod compile;
mod evaluate;
mod found;
mod term;
mod value;

use std::fmt;

use jiff::Timestamp;
use serde_json::json;

use crate::oci::Digest;
use crate::oci::ImageName;
use crate::verify::Name;
use crate::verify::Signer;

use evaluate::{Evaluation, Stop};
use term::Term;

/// How long the text of a condition may be, in bytes.
pub const CONDITION_BYTES_MAX: usize = 4096;

/// How many steps are taken to find out why one is false.
const FOUND_STEPS_MAX: usize = 100_000;

/// How many steps an evaluation takes unless configuration says otherwise.
pub const CONDITION_STEPS_MAX: usize = 10_000_000;

/// A condition that was checked.
pub struct Condition {
    text: String,
    term: Term,
    asks_the_time: bool,
    steps_max: usize,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Longer than [`CONDITION_BYTES_MAX`].
    #[error("it is longer than {CONDITION_BYTES_MAX} bytes")]
    TooLong,
    /// Not an expression of CEL.
    #[error("it is not CEL: {0}")]
    Syntax(String),
    /// A variable that is neither given nor of a loop around it.
    #[error("there is no variable `{0}`")]
    Variable(String),
    /// A function that is not one of ours.
    #[error("there is no function `{0}`")]
    Function(String),
    /// A function with the wrong number of arguments.
    #[error("`{name}` takes {wanted}")]
    Arguments {
        /// The function.
        name: String,
        /// What it takes.
        wanted: &'static str,
    },
    /// A field that `image` or `signer` never has.
    #[error("`{0}` has no such field")]
    Field(String),
    /// Values of a kind with which the operator or function can do nothing.
    #[error("{0}")]
    Kind(String),
    /// A part of the language that is left out.
    #[error("{0} cannot be used here")]
    Unsupported(&'static str),
}

/// What a condition is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// What the attestation is about: JSON.
    pub(super) subject: &'a str,
    /// What it says: JSON.
    pub(super) predicate: &'a str,
    /// Who attested.
    pub(super) signer: &'a Signer,
    /// The image that is pulled.
    pub(super) image: &'a ImageName,
    /// The digest that the attestation was found for.
    pub(super) digest: &'a Digest,
    /// Now.
    pub(super) now: Timestamp,
}

impl Condition {
    /// Compiles and checks `text`. Evaluations end after `steps_max` steps.
    ///
    /// # Errors
    /// [`ConditionError`] says what is wrong with it, for people.
    pub fn new(text: &str, steps_max: usize) -> Result<Self, ConditionError> {
        let text = text.trim();
        if text.len() > CONDITION_BYTES_MAX {
            return Err(ConditionError::TooLong);
        }
        let (term, asks_the_time) = compile::compile(text)?;
        Ok(Self {
            text: text.to_owned(),
            term,
            asks_the_time,
            steps_max,
        })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when its value may change as time goes by.
    pub(super) fn asks_the_time(&self) -> bool {
        self.asks_the_time
    }

    /// Whether it holds; and, in words, why not. What cannot be evaluated does not hold.
    pub(super) fn holds(&self, scope: &Scope<'_>) -> Result<(), String> {
        let parsed = |name: &str, json: &str| {
            serde_json::from_str::<serde_json::Value>(json)
                .map_err(|error| format!("`{name}` cannot be read: {error}"))
        };
        let predicate = parsed("predicate", scope.predicate)?;
        let subject = parsed("subject", scope.subject)?;
        let image = json!({
            "name": scope.image.to_string(),
            "registry": scope.image.registry.as_str(),
            "repository": scope.image.repository.as_str(),
            "digest": scope.digest.to_string(),
        });
        let signer = match scope.signer {
            Signer::Identity(identity) => json!({
                "issuer": identity.issuer,
                "subject": identity.subject,
                "claims": identity.claims,
            }),
            Signer::Certified(certified) => json!({
                "authority": certified.authority.to_string(),
                "names": certified.names.iter().map(Name::as_str).collect::<Vec<_>>(),
                "issuer": certified.issuer,
                "claims": certified.claims,
            }),
            Signer::Key { fingerprint } => json!({ "key": fingerprint.to_string() }),
            Signer::Gpg { fingerprint, .. } => json!({ "key": fingerprint }),
        };
        let given = [&predicate, &subject, &image, &signer];
        let evaluation = |steps_max| Evaluation::new(given, scope.now, steps_max);
        match evaluation(self.steps_max).truth(&self.term) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let steps_max = self.steps_max.min(FOUND_STEPS_MAX);
                let found = evaluation(steps_max).found(&self.term);
                Err(found.unwrap_or_else(|| format!("`{}` is false", self.text)))
            }
            Err(Stop::Missing(path)) => Err(format!("`{path}` is not there")),
            Err(Stop::Steps) => Err(format!(
                "it takes more than {} steps (limits.condition_steps_max)",
                self.steps_max
            )),
            Err(Stop::Kind(what)) => Err(what),
        }
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.steps_max == other.steps_max
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.text)
    }
}

#[cfg(test)]
mod tests;
