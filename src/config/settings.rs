//! What a configuration means, once it has been read: no text is left to be looked at again.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::CallersSettings;
use crate::config::Limits;
use crate::oci::RegistryHost;
use crate::policy::Rules;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where pulls are answered.
    pub listen: SocketAddr,
    /// Where operators are answered; never the same as `listen`.
    pub admin: SocketAddr,
    /// The pull listener's certificate; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// How callers are told apart; `None`: nobody is asked, and whoever reaches the port pulls.
    pub callers: Option<CallersSettings>,
    /// The registries that are proxied; at least one.
    pub upstreams: Vec<UpstreamSettings>,
    /// The one of them that is meant by requests that name none.
    pub default_upstream: Option<RegistryHost>,
    /// All policy files together.
    pub rules: Rules,
    /// The trust roots; `public` is always among them.
    pub trust_roots: Vec<TrustRootSource>,
    /// The one of them that signers use who name none.
    pub default_trust_root: RootName,
    /// Where the last good trust roots are kept.
    pub last_good: LastGood,
    /// The caches.
    pub cache: CacheSettings,
    /// Where every decision is written to; nowhere without.
    pub audit: Option<AuditSettings>,
    /// The limits.
    pub limits: Limits,
}

/// The files of a certificate. They were there and had the right form when the configuration
/// was read; they are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// A registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The host that image names carry.
    pub host: RegistryHost,
    /// Where it listens: an http or https URL without user, query and trailing slash.
    pub url: String,
    /// Where else it listens; tried in order when it does not answer.
    pub more_urls: Vec<String>,
    /// Certificate authorities beside those of the web: the bytes of a PEM file with at least
    /// one certificate. Empty when there is none.
    pub ca: Vec<u8>,
    /// The certificate that is shown to it, where it wants one.
    pub client_certificate: Option<ClientCertificate>,
    /// How many requests it is sent in a second; the limit of all upstreams, where absent.
    pub requests_per_second_max: Option<u32>,
    /// The hosts (`name`, `*.domain`, each perhaps with a port) that blobs may be redirected
    /// to. `None`: to the same host and to public addresses.
    pub redirects: Option<Vec<String>>,
    /// Where detached GPG signatures of its images lie.
    pub lookaside: Option<LookasideSettings>,
    /// Who the proxy is to this registry.
    pub credentials: UpstreamCredentials,
    /// True where short names live under `library/`, as on Docker Hub.
    pub library_prefix: bool,
}

/// Where detached signatures lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookasideSettings {
    /// In a folder, by its absolute path.
    Folder(PathBuf),
    /// On a web server: an https URL, or http on this machine, without user and query.
    Web(String),
}

/// The proxy's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The bytes of a PEM file with the certificate and its chain.
    pub certificate: Vec<u8>,
    /// Its private key, in PEM.
    pub key: Secret,
}

/// Who the proxy is to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamCredentials {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password or access token.
    Basic {
        /// The user name; it has no colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Whoever a credential helper of docker says.
    Helper {
        /// The helper's name, without `docker-credential-`.
        name: String,
        /// What the helper calls the registry.
        server: String,
    },
    /// Whoever pulls, by the credentials of the request.
    Caller,
}

/// A text that shows in no log and no message.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A trust root and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRootSource {
    /// The name that signers use.
    pub name: RootName,
    /// Where it comes from.
    pub source: RootSource,
    /// Whether the last good one is used however long its mirror does not confirm it.
    pub unsafe_keep_stale: bool,
}

/// Where a trust root comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// What it held when the configuration was read.
        json: String,
    },
    /// Transparency logs that a policy gives itself, and that the configuration has no name for.
    Logs {
        /// Their keys.
        keys: Vec<PublicKey>,
        /// A `trusted_root.json` with these and nothing else.
        json: String,
    },
    /// One of those that are built in.
    Sigstore {
        /// Which.
        instance: SigstoreInstance,
        /// Whether its TUF repository is asked for what has changed since.
        refresh: bool,
    },
    /// A TUF repository.
    Tuf(TufSource),
}

/// A TUF repository, and where trust in it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TufSource {
    /// An http or https URL without user, query and trailing slash.
    pub mirror: String,
    /// What the file with the pinned TUF root held when the configuration was read.
    pub root: Vec<u8>,
    /// Certificate authorities beside those of the web: the bytes of a PEM file with at least
    /// one certificate. Empty when there is none.
    pub ca: Vec<u8>,
}

/// The trust roots that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigstoreInstance {
    /// Sigstore's public good instance.
    PublicGood,
    /// Sigstore's staging instance: for trying things out, never for trust.
    Staging,
    /// GitHub's own instance, which signs the attestations of private repositories.
    Github,
}

/// Where the last good trust roots are kept, for while their mirrors are away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastGood {
    /// A folder; in memory only without.
    pub directory: Option<PathBuf>,
    /// Whether they are only read there: the folder belongs to the gate that runs.
    pub read_only: bool,
}

/// Where every decision is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSettings {
    /// To stderr.
    Stderr,
    /// Into a file.
    File {
        /// Its path.
        path: PathBuf,
        /// The size at which another is begun.
        bytes_max: u64,
        /// How many there are at most, the one that is written included.
        files_max: usize,
    },
}

impl AuditSettings {
    /// The size of one file, where none is given.
    pub const BYTES_MAX: u64 = 64 << 20;
    /// The number of files, where none is given.
    pub const FILES_MAX: usize = 5;
}

/// The caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Where blobs, manifests, closure hints and the last good trust roots are kept; in memory
    /// only without.
    pub directory: Option<PathBuf>,
    /// The most that the directory may hold.
    pub disk_bytes_max: u64,
    /// The most that memory may hold.
    pub memory_bytes_max: u64,
    /// How long proven facts are used.
    pub facts_ttl: Duration,
    /// How long "no evidence found" is used.
    pub unsigned_ttl: Duration,
    /// How long a registry's yes to a caller's credentials is taken for one repository.
    pub permit_ttl: Duration,
    /// How long a tag is taken to stay where it is; zero: every pull by tag asks upstream.
    pub tag_ttl: Duration,
    /// How long a resolved tag may outlive an unreachable upstream.
    pub stale_ttl: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            directory: None,
            disk_bytes_max: 20 << 30,
            memory_bytes_max: 256 << 20,
            facts_ttl: Duration::from_secs(60 * 60),
            unsigned_ttl: Duration::from_secs(5),
            permit_ttl: Duration::from_secs(60),
            tag_ttl: Duration::from_secs(30),
            stale_ttl: Duration::from_secs(24 * 60 * 60),
        }
    }
}
