//! Credentials, addresses and routes (THREATS A): what clients and registries say leads nowhere but
//! to the configured upstream, whatever bytes they say it with.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use http::{HeaderName, HeaderValue, StatusCode};
use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{
    Auth, Endpoint, Fault, FaultId, Login, Misdeed, Options, Recorded, Registry,
};
use serde_json::{Value, json};

use super::{Gate, RELEASES, Settings, Site, files};
use crate::support::{Answer, HOST, recipe, release};

/// The upstream's login, whose password has a file of its own.
const LOGIN: &str = ", credentials: { username: pullgate, password_file: password }";

/// A port at which nobody is to knock.
struct Trap(TcpListener);

impl Trap {
    fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("does not block");
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    /// Nobody has connected, whether or not they went on to say something.
    #[track_caller]
    fn is_untouched(&self) {
        let knocked = self.0.accept();
        assert!(knocked.is_err(), "{knocked:?}");
    }
}

/// A GET as it stands on the wire.
fn get_line(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let statuses = answers.iter().map(|answer| answer.status.as_u16());
    statuses.collect()
}

/// Sends what asks for nothing that is here: it is refused once, and the registry is not asked.
async fn leads_nowhere(site: &Site, gate: &Gate, request: &str) -> Answer {
    site.registry.clear_requests();
    let mut answers = gate.raw(request).await;
    let told = statuses(&answers);
    let is_refused = told.len() == 1 && (400..500).contains(&told[0]);
    assert!(is_refused, "{request:?}: {told:?}");
    let asked = site.registry.requests();
    assert!(asked.is_empty(), "{request:?} led to {asked:?}");
    answers.remove(0)
}

fn lies_about_realm(site: &Site, endpoint: Endpoint, realm: &str) -> FaultId {
    let lie = Misdeed::ForeignRealm(realm.to_owned());
    site.registry.misbehave(Fault::on(endpoint, lie))
}

fn redirects(site: &Site, endpoint: Endpoint, to: &str) -> FaultId {
    let redirect = Misdeed::Redirect(to.to_owned());
    site.registry.misbehave(Fault::on(endpoint, redirect))
}

// THREATS A1, A2 (CVE-2026-33540): a token service elsewhere is not even connected to, on whichever
// way it is named; nor is the registry itself by a name that only leads there.
#[tokio::test]
async fn a1_a2_a_foreign_token_service_is_not_connected_to() {
    let site = Site::with(
        RELEASES,
        Settings {
            upstream: LOGIN,
            ..Settings::default()
        },
    )
    .await;
    site.write("password", "secret");
    let gate = site.run();
    let trap = Trap::set();
    let (thief, own) = (trap.address(), site.registry.address());
    let realms = [
        format!("http://{thief}/token"),
        format!("http://localhost:{}/token", thief.port()),
        format!("http://pullgate:secret@{thief}/token"),
        format!("http://{own}@{thief}/token"),
        format!("//{thief}/token"),
        "file:///etc/passwd".to_owned(),
        format!("http://{HOST}/token"),
        format!("http://{own}.evil.test/token"),
        format!("https://{own}/token"),
        format!("http://localhost:{}/token", own.port()),
        format!("http://127.1:{}/token", own.port()),
        format!("http://127.0.0.1.:{}/token", own.port()),
        format!("http://[::ffff:127.0.0.1]:{}/token", own.port()),
    ];
    for (number, realm) in realms.iter().enumerate() {
        let repository = format!("app-{number}");
        let package = site.released(&repository);
        let layer = Digest::sha256(&package.blobs[1]);
        for (endpoint, reason) in [
            (Endpoint::Manifests, "upstream_unauthorized"),
            (Endpoint::Referrers, "evidence_unavailable"),
        ] {
            let lie = lies_about_realm(&site, endpoint, realm);
            let answer = gate.manifest(&repository, "v1").await;
            answer.cannot_tell(reason);
            assert!(!answer.message().contains("secret"), "{realm}");
            site.registry.forgive(lie);
        }
        let answer = gate.manifest(&repository, "v1").await;
        answer.admits(&package.manifest);
        let lie = lies_about_realm(&site, Endpoint::Blobs, realm);
        let answer = gate.blob(&repository, layer).await;
        answer.cannot_tell("upstream_unauthorized");
        site.registry.forgive(lie);
        let answer = gate.blob(&repository, layer).await;
        answer.admits(&package.blobs[1]);
        trap.is_untouched();
    }
    let tokens = |request: &Recorded| request.endpoint == Endpoint::Token;
    assert_eq!(site.registry.count(tokens), 0, "a lookalike was asked");
    // It asked for none by a way of its own, so it got none.
    assert_eq!(site.registry.count(Recorded::has_authorization), 0);
}

// A1's other side, and A2, A3: the registry's own token service gets the login, and the storage
// that is listed gets nothing but the question; who is only called like it gets no question.
#[tokio::test]
async fn a1_a2_a3_a_login_goes_to_the_registry_and_no_further() {
    let storage = Registry::start().await.expect("a port");
    let trap = Trap::set();
    let login = Login::new("pullgate", "secret");
    let upstream = format!("{LOGIN}, redirects: [\"{}\"]", storage.address());
    let site = Site::with(
        RELEASES,
        Settings {
            registry: Options {
                auth: Auth::Bearer(vec![login]),
                ..Options::default()
            },
            upstream: &upstream,
            ..Settings::default()
        },
    )
    .await;
    site.write("password", "secret");
    let package = site.released("app");
    storage.put_package("app", &package);
    let gate = site.run();
    let answer = gate.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let logs_in =
        |request: &Recorded| request.endpoint == Endpoint::Token && request.has_authorization();
    assert_ne!(site.registry.count(logs_in), 0, "it got in without a token");

    let layer = Digest::sha256(&package.blobs[1]);
    let path = format!("/v2/app/blobs/{layer}");
    let (listed, port) = (storage.address(), storage.address().port());
    for to in [
        format!("http://{}{path}", trap.address()),
        format!("http://{listed}@{}{path}", trap.address()),
        format!("http://localhost:{port}{path}"),
        format!("http://127.1:{port}{path}"),
        format!("http://127.0.0.1.:{port}{path}"),
        format!("http://{listed}.evil.test{path}"),
    ] {
        let redirect = redirects(&site, Endpoint::Blobs, &to);
        let answer = gate.blob("app", layer).await;
        answer.cannot_tell("upstream_unreachable");
        site.registry.forgive(redirect);
        trap.is_untouched();
        assert_eq!(storage.requests().len(), 0, "{to}");
    }
    redirects(&site, Endpoint::Blobs, &format!("http://{listed}{path}"));
    let answer = gate.blob("app", layer).await;
    answer.admits(&package.blobs[1]);
    let asked = storage.requests();
    assert!(!asked.is_empty());
    assert!(!asked.iter().any(Recorded::has_authorization), "{asked:?}");
}

// THREATS A2, A3: what a client says in `?ns=`, in Host, in the target or between the lines chooses
// among the upstreams by their names, and is no address.
#[tokio::test]
async fn a2_a3_no_name_that_a_client_gives_is_an_address() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let gate = site.run();
    let trap = Trap::set();
    let address = trap.address();
    let namespaces = [
        address.to_string(),
        format!("localhost:{}", address.port()),
        format!("http://{address}"),
        format!("{HOST}@{address}"),
        format!("{HOST}%40{address}"),
        format!("user:password@{HOST}"),
        format!("{HOST}%23@{address}"),
        format!("{HOST}%0d%0aHost:%20{address}"),
        format!("{HOST}%00"),
        format!("{HOST}%20"),
        format!("{HOST}/"),
        format!("{HOST}."),
        format!("{HOST}:443"),
        format!("{HOST}.evil.test"),
        format!("evil-{HOST}"),
        HOST.to_uppercase(),
        HOST.replacen('.', "-", 1),
        HOST.replacen('e', "%D0%B5", 1),
        "169.254.169.254".to_owned(),
        "%5B::1%5D".to_owned(),
        "..".to_owned(),
        String::new(),
    ];
    let digest = package.digest();
    for namespace in &namespaces {
        for rest in [
            "manifests/v1".to_owned(),
            format!("blobs/{digest}"),
            format!("referrers/{digest}"),
            "tags/list".to_owned(),
        ] {
            let request = get_line(&format!("/v2/app/{rest}?ns={namespace}"));
            let answer = leads_nowhere(&site, &gate, &request).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{request}");
            assert_eq!(answer.code(), "NAME_UNKNOWN", "{request}");
        }
    }
    // Bytes that have no place in a head, or begin another line in it.
    let target = format!("/v2/app/manifests/v1?ns={HOST}");
    for between in [
        format!("\r\nHost: {address}"),
        format!("\nHost: {address}"),
        format!("\r{address}"),
        format!("\0{address}"),
        format!("\t{address}"),
        format!(" {address}"),
    ] {
        leads_nowhere(&site, &gate, &get_line(&(target.clone() + &between))).await;
    }
    let folded = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n @{address}\r\n\r\n");
    leads_nowhere(&site, &gate, &folded).await;
    let tunnel = format!("CONNECT {address} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
    leads_nowhere(&site, &gate, &tunnel).await;
    // Where no upstream is called so, the default is meant, or a repository that it has not.
    let image = "/v2/app/manifests/v1";
    for (target, host) in [
        (format!("http://{address}{image}"), "gate".to_owned()),
        (format!("http://{HOST}@{address}{image}"), "gate".to_owned()),
        (image.to_owned(), address.to_string()),
        (image.to_owned(), format!("{HOST}@{address}")),
        (format!("/v2/{address}/app/manifests/v1"), "gate".to_owned()),
        (
            "/v2/169.254.169.254/latest/manifests/v1".to_owned(),
            "169.254.169.254".to_owned(),
        ),
    ] {
        let answer = gate.ask("GET", &target, &[("host", host.as_str())]).await;
        match answer.status {
            StatusCode::OK => answer.admits(&package.manifest),
            status => assert!(status.is_client_error(), "{target} {host}: {status}"),
        }
    }
    trap.is_untouched();
    // The upstream is found by its name, in each of these places.
    for (target, host) in [
        (format!("{image}?ns={HOST}"), "gate"),
        (format!("/v2/{HOST}/app/manifests/v1"), "gate"),
        (format!("http://{HOST}{image}"), "gate"),
        (image.to_owned(), HOST),
    ] {
        let answer = gate.ask("GET", &target, &[("host", host)]).await;
        answer.admits(&package.manifest);
    }
}

// THREATS A3, A5: nothing that a registry says leads inside, be it a redirect or the addresses in a
// manifest.
#[tokio::test]
async fn a3_a5_nothing_that_a_registry_says_leads_inside() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let gate = site.run();
    let trap = Trap::set();
    let address = trap.address();
    let port = address.port();
    let answer = gate.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let layer = Digest::sha256(&package.blobs[1]);
    let path = format!("/v2/app/blobs/{layer}");
    for to in [
        format!("http://{address}{path}"),
        format!("http://localhost:{port}{path}"),
        format!("http://[::ffff:127.0.0.1]:{port}{path}"),
        format!("http://127.1:{port}{path}"),
        format!("http://2130706433:{port}{path}"),
        format!("http://0.0.0.0:{port}{path}"),
        format!("//{address}{path}"),
        format!("http://storage.test@{address}{path}"),
        format!("http://user:password@{address}{path}"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let redirect = redirects(&site, Endpoint::Blobs, &to);
        let answer = gate.blob("app", layer).await;
        answer.cannot_tell("upstream_unreachable");
        site.registry.forgive(redirect);
        trap.is_untouched();
    }
    gate.blob("app", layer).await.admits(&package.blobs[1]);
    // Manifests and referrers are redirected nowhere at all. (Of a registry that redirects these it is
    // known that it has none.)
    for (repository, endpoint) in [
        ("manifests", Endpoint::Manifests),
        ("referrers", Endpoint::Referrers),
    ] {
        let package = site.released(repository);
        let to = format!("http://{address}/v2/{repository}/{repository}/v1");
        let redirect = redirects(&site, endpoint, &to);
        let answer = gate.manifest(repository, "v1").await;
        match endpoint {
            Endpoint::Referrers => answer.denies("unsigned"),
            _ => answer.cannot_tell("upstream_unreachable"),
        }
        site.registry.forgive(redirect);
        gate.comes_to_say(repository, "admitted").await;
        gate.manifest(repository, "v1")
            .await
            .admits(&package.manifest);
    }
    trap.is_untouched();

    let bytes = b"a layer of somewhere else".to_vec();
    let layer = Digest::sha256(&bytes);
    let url = format!("http://{address}/v2/foreign/blobs/{layer}");
    let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let package = changed("foreign", |manifest| {
        manifest["layers"] = json!([
            {"mediaType": kind, "digest": layer, "size": bytes.len(), "urls": [url]},
        ]);
    });
    push_release(&site, "foreign", &package);
    let answer = gate.manifest("foreign", "v1").await;
    answer.admits(&package.manifest);
    let answer = gate.blob("foreign", layer).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.message());
    trap.is_untouched();
    // Where the registry has it, it is a layer like any other.
    site.registry.put_blob("foreign", bytes.clone());
    gate.blob("foreign", layer).await.admits(&bytes);
    trap.is_untouched();
}

/// An image under a tag, whose manifest was changed.
fn changed(content: &str, change: impl FnOnce(&mut Value)) -> Package {
    let mut package = image::runnable(content).tagged("v1");
    let mut manifest: Value = serde_json::from_slice(&package.manifest).expect("JSON");
    change(&mut manifest);
    package.manifest = manifest.to_string().into_bytes();
    package
}

fn push_release(site: &Site, repository: &str, package: &Package) {
    let identity = release();
    site.registry.put_package(repository, package);
    site.sign(repository, package, &recipe(&identity));
}

/// `alice:word`, `bob:word`, and Alice with another password.
const ALICE: &str = "Basic YWxpY2U6d29yZA==";
const BOB: &str = "Basic Ym9iOndvcmQ=";
const NOT_ALICE: &str = "Basic YWxpY2U6d29ydA==";

/// Whoever is not Alice is asked who they are, and learns nothing more.
async fn is_nobody_elses(gate: &Gate, targets: &[String]) {
    for other in [Some(BOB), Some(NOT_ALICE), None, Some("Basic Og==")] {
        let headers = other.map(|login| ("authorization", login));
        for target in targets {
            let answer = gate.ask("GET", target, headers.as_slice()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{target}");
            assert_eq!(answer.code(), "UNAUTHORIZED", "{target}");
            let challenge = format!("Basic realm=\"{HOST}\"");
            assert_eq!(answer.header("www-authenticate"), challenge, "{target}");
            let answer = gate.ask("HEAD", target, headers.as_slice()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{target}");
            assert_eq!(answer.header("docker-content-digest"), "", "{target}");
        }
    }
}

// THREATS A4 (CVE-2024-39897, CVE-2026-35172): what Alice may read and has is nobody else's: not
// from memory, not on the connection that she asked by, and not from the disk after a kill.
#[tokio::test]
async fn a4_what_one_tenant_cached_is_nobody_elses() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let logins = vec![
            Login::new("alice", "word").only(&["app"]),
            Login::new("bob", "word").only(&["other"]),
        ];
        let site = Site::with(
            RELEASES,
            Settings {
                registry: Options {
                    auth: auth(logins),
                    ..Options::default()
                },
                upstream: ", credentials: caller",
                ..Settings::default()
            },
        )
        .await;
        let package = site.released("app");
        let (digest, blob) = (package.digest(), Digest::sha256(&package.blobs[0]));
        let targets = [
            "/v2/app/manifests/v1".to_owned(),
            format!("/v2/app/manifests/{digest}"),
            format!("/v2/app/blobs/{blob}"),
            "/v2/app/tags/list".to_owned(),
            format!("/v2/app/referrers/{digest}"),
        ];
        let alice = [("authorization", ALICE)];
        let gate = site.run();
        for target in &targets {
            let answer = gate.ask("GET", target, &alice).await;
            let message = answer.message();
            assert_eq!(answer.status, StatusCode::OK, "{target}: {message}");
        }
        is_nobody_elses(&gate, &targets).await;
        // Something in front of the gate may have one connection for all.
        let line = |more: &str| format!("GET {} HTTP/1.1\r\nHost: gate\r\n{more}\r\n", targets[0]);
        let on_one_connection = [
            line(&format!("Authorization: {ALICE}\r\n")),
            line(""),
            line(&format!("Authorization: {BOB}\r\n")),
            line(&format!("Authorization: {ALICE}\r\nConnection: close\r\n")),
        ];
        let answers = gate.raw(&on_one_connection.concat()).await;
        assert_eq!(statuses(&answers), [200, 401, 401, 200]);
        site.kept("manifests", digest).await;
        site.kept("blobs", blob).await;

        let gate = site.restart(gate);
        is_nobody_elses(&gate, &targets).await;
        let answer = gate.ask("GET", &targets[1], &alice).await;
        answer.admits(&package.manifest);
        let answer = gate.ask("GET", &targets[2], &alice).await;
        answer.admits(&package.blobs[0]);
        is_nobody_elses(&gate, &targets).await;
    }
}

/// What no client is to see.
const SECRET: &str = "nobody is to see this";

/// Every file outside of the cache directory, with what it holds.
fn outside(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let cache = site.path("cache");
    let outside = files(site.folder.path()).into_iter();
    let outside = outside.filter(|file| !file.starts_with(&cache));
    let read = |file: PathBuf| (file.clone(), fs::read(file).expect("a file"));
    outside.map(read).collect()
}

// THREATS A6 (CVE-2024-3727): a digest is hexadecimal digits of the right number, and a path in its
// place, from a client or a registry, leads to no file: none is read, and none is written.
#[tokio::test]
async fn a6_no_name_is_a_path_to_a_file() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    // Where whoever climbs would come by.
    for place in ["", "cache/", "cache/blobs/", "cache/blobs/sha256/"] {
        site.write(&format!("{place}secret"), SECRET);
    }
    let before = outside(&site);
    let gate = site.run();
    let answer = gate.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let layer = Digest::sha256(&package.blobs[1]);
    gate.blob("app", layer).await.admits(&package.blobs[1]);
    site.kept("blobs", layer).await;
    let (zeros, hex) = ("0".repeat(64), layer.hex());
    let digests = [
        "../../../secret".to_owned(),
        "..%2f..%2f..%2fsecret".to_owned(),
        "sha256:../secret".to_owned(),
        "sha256:../../../secret".to_owned(),
        "sha256:..%2f..%2f..%2fsecret".to_owned(),
        "sha256:..%252f..%252f..%252fsecret".to_owned(),
        "sha256:%2e%2e/%2e%2e/%2e%2e/secret".to_owned(),
        "sha256:..\\..\\..\\secret".to_owned(),
        "sha256:/etc/passwd".to_owned(),
        format!("sha256:{}/../../../../secret", &hex[..2]),
        format!("sha256:{hex}/../{hex}"),
        format!("sha256:{hex}%00"),
        format!("sha256:{hex}%20"),
        format!("sha256:{hex}."),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256::{hex}"),
        format!("+sha256:{hex}"),
        format!("sha256:{}", &zeros[1..]),
        format!("sha256:{zeros}0"),
        format!("sha512:{zeros}"),
        format!("md5:{}", &zeros[..32]),
        "sha256:".to_owned(),
    ];
    let kinds = ["manifests", "blobs", "referrers"];
    let mut targets: Vec<String> = digests
        .iter()
        .flat_map(|digest| kinds.map(|kind| format!("/v2/app/{kind}/{digest}")))
        .collect();
    for repository in [
        "..",
        "../..",
        "%2e%2e",
        "app/..",
        "app/%2e%2e",
        "app/.",
        ".",
    ] {
        targets.push(format!("/v2/{repository}/blobs/sha256:{hex}"));
        targets.push(format!("/v2/{repository}/manifests/secret"));
    }
    for target in &targets {
        let answer = leads_nowhere(&site, &gate, &get_line(target)).await;
        let body = String::from_utf8_lossy(&answer.body);
        assert!(!body.contains(SECRET), "{target}: {body}");
    }
    // Nor where a registry says so: in a manifest that is signed, and in a header.
    for (repository, place) in [("config", "/config/digest"), ("layer", "/layers/0/digest")] {
        let package = changed(repository, |manifest| {
            let digest = manifest.pointer_mut(place).expect("a digest");
            *digest = json!("sha256:../../../secret");
        });
        push_release(&site, repository, &package);
        let answer = gate.manifest(repository, "v1").await;
        answer.denies("malformed");
    }
    let name = HeaderName::from_static("docker-content-digest");
    let value = HeaderValue::from_static("sha256:../../../secret");
    let lie = Misdeed::Header(name, value);
    site.registry.misbehave(Fault::on(Endpoint::Manifests, lie));
    for _ in 0..2 {
        let answer = gate.manifest("app", "v1").await;
        answer.admits(&package.manifest);
    }
    assert_eq!(outside(&site), before);
}

// THREATS A7: paths that are encoded once or twice, climb, or write names in upper case; methods
// that push, or that nobody knows; and a request within another.
#[tokio::test]
async fn a7_odd_requests_lead_nowhere() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let layer = Digest::sha256(&package.blobs[1]);
    let gate = site.run();
    for target in [
        "/v2/app%2f..%2fother/manifests/v1",
        "/v2/app%252fother/manifests/v1",
        "/v2/%61pp/manifests/v1",
        "/v2/%2561pp/manifests/v1",
        "/v2/../app/manifests/v1",
        "/v2/./app/manifests/v1",
        "/v2/app/../../manifests/v1",
        "/v2//app/manifests/v1",
        "/v2/app//manifests/v1",
        "/v2/app/manifests//v1",
        "/v2/app/manifests/v1/",
        "/v2/app/manifests/v%31",
        "/v2/app/manifests/%2576%2531",
        "/v2/app/manifests%2fv1",
        "/v2/APP/manifests/v1",
        "/V2/app/manifests/v1",
        "/v2/app/Manifests/v1",
        "/v2/app/MANIFESTS/v1",
        "/v2/app;x=1/manifests/v1",
        "/v2/app\\..\\x/manifests/v1",
        "/v2/\u{e4}pp/manifests/v1",
        "/v1/app/manifests/v1",
        "/v2/app/manifests/",
        "/v2/manifests/v1",
        "/v2/app",
        "/v2/_catalog",
        "/metrics",
        "/decisions",
        "/",
        "*",
        "v2/app/manifests/v1",
    ] {
        leads_nowhere(&site, &gate, &get_line(target)).await;
    }
    for method in [
        "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "PROPFIND",
    ] {
        for target in [
            "/v2/app/manifests/v1".to_owned(),
            format!("/v2/app/blobs/{layer}"),
            "/v2/app/blobs/uploads/".to_owned(),
            "/v2/".to_owned(),
        ] {
            let request = get_line(&target).replacen("GET", method, 1);
            let answer = leads_nowhere(&site, &gate, &request).await;
            let status = StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(answer.status, status, "{method} {target}");
            assert_eq!(answer.header("allow"), "GET, HEAD", "{method} {target}");
        }
    }
    let within = get_line("/v2/app/manifests/v1");
    let around = format!(
        "PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{within}",
        within.len()
    );
    leads_nowhere(&site, &gate, &around).await;
    // By itself it is a pull, and so it is in the words of an older protocol.
    let old = "GET /v2/app/manifests/v1 HTTP/1.0\r\n\r\n";
    for request in [within.as_str(), old] {
        let answers = gate.raw(request).await;
        assert_eq!(statuses(&answers), [200], "{request}");
        answers[0].admits(&package.manifest);
    }
}

// THREATS A7: who a client says it is, where it says it comes from and what it says it may, make
// no difference, to what is refused as to what passes.
#[tokio::test]
async fn a7_headers_do_not_change_a_verdict() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    site.push("plain", "nobody has signed it");
    let gate = site.run();
    for header in [
        ("user-agent", "cosign/v3.0.0"),
        ("user-agent", "pullgate/0.1.0"),
        ("user-agent", "kube-probe/1.30"),
        ("user-agent", ""),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", HOST),
        ("forwarded", "for=127.0.0.1;host=gate;proto=https"),
        ("x-original-url", "/v2/"),
        ("x-http-method-override", "HEAD"),
        ("authorization", "Basic cm9vdDpyb290"),
        ("accept", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("pullgate-decision", "0000000000000001"),
    ] {
        let target = "/v2/plain/manifests/v1";
        gate.ask("GET", target, &[header]).await.denies("unsigned");
        let target = "/v2/app/manifests/v1";
        let answer = gate.ask("GET", target, &[header]).await;
        answer.admits(&package.manifest);
    }
    // And none of them went on to the registry.
    let passed_on = site.registry.count(|request| {
        request.has_authorization()
            || request.header("x-forwarded-for").is_some()
            || request
                .header("user-agent")
                .is_none_or(|agent| !agent.starts_with("pullgate/"))
    });
    assert_eq!(passed_on, 0);
}

/// However a manifest of this image or a blob is asked for, it is refused, and nothing of it comes:
/// no part, and no word that the client's copy is still good.
async fn is_refused(gate: &Gate, repository: &str, package: &Package, reason: &str) {
    let digest = package.digest();
    let manifests = ["v1".to_owned(), digest.to_string()];
    let manifests = manifests.map(|reference| (format!("manifests/{reference}"), digest, reason));
    let blobs = package.blobs.iter().map(|blob| {
        let digest = Digest::sha256(blob);
        (format!("blobs/{digest}"), digest, "not_reachable")
    });
    for (what, digest, reason) in manifests.into_iter().chain(blobs) {
        let target = format!("/v2/{repository}/{what}");
        let etag = format!("\"{digest}\"");
        for headers in [
            &[][..],
            &[("range", "bytes=0-9")],
            &[("range", "bytes=-1"), ("if-range", etag.as_str())],
            &[("range", "bytes=9-0")],
            &[("if-none-match", etag.as_str())],
            &[("if-none-match", "*")],
            &[("if-modified-since", "Sat, 01 Jan 2050 00:00:00 GMT")],
            &[("if-match", etag.as_str())],
        ] {
            let answer = gate.ask("GET", &target, headers).await;
            answer.denies(reason);
            assert!(answer.whole, "{target} {headers:?}");
            assert_eq!(answer.header("etag"), "", "{target} {headers:?}");
            let body = String::from_utf8_lossy(&answer.body);
            assert!(!body.contains("layers"), "{target} {headers:?}: {body}");

            // After the head nothing comes, whatever length it tells.
            let answer = gate.ask("HEAD", &target, headers).await;
            assert!(answer.body.is_empty(), "{target} {headers:?}");
            assert_eq!(answer.header("etag"), "", "{target} {headers:?}");
            if what.starts_with("blobs") {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{target}");
                continue;
            }
            assert_eq!(answer.status, StatusCode::OK, "{target}");
            let told = answer.header("docker-content-digest");
            assert_eq!(told, digest.to_string(), "{target}");
        }
    }
}

// THREATS A8: what is denied is denied however it is asked for, whether it never passed or has
// passed until now.
#[tokio::test]
async fn a8_what_is_denied_is_denied_however_it_is_asked_for() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let plain = site.push("plain", "nobody has signed it");
    let gate = site.run();
    // What passes is confirmed, and parts of it are served.
    let digest = package.digest();
    let etag = format!("\"{digest}\"");
    for reference in ["v1".to_owned(), digest.to_string()] {
        let target = format!("/v2/app/manifests/{reference}");
        gate.get(&target).await.admits(&package.manifest);
        let headers = [("if-none-match", etag.as_str())];
        let answer = gate.ask("GET", &target, &headers).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{target}");
        assert!(answer.body.is_empty(), "{target}");
    }
    for blob in &package.blobs {
        let target = format!("/v2/app/blobs/{}", Digest::sha256(blob));
        gate.get(&target).await.admits(blob);
        let range = [("range", "bytes=10-19")];
        let answer = gate.ask("GET", &target, &range).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{target}");
        assert_eq!(answer.body, blob[10..20], "{target}");
    }
    gate.says("plain", "v1", "unsigned").await;
    is_refused(&gate, "plain", &plain, "unsigned").await;
    site.rule(&RELEASES.replace("signed_by: release", "signed_by: mallory"));
    gate.reload();
    gate.comes_to_say("app", "untrusted_signer").await;
    is_refused(&gate, "app", &package, "untrusted_signer").await;
}
