//! A TUF repository on a web server, as the TUF client asks for it.

use sigstore_tuf::Error;
use sigstore_tuf::Repository;
use sigstore_tuf::transport::FetchFuture;

use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// A repository below a URL: metadata at its root, targets under `targets/`. What it sends is
/// believed by nobody; the client verifies it.
pub(super) struct Mirror(pub(super) Upstream);

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(format!("/{name}"), max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(format!("/targets/{path}"), max_length))
    }
}

impl Mirror {
    async fn fetch(&self, path: String, max_length: u64) -> Result<Option<Vec<u8>>, Error> {
        let bytes_max = usize::try_from(max_length).unwrap_or(usize::MAX);
        match self.0.plain(&path, bytes_max).await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            // Storage that may not be listed answers 403 for what is not there; python-tuf takes
            // both for the end of the chain of roots.
            Err(UpstreamError::NotFound | UpstreamError::Status(403)) => Ok(None),
            Err(UpstreamError::TooLarge { limit }) => Err(Error::IntegrityMismatch(format!(
                "{path} is larger than {limit} bytes"
            ))),
            Err(error) => Err(Error::transport_with_source(
                format!("asking for {path}"),
                error,
            )),
        }
    }
}
