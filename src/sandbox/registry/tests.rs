use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::LINK};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

use crate::oci::{Digest, media_type::OCI_MANIFEST};

use super::*;

const NAME: &str = "acme/app";
const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A request, sent on a connection of its own.
struct Ask(http::request::Builder);

impl Ask {
    fn new(method: Method, registry: &Registry, path: &str) -> Self {
        let url = registry.url() + path;
        Self(Request::builder().method(method).uri(url))
    }

    fn get(registry: &Registry, path: &str) -> Self {
        Self::new(Method::GET, registry, path)
    }

    fn with(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    async fn send(self) -> Result<Response<Incoming>, Error> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = self.0.body(Empty::<Bytes>::new()).expect("a request");
        client.request(request).await
    }

    async fn answer(self) -> Reply {
        let (head, body) = self.send().await.expect("an answer").into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Reply(Response::from_parts(head, bytes))
    }
}

/// An answer that has come whole.
struct Reply(Response<Bytes>);

impl Reply {
    fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    fn header(&self, name: &str) -> &str {
        let value = self.0.headers().get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    fn body(&self) -> &[u8] {
        self.0.body()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.body()).expect("JSON")
    }

    fn error_code(&self) -> Value {
        self.json()["errors"][0]["code"].clone()
    }

    /// Where `Link` leads.
    fn next(&self) -> Option<String> {
        let link = self.0.headers().get(LINK)?.to_str().expect("text");
        let (target, relation) = link.split_once(">; ").expect("a target");
        assert_eq!(relation, "rel=\"next\"");
        Some(target.trim_start_matches('<').to_owned())
    }
}

async fn get(registry: &Registry, path: &str) -> Reply {
    Ask::get(registry, path).answer().await
}

fn manifest_path(reference: impl std::fmt::Display) -> String {
    format!("/v2/{NAME}/manifests/{reference}")
}

fn blob_path(digest: &Digest) -> String {
    format!("/v2/{NAME}/blobs/{digest}")
}

async fn registry_with(options: Options) -> Registry {
    Registry::start_with(options).await.expect("a free port")
}

async fn registry() -> Registry {
    registry_with(Options::default()).await
}

/// A registry with the manifest `{}` under the tag `v1`.
async fn registry_with_manifest() -> (Registry, Digest) {
    let registry = registry().await;
    let digest = registry.put_manifest(NAME, Some("v1"), OCI_MANIFEST, "{}");
    (registry, digest)
}

/// A registry with a blob of ten digits, and its path.
async fn registry_with_blob() -> (Registry, String) {
    let registry = registry().await;
    let path = blob_path(&registry.put_blob(NAME, "0123456789"));
    (registry, path)
}

/// Puts a manifest that refers to `subject`.
fn put_referrer(registry: &Registry, subject: Digest, artifact_type: &str, number: usize) {
    let manifest = json!({
        "artifactType": artifact_type,
        "subject": {"digest": subject},
        "annotations": {"number": number.to_string()},
    });
    registry.put_manifest(NAME, None, OCI_MANIFEST, manifest.to_string());
}

mod endpoints {
    use super::*;

    #[tokio::test]
    async fn the_base_says_that_this_is_a_registry() {
        let registry = registry().await;
        assert_eq!(get(&registry, "/v2/").await.status(), 200);
        assert_eq!(get(&registry, "/").await.status(), 404);
        assert_eq!(get(&registry, "/token").await.status(), 404);
    }

    #[tokio::test]
    async fn a_manifest_by_tag_and_by_digest() {
        let (registry, digest) = registry_with_manifest().await;
        for path in [manifest_path("v1"), manifest_path(digest)] {
            for method in [Method::GET, Method::HEAD] {
                let answer = Ask::new(method.clone(), &registry, &path).answer().await;
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.header("content-type"), OCI_MANIFEST);
                assert_eq!(answer.header("docker-content-digest"), digest.to_string());
                assert_eq!(answer.header("content-length"), "2");
                let body: &[u8] = if method == Method::GET { b"{}" } else { b"" };
                assert_eq!(answer.body(), body);
            }
        }
    }

    #[tokio::test]
    async fn a_manifest_is_sent_only_as_a_type_that_the_client_accepts() {
        let (registry, _) = registry_with_manifest().await;
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        for (accept, status) in [
            (docker.to_owned(), 404),
            (format!("{docker}, {OCI_MANIFEST};q=0.5"), 200),
            ("*/*".to_owned(), 200),
        ] {
            let ask = Ask::get(&registry, &manifest_path("v1")).with("accept", &accept);
            assert_eq!(ask.answer().await.status(), status, "{accept}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_404_with_its_code() {
        let (registry, digest) = registry_with_manifest().await;
        for (path, code) in [
            (manifest_path("v2"), "MANIFEST_UNKNOWN"),
            (blob_path(&digest), "BLOB_UNKNOWN"),
            ("/v2/none/manifests/v1".to_owned(), "NAME_UNKNOWN"),
            ("/v2/none/tags/list".to_owned(), "NAME_UNKNOWN"),
        ] {
            let answer = get(&registry, &path).await;
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(answer.error_code(), code, "{path}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_is_400_with_its_code() {
        let registry = registry().await;
        for (path, code) in [
            ("/v2/Upper/manifests/v1", "NAME_INVALID"),
            ("/v2/acme/app/blobs/sha256:short", "DIGEST_INVALID"),
            ("/v2/acme/app/manifests/.v1", "MANIFEST_INVALID"),
        ] {
            let answer = get(&registry, path).await;
            assert_eq!(answer.status(), 400, "{path}");
            assert_eq!(answer.error_code(), code, "{path}");
        }
    }

    #[tokio::test]
    async fn pushes_and_deletes_are_405() {
        let (registry, _) = registry_with_manifest().await;
        for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            let answer = Ask::new(method, &registry, &manifest_path("v1"));
            let answer = answer.answer().await;
            assert_eq!(answer.status(), 405);
            assert_eq!(answer.error_code(), "UNSUPPORTED");
            assert_eq!(answer.header("allow"), "GET, HEAD");
        }
    }

    #[tokio::test]
    async fn a_tag_moves_and_goes_and_a_manifest_goes() {
        let (registry, first) = registry_with_manifest().await;
        let second = registry.put_manifest(NAME, None, OCI_MANIFEST, "{ }");
        registry.tag(NAME, "v1", second);
        assert_eq!(get(&registry, &manifest_path("v1")).await.body(), b"{ }");
        registry.untag(NAME, "v1");
        assert_eq!(get(&registry, &manifest_path("v1")).await.status(), 404);
        registry.delete(NAME, &first);
        assert_eq!(get(&registry, &manifest_path(first)).await.status(), 404);
        assert_eq!(get(&registry, &manifest_path(second)).await.status(), 200);
    }

    #[tokio::test]
    async fn a_blob_belongs_to_its_repository() {
        let (registry, path) = registry_with_blob().await;
        let answer = get(&registry, &path).await;
        assert_eq!(answer.body(), b"0123456789");
        assert_eq!(answer.header("content-length"), "10");
        let elsewhere = path.replace(NAME, "acme/other");
        registry.put_blob("acme/other", "another");
        assert_eq!(get(&registry, &elsewhere).await.status(), 404);
    }

    #[tokio::test]
    async fn one_range_of_a_blob() {
        let (registry, path) = registry_with_blob().await;
        for (range, status, body, content_range) in [
            ("bytes=2-4", 206, "234", "bytes 2-4/10"),
            ("bytes=7-", 206, "789", "bytes 7-9/10"),
            ("bytes=8-99", 206, "89", "bytes 8-9/10"),
            ("bytes=-3", 206, "789", "bytes 7-9/10"),
            ("bytes=-99", 206, "0123456789", "bytes 0-9/10"),
            ("bytes=0-1,4-5", 200, "0123456789", ""),
            ("bytes=4-2", 200, "0123456789", ""),
            ("lines=1-2", 200, "0123456789", ""),
        ] {
            let answer = Ask::get(&registry, &path).with("range", range);
            let answer = answer.answer().await;
            assert_eq!(answer.status(), status, "{range}");
            assert_eq!(answer.body(), body.as_bytes(), "{range}");
            assert_eq!(answer.header("content-range"), content_range, "{range}");
        }
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            let answer = Ask::get(&registry, &path).with("range", range);
            let answer = answer.answer().await;
            assert_eq!(answer.status(), 416, "{range}");
            assert_eq!(answer.header("content-range"), "bytes */10");
            assert_eq!(answer.error_code(), "RANGE_INVALID");
        }
    }

    #[tokio::test]
    async fn tags_come_sorted_and_in_pages() {
        let (registry, digest) = registry_with_manifest().await;
        for tag in ["v3", "v2"] {
            registry.tag(NAME, tag, digest);
        }
        let list = format!("/v2/{NAME}/tags/list");
        let all = get(&registry, &list).await;
        let expected = json!({"name": NAME, "tags": ["v1", "v2", "v3"]});
        assert_eq!(all.json(), expected);
        assert_eq!(all.next(), None);
        let first = get(&registry, &format!("{list}?n=2")).await;
        assert_eq!(first.json()["tags"], json!(["v1", "v2"]));
        let second = get(&registry, &first.next().expect("a second page")).await;
        assert_eq!(second.json()["tags"], json!(["v3"]));
        assert_eq!(second.next(), None);
        let none = get(&registry, &format!("{list}?n=0")).await;
        assert_eq!(none.json()["tags"], json!([]));
    }

    #[tokio::test]
    async fn referrers_come_in_pages_and_by_type() {
        let registry = registry_with(Options {
            referrers_per_page: 2,
            ..Options::default()
        })
        .await;
        let subject = registry.put_manifest(NAME, None, OCI_MANIFEST, "{}");
        for number in 0..3 {
            put_referrer(&registry, subject, SIGNATURE, number);
        }
        put_referrer(&registry, subject, "application/spdx+json", 3);

        let list = format!("/v2/{NAME}/referrers/{subject}");
        let mut page = Some(list.clone());
        let mut sizes = Vec::new();
        while let Some(path) = page {
            let answer = get(&registry, &path).await;
            sizes.push(answer.json()["manifests"].as_array().map(Vec::len));
            page = answer.next();
        }
        assert_eq!(sizes, [Some(2), Some(2)]);

        let encoded = SIGNATURE.replace('/', "%2F").replace('+', "%2B");
        let first = get(&registry, &format!("{list}?artifactType={encoded}")).await;
        assert_eq!(first.header("oci-filters-applied"), "artifactType");
        assert_eq!(first.json()["manifests"][0]["artifactType"], SIGNATURE);
        let second = get(&registry, &first.next().expect("a second page")).await;
        assert_eq!(second.json()["manifests"].as_array().map(Vec::len), Some(1));
        assert_eq!(second.next(), None);
    }

    #[tokio::test]
    async fn what_nothing_refers_to_has_an_empty_list() {
        let registry = registry().await;
        let path = format!("/v2/none/referrers/{}", Digest::sha256(b""));
        let answer = get(&registry, &path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json()["manifests"], json!([]));
    }

    #[tokio::test]
    async fn without_a_referrers_api_the_fallback_tag_lists_them() {
        let registry = registry_with(Options {
            referrers_api: false,
            ..Options::default()
        })
        .await;
        let subject = registry.put_manifest(NAME, None, OCI_MANIFEST, "{}");
        put_referrer(&registry, subject, SIGNATURE, 0);
        put_referrer(&registry, subject, SIGNATURE, 1);
        let absent = get(&registry, &format!("/v2/{NAME}/referrers/{subject}")).await;
        assert_eq!(absent.status(), 404);
        assert_eq!(absent.header("content-type"), "text/plain; charset=utf-8");
        let fallback = manifest_path(format_args!("sha256-{}", subject.hex()));
        let index = get(&registry, &fallback).await.json();
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    }
}

mod images {
    use super::*;
    use crate::oci::{Manifest, ManifestKind};

    async fn parsed(registry: &Registry, reference: impl std::fmt::Display) -> Manifest {
        let answer = get(registry, &manifest_path(reference)).await;
        Manifest::parse(answer.body(), Some(answer.header("content-type"))).expect("parses")
    }

    #[tokio::test]
    async fn an_image_is_there_with_all_its_parts() {
        let registry = registry().await;
        registry.put_image(NAME, Some("v1"), &[b"one", b"two"]);
        let ManifestKind::Image(image) = parsed(&registry, "v1").await.kind else {
            panic!("an image");
        };
        for part in std::iter::once(&image.config).chain(&image.layers) {
            let blob = get(&registry, &blob_path(&part.digest)).await;
            assert_eq!(blob.body().len() as u64, part.size);
            assert!(part.digest.matches(blob.body()));
        }
    }

    #[tokio::test]
    async fn an_index_lists_its_manifests() {
        let registry = registry().await;
        let image = registry.put_image(NAME, None, &[b"one"]);
        let index = registry.put_index(NAME, Some("v1"), &[image]);
        let ManifestKind::Index(index) = parsed(&registry, index).await.kind else {
            panic!("an index");
        };
        assert_eq!(index.manifests[0].digest, image);
        assert_eq!(index.manifests[0].media_type, OCI_MANIFEST);
    }

    #[tokio::test]
    async fn an_artifact_refers_to_its_subject() {
        let registry = registry().await;
        let image = registry.put_image(NAME, None, &[b"one"]);
        let artifact = registry.put_artifact(NAME, &image, SIGNATURE, "{}");
        let manifest = parsed(&registry, artifact).await;
        assert_eq!(manifest.subject, Some(image));
        let list = get(&registry, &format!("/v2/{NAME}/referrers/{image}")).await;
        let listed = list.json()["manifests"][0].clone();
        assert_eq!(listed["digest"], artifact.to_string());
        assert_eq!(listed["artifactType"], SIGNATURE);
    }
}

mod handles {
    use super::*;

    #[tokio::test]
    async fn requests_are_recorded() {
        let (registry, _) = registry_with_manifest().await;
        let path = manifest_path("v1");
        let ask = Ask::get(&registry, &format!("{path}?ns=a%2Fb")).with("X-Trace", "1");
        ask.with("Authorization", "Basic Og==").answer().await;
        get(&registry, "/v2/").await;

        let requests = registry.requests();
        assert_eq!(requests[0].path, path);
        assert_eq!(requests[0].endpoint, Endpoint::Manifests);
        assert_eq!(requests[0].parameter("ns").as_deref(), Some("a/b"));
        assert_eq!(requests[0].header("x-trace"), Some("1"));
        assert!(requests[0].has_authorization());
        assert!(!requests[1].has_authorization());
        assert_eq!(registry.count(|it| it.method == Method::GET), 2);
        registry.clear_requests();
        assert_eq!(registry.count(|_| true), 0);
    }

    #[tokio::test]
    async fn the_last_handle_stops_it() {
        let registry = registry().await;
        let other = registry.clone();
        drop(registry);
        assert_eq!(get(&other, "/v2/").await.status(), 200);
        let (tasks, address) = (other.tasks.clone(), other.address());
        drop(other);
        tasks.close();
        tasks.wait().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn stop_closes_the_port() {
        let registry = registry().await;
        registry.stop().await;
        assert!(Ask::get(&registry, "/v2/").send().await.is_err());
    }
}

mod auth {
    use super::*;

    fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    async fn guarded(auth: Auth) -> Registry {
        let registry = registry_with(Options {
            auth,
            ..Options::default()
        })
        .await;
        registry.put_manifest(NAME, Some("v1"), OCI_MANIFEST, "{}");
        registry
    }

    async fn pull(registry: &Registry, authorization: &str) -> Reply {
        let ask = Ask::get(registry, &manifest_path("v1"));
        ask.with("authorization", authorization).answer().await
    }

    /// Asks for a token to pull [`NAME`] with.
    async fn token(registry: &Registry, login: Option<(&str, &str)>) -> Reply {
        let path = "/token?service=any&scope=repository%3Aacme%2Fapp%3Apull,push";
        let ask = Ask::get(registry, path);
        match login {
            Some((user, password)) => ask.with("authorization", &basic(user, password)),
            None => ask,
        }
        .answer()
        .await
    }

    fn bearer(answer: &Reply) -> String {
        format!("Bearer {}", answer.json()["token"].as_str().expect("text"))
    }

    #[tokio::test]
    async fn basic_takes_the_right_password() {
        let login = Login::new("ada", "secret");
        let registry = guarded(Auth::Basic(vec![login])).await;
        for path in ["/v2/".to_owned(), manifest_path("v1")] {
            let answer = get(&registry, &path).await;
            assert_eq!(answer.status(), 401);
            assert_eq!(answer.header("www-authenticate"), "Basic realm=\"sandbox\"");
        }
        assert_eq!(pull(&registry, &basic("ada", "guess")).await.status(), 401);
        assert_eq!(pull(&registry, &basic("ada", "secret")).await.status(), 200);
    }

    #[tokio::test]
    async fn basic_keeps_users_to_their_repositories() {
        let login = Login::new("ada", "secret").only(&["other"]);
        let registry = guarded(Auth::Basic(vec![login])).await;
        let answer = pull(&registry, &basic("ada", "secret")).await;
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.error_code(), "DENIED");
    }

    #[tokio::test]
    async fn bearer_sends_for_a_token_that_opens_what_it_was_asked_for() {
        let registry = guarded(Auth::Bearer(Vec::new())).await;
        let challenged = get(&registry, &manifest_path("v1")).await;
        assert_eq!(challenged.status(), 401);
        let expected = format!(
            "Bearer realm=\"{}/token\",service=\"{}\",scope=\"repository:{NAME}:pull\"",
            registry.url(),
            registry.address(),
        );
        assert_eq!(challenged.header("www-authenticate"), expected);

        let answer = token(&registry, None).await;
        assert_eq!(answer.json()["expires_in"], 300);
        assert_eq!(pull(&registry, &bearer(&answer)).await.status(), 200);
        let elsewhere = Ask::get(&registry, "/v2/other/tags/list");
        let elsewhere = elsewhere.with("authorization", &bearer(&answer));
        let elsewhere = elsewhere.answer().await;
        assert_eq!(elsewhere.status(), 401);
        let challenge = elsewhere.header("www-authenticate");
        assert!(
            challenge.ends_with("error=\"insufficient_scope\""),
            "{challenge}"
        );
    }

    #[tokio::test]
    async fn a_revoked_token_opens_nothing() {
        let registry = guarded(Auth::Bearer(Vec::new())).await;
        let answer = token(&registry, None).await;
        registry.revoke_tokens();
        let refused = pull(&registry, &bearer(&answer)).await;
        assert_eq!(refused.status(), 401);
        let challenge = refused.header("www-authenticate");
        assert!(
            challenge.ends_with("error=\"invalid_token\""),
            "{challenge}"
        );
    }

    #[tokio::test]
    async fn a_realm_with_logins_gives_each_user_what_is_theirs() {
        let logins = vec![
            Login::new("ada", "secret"),
            Login::new("bob", "secret").only(&["other"]),
        ];
        let registry = guarded(Auth::Bearer(logins)).await;
        assert_eq!(token(&registry, None).await.status(), 401);
        assert_eq!(token(&registry, Some(("ada", "guess"))).await.status(), 401);
        for (user, status) in [("ada", 200), ("bob", 401)] {
            let answer = token(&registry, Some((user, "secret"))).await;
            let pulled = pull(&registry, &bearer(&answer)).await;
            assert_eq!(pulled.status(), status, "{user}");
        }
    }

    #[tokio::test]
    async fn a_caller_who_is_turned_away_meets_no_fault() {
        let registry = guarded(Auth::Bearer(Vec::new())).await;
        let broken = Misdeed::Status(StatusCode::INTERNAL_SERVER_ERROR);
        registry.misbehave(Fault::on(Endpoint::Manifests, broken).times(1));
        assert_eq!(get(&registry, &manifest_path("v1")).await.status(), 401);
        let answer = token(&registry, None).await;
        assert_eq!(pull(&registry, &bearer(&answer)).await.status(), 500);
        assert_eq!(pull(&registry, &bearer(&answer)).await.status(), 200);
    }
}

mod faults {
    use super::*;

    #[tokio::test]
    async fn wrong_bytes_under_the_right_headers() {
        let (registry, digest) = registry_with_manifest().await;
        registry.misbehave(Misdeed::WrongBytes("other".into()));
        let answer = get(&registry, &manifest_path(digest)).await;
        assert_eq!(answer.body(), b"other");
        assert_eq!(answer.header("content-length"), "5");
        assert_eq!(answer.header("content-type"), OCI_MANIFEST);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    }

    /// Reads a body until it breaks.
    async fn read_until_broken(mut body: Incoming) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match body.frame().await {
                Some(Ok(frame)) => bytes.extend(frame.into_data().expect("data")),
                Some(Err(_)) => return bytes,
                None => panic!("the body is whole: {bytes:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_body_is_cut() {
        let (registry, path) = registry_with_blob().await;
        registry.misbehave(Misdeed::CutAfter(4));
        let answer = Ask::get(&registry, &path).send().await.expect("a head");
        assert_eq!(answer.headers()["content-length"], "10");
        assert_eq!(read_until_broken(answer.into_body()).await, b"0123");
    }

    #[tokio::test]
    async fn a_content_length_lies() {
        let (registry, path) = registry_with_blob().await;
        registry.misbehave(Fault::from(Misdeed::ContentLength(12)).times(1));
        let answer = Ask::get(&registry, &path).send().await.expect("a head");
        assert_eq!(answer.headers()["content-length"], "12");
        assert_eq!(read_until_broken(answer.into_body()).await, b"0123456789");

        registry.misbehave(Misdeed::ContentLength(3));
        assert_eq!(get(&registry, &path).await.body(), b"012");
        let head = Ask::new(Method::HEAD, &registry, &path).answer().await;
        assert_eq!(head.header("content-length"), "3");
    }

    // A client that reuses the connection would take the rest for its next answer.
    #[tokio::test]
    async fn what_a_content_length_leaves_out_is_on_the_wire() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (registry, path) = registry_with_blob().await;
        registry.misbehave(Misdeed::ContentLength(3));
        let stream = tokio::net::TcpStream::connect(registry.address()).await;
        let mut stream = stream.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-length: 3\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n0123456789"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_has_no_length() {
        let (registry, path) = registry_with_blob().await;
        registry.misbehave(Misdeed::NoContentLength);
        let answer = get(&registry, &path).await;
        assert_eq!(answer.header("content-length"), "");
        assert_eq!(answer.header("transfer-encoding"), "chunked");
        assert_eq!(answer.body(), b"0123456789");
    }

    #[tokio::test]
    async fn a_body_drips() {
        let (registry, path) = registry_with_blob().await;
        registry.misbehave(Misdeed::Drip(Duration::from_millis(1)));
        let mut answer = Ask::get(&registry, &path).send().await.expect("a head");
        let first = answer
            .body_mut()
            .frame()
            .await
            .expect("more")
            .expect("sent");
        assert_eq!(first.into_data().expect("data"), "0");
        let rest = answer.into_body().collect().await.expect("the rest");
        assert_eq!(rest.to_bytes(), "123456789");
    }

    #[tokio::test]
    async fn a_body_is_huge() {
        const PETABYTE: u64 = 1 << 50;
        let (registry, path) = registry_with_blob().await;
        registry.misbehave(Misdeed::HugeBody(100_000));
        assert_eq!(get(&registry, &path).await.body(), [0; 100_000]);
        registry.behave();
        registry.misbehave(Misdeed::HugeBody(PETABYTE));
        let mut answer = Ask::get(&registry, &path).send().await.expect("a head");
        assert_eq!(answer.headers()["content-length"], PETABYTE.to_string());
        assert!(answer.body_mut().frame().await.is_some());
    }

    #[tokio::test]
    async fn a_tag_flips() {
        let (registry, first) = registry_with_manifest().await;
        let second = registry.put_manifest(NAME, None, OCI_MANIFEST, "{ }");
        registry.misbehave(Misdeed::TagInTurn(vec![first, second]));
        for expected in [first, second, first] {
            let answer = get(&registry, &manifest_path("v1")).await;
            let digest = answer.header("docker-content-digest");
            assert_eq!(digest, expected.to_string());
            assert!(expected.matches(answer.body()));
        }
    }

    #[tokio::test]
    async fn pages_have_no_end() {
        let (registry, digest) = registry_with_manifest().await;
        registry.misbehave(Misdeed::EndlessPages);
        let lists = [
            format!("/v2/{NAME}/tags/list"),
            format!("/v2/{NAME}/referrers/{digest}"),
        ];
        for list in lists {
            let mut seen = vec![list];
            for _ in 0..5 {
                let answer = get(&registry, &seen[seen.len() - 1]).await;
                let next = answer.next().expect("another page");
                assert!(!seen.contains(&next), "{next} again");
                seen.push(next);
            }
        }
    }

    #[tokio::test]
    async fn referrers_are_many() {
        let (registry, digest) = registry_with_manifest().await;
        registry.misbehave(Fault::on(Endpoint::Referrers, Misdeed::Referrers(10_000)));
        let answer = get(&registry, &format!("/v2/{NAME}/referrers/{digest}")).await;
        let list = answer.json()["manifests"].as_array().map(Vec::len);
        assert_eq!(list, Some(10_000));
    }

    #[tokio::test]
    async fn any_status_with_its_error_body() {
        let (registry, _) = registry_with_manifest().await;
        for (status, code) in [
            (401, "UNAUTHORIZED"),
            (403, "DENIED"),
            (404, "MANIFEST_UNKNOWN"),
            (500, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
        ] {
            let misdeed = Misdeed::Status(StatusCode::from_u16(status).expect("a status"));
            registry.misbehave(Fault::from(misdeed).times(1));
            let answer = get(&registry, &manifest_path("v1")).await;
            assert_eq!(answer.status(), status);
            assert_eq!(answer.error_code(), code);
        }
        assert_eq!(get(&registry, &manifest_path("v1")).await.status(), 200);
    }

    #[tokio::test]
    async fn too_many_requests_says_when_to_come_back() {
        let (registry, _) = registry_with_manifest().await;
        registry.misbehave(Misdeed::TooManyRequests(Duration::from_secs(7)));
        let answer = get(&registry, &manifest_path("v1")).await;
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.header("retry-after"), "7");
        assert_eq!(answer.error_code(), "TOOMANYREQUESTS");
    }

    #[tokio::test]
    async fn it_hangs_until_it_is_forgiven() {
        let (registry, _) = registry_with_manifest().await;
        let fault = registry.misbehave(Misdeed::Hang);
        let path = manifest_path("v1");
        let asked = Ask::get(&registry, &path).answer();
        let forgive = async {
            registry.wait_for(1, |_| true).await;
            registry.forgive(fault);
        };
        let (answer, ()) = tokio::join!(asked, forgive);
        assert_eq!(answer.status(), 200);
    }

    #[tokio::test]
    async fn the_connection_drops() {
        let (registry, _) = registry_with_manifest().await;
        registry.misbehave(Misdeed::DropConnection);
        assert!(Ask::get(&registry, "/v2/").send().await.is_err());
        registry.behave();
        assert_eq!(get(&registry, "/v2/").await.status(), 200);
    }

    #[tokio::test]
    async fn the_realm_is_foreign() {
        let (registry, _) = registry_with_manifest().await;
        registry.misbehave(Misdeed::ForeignRealm("http://thief.test/token".into()));
        let answer = get(&registry, &manifest_path("v1")).await;
        assert_eq!(answer.status(), 401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer realm=\"http://thief.test/token\","));
        assert!(challenge.ends_with("scope=\"repository:acme/app:pull\""));
    }

    #[tokio::test]
    async fn blobs_are_elsewhere() {
        let (registry, path) = registry_with_blob().await;
        let location = "http://storage.test/blob";
        registry.misbehave(Fault::on(
            Endpoint::Blobs,
            Misdeed::Redirect(location.into()),
        ));
        let answer = get(&registry, &path).await;
        assert_eq!(answer.status(), 307);
        assert_eq!(answer.header("location"), location);
        assert_eq!(answer.body(), b"");
        assert_eq!(get(&registry, "/v2/").await.status(), 200);
    }

    #[tokio::test]
    async fn headers_lie() {
        let (registry, _) = registry_with_manifest().await;
        let lie = Digest::sha256(b"lie");
        registry.misbehave(Misdeed::ContentType("text/html".into()));
        registry.misbehave(Misdeed::ContentDigest(lie));
        let verified = HeaderValue::from_static("true");
        let name = http::HeaderName::from_static("x-verified");
        registry.misbehave(Misdeed::Header(name, verified));
        let answer = get(&registry, &manifest_path("v1")).await;
        assert_eq!(answer.header("content-type"), "text/html");
        assert_eq!(answer.header("docker-content-digest"), lie.to_string());
        assert_eq!(answer.header("x-verified"), "true");
        assert_eq!(answer.body(), b"{}");
    }

    #[tokio::test]
    async fn a_fault_befalls_only_what_it_matches() {
        let (registry, digest) = registry_with_manifest().await;
        let fault = Fault::on(Endpoint::Manifests, Misdeed::Status(StatusCode::NOT_FOUND))
            .method(Method::GET)
            .path("/v2/acme/app/manifests/sha256:")
            .when(|request| request.header("user-agent") == Some("victim"))
            .times(1);
        registry.misbehave(fault);
        let victim = |method, reference: String| {
            let ask = Ask::new(method, &registry, &manifest_path(reference));
            ask.with("user-agent", "victim").answer()
        };
        let by_digest = digest.to_string();
        assert_eq!(victim(Method::HEAD, by_digest.clone()).await.status(), 200);
        assert_eq!(victim(Method::GET, "v1".to_owned()).await.status(), 200);
        assert_eq!(get(&registry, &manifest_path(digest)).await.status(), 200);
        assert_eq!(victim(Method::GET, by_digest.clone()).await.status(), 404);
        assert_eq!(victim(Method::GET, by_digest).await.status(), 200);
    }
}
