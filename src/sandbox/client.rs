//! A client for the demo and tests: it asks as container runtimes do and shows all it got.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::oci::media_type;

/// A client of one server, over plain HTTP, with connections that are kept.
#[derive(Debug, Clone)]
pub struct Client {
    server: String,
    http: HyperClient<HttpConnector, Empty<Bytes>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or what came of it before the connection broke off.
    pub body: Bytes,
    /// False when the connection broke off within the body.
    pub complete: bool,
}

impl Answer {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The message of an OCI error body, as clients show it.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(body["errors"][0]["message"].as_str()?.to_owned())
    }
}

impl Client {
    /// A client of the server at `server`: a host and a port.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers have an address or a text, and hand over either"
    )]
    pub fn new(server: impl ToString) -> Self {
        let http = HyperClient::builder(TokioExecutor::new()).build_http();
        Self {
            server: server.to_string(),
            http,
        }
    }

    /// GETs a path with the list of types that clients accept.
    ///
    /// # Errors
    /// When there is no answer at all.
    pub async fn get(&self, path: &str) -> Result<Answer, hyper_util::client::legacy::Error> {
        self.ask(Method::GET, path, &[]).await
    }

    /// Sends a request with these headers beside the usual ones.
    ///
    /// # Errors
    /// When there is no answer at all.
    ///
    /// # Panics
    /// When path or headers form no request.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server))
            .header(header::ACCEPT, media_type::ACCEPT_MANIFESTS);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        #[expect(
            clippy::expect_used,
            reason = "a test or the demo wrote what is no request"
        )]
        let request = request.body(Empty::new()).expect("a request");
        let (parts, mut incoming) = self.http.request(request).await?.into_parts();
        let (mut body, mut complete) = (Vec::new(), true);
        while let Some(frame) = incoming.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(bytes)) => body.extend_from_slice(&bytes),
                Ok(Err(_)) => {}
                Err(_) => complete = false,
            }
        }
        let (status, headers) = (parts.status, parts.headers);
        Ok(Answer {
            status,
            headers,
            body: body.into(),
            complete,
        })
    }
}
