//! A day of unique digests and repositories in fast motion: what the gate holds is bounded, and so is
//! what it counts by (THREATS D6), with the facts of a hundred thousand digests among it.
//!
//! `PULLGATE_MEMORY_DIGESTS` makes the day longer, and `PULLGATE_PROGRAM` names another build of
//! the program: docs/PERFORMANCE.md has what was seen.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test, with its reason"
)]

#[path = "support/program.rs"]
mod program;

use std::{
    collections::HashMap,
    convert::Infallible,
    ffi::OsString,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pullgate::clock::Clock;
use pullgate::oci::{Digest, media_type};
use pullgate::sandbox::client::Client;
use pullgate::sandbox::image::Package;
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Sigstore, signature_tag};
use tokio::net::TcpListener;

use crate::program::Program;

/// Digests whose facts are held: signed ones, all of them.
const HELD: usize = 100_000;
/// Those that are asked for all in all, where nobody says otherwise.
const DIGESTS: usize = 200_000;
/// After so many the memory is looked at.
const LOOK: usize = 50_000;
const CLIENTS: usize = 16;
/// Digests in one repository.
const TOGETHER: usize = 8;
/// What is counted, and by what, whatever is pulled.
const SERIES_MAX: usize = 1000;
/// Pulls that wait for the search for their signatures, and what each may have.
const WAITING: usize = 1000;
const WAITING_BYTES_MAX: usize = 64 << 10;
/// What the process may have, with the facts of so many digests.
const RESIDENT_BYTES_MAX: usize = 150_000_000;

fn resident_bytes(gate: &Program) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.process.id()));
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

/// A registry that makes up what it is asked for: any tag names a manifest of its own, and in the
/// repositories below `signed` each has a signature by one key. Of those in `mute` it tells no signature
/// and no lack of one. It holds nothing beyond an answer but the payloads that are about to be fetched.
struct Registry {
    sigstore: Sigstore,
    key: KeyPair,
    payloads: Mutex<HashMap<Digest, Vec<u8>>>,
    /// How often it was asked for signatures.
    searches: AtomicUsize,
}

impl Registry {
    fn new() -> Self {
        Self {
            sigstore: Sigstore::new(Clock::system().now()),
            key: KeyPair::generate(),
            payloads: Mutex::default(),
            searches: AtomicUsize::new(0),
        }
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        if let Some((_, tag)) = path.split_once("/manifests/t") {
            return answered(manifest(tag));
        }
        if path.starts_with("/v2/signed/")
            && let Some((_, tag)) = path.split_once("/manifests/sha256-")
            && let Some(hex) = tag.strip_suffix(".sig")
        {
            self.searches.fetch_add(1, Ordering::Relaxed);
            let digest = format!("sha256:{hex}").parse().expect("a digest");
            return answered(self.sign(&digest).manifest);
        }
        let blob = path.split_once("/blobs/").map(|(_, digest)| digest);
        let digest = blob.and_then(|digest| digest.parse::<Digest>().ok());
        let payload = digest.and_then(|digest| self.payloads().remove(&digest));
        payload.map_or_else(absent, |payload| Response::new(Full::from(payload)))
    }

    fn sign(&self, digest: &Digest) -> Package {
        let recipe = Recipe::key(&self.key, Log::None);
        let layer = self.sigstore.sign_layer(digest, "r.test/signed", &recipe);
        let signature = signature_tag(digest, vec![layer]);
        for blob in &signature.blobs {
            self.payloads().insert(Digest::sha256(blob), blob.clone());
        }
        signature
    }

    fn payloads(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Vec<u8>>> {
        self.payloads.lock().expect("the payloads")
    }

    async fn serve(self: Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let registry = Arc::clone(&self);
                tokio::spawn(async move {
                    let service = service_fn(async |request: Request<Incoming>| {
                        let path = request.uri().path();
                        if path.starts_with("/v2/mute/") && !path.contains("/manifests/t") {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Infallible>(registry.answer(path))
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        format!("http://{address}")
    }
}

fn absent() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

fn answered(manifest: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(manifest));
    let content_type = HeaderValue::from_static(media_type::OCI_MANIFEST);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

fn manifest(tag: &str) -> Vec<u8> {
    let part = |name: &str, kind: &str| {
        serde_json::json!({
            "mediaType": kind,
            "digest": Digest::sha256(format!("{name} {tag}").as_bytes()),
            "size": 1,
        })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": part("config", "application/vnd.oci.image.config.v1+json"),
        "layers": [part("layer", "application/vnd.oci.image.layer.v1.tar")],
        "annotations": {"padding": "x".repeat(700)},
    });
    manifest.to_string().into_bytes()
}

fn start(folder: &Path, upstream: &str, key: &KeyPair) -> Program {
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
         upstreams: {{ r.test: {{ url: \"{upstream}\", requests_per_second_max: 1000000 }} }}\n\
         default_upstream: r.test\npolicies: [policy.yaml]\n\
         cache: {{ memory_bytes_max: 16MiB, facts_ttl: 24h, tag_ttl: 0s }}\n\
         limits: {{ upstream_connections_max: 200 }}\n"
    );
    let policy = "signers: { someone: { key: { file: key.pub }, transparency_log: not_required } }\n\
         policies:\n\
         - { name: open, images: [r.test/open/*], unsafe_allow_unsigned: { until: 2999-01-01, because: test } }\n\
         - { name: signed, images: [r.test/signed/*, r.test/shut/*, r.test/mute], signed_by: someone }\n";
    for (file, text) in [
        ("pullgate.yaml", config.as_str()),
        ("policy.yaml", policy),
        ("key.pub", &key.public_key_pem()),
    ] {
        std::fs::write(folder.join(file), text).expect("written");
    }
    let program = std::env::var_os("PULLGATE_PROGRAM");
    let program = program.unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_pullgate")));
    Program::start(program, folder)
}

/// The repository that a digest is asked for in, and the answer: those that are to be held are
/// signed; of the others two are, one is exempted, and one is refused.
fn plan(number: usize) -> (String, u16) {
    let (above, status) = match number % 4 {
        _ if number < HELD => ("signed", 200),
        0 | 1 => ("signed", 200),
        2 => ("open", 200),
        _ => ("shut", 403),
    };
    (format!("{above}/r{}", number / TOGETHER), status)
}

/// Asks for these digests, each once, by many connections.
async fn pull(address: &str, digests: impl Iterator<Item = usize> + Send + 'static) {
    let digests = Arc::new(Mutex::new(digests));
    let pullers = (0..CLIENTS).map(|_| {
        let (digests, client) = (Arc::clone(&digests), Client::new(address));
        tokio::spawn(async move {
            loop {
                let next = digests.lock().expect("the digests").next();
                let Some(number) = next else { return };
                let (repository, expected) = plan(number);
                let path = format!("/v2/{repository}/manifests/t{number}");
                let answer = client.get(&path).await.expect("an answer");
                assert_eq!(answer.status, expected, "{:?}", answer.message());
            }
        })
    });
    for puller in pullers.collect::<Vec<_>>() {
        puller.await.expect("a puller");
    }
}

/// Waits until so many manifests are known of, and with them so many pulls wait for the rest.
async fn until_waiting(gate: &Program, count: usize) {
    let admin = Client::new(&gate.admin);
    let needle = "pullgate_upstream_requests_total{";
    for _ in 0..600 {
        let metrics = admin.get("/metrics").await.expect("metrics");
        let text = String::from_utf8(metrics.body.to_vec()).expect("text");
        let asked = text.lines().filter(|line| line.starts_with(needle));
        let asked = asked.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok());
        if asked.sum::<usize>() >= count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{count} pulls do not wait");
}

// THREATS D4.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_waits_takes_little_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Arc::new(Registry::new());
    let upstream = Arc::clone(&registry).serve().await;
    let gate = start(folder.path(), &upstream, &registry.key);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.process.id()));
    let status = status.expect("the gate runs");
    assert!(status.contains("THP_enabled:\t0"), "{status}");
    let before = resident_bytes(&gate);
    let pulls = (0..WAITING).map(|number| {
        let client = Client::new(&gate.address);
        tokio::spawn(async move { client.get(&format!("/v2/mute/manifests/t{number}")).await })
    });
    let pulls: Vec<_> = pulls.collect();
    until_waiting(&gate, WAITING).await;
    let each = (resident_bytes(&gate) - before) / WAITING;
    println!("{each} bytes for each pull that waits");
    assert!(each < WAITING_BYTES_MAX, "{each} bytes");
    for pull in pulls {
        pull.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200,000 pulls through the real binary take minutes: run by .ci/run"]
async fn memory_stays_flat_over_a_day_of_digests() {
    let digests = std::env::var("PULLGATE_MEMORY_DIGESTS").ok();
    let digests = digests.map_or(DIGESTS, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Arc::new(Registry::new());
    let upstream = Arc::clone(&registry).serve().await;
    let gate = start(folder.path(), &upstream, &registry.key);
    println!(
        "at the start: {} MB resident",
        resident_bytes(&gate) / 1_000_000
    );
    let mut seen = Vec::new();
    for from in (0..digests).step_by(LOOK) {
        pull(&gate.address, from..digests.min(from + LOOK)).await;
        let resident = resident_bytes(&gate);
        println!(
            "after {}: {} MB resident",
            from + LOOK,
            resident / 1_000_000
        );
        seen.push(resident);
        if from + LOOK == HELD {
            // Whose facts are held is not searched for again; the manifests come anew.
            let before = registry.searches.load(Ordering::Relaxed);
            pull(&gate.address, (0..HELD).step_by(97)).await;
            let searched = registry.searches.load(Ordering::Relaxed) - before;
            assert_eq!(searched, 0, "facts were not held");
            assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes");
        }
    }
    // All caches are full after the third look. What is left is the allocator's business: a tenth.
    let full = seen[2];
    let most = seen.iter().max().expect("looked at");
    assert!(*most < full + full / 10, "{full} bytes grew to {most}");
    let metrics = Client::new(&gate.admin).get("/metrics").await;
    let text = String::from_utf8(metrics.expect("metrics").body.to_vec()).expect("text");
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!("{series} series");
    assert!(series < SERIES_MAX, "{series} series");
}
