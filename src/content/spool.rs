//! A transfer of which nothing can be kept, for all who ask for it at once: its latest bytes are held in
//! memory, until all have them.
//!
//! Whoever comes before the first bytes are let go reads along, at the pace of the slowest. Who is held up
//! too long by that leaves, and goes on with a transfer of its own from where it stands: so the slow
//! harm nobody.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::timeout,
};

use super::{
    BlobError, ContentKey,
    fill::Progress,
    inner::{Inner, lock},
    transfer::{Transfer, Verified},
};
use crate::oci::Hasher;
use crate::upstream::Upstream;

/// Bytes that one transfer holds at most, but for the piece that comes last.
pub(super) const WINDOW_BYTES: u64 = 4 << 20;
/// So long, and a part of the time that it has read, a reader lets itself be held up by others.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_PART: u32 = 2;

/// The latest bytes of a transfer, and who reads them.
pub(super) struct Spool {
    state: Mutex<State>,
    /// A reader has come further, or has left.
    moved: Notify,
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Where the first piece begins.
    first: u64,
    /// Where the last one ends.
    end: u64,
    /// Where each reader stands.
    readers: HashMap<u64, u64>,
    seats: u64,
    /// All has come, and is right.
    is_done: bool,
}

struct Piece {
    bytes: Bytes,
    end: u64,
    /// Has seen all bytes up to its end.
    hasher: Hasher,
}

/// What is there for a reader.
enum Taken {
    Bytes(Bytes),
    /// Nothing yet, or only what may be the last of all and is not verified.
    Nothing,
    End,
}

impl Spool {
    pub(super) fn new(place: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            moved: Notify::new(),
            _place: place,
        })
    }

    /// Whether more would be more than is held.
    pub(super) fn is_full(&self) -> bool {
        let state = lock(&self.state);
        state.end - state.first >= WINDOW_BYTES
    }

    /// Waits until there is room for more; false when nobody reads. Who comes from now on comes too
    /// late.
    pub(super) async fn make_room(&self) -> bool {
        loop {
            {
                let mut state = lock(&self.state);
                if state.readers.is_empty() {
                    return false;
                }
                state.let_pieces_go();
                if state.end - state.first < WINDOW_BYTES {
                    return true;
                }
            }
            self.moved.notified().await;
        }
    }

    /// Puts the next bytes there; `hasher` has seen them.
    pub(super) fn push(&self, bytes: Bytes, hasher: Hasher) {
        let mut state = lock(&self.state);
        state.end += bytes.len() as u64;
        let end = state.end;
        state.pieces.push_back(Piece { bytes, end, hasher });
    }

    /// All has come and is right: the last bytes may be passed on.
    pub(super) fn finish(&self) {
        lock(&self.state).is_done = true;
    }
}

impl State {
    /// Forgets what all have.
    fn let_pieces_go(&mut self) {
        let last = self.readers.values().min().copied();
        let last = last.unwrap_or(self.end);
        while let Some(piece) = self.pieces.front()
            && piece.end <= last
        {
            self.first = piece.end;
            self.pieces.pop_front();
        }
    }
}

/// One who reads along.
pub(super) struct Listener {
    inner: Arc<Inner>,
    upstream: Upstream,
    key: ContentKey,
    progress: watch::Receiver<Progress>,
    seat: Seat,
    begun: Instant,
    /// For how long others have held it up.
    held_up: Duration,
}

struct Seat {
    spool: Arc<Spool>,
    number: u64,
    at: u64,
    /// Has seen all bytes before.
    hasher: Hasher,
}

enum Phase {
    Listening(Box<Listener>),
    Drifting(BoxStream<'static, Result<Bytes, BlobError>>),
}

impl Listener {
    /// `None` when the first bytes are gone.
    pub(super) fn join(
        inner: &Arc<Inner>,
        upstream: &Upstream,
        key: &ContentKey,
        progress: watch::Receiver<Progress>,
        spool: Arc<Spool>,
    ) -> Option<Self> {
        Some(Self {
            inner: Arc::clone(inner),
            upstream: upstream.clone(),
            seat: Seat::take(spool, Hasher::new(key.digest.algorithm()))?,
            key: key.clone(),
            progress,
            begun: Instant::now(),
            held_up: Duration::ZERO,
        })
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
        stream::try_unfold(Phase::Listening(Box::new(self)), |phase| async move {
            match phase {
                Phase::Listening(listener) => listener.next().await,
                Phase::Drifting(mut stream) => match stream.next().await {
                    Some(bytes) => Ok(Some((bytes?, Phase::Drifting(stream)))),
                    None => Ok(None),
                },
            }
        })
    }

    async fn next(mut self: Box<Self>) -> Result<Option<(Bytes, Phase)>, BlobError> {
        loop {
            if let Progress::Failed(error) = &*self.progress.borrow_and_update() {
                return Err(error.clone().into());
            }
            match self.seat.next() {
                Taken::Bytes(bytes) => return Ok(Some((bytes, Phase::Listening(self)))),
                Taken::End => return Ok(None),
                Taken::Nothing => {
                    if !self.wait().await? {
                        let mut stream = self.leave().await?;
                        return match stream.next().await {
                            Some(bytes) => Ok(Some((bytes?, Phase::Drifting(stream)))),
                            None => Ok(None),
                        };
                    }
                }
            }
        }
    }

    /// Waits for more; false when others have held it up for too long.
    async fn wait(&mut self) -> Result<bool, BlobError> {
        let changed = self.progress.changed();
        let changed = if self.seat.spool.is_full() {
            let begun = Instant::now();
            let patience = PATIENCE + (begun - self.begun) / PATIENCE_PART;
            let changed = timeout(patience.saturating_sub(self.held_up), changed).await;
            self.held_up += begun.elapsed();
            match changed {
                Ok(changed) => changed,
                Err(_) => return Ok(false),
            }
        } else {
            changed.await
        };
        changed.map(|()| true).map_err(|_| BlobError::GivenUp)
    }

    /// Goes on alone.
    async fn leave(
        self: Box<Self>,
    ) -> Result<BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
        let (at, hasher) = (self.seat.at, self.seat.hasher.clone());
        drop(self.seat);
        let metrics = &self.inner.metrics;
        let transfer = Transfer::open(&self.upstream, &self.key, at, metrics).await?;
        Ok(Verified::new(transfer, hasher, None).into_stream().boxed())
    }
}

impl Seat {
    fn take(spool: Arc<Spool>, hasher: Hasher) -> Option<Self> {
        let mut state = lock(&spool.state);
        if state.first > 0 {
            return None;
        }
        let number = state.seats;
        state.seats += 1;
        state.readers.insert(number, 0);
        drop(state);
        Some(Self {
            spool,
            number,
            at: 0,
            hasher,
        })
    }

    fn next(&mut self) -> Taken {
        let mut state = lock(&self.spool.state);
        let State {
            pieces,
            readers,
            is_done,
            ..
        } = &mut *state;
        let next = pieces.partition_point(|piece| piece.end <= self.at);
        let Some(piece) = pieces.get(next) else {
            return match is_done {
                true => Taken::End,
                false => Taken::Nothing,
            };
        };
        if next + 1 == pieces.len() && !*is_done {
            return Taken::Nothing;
        }
        self.at = piece.end;
        self.hasher = piece.hasher.clone();
        readers.insert(self.number, piece.end);
        let bytes = piece.bytes.clone();
        drop(state);
        self.spool.moved.notify_one();
        Taken::Bytes(bytes)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.spool.state).readers.remove(&self.number);
        self.spool.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::oci::Algorithm;

    const PIECE: usize = 1 << 20;

    fn spool() -> Arc<Spool> {
        let places = Arc::new(Semaphore::new(1));
        Spool::new(places.try_acquire_owned().expect("a place"))
    }

    fn seat(spool: &Arc<Spool>) -> Option<Seat> {
        Seat::take(Arc::clone(spool), Hasher::new(Algorithm::Sha256))
    }

    fn push(spool: &Spool, byte: u8) {
        let bytes = Bytes::from(vec![byte; PIECE]);
        spool.push(bytes, Hasher::new(Algorithm::Sha256));
    }

    /// The first byte of the next piece.
    fn next(seat: &mut Seat) -> Option<u8> {
        match seat.next() {
            Taken::Bytes(bytes) => bytes.first().copied(),
            Taken::Nothing | Taken::End => None,
        }
    }

    #[tokio::test]
    async fn what_may_be_the_last_is_withheld_and_what_all_have_is_let_go() {
        let spool = spool();
        let (mut one, mut other) = (seat(&spool).expect("one"), seat(&spool).expect("other"));
        for byte in 0..4 {
            assert!(!spool.is_full());
            push(&spool, byte);
        }
        assert!(spool.is_full());
        for seat in [&mut one, &mut other] {
            assert_eq!(
                [0; 4].map(|_| next(seat)),
                [Some(0), Some(1), Some(2), None]
            );
        }
        assert!(spool.make_room().await);
        assert!(seat(&spool).is_none());
        spool.finish();
        for seat in [&mut one, &mut other] {
            assert_eq!(next(seat), Some(3));
            assert!(matches!(seat.next(), Taken::End));
        }
        drop((one, other));
        assert!(!spool.make_room().await);
    }

    #[tokio::test]
    async fn there_is_room_when_the_last_has_come_further_or_has_left() {
        let spool = spool();
        let (mut one, mut other) = (seat(&spool).expect("one"), seat(&spool).expect("other"));
        for byte in 0..4 {
            push(&spool, byte);
        }
        assert_eq!(next(&mut one), Some(0));
        let waits = async |spool: &Spool| {
            let room = timeout(Duration::from_millis(50), spool.make_room());
            room.await.is_err()
        };
        assert!(waits(&spool).await);
        let (is_room, taken) = tokio::join!(spool.make_room(), async { next(&mut other) });
        assert_eq!((is_room, taken), (true, Some(0)));
        push(&spool, 4);
        assert_eq!(next(&mut one), Some(1));
        assert!(waits(&spool).await);
        let (is_room, ()) = tokio::join!(spool.make_room(), async { drop(other) });
        assert!(is_room);
    }
}
