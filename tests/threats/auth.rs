//! Credentials, addresses and routes: nothing that a client or a registry says leads anywhere
//! but to the configured upstream.

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{
    self, Auth, Endpoint, Fault as RegistryFault, Login, Misdeed, Recorded, Registry,
};
use pullgate::upstream::{self, Credentials, Redirects, Secret};
use serde_json::{Value, json};

use crate::support::{HOST, Setup, World, push, release};

fn with_password(settings: &mut upstream::Settings) {
    settings.credentials = Credentials::Basic {
        username: "pullgate".to_owned(),
        password: Secret::new("secret"),
    };
}

/// A world whose registry asks for a password, which pullgate has.
async fn world_with_password(auth: fn(Vec<Login>) -> Auth) -> World {
    World::with(Setup {
        registry: registry::Options {
            auth: auth(vec![Login::new("pullgate", "secret")]),
            ..registry::Options::default()
        },
        upstream: with_password,
        ..Setup::default()
    })
    .await
}

/// Somebody who listens for credentials.
async fn thief() -> Registry {
    let auth = Auth::Bearer(Vec::new());
    let options = registry::Options {
        auth,
        ..registry::Options::default()
    };
    Registry::start_with(options).await.expect("a port")
}

fn push_release(world: &World) -> Package {
    let package = image::runnable("released").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    package
}

// THREATS A1 (CVE-2026-33540): a token service on a foreign host is not asked, let alone with
// credentials, on whichever way the registry names it.
#[tokio::test]
async fn a1_a_foreign_token_service_gets_no_credentials() {
    let world = world_with_password(Auth::Basic).await;
    let package = push_release(&world);
    let thief = thief().await;
    let realms = [
        format!("{}/token", thief.url()),
        format!("http://localhost:{}/token", thief.address().port()),
        format!("http://pullgate:secret@{}/token", thief.address()),
        format!("http://{HOST}.evil.test/token"),
        "file:///etc/passwd".to_owned(),
    ];
    for realm in realms {
        for (endpoint, reason) in [
            (Endpoint::Manifests, "upstream_unauthorized"),
            (Endpoint::Referrers, "evidence_unavailable"),
        ] {
            let lie = Misdeed::ForeignRealm(realm.clone());
            let lie = world.registry.misbehave(RegistryFault::on(endpoint, lie));
            let answer = world.manifest("app", "v1").await;
            answer.cannot_tell(reason);
            assert!(!answer.message().contains("secret"));
            world.registry.forgive(lie);
        }
    }
    assert_eq!(thief.requests().len(), 0, "the thief was asked");
    let answer = world.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let layer = Digest::sha256(&package.blobs[1]);
    let lie = Misdeed::ForeignRealm(format!("{}/token", thief.url()));
    world
        .registry
        .misbehave(RegistryFault::on(Endpoint::Blobs, lie));
    let answer = world.blob("app", layer).await;
    answer.cannot_tell("upstream_unauthorized");
    assert_eq!(thief.requests().len(), 0, "the thief was asked");
}

// THREATS A1: the registry's own token service is asked.
#[tokio::test]
async fn a1_a_token_service_of_the_registry_is_asked() {
    let world = world_with_password(Auth::Bearer).await;
    let package = push_release(&world);
    let answer = world.manifest("app", "v1").await;
    answer.admits(&package.manifest);
}

// THREATS A1, A3: storage that a blob is redirected to gets no credentials, and its bytes are
// those of the digest or are not served.
#[tokio::test]
async fn a1_storage_gets_no_credentials() {
    let world = World::with(Setup {
        registry: registry::Options {
            auth: Auth::Basic(vec![Login::new("pullgate", "secret")]),
            ..registry::Options::default()
        },
        upstream: |settings| {
            with_password(settings);
            let storage = "127.0.0.1".parse().expect("a host");
            settings.redirects = Redirects::Listed(vec![storage]);
        },
        ..Setup::default()
    })
    .await;
    let package = push_release(&world);
    let answer = world.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let storage = Registry::start().await.expect("a port");
    let layer = Digest::sha256(&package.blobs[1]);
    let path = format!("/v2/app/blobs/{layer}");
    let redirect = Misdeed::Redirect(format!("{}{path}", storage.url()));
    world
        .registry
        .misbehave(RegistryFault::on(Endpoint::Blobs, redirect));
    push(&storage, "app", &package);
    let wrong = storage.misbehave(Misdeed::WrongBytes("wrong".into()));
    let answer = world.blob("app", layer).await;
    answer.cannot_tell("content_mismatch");
    storage.forgive(wrong);
    let answer = world.blob("app", layer).await;
    answer.admits(&package.blobs[1]);
    let asked = storage.requests();
    assert!(!asked.is_empty());
    assert!(!asked.iter().any(Recorded::has_authorization), "{asked:?}");
}

// THREATS A3: what a client names as its registry chooses among those configured and is no
// address; and nothing was asked anywhere.
#[tokio::test]
async fn a3_a_namespace_is_never_an_address() {
    let world = World::new().await;
    push_release(&world);
    let internal = Registry::start().await.expect("a port");
    let address = internal.address();
    let namespaces = [
        address.to_string(),
        format!("localhost:{}", address.port()),
        format!("http://{address}"),
        format!("{HOST}@{address}"),
        format!("{HOST}%40{address}"),
        format!("user:password@{HOST}"),
        format!("{HOST}%23@{address}"),
        format!("{HOST}%0d%0aHost:%20{address}"),
        format!("{HOST}/"),
        format!("{HOST}."),
        format!("{HOST}:443"),
        HOST.to_uppercase(),
        "169.254.169.254".to_owned(),
        "%5B::1%5D".to_owned(),
        "..".to_owned(),
        String::new(),
    ];
    for namespace in &namespaces {
        for rest in [
            "manifests/v1".to_owned(),
            format!("blobs/{}", Digest::sha256(b"x")),
            format!("referrers/{}", Digest::sha256(b"x")),
            "tags/list".to_owned(),
        ] {
            let answer = world.get(&format!("/v2/app/{rest}?ns={namespace}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{namespace:?}");
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(body.contains("NAME_UNKNOWN"), "{namespace:?}: {body}");
        }
    }
    // The first of two counts, whichever it is.
    let answer = world
        .get(&format!("/v2/app/manifests/v1?ns={address}&ns={HOST}"))
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    // A Host header and a path that name no upstream are a name and a repository, no address.
    let host = [("host", address.to_string())];
    let host = host.each_ref().map(|(name, value)| (*name, value.as_str()));
    world.ask(Method::GET, "/v2/app/manifests/v2", &host).await;
    world.get(&format!("/v2/{address}/app/manifests/v1")).await;
    world.get("/v2/169.254.169.254/latest/manifests/v1").await;
    assert_eq!(
        internal.requests().len(),
        0,
        "an internal address was asked"
    );
}

// THREATS A3: a redirect does not lead to internal hosts either.
#[tokio::test]
async fn a3_a_redirect_leads_to_no_internal_host() {
    let world = World::new().await;
    let package = push_release(&world);
    let internal = Registry::start().await.expect("a port");
    push(&internal, "app", &package);
    world.sign("app", &package, &release());
    let answer = world.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let layer = Digest::sha256(&package.blobs[1]);
    let path = format!("/v2/app/blobs/{layer}");
    let port = internal.address().port();
    for location in [
        format!("http://127.0.0.1:{port}{path}"),
        format!("http://localhost:{port}{path}"),
        format!("http://[::ffff:127.0.0.1]:{port}{path}"),
        format!("http://127.1:{port}{path}"),
        format!("http://2130706433:{port}{path}"),
        format!("http://0.0.0.0:{port}{path}"),
        format!("//127.0.0.1:{port}{path}"),
        format!("http://storage.test@127.0.0.1:{port}{path}"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let redirect = Misdeed::Redirect(location.clone());
        let fault = RegistryFault::on(Endpoint::Blobs, redirect);
        let redirect = world.registry.misbehave(fault);
        let answer = world.blob("app", layer).await;
        assert_eq!(answer.status, 503, "{location}: {}", answer.message());
        world.registry.forgive(redirect);
    }
    // Manifests and referrers are redirected nowhere at all.
    for endpoint in [Endpoint::Manifests, Endpoint::Referrers] {
        let to = format!("{}/v2/app/manifests/v1", internal.url());
        let fault = RegistryFault::on(endpoint, Misdeed::Redirect(to));
        let redirect = world.registry.misbehave(fault);
        let answer = world.manifest("app", "v1").await;
        if endpoint == Endpoint::Manifests {
            answer.cannot_tell("upstream_unreachable");
        }
        world.registry.forgive(redirect);
    }
    assert_eq!(internal.requests().len(), 0, "an internal host was asked");
}

/// Asks for each target and expects none of them to get past the router.
async fn none_is_routed(world: &World, targets: &[String]) {
    for target in targets {
        world.registry.clear_requests();
        let line = world
            .raw(&format!(
                "GET {target} HTTP/1.1\r\nHost: pullgate\r\nConnection: close\r\n\r\n"
            ))
            .await;
        let status: u16 = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        assert!((400..500).contains(&status), "{target}: {line}");
        let asked = world.registry.requests();
        assert!(asked.is_empty(), "{target} led to {asked:?}");
    }
}

// THREATS A6 (CVE-2024-3727): a digest is hexadecimal digits of the right number and no path.
#[tokio::test]
async fn a6_a_digest_is_no_path() {
    let world = World::new().await;
    push_release(&world);
    let zeros = "0".repeat(64);
    let digests = [
        "sha256:../../x".to_owned(),
        "sha256:..%2f..%2fx".to_owned(),
        format!("sha256:{}/../../x", &zeros[..10]),
        format!("sha256:{}", &zeros[1..]),
        format!("sha256:{zeros}0"),
        format!("sha256:{}", "A".repeat(64)),
        format!("SHA256:{zeros}"),
        format!("sha256:{zeros}%00"),
        format!("sha256:{zeros}%20"),
        format!("sha512:{zeros}"),
        format!("md5:{}", &zeros[..32]),
        format!("sha256::{zeros}"),
        format!("+sha256:{zeros}"),
        "sha256:".to_owned(),
    ];
    let targets: Vec<String> = digests
        .iter()
        .flat_map(|digest| {
            ["manifests", "blobs", "referrers"].map(|kind| format!("/v2/app/{kind}/{digest}"))
        })
        .collect();
    none_is_routed(&world, &targets).await;
}

// THREATS A7: paths that are encoded once or twice, climb, or write names in upper case.
#[tokio::test]
async fn a7_odd_paths_lead_nowhere() {
    let world = World::new().await;
    push_release(&world);
    let targets = [
        "/v2/app%2f..%2fother/manifests/v1",
        "/v2/app%252fother/manifests/v1",
        "/v2/app/%2e%2e/manifests/v1",
        "/v2/../app/manifests/v1",
        "/v2/app/../../manifests/v1",
        "/v2//app/manifests/v1",
        "/v2/app//manifests/v1",
        "/v2/app/manifests//v1",
        "/v2/app/manifests/v1/",
        "/v2/app/manifests/v%31",
        "/v2/app/manifests/%76%31",
        "/v2/app/manifests%2fv1",
        "/v2/APP/manifests/v1",
        "/v2/App/manifests/v1",
        "/V2/app/manifests/v1",
        "/v2/app/Manifests/v1",
        "/v2/app;x=1/manifests/v1",
        "/v2/app\\..\\x/manifests/v1",
        "/v1/app/manifests/v1",
        "/v2/app/manifests/",
        "/v2/manifests/v1",
        "/v2/app",
        "/v2/_catalog",
        "/metrics",
        "/",
        "*",
        "v2/app/manifests/v1",
    ];
    none_is_routed(&world, &targets.map(str::to_owned)).await;
}

// THREATS A7: other methods than GET and HEAD are refused and are not passed on.
#[tokio::test]
async fn a7_other_methods_are_not_served() {
    let world = World::new().await;
    let package = push_release(&world);
    let layer = Digest::sha256(&package.blobs[1]);
    for method in [
        "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "PROPFIND",
    ] {
        for target in [
            "/v2/app/manifests/v1".to_owned(),
            format!("/v2/app/blobs/{layer}"),
            "/v2/app/blobs/uploads/".to_owned(),
            "/v2/".to_owned(),
        ] {
            world.registry.clear_requests();
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = world.ask(method.clone(), &target, &[]).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {target}"
            );
            assert_eq!(world.registry.requests().len(), 0, "{method} {target}");
        }
    }
}

// THREATS A7: who a client says it is, where it says it comes from and what it says it may, make
// no difference.
#[tokio::test]
async fn a7_headers_do_not_change_a_verdict() {
    let world = World::new().await;
    let package = image::runnable("unsigned").tagged("v1");
    world.push("app", &package);
    for header in [
        ("user-agent", "cosign/v3.0.0"),
        ("user-agent", "pullgate/0.1.0"),
        ("user-agent", "kube-probe/1.30"),
        ("user-agent", ""),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", HOST),
        ("x-original-url", "/v2/"),
        ("x-http-method-override", "HEAD"),
        ("authorization", "Basic cm9vdDpyb290"),
        ("accept", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("pullgate-decision", "0000000000000001"),
    ] {
        let answer = world
            .ask(Method::GET, "/v2/app/manifests/v1", &[header])
            .await;
        assert_eq!(answer.reason(), "unsigned", "{header:?}");
    }
    // And none of them went on to the registry.
    let passed_on = world.registry.count(|request| {
        request.has_authorization()
            || request.header("x-forwarded-for").is_some()
            || request
                .header("user-agent")
                .is_none_or(|agent| !agent.starts_with("pullgate/"))
    });
    assert_eq!(passed_on, 0);
}

// THREATS A8: however a denied manifest is asked for, the verdict is the same: no bytes, no part
// of them, and no word that the client's copy is still good.
#[tokio::test]
async fn a8_a_denied_manifest_is_denied_however_it_is_asked_for() {
    let world = World::new().await;
    let package = image::runnable("unsigned").tagged("v1");
    world.push("app", &package);
    let etag = format!("\"{}\"", package.digest());
    let target = "/v2/app/manifests/v1";
    let by_digest = format!("/v2/app/manifests/{}", package.digest());
    for target in [target, by_digest.as_str()] {
        for headers in [
            &[][..],
            &[("range", "bytes=0-9")],
            &[("range", "bytes=-1"), ("if-range", etag.as_str())],
            &[("if-none-match", etag.as_str())],
            &[("if-none-match", "*")],
            &[("if-modified-since", "Sat, 01 Jan 2050 00:00:00 GMT")],
            &[("if-match", etag.as_str())],
        ] {
            let answer = world.ask(Method::GET, target, headers).await;
            answer.denies("unsigned");
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!body.contains("layers"), "{headers:?}: {body}");
            assert_eq!(answer.header("etag"), "");

            let answer = world.ask(Method::HEAD, target, headers).await;
            assert_eq!(answer.status, StatusCode::OK, "{headers:?}");
            assert_eq!(answer.body.len(), 0);
            let digest = answer.header("docker-content-digest");
            assert_eq!(digest, package.digest().to_string());
        }
    }
}

// A8's other side: of what is admitted, an unchanged copy is confirmed, and parts are served.
#[tokio::test]
async fn a8_an_admitted_manifest_is_confirmed() {
    let world = World::new().await;
    let package = push_release(&world);
    let etag = format!("\"{}\"", package.digest());
    let headers = [("if-none-match", etag.as_str())];
    let answer = world
        .ask(Method::GET, "/v2/app/manifests/v1", &headers)
        .await;
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    assert_eq!(answer.body.len(), 0);
    let layer = &package.blobs[1];
    let target = format!("/v2/app/blobs/{}", Digest::sha256(layer));
    let range = [("range", "bytes=10-19")];
    let answer = world.ask(Method::GET, &target, &range).await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.body, layer[10..20]);
}

// THREATS A5: a layer that says where else it lies ("foreign layers") is had from the registry or
// not at all; the addresses in a manifest are asked by nobody.
#[tokio::test]
async fn a5_the_addresses_of_foreign_layers_are_not_asked() {
    let world = World::new().await;
    let internal = Registry::start().await.expect("a port");
    let bytes = b"a layer of somewhere else".to_vec();
    let layer = Digest::sha256(&bytes);
    internal.put_blob("app", bytes.clone());
    let mut package = image::runnable("foreign").tagged("v1");
    let mut manifest: Value = serde_json::from_slice(&package.manifest).expect("JSON");
    let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let url = format!("{}/v2/app/blobs/{layer}", internal.url());
    manifest["layers"] = json!([
        {"mediaType": kind, "digest": layer, "size": bytes.len(), "urls": [url]},
    ]);
    package.manifest = manifest.to_string().into_bytes();
    world.push("app", &package);
    world.sign("app", &package, &release());
    let answer = world.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    let answer = world.blob("app", layer).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.message());
    assert_eq!(internal.requests().len(), 0, "a foreign address was asked");
    // Where the registry has it, it is a layer like any other.
    world.registry.put_blob("app", bytes.clone());
    world.blob("app", layer).await.admits(&bytes);
    assert_eq!(internal.requests().len(), 0, "a foreign address was asked");
}
