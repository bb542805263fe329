//! The operators' listener: health, readiness, metrics, decisions. Never on the pull listener.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::audit::Decisions;
use crate::audit::Record;
use crate::metrics::Metrics;

/// The decisions that are listed where nobody says how many.
const LISTED_BY_DEFAULT: usize = 100;
/// How long an operator's request may take to arrive.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether pulls can be answered: told by `app`, asked by `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

const BOUND: u8 = 1;
const TRUSTED: u8 = 2;
const DRAINING: u8 = 4;

impl Readiness {
    /// Policies are loaded, and the pull listener is bound.
    pub fn bound(&self) {
        self.0.fetch_or(BOUND, Ordering::AcqRel);
    }

    /// Every trust root has been there once. One that goes away later leaves the gate ready: it
    /// may come back, and the others serve.
    pub fn trusted(&self) {
        self.0.fetch_or(TRUSTED, Ordering::AcqRel);
    }

    /// No more pulls, please.
    pub fn draining(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }

    fn why_not(&self) -> Option<&'static str> {
        let state = self.0.load(Ordering::Acquire);
        if state & DRAINING != 0 {
            Some("draining: the process has been told to stop")
        } else if state & BOUND == 0 {
            Some("starting: policies and trust roots are not loaded yet")
        } else if state & TRUSTED == 0 {
            Some(
                "starting: a trust root was never had from its mirror (the log and \
                 pullgate_trust_root_usable say which)",
            )
        } else {
            None
        }
    }
}

/// What operators are answered with.
#[derive(Debug)]
pub struct Service {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// The record of decisions.
    pub decisions: Arc<Decisions>,
    /// Whether pulls can be answered.
    pub readiness: Arc<Readiness>,
}

/// Serves operators until `shutdown`.
pub async fn serve(
    socket: TcpListener,
    service: Arc<Service>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
        tasks.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = service.answer(request.method(), request.uri());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    debug!(%error, "an operator's connection broke off");
                },
                () = shutdown.cancelled() => {}
            }
        });
    }
}

impl Service {
    fn answer(&self, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "GET and HEAD are served here\n",
            );
        }
        match uri.path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.readiness.why_not() {
                None => text(StatusCode::OK, "ready\n"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
            "/metrics" => match self.metrics.render() {
                Ok(metrics) => typed(StatusCode::OK, "text/plain; version=0.0.4", metrics),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
            "/decisions" => self.decisions(uri.query().unwrap_or_default()),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz, /metrics and /decisions?limit=N\n",
            ),
        }
    }

    fn decisions(&self, query: &str) -> Response<Full<Bytes>> {
        let limit = form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "limit")
            .map_or(Ok(LISTED_BY_DEFAULT), |(_, value)| value.parse());
        match limit {
            Ok(limit) => {
                let records: Vec<Value> = self
                    .decisions
                    .latest(limit)
                    .iter()
                    .map(Record::to_json)
                    .collect();
                typed(
                    StatusCode::OK,
                    "application/json",
                    json!(records).to_string(),
                )
            }
            Err(_) => text(StatusCode::BAD_REQUEST, "limit is a number\n"),
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
