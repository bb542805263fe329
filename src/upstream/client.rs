//! One upstream: its parts, and what every request to it has in common.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Empty;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Credentials, Login, LoginKey, MalformedAnswer, Settings, Stage, UpstreamError, budget::Budget,
    connect::Clients, order::Health, origin::Origin, token::Tokens,
};
use crate::oci::RegistryHost;
use crate::oci::Repository;

/// What registries see of us; the headers of those who pull are never passed on.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pullgate/", env!("CARGO_PKG_VERSION")));
/// Bytes are hashed and passed on as they are.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Why an upstream's client cannot be built.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BuildError {
    /// One of the extra certificate authorities is no usable certificate.
    #[error("a certificate authority of this upstream cannot be used: {0}")]
    Certificate(#[source] rustls::Error),
    /// The client's own certificate and its key do not belong together.
    #[error("the client certificate of this upstream cannot be used: {0}")]
    ClientCertificate(#[source] rustls::Error),
    /// The TLS library refuses its own defaults; a broken build.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
}

/// A client of one registry. Cheap to clone; all clones share connections, tokens and budget.
#[derive(Clone)]
pub struct Upstream {
    /// Its addresses, in the order in which they are tried; at least one.
    places: Arc<[Arc<Shared>]>,
    /// Whoever asks; in an `Arc`, since the client is part of much that is kept.
    login: Option<Arc<Login>>,
}

/// One address of a registry.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) clients: Clients,
    pub(super) tokens: Tokens,
    pub(super) documents: Arc<Semaphore>,
    pub(super) blobs: Arc<Semaphore>,
    pub(super) budget: Arc<Budget>,
    pub(super) health: Health,
}

impl Upstream {
    /// A client for the upstream that `settings` describe. Connects to nothing yet.
    ///
    /// # Errors
    /// [`BuildError`] when a certificate cannot be used.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a client owns its settings; each address has a copy of them"
    )]
    pub fn new(settings: Settings) -> Result<Self, BuildError> {
        let limits = &settings.limits;
        // All addresses are one registry, and have its places and its budget together.
        let documents = Arc::new(Semaphore::new(limits.connections_max));
        let blobs = Arc::new(Semaphore::new(limits.blob_streams_max));
        let budget = Arc::new(Budget::new(limits.requests_per_second_max));
        let urls = std::iter::once(&settings.url).chain(&settings.more_urls);
        let places = urls.map(|url| {
            let settings = Settings {
                url: url.clone(),
                ..settings.clone()
            };
            Ok(Arc::new(Shared {
                clients: Clients::new(&settings)?,
                tokens: Tokens::new(settings.limits.tokens_max),
                documents: Arc::clone(&documents),
                blobs: Arc::clone(&blobs),
                budget: Arc::clone(&budget),
                health: Health::default(),
                settings,
            }))
        });
        Ok(Self {
            places: places.collect::<Result<_, BuildError>>()?,
            login: None,
        })
    }

    /// The host that image names carry.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.settings().host
    }

    /// True where the registry is asked with the credentials of whoever pulls.
    #[must_use]
    pub fn asks_as_caller(&self) -> bool {
        matches!(self.settings().credentials, Credentials::Caller)
    }

    /// The same registry, asked by somebody with these credentials. They are used only where it
    /// [is asked so](Self::asks_as_caller).
    #[must_use]
    pub fn asked_by(&self, login: Login) -> Self {
        Self {
            places: Arc::clone(&self.places),
            login: self.asks_as_caller().then(|| Arc::new(login)),
        }
    }

    /// The name by which the registry itself knows `repository`; see [`Settings::canonical`].
    #[must_use]
    pub fn canonical(&self, repository: Repository) -> Repository {
        self.settings().canonical(repository)
    }

    pub(super) fn places(&self) -> &[Arc<Shared>] {
        &self.places
    }

    /// Whoever asks, by their credentials; nobody in particular where none were given.
    #[must_use]
    pub fn asker(&self) -> Login {
        self.login().cloned().unwrap_or_else(Login::anonymous)
    }

    /// Stands for whoever asks, in tables of what is not to be shared between callers; `None`
    /// where all of them ask as one.
    #[must_use]
    pub fn asker_key(&self) -> Option<LoginKey> {
        self.login().map(Login::key)
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    fn settings(&self) -> &Settings {
        // `new` makes a place of `Settings::url` at least.
        &self.places[0].settings
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upstream")
            .field(&self.settings().url)
            .finish()
    }
}

impl Shared {
    pub(super) fn origin(&self) -> &Origin {
        self.settings.url.origin()
    }

    /// A request for a path and query of this registry, without credentials.
    pub(super) fn request(
        &self,
        method: Method,
        path_and_query: &str,
    ) -> Result<Request<Empty<Bytes>>, UpstreamError> {
        let uri = self
            .settings
            .url
            .join(path_and_query)
            .map_err(|_| UpstreamError::Malformed(MalformedAnswer::Address))?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        Ok(request)
    }

    /// A place among the requests that may be under way; a queue that does not move is an
    /// error, not a wait without end.
    pub(super) async fn place(
        &self,
        places: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let patience = self.settings.limits.answer_timeout;
        match timeout(patience, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // Nothing closes the semaphore, so this is the time being up.
            Ok(Err(_)) | Err(_) => Err(self.timed_out(Stage::Queue, patience)),
        }
    }

    /// Bounds `work` in all that it does; `stage` is what people are told took too long.
    pub(super) async fn within_deadline<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let deadline = self.settings.limits.manifest_deadline;
        timeout(deadline, work)
            .await
            .unwrap_or_else(|_| Err(self.timed_out(stage, deadline)))
    }

    pub(super) fn timed_out(&self, stage: Stage, after: Duration) -> UpstreamError {
        UpstreamError::TimedOut {
            host: self.settings.host.clone(),
            stage,
            after,
        }
    }
}
