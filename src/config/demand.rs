//! What a policy wants proven, lowered: `signed_by`, `attested`, when, in which format and where.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::config::attested;
use crate::config::evidence_source;
use crate::config::policies::Context;
use crate::config::policies::Signers;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::signed_by;
use crate::config::units;
use crate::oci::EvidenceSource;
use crate::policy::Carrier;
use crate::policy::Demand;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::Timing;

/// Keys that only mean something where signatures are asked for, and are errors elsewhere: who
/// writes one believes that it is kept.
pub(super) fn complain_of_signature_keys(fields: &Fields<'_>, form: &str) {
    for key in [
        "signed_within",
        "not_before",
        "cooldown",
        "no_rollback",
        "format",
        "source",
    ] {
        // What a tag named before is asked of a policy as a whole.
        let of_the_whole = key == "no_rollback" && form == "any_of";
        if !of_the_whole && let Some(value) = fields.at(key) {
            let mend = match form {
                "any_of" => "write it into each of the ways that it is for",
                _ => "remove the line, or ask for signatures with `signed_by` or `attested`",
            };
            value.error(&format!("`{key}` has no meaning beside `{form}`"), mend);
        }
    }
    if form != "signed_by"
        && let Some(value) = fields.at("signed_by")
    {
        value.error(
            &format!("`signed_by` and `{form}` stand side by side, and only one of them can"),
            "keep the one that you mean",
        );
    }
}

/// Several ways to pass, of which one is enough.
pub(super) fn alternatives(
    value: &Value<'_>,
    signers: &Signers,
    context: &Context<'_>,
) -> Option<Vec<Demand>> {
    const MEND: &str = "write [{ signed_by: a }, { attested: [...] }]";
    let items = value.filled_list(MEND)?;
    let demands: Vec<Demand> = items
        .iter()
        .filter_map(|item| {
            let fields = item.fields(&schema::ALTERNATIVE)?;
            let circumstances = circumstances(&fields, context);
            if fields.at("signed_by").is_none() && fields.at("attested").is_none() {
                item.error("`signed_by` or `attested` is missing", MEND);
                return None;
            }
            demand(&fields, signers, circumstances, context)
        })
        .collect();
    (demands.len() == items.len()).then_some(demands)
}

/// When signatures and attestations have to have been made, in which format, and where they are
/// kept.
pub(super) struct Circumstances {
    timing: Timing,
    format: Option<Carrier>,
    source: Option<EvidenceSource>,
}

/// Lowers the circumstances; they are read whatever a policy asks for, so that all problems are
/// told.
pub(super) fn circumstances(fields: &Fields<'_>, context: &Context<'_>) -> Option<Circumstances> {
    let timing = timing(fields);
    let words = [("bundle", Carrier::Bundle), ("layer", Carrier::Layer)];
    let format = fields.at("format").map(|value| value.choice(&words));
    let source = fields
        .at("source")
        .map(|value| evidence_source::lower(&value, context.hosts));
    Some(Circumstances {
        timing: timing?,
        format: whole(format)?,
        source: whole(source)?,
    })
}

/// Lowers what has to be proven.
pub(super) fn demand(
    fields: &Fields<'_>,
    signers: &Signers,
    circumstances: Option<Circumstances>,
    context: &Context<'_>,
) -> Option<Demand> {
    let signed_by = fields
        .at("signed_by")
        .map(|value| signed_by::lower(&value, signers));
    let attested = fields.at("attested").map_or(Some(Vec::new()), |value| {
        attested::lower(&value, signers, context.condition_steps_max)
    });
    let (signed_by, attested) = (whole(signed_by)?, attested?);
    let Circumstances {
        timing,
        format,
        source,
    } = circumstances?;
    let demand = Demand {
        signed_by,
        attested,
        timing,
        format,
        source: source.map(Arc::new),
    };
    refuse_gpg(fields, &demand)?;
    Some(demand)
}

/// GPG signatures are in no such format, and lie in no such place.
fn refuse_gpg(fields: &Fields<'_>, demand: &Demand) -> Option<()> {
    let is_gpg = |signer: &SignerRule| matches!(signer.kind, SignerKind::Gpg { .. });
    if !demand.signers().any(is_gpg) {
        return Some(());
    }
    let mut whole = true;
    for key in ["format", "source"] {
        if let Some(value) = fields.at(key) {
            value.error(
                &format!("`{key}` is for cosign's signatures, and here GPG ones are asked for"),
                "remove the line; GPG signatures lie in the upstream's `lookaside` store",
            );
            whole = false;
        }
    }
    whole.then_some(())
}

/// When signatures have to have been made.
fn timing(fields: &Fields<'_>) -> Option<Timing> {
    let period = |key| match fields.at(key) {
        Some(value) => {
            let period = value.parsed(units::duration, units::DURATION_MEND)?;
            if period.is_zero() {
                value.error(
                    "no time at all: nothing could ever meet this",
                    "give a duration, or remove the line",
                );
                return None;
            }
            SignedDuration::try_from(period).ok().map(Some)
        }
        None => Some(None),
    };
    let (signed_within, cooldown) = (period("signed_within"), period("cooldown"));
    let not_before = match fields.at("not_before") {
        Some(value) => value.parsed(units::start, units::START_MEND).map(Some),
        None => Some(None),
    };
    let timing = Timing {
        signed_within: signed_within?,
        not_before: not_before?,
        cooldown: cooldown?,
    };
    if let (Some(within), Some(cooldown)) = (timing.signed_within, timing.cooldown)
        && cooldown > within
        && let Some(value) = fields.at("cooldown")
    {
        value.error(
            "the cooldown is longer than `signed_within`, so no signature can ever count",
            "make one of the two fit the other",
        );
        return None;
    }
    Some(timing)
}
