//! From the configuration of an upstream, and the proxy that the environment names, to its client.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::app::helper;
use crate::clock::Clock;
use crate::config;
use crate::config::LookasideSettings;
use crate::config::UpstreamCredentials;
use crate::config::UpstreamSettings;
use crate::metrics::Metrics;
use crate::upstream;
use crate::upstream::Upstream;

/// A client of one registry.
pub(super) fn build(
    from: &UpstreamSettings,
    settings: &config::Settings,
    proxy: Option<&Arc<upstream::Proxy>>,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Upstream> {
    let context = || format!("upstreams.{}", from.host);
    let extra_roots = CertificateDer::pem_slice_iter(&from.ca)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(context)?;
    let redirects = match &from.redirects {
        None => upstream::Redirects::PublicAddresses,
        Some(hosts) => upstream::Redirects::Listed(
            hosts
                .iter()
                .map(|host| host.parse())
                .collect::<Result<Vec<_>, _>>()
                .with_context(context)?,
        ),
    };
    let limits = &settings.limits;
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let counted = Arc::clone(metrics);
    let lowered = upstream::Settings {
        url: from.url.parse().with_context(context)?,
        more_urls: from
            .more_urls
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, _>>()
            .with_context(context)?,
        client_certificate: client_certificate(from).with_context(context)?,
        proxy: proxy.cloned(),
        library_prefix: from.library_prefix,
        extra_roots,
        redirects,
        lookaside: match &from.lookaside {
            None => None,
            Some(LookasideSettings::Folder(folder)) => {
                Some(upstream::Lookaside::Folder(folder.clone()))
            }
            Some(LookasideSettings::Web(url)) => {
                Some(upstream::Lookaside::Web(url.parse().with_context(context)?))
            }
        },
        credentials: match &from.credentials {
            UpstreamCredentials::Anonymous => upstream::Credentials::Anonymous,
            UpstreamCredentials::Basic { username, password } => upstream::Credentials::Basic {
                username: username.clone(),
                password: upstream::Secret::new(password.expose()),
            },
            UpstreamCredentials::Caller => upstream::Credentials::Caller,
            UpstreamCredentials::Helper { name, server } => {
                upstream::Credentials::Kept(helper::keeper(name, server))
            }
        },
        limits: upstream::Limits {
            manifest_bytes_max: bytes(limits.manifest_bytes_max),
            connections_max: limits.upstream_connections_max,
            blob_streams_max: limits.upstream_connections_max,
            requests_per_second_max: from.requests_per_second_max.unwrap_or_else(|| {
                u32::try_from(limits.upstream_requests_per_second_max).unwrap_or(u32::MAX)
            }),
            connect_timeout: limits.connect_timeout,
            answer_timeout: limits.answer_timeout,
            body_idle_timeout: limits.idle_timeout,
            manifest_deadline: limits.manifest_deadline.max(Duration::from_secs(1)),
            ..upstream::Limits::default()
        },
        clock: clock.clone(),
        on_request: Some(Arc::new(move |host, status| {
            counted.upstream_requested(host.as_str(), status);
        })),
        ..upstream::Settings::known(from.host.clone())
    };
    Upstream::new(lowered).with_context(context)
}

/// The certificate that we show to an upstream.
fn client_certificate(
    from: &UpstreamSettings,
) -> anyhow::Result<Option<upstream::ClientCertificate>> {
    let Some(config::ClientCertificate { certificate, key }) = &from.client_certificate else {
        return Ok(None);
    };
    let unusable = |error: rustls::pki_types::pem::Error| anyhow::anyhow!("{error}");
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    Ok(Some(upstream::ClientCertificate {
        chain: chain.map_err(unusable).context("client_certificate")?,
        key: key.map_err(unusable).context("client_certificate.key")?,
    }))
}

/// The proxy that the environment names, as every program of a machine shares it. Messages do
/// not repeat its address, which may hold a password. Exceptions that cannot be read are told and
/// skipped: what others put there is no reason not to start.
pub(super) fn proxy() -> anyhow::Result<Option<Arc<upstream::Proxy>>> {
    let value = |name: &str| {
        let either = [name.to_owned(), name.to_ascii_lowercase()];
        let mut values = either.iter().filter_map(|name| std::env::var(name).ok());
        values.find(|value| !value.is_empty())
    };
    let Some(address) = value("HTTPS_PROXY") else {
        return Ok(None);
    };
    let exceptions = value("NO_PROXY").unwrap_or_default();
    let proxy = upstream::Proxy::parse(&address, &exceptions).context("HTTPS_PROXY")?;
    let skipped = proxy.unreadable_exceptions();
    if !skipped.is_empty() {
        tracing::warn!(
            ?skipped,
            "entries of NO_PROXY are skipped: with a `/`, only blocks of addresses are read"
        );
    }
    Ok(Some(Arc::new(proxy)))
}
