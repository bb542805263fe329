//! Reading a file that still grows.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use tokio::sync::watch;

use super::{
    BlobError, ContentKey,
    along::{Next, Rest, read_along},
    disk::open,
    fill::Progress,
    inner::Inner,
    transfer::{Transfer, Verified},
};
use crate::oci::Hasher;
use crate::upstream::Upstream;

/// Bytes that are read at a time.
const READ_BYTES: u64 = 128 << 10;

/// A reader of a fill. It passes on what has arrived but for the last byte, which it passes on
/// when the fill has verified all of them. Where the disk fails, it goes on with a transfer of
/// its own and verifies that.
pub(super) struct Follower {
    inner: Arc<Inner>,
    upstream: Upstream,
    key: ContentKey,
    progress: watch::Receiver<Progress>,
    file: Arc<File>,
    /// Bytes passed on.
    at: u64,
}

/// What is to be done next.
enum Step {
    /// Bytes up to here may be passed on.
    Read(u64),
    /// That was all.
    End,
    /// The disk failed after so many bytes.
    Drift(Hasher, u64),
    Wait,
}

impl Follower {
    /// `None` when the file is not there any more, since the fill has come further.
    pub(super) async fn open(
        inner: &Arc<Inner>,
        upstream: &Upstream,
        key: &ContentKey,
        progress: watch::Receiver<Progress>,
        path: Arc<Path>,
    ) -> Option<Self> {
        let (file, _) = inner.blocking(move || open(&path)).await?.ok()?;
        Some(Self {
            inner: Arc::clone(inner),
            upstream: upstream.clone(),
            key: key.clone(),
            progress,
            file: Arc::new(file),
            at: 0,
        })
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
        read_along(self, Self::next)
    }

    async fn next(mut self) -> Result<Next<Self>, BlobError> {
        loop {
            match self.step()? {
                Step::Read(end) => {
                    let count = (end - self.at).min(READ_BYTES);
                    let bytes = self.read(count).await?;
                    return Ok(Next::Bytes(bytes, self));
                }
                Step::End => return Ok(Next::End),
                Step::Drift(hasher, at) => return self.drift(hasher, at).await.map(Next::Alone),
                Step::Wait => {
                    let changed = self.progress.changed().await;
                    changed.map_err(|_| BlobError::GivenUp)?;
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, BlobError> {
        let progress = self.progress.borrow_and_update();
        let read = |end: u64| (self.at < end).then_some(Step::Read(end));
        Ok(match &*progress {
            Progress::Growing { written, .. } => {
                read(written.saturating_sub(1)).unwrap_or(Step::Wait)
            }
            Progress::Stored { size } => read(*size).unwrap_or(Step::End),
            Progress::Adrift { hasher, at } => {
                read(at.saturating_sub(1)).unwrap_or_else(|| Step::Drift(hasher.clone(), *at))
            }
            Progress::Failed(error) => return Err(error.clone().into()),
            // What grows in a file does not become one of these.
            Progress::Asked
            | Progress::Held(_)
            | Progress::Passing { .. }
            | Progress::Passed
            | Progress::Alone(_) => return Err(BlobError::GivenUp),
        })
    }

    /// The next bytes of the file, which are there.
    async fn read(&mut self, count: u64) -> Result<Bytes, BlobError> {
        let file = Arc::clone(&self.file);
        let reading = self.inner.blocking(move || read_exactly(&file, count));
        match reading.await {
            Some(Ok(bytes)) => {
                self.at += count;
                Ok(bytes)
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a growing file of the cache cannot be read");
                Err(BlobError::GivenUp)
            }
            None => Err(BlobError::GivenUp),
        }
    }

    /// Goes on without the file.
    async fn drift(mut self, hasher: Hasher, at: u64) -> Result<Rest, BlobError> {
        let withheld = match at - self.at {
            0 => None,
            left => Some(self.read(left).await?),
        };
        let metrics = &self.inner.metrics;
        let transfer = Transfer::open(&self.upstream, &self.key, at, metrics).await?;
        Ok(Verified::new(transfer, hasher, withheld)
            .into_stream()
            .boxed())
    }
}

fn read_exactly(file: &File, count: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    if file.take(count).read_to_end(&mut bytes)? as u64 == count {
        Ok(bytes.into())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
