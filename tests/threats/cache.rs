//! Caches: what was true is not taken for what is true, nor in one place for another.

use std::time::Duration;

use http::StatusCode;
use jiff::SignedDuration;
use pullgate::oci::Digest;
use pullgate::policy::Requirement;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Endpoint, Fault as RegistryFault, Misdeed};
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Sigstore, signature_tag};

use crate::support::{
    HOST, MIRROR, Setup, World, identity_rule, key_rule, policy, push, recipe, release, rules,
    settings, signed_by, stranger,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Pushes an image under a tag, signed by [`release`].
fn push_release(world: &World, repository: &str, content: &str) -> Package {
    let package = image::runnable(content).tagged("v1");
    world.push(repository, &package);
    world.sign(repository, &package, &release());
    package
}

/// Everything that a client pulls of an image passes.
async fn admits_all(world: &World, package: &Package) {
    world.manifest("app", "v1").await.admits(&package.manifest);
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    for blob in &package.blobs {
        let answer = world.blob("app", Digest::sha256(blob)).await;
        answer.admits(blob);
    }
}

/// Nothing of an image passes, for this reason.
async fn denies_all(world: &World, package: &Package, reason: &str) {
    world.manifest("app", "v1").await.denies(reason);
    world.manifest("app", package.digest()).await.denies(reason);
    for blob in &package.blobs {
        let answer = world.blob("app", Digest::sha256(blob)).await;
        answer.denies("not_reachable");
    }
}

// THREATS C1: a policy that is edited after an allow judges the next request, manifests and
// blobs alike; and taking the edit back does so too.
#[tokio::test]
async fn c1_an_edited_policy_judges_the_next_request() {
    let world = World::with(Setup {
        settings: pullgate::gate::Settings {
            tag_ttl: HOUR,
            ..settings()
        },
        ..Setup::default()
    })
    .await;
    let package = push_release(&world, "app", "released");
    admits_all(&world, &package).await;
    let others = rules(vec![signed_by(
        "others",
        "**",
        &[identity_rule(&stranger())],
    )]);
    world.reload(others);
    denies_all(&world, &package, "untrusted_signer").await;
    let reason = "for a test".to_owned();
    world.reload(rules(vec![policy(
        "never",
        "**",
        Requirement::Deny { reason },
    )]));
    denies_all(&world, &package, "denied_by_policy").await;
    world.reload(rules(Vec::new()));
    world.manifest("app", "v1").await.denies("no_policy");
    let asked = world.registry.requests().len();
    world.reload(Setup::default().rules);
    admits_all(&world, &package).await;
    // A reload costs a judgement and fetches nothing.
    assert_eq!(world.registry.requests().len(), asked);
}

// THREATS C1: another trust root, or a key that is taken away, after an allow.
#[tokio::test]
async fn c1_a_rotated_root_and_a_removed_key_prove_nothing() {
    let key = KeyPair::generate();
    let signers = [key_rule("ops", &key, false), identity_rule(&release())];
    let both = || rules(vec![signed_by("p", "**", &signers)]);
    let world = World::with(Setup::ruled(both())).await;
    let package = push_release(&world, "app", "released");
    admits_all(&world, &package).await;
    let root = Sigstore::new(world.now()).trusted_root_json();
    world.reload_under(both(), &root);
    denies_all(&world, &package, "invalid_signature").await;

    world.reload(both());
    let keyed = image::runnable("keyed").tagged("v1");
    world.push("app", &keyed);
    world.sign_layers("app", &keyed, &[Recipe::key(&key, Log::None)]);
    admits_all(&world, &keyed).await;
    world.reload(rules(vec![signed_by("p", "**", &signers[1..])]));
    denies_all(&world, &keyed, "invalid_signature").await;
}

// THREATS C2: a condition on time holds for what is cached as well: when an exemption ends, so
// does what was admitted by it.
#[tokio::test]
async fn c2_an_exemption_ends_for_what_is_cached() {
    let world = World::with(Setup {
        settings: pullgate::gate::Settings {
            tag_ttl: 10 * HOUR,
            facts_ttl: 10 * HOUR,
            ..settings()
        },
        ..Setup::default()
    })
    .await;
    let package = image::runnable("on trial").tagged("v1");
    world.push("app", &package);
    let requirement = Requirement::AllowUnsigned {
        until: Some(world.now() + SignedDuration::from_hours(1)),
        because: "trial".to_owned(),
    };
    world.reload(rules(vec![policy("trial", "**", requirement)]));
    admits_all(&world, &package).await;
    world.pass(HOUR - Duration::from_secs(60));
    admits_all(&world, &package).await;
    world.pass(Duration::from_secs(120));
    denies_all(&world, &package, "unsigned").await;
}

/// Asks until it is admitted, and fails when that takes seconds.
async fn admitted_soon(world: &World, reference: Digest) {
    let asking = async {
        loop {
            let answer = world.manifest("app", reference).await;
            if answer.status == StatusCode::OK {
                return;
            }
            answer.denies(&answer.reason());
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(10), asking).await;
    asked.expect("what was signed is admitted within seconds");
}

// THREATS C3: what was denied and is then signed passes as soon as `unsigned_ttl` is over, with
// nothing flushed; also where a stranger's signature had been found, which lives long.
#[tokio::test]
async fn c3_what_is_signed_after_a_denial_passes_within_seconds() {
    let world = World::with(Setup {
        settings: pullgate::gate::Settings {
            unsigned_ttl: Duration::from_millis(20),
            ..settings()
        },
        ..Setup::default()
    })
    .await;
    for (content, signed_before) in [("unsigned", false), ("signed by a stranger", true)] {
        let package = image::runnable(content);
        world.push("app", &package);
        if signed_before {
            world.sign("app", &package, &stranger());
        }
        let reason = match signed_before {
            true => "untrusted_signer",
            false => "unsigned",
        };
        let answer = world.manifest("app", package.digest()).await;
        answer.denies(reason);
        world.sign("app", &package, &release());
        admitted_soon(&world, package.digest()).await;
    }
}

// THREATS C3: so too for an index of which every platform is to be signed, with as many
// platforms as may be looked at.
#[tokio::test]
async fn c3_every_platform_of_a_large_index_is_asked_again() {
    let mut by_instance = signed_by("p", "**", &[identity_rule(&release())]);
    by_instance.signs = pullgate::policy::Signs::Instance;
    let world = World::with(Setup {
        rules: rules(vec![by_instance]),
        settings: pullgate::gate::Settings {
            unsigned_ttl: Duration::from_millis(20),
            index_manifests_max: 8,
            ..settings()
        },
        ..Setup::default()
    })
    .await;
    let platforms: Vec<Package> = (0..8)
        .map(|number| image::runnable(&format!("platform {number}")))
        .collect();
    for platform in &platforms {
        world.push("app", platform);
        world.sign("app", platform, &stranger());
    }
    let entries: Vec<_> = platforms
        .iter()
        .map(|package| image::entry_for(package, image::platform("linux", "amd64")))
        .collect();
    let index = image::index(&entries);
    world.push("app", &index);
    let answer = world.manifest("app", index.digest()).await;
    answer.denies("unsigned");
    for platform in &platforms {
        world.sign("app", platform, &release());
    }
    admitted_soon(&world, index.digest()).await;
}

// C3's other side: a denial is not asked for again and again.
#[tokio::test]
async fn c3_a_denial_is_remembered_for_a_while() {
    let world = World::new().await;
    let package = image::runnable("unsigned");
    world.push("app", &package);
    for _ in 0..3 {
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
    }
    let asked =
        |request: &pullgate::sandbox::registry::Recorded| request.endpoint == Endpoint::Referrers;
    assert_eq!(world.registry.count(asked), 1);
}

// THREATS C1: a signature that is taken back counts for as long as facts are held, and no longer.
#[tokio::test]
async fn c1_facts_that_are_too_old_are_gathered_anew() {
    let facts_ttl = Duration::from_millis(300);
    let world = World::with(Setup {
        settings: pullgate::gate::Settings {
            facts_ttl,
            ..settings()
        },
        ..Setup::default()
    })
    .await;
    let package = image::runnable("signed for a while");
    world.push("app", &package);
    let bundle = world
        .sigstore
        .sign_bundle(&package.descriptor(), &recipe(&release()));
    world.push("app", &bundle);
    let begun = std::time::Instant::now();
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    world.registry.delete("app", &bundle.digest());
    let taken_back = async {
        while world.manifest("app", package.digest()).await.status == StatusCode::OK {
            tokio::time::sleep(facts_ttl / 10).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), taken_back).await;
    in_time.expect("the facts are gathered anew");
    assert!(begun.elapsed() >= facts_ttl, "they were not held");
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
}

/// The paths by which a signature is found, in the order of asking.
fn paths_to_evidence(world: &World, image: &Package, as_layer: bool) -> Vec<String> {
    let identity = release();
    let digest = image.digest();
    if as_layer {
        let recipe = Recipe::keyless(&identity, Log::RekorV1);
        let layer = world.sigstore.sign_layer(&digest, HOST, &recipe);
        let blob = layer.digest();
        let package = signature_tag(&digest, vec![layer]);
        world.push("app", &package);
        let tag = package.tag.expect("a tag");
        return vec![
            format!("/v2/app/manifests/{tag}"),
            format!("/v2/app/blobs/{blob}"),
        ];
    }
    let package = world
        .sigstore
        .sign_bundle(&image.descriptor(), &recipe(&identity));
    world.push("app", &package);
    let blob = Digest::sha256(&package.blobs[1]);
    vec![
        format!("/v2/app/referrers/{digest}"),
        format!("/v2/app/manifests/{}", package.digest()),
        format!("/v2/app/blobs/{blob}"),
    ]
}

/// A signed image whose signature cannot be read at first, by this misdeed on each of the ways
/// to it.
async fn is_never_remembered_as_unsigned(world: &World, name: &str, misdeed: &Misdeed) {
    for as_layer in [false, true] {
        for step in 0..(if as_layer { 2 } else { 3 }) {
            let package = image::runnable(&format!("{name} {as_layer} {step}"));
            world.push("app", &package);
            let path = paths_to_evidence(world, &package, as_layer).swap_remove(step);
            let fault = RegistryFault::from(misdeed.clone()).path(&path);
            let fault = world.registry.misbehave(fault);
            let answer = world.manifest("app", package.digest()).await;
            assert_eq!(answer.status.as_u16(), 503, "{name} on {path}");
            answer.cannot_tell("evidence_unavailable");
            world.registry.forgive(fault);
            let answer = world.manifest("app", package.digest()).await;
            answer.admits(&package.manifest);
        }
    }
}

// THREATS C4: whatever goes wrong while a signature is looked for is "don't know", on each of
// the ways to it, and is forgotten at once.
#[tokio::test]
async fn c4_trouble_is_never_remembered_as_unsigned() {
    let world = World::new().await;
    for (name, misdeed) in [
        // Without a wait: a registry that asks for one has it, whatever is forgiven meanwhile.
        ("429", Misdeed::TooManyRequests(Duration::ZERO)),
        ("500", Misdeed::Status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("503", Misdeed::Status(StatusCode::SERVICE_UNAVAILABLE)),
        ("401", Misdeed::Status(StatusCode::UNAUTHORIZED)),
        ("403", Misdeed::Status(StatusCode::FORBIDDEN)),
        ("a broken connection", Misdeed::DropConnection),
        ("a broken body", Misdeed::CutAfter(10)),
    ] {
        is_never_remembered_as_unsigned(&world, name, &misdeed).await;
    }
}

// THREATS C4: a registry that does not answer in time.
#[tokio::test]
async fn c4_a_timeout_is_never_remembered_as_unsigned() {
    let mut settings = settings();
    settings.evidence.deadline = Duration::from_millis(300);
    let world = World::with(Setup {
        settings,
        ..Setup::default()
    })
    .await;
    is_never_remembered_as_unsigned(&world, "a time-out", &Misdeed::Hang).await;
}

// THREATS C4: how long to wait is what the registry says.
#[tokio::test]
async fn c4_a_rate_limit_is_passed_on() {
    let world = World::new().await;
    let package = push_release(&world, "app", "limited");
    let slow_down = Misdeed::TooManyRequests(Duration::from_secs(77));
    let fault = RegistryFault::on(Endpoint::Referrers, slow_down.clone());
    let limited = world.registry.misbehave(fault);
    let answer = world.manifest("app", package.digest()).await;
    answer.cannot_tell("evidence_unavailable");
    assert_eq!(answer.header("retry-after"), "77");
    world.registry.forgive(limited);
    let fault = RegistryFault::on(Endpoint::Manifests, slow_down);
    world.registry.misbehave(fault);
    let answer = world.manifest("app", "v1").await;
    answer.cannot_tell("upstream_rate_limited");
}

// THREATS C5: names that contain what a key might be put together with are other names, or none.
#[tokio::test]
async fn c5_no_name_runs_into_another() {
    let world = World::with(Setup {
        mirror: true,
        ..Setup::default()
    })
    .await;
    let signed = push_release(&world, "a", "signed");
    world.manifest("a", "v1").await.admits(&signed.manifest);
    let unsigned = image::runnable("unsigned").tagged("v1");
    for repository in ["a/v1", "a/manifests", "a-v1", "a/a", "registry.acme.test/a"] {
        push(&world.registry, repository, &unsigned);
    }
    world.push("a", &unsigned.clone().tagged("a-v1"));
    for (repository, tag) in [
        ("a/v1", "v1"),
        ("a/manifests", "v1"),
        ("a-v1", "v1"),
        ("a/a", "v1"),
        ("a", "a-v1"),
    ] {
        let answer = world.manifest(repository, tag).await;
        answer.denies("unsigned");
    }
    // The path names the upstream and then a repository that is called like one.
    let answer = world
        .manifest("registry.acme.test/registry.acme.test/a", "v1")
        .await;
    answer.denies("unsigned");
    let asked = world.registry.requests().len();
    for target in [
        "/v2/a%00/manifests/v1",
        "/v2/a:v1/manifests/v1",
        "/v2/a@sha256/manifests/v1",
        "/v2/a%7Cb/manifests/v1",
        "/v2/a;b/manifests/v1",
        "/v2/a/manifests/v1:v1",
        "/v2/a/manifests/v1@v1",
        "/v2/a%0Ab/manifests/v1",
    ] {
        let answer = world.get(target).await;
        assert!(answer.status.is_client_error(), "{target}");
    }
    assert_eq!(world.registry.requests().len(), asked);
}

// THREATS C6: what was verified in one repository, or under one upstream, says nothing about the
// same digest elsewhere.
#[tokio::test]
async fn c6_every_repository_and_upstream_has_its_own_decision() {
    let world = World::with(Setup {
        mirror: true,
        ..Setup::default()
    })
    .await;
    let package = push_release(&world, "a", "the same everywhere");
    world.push("b", &package);
    let mirror = world.mirror.as_ref().expect("a mirror");
    push(mirror, "a", &package);
    let digest = package.digest();
    let layer = Digest::sha256(&package.blobs[1]);
    let elsewhere = [
        format!("/v2/b/{{}}?ns={HOST}"),
        format!("/v2/a/{{}}?ns={MIRROR}"),
        format!("/v2/{MIRROR}/a/{{}}"),
    ];
    for _ in 0..2 {
        let answer = world.manifest("a", digest).await;
        answer.admits(&package.manifest);
        world.blob("a", layer).await.admits(&package.blobs[1]);
        for place in &elsewhere {
            for reference in [digest.to_string(), "v1".to_owned()] {
                let target = place.replace("{}", &format!("manifests/{reference}"));
                world.get(&target).await.denies("unsigned");
            }
            let target = place.replace("{}", &format!("blobs/{layer}"));
            world.get(&target).await.denies("not_reachable");
        }
    }
}

// THREATS C6: policies name the upstream, and each has its own say.
#[tokio::test]
async fn c6_every_upstream_has_its_own_policy() {
    let here = signed_by("here", &format!("{HOST}/**"), &[identity_rule(&release())]);
    let there = signed_by(
        "there",
        &format!("{MIRROR}/**"),
        &[identity_rule(&stranger())],
    );
    let world = World::with(Setup {
        mirror: true,
        rules: rules(vec![here, there]),
        ..Setup::default()
    })
    .await;
    let package = push_release(&world, "a", "the same everywhere");
    let mirror = world.mirror.as_ref().expect("a mirror");
    push(mirror, "a", &package);
    let bundle = world
        .sigstore
        .sign_bundle(&package.descriptor(), &recipe(&release()));
    push(mirror, "a", &bundle);
    let target = format!("/v2/a/manifests/{}", package.digest());
    world.get(&target).await.admits(&package.manifest);
    let answer = world.get(&format!("{target}?ns={MIRROR}")).await;
    answer.denies("untrusted_signer");
}
