//! What one upstream is: meaningful values only, lowered from configuration elsewhere.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{BaseUrl, Lookaside, Proxy, Redirects};
use crate::clock::Clock;
use crate::oci::RegistryHost;
use crate::oci::Repository;

/// Told of every HTTP exchange: the upstream, and the status, or 0 where no answer came.
pub type OnRequest = Arc<dyn Fn(&RegistryHost, u16) + Send + Sync>;

/// One upstream registry.
#[derive(Clone)]
pub struct Settings {
    /// The host that image names carry.
    pub host: RegistryHost,
    /// Where the registry listens.
    pub url: BaseUrl,
    /// Where else the same registry listens: tried in order when it does not answer.
    pub more_urls: Vec<BaseUrl>,
    /// True where short names live under `library/`, as on Docker Hub.
    pub library_prefix: bool,
    /// Certificate authorities trusted for this upstream beside those of the web.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// The certificate that we show to this upstream, where it wants one.
    pub client_certificate: Option<ClientCertificate>,
    /// The proxy through which TLS connections go.
    pub proxy: Option<Arc<Proxy>>,
    /// Where blobs may be redirected to.
    pub redirects: Redirects,
    /// Where detached signatures of its images lie.
    pub lookaside: Option<Lookaside>,
    /// Who we are to this upstream.
    pub credentials: Credentials,
    /// The bounds on time and size.
    pub limits: Limits,
    /// Where the time for dates in `Retry-After` comes from.
    pub clock: Clock,
    /// Told of every HTTP exchange, for metrics.
    pub on_request: Option<OnRequest>,
}

impl Settings {
    /// The settings that `host` has when nothing else is said: https on the host itself,
    /// anonymous, and for Docker Hub its real address and `library/`.
    #[must_use]
    pub fn known(host: RegistryHost) -> Self {
        let docker_hub = matches!(host.as_str(), "docker.io" | "index.docker.io");
        let url = if docker_hub {
            BaseUrl::docker_hub()
        } else {
            BaseUrl::https(&host)
        };
        Self {
            host,
            url,
            more_urls: Vec::new(),
            library_prefix: docker_hub,
            extra_roots: Vec::new(),
            client_certificate: None,
            proxy: None,
            redirects: Redirects::default(),
            lookaside: None,
            credentials: Credentials::Anonymous,
            limits: Limits::default(),
            clock: Clock::system(),
            on_request: None,
        }
    }

    /// The name by which the registry itself knows `repository`: on Docker Hub, `busybox` is
    /// `library/busybox`.
    #[must_use]
    pub fn canonical(&self, repository: Repository) -> Repository {
        if !self.library_prefix || repository.as_str().contains('/') {
            return repository;
        }
        // A name too long to be prefixed names nothing there either way.
        format!("library/{repository}")
            .parse()
            .unwrap_or(repository)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.host)
            .field("url", &self.url)
            .field("redirects", &self.redirects)
            .field("credentials", &self.credentials)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A certificate chain, ours first, and its private key.
pub struct ClientCertificate {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// A user and a password, or why there are none.
pub type Told = Result<(String, Secret), String>;

/// Asks whoever keeps a password for it. What it says may change, so it is asked anew whenever
/// the registry wants to know who we are.
pub type Keeper = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Told> + Send>> + Send + Sync>;

/// Who we are to an upstream.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user name and a password or access token.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Whoever the keeper of our passwords says.
    Kept(Keeper),
    /// Whoever pulls: each request is made with the credentials of the one it is made for.
    Caller,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, password } => f
                .debug_struct("Basic")
                .field("username", username)
                .field("password", password)
                .finish(),
            Self::Kept(_) => f.write_str("Kept"),
            Self::Caller => f.write_str("Caller"),
        }
    }
}

/// A text that shows in no log and no message.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The bounds on what one upstream may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest manifest in bytes; clients take no more than 4 MiB either.
    pub manifest_bytes_max: usize,
    /// The largest tag list, and the largest sum of referrers pages, in bytes.
    pub list_bytes_max: usize,
    /// The largest answer of a token service in bytes.
    pub token_bytes_max: usize,
    /// How many pages of referrers are read.
    pub pages_max: usize,
    /// How many redirects are followed in a row.
    pub redirects_max: usize,
    /// How many requests for manifests and lists may be under way.
    pub connections_max: usize,
    /// How many blobs may be under way. Counted apart, so that slow downloads cannot keep
    /// manifests out.
    pub blob_streams_max: usize,
    /// How many requests are sent in a second, on average over some seconds; more wait.
    pub requests_per_second_max: u32,
    /// For how many repositories, and callers, a token is kept.
    pub tokens_max: usize,
    /// How long a TCP connection may take.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take, with all that it takes to get one.
    pub answer_timeout: Duration,
    /// How long a body may keep us waiting for its next `body_progress_bytes_min`.
    pub body_idle_timeout: Duration,
    /// What counts as progress of a body, in bytes; so that one byte now and then does not.
    pub body_progress_bytes_min: usize,
    /// How long a manifest, a tag list or all pages of referrers may take in all, and how
    /// long a blob may take until its first byte.
    pub manifest_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes_max: 4 << 20,
            list_bytes_max: 4 << 20,
            token_bytes_max: 64 << 10,
            pages_max: 32,
            redirects_max: 3,
            connections_max: 64,
            blob_streams_max: 64,
            requests_per_second_max: 1000,
            tokens_max: 4096,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            body_progress_bytes_min: 16 << 10,
            manifest_deadline: Duration::from_secs(20),
        }
    }
}
