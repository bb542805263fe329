//! From what a request presents to who it is from.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

use crate::authn::Authn;
use crate::authn::Certified;
use crate::authn::OwnRefusal;
use crate::authn::Puller;
use crate::authn::Seen;
use crate::authn::TokenRefusal;
use crate::authn::credential::{Credential, NoCredential, header_of};
use crate::authn::known::{Hash, Known, REPEATED_MAX, RestsOn};
use crate::authn::oidc::Unproven;
use crate::authn::own_token;
use crate::metrics::AuthenticationMethod as Method;
use crate::metrics::AuthenticationOutcome as Outcome;
use crate::oci::ImageName;
use crate::policy::Caller;

/// When to ask again where nobody says better.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a request presents.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The address it comes from.
    pub client: IpAddr,
    /// Whose certificate its connection was opened with.
    pub certificate: Option<&'a Certified>,
    /// Who was seen on its connection.
    pub seen: &'a Seen,
    /// The repository that it is about, where it is about one.
    pub image: Option<&'a ImageName>,
}

/// Why nobody knows who asks. The words are for whoever asked, and say nothing that they do not
/// know: not whether a user or a repository exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// No credential.
    #[error("no credentials were sent")]
    Absent,
    /// A credential that cannot be read.
    #[error("the Authorization header cannot be used: {0}")]
    Unreadable(&'static str),
    /// User name or password are wrong.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// The token is not good.
    #[error("the token is refused: {0}")]
    Token(TokenRefusal),
    /// The token of ours is not good, or not for this.
    #[error("the token is refused: {0}")]
    Own(OwnRefusal),
    /// This address has failed too often.
    #[error("too many failed log-ins from this address")]
    Limited {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Something that has to be asked does not answer: nobody can tell whether it is good.
    #[error("the credentials could not be checked: {cause}")]
    Unavailable {
        /// What did not answer.
        cause: String,
        /// When to ask again.
        retry_after: Duration,
    },
}

impl From<NoCredential> for Unidentified {
    fn from(none: NoCredential) -> Self {
        match none {
            NoCredential::Absent => Self::Absent,
            NoCredential::Several => Self::Unreadable("there is more than one"),
            NoCredential::TooLong => Self::Unreadable("it is larger than 24 KiB"),
            NoCredential::Unreadable => Self::Unreadable("it is neither Basic nor Bearer"),
        }
    }
}

impl Unidentified {
    fn overloaded() -> Self {
        Self::Unavailable {
            cause: "too many passwords wait to be checked".to_owned(),
            retry_after: RETRY_AFTER,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Absent => Outcome::Absent,
            Self::Limited { .. } => Outcome::Limited,
            Self::Unavailable { .. } => Outcome::Unavailable,
            Self::Unreadable(_) | Self::WrongPassword | Self::Token(_) | Self::Own(_) => {
                Outcome::Refused
            }
        }
    }
}

/// What came of a password, for all who sent it at once.
pub(super) type PasswordVerdict = Result<bool, Unidentified>;

type Found = Result<Arc<Known>, Unidentified>;

impl Authn {
    /// Who sent this request.
    ///
    /// # Errors
    /// [`Unidentified`].
    pub async fn identify(&self, presented: Presented<'_>) -> Result<Arc<Puller>, Unidentified> {
        let (method, found) = self.find(presented).await;
        let allowed = found.and_then(|known| {
            if known.allows(presented.image) {
                Ok(known)
            } else {
                Err(Unidentified::Own(OwnRefusal::OtherRepository))
            }
        });
        self.count(method, &allowed);
        allowed.map(|known| Arc::clone(&known.puller))
    }

    /// Who wants a token, and when what they present ends.
    pub(super) async fn identify_for_grant(
        &self,
        presented: Presented<'_>,
    ) -> Result<(Arc<Puller>, Option<Timestamp>), Unidentified> {
        let (method, found) = self.find(presented).await;
        let found = found.and_then(|known| match known.access {
            None => Ok(known),
            // A chain of exchanges would never end.
            Some(_) => Err(Unidentified::Own(OwnRefusal::NotExchanged)),
        });
        self.count(method, &found);
        found.map(|known| (Arc::clone(&known.puller), known.expires_at))
    }

    fn count(&self, method: Method, found: &Found) {
        let outcome = found
            .as_ref()
            .map_or_else(Unidentified::outcome, |_| Outcome::Success);
        self.metrics.authenticated(method, outcome);
    }

    /// Who sent this request, where the one before on its connection said the same, or its
    /// certificate says it. `None` is no answer at all: then [`identify`](Self::identify) is to be
    /// asked.
    #[must_use]
    pub fn identify_at_once(&self, presented: Presented<'_>) -> Option<Arc<Puller>> {
        let known = match header_of(presented.headers) {
            Ok(value) => self.seen(presented, value)?,
            Err(none) => self.certified(presented, none).1.ok()?,
        };
        if !known.allows(presented.image) {
            return None;
        }
        self.metrics.authenticated(known.method, Outcome::Success);
        Some(Arc::clone(&known.puller))
    }

    /// Who sent the same credential on this connection before, while what that rests on holds.
    fn seen(&self, presented: Presented<'_>, value: &[u8]) -> Option<Arc<Known>> {
        let known = presented.seen.find(value)?;
        self.holds(&known).then_some(known)
    }

    async fn find(&self, presented: Presented<'_>) -> (Method, Found) {
        let value = match header_of(presented.headers) {
            Ok(value) => value,
            Err(none) => return self.certified(presented, none),
        };
        if let Some(known) = self.seen(presented, value) {
            return (known.method, Ok(known));
        }
        let hash = self.hash_key.hash(&[value]);
        if let Some(known) = self.known.find(&hash) {
            if self.holds(&known) {
                presented.seen.note(value, &known);
                return (known.method, Ok(known));
            }
            self.known.forget(&hash);
        }
        // Boxed: the cold way's state is large, and the hot way need not carry it.
        match Credential::parse(value) {
            Ok(credential) => {
                let method = credential.method();
                let proven = Box::pin(self.prove(credential, hash, presented.client)).await;
                let held = proven.map(|mut known| {
                    known.length = value.len();
                    let known = Arc::new(known);
                    self.known.hold(hash, Arc::clone(&known));
                    presented.seen.note(value, &known);
                    known
                });
                (method, held)
            }
            Err(none) => self.certified(presented, none),
        }
    }

    /// Where no credential was sent, the connection's certificate says who it is, while it
    /// lasts.
    fn certified(&self, presented: Presented<'_>, none: NoCredential) -> (Method, Found) {
        let held = presented.certificate.filter(|held| self.holds(&held.0));
        match (none, held) {
            (NoCredential::Absent, Some(held)) => (Method::Certificate, Ok(Arc::clone(&held.0))),
            (none, _) => (Method::None, Err(none.into())),
        }
    }

    /// Whether what was proven a moment ago still is.
    fn holds(&self, known: &Known) -> bool {
        let rests = match &known.rests_on {
            RestsOn::Users(number) => self.users.load().number == *number,
            RestsOn::Keys(issuer, number) => self.issuers.keys_in_force(issuer) == Some(*number),
            RestsOn::Configuration => true,
        };
        rests && self.clock.now() < known.until
    }

    async fn prove(
        &self,
        credential: Credential,
        hash: Hash,
        client: IpAddr,
    ) -> Result<Known, Unidentified> {
        match credential {
            Credential::Password { user, password } => {
                self.password(user, password, hash, client).await
            }
            Credential::Token(token) => self.token(&token).await,
            Credential::Own(token) => self.own(&token),
        }
    }

    /// A user with a password. However many send the same at once, it is hashed once.
    async fn password(
        &self,
        user: String,
        password: String,
        hash: Hash,
        client: IpAddr,
    ) -> Result<Known, Unidentified> {
        let in_force = self.users.load_full();
        let users = in_force.users.clone().ok_or(Unidentified::WrongPassword)?;
        let name: Arc<str> = user.as_str().into();
        let number = in_force.number;
        // Another file of users is another question.
        let flight = self.hash_key.hash(&[&hash, &number.to_be_bytes()]);
        let passwords = Arc::clone(&self.passwords);
        let (failures, now) = (Arc::clone(&self.failures), self.clock.now());
        // Whoever starts the flight pays for it, and the flight does not end with its waiters.
        let landed = self.password_flights.join(flight, || async move {
            if let Err(retry_after) = failures.charge(client, now) {
                return Err(Unidentified::Limited { retry_after });
            }
            let verified = passwords.run(move || users.verify(&user, &password)).await;
            if !matches!(verified, Ok(false)) {
                failures.refund(client);
            }
            verified.map_err(|_| Unidentified::overloaded())
        });
        match landed
            .await
            .unwrap_or_else(|_| Err(Unidentified::overloaded()))?
        {
            true => Ok(Known {
                rests_on: RestsOn::Users(number),
                ..self.known_as(Caller::User(name), Method::Htpasswd, None)
            }),
            false => Err(Unidentified::WrongPassword),
        }
    }

    /// The bearer of an issuer's token.
    async fn token(&self, token: &str) -> Result<Known, Unidentified> {
        if self.issuers.is_empty() {
            return Err(Unidentified::Token(TokenRefusal::Issuer));
        }
        let proven = self
            .issuers
            .prove(token)
            .await
            .map_err(|unproven| match unproven {
                Unproven::Refused(refusal) => Unidentified::Token(refusal),
                Unproven::Unavailable { issuer, cause } => Unidentified::Unavailable {
                    cause: format!("the keys of {issuer} cannot be had: {cause}"),
                    retry_after: RETRY_AFTER,
                },
            })?;
        let issuer: Arc<str> = proven.identity.issuer.as_str().into();
        let caller = Caller::Token(Arc::new(proven.identity));
        Ok(Known {
            rests_on: RestsOn::Keys(issuer, proven.keys),
            ..self.known_as(caller, Method::Oidc, Some(proven.expires_at))
        })
    }

    /// The bearer of a token of ours. Who it was given to has to be somebody still.
    fn own(&self, token: &str) -> Result<Known, Unidentified> {
        let users = self.users.load();
        let token = own_token::verify(&self.token_key, token, self.clock.now())
            .map_err(Unidentified::Own)?;
        let rests_on = match &token.caller {
            Caller::User(name) => {
                let known = users
                    .users
                    .as_ref()
                    .is_some_and(|users| users.contains(name));
                known.then_some(RestsOn::Users(users.number))
            }
            Caller::Token(identity) => self
                .issuers
                .believes(&identity.issuer)
                .then_some(RestsOn::Configuration),
            Caller::Certificate(_) => Some(RestsOn::Configuration),
            Caller::Anonymous => None,
        };
        Ok(Known {
            rests_on: rests_on.ok_or(Unidentified::Own(OwnRefusal::Gone))?,
            access: Some(token.access),
            ..self.known_as(token.caller, Method::Token, Some(token.expires_at))
        })
    }

    fn known_as(&self, caller: Caller, method: Method, expires_at: Option<Timestamp>) -> Known {
        let repeated = SignedDuration::try_from(REPEATED_MAX).unwrap_or_default();
        let until = self.clock.now() + repeated;
        Known {
            puller: Arc::new(caller.into()),
            method,
            until: expires_at.map_or(until, |end| until.min(end)),
            expires_at,
            rests_on: RestsOn::Configuration,
            access: None,
            length: 0,
        }
    }
}

impl Credential {
    fn method(&self) -> Method {
        match self {
            Self::Password { .. } => Method::Htpasswd,
            Self::Own(_) => Method::Token,
            Self::Token(_) => Method::Oidc,
        }
    }
}
