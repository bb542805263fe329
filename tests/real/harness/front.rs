//! What stands before a registry and writes down who asked for what.
//!
//! Images are named after the front, and a client that is not sealed would reach it by that
//! name. So what the front saw is what the original registry saw.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header::USER_AGENT;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Runtime;

use crate::harness::web;

/// One request that arrived: who the client says it is, and what it asked for.
type Seen = (String, String);

/// A recording reverse proxy.
pub(crate) struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Front {
    /// Starts one before the registry at `origin`.
    pub(crate) fn before(origin: SocketAddr, runtime: &Runtime) -> Self {
        let (listener, address) = web::listen(runtime);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&seen);
        let client = Client::builder(TokioExecutor::new()).build_http();
        runtime.spawn(web::serve(listener, move |request| {
            write_down(&book, &request);
            forward(client.clone(), origin, request)
        }));
        Self { address, seen }
    }

    /// The registry's host and port, as image names carry it.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Forgets what arrived so far.
    pub(crate) fn forget(&self) {
        self.seen.lock().expect("the book").clear();
    }

    /// Everything that arrived and did not come from the gate.
    pub(crate) fn strangers(&self) -> Vec<Seen> {
        let seen = self.seen.lock().expect("the book");
        seen.iter()
            .filter(|(user_agent, _)| !user_agent.starts_with("pullgate/"))
            .cloned()
            .collect()
    }
}

fn write_down(book: &Mutex<Vec<Seen>>, request: &Request<Incoming>) {
    let user_agent = request.headers().get(USER_AGENT);
    let user_agent = user_agent.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    });
    let line = format!("{} {}", request.method(), request.uri());
    book.lock().expect("the book").push((user_agent, line));
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    origin: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{origin}{path}")
        .parse::<Uri>()
        .expect("a path that was parsed already");
    let is_head = request.method() == hyper::Method::HEAD;
    let Ok(response) = client.request(request).await else {
        return web::status(StatusCode::BAD_GATEWAY);
    };
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return web::status(StatusCode::BAD_GATEWAY);
    };
    if !is_head {
        parts.headers.remove("transfer-encoding");
    }
    Response::from_parts(parts, Full::new(body.to_bytes()))
}
