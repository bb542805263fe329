//! That a tag never moves back (`no_rollback`), lowered.

use std::collections::BTreeSet;

use crate::config::policies::digests;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::schema;
use crate::oci::Digest;
use crate::policy::NoRollback;
use crate::policy::Requirement;
use crate::policy::SignerKind;

/// Reads the rule of one policy; `None` where it is wrong.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and right are three things"
)]
pub(super) fn lower(
    fields: &Fields<'_>,
    requirement: Option<&Requirement>,
    remembers: bool,
) -> Option<Option<NoRollback>> {
    let Some(value) = fields.at("no_rollback") else {
        return Some(None);
    };
    let rule = match value.is_map() {
        true => NoRollback {
            permit: permitted(&value)?,
        },
        false => match value.choice(&[("true", true), ("false", false)])? {
            true => NoRollback::default(),
            false => return Some(None),
        },
    };
    refuse_keys(&value, requirement)?;
    let is_kept = matches!(requirement, Some(Requirement::Proven(_)));
    if is_kept && !remembers {
        value.warn(
            "what tags named is remembered in memory only: after a restart each may move back once",
            "give it a place: cache: { directory: /var/lib/pullgate }",
        );
    }
    Some(Some(rule))
}

/// What a tag may move back to.
fn permitted(value: &Value<'_>) -> Option<BTreeSet<Digest>> {
    const MEND: &str = "list the digests that a tag may move back to, or write `no_rollback: true`";
    let fields = value.fields(&schema::NO_ROLLBACK)?;
    digests(&fields.required("permit", MEND)?, MEND)
}

/// Refuses signers with a key: anybody can have a key's old signature put into a log, or
/// timestamped, anew, so that it seems to be of today.
fn refuse_keys(value: &Value<'_>, requirement: Option<&Requirement>) -> Option<()> {
    let Some(Requirement::Proven(demands)) = requirement else {
        return Some(());
    };
    let mut signers = demands.iter().flat_map(|demand| demand.signers());
    let Some(keyed) = signers.find(|signer| !matches!(signer.kind, SignerKind::Keyless(_))) else {
        return Some(());
    };
    value.error(
        &format!(
            "nothing proves when a key signed, and the signer {} has one",
            quoted(&keyed.name)
        ),
        "name keyless signers only, or remove the line",
    );
    None
}
