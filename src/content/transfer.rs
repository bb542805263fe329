//! One transfer of a blob from upstream, taken up again where it breaks off.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    stream::{self, Stream},
};
use http_body_util::BodyExt as _;

use super::{BlobError, ContentKey};
use crate::metrics::Metrics;
use crate::oci::Hasher;
use crate::upstream::BlobStream;
use crate::upstream::MalformedAnswer;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// How often a transfer is taken up again without having come further by [`PROGRESS_BYTES`].
const RESUMES_MAX: u32 = 5;
/// What counts as having come further. Less would let an upstream that cuts after every byte
/// be asked as often as the blob has bytes.
const PROGRESS_BYTES: u64 = 1 << 20;
/// The wait before the second attempt in a row; each further one takes twice as long.
const BACKOFF: Duration = Duration::from_millis(100);

/// A transfer under way.
pub(super) struct Transfer {
    upstream: Upstream,
    key: ContentKey,
    metrics: Arc<Metrics>,
    /// Absent after it broke off, until it is taken up again.
    stream: Option<BlobStream>,
    size: Option<u64>,
    /// Bytes that have come, from the start of the blob.
    at: u64,
    resumes: u32,
    /// How far it was when it last had come further.
    progress: u64,
    end: Option<Result<(), UpstreamError>>,
}

impl Transfer {
    /// Asks for a blob from byte `from` on.
    pub(super) async fn open(
        upstream: &Upstream,
        key: &ContentKey,
        from: u64,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, UpstreamError> {
        let answer = upstream.blob(&key.repository, &key.digest, from).await?;
        Ok(Self {
            upstream: upstream.clone(),
            key: key.clone(),
            metrics: Arc::clone(metrics),
            stream: Some(answer.body),
            size: answer.size,
            at: from,
            resumes: 0,
            progress: from,
            end: None,
        })
    }

    /// The size of the whole blob, where the upstream says so: a claim.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes, or their end. May be dropped and asked again.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            let Some(stream) = &mut self.stream else {
                self.take_up().await;
                continue;
            };
            match stream.frame().await {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    self.at += bytes.len() as u64;
                    if self.at >= self.progress + PROGRESS_BYTES {
                        (self.progress, self.resumes) = (self.at, 0);
                    }
                    return Ok(Some(bytes));
                }
                Some(Err(error)) => self.broke_off(error),
                None => self.end = Some(Ok(())),
            }
        }
    }

    /// The next bytes, and those that have come already, up to about `bytes_max`.
    pub(super) async fn next_ready(
        &mut self,
        bytes_max: usize,
    ) -> Result<Option<Vec<Bytes>>, UpstreamError> {
        let Some(first) = self.next().await? else {
            return Ok(None);
        };
        let mut count = first.len();
        let mut ready = vec![first];
        while count < bytes_max
            && let Some(Ok(Some(bytes))) = self.next().now_or_never()
        {
            count += bytes.len();
            ready.push(bytes);
        }
        Ok(Some(ready))
    }

    /// Decides whether to go on after an error.
    fn broke_off(&mut self, error: UpstreamError) {
        self.stream = None;
        if self.size == Some(self.at) {
            // All has come; whether it is right is for the hash to say.
            self.end = Some(Ok(()));
        } else if !error.is_transient() || self.resumes >= RESUMES_MAX {
            self.end = Some(Err(error));
        } else {
            self.resumes += 1;
            self.metrics.transfer_resumed();
            tracing::debug!(digest = %self.key.digest, at = self.at, %error, "a transfer broke off");
        }
    }

    async fn take_up(&mut self) {
        if let Some(doublings) = self.resumes.checked_sub(2) {
            tokio::time::sleep(BACKOFF * 2_u32.saturating_pow(doublings)).await;
        }
        let ContentKey {
            repository, digest, ..
        } = &self.key;
        match self.upstream.blob(repository, digest, self.at).await {
            Ok(answer)
                if answer.size != self.size && answer.size.is_some() && self.size.is_some() =>
            {
                let error = UpstreamError::Malformed(MalformedAnswer::Range);
                self.end = Some(Err(error));
            }
            Ok(answer) => self.stream = Some(answer.body),
            Err(error) => self.broke_off(error),
        }
    }
}

/// A transfer that is hashed as it passes. The last bytes are withheld until all of them have
/// hashed to the digest: who reads it to its end has the right bytes, and who got wrong ones
/// got no end.
pub(super) struct Verified {
    transfer: Transfer,
    hasher: Hasher,
    /// The latest bytes, which may be the last.
    withheld: Option<Bytes>,
}

impl Verified {
    /// `hasher` has seen all bytes before those that `transfer` brings, of which `withheld`
    /// have not been passed on.
    pub(super) fn new(transfer: Transfer, hasher: Hasher, withheld: Option<Bytes>) -> Self {
        Self {
            transfer,
            hasher,
            withheld,
        }
    }

    /// The bytes, from the start on.
    pub(super) fn from_start(transfer: Transfer) -> Self {
        let hasher = Hasher::new(transfer.key.digest.algorithm());
        Self::new(transfer, hasher, None)
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
        stream::try_unfold(Some(self), |verified| async move {
            match verified {
                Some(verified) => verified.next().await,
                None => Ok(None),
            }
        })
    }

    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, BlobError> {
        let expected = self.transfer.key.digest;
        let wrong = || BlobError::WrongBytes { expected };
        while let Some(bytes) = self.transfer.next().await? {
            self.hasher.update(&bytes);
            if self
                .transfer
                .size
                .is_some_and(|size| self.transfer.at > size)
            {
                return Err(wrong());
            }
            if let Some(earlier) = self.withheld.replace(bytes) {
                return Ok(Some((earlier, Some(self))));
            }
        }
        let complete = self
            .transfer
            .size
            .is_none_or(|size| self.transfer.at == size);
        if !complete || self.hasher.finish() != expected {
            return Err(wrong());
        }
        Ok(self.withheld.map(|last| (last, None)))
    }
}
