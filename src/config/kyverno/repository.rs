//! `repository`: where signatures and attestations are kept, where that is not beside the image.

use std::sync::Arc;

use crate::config::evidence_source;
use crate::config::policies::Context;
use crate::config::reader::Fields;
use crate::oci::EvidenceSource;
use crate::policy::Carrier;

/// The place; `None` where it is beside the image.
pub(super) type Source = Option<Arc<EvidenceSource>>;

/// Which evidence counts: in what format, and from where unless an entry says otherwise.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) format: Option<Carrier>,
    pub(super) source: Source,
}

impl Kept {
    /// What counts for those who stand in `fields`, which may name a `repository` of their own.
    pub(super) fn within(&self, fields: &Fields<'_>, context: &Context<'_>) -> Option<Self> {
        // An empty text says nothing, as there.
        let given = fields.at("repository");
        let Some(value) = given.filter(|value| value.as_text() != Some("")) else {
            return Some(self.clone());
        };
        if self.format == Some(Carrier::Bundle) {
            value.error(
                "Kyverno looks for bundles beside the image, whatever this says",
                "remove it, or write `type: Cosign` if the signatures are layers",
            );
            return None;
        }
        let repository = evidence_source::repository(&value, context.hosts)?;
        Some(Self {
            format: self.format,
            source: Some(Arc::new(EvidenceSource {
                repository: Some(repository),
                tag_prefix: None,
            })),
        })
    }
}
