//! How much of a file is read at a time.
//!
//! Between two reads a quick reader has taken everything, is asleep, and has to be woken; where it is a
//! processor of a virtual machine that has to be woken, that costs more than to copy what it is woken
//! for. So what a quick reader is sent comes in large pieces. They are held for each reader, and
//! nobody else is answered by the same thread meanwhile, so that few may have them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Enough that the way to another thread and back, where it has to be gone, does not count, and
/// little enough to be held for each of many slow readers.
const PIECE_BYTES: u64 = 128 << 10;
/// What stays in a processor's cache (its second one) from here to the socket.
const LARGE_PIECE_BYTES: u64 = 512 << 10;
/// How many may have large pieces at a time.
const LARGE_PIECES_MAX: usize = 16;
/// Who takes less is not quick.
const QUICK_BYTES_A_MICROSECOND: u64 = 100;

/// The places for quick readers.
#[derive(Debug, Clone)]
pub(super) struct Paces(Arc<Semaphore>);

impl Default for Paces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_PIECES_MAX)))
    }
}

impl Paces {
    /// For one more reader.
    pub(super) fn pace(&self) -> Pace {
        Pace {
            places: Arc::clone(&self.0),
            place: None,
            last: None,
        }
    }
}

/// How much one reader gets at a time.
#[derive(Debug)]
pub(super) struct Pace {
    places: Arc<Semaphore>,
    /// While it is quick.
    place: Option<OwnedSemaphorePermit>,
    /// How much it was given last, and when.
    last: Option<(u64, Instant)>,
}

impl Pace {
    /// The most bytes that are to be read now, all before them being gone.
    pub(super) fn next(&mut self, now: Instant) -> u64 {
        let is_quick = self
            .last
            .is_some_and(|(bytes, at)| now.saturating_duration_since(at) <= quick(bytes));
        if !is_quick {
            self.place = None;
        } else if self.place.is_none() {
            self.place = Arc::clone(&self.places).try_acquire_owned().ok();
        }
        let bytes = match self.place {
            Some(_) => LARGE_PIECE_BYTES,
            None => PIECE_BYTES,
        };
        self.last = Some((bytes, now));
        bytes
    }
}

/// How long a quick reader takes for a piece.
const fn quick(bytes: u64) -> Duration {
    Duration::from_micros(bytes / QUICK_BYTES_A_MICROSECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_nanos(1);

    #[test]
    fn who_is_quick_gets_large_pieces_while_it_is() {
        let (paces, mut now) = (Paces::default(), Instant::now());
        let mut pace = paces.pace();
        let mut next = |after| {
            now += after;
            pace.next(now)
        };
        assert_eq!(next(Duration::ZERO), PIECE_BYTES);
        assert_eq!(next(quick(PIECE_BYTES) + MOMENT), PIECE_BYTES);
        assert_eq!(next(quick(PIECE_BYTES)), LARGE_PIECE_BYTES);
        assert_eq!(next(quick(LARGE_PIECE_BYTES)), LARGE_PIECE_BYTES);
        assert_eq!(next(quick(LARGE_PIECE_BYTES) + MOMENT), PIECE_BYTES);
        assert_eq!(next(Duration::ZERO), LARGE_PIECE_BYTES);
    }

    #[test]
    fn few_have_large_pieces_and_who_is_slow_or_gone_leaves_its_place() {
        let (paces, now) = (Paces::default(), Instant::now());
        let mut readers: Vec<_> = (0..100).map(|_| paces.pace()).collect();
        let large = |readers: &mut [Pace], now| {
            let pieces = readers.iter_mut().map(|reader| reader.next(now));
            pieces.filter(|bytes| *bytes == LARGE_PIECE_BYTES).count()
        };
        assert_eq!(large(&mut readers, now), 0);
        for _ in 0..3 {
            assert_eq!(large(&mut readers, now), LARGE_PIECES_MAX);
        }
        // One is gone, and one slow.
        readers.remove(0);
        let late = now + Duration::from_secs(1);
        assert_eq!(large(&mut readers[..1], late), 0);
        assert_eq!(large(&mut readers[1..], now), LARGE_PIECES_MAX);
    }
}
