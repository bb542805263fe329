//! The HTTP clients of one upstream: TLS, name resolution, connection pools.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client as LegacyClient,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tower_service::Service;

use super::{BuildError, ClientCertificate, Lookaside, Settings, address, road::Road};

pub(super) type Client = LegacyClient<HttpsConnector<Road>, Empty<Bytes>>;

/// How many unused connections are kept per host, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 16;
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// The largest head of an answer, and what is read from a connection at once.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// What an HTTP/2 stream may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;

/// The clients of one upstream. They are apart since connections are pooled per client: slow
/// readers of blobs must not hold up manifests on a shared HTTP/2 connection, and a
/// connection to an unchecked address must not serve a redirect that asks for a public one.
pub(super) struct Clients {
    /// For manifests, lists and tokens.
    pub(super) documents: Client,
    /// For blobs from the registry itself.
    pub(super) blobs: Client,
    /// For blobs from listed hosts, which are not shown the certificate that the registry is.
    pub(super) listed: Client,
    /// For blobs from hosts that nobody listed, likewise: connects to public addresses only.
    pub(super) public: Client,
    /// For detached signatures, which have an address of their own.
    pub(super) lookaside: Client,
}

impl Clients {
    pub(super) fn new(settings: &Settings) -> Result<Self, BuildError> {
        let secure = settings.url.origin().is_secure();
        let known = tls(settings, settings.client_certificate.as_ref())?;
        let unknown = tls(settings, None)?;
        let client = |tls: &ClientConfig, public_only, streams, secure| {
            client(settings, tls.clone(), public_only, streams, secure)
        };
        let streams = settings.limits.blob_streams_max;
        let documents = settings.limits.connections_max;
        let lookaside = match &settings.lookaside {
            Some(Lookaside::Web(base)) => base.origin().is_secure(),
            Some(Lookaside::Folder(_)) | None => true,
        };
        Ok(Self {
            documents: client(&known, false, documents, secure),
            blobs: client(&known, false, streams, secure),
            listed: client(&unknown, false, streams, secure),
            public: client(&unknown, true, streams, secure),
            lookaside: client(&unknown, false, documents, lookaside),
        })
    }
}

fn tls(
    settings: &Settings,
    certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, BuildError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for certificate in &settings.extra_roots {
        roots
            .add(certificate.clone())
            .map_err(BuildError::Certificate)?;
    }
    // The provider is passed along: the process-wide default belongs to nobody.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?
        .with_root_certificates(roots);
    match certificate {
        None => Ok(config.with_no_client_auth()),
        Some(ClientCertificate { chain, key }) => config
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(BuildError::ClientCertificate),
    }
}

fn client(
    settings: &Settings,
    tls: ClientConfig,
    public_only: bool,
    streams: usize,
    secure: bool,
) -> Client {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { public_only });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(settings.limits.connect_timeout));
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    let builder = if secure {
        builder.https_only()
    } else {
        builder.https_or_http()
    };
    let connector = builder.enable_all_versions().wrap_connector(Road {
        tcp,
        proxy: settings.proxy.clone(),
        public_only,
    });
    // The connection's window holds a full window of every stream that may be open, so that
    // no reader can use up another's.
    let window = u64::from(STREAM_WINDOW_BYTES).saturating_mul(streams as u64);
    let window = u32::try_from(window)
        .unwrap_or(u32::MAX)
        .min(MAX_WINDOW_BYTES);
    LegacyClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .http2_max_header_list_size(HEAD_BYTES_MAX as u32)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(window)
        .http2_keep_alive_interval(PING_INTERVAL)
        .build(connector)
}

/// The largest window that HTTP/2 knows (RFC 9113, 6.9.1).
const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Resolves names, and where told so refuses those that have any address inside. What it
/// returns is what is connected to, so a name that changes its address between two look-ups
/// gains nothing.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    public_only: bool,
}

#[derive(Debug)]
pub(super) enum ResolveError {
    Lookup(io::Error),
    NotPublic,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(error) => error.fmt(f),
            Self::NotPublic => f.write_str("the name has an address that is not public"),
        }
    }
}

impl std::error::Error for ResolveError {}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let public_only = self.public_only;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(ResolveError::Lookup)?
                .collect();
            if public_only && !addresses.iter().all(|found| address::is_public(found.ip())) {
                return Err(ResolveError::NotPublic);
            }
            Ok(addresses.into_iter())
        })
    }
}
