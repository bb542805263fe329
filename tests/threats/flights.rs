//! Many at once: what is asked for by many is done once, and nobody's leaving harms the others.

use pullgate::gate::Ask;
use pullgate::policy::Caller;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed, Recorded};

use crate::support::{World, release};

const PULLS: usize = 1000;

/// A thousand first pulls of one thing, of which every tenth goes away while they wait.
async fn a_thousand_pulls(world: &World, ask: &Ask, held_at: Endpoint) {
    let held = world.registry.misbehave(Fault::on(held_at, Misdeed::Hang));
    let pulls: Vec<_> = (0..PULLS)
        .map(|_| {
            let (gate, ask) = (world.gate.clone(), ask.clone());
            tokio::spawn(async move { gate.manifest(&ask, &Caller::Anonymous).await })
        })
        .collect();
    world
        .registry
        .wait_for(1, |request| request.endpoint == held_at)
        .await;
    // All of them wait for the one flight before the registry goes on, and the first, who has
    // started it, goes away.
    let cache = match held_at {
        Endpoint::Referrers => "facts",
        _ => "tags",
    };
    let missed = format!("pullgate_cache_requests_total{{cache=\"{cache}\",outcome=\"miss\"}}");
    while world.counted(&missed) < PULLS as u64 {
        tokio::task::yield_now().await;
    }
    for pull in pulls.iter().step_by(10) {
        pull.abort();
    }
    world.registry.forgive(held);
    for (number, pull) in pulls.into_iter().enumerate() {
        match pull.await {
            Ok(answer) => drop(answer.expect("admitted")),
            Err(gone) => assert!(gone.is_cancelled() && number % 10 == 0, "{gone}"),
        }
    }
}

// THREATS D5: a thousand first pulls of one digest are one search for evidence and one proof,
// and whoever goes away takes nothing from the others.
#[tokio::test]
async fn d5_a_thousand_first_pulls_are_one_verification() {
    let world = World::new().await;
    let package = image::runnable("popular").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    let ask = world.named("app", &package.digest());
    a_thousand_pulls(&world, &ask, Endpoint::Referrers).await;
    assert_eq!(world.counted("pullgate_verifications_total"), 1);
    let searches = |request: &Recorded| request.endpoint == Endpoint::Referrers;
    assert_eq!(world.registry.count(searches), 1);
    let manifests = |request: &Recorded| request.path.ends_with(&package.digest().to_string());
    assert_eq!(
        world.registry.count(manifests),
        2,
        "the manifest and its referrers"
    );
}

// THREATS D5, by tag: one look at the tag, too.
#[tokio::test]
async fn d5_a_thousand_first_pulls_of_a_tag_are_one_fetch() {
    let world = World::new().await;
    let package = image::runnable("popular").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    a_thousand_pulls(&world, &world.named("app", &"v1"), Endpoint::Manifests).await;
    assert_eq!(world.counted("pullgate_verifications_total"), 1);
    let fetches = |request: &Recorded| request.path == "/v2/app/manifests/v1";
    assert_eq!(world.registry.count(fetches), 1);
}
