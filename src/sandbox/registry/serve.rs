//! The wire: accepts connections, records what is asked, and sends what was answered, be it
//! fit for HTTP or not.

use std::{convert::Infallible, error::Error as _, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time,
};

use crate::sandbox::connections::accept;

use super::{
    Recorded, Shared, endpoints, locked,
    misdeed::{Answer, Delivery},
    request::Route,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What is sent past hyper, which would not send it, before the connection closes.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here, as a fault asks for")]
struct LastWords(Vec<u8>);

/// Serves until the registry is stopped; its connections end with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let stopped = shared.stopped.clone();
    accept(listener, stopped, |stream| {
        serve(stream, Arc::clone(&shared))
    })
    .await;
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers leave at once, also on connections that are used again.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| Box::pin(respond(&shared, request)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let served = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let mut stream = connection.into_parts().io.into_inner();
    let error = served.err();
    let source = error.as_ref().and_then(|error| error.source());
    if let Some(LastWords(bytes)) = source.and_then(|source| source.downcast_ref()) {
        // A client that has left cannot be told.
        let _ = stream.write_all(bytes).await;
    }
    let _ = stream.shutdown().await;
}

async fn respond(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, LastWords> {
    let (parts, _) = request.into_parts();
    let request = Recorded::new(&parts);
    let method = request.method.clone();
    locked(&shared.requests).push(request.clone());
    shared.recorded.notify_waiters();
    deliver(answer(shared, request).await, &method)
}

/// What the registry answers: the honest answer, as its faults leave it.
async fn answer(shared: &Shared, mut request: Recorded) -> Answer {
    if let Err(why) = shared.door.admit(&request) {
        return honest(shared.door.turn_away(&request, &why));
    }
    let strikes = shared.faults.strike(&request);
    for strike in &strikes {
        strike.delay().await;
        strike.divert(&mut request);
    }
    let mut answer = honest(honest_response(shared, &request));
    for strike in strikes {
        strike.spoil(shared, &request, &mut answer);
    }
    answer
}

fn honest_response(shared: &Shared, request: &Recorded) -> Response<Bytes> {
    let token = match request.route {
        Route::Token if request.method == Method::GET => shared.door.token(request),
        _ => None,
    };
    token.unwrap_or_else(|| endpoints::answer(&locked(&shared.content), &shared.options, request))
}

fn honest(response: Response<Bytes>) -> Answer {
    let delivery = Delivery::Honest;
    Answer { response, delivery }
}

fn deliver(answer: Answer, method: &Method) -> Result<Response<Body>, LastWords> {
    let (head, mut bytes) = answer.response.into_parts();
    if *method == Method::HEAD {
        bytes.clear();
    }
    let body = match answer.delivery {
        Delivery::Dropped => return Err(LastWords(Vec::new())),
        Delivery::Verbatim => {
            let mut words = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
            write_headers(&head.headers, &mut words);
            words.extend_from_slice(&bytes);
            return Err(LastWords(words));
        }
        _ if *method == Method::HEAD => Empty::new().boxed_unsync(),
        Delivery::Drip(interval) => drip(bytes, interval),
        Delivery::Zeros(count) => zeros(count),
        Delivery::Honest if head.headers.contains_key(header::CONTENT_LENGTH) => {
            Full::new(bytes).boxed_unsync()
        }
        // In a stream, whose length hyper cannot know and so does not say.
        Delivery::Honest => stream_of(stream::iter([bytes])),
    };
    Ok(Response::from_parts(head, body))
}

fn write_headers(headers: &HeaderMap, words: &mut Vec<u8>) {
    for (name, value) in headers {
        words.extend_from_slice(name.as_str().as_bytes());
        words.extend_from_slice(b": ");
        words.extend_from_slice(value.as_bytes());
        words.extend_from_slice(b"\r\n");
    }
    words.extend_from_slice(b"\r\n");
}

fn drip(bytes: Bytes, interval: Duration) -> Body {
    stream_of(stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        time::sleep(interval).await;
        let drop = rest.split_to(1);
        Some((drop, rest))
    }))
}

fn zeros(count: u64) -> Body {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    stream_of(stream::unfold(count, |left| async move {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        (size > 0).then(|| (Bytes::from_static(&ZEROS[..size]), left - size as u64))
    }))
}

fn stream_of(chunks: impl stream::Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures_util::StreamExt;
    let frames = chunks.map(|chunk| Ok(Frame::data(chunk)));
    StreamBody::new(frames).boxed_unsync()
}
