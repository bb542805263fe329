//! A CONNECT proxy that leads to one place, and writes down what it was asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::harness::web;

/// A running proxy; it runs for as long as the runtime does.
pub(crate) struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that knows one name, a host with its port, and leads to `origin` whoever asks
    /// for it.
    pub(crate) fn start(name: &str, origin: SocketAddr, runtime: &Runtime) -> Self {
        let (listener, address) = web::listen(runtime);
        let asked = Arc::default();
        let book = Arc::clone(&asked);
        runtime.spawn(serve(listener, name.to_owned(), origin, book));
        Self { address, asked }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first line of each connection.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the book").clone()
    }
}

async fn serve(
    listener: TcpListener,
    name: String,
    origin: SocketAddr,
    book: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (name, book) = (name.clone(), Arc::clone(&book));
        tokio::spawn(async move {
            // A peer that hangs up is no event in a test.
            let _ = tunnel(stream, &name, origin, &book).await;
        });
    }
}

async fn tunnel(
    stream: TcpStream,
    name: &str,
    origin: SocketAddr,
    book: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut client = BufReader::new(stream);
    let mut request = String::new();
    client.read_line(&mut request).await?;
    let first = request.trim_end().to_owned();
    book.lock().expect("the book").push(first);
    let mut line = String::new();
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    if !request.starts_with(&format!("CONNECT {name} ")) {
        return client
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            .await;
    }
    let mut server = TcpStream::connect(origin).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
