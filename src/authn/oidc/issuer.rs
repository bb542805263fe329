//! One issuer and its keys: asked for when they are first needed, held, and asked for again
//! (OpenID Connect Discovery 1.0, section 4).
//!
//! Keys are asked for by one flight at a time, and not before [`REFRESH_FLOOR`] has passed
//! since the last one, whatever names of keys tokens come with. Keys that are held are used
//! while their issuer is away, up to a bound.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::Uri;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tracing::{info, warn};

use crate::authn::oidc::OidcSettings;
use crate::authn::oidc::TokenRefusal;
use crate::authn::oidc::Unproven;
use crate::authn::oidc::jwt::Jwt;
use crate::authn::oidc::keys::{KeySet, NoKey};
use crate::clock::Clock;
use crate::flight::Flights;
use crate::hands::Hands;
use crate::oci::Digest;
use crate::oci::RegistryHost;
use crate::upstream;
use crate::upstream::Upstream;

/// How long keys are used before their issuer is asked whether they are still the same.
const KEYS_FRESH: Duration = Duration::from_secs(5 * 60);
/// The least time between two attempts to get keys.
const REFRESH_FLOOR: Duration = Duration::from_secs(30);
/// The largest discovery document, and the largest key set, in bytes.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// How long one document may take: pulls wait for it.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// Where the discovery document is, below the issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its URL, which `iss` has to be to the letter: https, or http on loopback.
    pub url: String,
    /// What `aud` has to be or have.
    pub audience: String,
    /// Certificate authorities beside those of the web.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

/// Why an issuer cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssuerError {
    /// The URL, or the one that it names for its keys, is no https URL with a host.
    #[error("{0} is not an https URL")]
    Url(String),
    /// A certificate authority cannot be used.
    #[error(transparent)]
    Client(#[from] upstream::BuildError),
}

/// Why keys could not be had.
#[derive(Debug, Clone, thiserror::Error)]
enum NoKeys {
    #[error("{0}")]
    Upstream(#[from] upstream::UpstreamError),
    #[error("its discovery document is not readable")]
    Discovery,
    #[error("its discovery document is another issuer's")]
    OtherIssuer,
    #[error("its keys lie where they cannot be asked for: {0}")]
    Elsewhere(#[from] IssuerError),
    #[error("its key set is not readable, or has no key that we verify with")]
    Keys,
    #[error("the request crashed")]
    Crashed,
    #[error("its keys are older than they may be")]
    TooOld,
    #[error("it did not answer a moment ago ({0})")]
    AMomentAgo(String),
}

/// Keys, and since when.
#[derive(Debug)]
struct Held {
    keys: KeySet,
    document: Digest,
    /// Counts every change.
    number: u64,
    fetched_at: Timestamp,
}

/// The last attempt to get keys.
#[derive(Debug, Clone)]
struct Attempt {
    at: Timestamp,
    failure: Option<String>,
}

#[derive(Debug)]
pub(super) struct Issuer {
    url: Arc<str>,
    audiences: Vec<String>,
    site: Site,
    keys_stale_max: Duration,
    held: ArcSwapOption<Held>,
    attempt: Mutex<Option<Attempt>>,
    flights: Flights<(), Result<(), NoKeys>>,
    clock: Clock,
}

/// How an issuer and its keys are asked for.
#[derive(Debug, Clone)]
struct Site {
    extra_roots: Vec<CertificateDer<'static>>,
    limits: upstream::Limits,
    clock: Clock,
    /// Whether it is asked over TLS; its keys then are as well.
    secure: bool,
    discovery: Upstream,
}

impl Issuer {
    pub(super) fn new(
        entry: &IssuerSettings,
        settings: &OidcSettings,
        clock: Clock,
        hands: Hands,
    ) -> Result<Self, IssuerError> {
        let limits = upstream::Limits {
            manifest_deadline: FETCH_DEADLINE.min(settings.limits.manifest_deadline),
            ..settings.limits.clone()
        };
        let roots = entry.extra_roots.clone();
        let site = Site {
            discovery: client(&entry.url, &roots, &limits, &clock)?,
            extra_roots: roots,
            limits,
            clock: clock.clone(),
            secure: entry.url.starts_with("https://"),
        };
        Ok(Self {
            url: entry.url.as_str().into(),
            audiences: vec![entry.audience.clone()],
            site,
            keys_stale_max: settings.keys_stale_max,
            held: ArcSwapOption::empty(),
            attempt: Mutex::default(),
            flights: Flights::new(hands),
            clock,
        })
    }

    pub(super) fn also_for(&mut self, audience: String) {
        self.audiences.push(audience);
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The number of the keys that are held.
    pub(super) fn keys_in_force(&self) -> u64 {
        self.held.load().as_ref().map_or(0, |held| held.number)
    }

    /// Verifies a token's signature; gives the number of the keys that it was verified with.
    pub(super) async fn verify(self: &Arc<Self>, jwt: &Jwt<'_>) -> Result<u64, Unproven> {
        let held = self.keys().await?;
        let (outcome, number) = match held.keys.verify(jwt) {
            Err(NoKey::Unknown) => {
                // The key may be newer than what we have; where nobody can say, nobody knows.
                self.refresh()
                    .await
                    .map_err(|error| self.unavailable(&error))?;
                let held = self.held.load_full().unwrap_or(held);
                (held.keys.verify(jwt), held.number)
            }
            outcome => (outcome, held.number),
        };
        match outcome {
            Ok(Ok(())) => Ok(number),
            Ok(Err(refusal)) => Err(Unproven::Refused(refusal)),
            Err(NoKey::Unknown) => Err(Unproven::Refused(TokenRefusal::UnknownKey)),
            Err(NoKey::Unnamed) => Err(Unproven::Refused(TokenRefusal::UnnamedKey)),
        }
    }

    /// The keys: those that are held while they are fresh, new ones where there are any, and
    /// those that are held again while the issuer cannot be asked.
    async fn keys(self: &Arc<Self>) -> Result<Arc<Held>, Unproven> {
        let age = |held: &Held| {
            let age = self.clock.now().duration_since(held.fetched_at);
            // Keys from the future are those of a clock that was set back: as old as can be.
            Duration::try_from(age).unwrap_or(Duration::MAX)
        };
        if let Some(held) = self.held.load_full()
            && age(&held) < KEYS_FRESH
        {
            return Ok(held);
        }
        let refreshed = self.refresh().await;
        match self.held.load_full() {
            Some(held) if age(&held) < self.keys_stale_max => Ok(held),
            _ => Err(self.unavailable(&refreshed.err().unwrap_or(NoKeys::TooOld))),
        }
    }

    fn unavailable(&self, error: &NoKeys) -> Unproven {
        Unproven::Unavailable {
            issuer: Arc::clone(&self.url),
            cause: error.to_string(),
        }
    }

    /// Asks for the keys, unless that was done a moment ago.
    async fn refresh(self: &Arc<Self>) -> Result<(), NoKeys> {
        let issuer = Arc::clone(self);
        let landed = self.flights.join((), || async move {
            if let Some(last) = issuer.attempted_a_moment_ago() {
                return last;
            }
            let fetched = issuer.site.fetch(&issuer.url).await;
            issuer.land(fetched)
        });
        landed.await.unwrap_or(Err(NoKeys::Crashed))
    }

    /// What came of an attempt that is too recent for another one.
    fn attempted_a_moment_ago(&self) -> Option<Result<(), NoKeys>> {
        let attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempt.as_ref()?;
        let passed = self.clock.now().duration_since(attempt.at);
        let recent = Duration::try_from(passed).is_ok_and(|passed| passed < REFRESH_FLOOR);
        recent.then(|| match &attempt.failure {
            None => Ok(()),
            Some(failure) => Err(NoKeys::AMomentAgo(failure.clone())),
        })
    }

    fn land(&self, fetched: Result<(KeySet, Digest), NoKeys>) -> Result<(), NoKeys> {
        let at = self.clock.now();
        let outcome = fetched.map(|(keys, document)| {
            let before = self.held.load_full();
            let same = before
                .as_ref()
                .is_some_and(|held| held.document == document);
            let number = before.map_or(1, |held| held.number + u64::from(!same));
            if !same {
                info!(
                    issuer = &*self.url,
                    keys = keys.len(),
                    "the issuer's keys are new"
                );
            }
            self.held.store(Some(Arc::new(Held {
                keys,
                document,
                number,
                fetched_at: at,
            })));
        });
        if let Err(error) = &outcome {
            warn!(issuer = &*self.url, %error, "the issuer's keys could not be had");
        }
        let failure = outcome.as_ref().err().map(ToString::to_string);
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Attempt { at, failure });
        outcome
    }
}

impl Site {
    /// The keys, and the hash of their document.
    async fn fetch(&self, issuer: &str) -> Result<(KeySet, Digest), NoKeys> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let document = self.discovery.plain(DISCOVERY, DOCUMENT_BYTES_MAX).await?;
        let discovery: Discovery =
            serde_json::from_slice(&document).map_err(|_| NoKeys::Discovery)?;
        if discovery.issuer != issuer {
            return Err(NoKeys::OtherIssuer);
        }
        let document = self.keys_at(&discovery.jwks_uri).await?;
        let keys = KeySet::parse(&document).map_err(|_| NoKeys::Keys)?;
        if keys.len() == 0 {
            return Err(NoKeys::Keys);
        }
        Ok((keys, Digest::sha256(&document)))
    }

    async fn keys_at(&self, url: &str) -> Result<bytes::Bytes, NoKeys> {
        let refused = || IssuerError::Url(url.chars().take(200).collect());
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refused().into());
        };
        // An issuer that is asked over TLS has its keys over TLS too.
        if self.secure && scheme != "https" {
            return Err(refused().into());
        }
        let origin = format!("{scheme}://{authority}");
        let client = client(&origin, &self.extra_roots, &self.limits, &self.clock)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(client.plain(path, DOCUMENT_BYTES_MAX).await?)
    }
}

/// A client for documents below this URL.
fn client(
    url: &str,
    extra_roots: &[CertificateDer<'static>],
    limits: &upstream::Limits,
    clock: &Clock,
) -> Result<Upstream, IssuerError> {
    let refused = || IssuerError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| refused())?;
    let authority = uri.authority().ok_or_else(refused)?.as_str();
    let host: RegistryHost = authority
        .to_ascii_lowercase()
        .parse()
        .map_err(|_| refused())?;
    let is_fit = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => host.is_loopback(),
        _ => false,
    };
    if !is_fit {
        return Err(refused());
    }
    let settings = upstream::Settings {
        url: url.parse().map_err(|_| refused())?,
        library_prefix: false,
        extra_roots: extra_roots.to_vec(),
        limits: limits.clone(),
        clock: clock.clone(),
        ..upstream::Settings::known(host)
    };
    Ok(Upstream::new(settings)?)
}
