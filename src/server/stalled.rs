//! Connections whose other end takes nothing: they end, since each may hold a place among the
//! blobs under way.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Up to so many bytes, one buffer costs less to be made than several cost the kernel.
const JOINED_BYTES_MAX: usize = 4 << 10;

thread_local! {
    /// Where buffers are joined. Each write begins with an empty one, and is of that alone.
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(JOINED_BYTES_MAX));
}

/// How long a client may take to take how much of an answer that waits for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The time. Only waiting for the client counts.
    pub(super) time: Duration,
    /// What has to be taken within it, in bytes; so that one byte now and then does not do.
    pub(super) bytes_min: usize,
}

impl Patience {
    /// A kilobyte a second, seen over so long a time.
    pub(super) fn of(time: Duration) -> Self {
        let seconds = usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
        Self {
            time,
            bytes_min: seconds.max(1).saturating_mul(1 << 10),
        }
    }
}

/// A stream that fails when too few bytes could be written in too long a time.
pub(super) struct Stalled<S> {
    stream: S,
    patience: Patience,
    /// Bytes that were taken, and time waited, since there last was progress.
    bytes: usize,
    waited: Duration,
    /// Set while a write waits.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Stalled<S> {
    pub(super) fn new(stream: S, patience: Patience) -> Self {
        Self {
            stream,
            patience,
            bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = written {
            if let Some((since, _)) = self.waiting.take() {
                self.waited += since.elapsed();
            }
            self.bytes += written.as_ref().map_or(0, bytes);
            if self.bytes >= self.patience.bytes_min {
                (self.bytes, self.waited) = (0, Duration::ZERO);
            }
            return Poll::Ready(written);
        }
        let left = self.patience.time.saturating_sub(self.waited);
        let (_, alarm) = self.waiting.get_or_insert_with(|| {
            let alarm = tokio::time::sleep(left);
            (Instant::now(), Box::pin(alarm))
        });
        alarm
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, |count| *count, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(flushed, |()| 0, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(shut, |()| 0, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if bytes <= JOINED_BYTES_MAX {
            // The head of a manifest's answer and the manifest.
            return JOINED.with_borrow_mut(|joined| {
                joined.clear();
                buffers
                    .iter()
                    .for_each(|buffer| joined.extend_from_slice(buffer));
                self.poll_write(cx, joined)
            });
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.judge(written, |count| *count, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Patience = Patience {
        time: Duration::from_millis(400),
        bytes_min: 4,
    };

    /// Reads so many bytes at a time, each after a while that is well within patience.
    async fn drip(
        mut stream: tokio::io::DuplexStream,
        bytes: usize,
        times: usize,
    ) -> tokio::io::DuplexStream {
        let mut buffer = vec![0; bytes];
        for _ in 0..times {
            tokio::time::sleep(PATIENCE.time / 2).await;
            if stream.read_exact(&mut buffer).await.is_err() {
                break;
            }
        }
        stream
    }

    #[tokio::test]
    async fn who_takes_nothing_is_left_and_who_is_slow_is_not() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut stream = Stalled::new(ours, PATIENCE);
        let reader = tokio::spawn(drip(theirs, 4, 4));
        stream.write_all(&[0; 32]).await.expect("slow is all right");
        let _theirs = reader.await.expect("a reader");
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut stream = Stalled::new(ours, PATIENCE);
        let stalled = stream.write_all(&[0; 32]).await.expect_err("nobody reads");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
    }

    // A client that read a byte a minute held its place for as long as it liked.
    #[tokio::test]
    async fn who_takes_a_byte_now_and_then_is_left() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut stream = Stalled::new(ours, PATIENCE);
        let reader = tokio::spawn(drip(theirs, 1, 100));
        let stalled = stream.write_all(&[0; 64]).await.expect_err("too slow");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        reader.abort();
    }
}
