//! Bodies: read with patience that ends, whole or as a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{Limits, Stage, UpstreamError, exchange};
use crate::oci::RegistryHost;

/// A blob under way.
#[derive(Debug)]
pub struct BlobBody {
    /// The size of the whole blob in bytes, where the registry says so: a claim.
    pub size: Option<u64>,
    /// The bytes, from the offset that was asked for. Nobody has hashed them.
    pub body: BlobStream,
}

/// The bytes of a blob as they arrive, no faster than they are taken. Dropping it ends the
/// transfer.
pub struct BlobStream {
    patient: Patient,
    /// Bytes still to be dropped, where the registry sent the whole blob instead of its rest.
    skip: u64,
    /// The place among the blobs under way, held until the end.
    _place: OwnedSemaphorePermit,
}

impl BlobStream {
    pub(super) fn new(patient: Patient, skip: u64, place: OwnedSemaphorePermit) -> Self {
        Self {
            patient,
            skip,
            _place: place,
        }
    }
}

impl Body for BlobStream {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        loop {
            let Some(frame) = ready!(Pin::new(&mut this.patient).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            // Trailers mean nothing here, and empty frames need not travel.
            let Ok(mut bytes) = frame?.into_data() else {
                continue;
            };
            let dropped =
                usize::try_from(this.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
            bytes.advance(dropped);
            this.skip -= dropped as u64;
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.patient.is_end_stream()
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream").finish_non_exhaustive()
    }
}

/// A body that fails when it keeps its reader waiting too long. Only time spent waiting for
/// the upstream counts, not the time that the reader takes.
pub(super) struct Patient {
    incoming: Incoming,
    host: RegistryHost,
    timeout: Duration,
    progress_bytes_min: usize,
    /// Bytes that came, and time waited, since there last was progress.
    bytes: usize,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patient {
    pub(super) fn new(incoming: Incoming, host: &RegistryHost, limits: &Limits) -> Self {
        Self {
            incoming,
            host: host.clone(),
            timeout: limits.body_idle_timeout,
            progress_bytes_min: limits.body_progress_bytes_min,
            bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    /// The whole body, where it has no more than `limit` bytes.
    pub(super) async fn collect(mut self, limit: usize) -> Result<Bytes, UpstreamError> {
        let too_large = UpstreamError::TooLarge { limit };
        // Not believed, but there is no need to read what says itself that it is too large.
        if self.incoming.size_hint().lower() > limit as u64 {
            return Err(too_large);
        }
        let mut whole = Vec::new();
        while let Some(frame) = self.frame().await {
            let Ok(bytes) = frame?.into_data() else {
                continue;
            };
            if bytes.len() > limit - whole.len() {
                return Err(too_large);
            }
            whole.extend_from_slice(&bytes);
        }
        // Without spare capacity: whoever keeps it counts its length.
        Ok(whole.into_boxed_slice().into())
    }

    fn poll_impatience(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamError> {
        let left = self.timeout.saturating_sub(self.waited);
        let (_, alarm) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(UpstreamError::TimedOut {
            host: self.host.clone(),
            stage: Stage::Body,
            after: self.timeout,
        })
    }

    fn note_arrival(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.bytes += bytes;
        if self.bytes >= self.progress_bytes_min {
            self.bytes = 0;
            self.waited = Duration::ZERO;
        }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            return this.poll_impatience(cx).map(|error| Some(Err(error)));
        };
        let frame = frame.map(|frame| {
            frame.map_err(|error| UpstreamError::Unreachable {
                host: this.host.to_string(),
                cause: exchange::cause(&error),
            })
        });
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        this.note_arrival(length);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
