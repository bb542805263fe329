//! A day of unique digests in fast motion: what the gate holds is bounded (THREATS D6).

use std::{
    convert::Infallible,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pullgate::oci::{Digest, media_type};
use pullgate::sandbox::client::Client;
use tokio::net::TcpListener;

const DIGESTS: usize = 200_000;
const CLIENTS: usize = 16;

/// The gate, ended when dropped.
struct Gate(Child);

impl Gate {
    fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.expect("the gate runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        let kilobytes = line
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<usize>().ok());
        kilobytes.expect("a number") * 1024
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Any tag names a manifest of its own; nothing else is there.
fn answer(path: &str) -> Response<Full<Bytes>> {
    let Some((_, tag)) = path.split_once("/manifests/t") else {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return answer;
    };
    let part = |name: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": Digest::sha256(format!("{name} {tag}").as_bytes()),
            "size": 1,
        })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": part("config"),
        "layers": [part("layer")],
        "annotations": {"padding": "x".repeat(700)},
    });
    let mut answer = Response::new(Full::from(manifest.to_string()));
    let content_type = HeaderValue::from_static(media_type::OCI_MANIFEST);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

async fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async move {
                    Ok::<_, Infallible>(answer(request.uri().path()))
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    format!("http://{address}")
}

fn start(folder: &std::path::Path, upstream: &str) -> (Gate, String) {
    // One half is admitted, the other is refused for want of a signature.
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
         upstreams: {{ r.test: {{ url: \"{upstream}\" }} }}\ndefault_upstream: r.test\n\
         policies: [policy.yaml]\ncache: {{ memory_bytes_max: 16MiB }}\n"
    );
    let policy = "signers: { someone: { keyless: { issuer: google, identity: a@b.test } } }\n\
         policies:\n\
         - { name: open, images: [r.test/open], unsafe_allow_unsigned: { until: 2999-01-01, because: test } }\n\
         - { name: shut, images: [r.test/shut], signed_by: someone }\n";
    std::fs::write(folder.join("pullgate.yaml"), config).expect("written");
    std::fs::write(folder.join("policy.yaml"), policy).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_pullgate"))
        .args(["serve", "--config"])
        .arg(folder.join("pullgate.yaml"))
        .env("PULLGATE_LOG", "error")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the gate starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its stdout");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("its first line");
    let address = line
        .strip_prefix("listening on ")
        .and_then(|rest| rest.split_once(','))
        .expect("the line on stdout")
        .0;
    (Gate(child), address.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200,000 pulls through the real binary take minutes: run by .ci/run"]
async fn memory_stays_flat_over_200_000_digests() {
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = upstream().await;
    let (gate, address) = start(folder.path(), &upstream);
    let next = Arc::new(AtomicUsize::new(0));
    let mut seen = Vec::new();
    for goal in [DIGESTS / 2, DIGESTS] {
        let pullers = (0..CLIENTS).map(|_| {
            let (next, client) = (Arc::clone(&next), Client::new(&address));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= goal {
                        return;
                    }
                    let (repository, expected) = if number % 2 == 0 {
                        ("open", 200)
                    } else {
                        ("shut", 403)
                    };
                    let path = format!("/v2/{repository}/manifests/t{number}");
                    let answer = client.get(&path).await.expect("an answer");
                    assert_eq!(answer.status, expected, "{:?}", answer.message());
                }
            })
        });
        for puller in pullers.collect::<Vec<_>>() {
            puller.await.expect("a puller");
        }
        next.store(goal, Ordering::Relaxed);
        seen.push(gate.resident_bytes());
        println!(
            "after {goal} digests: {} MiB resident",
            gate.resident_bytes() >> 20
        );
    }
    let (half, whole) = (seen[0], seen[1]);
    // What is left is the allocator's business: a tenth, and some megabytes.
    assert!(
        whole < half + half / 10 + (8 << 20),
        "{half} bytes grew to {whole}"
    );
}
