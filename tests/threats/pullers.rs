//! Who pulls: policy says it of each caller on each request, before anything else is done.

use std::sync::Arc;

use http::{Method, StatusCode};
use pullgate::content::BlobAnswer;
use pullgate::gate::Refusal;
use pullgate::oci::Digest;
use pullgate::policy::{
    Caller, IdentityRule, Mode, Policy, PulledBy, PullerKind, PullerRule, TokenIdentity, TokenRule,
};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::Identity;

use crate::support::{
    Setup, World, identity_rule, image_name, recipe, release, rules, signed_by, stranger,
};

const ISSUER: &str = "https://issuer.acme.test";

fn user(name: &str) -> Caller {
    Caller::User(name.into())
}

fn bearer(subject: &str) -> Caller {
    Caller::Token(Arc::new(TokenIdentity {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        claims: Default::default(),
    }))
}

fn pulled_by(kind: PullerKind) -> Option<PulledBy> {
    let name = "those".into();
    Some(PulledBy {
        any: vec![Arc::new(PullerRule { name, kind })],
    })
}

fn users(names: &[&str]) -> Option<PulledBy> {
    let names = names.iter().map(|name| (*name).to_owned());
    pulled_by(PullerKind::Users(names.collect()))
}

fn subject(subject: &str) -> Option<PulledBy> {
    pulled_by(PullerKind::Token(TokenRule {
        issuer: ISSUER.to_owned(),
        identity: Some(IdentityRule::exact(subject).expect("an identity")),
        claims: Vec::new(),
    }))
}

/// What [`release`] signed, for these to pull.
fn released(pulled_by: Option<PulledBy>) -> Policy {
    Policy {
        pulled_by,
        ..signed_by("release", "**", &[identity_rule(&release())])
    }
}

async fn world_of(pulled_by: Option<PulledBy>) -> World {
    World::with(Setup::ruled(rules(vec![released(pulled_by)]))).await
}

fn push(world: &World, repository: &str, name: &str, signer: &Identity) -> Package {
    let package = image::runnable(name).tagged("v1");
    world.push(repository, &package);
    world.sign(repository, &package, signer);
    package
}

/// The reason's word, or `admitted`.
async fn pulls(world: &World, caller: &Caller, reference: impl ToString) -> String {
    let ask = world.named("app", &reference);
    word(world.gate.manifest(&ask, caller).await.map(|_| ()))
}

fn word(answer: Result<(), Refusal>) -> String {
    match answer {
        Ok(()) => "admitted".to_owned(),
        Err(Refusal::Denied(denied, _)) => denied.shortfall.reason.as_str().to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

/// Bytes of a blob, for one caller.
async fn blob_of(world: &World, caller: &Caller, digest: Digest) -> Result<u64, Refusal> {
    let admitted = world.gate.blob(&image_name("app"), digest, caller).await?;
    match world.gate.open(&admitted, None).await? {
        BlobAnswer::Whole { size, .. } => Ok(size.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

// THREATS A4: what one caller has cached is no answer for another, whatever it is asked for by.
#[tokio::test]
async fn a4_what_one_puller_cached_another_does_not_get() {
    let world = world_of(users(&["alice"])).await;
    let package = push(&world, "app", "released", &release());
    let layer = Digest::sha256(package.blobs.last().expect("a layer"));
    let (alice, bob) = (user("alice"), user("bob"));
    for round in ["cold", "hot"] {
        assert_eq!(pulls(&world, &alice, "v1").await, "admitted", "{round}");
        assert_eq!(pulls(&world, &alice, package.digest()).await, "admitted");
        blob_of(&world, &alice, layer).await.expect("admitted");
        for other in [&bob, &Caller::Anonymous, &bearer("alice")] {
            assert_eq!(pulls(&world, other, "v1").await, "wrong_puller", "{round}");
            assert_eq!(pulls(&world, other, package.digest()).await, "wrong_puller");
            let blob = blob_of(&world, other, layer).await.map(|_| ());
            assert_eq!(word(blob), "wrong_puller", "{round}");
        }
    }
    // Over HTTP, where nobody has said who it is.
    let range = [("range", "bytes=0-3")];
    for target in [
        "/v2/app/manifests/v1".to_owned(),
        format!("/v2/app/manifests/{}", package.digest()),
        format!("/v2/app/blobs/{layer}"),
    ] {
        world.get(&target).await.denies("wrong_puller");
        let etag = format!("\"{}\"", package.digest());
        let matched = [("if-none-match", etag.as_str())];
        world
            .ask(Method::GET, &target, &matched)
            .await
            .denies("wrong_puller");
        world
            .ask(Method::GET, &target, &range)
            .await
            .denies("wrong_puller");
    }
}

// The refused learn nothing: what is there is answered as what is not, and the registry is
// not even asked.
#[tokio::test]
async fn a4_a_refused_puller_learns_nothing() {
    let world = world_of(users(&["alice"])).await;
    let package = push(&world, "app", "released", &release());
    let (there, absent) = (package.digest(), Digest::sha256(b"absent"));
    let layer = Digest::sha256(package.blobs.last().expect("a layer"));
    // In its caches the gate has all of it.
    assert_eq!(pulls(&world, &user("alice"), "v1").await, "admitted");
    world.registry.clear_requests();
    for (one, other) in [
        ("manifests/v1".to_owned(), "manifests/v2".to_owned()),
        (format!("manifests/{there}"), format!("manifests/{absent}")),
        (format!("blobs/{layer}"), format!("blobs/{absent}")),
        (format!("referrers/{there}"), format!("referrers/{absent}")),
        ("tags/list".to_owned(), "tags/list?n=3".to_owned()),
    ] {
        let mut told = Vec::new();
        for (repository, what) in [("app", &one), ("app", &other), ("nowhere", &one)] {
            let target = format!("/v2/{repository}/{what}");
            let got = world.get(&target).await;
            got.denies("wrong_puller");
            let message = got.message();
            let decision = message.split("Decision").next().unwrap_or_default();
            let names = ["nowhere", "v1", "v2"].map(str::to_owned);
            let digests = [there, absent, layer].map(|digest| digest.to_string());
            let message = names.iter().chain(&digests).fold(
                decision.replace("acme.test/app", "acme.test/nowhere"),
                |text, name| text.replace(name.as_str(), "_"),
            );
            let head = world.ask(Method::HEAD, &target, &[]).await;
            let mut names: Vec<String> = got.headers.keys().map(ToString::to_string).collect();
            names.extend(head.headers.keys().map(ToString::to_string));
            told.push((message, head.status, names));
        }
        assert_eq!(told[0], told[1], "{one}");
        assert_eq!(told[0], told[2], "{one}");
    }
    assert_eq!(world.registry.requests().len(), 0, "the registry was asked");
}

// A HEAD has no bytes, so a client that is to show the reason has to come back with a GET.
#[tokio::test]
async fn a8_a_head_of_a_refused_puller_says_nothing_but_go_on() {
    let world = world_of(users(&["alice"])).await;
    let package = push(&world, "app", "released", &release());
    let digest = package.digest().to_string();
    let head = world.ask(Method::HEAD, "/v2/app/manifests/v1", &[]).await;
    assert_eq!(
        (head.status, head.header("docker-content-digest")),
        (StatusCode::OK, "")
    );
    let by_digest = format!("/v2/app/manifests/{digest}");
    let head = world.ask(Method::HEAD, &by_digest, &[]).await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.header("docker-content-digest"), digest);
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a4_members_evidence_and_lists_are_for_those_who_may_pull() {
    let world = world_of(users(&["alice"])).await;
    let child = image::runnable("child");
    let index = image::index(&[child.descriptor()]).tagged("v1");
    world.push("app", &child);
    world.push("app", &index);
    world.sign("app", &index, &release());
    let bundle = world
        .sigstore
        .sign_bundle(&index.descriptor(), &recipe(&release()));
    let (alice, bob) = (user("alice"), user("bob"));
    for what in [index.digest(), child.digest(), bundle.digest()] {
        world.push("app", &bundle);
        assert_eq!(pulls(&world, &alice, what).await, "admitted");
        assert_eq!(pulls(&world, &bob, what).await, "wrong_puller");
    }
    let image = image_name("app");
    let tags = world.gate.tags(&image, None, None, &bob).await;
    assert_eq!(word(tags.map(|_| ())), "wrong_puller");
    let referrers = world.gate.referrers(&image, index.digest(), &bob).await;
    assert_eq!(word(referrers.map(|_| ())), "wrong_puller");
    assert!(world.gate.tags(&image, None, None, &alice).await.is_ok());
}

// THREATS C1, C2: an edit of who may pull holds from the next request on.
#[tokio::test]
async fn c1_who_may_pull_is_asked_on_hits() {
    let world = world_of(users(&["alice", "bob"])).await;
    push(&world, "app", "released", &release());
    let bob = user("bob");
    assert_eq!(pulls(&world, &bob, "v1").await, "admitted");
    world.reload(rules(vec![released(users(&["alice"]))]));
    assert_eq!(pulls(&world, &bob, "v1").await, "wrong_puller");
    assert_eq!(pulls(&world, &user("alice"), "v1").await, "admitted");
    world.reload(rules(vec![released(None)]));
    assert_eq!(pulls(&world, &bob, "v1").await, "admitted");
}

// The dual check: team A pulls only what team A signed. Four combinations, one passes.
#[tokio::test]
async fn i4_a_team_pulls_only_what_it_signed() {
    let team_a = Policy {
        pulled_by: subject("team-a"),
        ..signed_by("team-a", "**", &[identity_rule(&release())])
    };
    for (signer, caller, expected) in [
        (release(), "team-a", "admitted"),
        (release(), "team-b", "wrong_puller"),
        (stranger(), "team-a", "untrusted_signer"),
        (stranger(), "team-b", "wrong_puller"),
    ] {
        let world = World::with(Setup::ruled(rules(vec![team_a.clone()]))).await;
        push(&world, "app", "built", &signer);
        let verdict = pulls(&world, &bearer(caller), "v1").await;
        assert_eq!(verdict, expected, "{} for {caller}", signer.subject);
    }
}

// A policy in `warn` mode says of whom it would refuse, and refuses nobody.
#[tokio::test]
async fn a_warning_is_told_of_each_caller_on_its_own() {
    let warning = Policy {
        mode: Mode::Warn,
        name: "trial".into(),
        pulled_by: subject("team-a"),
        ..signed_by("trial", "**", &[identity_rule(&release())])
    };
    let world = World::with(Setup::ruled(rules(vec![released(None), warning]))).await;
    push(&world, "app", "released", &release());
    let ask = world.named("app", &"v1");
    for round in ["cold", "hot"] {
        let warned = world.gate.manifest(&ask, &bearer("team-b")).await;
        let warned = warned.expect("admitted");
        let told: Vec<&String> = warned.warnings().collect();
        assert_eq!(told.len(), 1, "{round}");
        assert!(
            told[0].contains("[wrong_puller]") && told[0].contains("team-b"),
            "{told:?}"
        );
        let record = warned.decided().describe();
        assert_eq!(record["warnings"][0], *told[0]);
        assert_eq!(record["mode"], "warn");
        warned.count();
        let fits = world
            .gate
            .manifest(&ask, &bearer("team-a"))
            .await
            .expect("admitted");
        assert_eq!(fits.warnings().count(), 0, "{round}");
        assert!(fits.decided().describe().get("warnings").is_none());
    }
    let counted = r#"pullgate_decisions_total{mode="warn",policy="trial",reason="wrong_puller""#;
    assert_eq!(world.counted(counted), 2);
}
