//! A transfer of which nothing can be kept, for all who ask for it at once: its latest bytes are held in
//! memory, until all have them.
//!
//! Whoever comes before the first bytes are let go reads along, at the pace of the slowest. Who is far
//! behind most others is let go when it has held them up for a while; and who is held up for long all the
//! same leaves. Both go on with a transfer of their own from where they stand: so the slow harm nobody.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::timeout,
};

use super::{
    BlobError, ContentKey,
    along::{Next, Rest, read_along},
    fill::Progress,
    inner::{Inner, lock},
    transfer::{Transfer, Verified},
};
use crate::oci::Hasher;
use crate::upstream::Upstream;

/// Bytes that one transfer holds at most, but for the piece that comes last.
pub(super) const WINDOW_BYTES: u64 = 4 << 20;
/// For so long, all its times together, one who is far behind may hold up the others.
const HOLD_UP_MAX: Duration = Duration::from_secs(1);
/// How long somebody who was told that it is coming may take to sit down.
const SEATED_WITHIN: Duration = Duration::from_secs(10);
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
    readers: HashMap<u64, Reader>,
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

#[derive(Default)]
struct Reader {
    at: u64,
    held_up: Duration,
}

/// What is there for a reader.
enum Taken {
    Bytes(Bytes),
    /// Nothing yet, or only what may be the last of all and is not verified.
    Nothing,
    End,
    /// It was let go.
    LetGo,
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

    /// Waits until there is room for more; false when nobody reads any more. Who comes from now on comes
    /// too late.
    pub(super) async fn make_room(&self) -> bool {
        loop {
            let patience = {
                let mut state = lock(&self.state);
                state.let_pieces_go();
                match (state.readers.is_empty(), state.seats) {
                    // Those for whom it was begun are on their way.
                    (true, 0) => SEATED_WITHIN,
                    (true, _) => return false,
                    (false, _) if state.end - state.first < WINDOW_BYTES => return true,
                    (false, _) => HOLD_UP_MAX / 4,
                }
            };
            let begun = Instant::now();
            let moved = timeout(patience, self.moved.notified()).await;
            let mut state = lock(&self.state);
            if moved.is_err() && state.seats == 0 {
                return false;
            }
            state.blame(begun.elapsed());
        }
    }

    /// Whether others are so far behind a reader that nothing more comes for it.
    fn is_held_up(&self, at: u64) -> bool {
        let state = lock(&self.state);
        let last = state.last();
        last < at && state.end - last >= WINDOW_BYTES
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
    fn last(&self) -> u64 {
        let readers = self.readers.values();
        readers.map(|reader| reader.at).min().unwrap_or(self.end)
    }

    /// Forgets what all have.
    fn let_pieces_go(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let last = self.last();
        while let Some(piece) = self.pieces.front()
            && piece.end <= last
        {
            self.first = piece.end;
            self.pieces.pop_front();
        }
    }

    /// Those who are last, and far behind most others, have held them up; and are let go when it is
    /// enough.
    fn blame(&mut self, waited: Duration) {
        let mut places: Vec<u64> = self.readers.values().map(|reader| reader.at).collect();
        places.sort_unstable();
        let (Some(last), Some(middle)) = (places.first(), places.get(places.len() / 2)) else {
            return;
        };
        if middle - last < WINDOW_BYTES / 2 {
            return;
        }
        for reader in self.readers.values_mut() {
            if reader.at == *last {
                reader.held_up += waited;
            }
        }
        self.readers
            .retain(|_, reader| reader.held_up < HOLD_UP_MAX);
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
        read_along(self, Self::next)
    }

    async fn next(mut self) -> Result<Next<Self>, BlobError> {
        loop {
            if let Progress::Failed(error) = &*self.progress.borrow_and_update() {
                return Err(error.clone().into());
            }
            match self.seat.next() {
                Taken::Bytes(bytes) => return Ok(Next::Bytes(bytes, self)),
                Taken::End => return Ok(Next::End),
                Taken::Nothing if self.wait().await? => {}
                Taken::Nothing | Taken::LetGo => return self.leave().await.map(Next::Alone),
            }
        }
    }

    /// Waits for more; false when others have held it up for too long.
    async fn wait(&mut self) -> Result<bool, BlobError> {
        let changed = self.progress.changed();
        let changed = if self.seat.spool.is_held_up(self.seat.at) {
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
    async fn leave(self) -> Result<Rest, BlobError> {
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
        state.readers.insert(number, Reader::default());
        drop(state);
        spool.moved.notify_one();
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
        let Some(reader) = readers.get_mut(&self.number) else {
            return Taken::LetGo;
        };
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
        reader.at = piece.end;
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
            Taken::Nothing | Taken::End | Taken::LetGo => None,
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

    #[tokio::test]
    async fn who_is_far_behind_most_others_is_let_go_and_who_is_not_is_not() {
        let spool = spool();
        let mut all = [(); 4].map(|()| seat(&spool).expect("a seat"));
        for byte in 0..4 {
            push(&spool, byte);
        }
        let (slow, others) = all.split_first_mut().expect("four");
        for seat in &mut *others {
            assert_eq!([0; 3].map(|_| next(seat)), [Some(0), Some(1), Some(2)]);
        }
        assert!(spool.make_room().await);
        assert!(matches!(slow.next(), Taken::LetGo));
        // Most are behind by as much now: they are waited for.
        for byte in 4..7 {
            push(&spool, byte);
        }
        let (quick, others) = others.split_first_mut().expect("three");
        assert_eq!([0; 3].map(|_| next(quick)), [Some(3), Some(4), Some(5)]);
        let waits = timeout(2 * HOLD_UP_MAX, spool.make_room());
        assert!(waits.await.is_err(), "most are let go");
        assert!(spool.is_held_up(quick.at));
        assert!(!spool.is_held_up(others[0].at));
        for seat in others {
            assert_eq!(next(seat), Some(3));
        }
    }

    #[tokio::test]
    async fn those_for_whom_it_was_begun_may_take_a_moment_to_come() {
        let spool = spool();
        for byte in 0..4 {
            push(&spool, byte);
        }
        let (is_room, mut late) = tokio::join!(spool.make_room(), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut late = seat(&spool).expect("it comes in time");
            assert_eq!(next(&mut late), Some(0));
            late
        });
        assert!(is_room);
        assert_eq!(next(&mut late), Some(1));
    }
}
