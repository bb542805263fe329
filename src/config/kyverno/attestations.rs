//! `attestations`: what has to have been attested.

use std::sync::Arc;

use crate::config::attested::PREDICATE_TYPES;
use crate::config::attested::condition_mend;
use crate::config::kyverno::attestors::Attestors;
use crate::config::kyverno::conditions;
use crate::config::kyverno::identity::refuse_variable;
use crate::config::kyverno::repository::{Kept, Source};
use crate::config::kyverno::sections;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::policy::Attested;
use crate::policy::Condition;

/// The names that attestations of a rule have, by which conditions could mean what another one
/// says.
pub(super) fn names<'a>(verifications: &[Fields<'a>]) -> Vec<&'a str> {
    let attestations = verifications
        .iter()
        .filter_map(|fields| fields.at("attestations")?.list_quietly());
    let names = attestations.flatten().filter_map(|item| {
        let (_, name) = item.peek("name")?;
        name.as_text()
    });
    names.collect()
}

/// An attestation that is asked for, and where it is kept.
type Placed = (Source, Attested);

/// Lowers `attestations`: all of them are asked for. Those that are kept in one place stand
/// together.
pub(super) fn lower(
    value: &Value<'_>,
    attestors: &Attestors<'_>,
    kept: &Kept,
    named: &[&str],
) -> Option<Vec<(Source, Vec<Attested>)>> {
    let items = value.filled_list("say what has to have been attested, or remove the line")?;
    let lowered: Vec<Vec<Placed>> = items
        .iter()
        .filter_map(|item| one(item, attestors, kept, named))
        .collect();
    if lowered.len() < items.len() {
        return None;
    }
    let mut places: Vec<(Source, Vec<Attested>)> = Vec::new();
    for (source, attested) in lowered.into_iter().flatten() {
        match places.iter_mut().find(|(place, _)| *place == source) {
            Some((_, those)) => those.push(attested),
            None => places.push((source, vec![attested])),
        }
    }
    Some(places)
}

fn one(
    item: &Value<'_>,
    attestors: &Attestors<'_>,
    kept: &Kept,
    named: &[&str],
) -> Option<Vec<Placed>> {
    let fields = item.fields(&sections::ATTESTATION)?;
    let mend = "say of which type: type: https://slsa.dev/provenance/v1";
    let predicate_type = fields
        .exactly_one(&["type", "predicateType"], mend)
        .and_then(|(_, value)| predicate_type(&value));
    let mend = "say who has to have attested: without it, anybody could";
    let by = fields.required("attestors", mend);
    let by = by.and_then(|value| attestors.attestations(&value, kept));
    let condition = fields
        .at("conditions")
        .map(|value| condition(&value, attestors, named));
    let condition = whole(condition)?;
    let predicate_type = predicate_type?;
    let attested = |by| Attested {
        predicate_type: predicate_type.clone(),
        by,
        condition: condition.clone(),
        every: condition.is_some(),
    };
    let by = by?.into_iter();
    Some(
        by.map(|signed| (signed.source, attested(signed.by)))
            .collect(),
    )
}

/// The type, which is compared as it is.
fn predicate_type(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if refuse_variable(value, text) {
        return None;
    }
    if let Some((_, uri)) = PREDICATE_TYPES.iter().find(|(name, _)| *name == text) {
        value.warn(
            &format!(
                "{} is compared as it is, as for Kyverno, and no attestation has it",
                quoted(text)
            ),
            &format!("write {uri}"),
        );
    }
    Some(text.to_owned())
}

fn condition(
    value: &Value<'_>,
    attestors: &Attestors<'_>,
    named: &[&str],
) -> Option<Arc<Condition>> {
    let text = conditions::lower(value, named)?;
    match Condition::new(&text, attestors.context.condition_steps_max) {
        Ok(condition) => Some(Arc::new(condition)),
        Err(error) => {
            value.error(&error.to_string(), condition_mend(&error));
            None
        }
    }
}
