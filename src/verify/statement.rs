//! The claims of an in-toto statement (in-toto attestation framework, v1 "Statement").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::oci::Digest;
use crate::verify::Kind;

/// The predicate type by which cosign marks a signature. Any other statement is an
/// attestation, and no attestation stands in for a signature (THREATS B3, B11).
const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The longest predicate type in bytes. Facts are kept, and this is anybody's text.
const PREDICATE_TYPE_BYTES_MAX: usize = 512;
const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";

/// What an attestation says, as it was signed: the JSON of its parts. Every fact that comes of
/// the attestation shares it.
#[derive(Debug, Clone, Serialize)]
pub struct Statement {
    /// What it is about: the list of artifacts, of which the image is one.
    pub subject: Box<RawValue>,
    /// What it says of them; `null` where it says nothing.
    pub predicate: Box<RawValue>,
}

impl Statement {
    /// About how many bytes it holds.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        self.subject.get().len() + self.predicate.get().len()
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        let parts = |statement: &Self| {
            (
                statement.subject.get().to_owned(),
                statement.predicate.get().to_owned(),
            )
        };
        parts(self) == parts(other)
    }
}

impl Eq for Statement {}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "_type")]
    statement_type: String,
    #[serde(borrow)]
    subject: &'a RawValue,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(borrow, default)]
    predicate: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Checks that a proven statement is about `digest` (step 3), and says of what kind it is. What
/// it says is held where `wanted` has its predicate type.
pub(super) fn claims(
    payload: &[u8],
    digest: &Digest,
    wanted: &BTreeSet<String>,
) -> Result<Kind, String> {
    let unreadable =
        |error: serde_json::Error| format!("the signed statement does not parse: {error}");
    let statement: Wire<'_> = serde_json::from_slice(payload).map_err(unreadable)?;
    let subjects: Vec<Subject> =
        serde_json::from_str(statement.subject.get()).map_err(unreadable)?;
    if ![STATEMENT_V1, STATEMENT_V0_1].contains(&statement.statement_type.as_str()) {
        return Err(format!(
            "the statement is of the unknown type {:?}",
            statement.statement_type
        ));
    }
    let algorithm = digest.algorithm().as_str();
    let hex = digest.hex();
    let named = |subject: &Subject| {
        subject
            .digest
            .get(algorithm)
            .is_some_and(|found| *found == hex)
    };
    if !subjects.iter().any(named) {
        return Err(not_about(&subjects, algorithm));
    }
    if statement.predicate_type.len() > PREDICATE_TYPE_BYTES_MAX
        || statement.predicate_type.contains(char::is_control)
    {
        return Err("the statement's predicate type is too long, or no plain text".to_owned());
    }
    if statement.predicate_type == COSIGN_SIGN {
        return Ok(Kind::Signature);
    }
    let held = wanted
        .contains(&statement.predicate_type)
        .then(|| Statement {
            subject: statement.subject.to_owned(),
            predicate: statement.predicate.unwrap_or(RawValue::NULL).to_owned(),
        });
    Ok(Kind::Attestation {
        predicate_type: statement.predicate_type,
        statement: held.map(Arc::new),
    })
}

fn not_about(subjects: &[Subject], algorithm: &str) -> String {
    let first = subjects
        .iter()
        .find_map(|subject| subject.digest.get_key_value(algorithm));
    match first {
        Some((algorithm, hex)) => {
            format!("it was signed for another digest, {algorithm}:{hex:.64}")
        }
        None => format!("the signed statement names no {algorithm} digest"),
    }
}
