//! What can go wrong between here and a registry.

use std::{fmt, time::Duration};

use crate::oci::Digest;
use crate::oci::RegistryHost;

/// Why an upstream gave no usable answer. No variant ever carries a credential, a token or
/// the query of a URL (presigned storage URLs are secrets).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// 404: the repository, manifest or blob is not there; or the registry hides from these
    /// credentials that it is. For referrers: the registry has no referrers API.
    #[error("the registry does not have it")]
    NotFound,
    /// 401 or 403 even after the token flow: the configured credentials are wrong, expired or
    /// may not read this repository, or there are none and the repository is private. Some
    /// registries answer so for repositories that do not exist.
    #[error("{host} refused the configured credentials (status {status})")]
    Unauthorized {
        /// The upstream.
        host: RegistryHost,
        /// 401 or 403; the token endpoint's status where the token was refused.
        status: u16,
    },
    /// Whoever keeps our password for this registry did not tell it.
    #[error("there are no credentials for {host}: {why}")]
    NoCredentials {
        /// The upstream.
        host: RegistryHost,
        /// What the keeper said, or why it said nothing.
        why: String,
    },
    /// The registry sent its clients to a token service that does not belong to it. It got no
    /// request and no credentials. Either the registry is set up oddly, or it is not the
    /// registry (CVE-2026-33540).
    #[error("{host} names the token service {realm:?}, which is not asked: {reason}")]
    ForeignRealm {
        /// The upstream.
        host: RegistryHost,
        /// The host of the token service, or the whole realm where it has none.
        realm: String,
        /// Why it does not belong to the upstream.
        reason: RealmRefusal,
    },
    /// 429: too many requests by this address or these credentials.
    #[error("the registry limits the rate of requests")]
    RateLimited {
        /// How long the registry asks to wait, where it says so.
        retry_after: Option<Duration>,
    },
    /// The name does not resolve, nothing listens, the certificate does not fit, or the
    /// connection broke, perhaps in the middle of a body.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable {
        /// The host that was asked: the upstream, its token service or its storage.
        host: String,
        /// What the network said.
        cause: String,
    },
    /// Something took longer than its limit: a registry that is overloaded, hangs or drips.
    #[error("{host} took longer than {} ms {stage}", after.as_millis())]
    TimedOut {
        /// The upstream.
        host: RegistryHost,
        /// What was waited for.
        stage: Stage,
        /// The limit.
        after: Duration,
    },
    /// A status with no meaning of its own here: mostly 5xx, the registry's own trouble.
    #[error("the registry answered with status {0}")]
    Status(u16),
    /// The document is larger than its limit.
    #[error("the document is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The registry sent other bytes than were asked for by digest: a corrupt store, a broken
    /// cache in between, or an attack.
    #[error("the registry was asked for {expected} and sent {found}")]
    WrongBytes {
        /// What was asked for.
        expected: Box<Digest>,
        /// The digest of what came.
        found: Box<Digest>,
    },
    /// The answer breaks the protocol: something in between rewrites it, or it is no registry.
    #[error("the registry's answer cannot be used: {0}")]
    Malformed(MalformedAnswer),
    /// The folder with detached signatures is not there, or may not be read.
    #[error("the lookaside store cannot be read: {0}")]
    Lookaside(String),
    /// The registry redirected to where this proxy does not go.
    #[error("a redirect to {to:?} is not followed: {reason}")]
    RefusedRedirect {
        /// The host of the target, or a note that there is none.
        to: String,
        /// Why not.
        reason: RedirectRefusal,
    },
}

impl UpstreamError {
    /// True when asking again later may help without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Status(status) => *status >= 500,
            Self::NotFound
            | Self::Unauthorized { .. }
            | Self::NoCredentials { .. }
            | Self::ForeignRealm { .. }
            | Self::TooLarge { .. }
            | Self::WrongBytes { .. }
            | Self::Malformed(_)
            | Self::Lookaside(_)
            | Self::RefusedRedirect { .. } => false,
        }
    }
}

/// What was waited for when the time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A free place among the requests that may be under way to this upstream.
    Queue,
    /// A connection and the head of an answer.
    Answer,
    /// More bytes of a body.
    Body,
    /// A whole document, with all that it took: tokens, redirects, pages.
    Document,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "to get to this request: too many are under way",
            Self::Answer => "to answer",
            Self::Body => "to send more of the body",
            Self::Document => "to deliver the whole document",
        })
    }
}

/// How an answer breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedAnswer {
    /// No HTTP, headers that are too large, or lengths that contradict each other.
    #[error("its head is not one of HTTP, or too large")]
    Head,
    /// Bytes are passed on as they are hashed, so a Content-Encoding other than `identity`,
    /// which was asked for, has no place.
    #[error("it is compressed (Content-Encoding) although that was not asked for")]
    Encoded,
    /// A 206 that was not asked for, or for another range than was asked for.
    #[error("it is for another range of bytes than was asked for")]
    Range,
    /// The body of a token, tag list or referrers answer is not the JSON it should be.
    #[error("it is not the JSON that the distribution specification asks for")]
    Json,
    /// The first page of a list came, and a further one is not there.
    #[error("a further page of the list is missing")]
    Page,
    /// The token contains characters that no header can carry.
    #[error("its token cannot be sent in a header")]
    Token,
    /// A path or query that does not form a URL.
    #[error("its address does not form a URL")]
    Address,
}

/// Why a token service does not belong to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RealmRefusal {
    /// Not an http or https URL with a host, or with a user name in front of the host.
    #[error("it is not a plain http or https URL")]
    NotAnUrl,
    /// The realm would carry credentials in the clear.
    #[error("it is not https")]
    Plain,
    /// Neither the registry's own host nor a sibling under the same registered domain.
    #[error("it does not belong to the registry")]
    Foreign,
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectRefusal {
    /// There is no Location, or none that parses as an absolute URL or path.
    #[error("it has no usable Location")]
    Location,
    /// `data:`, `file:` and the like, or a user name in front of the host.
    #[error("it is not a plain http or https URL")]
    NotAnUrl,
    /// From https to http.
    #[error("it leads from https to http")]
    Plain,
    /// Only blobs may come from another host than the registry.
    #[error("only blobs may be fetched from another host than the registry")]
    AnotherHost,
    /// The upstream's list of `redirects` does not have the host.
    #[error("the host is not among the `redirects` of this upstream")]
    NotListed,
    /// The host is, or resolves to, an address of an internal network, this machine or a
    /// metadata service. Storage in one's own network has to be listed under `redirects`.
    #[error("its address is not public; list the host under `redirects` of this upstream")]
    NotPublic,
    /// More redirects in a row than `redirects_max`.
    #[error("there are too many redirects in a row")]
    TooMany,
}
