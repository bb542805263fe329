//! Connections: accepted up to a number, served with deadlines, drained at the end.

use std::{
    convert::Infallible,
    future::{Ready, pending, poll_fn, ready},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt as _, future::Either, stream::FuturesUnordered};
use http::{Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::authn::Certified;
use crate::authn::Seen;
use crate::server::Service;
use crate::server::Tls;
use crate::server::alarm::Alarm;
use crate::server::answer::Peer;
use crate::server::readers::Readers;
use crate::server::respond::Answer;
use crate::server::socket::{Acceptor, Socket, Told};
use crate::server::stalled::{Patience, Stalled};

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that may be open.
    pub connections_max: usize,
    /// How long the head of a request may take, a TLS handshake as well.
    pub header_read_timeout: Duration,
    /// The size of a request's head in bytes.
    pub header_bytes_max: usize,
    /// How long a client may take less than a kilobyte a second of an answer that waits for it.
    pub slow_reader_timeout: Duration,
}

/// What a client is told that began a request and did not end it in time.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A bound listener and how it is served.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: Acceptor,
    /// TLS, where there is any.
    pub tls: Option<Arc<Tls>>,
    /// Bounds.
    pub limits: Limits,
}

/// Serves pulls until `shutdown`. Connections are tasks of `tasks`: whoever owns it decides
/// how long to wait for them.
pub async fn serve(
    listener: Listener,
    service: Arc<Service>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    let Listener {
        socket,
        tls,
        limits,
    } = listener;
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut told = pin!(shutdown.cancelled());
    loop {
        // A place first: when all are taken, the kernel's queue is where clients wait.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut told => return,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut told => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let connection = Connection {
                    service: Arc::clone(&service),
                    tls: tls.clone(),
                    limits,
                    shutdown: shutdown.clone(),
                    _place: place,
                };
                tasks.spawn(connection.run(stream, client));
            }
            Err(error) => {
                // Most likely no more file descriptors: serving goes on when some are free.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who opened a connection with a certificate, and what tells that it has to be verified anew.
#[derive(Clone)]
struct Holder {
    certified: Certified,
    exchanged: watch::Receiver<()>,
}

impl Holder {
    /// Who it is, unless that has to be verified anew: a client that lets its connection linger
    /// on after an exchange is nobody there.
    fn now(&self) -> Option<Certified> {
        let outdated = self.exchanged.has_changed().unwrap_or(true);
        (!outdated).then(|| self.certified.clone())
    }
}

/// Ends when what a client's certificate was held against is exchanged; never without one.
async fn outdated(holder: Option<Holder>) {
    if let Some(mut holder) = holder
        && holder.exchanged.changed().await.is_ok()
    {
        return;
    }
    pending::<()>().await;
}

/// An answer, or the way to it: that has a large state, and most answers do without.
type Answering = Either<
    Ready<Result<Answer, Infallible>>,
    Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>,
>;

/// What the requests of one connection share.
struct Line {
    service: Arc<Service>,
    client: IpAddr,
    holder: Option<Holder>,
    seen: Seen,
    told: Told,
    /// Set while the head of a request is waited for, over HTTP/1.1.
    alarm: Alarm,
}

impl Line {
    /// Answers at once where nothing has to be waited for. Then the request is gone, and the
    /// memory that it was read into is free, before hyper reads on.
    fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering {
        self.alarm.off();
        let certified = self.holder.as_ref().and_then(Holder::now);
        let is_last = is_last(&request);
        let peer = self.peer(certified.as_ref());
        let wanted = match self.service.answer_at_once(request, peer) {
            Either::Left(answer) => {
                if is_last {
                    self.told.parting();
                }
                return Either::Left(ready(Ok(answer)));
            }
            Either::Right(wanted) => wanted,
        };
        let line = Arc::clone(self);
        Either::Right(Box::pin(async move {
            let peer = line.peer(certified.as_ref());
            Ok(line.service.answer(wanted, peer).await)
        }))
    }

    fn peer<'a>(&'a self, certificate: Option<&'a Certified>) -> Peer<'a> {
        Peer {
            client: self.client,
            certificate,
            seen: &self.seen,
        }
    }
}

/// Whether the client wants nothing more here (RFC 9112, section 9.6).
fn is_last<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let connection = headers.get(header::CONNECTION);
    connection.is_some_and(|options| options.as_bytes().eq_ignore_ascii_case(b"close"))
        // hyper leaves the end of a connection that is to become another to others.
        && !headers.contains_key(header::UPGRADE)
}

/// How the work on a connection ended.
enum Ended {
    Properly,
    BrokenOff(hyper::Error),
    /// The head of a request did not come in time.
    Late,
}

impl Ended {
    fn of(served: hyper::Result<()>) -> Self {
        served.map_or_else(Self::BrokenOff, |()| Self::Properly)
    }
}

struct Connection {
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, socket: Socket, client: SocketAddr) {
        let gauge = self.service.metrics.connections().clone();
        gauge.inc();
        let client = client.ip();
        match self.tls.clone() {
            None => {
                let line = self.line(client, None, socket.told());
                let stream = Stalled::new(socket, self.patience());
                self.http1(stream, line).await;
            }
            // Boxed: its state is large, and connections in the clear do without.
            Some(tls) => Box::pin(self.secured(&tls, socket, client)).await,
        }
        gauge.dec();
    }

    async fn secured(self, tls: &Tls, socket: Socket, client: IpAddr) {
        let told = socket.told();
        let stream = Stalled::new(socket, self.patience());
        // Before the handshake, so that no exchange within it is missed.
        let exchanged = tls.exchanged();
        let handshake = tls.acceptor().accept(stream);
        match tokio::time::timeout(self.limits.header_read_timeout, handshake).await {
            Ok(Ok(stream)) => {
                let holder = self.holder(stream.get_ref().1, exchanged);
                let line = self.line(client, holder, told);
                match stream.get_ref().1.alpn_protocol() {
                    // Boxed, as most connections do without.
                    Some(b"h2") => Box::pin(self.http2(stream, line)).await,
                    _ => self.http1(stream, line).await,
                }
            }
            Ok(Err(error)) => debug!(%client, %error, "the TLS handshake failed"),
            Err(_) => debug!(%client, "the TLS handshake took too long"),
        }
    }

    fn patience(&self) -> Patience {
        Patience::of(self.limits.slow_reader_timeout)
    }

    /// Who the TLS library says that opened this connection.
    fn holder(
        &self,
        session: &rustls::ServerConnection,
        exchanged: watch::Receiver<()>,
    ) -> Option<Holder> {
        let callers = self.service.callers.as_ref()?;
        let certificate = session.peer_certificates()?.first()?;
        let certified = callers.authn.certify(certificate)?;
        Some(Holder {
            certified,
            exchanged,
        })
    }

    fn line(&self, client: IpAddr, holder: Option<Holder>, told: Told) -> Arc<Line> {
        Arc::new(Line {
            service: Arc::clone(&self.service),
            client,
            holder,
            seen: Seen::default(),
            told,
            alarm: Alarm::new(self.limits.header_read_timeout),
        })
    }

    async fn http1<S>(self, stream: S, line: Arc<Line>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = Arc::clone(&line);
        let answer = service_fn(move |request: Request<Incoming>| asked.answer(request));
        let http = http1_within(self.limits, line.alarm.clone());
        let mut connection = http.serve_connection(TokioIo::new(stream), answer);
        let kept = line.alarm.clone().keep();
        let ended = self.drive(Pin::new(&mut connection), &line, kept).await;
        if let Ended::Late = ended {
            debug!(client = %line.client, "the head of a request took too long");
            let parts = connection.into_parts();
            // Without a word to whoever was merely silent between two requests.
            if !parts.read_buf.is_empty() {
                let mut stream = parts.io.into_inner();
                // It goes away one way or the other.
                let _ = stream.write_all(TOO_SLOW).await;
                let _ = stream.shutdown().await;
            }
        }
    }

    async fn http2<S>(self, stream: S, line: Arc<Line>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = line.client;
        let first_request_within = self.limits.header_read_timeout;
        let readers = Arc::new(Readers::new(self.patience()));
        let (watched, asked) = (Arc::clone(&readers), Arc::clone(&line));
        let answer = service_fn(move |request: Request<Incoming>| {
            let readers = Arc::clone(&watched);
            readers.asks();
            let answer = asked.answer(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| readers.watch(body))) }
        });
        let header_bytes_max = u32::try_from(self.limits.header_bytes_max).unwrap_or(u32::MAX);
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(self.limits.header_read_timeout))
            .max_concurrent_streams(128)
            .max_header_list_size(header_bytes_max)
            .serve_connection(TokioIo::new(stream), answer);
        let connection = pin!(connection);
        tokio::select! {
            _ = self.drive(connection, &line, pending()) => {}
            () = readers.stall() => debug!(%client, "a reader takes too little; it is left"),
            () = readers.silence(first_request_within) => {
                debug!(%client, "nobody asks for anything; the connection is left");
            }
        }
    }

    /// Serves until the other end has had enough, or until shutdown and what is under way, or until
    /// the line's alarm rings, if `alarm` keeps it.
    async fn drive<C>(
        &self,
        mut connection: Pin<&mut C>,
        line: &Line,
        alarm: impl Future<Output = ()>,
    ) -> Ended
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        // What hardly ever happens is looked at when it does, and not whenever a request comes; and
        // not before the connection first has to wait, as many end without.
        let mut unseen = Some([Either::Left(alarm), Either::Right(self.called_off(line))]);
        let mut rare: Option<FuturesUnordered<_>> = None;
        let ended = poll_fn(|cx| {
            let rare = match &mut rare {
                Some(rare) => rare,
                None => {
                    line.told.hurried(true);
                    let ended = connection.as_mut().poll(cx);
                    line.told.hurried(false);
                    if ended.is_ready() {
                        return ended.map(Ended::of);
                    }
                    rare.insert(unseen.take().into_iter().flatten().collect())
                }
            };
            while let Poll::Ready(Some(())) = rare.poll_next_unpin(cx) {
                connection.as_mut().graceful_shutdown();
            }
            match connection.as_mut().poll(cx) {
                // What it was set for may have come just now: then it is off.
                Poll::Pending if line.alarm.rings() => Poll::Ready(Ended::Late),
                ended => ended.map(Ended::of),
            }
        })
        .await;
        if let Ended::BrokenOff(error) = &ended {
            debug!(client = %line.client, %error, "the connection broke off");
        }
        ended
    }

    /// Ends when no more requests are to be taken here.
    async fn called_off(&self, line: &Line) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = outdated(line.holder.clone()) => {
                let client = line.client;
                debug!(%client, "the connection's certificate has to be verified anew");
            }
        }
    }
}

/// How HTTP/1.1 is spoken. Answers to requests that came at once are not collected
/// (`pipeline_flush`): for that, hyper takes all of a body into memory, however slow its reader.
fn http1_within(limits: Limits, alarm: Alarm) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(alarm)
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.header_bytes_max.max(8192));
    builder
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures_util::stream;
    use http::Response;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    // A blob was taken into memory as fast as it came, for each reader who took nothing of it.
    #[tokio::test]
    async fn a_reader_who_takes_nothing_is_handed_nothing_more() {
        let handed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&handed);
        let service = service_fn(move |_: Request<Incoming>| {
            let counted = Arc::clone(&counted);
            let frames = stream::repeat_with(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 64 << 10])))
            });
            let body = StreamBody::new(stream::StreamExt::take(frames, 1000));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let limits = Limits {
            connections_max: 1,
            header_read_timeout: Duration::from_secs(10),
            header_bytes_max: 32 << 10,
            slow_reader_timeout: Duration::from_secs(60),
        };
        let (mut reader, stream) = tokio::io::duplex(1024);
        let request = b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n";
        reader.write_all(request).await.expect("is sent");
        let connection = http1_within(limits, Alarm::new(limits.header_read_timeout))
            .serve_connection(TokioIo::new(stream), service);
        let served = tokio::time::timeout(Duration::from_millis(200), connection).await;
        served.expect_err("it waits for its reader");
        let handed = handed.load(Ordering::SeqCst);
        assert!((1..=2).contains(&handed), "{handed} frames");
    }
}
