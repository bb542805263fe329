//! Plain documents of a web server: what is no registry, and is asked without credentials.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{MalformedAnswer, Stage, Upstream, UpstreamError, body::Patient};

impl Upstream {
    /// The bytes of the document at `path` (with its leading slash) below the base URL: up to
    /// `bytes_max` of them, without credentials, within the deadline of a manifest. Redirects
    /// are not followed, wherever they lead.
    ///
    /// # Errors
    /// [`UpstreamError`]; a redirect is [`UpstreamError::Status`].
    pub async fn plain(&self, path: &str, bytes_max: usize) -> Result<Bytes, UpstreamError> {
        let shared = &self.places()[0];
        let fetched = async {
            let _place = shared.place(&shared.documents).await?;
            let request = shared.request(Method::GET, &shared.settings.url.path(path))?;
            let answer = shared.exchange(&shared.clients.documents, None, &request).await?;
            let answer = shared.accept(answer, false)?;
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                return Err(UpstreamError::Malformed(MalformedAnswer::Range));
            }
            let settings = &shared.settings;
            Patient::new(answer.into_body(), &settings.host, &settings.limits)
                .collect(bytes_max)
                .await
        };
        shared.within_deadline(Stage::Document, fetched).await
    }
}
