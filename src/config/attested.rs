//! `attested`, lowered: the attestations that a policy asks for.

use std::sync::Arc;

use crate::config::policies::Signers;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::signed_by;
use crate::config::suggest::nearest;
use crate::policy::Attested;
use crate::policy::Condition;
use crate::policy::ConditionError;

/// The predicate types that cosign has short names for (cosign v3, options/predicate.go).
pub(super) const PREDICATE_TYPES: &[(&str, &str)] = &[
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
];

/// Lowers `attested`.
pub(super) fn lower(
    value: &Value<'_>,
    signers: &Signers,
    steps_max: usize,
) -> Option<Vec<Attested>> {
    let items = value.filled_list("ask for at least one attestation, or remove the line")?;
    let attested: Vec<Attested> = items
        .iter()
        .filter_map(|item| one(item, signers, steps_max))
        .collect();
    (attested.len() == items.len()).then_some(attested)
}

fn one(item: &Value<'_>, signers: &Signers, steps_max: usize) -> Option<Attested> {
    let fields = item.fields(&schema::ATTESTED)?;
    let predicate_type = fields.required(
        "predicate_type",
        "say of which type: `slsaprovenance1`, another short name of cosign's, or a URI",
    );
    let predicate_type = predicate_type.and_then(|value| predicate_type_uri(&value));
    let by = fields.required(
        "by",
        "say who has to have attested: a signer's name, or { any: [a, b] }",
    );
    let by = by.and_then(|value| signed_by::lower(&value, signers));
    let condition = match fields.at("where") {
        Some(value) => Some(condition(&value, steps_max)?),
        None => None,
    };
    let every = fields.at("every");
    if let (Some(value), None) = (&every, &condition) {
        value.error(
            "`every` without `where` says nothing",
            "say with `where` what every attestation has to say, or remove the line",
        );
        return None;
    }
    Some(Attested {
        predicate_type: predicate_type?,
        by: by?,
        condition,
        every: every.map_or(Some(false), |value| {
            value.choice(&[("true", true), ("false", false)])
        })?,
    })
}

/// The URI of a predicate type, by its short name or as it is.
pub(super) fn predicate_type_uri(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if let Some((_, uri)) = PREDICATE_TYPES.iter().find(|(name, _)| *name == text) {
        return Some((*uri).to_owned());
    }
    if !is_uri(text) {
        let names = || PREDICATE_TYPES.iter().map(|(name, _)| *name);
        let mend = match nearest(text, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("write a URI, or {}", listed(names(), "or")),
        };
        value.error(&format!("{} is no predicate type", quoted(text)), &mend);
        return None;
    }
    Some(text.to_owned())
}

/// Whether a text can be a predicate type's URI.
pub(super) fn is_uri(text: &str) -> bool {
    text.contains(':') && !text.contains(char::is_whitespace)
}

fn condition(value: &Value<'_>, steps_max: usize) -> Option<Arc<Condition>> {
    match Condition::new(value.text()?, steps_max) {
        Ok(condition) => Some(Arc::new(condition)),
        Err(error) => {
            value.error(&error.to_string(), condition_mend(&error));
            None
        }
    }
}

/// What to do about a condition that cannot be read.
pub(super) fn condition_mend(error: &ConditionError) -> &'static str {
    match error {
        ConditionError::TooLong => "ask for less, or in several policies",
        ConditionError::Variable(_) => {
            "the variables are `predicate`, `subject`, `image`, `signer`, `now`, and those of loops; \
             a text stands in quotes"
        }
        ConditionError::Field(_) => {
            "`image` has name, registry, repository and digest; `signer` has issuer, subject and \
             claims, or key"
        }
        ConditionError::Syntax(_) => {
            "correct it: `==` compares, `&&` and `||` combine; in YAML, quote it if it has `: ` or ` #`"
        }
        _ => "docs/POLICY.md (Attestations) has what conditions can use",
    }
}
