//! The bytes of a blob as a body of HTTP.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http_body::{Body, Frame, SizeHint};
use tokio_util::task::TaskTracker;

use super::BlobError;
use super::disk::{Corrupt, StoredFile};
use super::pace::{Pace, Steady};
use crate::oci::Digest;

/// The bytes of a blob.
#[derive(Debug)]
pub enum BlobBody {
    /// Bytes that are held and known to be right.
    Held(Option<Bytes>),
    /// Bytes that come, and whose end comes only if all of them are right.
    Stream(ByteStream),
}

/// Bytes that come.
pub struct ByteStream {
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>,
    /// How many are still to come, where that is known.
    left: Option<u64>,
    /// What keeps their pieces small, where they may be large.
    steady: Option<Steady>,
}

impl BlobBody {
    pub(super) fn stream(
        length: Option<u64>,
        bytes: impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static,
    ) -> Self {
        Self::Stream(ByteStream::new(length, bytes))
    }

    /// The bytes of a file from where it stands to `end`.
    pub(super) fn file(
        file: StoredFile,
        end: u64,
        expected: Digest,
        pace: Pace,
        tasks: TaskTracker,
    ) -> Self {
        let (length, tasks, steady) = (file.left(end), Arc::new(tasks), pace.steady());
        let chunks = stream::try_unfold((file, pace), move |(mut file, mut pace)| {
            let tasks = Arc::clone(&tasks);
            async move {
                let left = file.left(end);
                if left == 0 {
                    return Ok(None);
                }
                // What waits for this thread has its turn between two reads.
                tokio::task::yield_now().await;
                let room = pace.room(left, Instant::now());
                let bytes = match file.read_at_hand(end, room) {
                    Ok(bytes) => bytes,
                    Err(room) => {
                        let reading = tasks.spawn_blocking(move || {
                            let bytes = file.read(end, room);
                            (file, bytes)
                        });
                        let bytes;
                        (file, bytes) = reading.await.map_err(|_| BlobError::GivenUp)?;
                        bytes.map_err(|Corrupt| BlobError::Corrupt { expected })?
                    }
                };
                pace.handed(&bytes, Instant::now());
                Ok(Some((bytes, (file, pace))))
            }
        });
        Self::Stream(ByteStream {
            steady: Some(steady),
            ..ByteStream::new(Some(length), chunks)
        })
    }

    /// The same, never in large pieces: for a connection that others share, whose library takes all of
    /// a piece in as soon as a part of it can be sent.
    #[must_use]
    pub fn in_small_pieces(self) -> Self {
        if let Self::Stream(stream) = &self
            && let Some(steady) = &stream.steady
        {
            steady.store(true, Ordering::Relaxed);
        }
        self
    }
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let polled = match self.get_mut() {
            Self::Held(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Stream(stream) => stream.poll_next(cx),
        };
        polled.map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(stream) => stream.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(stream) => stream
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl ByteStream {
    fn new(
        length: Option<u64>,
        bytes: impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static,
    ) -> Self {
        Self {
            bytes: Box::pin(bytes),
            left: length,
            steady: None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BlobError>>> {
        let polled = self.bytes.as_mut().poll_next(cx);
        if let (Poll::Ready(Some(Ok(bytes))), Some(left)) = (&polled, &mut self.left) {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        polled
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
