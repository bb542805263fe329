//! `signed_by`, lowered: so many of these signers.

use std::sync::Arc;

use crate::config::policies::Signers;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::signers;
use crate::config::suggest::nearest;
use crate::policy::SignedBy;
use crate::policy::SignerRule;

const FORMS: &str =
    "write a signer's name, { any: [a, b] }, { all: [a, b] } or { at_least: 2, of: [a, b, c] }";

/// Lowers `signed_by`.
pub(super) fn lower(value: &Value<'_>, signers: &Signers) -> Option<SignedBy> {
    if value.as_text().is_some() {
        let of = vec![signer(value, signers)?];
        return Some(SignedBy { at_least: 1, of });
    }
    if value.is_list() {
        value.error("a list alone does not say how many must sign", FORMS);
        return None;
    }
    let fields = value.fields(&schema::SIGNED_BY)?;
    match fields.exactly_one(&["any", "all", "of"], FORMS)? {
        ("of", list) => threshold(&fields, &list, signers),
        (form, list) => {
            if let Some(at_least) = fields.at("at_least") {
                at_least.error(
                    &format!("`at_least` does not go with `{form}`"),
                    "write { at_least: 2, of: [a, b, c] }",
                );
            }
            let of = members(&list, signers)?;
            let at_least = if form == "all" { of.len() } else { 1 };
            checked(value, SignedBy { at_least, of })
        }
    }
}

fn threshold(fields: &Fields<'_>, list: &Value<'_>, signers: &Signers) -> Option<SignedBy> {
    let named = list.list().map_or(0, |items| items.len());
    let of = members(list, signers);
    let value = fields.required(
        "at_least",
        "say how many must sign: { at_least: 2, of: [a, b, c] }",
    )?;
    let at_least = value.parsed(
        |text| text.parse::<usize>().map_err(|_| "not a whole number"),
        "write a whole number, like 2",
    )?;
    // THREATS T7: a threshold of 0 is met by nobody's signature.
    if at_least == 0 {
        value.error(
            "at least 0 signatures would let everything pass",
            "write 1 or more; to let images pass unsigned, use `unsafe_allow_unsigned`",
        );
        return None;
    }
    if at_least > named && named > 0 {
        value.error(
            &format!("at least {at_least} of {named} signers can never sign"),
            "lower the number, or name more signers",
        );
        return None;
    }
    let of = of?;
    checked(&value, SignedBy { at_least, of })
}

/// The signers of a list, each named once.
fn members(list: &Value<'_>, signers: &Signers) -> Option<Vec<Arc<SignerRule>>> {
    let items = list.filled_list("name at least one signer")?;
    let mut names: Vec<&str> = Vec::new();
    let mut members = Vec::new();
    for item in &items {
        let name = item.text();
        if let Some(name) = name {
            if names.contains(&name) {
                item.error(
                    &format!("{} is named twice", quoted(name)),
                    "name each signer once",
                );
                continue;
            }
            names.push(name);
            members.extend(signer(item, signers));
        }
    }
    (members.len() == items.len()).then_some(members)
}

fn signer(value: &Value<'_>, signers: &Signers) -> Option<Arc<SignerRule>> {
    let name = value.text()?;
    match signers.get(name) {
        Some(rule) => rule.clone(),
        None => {
            let mut known: Vec<&str> = signers.keys().map(String::as_str).collect();
            known.sort_unstable();
            let mend = match (nearest(name, known.iter().copied()), known.len()) {
                (Some(name), _) => format!("did you mean `{name}`?"),
                (None, 1..=10) => {
                    format!(
                        "the signers are {}; or add it under `signers`",
                        listed(known, "and")
                    )
                }
                _ => "add it under `signers`, in any policy file".to_owned(),
            };
            value.error(&format!("there is no signer {}", quoted(name)), &mend);
            None
        }
    }
}

/// Refuses what could never be met: signers are counted by key or identity, so one key under
/// two names is one.
pub(super) fn checked(value: &Value<'_>, signed_by: SignedBy) -> Option<SignedBy> {
    let of = &signed_by.of;
    let twin = |position: usize| {
        of[..position]
            .iter()
            .find(|other| signers::same(other, &of[position]))
    };
    let twins: Vec<(&str, &str)> = (0..of.len())
        .filter_map(|position| Some((&*twin(position)?.name, &*of[position].name)))
        .collect();
    if let Some((one, two)) = twins.first()
        && signed_by.at_least > of.len() - twins.len()
    {
        value.error(
            &format!(
                "{} and {} are one signer under two names, so there can never be {} of them",
                quoted(one),
                quoted(two),
                signed_by.at_least
            ),
            "name signers with different keys or identities, or ask for fewer",
        );
        return None;
    }
    Some(signed_by)
}
