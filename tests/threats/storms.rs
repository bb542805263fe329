//! Storms of first pulls: they wait in line, within bounds, while cached pulls go on.

use std::time::Duration;

use futures_util::future::join_all;
use pullgate::gate::Refusal;
use pullgate::policy::Caller;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed, Recorded};
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, signature_tag};

use crate::support::{MIRROR, Setup, World, key_rule, push, rules, settings, signed_by};

const STORM: usize = 2000;
const SEARCHES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// A world with images that a key has signed, so many of which may wait for their search.
async fn world(images: usize, search_queue_max: usize) -> (World, Vec<Package>) {
    let key = KeyPair::generate();
    let signer = key_rule("ours", &key, false);
    let mut settings = settings();
    settings.searches_max = SEARCHES;
    settings.search_queue_max = search_queue_max;
    settings.evidence.deadline = PATIENCE;
    let world = World::with(Setup {
        settings,
        // The registry hangs for as long as the storm takes to gather.
        upstream: |settings| {
            settings.limits.answer_timeout = PATIENCE;
            settings.limits.manifest_deadline = PATIENCE;
            settings.limits.requests_per_second_max = 1_000_000;
        },
        ..Setup::ruled(rules(vec![signed_by("ours", "**", &[signer])]))
    })
    .await;
    let publish = |number| {
        let package = image::runnable(&format!("image {number}"));
        world.push("app", &package);
        world.sign_layers("app", &package, &[Recipe::key(&key, Log::None)]);
        package
    };
    let packages = (0..images).map(publish).collect();
    (world, packages)
}

fn searches(request: &Recorded) -> bool {
    request.endpoint == Endpoint::Referrers
}

/// Asks for each of the images, and says what became of it.
async fn storm(world: &World, packages: &[Package]) -> Vec<Result<(), Refusal>> {
    let pulls = packages.iter().map(|package| {
        let (gate, ask) = (world.gate.clone(), world.named("app", &package.digest()));
        tokio::spawn(async move { gate.manifest(&ask, &Caller::Anonymous).await.map(drop) })
    });
    let pulls = join_all(pulls.collect::<Vec<_>>()).await;
    pulls.into_iter().map(|pull| pull.expect("ends")).collect()
}

/// Waits until a metric whose line has this in it has come to `count`.
async fn until(world: &World, part: &str, count: usize) {
    let counted = || {
        let text = world.metrics.render().expect("metrics");
        let lines = text.lines().filter(|line| line.contains(part));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        values.sum::<usize>()
    };
    let waiting = async {
        while counted() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    in_time.unwrap_or_else(|_| panic!("{part}: {} of {count}", counted()));
}

const NO_FACTS: &str = "{cache=\"facts\",outcome=\"miss\"}";

// THREATS D: two thousand distinct images at once are queued, so many of them are searched for at
// a time, all of them are admitted, and whoever pulls from the cache waits for none of it.
#[tokio::test]
async fn d_a_cold_storm_is_queued_and_cached_pulls_go_on() {
    let (world, packages) = world(STORM + 1, STORM).await;
    let (cached, cold) = packages.split_last().expect("some");
    world
        .manifest("app", cached.digest())
        .await
        .admits(&cached.manifest);
    world.registry.clear_requests();
    let held = world
        .registry
        .misbehave(Fault::on(Endpoint::Referrers, Misdeed::Hang));
    let others = async {
        until(&world, NO_FACTS, STORM + 1).await;
        world.registry.wait_for(SEARCHES, searches).await;
        for _ in 0..100 {
            let answer = world.manifest("app", cached.digest()).await;
            answer.admits(&cached.manifest);
        }
        // The rest of them waits here, and not at the registry.
        assert_eq!(world.registry.count(searches), SEARCHES);
        world.registry.forgive(held);
    };
    let (pulls, ()) = tokio::join!(storm(&world, cold), others);
    for pull in pulls {
        pull.expect("admitted");
    }
    assert_eq!(world.registry.count(searches), STORM);
}

// THREATS D: what is beyond the queue is told so, is not remembered as unsigned, and passes when
// there is room again.
#[tokio::test]
async fn d_beyond_the_queue_pulls_are_turned_away() {
    let (queue, images) = (16, 100);
    let (world, packages) = world(images, queue).await;
    let held = world
        .registry
        .misbehave(Fault::on(Endpoint::Referrers, Misdeed::Hang));
    let overflow = images - SEARCHES - queue;
    let release = async {
        until(&world, "reason=\"overloaded\"", overflow).await;
        let one_more = image::runnable("one more");
        world.push("app", &one_more);
        let answer = world.manifest("app", one_more.digest()).await;
        answer.cannot_tell("overloaded");
        world.registry.forgive(held);
    };
    let (pulls, ()) = tokio::join!(storm(&world, &packages), release);
    let mut turned_away = 0;
    for pull in pulls {
        match pull {
            Ok(()) => {}
            Err(Refusal::Unavailable(unavailable)) => {
                assert_eq!(unavailable.doubt.as_str(), "overloaded");
                turned_away += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(turned_away, overflow);
    for package in &packages {
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

// THREATS D4: a registry whose evidence never comes holds all the bytes that evidence may have, and
// takes none of those that are for another.
#[tokio::test]
async fn d4_a_registry_that_holds_all_its_bytes_takes_none_from_others() {
    let key = KeyPair::generate();
    let mut settings = settings();
    settings.evidence.deadline = PATIENCE;
    // One piece at a time for each of two.
    (
        settings.evidence_bytes_max,
        settings.evidence_in_flight_bytes_max,
    ) = (64 << 10, 128 << 10);
    let signer = key_rule("ours", &key, false);
    let world = World::with(Setup {
        mirror: true,
        settings,
        upstream: |settings| settings.limits.answer_timeout = PATIENCE,
        ..Setup::ruled(rules(vec![signed_by("ours", "**", &[signer])]))
    })
    .await;
    let mirror = world.mirror.as_ref().expect("a mirror");
    let publish = |number, registry| {
        let package = image::runnable(&format!("image {number}"));
        push(registry, "app", &package);
        let recipe = Recipe::key(&key, Log::None);
        let layer = world.sigstore.sign_layer(&package.digest(), "app", &recipe);
        push(
            registry,
            "app",
            &signature_tag(&package.digest(), vec![layer]),
        );
        package
    };
    let slow: Vec<Package> = (0..6)
        .map(|number| publish(number, &world.registry))
        .collect();
    let other = publish(6, mirror);
    let hangs = Fault::on(Endpoint::Blobs, Misdeed::Hang);
    let hangs = world.registry.misbehave(hangs);
    let others = async {
        world.registry.wait_for(slow.len(), searches).await;
        // One has all the room, and another one goes beyond it.
        let is_blob = |request: &Recorded| request.endpoint == Endpoint::Blobs;
        world.registry.wait_for(2, is_blob).await;
        let target = format!("/v2/app/manifests/{}?ns={MIRROR}", other.digest());
        let answer = tokio::time::timeout(Duration::from_secs(20), world.get(&target)).await;
        answer.expect("waits for nobody").admits(&other.manifest);
        assert_eq!(world.registry.count(is_blob), 2);
        world.registry.forgive(hangs);
    };
    let (pulls, ()) = tokio::join!(storm(&world, &slow), others);
    for pull in pulls {
        pull.expect("admitted");
    }
}
