//! `source` of an authority: its signatures and attestations are kept there, and nowhere else.

use crate::config::cluster_image_policy::sections;
use crate::config::evidence_source;
use crate::config::policies::Context;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::oci::EvidenceSource;

/// Lowers `source`; `None` within where it says nothing.
pub(super) fn lower(value: &Value<'_>, context: &Context<'_>) -> Option<Option<EvidenceSource>> {
    let items = value.list()?;
    let (first, more) = match items.as_slice() {
        [] => return Some(None),
        [first, more @ ..] => (first, more),
    };
    if !more.is_empty() {
        value.error(
            "there is more than one source",
            "keep the one that has the signatures",
        );
        return None;
    }
    let fields = first.fields(&sections::SOURCE)?;
    // An empty text says nothing, as there.
    let given = |key| fields.at(key).filter(|value| value.as_text() != Some(""));
    let repository = given("oci").map(|value| evidence_source::repository(&value, context.hosts));
    let tag_prefix = given("tagPrefix").map(|value| evidence_source::tag_prefix(&value));
    let source = EvidenceSource {
        repository: whole(repository)?,
        tag_prefix: whole(tag_prefix)?,
    };
    if fields.has_later() {
        return None;
    }
    let says_nothing = source.repository.is_none() && source.tag_prefix.is_none();
    Some((!says_nothing).then_some(source))
}
