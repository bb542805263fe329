//! Kyverno's `ClusterPolicy` documents, as far as their rules verify images, lowered into policies
//! like any other: one for each list of attestors and one for the attestations of each entry of
//! `verifyImages`, or one for those of them that are kept in one place. They mean what they mean
//! there, but for what docs/FOREIGN.md tells; what cannot be said here is a load error that names
//! the field.

mod attestations;
mod attestors;
mod conditions;
mod identity;
mod logs;
mod path;
mod pods;
mod references;
mod repository;
mod scalar;
mod sections;
mod set;

use attestors::Attestors;
use repository::Kept;

use crate::config::foreign;
use crate::config::policies::Context;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::policy::Carrier;
use crate::policy::Demand;
use crate::policy::Glob;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::Signs;
use crate::policy::Timing;

/// The `kind` of these documents.
pub(super) const KIND: &str = "ClusterPolicy";

const VERSIONS: &[&str] = &["kyverno.io/v1", "kyverno.io/v2beta1"];
const YES_OR_NO: &[(&str, bool)] = &[("true", true), ("false", false)];

/// Settings of an entry that change no verdict here.
const FLAGS: [&str; 5] = [
    "cosignOCI11",
    "mutateDigest",
    "verifyDigest",
    "required",
    "useCache",
];

/// Lowers a document whose kind is [`KIND`], with the place of each policy's name.
pub(super) fn lower<'a>(document: &Value<'a>, context: &Context<'_>) -> Vec<(Value<'a>, Policy)> {
    let Some(fields) = document.fields(&sections::DOCUMENT) else {
        return Vec::new();
    };
    let version = fields.required("apiVersion", "write kyverno.io/v1");
    if let Some(text) = version.as_ref().and_then(Value::text)
        && !VERSIONS.contains(&text)
        && let Some(value) = &version
    {
        let message = format!("{} is no version that is known here", quoted(text));
        let mend = format!("write {}", listed(VERSIONS.iter().copied(), "or"));
        value.error(&message, &mend);
    }
    let name = foreign::name(document).and_then(|name| name.as_text());
    if name.is_none() {
        let mend = "name it: the name stands in refusals, logs and metrics";
        document.error("`metadata.name` is missing", mend);
    }
    let spec = fields.required("spec", "say what it asks for");
    let Some(spec) = spec.and_then(|value| value.fields(&sections::SPEC)) else {
        return Vec::new();
    };
    refuse_settings(&spec);
    let rules = spec.required("rules", "write the rules");
    let rules =
        rules.and_then(|value| value.filled_list("write the rules, or remove the document"));
    let outer = Outer {
        name: name.unwrap_or("?"),
        mode: action(&spec, "validationFailureAction"),
        context,
    };
    let rules = rules.unwrap_or_default();
    rules
        .iter()
        .flat_map(|item| outer.rule(item).unwrap_or_default())
        .collect()
}

/// Refuses settings that would make verdicts other ones than they are here.
fn refuse_settings(spec: &Fields<'_>) {
    only(spec, "applyRules", &["All"], "all that match have to pass");
    only(
        spec,
        "admission",
        &["true"],
        "what is pulled is always judged",
    );
    const FAILURE: &str = "what could not be verified is never let pass";
    only(spec, "failurePolicy", &["Fail"], FAILURE);
    if let Some(value) = spec.at("webhookConfiguration")
        && let Some(fields) = value.fields(&sections::WEBHOOK)
    {
        only(&fields, "failurePolicy", &["Fail"], FAILURE);
    }
}

/// Refuses every word but these.
fn only(fields: &Fields<'_>, key: &'static str, words: &[&str], why: &str) {
    let Some(value) = fields.at(key) else {
        return;
    };
    if let Some(text) = value.text().filter(|text| !words.contains(text)) {
        let message = format!("not supported by this version: {} ({why})", quoted(text));
        let words = listed(words.iter().copied(), "or");
        value.error(&message, &format!("write {words}, or remove the line"));
    }
}

fn action(fields: &Fields<'_>, key: &'static str) -> Option<Mode> {
    fields.at(key)?.choice(&[
        ("Enforce", Mode::Enforce),
        ("Audit", Mode::Warn),
        ("enforce", Mode::Enforce),
        ("audit", Mode::Warn),
    ])
}

/// What a document says for all of its rules.
struct Outer<'c, 'n> {
    name: &'n str,
    /// Its `validationFailureAction`.
    mode: Option<Mode>,
    context: &'c Context<'c>,
}

impl Outer<'_, '_> {
    fn rule<'a>(&self, item: &Value<'a>) -> Option<Vec<(Value<'a>, Policy)>> {
        let fields = item.fields(&sections::RULE)?;
        pods::check(&fields);
        let name = fields.required("name", "name it: the name stands in refusals and metrics");
        let name = name.and_then(|value| Some((value.text()?, value)));
        // Without one the rest is read all the same, so that all problems are told.
        let (name, place) = name.unwrap_or_else(|| ("?", item.clone()));
        if fields.has_later() && fields.at("verifyImages").is_none() {
            return None;
        }
        let value = fields.required(
            "verifyImages",
            "write what images have to have, or remove it",
        )?;
        let items = value.filled_list("write what images have to have, or remove the rule")?;
        let verifications: Vec<Fields<'_>> = items
            .iter()
            .filter_map(|item| item.fields(&sections::VERIFICATION))
            .collect();
        let mode = self.mode(&verifications, item);
        let named = attestations::names(&verifications);
        let name = format!("{}/{name}", self.name);
        let attestors = Attestors::new(&name, self.context);
        let mut policies = Vec::new();
        for fields in &verifications {
            let Some(verification) = verification(fields, &attestors, &named) else {
                continue;
            };
            for demands in verification.demands {
                let policy = Policy {
                    name: match policies.len() {
                        0 => name.as_str().into(),
                        more => format!("{name}#{}", more + 1).into(),
                    },
                    images: verification.images.clone(),
                    except: verification.except.clone(),
                    mode,
                    requirement: Requirement::Proven(demands),
                    signs: Signs::Asked,
                    pulled_by: None,
                    no_rollback: None,
                };
                policies.push((place.clone(), policy));
            }
        }
        Some(policies)
    }

    /// Whether failures refuse. As there, one `Enforce` is for all of a rule.
    fn mode(&self, verifications: &[Fields<'_>], rule: &Value<'_>) -> Mode {
        let actions: Vec<Mode> = verifications
            .iter()
            .filter_map(|fields| action(fields, "failureAction"))
            .collect();
        let given = verifications
            .iter()
            .any(|fields| fields.at("failureAction").is_some());
        match actions.contains(&Mode::Enforce) {
            true => Mode::Enforce,
            false if given => Mode::Warn,
            false => self.mode.unwrap_or_else(|| {
                rule.warn(
                    "no `failureAction` is given, and so it is `Audit`, as for Kyverno: images that \
                     fail are let pass with a warning",
                    "write `failureAction: Enforce`, or `failureAction: Audit` if that is what you \
                     mean",
                );
                Mode::Warn
            }),
        }
    }
}

/// An entry of `verifyImages`, lowered.
struct Verification {
    images: Vec<Glob>,
    except: Vec<Glob>,
    /// Each has to be met, in one of several ways.
    demands: Vec<Vec<Demand>>,
}

fn verification(
    fields: &Fields<'_>,
    attestors: &Attestors<'_>,
    named: &[&str],
) -> Option<Verification> {
    for key in FLAGS {
        fields.at(key).and_then(|value| value.choice(YES_OR_NO));
    }
    let mend = "say for which images: imageReferences: [\"ghcr.io/acme/*\"]";
    let images = fields.required("imageReferences", mend);
    let images = images.and_then(|value| references::lower(&value, references::Use::Match));
    let except = fields
        .at("skipImageReferences")
        .map_or(Some(Vec::new()), |value| {
            references::lower(&value, references::Use::Skip)
        });
    let format = match fields.at("type") {
        Some(value) => format(&value).map(Some),
        None => Some(None),
    };
    let (sets, attestations) = (fields.at("attestors"), fields.at("attestations"));
    if sets.is_none() && attestations.is_none() && !fields.has_later() {
        fields.value().error(
            "this verifies nothing: it has neither `attestors` nor `attestations`",
            "say who has to have signed, or remove it: what is pulled is pinned in any case",
        );
        return None;
    }
    let beside = Kept {
        format: format?,
        source: None,
    };
    let kept = beside.within(fields, attestors.context)?;
    let signed = sets.map_or(Some(Vec::new()), |value| {
        attestors.signatures(&value, &kept)
    });
    let attested = attestations.map_or(Some(Vec::new()), |value| {
        attestations::lower(&value, attestors, &kept, named)
    });
    let demand = |signed_by, attested, source| Demand {
        signed_by,
        attested,
        timing: Timing::default(),
        format: kept.format,
        source,
    };
    let (signed, attested) = (signed?, attested?);
    let signed = signed.into_iter().map(|ways| {
        let ways = ways.into_iter();
        ways.map(|way| demand(Some(way.by), Vec::new(), way.source))
            .collect()
    });
    let attested = attested
        .into_iter()
        .map(|(source, attested)| vec![demand(None, attested, source)]);
    let demands: Vec<Vec<Demand>> = signed.chain(attested).collect();
    Some(Verification {
        images: images?,
        except: except?,
        demands,
    })
}

/// The one format that counts, where the document says which.
fn format(value: &Value<'_>) -> Option<Carrier> {
    if value.as_text() == Some("Notary") {
        value.error(
            "not supported by this version: signatures of Notary",
            "sign with cosign as well, and write `type: Cosign`",
        );
        return None;
    }
    value.choice(&[
        ("Cosign", Carrier::Layer),
        ("SigstoreBundle", Carrier::Bundle),
    ])
}

#[cfg(test)]
mod model_tests;
