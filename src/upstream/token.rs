//! Tokens: kept per repository, fetched by one at a time.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use super::{LoginKey, MalformedAnswer, Secret, UpstreamError};
use crate::oci::Repository;

/// What a token lives when its service does not say (distribution's token specification).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// No token is kept for longer, whatever its service says.
const LIFETIME_MAX: Duration = Duration::from_secs(60 * 60);
/// How long before its end a token is no longer used; a quarter of short lives.
const MARGIN_MAX: Duration = Duration::from_secs(30);

/// The value of an `Authorization` header, and how long it is good.
#[derive(Clone)]
pub(super) struct Grant {
    header: HeaderValue,
    until: Instant,
}

impl Grant {
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    fn is_good(&self) -> bool {
        Instant::now() < self.until
    }

    /// A user and a password themselves; `None` where no header can carry them.
    pub(super) fn basic(username: &str, password: &Secret) -> Option<Self> {
        let text = BASE64_STANDARD.encode(format!("{username}:{}", password.expose()));
        let mut header = HeaderValue::try_from(format!("Basic {text}")).ok()?;
        header.set_sensitive(true);
        Some(Self::of(header))
    }

    /// What a caller sent.
    pub(super) fn of(header: HeaderValue) -> Self {
        let until = Instant::now() + LIFETIME_MAX;
        Self { header, until }
    }

    /// What a token service answered.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, UpstreamError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<serde_json::Value>,
        }
        let answer: Answer = serde_json::from_slice(bytes)
            .map_err(|_| UpstreamError::Malformed(MalformedAnswer::Json))?;
        let token = answer
            .token
            .filter(|token| !token.is_empty())
            .or(answer.access_token)
            .ok_or(UpstreamError::Malformed(MalformedAnswer::Json))?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| UpstreamError::Malformed(MalformedAnswer::Token))?;
        header.set_sensitive(true);
        let lifetime = answer
            .expires_in
            .and_then(|seconds| seconds.as_u64())
            .map_or(LIFETIME_DEFAULT, Duration::from_secs)
            .min(LIFETIME_MAX);
        let until = Instant::now() + lifetime - MARGIN_MAX.min(lifetime / 4);
        Ok(Self { header, until })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant")
    }
}

/// What came of the last attempt to be let into one repository.
#[derive(Debug, Default)]
pub(super) struct Flight {
    grant: Option<Grant>,
    failure: Option<(Instant, UpstreamError)>,
}

impl Flight {
    /// What came of a flight that landed while its caller, who `arrived` and then waited, was
    /// waiting; so that a thousand pulls share a failure as they share a token. A grant that
    /// was already `refused` is no answer.
    pub(super) fn outcome_for(
        &self,
        arrived: Instant,
        refused: Option<&Grant>,
    ) -> Option<Result<Grant, UpstreamError>> {
        if let Some((landed, error)) = &self.failure
            && *landed >= arrived
        {
            return Some(Err(error.clone()));
        }
        let grant = self.grant.as_ref().filter(|grant| grant.is_good())?;
        let is_new = refused.is_none_or(|refused| refused.header() != grant.header());
        is_new.then(|| Ok(grant.clone()))
    }

    pub(super) fn land(&mut self, outcome: Result<Grant, UpstreamError>) {
        match outcome {
            Ok(grant) => (self.grant, self.failure) = (Some(grant), None),
            Err(error) => (self.grant, self.failure) = (None, Some((Instant::now(), error))),
        }
    }
}

/// The place of one repository. Who has no grant holds the lock while fetching one, so that
/// the token service is asked once.
pub(super) type Slot = Arc<tokio::sync::Mutex<Flight>>;

/// The grant in `slot`, where it is still good. Waits for one that is being fetched.
pub(super) async fn current(slot: &Slot) -> Option<Grant> {
    slot.lock().await.grant.clone().filter(Grant::is_good)
}

/// Whose grant it is, where callers have their own, and what it opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TokenKey {
    /// A repository.
    Pull(Option<LoginKey>, Repository),
    /// The registry itself.
    Login(Option<LoginKey>),
}

/// The grants at one upstream, a bounded number of them.
#[derive(Debug)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<TokenKey, Slot>>,
    max: usize,
}

impl Tokens {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Mutex::default(),
            max,
        }
    }

    pub(super) fn slot(&self, key: &TokenKey) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        if slots.len() >= self.max {
            // A full table starts over but for what is in use: a lost token costs one round
            // trip, and that many repositories within a token's life are rare.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read() {
        for good in [
            r#"{"token":"t"}"#,
            r#"{"access_token":"t","expires_in":300}"#,
            r#"{"token":"","access_token":"t","expires_in":"soon"}"#,
            r#"{"token":"t","expires_in":18446744073709551615}"#,
        ] {
            let grant = Grant::from_json(good.as_bytes()).expect(good);
            assert_eq!(grant.header(), "Bearer t");
            assert!(grant.is_good());
            assert!(grant.header().is_sensitive());
        }
        assert!(
            !Grant::from_json(br#"{"token":"t","expires_in":0}"#)
                .expect("read")
                .is_good()
        );
        for bad in ["", "{}", "[]", r#"{"token":1}"#, r#"{"token":"a\r\nb"}"#] {
            assert!(Grant::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    // THREATS D6: a day of unique repositories.
    #[test]
    fn the_table_is_bounded() {
        let key = |name: &str| TokenKey::Pull(None, name.parse().expect("a name"));
        let tokens = Tokens::new(8);
        let held = tokens.slot(&key("held"));
        for number in 0..100 {
            tokens.slot(&key(&format!("r{number}")));
            assert!(tokens.slots.lock().expect("lock").len() <= 8);
        }
        assert!(Arc::ptr_eq(&held, &tokens.slot(&key("held"))));
    }
}
