//! Closure over a restart: what hints on disk do, and what they cannot do.

use std::time::Duration;

use crate::clock::Clock;
use crate::gate::Refusal;
use crate::gate::Settings;
use crate::gate::hints::Named;
use crate::gate::test_world::{LAYER, World, key, policy, reason, settings};
use crate::oci::Digest;
use crate::oci::Reference;
use crate::oci::Tag;
use crate::policy::Glob;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::Requirement;
use crate::policy::Signs;
use crate::sandbox::registry::{Endpoint, Fault, Misdeed};

fn tag() -> Tag {
    "v1".parse().expect("a tag")
}

// THREATS G1.
#[tokio::test]
async fn after_a_restart_a_child_and_its_blob_are_served_without_upstream() {
    let mut world = World::start().await;
    let process = world.open();
    process
        .manifest(Reference::Tag(tag()))
        .await
        .expect("the index");
    let child = Reference::Digest(world.child);
    process.manifest(child.clone()).await.expect("its child");
    let layer = Digest::sha256(LAYER);
    process.blob(layer).await.expect("its layer");
    process.end().await;

    world.registry.untag("app", "v1");
    world.registry.stop().await;
    for _ in 0..2 {
        // The blob first: nothing but the hints leads to it.
        let process = world.open();
        assert_eq!(process.blob(layer).await.expect("its layer"), LAYER);
        let served = process.manifest(child.clone()).await;
        assert_eq!(served.expect("its child"), world.child);
        process.end().await;
        world.copy_directory();
    }
}

// THREATS G1: another process that shares the directory, perhaps on another machine.
#[tokio::test]
async fn what_one_process_admits_the_others_serve_the_children_of() {
    let world = World::start().await;
    let (one, other) = (world.open(), world.open());
    let (tag, child) = (Reference::Tag(tag()), Reference::Digest(world.child));
    let layer = Digest::sha256(LAYER);
    // What the one refuses is no more to the other.
    let outsider = Reference::Digest(world.outsider);
    let refused = one.manifest(outsider).await;
    assert_eq!(reason(refused), Reason::DeniedByPolicy);
    one.manifest(tag).await.expect("the index");
    one.manifest(child.clone()).await.expect("its child");
    one.blob(layer).await.expect("its layer");
    one.settled().await;

    world.registry.stop().await;
    assert_eq!(other.blob(layer).await.expect("its layer"), LAYER);
    let served = other.manifest(child.clone()).await;
    assert_eq!(served.expect("its child"), world.child);
    let outside = Digest::sha256(b"of nobody's index");
    assert_eq!(reason(other.blob(outside).await), Reason::NotReachable);
    one.end().await;
    other.end().await;
}

// THREATS G1: a "no" that one process has given ends with what another has admitted since.
#[tokio::test]
async fn before_a_no_it_is_asked_what_others_have_admitted() {
    for of_a_blob in [true, false] {
        let world = World::start().await;
        let settings = Settings {
            unsigned_ttl: Duration::ZERO,
            ..settings()
        };
        let pinned = Requirement::Digests([world.index].into());
        let policies = vec![policy("pinned", pinned, Signs::Either)];
        let other = world.open_with(settings, Clock::system(), policies);
        let one = world.open();
        let layer = Digest::sha256(LAYER);
        let child = Reference::Digest(world.child);
        // It knows of an image that lists the layer, or of an index that lists the child.
        let known = match of_a_blob {
            true => vec![world.registry.put_image("app", None, &[LAYER, b"more"])],
            false => vec![
                world
                    .registry
                    .put_index("app", None, &[world.child, world.outsider]),
                world.child,
            ],
        };
        for manifest in known {
            let answer = other.manifest(Reference::Digest(manifest)).await;
            assert_eq!(reason(answer), Reason::DeniedByPolicy);
        }
        if of_a_blob {
            assert_eq!(reason(other.blob(layer).await), Reason::NotReachable);
        }
        one.manifest(Reference::Tag(tag()))
            .await
            .expect("the index");
        one.manifest(child.clone()).await.expect("its child");
        one.settled().await;
        if of_a_blob {
            assert_eq!(other.blob(layer).await.expect("its layer"), LAYER);
        }
        let served = other.manifest(child).await;
        assert_eq!(served.expect("its child"), world.child);
        one.end().await;
        other.end().await;
    }
}

// THREATS G5: what anybody may push does not hide what was admitted.
#[tokio::test]
async fn refused_manifests_do_not_hide_what_the_store_knows() {
    let world = World::start().await;
    let process = world.open();
    let index = Reference::Digest(world.index);
    process.manifest(index).await.expect("the index");
    let child = Reference::Digest(world.child);
    process.manifest(child).await.expect("its child");
    process.end().await;

    let process = world.open();
    for number in 0..20_u8 {
        let refused = world.registry.put_image("app", None, &[LAYER, &[number]]);
        let answer = process.manifest(Reference::Digest(refused)).await;
        assert_eq!(reason(answer), Reason::DeniedByPolicy);
    }
    let layer = process.blob(Digest::sha256(LAYER)).await;
    assert_eq!(layer.expect("the layer"), LAYER);
    process.end().await;
}

// THREATS G2.
#[tokio::test]
async fn a_child_whose_index_was_never_admitted_is_denied() {
    let world = World::start().await;
    let process = world.open();
    let child = process.manifest(Reference::Digest(world.child)).await;
    assert_eq!(reason(child), Reason::DeniedByPolicy);
    let layer = process.blob(Digest::sha256(LAYER)).await;
    assert_eq!(reason(layer), Reason::NotReachable);
    process.end().await;
}

// THREATS C8: whoever edits the store can only say where to look.
#[tokio::test]
async fn an_edited_store_admits_nothing() {
    let world = World::start().await;
    let process = world.open();
    let hints = process.content.parents().expect("a directory");
    let outside = Digest::sha256(b"of nobody's index");
    let absent = Digest::sha256(b"not there at all");
    for child in [world.outsider, outside] {
        hints.add(vec![key("app", child)], absent);
        // Itself, an image that lists it and is not admitted, and the index that does not.
        hints.add(vec![key("app", child)], child);
        hints.add(vec![key("app", child)], world.outsider);
        hints.add(vec![key("app", child)], world.index);
    }
    process.end().await;

    let process = world.open();
    let hints = process.content.parents().expect("a directory");
    let edited = hints.of(&key("app", outside)).await;
    assert!(edited.contains(&world.index), "{edited:?}");
    let outsider = process.manifest(Reference::Digest(world.outsider)).await;
    assert_eq!(reason(outsider), Reason::DeniedByPolicy);
    assert_eq!(reason(process.blob(outside).await), Reason::NotReachable);
    process.end().await;
}

// THREATS C4: whether a tag vouches for an index that cannot be read now, nobody knows.
#[tokio::test]
async fn an_index_that_cannot_be_read_is_no_refusal() {
    let world = World::start().await;
    let reason_given = "none but what a tag vouches for".to_owned();
    let never = Requirement::Deny {
        reason: reason_given,
    };
    let process = world.open();
    let hints = process.content.parents().expect("a directory");
    hints.add(vec![key("app", world.child)], world.index);
    process.end().await;

    // Of the tag there is something else to say, so it is looked at.
    let of_tag = Policy {
        images: vec![Glob::over_references("**:v1").expect("a glob")],
        ..policy("of the tag", never.clone(), Signs::Asked)
    };
    let process = world.open_under(vec![policy("never", never, Signs::Asked), of_tag]);
    let tag = tag();
    let hints = &process.gate.0.hints;
    hints.tagged(&key("app", world.index), &tag, Named::ByRegistry, false);
    let unwell = Fault::on(Endpoint::Manifests, Misdeed::DropConnection);
    let path = format!("/v2/app/manifests/{}", world.index);
    let fault = world.registry.misbehave(unwell.path(&path));
    let child = Reference::Digest(world.child);
    let answer = process.manifest(child.clone()).await;
    assert!(matches!(answer, Err(Refusal::Unavailable(_))), "{answer:?}");
    world.registry.forgive(fault);
    let answer = process.manifest(child).await;
    assert_eq!(reason(answer), Reason::DeniedByPolicy);
    process.end().await;
}

// THREATS G5: what others may push drives nothing out that an answer, which is repeated, rests on.
#[tokio::test]
async fn an_answer_that_is_repeated_keeps_its_hints() {
    let world = World::start().await;
    let process = world.open();
    let hints = &process.gate.0.hints;
    let tag = tag();
    let by_tag = Reference::Tag(tag.clone());
    process.manifest(by_tag.clone()).await.expect("the index");
    for round in 0..3_u32 {
        let turn = hints.turns();
        let long: Tag = "t".repeat(128).parse().expect("a tag");
        let mut number = 0_u32;
        while hints.turns() == turn {
            let digest = Digest::sha256(format!("{round} {number}").as_bytes());
            hints.tagged(&key("other", digest), &long, Named::ByRegistry, false);
            number += 1;
        }
        process.manifest(by_tag.clone()).await.expect("the index");
    }
    let hint = hints.of(&key("app", world.index)).await;
    assert_eq!(hint.tags, [tag]);
    process.end().await;
}
