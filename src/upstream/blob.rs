//! Blobs: their bytes, and their size.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    BlobBody, BlobStream, MalformedAnswer, Stage, Upstream, UpstreamError, authorize::Kind,
    body::Patient, client::Shared, order::Session,
};
use crate::oci::Digest;
use crate::oci::Repository;

impl Upstream {
    /// The bytes of a blob from byte `from` on; 0 for all. They stream, and whoever takes
    /// them hashes them. A registry that knows no ranges has its first bytes dropped here.
    ///
    /// # Errors
    /// [`UpstreamError`]; the stream has errors of its own for what happens later.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobBody, UpstreamError> {
        self.in_order(|session| async move {
            let place = session.place(&session.blobs).await?;
            session.blob(place, repository, digest, from).await
        })
        .await
    }

    /// The size of a blob as the registry claims it, where it does.
    ///
    /// # Errors
    /// [`UpstreamError`], most of all [`UpstreamError::NotFound`].
    pub async fn blob_size(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, UpstreamError> {
        self.in_order(|session| async move {
            let _place = session.place(&session.documents).await?;
            let path = blob_path(&session, repository, digest);
            let request = session.request(Method::HEAD, &path)?;
            let answer = session.follow(Kind::Blob, repository, request);
            let answer = session.within_deadline(Stage::Answer, answer).await?;
            Ok(content_length(answer.headers()))
        })
        .await
    }

    /// A small blob as a whole, hashed here.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::TooLarge`] beyond `bytes_max`, and
    /// [`UpstreamError::WrongBytes`] where the bytes are not those of the digest.
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        digest: &Digest,
        bytes_max: u64,
    ) -> Result<Bytes, UpstreamError> {
        self.in_order(|session| async move {
            let whole = async {
                // Among the documents: who pulls slowly keeps a blob's place for as long, and
                // must not keep evidence from being read.
                let place = session.place(&session.documents).await?;
                let body = session.blob(place, repository, digest, 0).await?;
                body.whole(digest, bytes_max).await
            };
            session.within_deadline(Stage::Document, whole).await
        })
        .await
    }
}

impl Session {
    async fn blob(
        &self,
        place: OwnedSemaphorePermit,
        repository: &Repository,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobBody, UpstreamError> {
        let path = blob_path(self, repository, digest);
        let mut request = self.request(Method::GET, &path)?;
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-"))
                .map_err(|_| UpstreamError::Malformed(MalformedAnswer::Range))?;
            request.headers_mut().insert(header::RANGE, range);
        }
        let answer = self.follow(Kind::Blob, repository, request);
        let answer = self.within_deadline(Stage::Answer, answer).await?;
        self.blob_body(answer, from, place)
    }
}

impl BlobBody {
    /// All of it, hashed here.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::TooLarge`] beyond `bytes_max`, and
    /// [`UpstreamError::WrongBytes`] where the bytes are not those of the digest.
    pub async fn whole(mut self, digest: &Digest, bytes_max: u64) -> Result<Bytes, UpstreamError> {
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let too_large = UpstreamError::TooLarge { limit };
        // A claim, but there is no need to read what says itself that it is too large.
        if self.size.is_some_and(|size| size > bytes_max) {
            return Err(too_large);
        }
        let mut whole = Vec::new();
        while let Some(frame) = self.body.frame().await {
            let Ok(bytes) = frame?.into_data() else {
                continue;
            };
            if bytes.len() > limit - whole.len() {
                return Err(too_large);
            }
            whole.extend_from_slice(&bytes);
        }
        let found = Digest::of(digest.algorithm(), &whole);
        if found == *digest {
            Ok(whole.into())
        } else {
            Err(UpstreamError::WrongBytes {
                expected: Box::new(*digest),
                found: Box::new(found),
            })
        }
    }
}

impl Shared {
    fn blob_body(
        &self,
        answer: Response<Incoming>,
        from: u64,
        place: OwnedSemaphorePermit,
    ) -> Result<BlobBody, UpstreamError> {
        let (size, skip) = if answer.status() == StatusCode::PARTIAL_CONTENT {
            let (_, size) = content_range(answer.headers())
                .filter(|(start, _)| from > 0 && *start == from)
                .ok_or(UpstreamError::Malformed(MalformedAnswer::Range))?;
            (size, 0)
        } else {
            (content_length(answer.headers()), from)
        };
        let patient = Patient::new(
            answer.into_body(),
            &self.settings.host,
            &self.settings.limits,
        );
        Ok(BlobBody {
            size,
            body: BlobStream::new(patient, skip, place),
        })
    }
}

fn blob_path(shared: &Shared, repository: &Repository, digest: &Digest) -> String {
    let path = format!("/v2/{repository}/blobs/{digest}");
    shared.settings.url.path(&path)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// First byte and whole size of `bytes 5-9/10`; the size may be unknown.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, size.parse().ok()))
}
