//! The real binary under load: as many connections as it may have, readers and writers that take
//! their time, and requests beyond its limits; over real sockets.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test, with its reason"
)]

#[path = "support/program.rs"]
mod program;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pullgate::oci::Digest;
use pullgate::sandbox::client::Client;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::program::Program;

/// What nothing here may take.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 10_000;

/// The gate before a registry with one image, which it serves to anybody.
struct World {
    gate: Program,
    registry: Registry,
    package: Package,
    _folder: TempDir,
}

impl World {
    /// With these limits. Waits until the image is in the cache.
    async fn with(limits: &str) -> Self {
        let registry = Registry::start().await.expect("a port");
        let package = image::runnable("popular").tagged("v1");
        registry.put_package("app", &package);
        let folder = TempDir::new().expect("a folder");
        let url = registry.url();
        let settings = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ r.test: {{ url: \"{url}\" }} }}\ndefault_upstream: r.test\n\
             policies: [policy.yaml]\ncache: {{ tag_ttl: 1h }}\nlimits: {{ {limits} }}\n"
        );
        let policy = "default: unsafe_allow\n";
        for (file, text) in [
            ("pullgate.yaml", settings.as_str()),
            ("policy.yaml", policy),
        ] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        let gate = Program::start(env!("CARGO_BIN_EXE_pullgate"), folder.path());
        let world = Self {
            gate,
            registry,
            package,
            _folder: folder,
        };
        world.pull(&mut world.connect().await).await;
        world
    }

    async fn connect(&self) -> TcpStream {
        let connected = timeout(PATIENCE, TcpStream::connect(&self.gate.address)).await;
        connected.expect("in time").expect("connects")
    }

    /// Pulls the image's manifest by a connection, which stays open.
    async fn pull(&self, stream: &mut TcpStream) {
        let request = "GET /v2/app/manifests/v1 HTTP/1.1\r\nHost: gate\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("is sent");
        let manifest = &self.package.manifest;
        let mut answer = Vec::new();
        let reading = async {
            while !answer.ends_with(manifest) {
                let count = stream.read_buf(&mut answer).await.expect("an answer");
                assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
            }
        };
        timeout(PATIENCE, reading).await.expect("in time");
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }

    /// What comes back, up to the end of the connection.
    async fn answer(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("is sent");
        rest(&mut stream).await
    }

    /// Waits until the gate says that it has no connection left.
    async fn all_are_left(&self) {
        let operators = Client::new(&self.gate.admin);
        let counted = async {
            loop {
                let metrics = operators.get("/metrics").await.expect("an answer");
                let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
                if metrics.lines().any(|line| line == "pullgate_connections 0") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("they are left");
    }
}

/// What is left to read of a connection that ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // One that is reset has ended as well.
    let _ = read.expect("the connection ends in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Lets this process, and those that it starts, open so many files.
fn raise_open_files() {
    let raised = Command::new("prlimit")
        .arg(format!("--pid={}", std::process::id()))
        .arg("--nofile=20000:20000")
        .status();
    assert!(
        raised.expect("prlimit").success(),
        "20000 open files are needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "opens 10,000 connections: run by .ci/run"]
async fn ten_thousand_connections_are_served_and_one_more_waits() {
    raise_open_files();
    let world = World::with("header_read_timeout: 300s").await;
    let begun = Instant::now();
    let mut open: Vec<TcpStream> = Vec::new();
    while open.len() < CONNECTIONS {
        let some = (0..100).map(|_| async {
            let mut stream = world.connect().await;
            world.pull(&mut stream).await;
            stream
        });
        open.extend(join_all(some).await);
    }
    println!("{} connections after {:?}", open.len(), begun.elapsed());
    // Each of them is still served.
    for some in open.chunks_mut(100) {
        join_all(some.iter_mut().map(|stream| world.pull(stream))).await;
    }
    println!("each has pulled twice after {:?}", begun.elapsed());
    let mut one_more = world.connect().await;
    let request = "GET /v2/ HTTP/1.1\r\nHost: gate\r\n\r\n";
    one_more
        .write_all(request.as_bytes())
        .await
        .expect("is sent");
    let mut answer = [0; 12];
    let early = timeout(Duration::from_millis(300), one_more.read_exact(&mut answer)).await;
    assert!(early.is_err(), "more connections are open than may be");
    drop(open.pop());
    let served = timeout(PATIENCE, one_more.read_exact(&mut answer)).await;
    served.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn what_is_too_large_is_told_so() {
    let world = World::with("header_bytes_max: 16KiB").await;
    let path = "a/".repeat(4_500);
    let request = format!("GET /v2/{path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
    let long = world.answer(&request).await;
    assert!(long.starts_with("HTTP/1.1 414 "), "{long}");
    let header = "x".repeat(20 << 10);
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: gate\r\nX-Large: {header}\r\n\r\n");
    let large = world.answer(&request).await;
    assert!(large.starts_with("HTTP/1.1 431 "), "{large}");
}

/// Who writes a head without an end, a byte now and then, is told so; who says nothing at all is
/// left; and neither holds up anybody else.
#[tokio::test]
async fn slow_writers_are_left() {
    let world = World::with("header_read_timeout: 1s").await;
    let mut silent = world.connect().await;
    // Connections that were of use: each head has a deadline of its own.
    let (mut used, mut dripping) = (world.connect().await, world.connect().await);
    for stream in [&mut used, &mut dripping] {
        world.pull(stream).await;
    }
    let (mut reading, mut writing) = dripping.into_split();
    let drip = async {
        for byte in "GET /v2/ HTTP/1.1\r\nX-Slow: "
            .bytes()
            .chain(std::iter::repeat(b'x'))
        {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = Vec::new();
    let ended = async {
        let _ = timeout(PATIENCE, reading.read_to_end(&mut answer))
            .await
            .expect("an end");
    };
    let others = async {
        for _ in 0..20 {
            world.pull(&mut world.connect().await).await;
        }
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(ended, others) } => {}
        () = drip => panic!("nobody read the end"),
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut used).await, "");
}

/// Whoever pushes is told that nothing is taken here, and may go on: the manifest that came with the
/// request is not left unread, which would break the connection off behind the answer.
#[tokio::test]
async fn who_pushes_is_told_and_may_go_on() {
    let world = World::with("header_read_timeout: 10s").await;
    let mut pusher = world.connect().await;
    let manifest = "x".repeat(5000);
    let request = format!(
        "PUT /v2/app/manifests/v1 HTTP/1.1\r\nHost: gate\r\nContent-Length: {}\r\n\r\n{manifest}",
        manifest.len()
    );
    pusher.write_all(request.as_bytes()).await.expect("is sent");
    let mut answer = String::new();
    while !answer.ends_with('}') {
        let mut bytes = [0; 4096];
        let read = timeout(PATIENCE, pusher.read(&mut bytes)).await;
        let count = read.expect("in time").expect("an answer");
        assert!(count > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    world.pull(&mut pusher).await;
}

/// An answer may take longer than a head: that is waited for anew when the answer has ended.
#[tokio::test]
async fn answers_take_longer_than_heads() {
    let world = World::with("header_read_timeout: 1s").await;
    let blob = vec![b'x'; 64 << 20];
    let digest = world.registry.put_blob("app", blob.clone());
    let request = format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: gate\r\n\r\n");
    let mut reader = world.connect().await;
    for _ in 0..2 {
        let mut answer = Vec::with_capacity(blob.len() + 4096);
        reader.write_all(request.as_bytes()).await.expect("is sent");
        reader.read_buf(&mut answer).await.expect("it begins");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let length = head.expect("a head") + 4 + blob.len();
        while answer.len() < length {
            let read = timeout(PATIENCE, reader.read_buf(&mut answer)).await;
            let count = read.expect("in time").expect("an answer");
            assert!(count > 0, "{} bytes of {length}", answer.len());
        }
        assert!(answer.ends_with(&blob));
    }
    assert_eq!(rest(&mut reader).await, "");
}

/// When the program is told to stop, who is idle goes at once, and who is served is served to the end.
#[tokio::test]
async fn at_the_end_the_idle_go_and_the_served_are_served() {
    let mut world = World::with("header_read_timeout: 10m, drain_deadline: 10m").await;
    let blob = vec![b'x'; 64 << 20];
    let digest = world.registry.put_blob("app", blob.clone());
    let mut idle = world.connect().await;
    world.pull(&mut idle).await;
    let mut reader = world.connect().await;
    let request = format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: gate\r\n\r\n");
    reader.write_all(request.as_bytes()).await.expect("is sent");
    let mut answer = Vec::new();
    reader.read_buf(&mut answer).await.expect("it begins");

    let gate = i32::try_from(world.gate.process.id()).expect("a process");
    let gate = rustix::process::Pid::from_raw(gate).expect("a process");
    rustix::process::kill_process(gate, rustix::process::Signal::TERM).expect("it is told");
    assert_eq!(rest(&mut idle).await, "");
    let read = timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
    read.expect("in time").expect("an answer");
    assert!(answer.ends_with(&blob), "{} bytes", answer.len());
    let stopped = world.gate.process.wait().expect("it stops");
    assert!(stopped.success(), "{stopped}");
}

/// Who takes nothing of a blob is left, and then its place is another's.
#[tokio::test]
async fn slow_readers_are_left() {
    let limits = "slow_reader_timeout: 2s, upstream_connections_max: 4";
    let world = World::with(limits).await;
    let blob = vec![b'x'; 64 << 20];
    let digest = world.registry.put_blob("app", blob);
    let request =
        format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
    let begun = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut stream = world.connect().await;
        stream.write_all(request.as_bytes()).await.expect("is sent");
        idle.push(stream);
    }
    // Documents have places of their own.
    world.pull(&mut world.connect().await).await;
    let mut reader = world.connect().await;
    reader.write_all(request.as_bytes()).await.expect("is sent");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
    read.expect("in time").expect("an answer");
    let body = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head")
        + 4;
    assert_eq!(Digest::sha256(&answer[body..]), digest);
    println!("a reader had it after {:?}", begun.elapsed());
    world.all_are_left().await;
    // What was in the sockets' buffers is all that the others have.
    for mut stream in idle {
        let mut taken = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut taken))
            .await
            .expect("an end");
        assert!(taken.len() < 64 << 20, "{} bytes", taken.len());
    }
}
