//! Lookaside stores: where detached signatures of a registry's images lie, outside of the
//! registry (containers/image, signature-protocols.md).
//!
//! A store is a folder or a web server that the operator names. The path below it comes from a
//! repository and a digest that parsed, so nothing that a client sends leads anywhere else. A
//! web server gets no credentials, and redirects stay on it.

use std::{io, path::PathBuf};

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncReadExt as _;

use super::{
    BaseUrl, RedirectRefusal, Stage, Upstream, UpstreamError,
    body::Patient,
    client::Shared,
    redirect::{judge, refuse},
};
use crate::oci::Digest;
use crate::oci::Repository;

/// Where the signatures of a registry's images lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookaside {
    /// In a folder.
    Folder(PathBuf),
    /// On a web server.
    Web(BaseUrl),
}

impl Upstream {
    /// True when the upstream has a lookaside store.
    #[must_use]
    pub fn has_lookaside(&self) -> bool {
        let mut places = self.places().iter();
        places.any(|shared| shared.settings.lookaside.is_some())
    }

    /// The signature of `digest` with this number, which counts from 1; `None` where there is
    /// none, and so none with a higher number.
    ///
    /// # Errors
    /// [`UpstreamError`] where nobody can tell; [`UpstreamError::TooLarge`] beyond `bytes_max`.
    pub async fn lookaside_signature(
        &self,
        repository: &Repository,
        digest: &Digest,
        number: usize,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, UpstreamError> {
        // The store is one, whichever address of the registry is asked.
        let Some(shared) = self.places().first() else {
            return Ok(None);
        };
        let algorithm = digest.algorithm().as_str();
        let hex = digest.hex();
        let path = format!("{repository}@{algorithm}={hex}/signature-{number}");
        let whole = async {
            match &shared.settings.lookaside {
                None => Ok(None),
                Some(Lookaside::Folder(folder)) => read_detached(folder, &path, bytes_max).await,
                Some(Lookaside::Web(base)) => {
                    let _place = shared.place(&shared.documents).await?;
                    shared.fetch_detached(base, &path, bytes_max).await
                }
            }
        };
        shared.within_deadline(Stage::Document, whole).await
    }
}

async fn read_detached(
    folder: &PathBuf,
    path: &str,
    bytes_max: usize,
) -> Result<Option<Bytes>, UpstreamError> {
    let unreadable = |error: io::Error| UpstreamError::Lookaside(error.to_string());
    let file = match tokio::fs::File::open(folder.join(path)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A store that is not mounted says nothing about what is in it.
            let there = tokio::fs::metadata(folder).await.map_err(unreadable)?;
            return match there.is_dir() {
                true => Ok(None),
                false => Err(UpstreamError::Lookaside("it is not a folder".to_owned())),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    let mut bounded = file.take(bytes_max as u64 + 1);
    bounded.read_to_end(&mut bytes).await.map_err(unreadable)?;
    match bytes.len() > bytes_max {
        true => Err(UpstreamError::TooLarge { limit: bytes_max }),
        false => Ok(Some(bytes.into())),
    }
}

impl Shared {
    async fn fetch_detached(
        &self,
        base: &BaseUrl,
        path: &str,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let mut request = self.request(Method::GET, "/")?;
        *request.uri_mut() = base
            .join(&base.path(&format!("/{path}")))
            .map_err(|_| UpstreamError::Malformed(super::MalformedAnswer::Address))?;
        for _ in 0..=self.settings.limits.redirects_max {
            let client = &self.clients.lookaside;
            let answer = self.exchange(client, None, &request).await?;
            if answer.status().is_redirection() {
                let (target, _) = judge(answer.headers(), request.uri(), base.origin(), None)?;
                *request.uri_mut() = target;
                continue;
            }
            let answer = match self.accept(answer, false) {
                Ok(answer) => answer,
                Err(UpstreamError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            let limits = &self.settings.limits;
            let body = Patient::new(answer.into_body(), &self.settings.host, limits);
            return Ok(Some(body.collect(bytes_max).await?));
        }
        let host = request.uri().host().unwrap_or_default();
        Err(refuse(host, RedirectRefusal::TooMany))
    }
}
