//! The client against registries that misbehave, each on its own loopback listener.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::*;
use crate::oci::Digest;
use crate::oci::Repository;
use crate::oci::media_type;

mod roads;

/// A request as the registry saw it; header names in lower case.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the registry does with a connection once it has read a request.
enum Reply {
    /// Writes these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Writes these bytes and never anything more.
    Hang(Vec<u8>),
    /// Writes these bytes, then one byte every few milliseconds.
    Drip(Vec<u8>),
    /// Writes these bytes once it may, and closes the connection.
    Held(Arc<Semaphore>, Vec<u8>),
    /// Closes the connection without a word.
    Drop,
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    Reply::Raw(bytes)
}

/// A registry on loopback that answers as its test says, and remembers what it was asked.
#[derive(Clone)]
struct Registry {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Registry {
    async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::default();
        let registry = Self {
            address,
            asked: Arc::clone(&asked),
        };
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&asked), Arc::clone(&answer)));
            }
        });
        registry
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("lock").clone()
    }

    /// How often it was asked for a token.
    fn tokens_asked(&self) -> usize {
        let asked = self.asked();
        let is_token = |asked: &&Asked| asked.target.starts_with("/token");
        asked.iter().filter(is_token).count()
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::known("registry.acme.test".parse().expect("a host"));
        settings.url = self.url("").parse().expect("a URL");
        settings
    }

    fn upstream(&self) -> Upstream {
        Upstream::new(self.settings()).expect("builds")
    }

    fn upstream_with(&self, change: impl FnOnce(&mut Settings)) -> Upstream {
        let mut settings = self.settings();
        change(&mut settings);
        Upstream::new(settings).expect("builds")
    }
}

async fn serve(
    mut stream: TcpStream,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<impl Fn(&Asked) -> Reply>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let mut lines = head.lines();
    let mut request_line = lines.next().unwrap_or_default().split(' ');
    let request = Asked {
        method: request_line.next().unwrap_or_default().to_owned(),
        target: request_line.next().unwrap_or_default().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
    };
    asked.lock().expect("lock").push(request.clone());
    let reply = answer(&request);
    match reply {
        Reply::Drop => {}
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Hang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
        Reply::Held(leave, bytes) => {
            leave.acquire().await.expect("is never closed").forget();
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Drip(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                if stream.write_all(b"x").await.is_err() {
                    return;
                }
            }
        }
    }
}

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn repository() -> Repository {
    "team/app".parse().expect("a name")
}

fn basic() -> Credentials {
    Credentials::Basic {
        username: "robot".to_owned(),
        password: Secret::new("hunter2"),
    }
}

async fn manifest(upstream: &Upstream, reference: &str) -> Result<FetchedManifest, UpstreamError> {
    let reference = reference.parse().expect("a reference");
    upstream.manifest(&repository(), &reference).await
}

async fn blob(upstream: &Upstream, name: &str, from: u64) -> Result<BlobBody, UpstreamError> {
    let repository = name.parse().expect("a name");
    let digest = Digest::sha256(b"layer");
    upstream.blob(&repository, &digest, from).await
}

async fn referrers(
    upstream: &Upstream,
    name: &str,
    max: usize,
) -> Result<Referrers, UpstreamError> {
    let repository = name.parse().expect("a name");
    let digest = Digest::sha256(b"image");
    upstream.referrers(&repository, &digest, max).await
}

async fn whole(body: BlobStream) -> Result<Vec<u8>, UpstreamError> {
    Ok(body.collect().await?.to_bytes().to_vec())
}

#[tokio::test]
async fn a_manifest_is_fetched_with_our_headers() {
    let registry =
        Registry::start(|_| reply(200, &[("Content-Type", media_type::OCI_MANIFEST)], MANIFEST))
            .await;
    let digest = Digest::sha256(MANIFEST);
    let upstream = registry.upstream();
    let fetched = manifest(&upstream, &digest.to_string()).await;
    let fetched = fetched.expect("fetched");
    assert_eq!(fetched.bytes, MANIFEST);
    assert_eq!(
        fetched.content_type.as_deref(),
        Some(media_type::OCI_MANIFEST)
    );
    let asked = registry.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, format!("/v2/team/app/manifests/{digest}"));
    assert_eq!(
        asked[0].header("accept"),
        Some(media_type::ACCEPT_MANIFESTS)
    );
    assert_eq!(asked[0].header("authorization"), None);
    let agent = asked[0].header("user-agent").expect("a user agent");
    assert!(agent.starts_with("pullgate/"));
}

// THREATS B9: the upstream answers digest D with other bytes.
#[tokio::test]
async fn wrong_bytes_are_an_error_whatever_the_header_says() {
    let expected = Digest::sha256(MANIFEST);
    let claim = expected.to_string();
    let registry =
        Registry::start(move |_| reply(200, &[("Docker-Content-Digest", &claim)], "{}")).await;
    let fetched = manifest(&registry.upstream(), &expected.to_string()).await;
    let found = Digest::sha256(b"{}");
    assert_eq!(
        fetched.err(),
        Some(UpstreamError::WrongBytes {
            expected: Box::new(expected),
            found: Box::new(found),
        })
    );
}

#[tokio::test]
async fn statuses_have_their_errors() {
    let registry =
        Registry::start(
            |asked| match asked.target.rsplit('/').next().unwrap_or_default() {
                "gone" => reply(404, &[], "<html>"),
                "busy" => reply(429, &[("Retry-After", "17")], ""),
                "forbidden" => reply(403, &[], ""),
                "who" => reply(401, &[], ""),
                "down" => reply(503, &[("Retry-After", "1")], ""),
                "zipped" => reply(200, &[("Content-Encoding", "gzip")], MANIFEST),
                "part" => reply(206, &[("Content-Range", "bytes 0-1/9")], "xx"),
                _ => Reply::Drop,
            },
        )
        .await;
    let host = registry.upstream().host().clone();
    let unauthorized = |status| UpstreamError::Unauthorized {
        host: host.clone(),
        status,
    };
    for (tag, expected) in [
        ("gone", UpstreamError::NotFound),
        (
            "busy",
            UpstreamError::RateLimited {
                retry_after: Some(Duration::from_secs(17)),
            },
        ),
        ("forbidden", unauthorized(403)),
        ("who", unauthorized(401)),
        ("down", UpstreamError::Status(503)),
        ("zipped", UpstreamError::Malformed(MalformedAnswer::Encoded)),
        ("part", UpstreamError::Malformed(MalformedAnswer::Range)),
    ] {
        // A client of its own for each: one that was told to wait does.
        let fetched = manifest(&registry.upstream(), tag).await;
        assert_eq!(fetched.err(), Some(expected), "{tag}");
    }
    assert_eq!(registry.asked().len(), 7, "answers are not asked for again");
}

#[tokio::test]
async fn a_dropped_connection_is_retried_once() {
    let registry = Registry::start(|_| Reply::Drop).await;
    let statuses = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&statuses);
    let upstream = registry.upstream_with(|settings| {
        settings.on_request = Some(Arc::new(move |_, status| {
            seen.lock().expect("lock").push(status);
        }));
    });
    let fetched = manifest(&upstream, "v1").await;
    let error = fetched.expect_err("refused");
    assert!(
        matches!(error, UpstreamError::Unreachable { .. }),
        "{error}"
    );
    assert!(error.is_transient());
    assert_eq!(registry.asked().len(), 2);
    assert_eq!(*statuses.lock().expect("lock"), [0, 0]);
}

/// Asks for a manifest and a blob, by GET and by HEAD each; how many of the four were answered.
async fn all_four(upstream: &Upstream) -> usize {
    let reference = "v1".parse().expect("a tag");
    let digest = Digest::sha256(b"layer");
    let answered = [
        manifest(upstream, "v1").await.is_ok(),
        blob(upstream, "team/app", 0).await.is_ok(),
        upstream
            .has_manifest(&repository(), &reference)
            .await
            .is_ok(),
        upstream.blob_size(&repository(), &digest).await.is_ok(),
    ];
    answered.into_iter().filter(|answered| *answered).count()
}

#[tokio::test]
async fn what_is_lost_is_asked_for_once_more_after_a_wait() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&seen);
    let registry = Registry::start(move |_| {
        let mut book = book.lock().expect("lock");
        book.push(Instant::now());
        match book.len() % 2 {
            0 => reply(200, &[], MANIFEST),
            _ => Reply::Drop,
        }
    })
    .await;
    assert_eq!(all_four(&registry.upstream()).await, 4);
    let seen = seen.lock().expect("lock").clone();
    assert_eq!(seen.len(), 8);
    for pair in seen.chunks(2) {
        let wait = pair[1].duration_since(pair[0]);
        assert!(wait >= Duration::from_millis(50), "{wait:?}");
    }
    let deaf = Registry::start(|_| Reply::Drop).await;
    assert_eq!(all_four(&deaf.upstream()).await, 0);
    let asked = deaf.asked();
    assert_eq!(asked.len(), 8, "and never a third time");
    // What is asked for twice changes nothing at the registry.
    let safe = |asked: &Asked| ["GET", "HEAD"].contains(&asked.method.as_str());
    assert!(asked.iter().all(safe));
}

#[tokio::test]
async fn another_address_is_the_second_attempt() {
    let first = Registry::start(|_| Reply::Drop).await;
    let second = Registry::start(|_| Reply::Drop).await;
    let upstream = first.upstream_with(|settings| {
        settings.more_urls = vec![second.url("").parse().expect("a URL")];
    });
    manifest(&upstream, "v1")
        .await
        .expect_err("both are silent");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}

#[tokio::test]
async fn no_answer_is_asked_for_again() {
    for status in [400, 403, 404, 408, 409, 416, 425, 429, 500, 502, 503, 504] {
        let registry = Registry::start(move |_| reply(status, &[], "")).await;
        assert_eq!(all_four(&registry.upstream()).await, 0, "{status}");
        assert_eq!(registry.asked().len(), 4, "{status}");
    }
}

#[tokio::test]
async fn who_is_slow_or_breaks_off_is_not_asked_again() {
    let registry =
        Registry::start(
            |asked| match asked.target.rsplit('/').next().unwrap_or_default() {
                "silent" => Reply::Hang(Vec::new()),
                "stuck" => Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec()),
                "ssh" => Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
                _ => reply(200, &[("Content-Length", "900")], "short"),
            },
        )
        .await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.answer_timeout = Duration::from_millis(500);
        settings.limits.body_idle_timeout = Duration::from_millis(500);
    });
    for tag in ["silent", "stuck", "ssh", "short"] {
        assert!(manifest(&upstream, tag).await.is_err(), "{tag}");
    }
    assert_eq!(registry.asked().len(), 4);
}

#[tokio::test]
async fn a_token_is_asked_for_as_seldom() {
    for (status, times) in [(None, 2), (Some(400), 1), (Some(429), 1), (Some(503), 1)] {
        let registry = Registry::start(move |asked| {
            if asked.target.starts_with("/token") {
                return status.map_or(Reply::Drop, |status| reply(status, &[], ""));
            }
            let host = asked.header("host").unwrap_or_default();
            let realm = format!(r#"Bearer realm="http://{host}/token""#);
            reply(401, &[("WWW-Authenticate", &realm)], "")
        })
        .await;
        let upstream = registry.upstream_with(|settings| settings.credentials = basic());
        assert!(manifest(&upstream, "v1").await.is_err(), "{status:?}");
        let asked = registry.asked();
        let targets: Vec<_> = asked.iter().map(|asked| asked.target.as_str()).collect();
        assert_eq!(targets[0], "/v2/team/app/manifests/v1");
        let tokens = &targets[1..];
        assert_eq!(tokens, vec!["/token?scope=repository:team/app:pull"; times]);
        assert!(asked.iter().all(|asked| asked.method == "GET"));
    }
}

// THREATS D2: gigabytes, and a lying Content-Length.
#[tokio::test]
async fn sizes_are_bounded() {
    let registry = Registry::start(|asked| {
        let body = vec![b' '; 2000];
        match asked.target.rsplit('/').next().unwrap_or_default() {
            "honest" => reply(200, &[], body),
            "chunked" => {
                let mut bytes =
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n".to_vec();
                bytes.extend(body);
                Reply::Hang(bytes)
            }
            "endless" => {
                Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n".to_vec())
            }
            "two" => reply(
                200,
                &[("Content-Length", "1"), ("Content-length", "2")],
                "xx",
            ),
            "head" => Reply::Raw(
                b"HTTP/1.1 200 OK\r\nX: "
                    .iter()
                    .copied()
                    .chain(vec![b'x'; 1 << 20])
                    .collect(),
            ),
            "ssh" => Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            "short" => reply(200, &[("Content-Length", "900")], "short"),
            _ => reply(200, &[("Content-Length", "4")], body),
        }
    })
    .await;
    let upstream = registry.upstream_with(|settings| settings.limits.manifest_bytes_max = 1000);
    for tag in ["honest", "chunked", "endless"] {
        let error = manifest(&upstream, tag).await.expect_err("refused");
        assert_eq!(error, UpstreamError::TooLarge { limit: 1000 }, "{tag}");
    }
    for tag in ["two", "head", "ssh"] {
        let error = manifest(&upstream, tag).await.expect_err("refused");
        assert_eq!(
            error,
            UpstreamError::Malformed(MalformedAnswer::Head),
            "{tag}"
        );
    }
    let short = manifest(&upstream, "short").await;
    assert!(matches!(short, Err(UpstreamError::Unreachable { .. })));
    let long = Digest::sha256(MANIFEST).to_string();
    let long = manifest(&upstream, &long).await;
    assert!(matches!(long, Err(UpstreamError::WrongBytes { .. })));
}

// THREATS D4: an upstream that hangs or drips.
#[tokio::test]
async fn waits_are_bounded() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
    let registry =
        Registry::start(
            |asked| match asked.target.rsplit('/').next().unwrap_or_default() {
                "silent" => Reply::Hang(Vec::new()),
                "stuck" => Reply::Hang(HEAD.to_vec()),
                _ => Reply::Drip(HEAD.to_vec()),
            },
        )
        .await;
    let short = Duration::from_millis(80);
    let long = Duration::from_secs(60);
    let stage_of = |error| match error {
        UpstreamError::TimedOut { stage, .. } => stage,
        other => panic!("another error: {other}"),
    };
    let stage = async |tag: &str, answer, idle, deadline| {
        let upstream = registry.upstream_with(|settings| {
            settings.limits.manifest_bytes_max = usize::MAX;
            settings.limits.answer_timeout = answer;
            settings.limits.body_idle_timeout = idle;
            settings.limits.manifest_deadline = deadline;
        });
        let fetched = manifest(&upstream, tag).await;
        stage_of(fetched.expect_err("too slow"))
    };
    assert_eq!(stage("silent", short, long, long).await, Stage::Answer);
    assert_eq!(stage("stuck", long, short, long).await, Stage::Body);
    assert_eq!(stage("drip", long, short, long).await, Stage::Body);
    assert_eq!(stage("drip", long, long, short).await, Stage::Document);

    let upstream = registry.upstream_with(|settings| settings.limits.body_idle_timeout = short);
    let blob = blob(&upstream, "team/app", 0).await;
    let error = whole(blob.expect("a head").body).await.expect_err("a drip");
    assert_eq!(stage_of(error), Stage::Body);
}

/// A registry that wants a token, and hands it out itself.
async fn token_registry() -> Registry {
    Registry::start(|asked| {
        let realm = format!(
            r#"Bearer realm="http://{}/token?tenant=1",service="acme & sons",scope="repository:other/secret:pull,push""#,
            asked.header("host").unwrap_or_default()
        );
        if asked.target.starts_with("/token") {
            return reply(200, &[], r#"{"token":"opaque","expires_in":300}"#);
        }
        match asked.header("authorization") {
            Some("Bearer opaque") => reply(200, &[], MANIFEST),
            _ => reply(401, &[("WWW-Authenticate", &realm)], ""),
        }
    })
    .await
}

#[tokio::test]
async fn a_token_is_fetched_once_and_kept() {
    let registry = token_registry().await;
    let upstream = registry.upstream_with(|settings| settings.credentials = basic());
    let pulls = (0..20).map(|_| async {
        let fetched = manifest(&upstream, "v1").await;
        fetched.expect("fetched");
    });
    futures_util::future::join_all(pulls).await;
    let tokens: Vec<_> = registry
        .asked()
        .into_iter()
        .filter(|asked| asked.target.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1, "one flight for all");
    // The scope is ours, not the challenge's.
    assert_eq!(
        tokens[0].target,
        "/token?tenant=1&service=acme%20%26%20sons&scope=repository:team/app:pull"
    );
    assert_eq!(
        tokens[0].header("authorization"),
        Some("Basic cm9ib3Q6aHVudGVyMg==")
    );
    let before = registry.asked().len();
    manifest(&upstream, "v1").await.expect("fetched");
    assert_eq!(registry.asked().len(), before + 1, "the token is kept");
    // Another repository needs a token of its own.
    let other = "team/other".parse().expect("a name");
    let reference = "v1".parse().expect("a tag");
    upstream
        .manifest(&other, &reference)
        .await
        .expect("fetched");
    assert_eq!(registry.asked().len(), before + 4);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let registry = Registry::start(|asked| {
        let realm = format!(
            r#"Bearer realm="http://{}/token""#,
            asked.header("host").unwrap_or_default()
        );
        match asked.target.as_str() {
            "/token?scope=repository:team/app:pull" => reply(200, &[], r#"{"token":"t"}"#),
            _ => reply(401, &[("WWW-Authenticate", &realm)], ""),
        }
    })
    .await;
    let upstream = registry.upstream();
    for round in 1..=2 {
        let fetched = manifest(&upstream, "v1").await;
        assert!(matches!(
            fetched,
            Err(UpstreamError::Unauthorized { status: 401, .. })
        ));
        assert_eq!(registry.asked().len(), 3 * round);
    }
}

// THREATS A1 (CVE-2026-33540): a foreign realm gets no credentials, and no request at all.
#[tokio::test]
async fn a_foreign_realm_gets_nothing() {
    let thief = Registry::start(|_| reply(200, &[], r#"{"token":"t"}"#)).await;
    let realm = format!(r#"Bearer realm="{}",service="x""#, thief.url("/token"));
    let registry = Registry::start(move |_| reply(401, &[("WWW-Authenticate", &realm)], "")).await;
    let upstream = registry.upstream_with(|settings| settings.credentials = basic());
    let error = manifest(&upstream, "v1").await;
    let error = error.expect_err("refused");
    assert_eq!(
        error,
        UpstreamError::ForeignRealm {
            host: upstream.host().clone(),
            realm: "127.0.0.1".to_owned(),
            reason: RealmRefusal::Foreign,
        }
    );
    assert_eq!(thief.asked().len(), 0);
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn a_token_service_that_fails_is_asked_once_by_all_who_wait() {
    let registry = Registry::start(|asked| {
        if asked.target.starts_with("/token") {
            return reply(429, &[("Retry-After", "9")], "");
        }
        let host = asked.header("host").unwrap_or_default();
        let realm = format!(r#"Bearer realm="http://{host}/token""#);
        reply(401, &[("WWW-Authenticate", &realm)], "")
    })
    .await;
    let upstream = registry.upstream();
    let pulls = (0..20).map(|_| manifest(&upstream, "v1"));
    for fetched in futures_util::future::join_all(pulls).await {
        let limited = fetched.expect_err("limited");
        assert!(
            matches!(limited, UpstreamError::RateLimited { retry_after: Some(wait) }
                if wait > Duration::from_secs(4) && wait <= Duration::from_secs(9)),
            "{limited:?}"
        );
    }
    assert_eq!(registry.tokens_asked(), 1, "failures are shared");
}

#[tokio::test]
async fn a_token_service_that_asks_for_a_rest_has_it() {
    for status in [429, 503] {
        let registry = Registry::start(move |asked| {
            if asked.target.starts_with("/token") {
                return reply(status, &[("Retry-After", "120")], "");
            }
            if asked.target.starts_with("/v2/open/") {
                return reply(200, &[], MANIFEST);
            }
            let host = asked.header("host").unwrap_or_default();
            let realm = format!(r#"Bearer realm="http://{host}/token""#);
            reply(401, &[("WWW-Authenticate", &realm)], "")
        })
        .await;
        let upstream = registry.upstream();
        let reference = "v1".parse().expect("a tag");
        for name in ["team/one", "team/two", "team/three"] {
            let repository = name.parse().expect("a name");
            let refused = upstream.manifest(&repository, &reference).await;
            let refused = refused.expect_err("no token");
            assert!(refused.is_transient(), "{status}: {refused:?}");
        }
        assert_eq!(registry.tokens_asked(), 1, "{status}");
        // What needs no token is another kind.
        let open = "open/app".parse().expect("a name");
        let fetched = upstream.manifest(&open, &reference).await;
        fetched.expect("fetched");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_when_it_is_its_turn() {
    let registry = token_registry().await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.requests_per_second_max = 1;
        settings.limits.answer_timeout = Duration::from_millis(400);
    });
    let turned_away = manifest(&upstream, "v1").await;
    let turned_away = turned_away.expect_err("not its turn");
    let queue = Stage::Queue;
    assert!(matches!(turned_away, UpstreamError::TimedOut { stage, .. } if stage == queue));
    assert_eq!(registry.asked().len(), 1);
    assert_eq!(registry.tokens_asked(), 0);
}

#[tokio::test]
async fn https_is_never_spoken_in_the_clear() {
    let registry = Registry::start(|_| reply(200, &[], MANIFEST)).await;
    let upstream = registry.upstream_with(|settings| {
        let url = registry.url("").replace("http:", "https:");
        settings.url = url.parse().expect("a URL");
        settings.limits.answer_timeout = Duration::from_millis(500);
    });
    assert!(manifest(&upstream, "v1").await.is_err());
    let asked = registry.asked();
    assert!(asked.iter().all(|asked| !asked.method.starts_with("GET")));
}

#[tokio::test]
async fn basic_credentials_are_sent_where_they_are_asked_for() {
    let registry = Registry::start(|asked| match asked.header("authorization") {
        Some("Basic cm9ib3Q6aHVudGVyMg==") => reply(200, &[], MANIFEST),
        _ => reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let upstream = registry.upstream_with(|settings| settings.credentials = basic());
    for _ in 0..2 {
        manifest(&upstream, "v1").await.expect("fetched");
    }
    assert_eq!(registry.asked().len(), 3, "asked once, then remembered");
    let anonymous = manifest(&registry.upstream(), "v1").await;
    assert!(matches!(anonymous, Err(UpstreamError::Unauthorized { .. })));
}

#[test]
fn nothing_prints_a_secret() {
    let mut settings = Settings::known("r.test".parse().expect("a host"));
    settings.credentials = basic();
    let upstream = Upstream::new(settings.clone()).expect("builds");
    let text = format!("{settings:?} {upstream:?}");
    assert!(
        text.contains("robot") && !text.contains("hunter2"),
        "{text}"
    );
}

/// A registry that wants Basic credentials and redirects blobs to `target`.
async fn redirecting(target: String) -> Registry {
    Registry::start(move |asked| match asked.header("authorization") {
        Some(_) => reply(307, &[("Location", &target)], ""),
        None => reply(401, &[("WWW-Authenticate", "Basic")], ""),
    })
    .await
}

#[tokio::test]
async fn a_blob_comes_from_listed_storage_without_our_credentials() {
    let storage = Registry::start(|_| reply(200, &[], "layer")).await;
    let registry = redirecting(storage.url("/bucket/x?sig=1")).await;
    let upstream = registry.upstream_with(|settings| {
        settings.credentials = basic();
        settings.redirects = Redirects::Listed(vec!["127.0.0.1".parse().expect("a pattern")]);
    });
    let digest = Digest::sha256(b"layer");
    let blob = blob(&upstream, "team/app", 0).await;
    let blob = blob.expect("a blob");
    assert_eq!(blob.size, Some(5));
    assert_eq!(whole(blob.body).await.expect("whole"), b"layer");
    let size = upstream.blob_size(&repository(), &digest).await;
    assert_eq!(size, Ok(Some(5)));
    let asked = storage.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].target, "/bucket/x?sig=1");
    assert_eq!(asked[1].method, "HEAD");
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    // Manifests come from the registry itself, listed or not.
    let manifest = manifest(&upstream, "v1").await;
    assert_eq!(
        manifest.err(),
        Some(UpstreamError::RefusedRedirect {
            to: "127.0.0.1".to_owned(),
            reason: RedirectRefusal::AnotherHost,
        })
    );
    assert_eq!(storage.asked().len(), 2);
}

// THREATS A3: redirects to internal hosts, by address and by name.
#[tokio::test]
async fn internal_storage_that_nobody_listed_is_not_asked() {
    let inside = Registry::start(|_| reply(200, &[], "secret")).await;
    let port = inside
        .address
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
    ] {
        let registry = redirecting(format!("http://{host}:{port}/")).await;
        let upstream = registry.upstream_with(|settings| settings.credentials = basic());
        let blob = blob(&upstream, "team/app", 0).await;
        assert_eq!(
            blob.err(),
            Some(UpstreamError::RefusedRedirect {
                to: host.to_owned(),
                reason: RedirectRefusal::NotPublic,
            })
        );
    }
    assert_eq!(inside.asked().len(), 0);
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let registry = Registry::start(|_| reply(302, &[("Location", "/again")], "")).await;
    let upstream = registry.upstream();
    let blob = blob(&upstream, "team/app", 0).await;
    assert!(matches!(
        blob,
        Err(UpstreamError::RefusedRedirect {
            reason: RedirectRefusal::TooMany,
            ..
        })
    ));
    assert_eq!(registry.asked().len(), 4);
}

#[tokio::test]
async fn a_redirect_that_leads_back_to_the_registry_keeps_its_pace() {
    // Its paths are the registries that it sends everybody back to.
    let storage = Registry::start(|asked| {
        let back = format!("http:/{}/back", asked.target);
        reply(307, &[("Location", &back)], "")
    })
    .await;
    let storage = storage.url("");
    let registry = Registry::start(move |asked| {
        if asked.target == "/back" {
            return reply(429, &[("Retry-After", "120")], "");
        }
        let host = asked.header("host").unwrap_or_default();
        let away = format!("{storage}/{host}");
        reply(307, &[("Location", &away)], "")
    })
    .await;
    let upstream = registry.upstream_with(|settings| {
        settings.redirects = Redirects::Listed(vec!["127.0.0.1".parse().expect("a pattern")]);
    });
    for _ in 0..2 {
        let limited = blob(&upstream, "team/app", 0).await;
        assert!(matches!(limited, Err(UpstreamError::RateLimited { .. })));
    }
    let asked = registry.asked();
    assert_eq!(asked.len(), 2, "it has the rest that it asked for");
    assert_eq!(asked[1].target, "/back");
}

#[tokio::test]
async fn a_blob_is_resumed() {
    let registry = Registry::start(|asked| {
        let target = asked.target.as_str();
        assert_eq!(asked.header("range"), Some("bytes=3-"));
        if target.contains("/ranges/") {
            reply(206, &[("Content-Range", "bytes 3-5/6")], "def")
        } else if target.contains("/other/") {
            reply(206, &[("Content-Range", "bytes 2-5/6")], "cdef")
        } else {
            reply(200, &[], "abcdef")
        }
    })
    .await;
    let upstream = registry.upstream();
    for name in ["ranges", "plain"] {
        let blob = blob(&upstream, name, 3).await;
        let blob = blob.expect("a blob");
        assert_eq!(blob.size, Some(6), "{name}");
        assert_eq!(whole(blob.body).await.expect("whole"), b"def", "{name}");
    }
    let other = blob(&upstream, "other", 3).await;
    assert_eq!(
        other.err(),
        Some(UpstreamError::Malformed(MalformedAnswer::Range))
    );
}

#[tokio::test]
async fn slow_readers_of_blobs_do_not_keep_manifests_out() {
    let registry = Registry::start(|_| reply(200, &[], MANIFEST)).await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.blob_streams_max = 1;
        settings.limits.answer_timeout = Duration::from_millis(100);
    });
    let held = blob(&upstream, "team/app", 0).await;
    let held = held.expect("a blob");
    let second = blob(&upstream, "team/app", 0).await;
    assert!(matches!(
        second,
        Err(UpstreamError::TimedOut {
            stage: Stage::Queue,
            ..
        })
    ));
    manifest(&upstream, "v1").await.expect("fetched");
    drop(held);
    let third = blob(&upstream, "team/app", 0).await;
    assert!(third.is_ok(), "the place is free again");
}

#[tokio::test]
async fn who_asks_whether_they_are_known_has_a_place_and_their_token_needs_none() {
    let registry = token_registry().await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.connections_max = 1;
        settings.limits.answer_timeout = Duration::from_millis(400);
    });
    let shared = &upstream.places()[0];
    let place = shared.place(&shared.documents).await.expect("a place");
    let refused = upstream.knows_asker().await.expect_err("no place");
    let queue = Stage::Queue;
    assert!(matches!(refused, UpstreamError::TimedOut { stage, .. } if stage == queue));
    assert_eq!(registry.asked().len(), 0);
    drop(place);
    upstream.knows_asker().await.expect("known");
    assert_eq!(registry.asked().len(), 3);
}

/// A storm of first pulls is spread over time, all that it asks for together, and what is asked for
/// once more as well.
#[tokio::test]
async fn a_storm_comes_at_the_pace_of_the_registry() {
    const PACE: u32 = 20;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&seen);
    let registry = Registry::start(move |asked| {
        book.lock().expect("lock").push(Instant::now());
        match asked.target.ends_with("/lost") {
            true => Reply::Drop,
            false => reply(200, &[], MANIFEST),
        }
    })
    .await;
    let upstream = &registry.upstream_with(|settings| {
        settings.limits.requests_per_second_max = PACE;
        settings.limits.answer_timeout = Duration::from_secs(60);
        settings.limits.manifest_deadline = Duration::from_secs(60);
    });
    let begun = Instant::now();
    let storm = (0..30).map(|number| async move {
        match number % 3 {
            0 => manifest(upstream, "v1").await.is_ok(),
            1 => blob(upstream, "team/app", 0).await.is_ok(),
            _ => manifest(upstream, "lost").await.is_ok(),
        }
    });
    let answered = futures_util::future::join_all(storm).await;
    assert_eq!(answered.iter().filter(|answered| **answered).count(), 20);
    let mut seen = seen.lock().expect("lock").clone();
    seen.sort();
    assert_eq!(seen.len(), 40);
    // A second's worth comes at once; each one after that has its time, and none comes before it.
    let interval = Duration::from_secs(1) / PACE;
    for (number, seen) in (1_u32..).zip(seen) {
        let earliest = begun + interval * number.saturating_sub(PACE);
        assert!(seen >= earliest, "{number}: {:?}", seen - begun);
    }
}

/// Nothing is answered until the test says so: what has come and has no answer is under way.
#[tokio::test]
async fn a_storm_has_as_many_requests_under_way_as_there_are_places() {
    const DOCUMENTS: usize = 4;
    const BLOBS: usize = 2;
    const STORM: usize = 30;
    let leave = Arc::new(Semaphore::new(0));
    let wanted = Arc::clone(&leave);
    let registry = Registry::start(move |_| {
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
        Reply::Held(Arc::clone(&wanted), answer.to_vec())
    })
    .await;
    let upstream = &registry.upstream_with(|settings| {
        settings.limits.connections_max = DOCUMENTS;
        settings.limits.blob_streams_max = BLOBS;
        settings.limits.answer_timeout = Duration::from_secs(60);
        settings.limits.manifest_deadline = Duration::from_secs(60);
    });
    let storm = (0..STORM).map(|number| async move {
        match number % 2 {
            0 => manifest(upstream, "v1").await.map(drop),
            _ => blob(upstream, "team/app", 0).await.map(drop),
        }
    });
    let answering = async {
        // Whoever has no place has time to come all the same.
        let a_while = Duration::from_millis(10);
        while registry.asked().len() < DOCUMENTS + BLOBS {
            tokio::time::sleep(a_while).await;
        }
        tokio::time::sleep(a_while * 10).await;
        let asked = registry.asked();
        let is_blob = |asked: &&Asked| asked.target.contains("/blobs/");
        let blobs = asked.iter().filter(is_blob).count();
        assert_eq!((asked.len() - blobs, blobs), (DOCUMENTS, BLOBS));
        for answered in 1..=STORM {
            leave.add_permits(1);
            tokio::time::sleep(a_while).await;
            let asked = registry.asked().len();
            assert!(asked <= DOCUMENTS + BLOBS + answered, "{asked}");
        }
    };
    let (pulled, ()) = tokio::join!(futures_util::future::join_all(storm), answering);
    assert!(pulled.iter().all(Result::is_ok), "{pulled:?}");
    assert_eq!(registry.asked().len(), STORM);
}

fn referrers_page(from: usize, count: usize) -> String {
    let mut manifests = vec!["{}".to_owned(), "7".to_owned()];
    for number in from..from + count {
        let digest = Digest::sha256(&number.to_be_bytes());
        manifests.push(format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":1}}"#,
            media_type::OCI_MANIFEST
        ));
    }
    let manifests = manifests.join(",");
    format!(r#"{{"schemaVersion":2,"manifests":[{manifests}]}}"#)
}

const INDEX: (&str, &str) = ("Content-Type", media_type::OCI_INDEX);

// THREATS D1: endless Link pages, and ten thousand referrers.
#[tokio::test]
async fn referrers_are_bounded() {
    let registry = Registry::start(|asked| {
        let path = asked.target.split('?').next().unwrap_or_default();
        let next = format!("<{path}?more>; rel=\"next\"");
        let count = if asked.target.contains("/many/") {
            10
        } else {
            0
        };
        reply(200, &[INDEX, ("Link", &next)], referrers_page(0, count))
    })
    .await;
    let upstream = registry.upstream_with(|settings| settings.limits.pages_max = 5);
    let endless = referrers(&upstream, "team/app", 64).await;
    let endless = endless.expect("a list");
    assert!(endless.truncated && endless.descriptors.is_empty());
    assert_eq!(registry.asked().len(), 5);
    let many = referrers(&upstream, "many/x", 25).await;
    let many = many.expect("a list");
    assert!(many.truncated);
    assert_eq!(many.descriptors.len(), 25);
    assert_eq!(registry.asked().len(), 5 + 3);
}

#[tokio::test]
async fn all_pages_of_referrers_are_read_and_bad_descriptors_skipped() {
    let registry = Registry::start(|asked| {
        if asked.target.ends_with("?page=2") {
            return reply(200, &[INDEX], referrers_page(2, 3));
        }
        let next = format!("<{}?page=2>; rel=\"next\"", asked.target);
        reply(200, &[INDEX, ("Link", &next)], referrers_page(0, 2))
    })
    .await;
    let upstream = registry.upstream();
    let all = referrers(&upstream, "team/app", 64).await;
    let all = all.expect("a list");
    assert_eq!((all.descriptors.len(), all.truncated), (5, false));
    let exactly = referrers(&upstream, "team/app", 5).await;
    assert!(!exactly.expect("a list").truncated);
}

#[tokio::test]
async fn a_link_to_elsewhere_is_not_followed() {
    let elsewhere = Registry::start(|_| reply(200, &[INDEX], referrers_page(0, 1))).await;
    let port = elsewhere
        .address
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let registry = Registry::start(move |asked| {
        let next = format!("<http://localhost:{port}{}>; rel=\"next\"", asked.target);
        reply(200, &[INDEX, ("Link", &next)], referrers_page(0, 2))
    })
    .await;
    let found = referrers(&registry.upstream(), "team/app", 64).await;
    let found = found.expect("a list");
    assert_eq!((found.descriptors.len(), found.truncated), (2, true));
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test]
async fn a_registry_without_the_referrers_api_has_none() {
    let registry =
        Registry::start(
            |asked| match asked.target.split('/').nth(2).unwrap_or_default() {
                "html" => reply(200, &[("Content-Type", "text/html")], "<html>"),
                "ghcr" => reply(303, &[("Location", "https://github.com/-/v2/x")], ""),
                "missing" => reply(404, &[("Content-Type", "text/plain")], "404 page not found"),
                "method" => reply(405, &[], ""),
                "down" => reply(500, &[], ""),
                _ => reply(200, &[INDEX], "<html>"),
            },
        )
        .await;
    let upstream = registry.upstream();
    for name in ["html", "ghcr", "missing", "method"] {
        let found = referrers(&upstream, name, 64).await;
        assert_eq!(found.err(), Some(UpstreamError::NotFound), "{name}");
    }
    // THREATS C4: "could not tell" is never "has none".
    let down = referrers(&upstream, "down", 64).await;
    assert_eq!(down.err(), Some(UpstreamError::Status(500)));
    let broken = referrers(&upstream, "broken", 64).await;
    assert_eq!(
        broken.err(),
        Some(UpstreamError::Malformed(MalformedAnswer::Json))
    );
}

#[tokio::test]
async fn tags_come_in_pages() {
    let registry = Registry::start(|asked| {
        let path = asked.target.split('?').next().unwrap_or_default();
        match asked.target.split_once('?').map(|(_, query)| query) {
            Some("n=2&last=a%26n%3D9") => {
                let next = format!("<{path}?n=2&last=c>; rel=\"next\"");
                reply(200, &[("Link", &next)], r#"{"tags":["b","c"]}"#)
            }
            Some("n=2") => reply(200, &[], r#"{"tags":["a","b","c"]}"#),
            _ => reply(200, &[], r#"{"name":"x","tags":null}"#),
        }
    })
    .await;
    let upstream = registry.upstream();
    let page = async |n, last| upstream.tags(&repository(), n, last).await.expect("tags");
    let tags = |tags: &[&str], more| TagPage {
        tags: tags.iter().copied().map(str::to_owned).collect(),
        more,
    };
    assert_eq!(page(Some(2), Some("a&n=9")).await, tags(&["b", "c"], true));
    assert_eq!(page(Some(2), None).await, tags(&["a", "b"], true));
    assert_eq!(page(None, None).await, tags(&[], false));
}

#[test]
fn docker_hub_is_known() {
    let settings = Settings::known("docker.io".parse().expect("a host"));
    assert_eq!(settings.url.to_string(), "https://registry-1.docker.io");
    let short = settings.canonical("busybox".parse().expect("a name"));
    assert_eq!(short.as_str(), "library/busybox");
    let long = settings.canonical("acme/app".parse().expect("a name"));
    assert_eq!(long.as_str(), "acme/app");
    let other = Settings::known("ghcr.io".parse().expect("a host"));
    let name = other.canonical("busybox".parse().expect("a name"));
    assert_eq!(name.as_str(), "busybox");
}
