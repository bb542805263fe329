//! Who asks: from a request to a verified [`Caller`](crate::policy::Caller).
//!
//! A user of an htpasswd file, the bearer of an issuer's token, the holder of a client
//! certificate, or the bearer of a token that [`Authn::grant`] gave out in exchange for one of
//! these. What a request says is compared with what its connection said before (`seen`), looked up
//! among those who were proven a moment ago (`known`), and else parsed (`credential`) and proven,
//! which costs something: so failures are counted by address (`failures`).
//!
//! This room says who somebody is and never what they may have; that is policy's. It knows
//! headers, and not how refusals are worded as answers.

mod certificate;
mod credential;
mod failures;
mod htpasswd;
mod identify;
mod known;
mod oidc;
mod own_token;
mod puller;
mod seen;

pub use certificate::Certified;
pub use htpasswd::{HtpasswdProblem, Users};
pub use identify::{Presented, Unidentified};
pub use oidc::{IssuerError, IssuerSettings, OidcSettings, TokenRefusal};
pub use own_token::{OwnRefusal, SERVICE, TokenKey, TokenKeyError};
pub use puller::Puller;
pub use seen::Seen;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::flight::Flights;
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::oci::ImageName;
use crate::places::Places;

use failures::FailureCounts;
use identify::PasswordVerdict;
use known::{Hash, KnownPullers};
use oidc::Issuers;

/// How many passwords may wait for a processor.
const PASSWORDS_WAITING_MAX: usize = 256;

/// What authentication is built with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The users, where there are any.
    pub users: Option<Users>,
    /// The issuers.
    pub oidc: OidcSettings,
    /// The key of our own tokens.
    pub token_key: TokenKey,
    /// How long our own tokens live.
    pub token_lifetime: Duration,
    /// How often an address may fail in a minute.
    pub failures_max: usize,
    /// How many passwords are hashed at a time.
    pub password_threads: usize,
}

/// What authentication needs of the house.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The time.
    pub clock: Clock,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// Who hashes passwords and asks for keys.
    pub hands: Hands,
}

/// Why authentication cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthnError {
    /// An issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The key for hashes of credentials.
    #[error(transparent)]
    Key(#[from] TokenKeyError),
}

/// Says who asks.
#[derive(Debug)]
pub struct Authn {
    users: ArcSwap<UsersInForce>,
    issuers: Issuers,
    token_key: TokenKey,
    token_lifetime: Duration,
    /// For hashes of credentials; of this process alone.
    hash_key: TokenKey,
    known: KnownPullers,
    failures: Arc<FailureCounts>,
    passwords: Arc<Places>,
    password_flights: Flights<Hash, PasswordVerdict>,
    next_number: AtomicU64,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The users, and the number by which proofs know them.
#[derive(Debug)]
struct UsersInForce {
    users: Option<Arc<Users>>,
    number: u64,
}

/// A token that was given out.
pub struct Grant {
    /// The token.
    pub token: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Authn {
    /// Sets authentication up. Nothing is asked of any network yet, so an issuer that is down
    /// does not stop the start.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub fn new(settings: Settings, parts: Parts) -> Result<Self, AuthnError> {
        let Parts {
            clock,
            metrics,
            hands,
        } = parts;
        let users = UsersInForce {
            users: settings.users.map(Arc::new),
            number: 0,
        };
        Ok(Self {
            users: ArcSwap::from_pointee(users),
            issuers: Issuers::new(&settings.oidc, &clock, &hands)?,
            token_key: settings.token_key,
            token_lifetime: settings.token_lifetime,
            hash_key: TokenKey::random()?,
            known: KnownPullers::new(),
            failures: Arc::new(FailureCounts::new(settings.failures_max)),
            passwords: Arc::new(Places::new(
                settings.password_threads,
                PASSWORDS_WAITING_MAX,
                hands.clone(),
            )),
            password_flights: Flights::new(hands),
            next_number: AtomicU64::new(1),
            metrics,
            clock,
        })
    }

    /// Puts other users in force, and says whether they are others. Whoever was proven by the
    /// old ones is then proven anew.
    pub fn replace_users(&self, users: Users) -> bool {
        if self.users.load().users.as_deref() == Some(&users) {
            return false;
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.users.store(Arc::new(UsersInForce {
            users: Some(Arc::new(users)),
            number,
        }));
        true
    }

    /// Gives whoever presents a credential a token for pulling from these repositories. It does
    /// not say whether they exist, nor whether they may be pulled: policy judges each pull.
    ///
    /// # Errors
    /// [`Unidentified`]. A token of ours is not exchanged for another.
    pub async fn grant(
        &self,
        presented: Presented<'_>,
        access: &[ImageName],
    ) -> Result<Grant, Unidentified> {
        let (puller, until) = self.identify_for_grant(presented).await?;
        let now = self.clock.now();
        let minted = own_token::mint(
            &self.token_key,
            puller.caller(),
            access,
            now,
            self.token_lifetime,
            until,
        );
        let (token, expires_at) = minted.ok_or(Unidentified::Absent)?;
        Ok(Grant {
            token,
            issued_at: now,
            expires_at,
        })
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
