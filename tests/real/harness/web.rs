//! The smallest HTTP server and client that the harness gets by with.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::harness::process;

/// A listener on any free port of loopback.
pub(crate) fn listen(runtime: &Runtime) -> (TcpListener, SocketAddr) {
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a port on loopback");
    let address = listener.local_addr().expect("a bound listener");
    (listener, address)
}

/// Answers every request of every connection with `handler`, until the runtime ends.
pub(crate) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, handler.clone()));
    }
}

/// Answers every request of one connection.
pub(crate) async fn answer<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    // A client that hangs up is no event in a test.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A JSON answer.
pub(crate) fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    Response::builder()
        .header("Content-Type", "application/json")
        .body(Full::from(value.to_string()))
        .expect("a response")
}

/// An answer with a status and nothing else.
pub(crate) fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// The body of a GET that has to be answered with 2xx, asked for as cosign would.
pub(crate) fn fetch(url: &str) -> Vec<u8> {
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json, \
                  application/vnd.oci.image.index.v1+json, */*";
    let finished = process::run(curl().args(["--fail-with-body", "--header", accept, url]));
    assert!(finished.success, "GET {url}: {}", finished.said);
    finished.stdout
}

/// Whether a GET is answered with 2xx.
pub(crate) fn answers(url: &str) -> bool {
    process::run(curl().args(["--fail", url])).success
}

fn curl() -> Command {
    let mut command = process::command("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]);
    command
}
