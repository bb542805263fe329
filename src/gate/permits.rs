//! Private content stays private: where a registry is asked with the credentials of whoever
//! pulls, nothing that is cached leaves before the registry has said, to these credentials and
//! recently, that they may read the repository (THREATS A4).
//!
//! What is cached is the same for all, so a permit is about a login and a repository, and is
//! asked for by what the login wants to read anyway. A login is known by a keyed hash only.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::flight::Flights;
use crate::gate::Asked;
use crate::gate::Gate;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::gate::facts::crashed;
use crate::hands::Hands;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::upstream::Login;
use crate::upstream::LoginKey;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// How many permits are held; each is some hundred bytes.
const PERMITS_MAX: u64 = 100_000;

/// Who may read which repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Permit {
    login: LoginKey,
    image: ImageName,
}

/// What a registry is asked for to find out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wanted {
    Manifest(Reference),
    Blob(Digest),
}

/// The permits that registries gave, for a while.
pub(super) struct Permits {
    /// True when there is a registry that is asked so; else nobody needs one.
    needed: bool,
    given: Cache<Permit, ()>,
    flights: Flights<(Permit, Wanted), Result<(), UpstreamError>>,
}

impl Permits {
    pub(super) fn new<'a>(
        mut upstreams: impl Iterator<Item = &'a Upstream>,
        permit_ttl: Duration,
        hands: Hands,
    ) -> Self {
        Self {
            needed: upstreams.any(Upstream::asks_as_caller),
            given: Cache::builder()
                .max_capacity(PERMITS_MAX)
                .time_to_live(permit_ttl)
                .build(),
            flights: Flights::new(hands),
        }
    }
}

impl Gate {
    /// True when some registry is asked with the credentials of whoever pulls.
    #[must_use]
    pub fn passes_logins_on(&self) -> bool {
        self.0.permits.needed
    }

    /// The same gate, for somebody with these credentials at the registry `host`. They are of use
    /// only where that registry is asked so.
    #[must_use]
    pub fn asked_by(&self, host: &RegistryHost, login: Login) -> Self {
        let upstream = self.0.upstreams.get(host);
        let upstream = upstream.filter(|upstream| upstream.asks_as_caller());
        let upstream = upstream.map(|upstream| Arc::new(upstream.asked_by(login)));
        Self(Arc::clone(&self.0), upstream)
    }

    /// Whether a registry that is asked with the credentials of whoever pulls knows them; any
    /// other registry is not asked.
    ///
    /// # Errors
    /// A [`Refusal`], most of all [`Refusal::LoginNeeded`].
    pub async fn greet(&self, host: &RegistryHost) -> Result<(), Refusal> {
        let upstream = self
            .upstream(host)
            .filter(|upstream| upstream.asks_as_caller());
        let Some(upstream) = upstream else {
            return Ok(());
        };
        let known = upstream.knows_asker().await;
        known.map_err(|error| {
            let asked = Asked::Registry(host.clone());
            self.not_found(&error, asked, Missing::Repository)
        })
    }

    /// Whether whoever asks may read this manifest's repository.
    pub(super) async fn permit_manifest(
        &self,
        image: &ImageName,
        reference: &Reference,
    ) -> Result<(), Refusal> {
        if !self.0.permits.needed {
            return Ok(());
        }
        let wanted = Wanted::Manifest(reference.clone());
        self.permit(image, wanted).await.map_err(|error| {
            let asked = Asked::Manifest(image.clone(), reference.clone());
            self.not_found(&error, asked, Missing::Manifest)
        })
    }

    /// Whether whoever asks may read this blob's repository.
    pub(super) async fn permit_blob(
        &self,
        image: &ImageName,
        digest: Digest,
    ) -> Result<(), Refusal> {
        if !self.0.permits.needed {
            return Ok(());
        }
        let permitted = self.permit(image, Wanted::Blob(digest)).await;
        permitted.map_err(|error| {
            let asked = Asked::Blob(image.clone(), digest);
            self.not_found(&error, asked, Missing::Blob)
        })
    }

    /// The registry is asked for what is wanted, with the credentials of whoever wants it. Only
    /// its yes is kept: a no may be about this one tag, and may be mended at once.
    async fn permit(&self, image: &ImageName, wanted: Wanted) -> Result<(), UpstreamError> {
        let upstream = self.upstream(&image.registry);
        let Some(upstream) = upstream.filter(|upstream| upstream.asks_as_caller()) else {
            return Ok(());
        };
        let permit = Permit {
            login: upstream.asker().key(),
            image: image.clone(),
        };
        if self.0.permits.given.contains_key(&permit) {
            return Ok(());
        }
        let (upstream, image, asked) = (upstream.clone(), image.clone(), wanted.clone());
        let flight = || async move {
            let repository = &image.repository;
            match &asked {
                Wanted::Manifest(reference) => upstream.has_manifest(repository, reference).await,
                Wanted::Blob(digest) => upstream.blob_size(repository, digest).await.map(drop),
            }
        };
        let key = (permit.clone(), wanted);
        let landed = self.0.permits.flights.join(key, flight).await;
        landed.unwrap_or_else(|_| {
            Err(UpstreamError::Unreachable {
                host: permit.image.registry.to_string(),
                cause: crashed().text,
            })
        })?;
        self.0.permits.given.insert(permit, ());
        Ok(())
    }
}
