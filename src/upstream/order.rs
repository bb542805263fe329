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

/// When an address last failed.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Instant>>);

impl Health {
    fn rests(&self, now: Instant) -> bool {
        let failed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| now.duration_since(failed) < REST)
    }

    fn note(&self, failed: Option<Instant>) {
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
            // Boxed: whoever may have to ask has room for this, and most never do.
            let answered = Box::pin(asked).await;
            let failed = answered.as_ref().is_err_and(is_of_the_address);
            place.health.note(failed.then(Instant::now));
            if !failed || order.peek().is_none() {
                return answered;
            }
        }
        // There always is an address: `Settings` have one.
        Err(UpstreamError::NotFound)
    }

    /// The addresses as they are written, those that rest behind all others.
    fn order(&self) -> Vec<Arc<Shared>> {
        let now = Instant::now();
        let mut order = self.places().to_vec();
        order.sort_by_key(|place| place.health.rests(now));
        order
    }
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
