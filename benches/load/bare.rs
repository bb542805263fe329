//! The least that a cache on this stack can do: one hyper server and one moka lookup per
//! request, no verdict, no metrics, no record. `benches/load/run` measures it beside the gate,
//! so that the distance between the two is what the gate's own work costs.
//!
//! Usage: `bare ADDRESS NAME FILE CONTENT_TYPE [NAME FILE CONTENT_TYPE]...`, each name a path.

use std::convert::Infallible;

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
use tokio::net::TcpListener;

type Contents = Cache<String, (HeaderValue, Bytes)>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, files) = arguments.split_first().context("an address is missing")?;
    let contents = Contents::new(1000);
    for file in files.chunks_exact(3) {
        let body = std::fs::read(&file[1]).with_context(|| file[1].clone())?;
        let content_type = HeaderValue::from_str(&file[2])?;
        contents.insert(file[0].clone(), (content_type, body.into()));
    }
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(TokioIo::new(stream), contents.clone()));
    }
}

async fn serve(stream: TokioIo<tokio::net::TcpStream>, contents: Contents) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&contents, request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    // The load generator hangs up when its time is over.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(stream, service)
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
