//! Sockets that join the reactor when they first have to wait.
//!
//! Many clients open a connection for each request (podman, skopeo, dockerd), and by the time that
//! it is accepted the request is there and the answer fits. To tell the kernel that such a socket
//! is to be watched, to hear from it, and to take that back, costs more than the answer. And the
//! last answer leaves with the end of the connection, in one segment.

use std::{
    io::{self, Write as _},
    mem,
    net::{self, SocketAddr},
    os::fd::OwnedFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

// `sockopt_impl` is written with the two before it.
use nix::{libc, setsockopt_impl, sockopt_impl, sys::socket::SetSockOpt as _};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recv, send, sockopt};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream},
    task::coop::poll_proceed,
};

/// As many bytes are read at a time before a socket is watched. hyper has room for as many: a request
/// with a small body that nobody wants is taken at once, and its connection goes on.
const FIRST_BYTES_MAX: usize = 8 << 10;

/// How long the kernel keeps a connection on which nothing was said to itself, in seconds: until it
/// has asked once more, to be exact. Clients of HTTP and TLS speak first, so that a connection is
/// accepted together with its request.
const SILENT_SECONDS: u32 = 1;

sockopt_impl!(
    /// The option for that (tcp(7), `TCP_DEFER_ACCEPT`).
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);

/// A listening socket whose connections are not watched yet.
#[derive(Debug)]
pub struct Acceptor {
    /// In the runtime's type for what is watched and no more: its listener watches whatever it
    /// accepts, and `AsyncFd` is for unsafe code only.
    listening: TcpStream,
}

impl Acceptor {
    /// Takes over a bound listener, within a runtime.
    ///
    /// # Errors
    /// When the kernel does not let it be watched any more: it is out of memory.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        // Small answers leave at once: connections have this from their listener. Failing to ask
        // for either is no reason to refuse any.
        let _ = sockopt::set_tcp_nodelay(&listener, true);
        let _ = DeferAccept.set(&listener, &SILENT_SECONDS);
        let socket = OwnedFd::from(listener.into_std()?);
        let listening = TcpStream::from_std(socket.into())?;
        Ok(Self { listening })
    }

    /// The next connection and its other end.
    pub(super) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accept = || Ok(acceptfrom_with(&self.listening, flags)?);
        let (socket, client) = self.listening.async_io(Interest::READABLE, accept).await?;
        let client = client.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((Socket::new(socket.into()), client.try_into()?))
    }
}

/// What a socket is told by those who know what it is used for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    parting: AtomicBool,
    hurried: AtomicBool,
}

impl Told {
    /// The answer that is written next is the last one. That it leaves together with the end of the
    /// connection is all that follows: said in vain, its last part leaves a fraction of a second late
    /// (send(2), `MSG_MORE`).
    pub(super) fn parting(&self) {
        self.0.parting.store(true, Ordering::Relaxed);
    }

    /// From now on, or not any more, what would have to wait is not waited for: it is pending, and
    /// wakes nobody. Whoever hurried is to try again when nobody hurries.
    pub(super) fn hurried(&self, hurried: bool) {
        self.0.hurried.store(hurried, Ordering::Relaxed);
    }

    fn is_hurried(&self) -> bool {
        self.0.hurried.load(Ordering::Relaxed)
    }

    fn flags(&self) -> SendFlags {
        if self.0.parting.load(Ordering::Relaxed) {
            SendFlags::NOSIGNAL | SendFlags::MORE
        } else {
            SendFlags::NOSIGNAL
        }
    }
}

/// A connection's socket.
#[derive(Debug)]
pub(super) struct Socket {
    state: State,
    told: Told,
}

#[derive(Debug)]
enum State {
    /// No operation had to wait yet.
    Unwatched {
        socket: net::TcpStream,
        /// Whether the last read left nothing.
        drained: bool,
    },
    /// The reactor has it.
    Watched(TcpStream),
    /// The kernel did not let it be watched.
    Lost,
}

impl Socket {
    /// Of a socket that does not block.
    fn new(socket: net::TcpStream) -> Self {
        let state = State::Unwatched {
            socket,
            drained: false,
        };
        Self {
            state,
            told: Told::default(),
        }
    }

    /// How to tell it something.
    pub(super) fn told(&self) -> Told {
        self.told.clone()
    }

    /// Tries an operation without the reactor. `None` where this is for the reactor: the socket is
    /// watched, or has to be.
    fn at_once<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(&net::TcpStream, &mut bool) -> io::Result<T>,
    ) -> Poll<Option<io::Result<T>>> {
        let State::Unwatched { socket, drained } = &mut self.state else {
            return Poll::Ready(None);
        };
        // As with the reactor: a task that never has to wait lets others go on all the same.
        let turn = ready!(poll_proceed(cx));
        match operation(socket, drained) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.told.is_hurried() {
                    Poll::Pending
                } else {
                    Poll::Ready(None)
                }
            }
            done => {
                turn.made_progress();
                Poll::Ready(Some(done))
            }
        }
    }

    /// The socket as the reactor has it, which watches it from now on.
    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let State::Unwatched { .. } = &self.state
            && let State::Unwatched { socket, .. } = mem::replace(&mut self.state, State::Lost)
        {
            self.state = State::Watched(TcpStream::from_std(socket)?);
        }
        match &mut self.state {
            State::Watched(socket) => Ok(Pin::new(socket)),
            State::Unwatched { .. } | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.at_once(cx, |socket, drained| {
            if *drained {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let bytes_max = buffer.remaining().min(FIRST_BYTES_MAX);
            let room = buffer.initialize_unfilled_to(bytes_max);
            let (_, count) = recv(socket, room, RecvFlags::empty())?;
            buffer.advance(count);
            *drained = count > 0 && count < bytes_max;
            Ok(())
        });
        match ready!(read) {
            Some(read) => Poll::Ready(read),
            None => self.watched()?.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flags = self.told.flags();
        let written = self.at_once(cx, |socket, _| Ok(send(socket, bytes, flags)?));
        if let Some(written) = ready!(written) {
            return Poll::Ready(written);
        }
        let socket = self.watched()?;
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let written = socket.try_io(Interest::WRITABLE, || Ok(send(&*socket, bytes, flags)?));
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.at_once(cx, |mut socket, _| socket.write_vectored(buffers));
        match ready!(written) {
            Some(written) => Poll::Ready(written),
            None => self.watched()?.poll_write_vectored(cx, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Unwatched { socket, .. } => {
                // Where the other end was faster there is nothing left to end.
                let _ = socket.shutdown(net::Shutdown::Write);
                Poll::Ready(Ok(()))
            }
            State::Watched(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, time::Duration};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A socket that was accepted with these bytes, and its client.
    async fn accepted(bytes: &[u8]) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = Acceptor::new(listener).expect("a listener");
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(bytes).await.expect("is sent");
        let (socket, other_end) = acceptor.accept().await.expect("a connection");
        assert_eq!(other_end, client.local_addr().expect("an address"));
        (socket, client)
    }

    fn is_watched(socket: &Socket) -> bool {
        matches!(socket.state, State::Watched(_))
    }

    /// Reads once in a hurry: how many bytes, if there are any.
    async fn hurry(socket: &mut Socket, buffer: &mut [u8]) -> Option<usize> {
        socket.told().hurried(true);
        let mut read = pin!(socket.read(buffer));
        let read = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
        match read {
            Poll::Ready(read) => Some(read.expect("is read")),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn what_is_there_is_read_and_answered_unwatched() {
        let (mut socket, mut client) = accepted(b"request").await;
        let mut buffer = [0; 64];
        assert_eq!(hurry(&mut socket, &mut buffer).await, Some(7));
        assert_eq!(hurry(&mut socket, &mut buffer).await, None);
        socket.told().parting();
        socket.write_all(b"the last answer").await.expect("is sent");
        socket.shutdown().await.expect("is ended");
        assert!(!is_watched(&socket));
        let mut answer = String::new();
        let read = client.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(10), read).await;
        read.expect("it ends").expect("an answer");
        assert_eq!(answer, "the last answer");
    }

    // Whoever hurried and tries again is woken by what comes then.
    #[tokio::test]
    async fn what_comes_later_wakes_who_is_in_no_hurry() {
        let (mut socket, mut client) = accepted(b"request").await;
        let mut buffer = [0; 64];
        assert_eq!(hurry(&mut socket, &mut buffer).await, Some(7));
        assert_eq!(hurry(&mut socket, &mut buffer).await, None);
        socket.told().hurried(false);
        let more = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.write_all(b"another").await.expect("is sent");
        };
        let read = async {
            let read = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut buffer));
            read.await.expect("it comes").expect("is read")
        };
        let ((), count) = tokio::join!(more, read);
        assert_eq!(&buffer[..count], b"another");
        assert!(is_watched(&socket));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_sent_by_and_by() {
        const MANY: usize = 16 << 20;
        for parting in [false, true] {
            let (mut socket, mut client) = accepted(b"request").await;
            if parting {
                socket.told().parting();
            }
            let first = [io::IoSlice::new(b"xxx"), io::IoSlice::new(&[b'x'; 8000])];
            let first = socket.write_vectored(&first).await.expect("is sent");
            assert_eq!(first, 8003);
            assert!(!is_watched(&socket));
            let write = async {
                let rest = vec![b'x'; MANY - first];
                socket.write_all(&rest).await.expect("is sent");
                socket.shutdown().await.expect("is ended");
            };
            let mut read = Vec::new();
            let (count, ()) = tokio::join!(client.read_to_end(&mut read), write);
            assert_eq!(count.expect("is read"), MANY);
        }
    }
}
