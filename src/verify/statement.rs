//! The claims of an in-toto statement (in-toto attestation framework, v1 "Statement").

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::oci::Digest;
use crate::verify::Kind;

/// The predicate type by which cosign marks a signature. Any other statement is an
/// attestation, and no attestation stands in for a signature (THREATS B3, B11).
const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The longest predicate type in bytes. Facts are kept, and this is anybody's text.
const PREDICATE_TYPE_BYTES_MAX: usize = 512;
const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Checks that a proven statement is about `digest` (step 3), and says of what kind it is.
pub(super) fn claims(payload: &[u8], digest: &Digest) -> Result<Kind, String> {
    let statement: Statement = serde_json::from_slice(payload)
        .map_err(|error| format!("the signed statement does not parse: {error}"))?;
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
    if !statement.subject.iter().any(named) {
        return Err(not_about(&statement.subject, algorithm));
    }
    if statement.predicate_type.len() > PREDICATE_TYPE_BYTES_MAX
        || statement.predicate_type.contains(char::is_control)
    {
        return Err("the statement's predicate type is too long, or no plain text".to_owned());
    }
    if statement.predicate_type == COSIGN_SIGN {
        Ok(Kind::Signature)
    } else {
        Ok(Kind::Attestation {
            predicate_type: statement.predicate_type,
        })
    }
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
