//! Manifests by digest, each fetched in one flight for all who ask.

use std::sync::Arc;

use crate::content::ContentKey;
use crate::content::Document;
use crate::gate::Gate;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

impl Gate {
    /// A manifest by digest: held, or fetched now.
    pub(super) async fn document(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
    ) -> Result<Arc<Document>, UpstreamError> {
        if let Some(held) = self.0.content.held_manifest(key) {
            return Ok(held);
        }
        let (content, upstream_of_flight) = (self.0.content.clone(), upstream.clone());
        let flight = {
            let key = key.clone();
            || async move { content.fetch_manifest(&upstream_of_flight, &key).await }
        };
        match self.0.document_flights.join(key.clone(), flight).await {
            Ok(landed) => landed,
            // A crash is one flight's: whoever waited for it goes alone.
            Err(_) => self.0.content.fetch_manifest(upstream, key).await,
        }
    }
}
