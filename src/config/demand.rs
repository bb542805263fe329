//! What a policy wants proven, lowered: `signed_by`, `attested`, and when.

use jiff::SignedDuration;

use crate::config::attested;
use crate::config::policies::Context;
use crate::config::policies::Signers;
use crate::config::reader::Fields;
use crate::config::reader::whole;
use crate::config::signed_by;
use crate::config::units;
use crate::policy::Demand;
use crate::policy::Requirement;
use crate::policy::Timing;

/// Keys that only mean something where signatures are asked for, and are errors elsewhere: who
/// writes one believes that it is kept.
pub(super) fn complain_of_signature_keys(fields: &Fields<'_>, form: &str) {
    for key in ["signed_within", "not_before", "cooldown", "no_rollback"] {
        if let Some(value) = fields.at(key) {
            value.error(
                &format!("`{key}` has no meaning beside `{form}`"),
                "remove the line, or ask for signatures with `signed_by` or `attested`",
            );
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

/// Lowers what has to be proven.
pub(super) fn demand(
    fields: &Fields<'_>,
    signers: &Signers,
    timing: Timing,
    context: &Context<'_>,
) -> Option<Requirement> {
    let signed_by = fields
        .at("signed_by")
        .map(|value| signed_by::lower(&value, signers));
    let attested = fields.at("attested").map_or(Some(Vec::new()), |value| {
        attested::lower(&value, signers, context.condition_steps_max)
    });
    Some(Requirement::Proven(vec![Demand {
        signed_by: whole(signed_by)?,
        attested: attested?,
        timing,
        format: None,
    }]))
}

/// When signatures have to have been made.
pub(super) fn timing(fields: &Fields<'_>) -> Option<Timing> {
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
        timestamped: false,
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
