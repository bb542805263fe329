//! The operators' listener: health, readiness, metrics, decisions. Never on the pull listener.

use std::{
    convert::Infallible,
    io,
    pin::pin,
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
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::audit::Decisions;
use crate::audit::Record;
use crate::metrics::Metrics;

/// The decisions that are listed where nobody says how many.
const LISTED_BY_DEFAULT: usize = 100;
/// Bounds on operators' connections.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How many may be open.
    connections_max: usize,
    /// How long a request may take to arrive.
    header_read_timeout: Duration,
    /// How long a connection is kept.
    connection_max: Duration,
    /// How long one is kept beyond that for the answer that is under way: who takes none of it
    /// holds a place no longer.
    answer_max: Duration,
}

/// Some dashboards and a probe or two. What pulls need is not theirs to take.
const LIMITS: Limits = Limits {
    connections_max: 500,
    header_read_timeout: Duration::from_secs(10),
    connection_max: Duration::from_secs(30),
    answer_max: Duration::from_secs(10),
};

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
    serve_within(LIMITS, socket, service, shutdown, tasks).await;
}

async fn serve_within(
    limits: Limits,
    socket: TcpListener,
    service: Arc<Service>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&socket, &places) => accepted,
            () = shutdown.cancelled() => return,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
        tasks.spawn(async move {
            let _place = place;
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = service.answer(request.method(), request.uri());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_read_timeout)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                ended = drive(limits, connection) => if let Err(error) = ended {
                    debug!(%error, "an operator's connection broke off");
                },
                () = shutdown.cancelled() => {}
            }
        });
    }
}

/// The next connection, when there is a place for it: others wait in the kernel's queue.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    // Nobody closes it.
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = socket.accept().await?;
    Ok((stream, place))
}

/// Serves until the other end has had enough, or for as long as a connection is kept.
async fn drive<C>(limits: Limits, connection: C) -> Result<(), hyper::Error>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    if let Ok(ended) = tokio::time::timeout(limits.connection_max, connection.as_mut()).await {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    let ended = tokio::time::timeout(limits.answer_max, connection).await;
    ended.unwrap_or(Ok(()))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    // THREATS D4: who asks for much and takes none of it holds a place for a while, and no more.
    #[tokio::test]
    async fn who_takes_no_answer_holds_no_place_for_long() {
        let limits = Limits {
            connections_max: 2,
            header_read_timeout: Duration::from_secs(60),
            connection_max: Duration::from_millis(100),
            answer_max: Duration::from_millis(100),
        };
        let service = Arc::new(Service {
            metrics: Arc::new(Metrics::new().expect("metrics")),
            decisions: Arc::new(Decisions::new(10, 7)),
            readiness: Arc::default(),
        });
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let serving = serve_within(limits, socket, service, shutdown.clone(), tasks.clone());
        let serving = tasks.spawn(serving);
        let mut greedy = Vec::new();
        for _ in 0..limits.connections_max {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let asks = b"GET /metrics HTTP/1.1\r\nhost: gate.test\r\n\r\n".repeat(20_000);
            // The kernel takes some of it, and nobody the rest.
            let asked = stream.write_all(&asks);
            let _ = tokio::time::timeout(Duration::from_millis(50), asked).await;
            greedy.push(stream);
        }
        let probe = async {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let asks = b"GET /healthz HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n";
            stream.write_all(asks).await.expect("is sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let answer = tokio::time::timeout(PATIENCE, probe).await;
        let answer = answer.expect("a place is free again");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        shutdown.cancel();
        serving.await.expect("it ends");
    }
}
