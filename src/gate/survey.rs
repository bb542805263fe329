//! What is proven, without a judgement.

use std::sync::Arc;

use crate::gate::Ask;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::graph::Scope;
use crate::gate::judge::shape_of;
use crate::oci::DockerReference;
use crate::policy::Subject;

impl Gate {
    /// What is proven about an image and about what lies around it, unjudged: for those who
    /// want to write it down. No bytes leave by this way.
    ///
    /// # Errors
    /// A [`Refusal`]: something could not be read, or is not there.
    pub async fn survey(&self, ask: &Ask) -> Result<Subject, Refusal> {
        let ruling = self.0.ruling.load_full();
        let (upstream, key, found) = self.locate(ask).await?;
        let shape = shape_of(&found.document);
        // With every policy's eyes: what one of them has no use for, another has.
        let policies = &ruling.rules.policies;
        let pulled = Arc::new(DockerReference::asking(&ask.image, &ask.reference));
        let scope = Scope::new(self, &ruling, upstream, policies, pulled, None);
        // But what others keep elsewhere is not looked for.
        let scope = scope.with_evidence_of(&ruling.rules.matching(&ask.image, &ask.reference));
        let unavailable = |cause| self.unavailable(cause, ask.asked(), Some(key.digest));
        let mut subject = scope.alone(&key, shape).await.map_err(unavailable)?;
        scope.look_around(&key, &found.document, &mut subject).await;
        match scope.doubt() {
            Some(doubt) => Err(unavailable(doubt)),
            None => Ok(subject),
        }
    }
}
