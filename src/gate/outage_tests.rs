//! What outlives the process for the time when the registry is away, and what it cannot do.

use jiff::SignedDuration;

use crate::clock::Clock;
use crate::content::Memory;
use crate::content::Remembered;
use crate::gate::test_world::{HOUR, Process, World, image, key, policy, settings};
use crate::gate::{Doubt, Refusal, Settings};
use crate::oci::Digest;
use crate::oci::Reference;
use crate::oci::Tag;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::Signs;

fn tag() -> Tag {
    "v1".parse().expect("a tag")
}

fn by_tag() -> Reference {
    Reference::Tag(tag())
}

/// A process that goes on with what is old.
fn open(world: &World, pinned: Digest) -> Process {
    let pinned = Requirement::Digests([pinned].into());
    open_under(world, policy("pinned", pinned, Signs::Either))
}

fn open_under(world: &World, policy: Policy) -> Process {
    let settings = Settings {
        stale_ttl: HOUR,
        ..settings()
    };
    world.open_with(settings, Clock::system(), vec![policy])
}

fn remembered(process: &Process) -> &Remembered {
    process.content.remembered().expect("a directory")
}

fn doubt<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> Doubt {
    match refused {
        Err(Refusal::Unavailable(unavailable)) => unavailable.doubt,
        other => panic!("{other:?}"),
    }
}

/// Says what a tag named, as whoever edits the store can.
async fn edit(world: &World, digest: Digest, ago: SignedDuration) {
    let process = world.open();
    let name = super::remember::tag_name(&image("app"), &tag());
    let at = Clock::system().now() - ago;
    remembered(&process).note(name, Some(Memory { digest, at }));
    process.end().await;
}

#[tokio::test]
async fn a_tag_outlives_the_process_while_the_registry_is_away() {
    let world = World::start().await;
    let process = open(&world, world.index);
    process.manifest(by_tag()).await.expect("the index");
    process.end().await;
    let process = open(&world, world.index);
    let asked = || world.registry.count(|request| request.method == "GET");
    let before = asked();
    process.manifest(by_tag()).await.expect("the index");
    assert_eq!(asked(), before, "HEAD says that it is the same");
    process.end().await;

    world.registry.stop().await;
    let process = open(&world, world.index);
    for _ in 0..2 {
        let served = process.manifest(by_tag()).await;
        assert_eq!(served.expect("the index"), world.index);
    }
    let other = Reference::Tag("v2".parse().expect("a tag"));
    assert_eq!(
        doubt(process.manifest(other).await),
        Doubt::UpstreamUnreachable
    );
    process.end().await;
    // Only where that is wanted.
    let process = world.open();
    assert_eq!(
        doubt(process.manifest(by_tag()).await),
        Doubt::UpstreamUnreachable
    );
    process.end().await;
}

#[tokio::test]
async fn a_tag_that_is_gone_is_forgotten() {
    let world = World::start().await;
    let process = open(&world, world.index);
    process.manifest(by_tag()).await.expect("the index");
    process.end().await;
    world.registry.untag("app", "v1");
    let process = open(&world, world.index);
    let gone = process.manifest(by_tag()).await;
    assert!(matches!(gone, Err(Refusal::NotFound(_))), "{gone:?}");
    process.end().await;
    world.registry.stop().await;
    let process = open(&world, world.index);
    assert_eq!(
        doubt(process.manifest(by_tag()).await),
        Doubt::UpstreamUnreachable
    );
    process.end().await;
}

// THREATS C8: whoever edits the store can only choose among what policy admits.
#[tokio::test]
async fn an_edited_store_names_nothing_that_policy_does_not() {
    let world = World::start().await;
    let process = world.open();
    for digest in [world.index, world.outsider] {
        // Both are on disk from now on.
        process.manifest(Reference::Digest(digest)).await.ok();
    }
    process.end().await;
    let minute = SignedDuration::from_mins(1);
    // It is not believed while the registry is there.
    edit(&world, digest_of_nothing(), minute).await;
    let process = open(&world, world.index);
    let served = process.manifest(by_tag()).await;
    assert_eq!(served.expect("the index"), world.index);
    process.end().await;
    world.registry.stop().await;
    let away = [
        (world.outsider, minute),
        (digest_of_nothing(), minute),
        (world.index, SignedDuration::from_hours(2)),
        // Of the future.
        (world.index, -minute),
    ];
    for (edited, ago) in away {
        edit(&world, edited, ago).await;
        let process = open(&world, world.index);
        let answer = process.manifest(by_tag()).await;
        assert_eq!(doubt(answer), Doubt::UpstreamUnreachable, "{edited} {ago}");
        process.end().await;
    }
    edit(&world, world.index, minute).await;
    let process = open(&world, world.index);
    process.manifest(by_tag()).await.expect("the index");
    process.end().await;
}

// THREATS C8: where nothing is proven, nothing tells what the tag named from what somebody has put there.
#[tokio::test]
async fn where_nothing_is_proven_what_is_remembered_names_nothing() {
    let unsigned = Requirement::AllowUnsigned {
        because: "it is a mirror".into(),
        until: None,
    };
    let pinned = |world: &World| Requirement::Digests([world.outsider].into());
    for is_warned in [false, true] {
        let world = World::start().await;
        let policy = match is_warned {
            false => policy("unsigned", unsigned.clone(), Signs::Either),
            true => Policy {
                mode: Mode::Warn,
                ..policy("warned", pinned(&world), Signs::Either)
            },
        };
        let process = open_under(&world, policy.clone());
        process.manifest(by_tag()).await.expect("the index");
        process.end().await;
        world.registry.stop().await;
        let process = open_under(&world, policy);
        let answer = process.manifest(by_tag()).await;
        assert_eq!(doubt(answer), Doubt::UpstreamUnreachable);
        let by_digest = process.manifest(Reference::Digest(world.index)).await;
        by_digest.expect("the index");
        process.end().await;
    }
}

fn digest_of_nothing() -> Digest {
    Digest::sha256(b"not there at all")
}

// THREATS G3: a member of an index that is not signed must not become an image of its own by what
// whoever edits the store says.
#[tokio::test]
async fn what_is_remembered_makes_no_digest_a_tagged_one() {
    let world = World::start().await;
    let process = open(&world, world.index);
    process.manifest(by_tag()).await.expect("the index");
    let is_tagged = async |process: &Process| {
        let hints = &process.gate.0.hints;
        hints.noted(&key("app", world.index)).is_tagged
    };
    assert!(is_tagged(&process).await);
    process.end().await;

    world.registry.stop().await;
    let process = open(&world, world.index);
    process.manifest(by_tag()).await.expect("the index");
    assert!(!is_tagged(&process).await);
    process.end().await;
}
