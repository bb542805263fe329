//! Tokens of OpenID Connect issuers: whose they are, proven by the issuer's keys. Sole home of
//! JWT.
//!
//! Taking a token apart (`jwt`), its signature (`keys`) and its claims (`claims`) are pure;
//! `issuer` has the keys fetched, and is all that knows of a network.

mod claims;
mod issuer;
mod jwt;
mod keys;

pub use issuer::{IssuerError, IssuerSettings};

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::hands::Hands;
use crate::policy::TokenIdentity;
use crate::upstream;

use claims::Expected;
use issuer::Issuer;
use jwt::Jwt;

/// Why a token is refused. The words are for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// It is no token; most likely it was cut off, or is something else.
    #[error("it cannot be read: {0}")]
    Malformed(&'static str),
    /// `none`, a shared secret, or one that we do not know.
    #[error(
        "its algorithm is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
    )]
    Algorithm,
    /// Its issuer is not configured.
    #[error("its issuer is none of those in `callers.oidc`")]
    Issuer,
    /// The issuer publishes no such key: rotated away, or never there.
    #[error("its issuer publishes no key of that name that could have signed it")]
    UnknownKey,
    /// It names no key, and its issuer has several.
    #[error("it names no key, and its issuer has several")]
    UnnamedKey,
    /// The signature does not fit.
    #[error("its signature is not by its issuer")]
    Signature,
    /// It has no audience: it is for everybody, and so for nobody.
    #[error("it has no audience (`aud`)")]
    NoAudience,
    /// It is for somebody else.
    #[error("it is for another audience than {expected}")]
    Audience {
        /// What is expected.
        expected: String,
    },
    /// It never ends.
    #[error("it has no end (`exp`)")]
    NoExpiry,
    /// It has ended.
    #[error("it expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// It has not begun.
    #[error("it is not valid before {at}")]
    NotYet {
        /// When it is.
        at: Timestamp,
    },
    /// A time in it is none.
    #[error("its `{0}` is not a time")]
    Time(&'static str),
    /// It says not whose it is.
    #[error("its subject (`sub`) is missing, too long, or has control characters")]
    Subject,
}

/// Why nobody knows whose token it is.
#[derive(Debug, Clone)]
pub(super) enum Unproven {
    /// The token is not good.
    Refused(TokenRefusal),
    /// Its issuer cannot be asked for its keys.
    Unavailable { issuer: Arc<str>, cause: String },
}

/// A token that is proven.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) identity: TokenIdentity,
    /// When it ends.
    pub(super) expires_at: Timestamp,
    /// The number of the keys that proved it; see [`Issuers::keys_in_force`].
    pub(super) keys: u64,
}

/// What issuers are built with.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// The issuers; several entries may name one, each with an audience.
    pub issuers: Vec<IssuerSettings>,
    /// How long keys are used while their issuer cannot be asked for them.
    pub keys_stale_max: Duration,
    /// Bounds on the requests for keys.
    pub limits: upstream::Limits,
}

/// The issuers that are believed.
#[derive(Debug)]
pub(super) struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    clock: Clock,
}

impl Issuers {
    pub(super) fn new(
        settings: &OidcSettings,
        clock: &Clock,
        hands: &Hands,
    ) -> Result<Self, IssuerError> {
        let mut issuers: Vec<Issuer> = Vec::new();
        for entry in &settings.issuers {
            match issuers.iter_mut().find(|known| known.url() == entry.url) {
                Some(known) => known.also_for(entry.audience.clone()),
                None => issuers.push(Issuer::new(entry, settings, clock.clone(), hands.clone())?),
            }
        }
        Ok(Self {
            issuers: issuers.into_iter().map(Arc::new).collect(),
            clock: clock.clone(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Whether this URL is one of them, to the letter: `https://issuer/a` vouches for nobody of
    /// `https://issuer/ab`.
    fn named(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.url() == url)
    }

    pub(super) fn believes(&self, url: &str) -> bool {
        self.named(url).is_some()
    }

    /// The number of the keys that an issuer has now, as far as we know. What was proven under
    /// another number has to be proven anew: a key may have been rotated away.
    pub(super) fn keys_in_force(&self, url: &str) -> Option<u64> {
        self.named(url).map(|issuer| issuer.keys_in_force())
    }

    /// Whose token this is.
    ///
    /// 1. It is taken apart; its issuer is one of ours.
    /// 2. Its signature is by a key of that issuer.
    /// 3. Its claims are as they have to be.
    pub(super) async fn prove(&self, token: &str) -> Result<Proven, Unproven> {
        // 1.
        let jwt = Jwt::parse(token).map_err(Unproven::Refused)?;
        let issuer = jwt.issuer().and_then(|url| self.named(url));
        let issuer = issuer.ok_or(Unproven::Refused(TokenRefusal::Issuer))?;
        // 2.
        let keys = issuer.verify(&jwt).await?;
        // 3.
        let expected = Expected {
            issuer: issuer.url(),
            audiences: issuer.audiences(),
        };
        let (identity, expires_at) =
            claims::check(jwt.claims, expected, self.clock.now()).map_err(Unproven::Refused)?;
        Ok(Proven {
            identity,
            expires_at,
            keys,
        })
    }
}
