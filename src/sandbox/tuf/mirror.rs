//! A web server with the files of a repository, and with whatever else a test puts there.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::sandbox::connections::accept;

use super::Repository;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a path is answered with.
#[derive(Debug, Clone)]
pub enum Served {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A status without a body.
    Status(u16),
    /// A redirect.
    Redirect(String),
    /// Zeros without an end.
    Endless,
    /// Nothing, and the connection stays open.
    Silence,
}

/// A running mirror; it stops when it is dropped.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stopped: DropGuard,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Served>>,
    /// Every path that was asked for.
    asked: Mutex<Vec<String>>,
    down: std::sync::atomic::AtomicBool,
}

impl Mirror {
    /// Starts one on a free port, with nothing on it.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (shared, stopped) = (Arc::<Shared>::default(), CancellationToken::new());
        let served = Arc::clone(&shared);
        let serving = accept(listener, stopped.clone(), move |stream| {
            serve(stream, Arc::clone(&served))
        });
        TaskTracker::new().spawn(serving);
        Ok(Self {
            address,
            shared,
            _stopped: stopped.drop_guard(),
        })
    }

    /// Its URL, with a path in front of the files.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/tuf", self.address)
    }

    /// Serves the files of `repository` and no others.
    pub fn serve(&self, repository: &Repository) {
        let files = repository.files.iter();
        let files = files.map(|(name, bytes)| (name.clone(), Served::Bytes(bytes.clone())));
        *locked(&self.shared.files) = files.collect();
    }

    /// Answers one name otherwise.
    pub fn put(&self, name: &str, served: Served) {
        locked(&self.shared.files).insert(name.to_owned(), served);
    }

    /// Whether the mirror is there; while it is not, it hangs up on whoever comes.
    pub fn down(&self, down: bool) {
        self.shared
            .down
            .store(down, std::sync::atomic::Ordering::SeqCst);
    }

    /// The names that were asked for so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        locked(&self.shared.asked).clone()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let answer = service_fn(|request| answer(&shared, request));
    // A mirror that is down, or a client that has left.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    if shared.down.load(std::sync::atomic::Ordering::SeqCst) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let path = request.uri().path();
    let name = path.strip_prefix("/tuf/").unwrap_or(path).to_owned();
    locked(&shared.asked).push(name.clone());
    let served = locked(&shared.files).get(&name).cloned();
    let mut answer = Response::new(Full::default().boxed_unsync());
    match served.unwrap_or(Served::Status(404)) {
        Served::Bytes(bytes) => *answer.body_mut() = Full::from(bytes).boxed_unsync(),
        Served::Status(status) => {
            *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        }
        Served::Redirect(to) => {
            *answer.status_mut() = StatusCode::FOUND;
            if let Ok(to) = to.parse() {
                answer.headers_mut().insert(header::LOCATION, to);
            }
        }
        Served::Endless => {
            let zeros = stream::repeat(Bytes::from_static(&[0; 4096]));
            let frames = zeros.map(|bytes| Ok(Frame::data(bytes)));
            *answer.body_mut() = StreamBody::new(frames).boxed_unsync();
        }
        Served::Silence => future::pending().await,
    }
    Ok(answer)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
