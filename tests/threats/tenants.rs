//! Private content stays private (THREATS A4; CVE-2024-39897, CVE-2026-35172): where a registry is
//! asked with the credentials of whoever pulls, what one of them brought into the cache is for
//! another only what the registry says.

use std::time::Duration;

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Auth, Endpoint, Fault, Login, Misdeed, Options, Recorded};
use pullgate::upstream;

use crate::support::{Answer, Setup, World, release, settings};

/// `alice:word`, `bob:word`, `carol:word`, and Alice with another password.
const ALICE: &str = "Basic YWxpY2U6d29yZA==";
const BOB: &str = "Basic Ym9iOndvcmQ=";
const CAROL: &str = "Basic Y2Fyb2w6d29yZA==";
const NOT_ALICE: &str = "Basic YWxpY2U6d29ydA==";

fn logins() -> Vec<Login> {
    vec![
        Login::new("alice", "word").only(&["app"]),
        Login::new("bob", "word").only(&["other"]),
        Login::new("carol", "word").only(&["app"]),
    ]
}

async fn world(auth: fn(Vec<Login>) -> Auth, permit_ttl: Duration) -> (World, Package) {
    let mut settings = settings();
    settings.permit_ttl = permit_ttl;
    settings.tag_ttl = Duration::from_secs(3600);
    settings.stale_ttl = Duration::from_secs(3600);
    let world = World::with(Setup {
        registry: Options {
            auth: auth(logins()),
            ..Options::default()
        },
        settings,
        upstream: |settings| settings.credentials = upstream::Credentials::Caller,
        ..Setup::default()
    })
    .await;
    let package = image::runnable("private").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    (world, package)
}

const HOUR: Duration = Duration::from_secs(3600);

/// What somebody gets; with no header for somebody without credentials.
async fn got(world: &World, target: &str, login: Option<&str>) -> Answer {
    let header = login.map(|login| ("authorization", login));
    world.ask(Method::GET, target, header.as_slice()).await
}

fn targets(package: &Package) -> Vec<String> {
    let blob = Digest::sha256(&package.blobs[0]);
    vec![
        "/v2/app/manifests/v1".to_owned(),
        format!("/v2/app/manifests/{}", package.digest()),
        format!("/v2/app/blobs/{blob}"),
        "/v2/app/tags/list".to_owned(),
        format!("/v2/app/referrers/{}", package.digest()),
    ]
}

/// The client is asked who it is, in the form that every client understands.
#[track_caller]
fn is_asked(answer: &Answer, target: &str) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{target}");
    let challenge = "Basic realm=\"registry.acme.test\"";
    assert_eq!(answer.header("www-authenticate"), challenge, "{target}");
    assert_eq!(answer.code(), "UNAUTHORIZED", "{target}");
}

// THREATS A4: Alice may read it and has; Bob may not, nor whoever has no credentials, nor whoever
// has Alice's name alone.
#[tokio::test]
async fn a4_what_one_tenant_cached_is_not_another_tenants() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let (world, package) = world(auth, HOUR).await;
        for target in targets(&package) {
            let alice = got(&world, &target, Some(ALICE)).await;
            assert_eq!(
                alice.status,
                StatusCode::OK,
                "{target}: {}",
                alice.message()
            );
        }
        for stranger in [Some(BOB), Some(NOT_ALICE), None, Some("Basic Og==")] {
            for target in targets(&package) {
                is_asked(&got(&world, &target, stranger).await, &target);
                let head = stranger.map(|login| ("authorization", login));
                let head = world.ask(Method::HEAD, &target, head.as_slice()).await;
                assert_eq!(head.status, StatusCode::UNAUTHORIZED, "{target}");
            }
        }
        for target in targets(&package) {
            let alice = got(&world, &target, Some(ALICE)).await;
            assert_eq!(alice.status, StatusCode::OK, "{target}");
        }
    }
}

// THREATS A4: a yes is about one repository.
#[tokio::test]
async fn a4_a_permit_for_one_repository_opens_no_other() {
    let (world, package) = world(Auth::Basic, HOUR).await;
    world.push("other", &package);
    world.sign("other", &package, &release());
    let alice = got(&world, "/v2/app/manifests/v1", Some(ALICE)).await;
    alice.admits(&package.manifest);
    let bob = got(&world, "/v2/other/manifests/v1", Some(BOB)).await;
    bob.admits(&package.manifest);
    is_asked(
        &got(&world, "/v2/other/manifests/v1", Some(ALICE)).await,
        "other",
    );
    is_asked(&got(&world, "/v2/app/manifests/v1", Some(BOB)).await, "app");
}

// THREATS A4: a yes is a recent one; and while the registry does not answer, nobody can tell.
#[tokio::test]
async fn a4_a_permit_is_asked_for_again() {
    let (world, package) = world(Auth::Basic, Duration::ZERO).await;
    let target = "/v2/app/manifests/v1";
    got(&world, target, Some(ALICE))
        .await
        .admits(&package.manifest);
    let fault = Fault::on(Endpoint::Manifests, Misdeed::Status(StatusCode::FORBIDDEN));
    let fault = world.registry.misbehave(fault);
    is_asked(&got(&world, target, Some(ALICE)).await, target);
    world.registry.forgive(fault);
    let down = Misdeed::Status(StatusCode::BAD_GATEWAY);
    world
        .registry
        .misbehave(Fault::on(Endpoint::Manifests, down));
    let answer = got(&world, target, Some(ALICE)).await;
    answer.cannot_tell("upstream_unreachable");
}

/// Within its time a permit costs the registry nothing.
#[tokio::test]
async fn a4_a_permit_holds_for_a_while() {
    let (world, package) = world(Auth::Basic, HOUR).await;
    let target = "/v2/app/manifests/v1";
    got(&world, target, Some(ALICE))
        .await
        .admits(&package.manifest);
    world.registry.clear_requests();
    for _ in 0..5 {
        got(&world, target, Some(ALICE))
            .await
            .admits(&package.manifest);
    }
    assert_eq!(world.registry.requests().len(), 0);
}

// THREATS A1, A4: one caller's credentials and tokens are never sent for another.
#[tokio::test]
async fn a4_nobody_is_asked_for_in_the_name_of_another() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let (world, _) = world(auth, HOUR).await;
        got(&world, "/v2/app/manifests/v1", Some(ALICE)).await;
        world.registry.clear_requests();
        for login in [Some(BOB), None] {
            got(&world, "/v2/app/manifests/v1", login).await;
        }
        let as_alice = |recorded: &Recorded| {
            let sent = recorded.header("authorization").unwrap_or_default();
            sent == ALICE || sent == "Bearer sandbox-token-1"
        };
        assert_eq!(world.registry.count(as_alice), 0);
    }
}

// THREATS A4: of two who ask for the same at once, each is answered by what the registry says to
// them. What it says to one is nobody else's, be it a yes or a no.
#[tokio::test]
async fn a4_a_refusal_of_one_is_nobody_elses() {
    let (world, package) = world(Auth::Basic, HOUR).await;
    let target = "/v2/app/manifests/v1";
    let gets = |request: &Recorded| {
        request.endpoint == Endpoint::Manifests && request.method == Method::GET
    };
    let by_alice = |request: &Recorded| request.header("authorization") == Some(ALICE);
    let hang = Fault::on(Endpoint::Manifests, Misdeed::Hang).when(gets);
    let hang = world.registry.misbehave(hang);
    // Her permit, which is asked for by HEAD, is still given.
    let no_more = Misdeed::Status(StatusCode::UNAUTHORIZED);
    let no_more = Fault::on(Endpoint::Manifests, no_more).when(gets);
    world.registry.misbehave(no_more.when(by_alice));
    let carol = async {
        world.registry.wait_for(1, gets).await;
        got(&world, target, Some(CAROL)).await
    };
    let release = async {
        let both = world.registry.wait_for(2, gets);
        let both = tokio::time::timeout(Duration::from_secs(3), both).await;
        world.registry.forgive(hang);
        both.expect("each asks for themselves");
    };
    let (alice, carol, ()) = tokio::join!(got(&world, target, Some(ALICE)), carol, release);
    is_asked(&alice, target);
    carol.admits(&package.manifest);
}

/// A client that had its token from the registry's own service shows that.
#[tokio::test]
async fn a_token_of_the_client_is_passed_on_as_it_is() {
    let (world, package) = world(Auth::Bearer, HOUR).await;
    got(&world, "/v2/app/manifests/v1", Some(ALICE)).await;
    // The first that Alice's pull was given, for this repository.
    let token = "Bearer sandbox-token-1";
    let answer = got(&world, "/v2/app/manifests/v1", Some(token)).await;
    answer.admits(&package.manifest);
    is_asked(
        &got(&world, "/v2/app/manifests/v1", Some("Bearer x")).await,
        "x",
    );
}

/// Some clients learn at `/v2/`, and nowhere else, that they have to log in.
#[tokio::test]
async fn the_base_says_whether_to_log_in() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let (world, _) = world(auth, HOUR).await;
        is_asked(&got(&world, "/v2/", None).await, "/v2/");
        is_asked(&got(&world, "/v2/", Some(NOT_ALICE)).await, "/v2/");
        let known = got(&world, "/v2/", Some(ALICE)).await;
        assert_eq!(known.status, StatusCode::OK);
    }
}

/// What is no credentials at all ends here.
#[tokio::test]
async fn odd_credentials_are_sent_to_nobody() {
    let (world, _) = world(Auth::Basic, HOUR).await;
    world.registry.clear_requests();
    for odd in ["Basic", "Basic ???", "Digest username=alice", "Bearer "] {
        is_asked(&got(&world, "/v2/app/manifests/v1", Some(odd)).await, odd);
    }
    assert_eq!(world.registry.requests().len(), 0);
}
