//! How fast a registry is asked. A storm of first pulls is spread over time, so that it does not
//! use up what the registry allows us; and a registry that asks to be left alone is.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::authorize::Kind;

/// A registry that asks for a longer rest is asked again after this one: by then an operator may
/// have raised the limit, and one request finds out.
const REST_MAX: Duration = Duration::from_secs(5 * 60);

/// The requests that one registry may be sent. All who ask it share one budget.
#[derive(Debug)]
pub(super) struct Budget {
    /// The time that one request takes from the budget.
    interval: Duration,
    /// How far requests may run ahead of their pace: one second's worth.
    burst: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the requests that were let through are paid for.
    paid_at: Option<Instant>,
    /// Until when the registry wants no requests of a kind.
    documents_rest_until: Option<Instant>,
    blobs_rest_until: Option<Instant>,
    tokens_rest_until: Option<Instant>,
}

impl Budget {
    pub(super) fn new(requests_per_second_max: u32) -> Self {
        let interval = Duration::from_secs(1) / requests_per_second_max.max(1);
        Self {
            interval,
            burst: Duration::from_secs(1).saturating_sub(interval),
            state: Mutex::default(),
        }
    }

    /// Takes one request from the budget: how long it has to wait, or `None` where that is longer
    /// than `patience`; then nothing is taken.
    pub(super) fn take(&self, now: Instant, patience: Duration) -> Option<Duration> {
        let mut state = self.lock();
        let paid_at = state.paid_at.unwrap_or(now).max(now);
        let wait = (paid_at - now).saturating_sub(self.burst);
        if wait > patience {
            return None;
        }
        state.paid_at = Some(paid_at + self.interval);
        Some(wait)
    }

    /// How much longer the registry wants no requests of this kind.
    pub(super) fn rest(&self, kind: Kind, now: Instant) -> Option<Duration> {
        let until = (*self.lock().rest_until(kind))?;
        Some(until.duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// The registry wants no requests of this kind for so long, and for no shorter than it has
    /// said before.
    pub(super) fn rest_for(&self, kind: Kind, now: Instant, rest: Duration) {
        let until = now + rest.min(REST_MAX);
        let mut state = self.lock();
        let rest_until = state.rest_until(kind);
        *rest_until = (*rest_until).max(Some(until));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rest_until(&mut self, kind: Kind) -> &mut Option<Instant> {
        match kind {
            Kind::Document => &mut self.documents_rest_until,
            Kind::Blob => &mut self.blobs_rest_until,
            Kind::Token => &mut self.tokens_rest_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_storm_is_spread_over_time_and_what_would_wait_too_long_is_turned_away() {
        let (budget, now) = (Budget::new(10), Instant::now());
        let waits: Vec<_> = (0..200).map(|_| budget.take(now, PATIENCE)).collect();
        assert!(waits[..10].iter().all(|wait| *wait == Some(Duration::ZERO)));
        assert_eq!(waits[10], Some(Duration::from_millis(100)));
        assert_eq!(waits[109], Some(PATIENCE));
        assert!(waits[110..].iter().all(Option::is_none));
        // A second later there is room for ten more, and whoever was turned away cost nothing.
        let later = now + Duration::from_secs(1);
        let more = (0..20).filter_map(|_| budget.take(later, PATIENCE)).count();
        assert_eq!(more, 10);
    }

    #[test]
    fn a_quiet_time_earns_no_more_than_a_seconds_worth() {
        let (budget, now) = (Budget::new(10), Instant::now());
        budget.take(now, PATIENCE);
        let later = now + Duration::from_secs(3600);
        let at_once = (0..20)
            .filter(|_| budget.take(later, Duration::ZERO).is_some())
            .count();
        assert_eq!(at_once, 10);
    }

    #[test]
    fn a_rest_is_kept_for_its_kind_and_ends() {
        let (budget, now) = (Budget::new(10), Instant::now());
        budget.rest_for(Kind::Document, now, Duration::from_secs(30));
        let soon = now + Duration::from_secs(10);
        assert_eq!(
            budget.rest(Kind::Document, soon),
            Some(Duration::from_secs(20))
        );
        assert_eq!(budget.rest(Kind::Blob, soon), None);
        assert_eq!(
            budget.rest(Kind::Document, now + Duration::from_secs(30)),
            None
        );
        budget.rest_for(Kind::Blob, now, Duration::from_secs(86_400));
        assert_eq!(budget.rest(Kind::Blob, now), Some(REST_MAX));
        assert_eq!(budget.rest(Kind::Token, now), None);
        budget.rest_for(Kind::Token, now, Duration::from_secs(60));
        assert_eq!(
            budget.rest(Kind::Token, soon),
            Some(Duration::from_secs(50))
        );
    }

    #[test]
    fn the_rest_that_ends_last_is_kept() {
        let (budget, now) = (Budget::new(10), Instant::now());
        let seconds = Duration::from_secs;
        for (rest, expected) in [(30, 30), (5, 30), (0, 30), (40, 40), (86_400, 300)] {
            budget.rest_for(Kind::Document, now, seconds(rest));
            let left = budget.rest(Kind::Document, now);
            assert_eq!(left, Some(seconds(expected)), "{rest}");
        }
        // What is asked for later counts from then on, and ends the later for it.
        budget.rest_for(Kind::Document, now + seconds(290), seconds(5));
        assert_eq!(budget.rest(Kind::Document, now), Some(seconds(300)));
        budget.rest_for(Kind::Document, now + seconds(290), seconds(20));
        assert_eq!(budget.rest(Kind::Document, now), Some(seconds(310)));
    }
}
