//! One registry at several addresses: they are tried in order, and one that fails is passed over
//! for a while.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Login, Stage, Upstream, UpstreamError, client::Shared};

/// For how long an address that failed is tried after all others.
const REST: Duration = Duration::from_secs(10);

/// An address that cannot be reached lets those who ask know at once, or lets them wait so long.
const LONG: Duration = Duration::from_secs(1);
/// For how long an address that gave no answer in time is taken not to, unless it gives one.
const SILENCE: Duration = Duration::from_secs(60);

/// How an address last failed, unless it has answered since.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Failed>>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    at: Instant,
    /// It gave no answer in time, or nobody knew for long that it cannot be reached.
    silent: bool,
}

impl Health {
    fn rests(&self, now: Instant) -> bool {
        let failed = self.failed();
        failed.is_some_and(|failed| now.duration_since(failed.at) < REST)
    }

    fn is_silent(&self, now: Instant) -> bool {
        let failed = self.failed();
        failed.is_some_and(|failed| failed.silent && now.duration_since(failed.at) < SILENCE)
    }

    fn failed(&self) -> Option<Failed> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, failed: Option<Failed>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

/// One address of a registry, asked by somebody.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    /// Who asks, where the registry is asked with the credentials of callers.
    pub(super) login: Option<Login>,
}

impl Deref for Session {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Upstream {
    /// What the first address answers that does not fail.
    pub(super) async fn in_order<T, F>(
        &self,
        ask: impl Fn(Session) -> F,
    ) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let mut order = self.order().into_iter().peekable();
        while let Some(place) = order.next() {
            let asked = ask(Session {
                shared: Arc::clone(&place),
                login: self.login().cloned(),
            });
            let begun = Instant::now();
            // Boxed: whoever may have to ask has room for this, and most never do.
            let answered = Box::pin(asked).await;
            let failed = answered
                .as_ref()
                .err()
                .filter(|error| is_of_the_address(error));
            // What may have asked nothing has found out nothing about the address.
            if !answered.as_ref().is_err_and(may_have_asked_nothing) {
                place.health.note(failed.map(|error| Failed {
                    at: Instant::now(),
                    silent: match error {
                        UpstreamError::TimedOut { .. } => true,
                        UpstreamError::Unreachable { .. } => begun.elapsed() >= LONG,
                        _ => false,
                    },
                }));
            }
            if failed.is_none() || order.peek().is_none() {
                return answered;
            }
        }
        // There always is an address: `Settings` have one.
        Err(UpstreamError::NotFound)
    }

    /// Whether the registry gave no answer in time when it was last asked, a moment ago, at any of its
    /// addresses. It may be worth nobody's while to wait for it.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let now = Instant::now();
        let mut places = self.places().iter();
        places.all(|place| place.health.is_silent(now))
    }

    /// The addresses as they are written, those that rest behind all others.
    fn order(&self) -> Vec<Arc<Shared>> {
        let now = Instant::now();
        let mut order = self.places().to_vec();
        order.sort_by_key(|place| place.health.rests(now));
        order
    }
}

/// Whether it may be that no request was sent at all: there was no place or no turn for it, or the
/// registry has asked for a rest. (It looks the same where the registry says so just now.)
fn may_have_asked_nothing(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::RateLimited { .. }
            | UpstreamError::TimedOut {
                stage: Stage::Queue,
                ..
            }
    )
}

/// Whether another address of the same registry may do better. A registry's "no" and "not here"
/// are answers, and hold for all of its addresses.
fn is_of_the_address(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Unreachable { .. } => true,
        UpstreamError::TimedOut { stage, .. } => *stage != Stage::Queue,
        UpstreamError::Status(status) => *status >= 500,
        UpstreamError::NotFound
        | UpstreamError::Unauthorized { .. }
        | UpstreamError::NoCredentials { .. }
        | UpstreamError::ForeignRealm { .. }
        | UpstreamError::RateLimited { .. }
        | UpstreamError::TooLarge { .. }
        | UpstreamError::WrongBytes { .. }
        | UpstreamError::Malformed(_)
        | UpstreamError::Lookaside(_)
        | UpstreamError::RefusedRedirect { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_for_a_while_and_until_there_is_an_answer() {
        let (health, at) = (Health::default(), Instant::now());
        let just_before = |time: Duration| at + time - Duration::from_millis(1);
        assert!(!health.rests(at) && !health.is_silent(at));
        health.note(Some(Failed { at, silent: true }));
        assert!(health.rests(just_before(REST)) && !health.rests(at + REST));
        assert!(health.is_silent(just_before(SILENCE)) && !health.is_silent(at + SILENCE));
        health.note(Some(Failed { at, silent: false }));
        assert!(health.rests(at) && !health.is_silent(at));
        health.note(None);
        assert!(!health.rests(at));
    }
}
