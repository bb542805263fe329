//! Readers on a connection that they share (HTTP/2): who takes nothing of a blob holds a place
//! among the blobs under way while the connection itself is as lively as ever, so each of them is
//! watched, and a connection with one that has stopped is left.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::content::BlobBody;
use crate::content::BlobError;
use crate::server::stalled::Patience;

/// How often the readers of a connection are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// How long a connection is kept on which nobody asks for anything.
const UNUSED_MAX: Duration = Duration::from_secs(120);

/// The readers of one connection.
#[derive(Debug)]
pub(super) struct Readers {
    patience: Patience,
    readers: Mutex<Vec<Weak<Mutex<Reader>>>>,
    asked: Mutex<Asked>,
}

/// When the connection was last of use.
#[derive(Debug)]
struct Asked {
    last: Instant,
    ever: bool,
}

/// What one reader has taken, and how long it let bytes wait, since it last had come further.
#[derive(Debug, Default)]
struct Reader {
    /// How many bytes it got last, and since when, where it has not asked for more.
    handed: Option<(Instant, usize)>,
    waited: Duration,
    taken: usize,
}

/// A body whose reader is watched.
#[derive(Debug)]
pub(super) struct Watched {
    body: BlobBody,
    /// None for bytes that are held: they cost nobody a place.
    reader: Option<Arc<Mutex<Reader>>>,
    bytes_min: usize,
}

impl Readers {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            readers: Mutex::default(),
            asked: Mutex::new(Asked {
                last: Instant::now(),
                ever: false,
            }),
        }
    }

    /// Somebody asks for something on this connection.
    pub(super) fn asks(&self) {
        *lock(&self.asked) = Asked {
            last: Instant::now(),
            ever: true,
        };
    }

    /// Ends when nobody has asked for anything: not within `first` of the beginning, or not for
    /// so long as an unused connection is kept. Whoever answers pings only holds no place.
    pub(super) async fn silence(&self, first: Duration) {
        while !self.is_silent(Instant::now(), first) {
            tokio::time::sleep(LOOK_INTERVAL.min(first)).await;
        }
    }

    fn is_silent(&self, now: Instant, first: Duration) -> bool {
        let reads = lock(&self.readers)
            .iter()
            .any(|reader| reader.strong_count() > 0);
        let mut asked = lock(&self.asked);
        if reads {
            asked.last = now;
        }
        let patience = if asked.ever { UNUSED_MAX } else { first };
        now.duration_since(asked.last) > patience
    }

    /// Watches the reader of `body` for as long as there is one. It comes in small pieces from then on:
    /// what shows that a reader takes anything is that a whole piece is gone.
    pub(super) fn watch(&self, body: BlobBody) -> Watched {
        let reader = match &body {
            BlobBody::Held(_) => None,
            BlobBody::Stream(_) => {
                let reader = Arc::default();
                let mut readers = lock(&self.readers);
                readers.retain(|reader| reader.strong_count() > 0);
                readers.push(Arc::downgrade(&reader));
                Some(reader)
            }
        };
        Watched {
            body: body.in_small_pieces(),
            reader,
            bytes_min: self.patience.bytes_min,
        }
    }

    /// Ends when some reader has stalled.
    pub(super) async fn stall(&self) {
        while !self.has_stalled(Instant::now()) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// True when some reader took too little for too long. Time that it waited for us does not
    /// count.
    fn has_stalled(&self, now: Instant) -> bool {
        let readers = lock(&self.readers);
        readers.iter().filter_map(Weak::upgrade).any(|reader| {
            let reader = lock(&reader);
            let waits = reader.handed.map(|(since, _)| now.duration_since(since));
            reader.waited + waits.unwrap_or_default() > self.patience.time
        })
    }
}

impl Reader {
    /// It asks for more, and so has taken what it got.
    fn asks(&mut self, bytes_min: usize) {
        if let Some((since, bytes)) = self.handed.take() {
            self.waited += since.elapsed();
            self.taken += bytes;
        }
        if self.taken >= bytes_min {
            *self = Self::default();
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        if let Some(reader) = &self.reader {
            lock(reader).asks(self.bytes_min);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(reader), Poll::Ready(Some(Ok(frame)))) = (&self.reader, &polled) {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            lock(reader).handed = Some((Instant::now(), bytes));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        time: Duration::from_secs(60),
        bytes_min: 100,
    };

    fn reader(readers: &Readers) -> Arc<Mutex<Reader>> {
        let reader = Arc::default();
        lock(&readers.readers).push(Arc::downgrade(&reader));
        reader
    }

    #[test]
    fn who_takes_nothing_has_stalled_and_who_waits_for_us_has_not() {
        let (readers, now) = (Readers::new(PATIENCE), Instant::now());
        let later = now + Duration::from_secs(61);
        let idle = reader(&readers);
        assert!(!readers.has_stalled(later), "it waits for us");
        lock(&idle).handed = Some((now, 100_000));
        assert!(!readers.has_stalled(now + Duration::from_secs(59)));
        assert!(readers.has_stalled(later), "it has taken nothing since");
        drop(idle);
        assert!(!readers.has_stalled(later), "it is gone");
    }

    #[test]
    fn who_asks_for_nothing_holds_no_connection() {
        let (readers, first) = (Readers::new(PATIENCE), Duration::from_secs(10));
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(!readers.is_silent(after(9), first));
        assert!(readers.is_silent(after(11), first), "no request at all");
        readers.asks();
        assert!(!readers.is_silent(after(119), first));
        assert!(readers.is_silent(after(121), first));
        let blob = reader(&readers);
        assert!(!readers.is_silent(after(121), first), "a blob is under way");
        drop(blob);
        assert!(!readers.is_silent(after(240), first), "it only just ended");
        assert!(readers.is_silent(after(242), first));
    }

    #[test]
    fn a_byte_now_and_then_is_no_progress_and_enough_of_them_are() {
        let readers = Readers::new(PATIENCE);
        let slow = reader(&readers);
        lock(&slow).waited = Duration::from_secs(61);
        lock(&slow).handed = Some((Instant::now(), 1));
        lock(&slow).asks(PATIENCE.bytes_min);
        assert!(readers.has_stalled(Instant::now()), "one byte in a minute");
        lock(&slow).handed = Some((Instant::now(), 99));
        lock(&slow).asks(PATIENCE.bytes_min);
        assert!(
            !readers.has_stalled(Instant::now()),
            "as many as are asked of it"
        );
    }
}
