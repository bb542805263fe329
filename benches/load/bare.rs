//! The least that a cache on this stack can do: one hyper server and one moka lookup per
//! request, no verdict, no metrics, no record. `benches/load/run` measures it beside the gate,
//! so that the distance between the two is what the gate's own work costs.
//!
//! Usage: `bare ADDRESS TLS_ADDRESS CERTIFICATE KEY [NAME FILE CONTENT_TYPE]...`, each name a
//! path. Speaks HTTP/1.1 on both addresses, and on the second over TLS.

use std::{convert::Infallible, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use moka::sync::Cache;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Contents = Cache<String, (HeaderValue, Bytes)>;

/// The gate has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, tls_address, certificate, key, files @ ..] = arguments.as_slice() else {
        anyhow::bail!("an argument is missing");
    };
    let contents = Contents::new(1000);
    for file in files.chunks_exact(3) {
        let body = std::fs::read(&file[1]).with_context(|| file[1].clone())?;
        let content_type = HeaderValue::from_str(&file[2])?;
        contents.insert(file[0].clone(), (content_type, body.into()));
    }
    let acceptor = acceptor(certificate, key)?;
    let plain = TcpListener::bind(address).await?;
    let secure = TcpListener::bind(tls_address).await?;
    loop {
        let contents = contents.clone();
        tokio::select! {
            accepted = plain.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                tokio::spawn(serve(stream, contents));
            }
            accepted = secure.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let handshake = acceptor.accept(stream);
                tokio::spawn(async move {
                    if let Ok(stream) = handshake.await {
                        serve(stream, contents).await;
                    }
                });
            }
        }
    }
}

fn acceptor(certificate: &str, key: &str) -> anyhow::Result<TlsAcceptor> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)?.collect();
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, key)?;
    Ok(Arc::new(config).into())
}

async fn serve<S>(stream: S, contents: Contents)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&contents, request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    // The load generator hangs up when its time is over.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(contents: &Contents, path: &str) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    if let Some((content_type, body)) = contents.get(path) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        *response.body_mut() = Full::new(body);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
