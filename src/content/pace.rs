//! How much of a file is read at a time.
//!
//! Between two reads a quick reader has taken everything, is asleep, and has to be woken, which was a
//! quarter of what a blob cost (docs/PERFORMANCE.md). So what a quick reader is sent comes in large pieces.
//! They are held for each reader, and nobody else is answered by the same thread while one is copied, so
//! there is room for a few.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::room::{LargeRooms, Room};

/// Enough that the way to another thread and back, where it has to be gone, does not count, and
/// little enough to be held for each of many slow readers.
const PIECE_BYTES: usize = 128 << 10;
/// What stays in a processor's second cache from here to the socket.
const LARGE_PIECE_BYTES: usize = 512 << 10;
/// How many large pieces there are at a time.
const LARGE_PIECES_MAX: usize = 16;
/// A reader to whom less is sent is not quick.
const QUICK_BYTES_A_SECOND: u64 = 100_000_000;

/// What all readers share.
#[derive(Debug, Clone)]
pub(super) struct Paces {
    rooms: Arc<LargeRooms>,
    quick_bytes_a_second: u64,
}

impl Default for Paces {
    fn default() -> Self {
        Self::new(QUICK_BYTES_A_SECOND)
    }
}

impl Paces {
    pub(super) fn new(quick_bytes_a_second: u64) -> Self {
        Self {
            rooms: Arc::new(LargeRooms::new(LARGE_PIECES_MAX, LARGE_PIECE_BYTES)),
            quick_bytes_a_second,
        }
    }

    /// For one more reader.
    pub(super) fn pace(&self) -> Pace {
        Pace {
            shared: self.clone(),
            steady: Arc::default(),
            last: None,
        }
    }
}

/// How much one reader is handed at a time.
#[derive(Debug)]
pub(super) struct Pace {
    shared: Paces,
    steady: Steady,
    /// What it was handed last, and when.
    last: Option<(Bytes, Instant)>,
}

/// Whether a reader is never handed large pieces.
pub(super) type Steady = Arc<AtomicBool>;

impl Pace {
    /// What keeps the pieces small once it is set.
    pub(super) fn steady(&self) -> Steady {
        Arc::clone(&self.steady)
    }

    /// Room for the next piece, of which there are `left` bytes at most.
    pub(super) fn room(&mut self, left: u64, now: Instant) -> Room {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let (mut is_quick, mut own) = (false, None);
        if let Some((bytes, at)) = self.last.take() {
            let time = quick(bytes.len(), self.shared.quick_bytes_a_second);
            is_quick = now.saturating_duration_since(at) <= time;
            // If it was large, it is free now for whoever comes first.
            own = bytes.try_into_mut().ok();
        }
        let may_be_large = is_quick && left > PIECE_BYTES && !self.steady.load(Ordering::Relaxed);
        match may_be_large.then(|| self.shared.rooms.take(left)).flatten() {
            Some(room) => Room::Large(room),
            None => Room::own(left.min(PIECE_BYTES), own),
        }
    }

    /// Notes what was read into it.
    pub(super) fn handed(&mut self, bytes: &Bytes, now: Instant) {
        self.last = Some((bytes.clone(), now));
    }
}

/// How long so many bytes take at so many a second.
const fn quick(bytes: usize, bytes_a_second: u64) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000_000 / bytes_a_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_nanos(1);
    const MUCH: u64 = 1 << 30;
    const PIECE: Duration = quick(PIECE_BYTES, QUICK_BYTES_A_SECOND);
    const LARGE_PIECE: Duration = quick(LARGE_PIECE_BYTES, QUICK_BYTES_A_SECOND);

    /// Hands the next piece out, `after` the one before; a quick reader drops it at once.
    fn next(pace: &mut Pace, now: &mut Instant, after: Duration) -> Bytes {
        *now += after;
        let bytes = pace.room(MUCH, *now).freeze();
        pace.handed(&bytes, *now);
        bytes
    }

    #[test]
    fn who_is_quick_gets_large_pieces_while_it_is() {
        let (mut pace, mut now) = (Paces::default().pace(), Instant::now());
        let mut next = |after| next(&mut pace, &mut now, after).len();
        assert_eq!(next(Duration::ZERO), PIECE_BYTES);
        assert_eq!(next(PIECE + MOMENT), PIECE_BYTES);
        assert_eq!(next(PIECE), LARGE_PIECE_BYTES);
        assert_eq!(next(LARGE_PIECE), LARGE_PIECE_BYTES);
        assert_eq!(next(LARGE_PIECE + MOMENT), PIECE_BYTES);
        assert_eq!(next(Duration::ZERO), LARGE_PIECE_BYTES);
    }

    #[test]
    fn who_is_to_be_steady_gets_small_pieces_only() {
        let (mut pace, mut now) = (Paces::default().pace(), Instant::now());
        pace.steady().store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let piece = next(&mut pace, &mut now, Duration::ZERO);
            assert_eq!(piece.len(), PIECE_BYTES);
        }
    }

    #[test]
    fn large_pieces_are_few_whoever_has_them_and_wherever_they_lie() {
        let (paces, mut now) = (Paces::default(), Instant::now());
        let mut readers: Vec<_> = (0..100).map(|_| paces.pace()).collect();
        let mut stalled = Vec::new();
        let mut all = |readers: &mut [Pace]| {
            let pieces = readers.iter_mut();
            let pieces = pieces.map(|pace| next(pace, &mut now, Duration::ZERO));
            pieces.collect::<Vec<_>>()
        };
        for _ in 0..3 {
            stalled.extend(all(&mut readers));
        }
        // All that was read is still somewhere on its way.
        let large = |piece: &&Bytes| piece.len() > PIECE_BYTES;
        assert_eq!(stalled.iter().filter(large).count(), LARGE_PIECES_MAX);
        assert_eq!(all(&mut readers[..1])[0].len(), PIECE_BYTES);
        stalled.clear();
        readers.truncate(LARGE_PIECES_MAX);
        for _ in 0..3 {
            let pieces = all(&mut readers);
            assert_eq!(pieces.iter().filter(large).count(), LARGE_PIECES_MAX);
        }
    }

    #[test]
    fn no_piece_is_longer_than_what_is_left() {
        let (mut pace, now) = (Paces::default().pace(), Instant::now());
        for left in [MUCH, 300_000, 200_000, 1000, 0] {
            let bytes = pace.room(left, now).freeze();
            assert!(bytes.len() as u64 <= left, "{left}");
            pace.handed(&bytes, now);
        }
    }
}
