//! Admissions that were repeated lately, by the very [`Ask`] in memory that they were repeated for:
//! whoever keeps the names that everybody pulls has what they admit without a look-up, and that is
//! most of what the gate does for such a pull.
//!
//! Nothing is taken from here that does not hold (see [`Validity`](super::ruling::Validity)), or that another
//! replaced in its cache. No document is kept alive here, either: what the cache lets go of soon is gone.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use crate::gate::Ask;

/// A power of two.
const PLACES: usize = 1024;
/// For so long, the cache where admissions are held does not see that one is asked for. It has to see
/// that often enough to keep what is hot, and not so often that it would be felt.
const REPEATED_FOR: Duration = Duration::from_millis(100);

/// An admission, and what it was repeated for.
struct Repeated<T> {
    ask: Arc<Ask>,
    admission: Weak<T>,
    until: Instant,
}

/// Admissions that were repeated lately.
pub(super) struct Lately<T>(Box<[ArcSwapOption<Repeated<T>>]>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self((0..PLACES).map(|_| ArcSwapOption::empty()).collect())
    }
}

impl<T> Lately<T> {
    /// What was repeated for this very value. Whether it holds is for the caller to see.
    pub(super) fn get(&self, ask: &Arc<Ask>, now: Instant) -> Option<Arc<T>> {
        let repeated = self.place(ask)?.load();
        let repeated = repeated.as_ref()?;
        (Arc::ptr_eq(&repeated.ask, ask) && now < repeated.until)
            .then(|| repeated.admission.upgrade())?
    }

    /// Notes what is repeated, perhaps: who is there is not driven out before its time, so that two
    /// that share a place do not take it from each other each time.
    pub(super) fn note(&self, ask: &Arc<Ask>, admission: &Arc<T>, now: Instant) {
        // Of a value that nobody else has nothing is asked again.
        if Arc::strong_count(ask) == 1 {
            return;
        }
        let Some(place) = self.place(ask) else {
            return;
        };
        let is_free = place
            .load()
            .as_ref()
            .is_none_or(|there| there.until <= now || Arc::ptr_eq(&there.ask, ask));
        if is_free {
            place.store(Some(Arc::new(Repeated {
                ask: Arc::clone(ask),
                admission: Arc::downgrade(admission),
                until: now + REPEATED_FOR,
            })));
        }
    }

    /// By its address, which no other has while it is noted.
    fn place(&self, ask: &Arc<Ask>) -> Option<&ArcSwapOption<Repeated<T>>> {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let spread = (Arc::as_ptr(ask).addr() as u64).wrapping_mul(GOLDEN);
        self.0.get((spread >> 32) as usize & (PLACES - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::oci::Digest;
    use crate::oci::ImageName;
    use crate::oci::Reference;

    fn ask() -> Arc<Ask> {
        Arc::new(Ask {
            image: ImageName {
                registry: "one.test".parse().expect("a host"),
                repository: "app".parse().expect("a repository"),
            },
            reference: Reference::Digest(Digest::sha256(b"an image")),
        })
    }

    #[test]
    fn what_is_repeated_is_had_for_the_same_value_and_for_a_while() {
        let (lately, now) = (Lately::default(), Instant::now());
        let (kept, admission) = (ask(), Arc::new(1));
        let _by_somebody = Arc::clone(&kept);
        lately.note(&kept, &admission, now);
        assert_eq!(lately.get(&kept, now), Some(Arc::clone(&admission)));
        let last = now + REPEATED_FOR;
        assert!(lately.get(&kept, last - Duration::from_nanos(1)).is_some());
        assert_eq!(lately.get(&kept, last), None);
    }

    #[test]
    fn what_its_cache_has_let_go_of_is_gone() {
        let (lately, now) = (Lately::default(), Instant::now());
        let kept = ask();
        let _by_somebody = Arc::clone(&kept);
        lately.note(&kept, &Arc::new(1), now);
        assert_eq!(lately.get(&kept, now), None);
    }

    #[test]
    fn what_nobody_keeps_takes_no_place() {
        let (lately, now) = (Lately::default(), Instant::now());
        let admission = Arc::new(1);
        for _ in 0..10 * PLACES {
            lately.note(&ask(), &admission, now);
        }
        assert!(lately.0.iter().all(|place| place.load().is_none()));
    }

    #[test]
    fn a_place_is_taken_anew_by_who_has_it_and_by_others_in_its_time() {
        let (lately, now) = (Lately::default(), Instant::now());
        let admissions = [Arc::new(1), Arc::new(2)];
        // One more than there are places: two share one.
        let mut places = HashMap::new();
        let shared = (0..=PLACES).find_map(|_| {
            let ask = ask();
            let place = std::ptr::from_ref(lately.place(&ask)?);
            let there = places.insert(place, Arc::clone(&ask))?;
            Some([there, ask])
        });
        let Some([first, other]) = &shared else {
            panic!("two share a place")
        };
        let _by_somebody = shared.clone();
        lately.note(first, &admissions[0], now);
        lately.note(first, &admissions[1], now);
        assert_eq!(lately.get(first, now), Some(Arc::clone(&admissions[1])));
        lately.note(other, &admissions[0], now);
        assert!(lately.get(first, now).is_some() && lately.get(other, now).is_none());
        let later = now + REPEATED_FOR;
        lately.note(other, &admissions[0], later);
        assert!(lately.get(first, later).is_none() && lately.get(other, later).is_some());
    }
}
