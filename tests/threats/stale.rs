//! What goes on being served while a registry is away, and what does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pullgate::gate::Settings;
use pullgate::oci::Digest;
use pullgate::policy::{DefaultRule, Mode, Rules};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed};
use pullgate::sandbox::sigstore::Sigstore;

use crate::support::{Setup, World, identity_rule, release, rules, settings, signed_by, stranger};

const AWAY: &str = "upstream_unreachable";
const NO_EVIDENCE: &str = "evidence_unavailable";

/// A world in which everything is asked anew for each pull, while that can be.
async fn world(stale_ttl: Duration) -> (World, Package) {
    world_with(Settings {
        stale_ttl,
        ..asking()
    })
    .await
}

fn asking() -> Settings {
    Settings {
        tag_ttl: Duration::ZERO,
        facts_ttl: Duration::ZERO,
        stale_ttl: HOUR,
        ..settings()
    }
}

async fn world_with(settings: Settings) -> (World, Package) {
    let world = World::with(Setup {
        settings,
        ..Setup::default()
    })
    .await;
    let package = image::runnable("released").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    let answer = world.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    assert_eq!(answer.header("warning"), "");
    (world, package)
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_was_admitted_goes_on_while_the_registry_is_away() {
    let (world, package) = world(HOUR).await;
    for blob in &package.blobs {
        world.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
    let unsigned = image::runnable("unsigned").tagged("v2");
    world.push("app", &unsigned);
    world.manifest("app", "v2").await.denies("unsigned");
    world.registry.stop().await;
    let digest = package.digest().to_string();
    for round in 0..3 {
        for reference in ["v1", digest.as_str()] {
            let answer = world.manifest("app", reference).await;
            answer.admits(&package.manifest);
            let warning = answer.header("warning");
            assert!(
                warning.starts_with("111 "),
                "{round} {reference}: {warning:?}"
            );
        }
    }
    // By tag it is judged once, and repeated for a while; by digest for `facts_ttl`, which is none.
    assert_eq!(world.counted("pullgate_stale_answers_total"), 1 + 3);
    for blob in &package.blobs {
        world.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
    world.manifest("app", "v3").await.cannot_tell(AWAY);
    world.manifest("app", "v2").await.cannot_tell(NO_EVIDENCE);
}

// THREATS C1, C4: what is old proves what it proved, under what is in force; and never that anything
// is not there.
#[tokio::test]
async fn what_is_old_admits_nothing_that_policy_does_not() {
    let (world, package) = world(HOUR).await;
    world.registry.stop().await;
    world.manifest("app", "v1").await.admits(&package.manifest);
    let others = signed_by("others", "**", &[identity_rule(&stranger())]);
    world.reload(rules(vec![others]));
    world.manifest("app", "v1").await.cannot_tell(NO_EVIDENCE);
    world.reload(Setup::default().rules);
    world.manifest("app", "v1").await.admits(&package.manifest);
    let root = Sigstore::new(world.now()).trusted_root_json();
    world.reload_under(Setup::default().rules, &root);
    world.manifest("app", "v1").await.cannot_tell(NO_EVIDENCE);
}

// A policy that only warns is not met, and others may have signed since: nobody can tell now.
#[tokio::test]
async fn who_is_only_warned_goes_on_being_warned() {
    let (world, package) = world_with(Settings {
        unsigned_ttl: Duration::ZERO,
        ..asking()
    })
    .await;
    let mut others = signed_by("others", "**", &[identity_rule(&stranger())]);
    others.mode = Mode::Warn;
    let mut policies = Setup::default().rules.policies;
    policies.push(Arc::new(others));
    let default = DefaultRule::Deny;
    world.reload(Rules { policies, default });
    world.manifest("app", "v1").await.admits(&package.manifest);
    world.registry.stop().await;
    for _ in 0..3 {
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
        let mut warnings = answer.headers.get_all("warning").iter();
        let is_one_of_ours = warnings.any(|warning| warning.as_bytes().starts_with(b"299 "));
        assert!(is_one_of_ours, "{:?}", answer.headers);
    }
}

// Nobody waits for a registry again and again that does not answer at all.
#[tokio::test]
async fn a_registry_that_hangs_is_waited_for_once() {
    const PATIENCE: Duration = Duration::from_secs(3);
    let world = World::with(Setup {
        settings: Settings {
            facts_ttl: Duration::ZERO,
            ..asking()
        },
        upstream: |settings| settings.limits.answer_timeout = PATIENCE,
        ..Setup::default()
    })
    .await;
    let package = image::runnable("released").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    world.manifest("app", "v1").await.admits(&package.manifest);
    let hangs = world.registry.misbehave(Misdeed::Hang);
    let digest = package.digest().to_string();
    world.manifest("app", "v1").await.admits(&package.manifest);
    for reference in [digest.as_str(), "v1", digest.as_str()] {
        // What is repeated for a while is repeated no more.
        world.reload(Setup::default().rules);
        let begun = Instant::now();
        let answer = world.manifest("app", reference).await;
        answer.admits(&package.manifest);
        assert!(answer.header("warning").starts_with("111 "), "{reference}");
        assert!(begun.elapsed() < PATIENCE, "{reference}");
    }
    // It is asked all the same: what has moved meanwhile is seen.
    let moved = image::runnable("moved").tagged("v1");
    world.push("app", &moved);
    world.sign("app", &moved, &release());
    world.registry.forgive(hangs);
    let begun = Instant::now();
    while world.manifest("app", "v1").await.body != moved.manifest {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not asked");
        world.reload(Setup::default().rules);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = world.manifest("app", "v1").await;
    assert_eq!(answer.header("warning"), "");
}

#[tokio::test]
async fn what_an_index_lists_goes_on_with_it() {
    let (world, _) = world(HOUR).await;
    let child = image::runnable("for one platform");
    world.push("app", &child);
    let index = image::index(&[child.descriptor()]).tagged("all");
    world.push("app", &index);
    world.sign("app", &index, &release());
    world.manifest("app", "all").await.admits(&index.manifest);
    let (digest, everything) = (child.digest(), child.blobs.iter());
    let pull = async || {
        world.manifest("app", digest).await.admits(&child.manifest);
        for blob in everything.clone() {
            world.blob("app", Digest::sha256(blob)).await.admits(blob);
        }
    };
    pull().await;
    world.registry.stop().await;
    world.manifest("app", "all").await.admits(&index.manifest);
    for _ in 0..3 {
        pull().await;
    }
}

// A registry, or what stands before it, may know no HEAD.
#[tokio::test]
async fn a_tag_that_moved_is_seen_where_head_is_not_answered() {
    let (world, package) = world(HOUR).await;
    let moved = image::runnable("moved").tagged("v1");
    for status in [501, 503, 404, 403] {
        let status = http::StatusCode::from_u16(status).expect("a status");
        let fault = Fault::on(Endpoint::Manifests, Misdeed::Status(status));
        let fault = fault.when(|request| request.method == http::Method::HEAD);
        let fault = world.registry.misbehave(fault);
        for package in [&moved, &package] {
            world.push("app", package);
            world.sign("app", package, &release());
            world.manifest("app", "v1").await.admits(&package.manifest);
        }
        world.registry.forgive(fault);
    }
}

#[tokio::test]
async fn it_does_not_go_on_for_ever() {
    let (world, package) = world(Duration::ZERO).await;
    world.registry.stop().await;
    world.manifest("app", "v1").await.cannot_tell(AWAY);
    let digest = package.digest();
    world.manifest("app", digest).await.cannot_tell(NO_EVIDENCE);
}

// A registry that says that there is none is not away.
#[tokio::test]
async fn a_signature_that_is_gone_is_gone() {
    let (world, package) = world(HOUR).await;
    world.manifest("app", "v1").await.admits(&package.manifest);
    for endpoint in [Endpoint::Referrers, Endpoint::Manifests] {
        let is_evidence =
            move |path: &str| endpoint == Endpoint::Referrers || path.ends_with(".sig");
        let gone = Fault::on(endpoint, Misdeed::Status(http::StatusCode::NOT_FOUND));
        world
            .registry
            .misbehave(gone.when(move |request| is_evidence(&request.path)));
    }
    let digest = package.digest();
    world.manifest("app", digest).await.denies("unsigned");
}
