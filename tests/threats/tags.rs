//! What tags vouch for, against those who may push or ask what they like: tags that are refused
//! drive none out, and a refused request does not make the gate work for nothing.

use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::KeyPair;
use serde_json::json;

use crate::policy_json::{enforce, identified, named, scopes, sign_by_key, signed_with, world};
use crate::support::{World, stranger};

/// A digest that is refused, and that only `app:v1` admits.
async fn only_by_its_tag() -> (World, Package, Package) {
    let key = KeyPair::generate();
    let world = world().await;
    enforce(
        &world,
        &scopes(&json!({ named("app:v1"): [signed_with(&key)] })),
    );
    let child = image::runnable("a platform");
    let index = image::index(&[child.descriptor()]).tagged("v1");
    world.push("app", &child);
    world.push("app", &index);
    sign_by_key(&world, "app", &index, &named("app:v1"), &key);
    (world, index, child)
}

fn tags_asked(world: &World) -> usize {
    let is_of_tag = |path: &str| path.contains("/manifests/t");
    world.registry.count(|request| is_of_tag(&request.path))
}

// THREATS G5: whoever may tag what others admit takes nothing from them by it.
#[tokio::test]
async fn g5_refused_tags_drive_out_no_tag_that_admits() {
    let (world, index, child) = only_by_its_tag().await;
    let refused = async |names: &[&str]| {
        for tag in names {
            world.registry.tag("app", tag, index.digest());
            let answer = world.manifest("app", tag).await;
            answer.denies("denied_by_policy");
        }
    };
    refused(&["t1", "t2", "t3", "t4", "t5", "t6"]).await;
    world.manifest("app", "v1").await.admits(&index.manifest);
    refused(&["t6", "t7", "t8", "t9"]).await;
    let answer = world.manifest("app", child.digest()).await;
    answer.admits(&child.manifest);
    for blob in &child.blobs {
        world.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
}

/// Images with a layer in common, each under four tags that are refused.
async fn refused_images(world: &World, layer: &[u8], images: usize) {
    for number in 0..images {
        let own = format!("own {number}");
        let image = world
            .registry
            .put_image("app", None, &[layer, own.as_bytes()]);
        for tag in 0..4 {
            let tag = format!("t{number}-{tag}");
            world.registry.tag("app", &tag, image);
            world.manifest("app", &tag).await.denies("denied_by_policy");
        }
    }
}

/// Has `app:v1` admitted, and every other tag able to say another thing than its digest.
fn let_every_tag_say_otherwise(world: &World) {
    let exact = json!({ "type": "matchExact" });
    let exact = identified(signed_with(&KeyPair::generate()), exact);
    enforce(
        world,
        &scopes(&json!({
            named("app:v1"): [{ "type": "insecureAcceptAnything" }],
            named("app"): [exact],
        })),
    );
}

// THREATS D2: one blob that is listed by many refused images, each with many refused tags, has so
// many of these judged, and a moment later none. Where some were left out, it is no "no".
#[tokio::test]
async fn d2_a_blob_that_is_refused_has_few_tags_judged() {
    let (world, ..) = only_by_its_tag().await;
    let (few, many) = (b"of few".as_slice(), b"of many".as_slice());
    refused_images(&world, few, 4).await;
    refused_images(&world, many, 12).await;
    let_every_tag_say_otherwise(&world);
    world.registry.clear_requests();
    let reached_by_few = Digest::sha256(few);
    let reached_by_many = Digest::sha256(many);
    for _ in 0..2 {
        let answer = world.blob("app", reached_by_few).await;
        answer.denies("not_reachable");
        assert_eq!(tags_asked(&world), 16);
    }
    for _ in 0..2 {
        let answer = world.blob("app", reached_by_many).await;
        answer.cannot_tell("overloaded");
        let message = answer.message();
        assert!(message.contains("by its tag first"), "{message}");
        assert_eq!(tags_asked(&world), 32);
    }
    // What reaches it ends that at once.
    let image = world.registry.put_image("app", Some("v1"), &[many]);
    world.registry.tag("app", "v1", image);
    let answer = world.manifest("app", "v1").await;
    assert!(answer.status.is_success(), "{}", answer.message());
    world.blob("app", reached_by_many).await.admits(many);
}

// THREATS D2: the same of a manifest that many refused indexes list; and what the last of them
// admits is not hidden by the others.
#[tokio::test]
async fn d2_a_manifest_that_is_refused_has_few_tags_judged() {
    let (world, ..) = only_by_its_tag().await;
    let child = image::runnable("of many indexes");
    world.push("app", &child);
    let indexes = async |numbers: std::ops::Range<usize>, tags: usize| {
        for number in numbers {
            let other = image::runnable(&format!("other {number}"));
            let index = image::index(&[child.descriptor(), other.descriptor()]);
            world.push("app", &index);
            for tag in 0..tags {
                let tag = format!("t{number}-{tag}");
                world.registry.tag("app", &tag, index.digest());
                world.manifest("app", &tag).await.denies("denied_by_policy");
            }
        }
    };
    indexes(0..6, 1).await;
    let accepts = json!([{ "type": "insecureAcceptAnything" }]);
    enforce(&world, &scopes(&json!({ named("app:t5-0"): accepts })));
    let answer = world.manifest("app", child.digest()).await;
    answer.admits(&child.manifest);

    enforce(&world, &scopes(&json!({ named("app:v1"): accepts })));
    indexes(6..12, 4).await;
    let_every_tag_say_otherwise(&world);
    world.registry.clear_requests();
    let answer = world.manifest("app", child.digest()).await;
    answer.cannot_tell("overloaded");
    assert_eq!(tags_asked(&world), 16);
}

// THREATS D2: where policy says of tags what it says of digests, no tag is asked about a digest.
#[tokio::test]
async fn d2_tags_are_not_asked_where_policy_does_not_read_them() {
    let world = World::new().await;
    let package = image::runnable("by a stranger").tagged("t1");
    world.push("app", &package);
    world.sign("app", &package, &stranger());
    world.manifest("app", "t1").await.denies("untrusted_signer");
    world.registry.clear_requests();
    let layer = Digest::sha256(&package.blobs[0]);
    world.blob("app", layer).await.denies("not_reachable");
    assert_eq!(tags_asked(&world), 0);
}
