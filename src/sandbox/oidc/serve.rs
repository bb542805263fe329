//! The wire of an issuer: accepts connections, records what is asked, and answers.

use std::{convert::Infallible, future, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::sandbox::connections::accept;

use super::{DISCOVERY, KEYS, Misdeed, Shared, locked};

/// Serves until the issuer is stopped; its connections end with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let stopped = shared.stopped.clone();
    accept(listener, stopped, |stream| {
        serve(stream, Arc::clone(&shared))
    })
    .await;
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, &request).await) }
    });
    // A client that has left cannot be told.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    locked(&shared.requests).push(path.to_owned());
    shared.recorded.notify_waiters();
    let misdeed = locked(&shared.misdeed).clone();
    let below = path.strip_prefix(shared.path.as_str());
    match (misdeed, below) {
        (Some(Misdeed::Hang), _) => future::pending().await,
        (Some(Misdeed::Down), _) => answer(StatusCode::SERVICE_UNAVAILABLE, "down"),
        (Some(Misdeed::Redirect(target)), _) => {
            let mut answer = answer(StatusCode::FOUND, "elsewhere");
            if let Ok(target) = target.parse() {
                answer.headers_mut().insert(header::LOCATION, target);
            }
            answer
        }
        _ if request.method() != Method::GET => {
            answer(StatusCode::METHOD_NOT_ALLOWED, "GET is what there is")
        }
        (Some(Misdeed::NoJson), _) => answer(StatusCode::OK, "<html>sign in</html>"),
        (Some(Misdeed::LargeKeys(bytes)), Some(KEYS)) => answer(StatusCode::OK, " ".repeat(bytes)),
        (_, Some(DISCOVERY)) => answer(StatusCode::OK, shared.discovery().to_string()),
        (_, Some(KEYS)) => answer(StatusCode::OK, shared.keys().to_string()),
        _ => answer(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    answer
}
