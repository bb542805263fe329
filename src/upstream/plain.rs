//! Plain documents of a web server: what is no registry, and is asked without credentials.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{MalformedAnswer, Stage, Upstream, UpstreamError, body::Patient, client::Shared};

impl Upstream {
    /// The bytes of the document at `path` (with its leading slash) below the base URL: up to
    /// `bytes_max` of them, without credentials, within the deadline of a manifest. Redirects
    /// are not followed, wherever they lead.
    ///
    /// # Errors
    /// [`UpstreamError`]; a redirect is [`UpstreamError::Status`].
    pub async fn plain(&self, path: &str, bytes_max: usize) -> Result<Bytes, UpstreamError> {
        self.in_order(|session| {
            let path = session.settings.url.path(path);
            async move {
                let fetched = session.plain(&path, bytes_max);
                session.within_deadline(Stage::Document, fetched).await
            }
        })
        .await
    }
}

impl Shared {
    async fn plain(&self, path: &str, bytes_max: usize) -> Result<Bytes, UpstreamError> {
        let _place = self.place(&self.documents).await?;
        let request = self.request(Method::GET, path)?;
        let answer = self
            .exchange(&self.clients.documents, None, &request)
            .await?;
        let answer = self.accept(answer, false)?;
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            return Err(UpstreamError::Malformed(MalformedAnswer::Range));
        }
        Patient::new(
            answer.into_body(),
            &self.settings.host,
            &self.settings.limits,
        )
        .collect(bytes_max)
        .await
    }
}
