//! Refusing: a "no" or a "don't know" is made here, and counted.

use std::sync::Arc;

use bytes::Bytes;

use crate::content::Document;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Denied;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Refused;
use crate::gate::refusal::{Cause, own_shortfall};
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::policy::Reason;
use crate::policy::Shortfall;
use crate::verify::Facts;

impl Ask {
    pub(super) fn asked(&self) -> Asked {
        Asked::Manifest(self.image.clone(), self.reference.clone())
    }
}

impl Gate {
    /// A "no" about a manifest that no policy but the gate itself says.
    pub(super) fn deny(&self, ask: &Ask, document: &Document, shortfall: Shortfall) -> Refusal {
        self.denied(
            Denied {
                asked: ask.asked(),
                refused: Some(outside(document)),
                shortfall,
                policy: None,
                judgement: None,
            },
            Arc::default(),
        )
    }

    /// Counts a "no".
    pub(super) fn denied(&self, denied: Denied, facts: Arc<Facts>) -> Refusal {
        let reason = denied.shortfall.reason.as_str();
        let policy = denied.policy.as_deref().unwrap_or("none");
        self.0
            .metrics
            .decision("denied", reason, "enforce", policy)
            .inc();
        Refusal::Denied(Arc::new(denied), facts)
    }

    /// Counts a "don't know".
    pub(super) fn unavailable(
        &self,
        cause: Cause,
        asked: Asked,
        digest: Option<Digest>,
    ) -> Refusal {
        self.0
            .metrics
            .decision("unavailable", cause.doubt.as_str(), "enforce", "none")
            .inc();
        cause.about(asked, digest)
    }
}

pub(super) fn outside(document: &Document) -> Refused {
    let bytes: &Bytes = document.bytes();
    Refused {
        digest: *document.digest(),
        media_type: document.media_type(),
        length: bytes.len(),
    }
}

pub(super) fn no_policy(image: &ImageName) -> Shortfall {
    own_shortfall(
        Reason::NoPolicy,
        format!("no policy for {image}"),
        "a policy whose `images` match it (default: deny)",
        "add a policy for this image, or pull from a repository that has one",
    )
}

pub(super) fn malformed(error: &impl std::fmt::Display) -> Shortfall {
    own_shortfall(
        Reason::Malformed,
        error.to_string(),
        "an OCI or Docker schema 2 manifest that can be read in one way only",
        "push the image anew with a current tool",
    )
}
