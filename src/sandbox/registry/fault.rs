//! When the registry misbehaves.
//!
//! A [`Fault`] is a [`Misdeed`] with the requests that it befalls. Callers are let in first: a
//! request that is turned away for want of credentials meets no fault and uses none up.

use std::{fmt, sync::Mutex};

use http::Method;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Endpoint, Recorded, Shared, locked,
    misdeed::{Answer, Misdeed},
};

/// A misdeed, and when it is done: on every request, unless narrowed.
#[must_use = "a fault does nothing until it is given to `Registry::misbehave`"]
pub struct Fault {
    misdeed: Misdeed,
    matches: Vec<Predicate>,
    times: Option<usize>,
}

type Predicate = Box<dyn Fn(&Recorded) -> bool + Send + Sync>;

impl From<Misdeed> for Fault {
    fn from(misdeed: Misdeed) -> Self {
        Self {
            misdeed,
            matches: Vec::new(),
            times: None,
        }
    }
}

impl Fault {
    /// A misdeed on one endpoint.
    pub fn on(endpoint: Endpoint, misdeed: Misdeed) -> Self {
        Self::from(misdeed).when(move |request| request.endpoint == endpoint)
    }

    /// Only on requests that fulfil `predicate`, too.
    pub fn when(mut self, predicate: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Self {
        self.matches.push(Box::new(predicate));
        self
    }

    /// Only on requests with this method.
    pub fn method(self, method: Method) -> Self {
        self.when(move |request| request.method == method)
    }

    /// Only on requests whose path starts so.
    pub fn path(self, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        self.when(move |request| request.path.starts_with(&prefix))
    }

    /// Only on the first so many of the requests that match.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("misdeed", &self.misdeed)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// Names a fault, so that it can be forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(usize);

/// The faults that are in force.
#[derive(Default)]
pub(super) struct Faults(Mutex<Register>);

#[derive(Default)]
struct Register {
    added: usize,
    faults: Vec<Active>,
}

struct Active {
    id: FaultId,
    fault: Fault,
    used: usize,
    /// Cancelled when this value is dropped, in whichever way.
    forgiven: CancellationToken,
    _until_dropped: DropGuard,
}

/// A fault as it befalls one request.
pub(super) struct Strike {
    misdeed: Misdeed,
    /// How many requests it has befallen before this one.
    before: usize,
    forgiven: CancellationToken,
}

impl Faults {
    pub(super) fn add(&self, fault: Fault) -> FaultId {
        let mut register = locked(&self.0);
        register.added += 1;
        let id = FaultId(register.added);
        let forgiven = CancellationToken::new();
        register.faults.push(Active {
            id,
            fault,
            used: 0,
            forgiven: forgiven.clone(),
            _until_dropped: forgiven.drop_guard(),
        });
        id
    }

    pub(super) fn remove(&self, id: FaultId) {
        locked(&self.0).faults.retain(|active| active.id != id);
    }

    pub(super) fn clear(&self) {
        locked(&self.0).faults.clear();
    }

    /// The faults that befall `request`; each counts it.
    pub(super) fn strike(&self, request: &Recorded) -> Vec<Strike> {
        let mut register = locked(&self.0);
        let struck = register.faults.iter_mut().filter(|active| {
            active.fault.times.is_none_or(|times| active.used < times)
                && active.fault.matches.iter().all(|matches| matches(request))
        });
        struck
            .map(|active| {
                active.used += 1;
                Strike {
                    misdeed: active.fault.misdeed.clone(),
                    before: active.used - 1,
                    forgiven: active.forgiven.clone(),
                }
            })
            .collect()
    }
}

impl Strike {
    /// Holds the answer back.
    pub(super) async fn delay(&self) {
        if matches!(self.misdeed, Misdeed::Hang) {
            self.forgiven.cancelled().await;
        }
    }

    /// Changes what is asked for, before it is looked up.
    pub(super) fn divert(&self, request: &mut Recorded) {
        self.misdeed.divert(self.before, request);
    }

    /// Spoils the answer.
    pub(super) fn spoil(self, shared: &Shared, request: &Recorded, answer: &mut Answer) {
        self.misdeed.spoil(self.before, shared, request, answer);
    }
}
