//! The graph: indexes, their members, blobs, and what is passed off as a signature.

use std::time::Duration;

use pullgate::gate;
use pullgate::oci::{Descriptor, Digest, media_type};
use pullgate::policy::{Policy, Signs};
use pullgate::sandbox::image::{self, BUNDLE, Blob, Disguise, Draft, Package};
use pullgate::sandbox::sigstore::{Log, Recipe, signature_tag};
use serde_json::json;

use crate::support::{
    Setup, World, identity_rule, recipe, release, rules, settings, signed_by, stranger,
};

/// Pushes an index of two platforms under the tag `v1`.
fn push_index(world: &World, repository: &str, content: &str) -> (Package, [Package; 2]) {
    let platforms = ["amd64", "arm64"].map(|name| image::platform("linux", name));
    let children = platforms
        .each_ref()
        .map(|platform| image::runnable_for(platform, content));
    let entries: Vec<Descriptor> = children
        .iter()
        .zip(platforms)
        .map(|(child, platform)| image::entry_for(child, platform))
        .collect();
    for child in &children {
        world.push(repository, child);
    }
    let index = image::index(&entries).tagged("v1");
    world.push(repository, &index);
    (index, children)
}

fn signs(what: Signs) -> Policy {
    Policy {
        signs: what,
        ..signed_by("release", "**", &[identity_rule(&release())])
    }
}

// THREATS G1: a member of a signed index passes on a connection of its own, through the index
// that was seen to list it; and so do its blobs.
#[tokio::test]
async fn g1_a_member_of_a_signed_index_passes_on_a_new_connection() {
    for what in [Signs::Either, Signs::Index] {
        let world = World::with(Setup::ruled(rules(vec![signs(what)]))).await;
        let (index, children) = push_index(&world, "app", "member");
        world.sign("app", &index, &release());
        world.manifest("app", "v1").await.admits(&index.manifest);
        for child in &children {
            let answer = world.manifest("app", child.digest()).await;
            answer.admits(&child.manifest);
            let layer = Digest::sha256(&child.blobs[1]);
            world.blob("app", layer).await.admits(&child.blobs[1]);
        }
        // The index is judged as it stands now, not as it was when it was recorded.
        let others = signed_by("others", "**", &[identity_rule(&stranger())]);
        world.reload(rules(vec![Policy {
            signs: what,
            ..others
        }]));
        let answer = world.manifest("app", children[0].digest()).await;
        answer.denies("untrusted_signer");
    }
}

// THREATS G2: the same member passes through no index that was not admitted: neither one that
// nobody asked for, nor one that was refused, nor one that lists something else, nor through the
// signed index of another repository.
#[tokio::test]
async fn g2_a_member_of_no_admitted_index_is_denied() {
    let world = World::new().await;
    let (index, [child, _]) = push_index(&world, "app", "member");
    let layer = Digest::sha256(&child.blobs[1]);
    let denied = async |reason: &str| {
        let answer = world.manifest("app", child.digest()).await;
        answer.denies(reason);
        world.blob("app", layer).await.denies("not_reachable");
    };
    denied("unsigned").await;
    world.manifest("app", "v1").await.denies("unsigned");
    denied("unsigned").await;
    let answer = world.manifest("app", index.digest()).await;
    answer.denies("unsigned");
    denied("unsigned").await;

    let (other, _) = push_index(&world, "app", "another");
    world.sign("app", &other, &release());
    let answer = world.manifest("app", other.digest()).await;
    answer.admits(&other.manifest);
    denied("unsigned").await;

    let (elsewhere, _) = push_index(&world, "elsewhere", "member");
    assert_eq!(elsewhere.digest(), index.digest());
    world.sign("elsewhere", &elsewhere, &release());
    let answer = world.manifest("elsewhere", "v1").await;
    answer.admits(&elsewhere.manifest);
    denied("unsigned").await;
}

// THREATS G3: where the index has to be signed, a tag makes no root of an image that an index is known
// to list, though it is signed itself.
#[tokio::test]
async fn g3_a_tag_makes_no_root_of_what_an_index_lists() {
    let world = World::with(Setup {
        settings: gate::Settings {
            unsigned_ttl: Duration::ZERO,
            ..settings()
        },
        ..Setup::ruled(rules(vec![signs(Signs::Index)]))
    })
    .await;
    let (index, [member, _]) = push_index(&world, "app", "member");
    world.sign("app", &member, &release());
    let alone = image::runnable("of no index").tagged("alone");
    world.push("app", &alone);
    world.sign("app", &alone, &release());
    world.manifest("app", "alone").await.admits(&alone.manifest);
    world.manifest("app", "v1").await.denies("unsigned");
    world.push("app", &member.clone().tagged("v1-amd64"));
    for reference in ["v1-amd64".to_owned(), member.digest().to_string()] {
        let answer = world.manifest("app", &reference).await;
        assert_eq!(answer.status, http::StatusCode::FORBIDDEN, "{reference}");
    }
    world.sign("app", &index, &release());
    let answer = world.manifest("app", "v1-amd64").await;
    answer.admits(&member.manifest);
}

// THREATS G3: what a signature has to cover is what the policy says: the index, each platform's
// manifest, or either.
#[tokio::test]
async fn g3_a_signature_covers_what_policy_asks_for() {
    use Signs::{Either, Index, Instance};
    // Whether the index passes, and then a member; with only the index signed, with only the
    // member that is asked for, and with all members.
    for (what, index_signed, one_signed, all_signed) in [
        (Index, (true, true), (false, false), (false, false)),
        (Instance, (false, false), (false, true), (true, true)),
        (Either, (true, true), (false, true), (true, true)),
    ] {
        let world = World::with(Setup::ruled(rules(vec![signs(what)]))).await;
        for (signed, (index_passes, member_passes)) in [
            ("index", index_signed),
            ("one", one_signed),
            ("all", all_signed),
        ] {
            let (index, children) = push_index(&world, "app", &format!("{what:?} {signed}"));
            let to_sign: Vec<&Package> = match signed {
                "index" => vec![&index],
                "one" => vec![&children[0]],
                _ => children.iter().collect(),
            };
            for package in to_sign {
                world.sign("app", package, &release());
            }
            let answer = world.manifest("app", index.digest()).await;
            let passes = answer.status == 200;
            assert_eq!(passes, index_passes, "the index, {what:?}, {signed} signed");
            let answer = world.manifest("app", children[0].digest()).await;
            let passes = answer.status == 200;
            assert_eq!(passes, member_passes, "a member, {what:?}, {signed} signed");
        }
    }
}

/// Pushes an index of one entry.
fn push_wrapped(world: &World, inner: &Package) -> Package {
    let entry = image::entry_for(inner, image::platform("linux", "amd64"));
    let index = image::index(&[entry]);
    world.push("app", &index);
    index
}

// THREATS G4: an index in an index passes its signature on, to a depth.
#[tokio::test]
async fn g4_nested_indexes_pass_their_signature_on_to_a_depth() {
    let depth_max = settings().index_depth_max;
    let world = World::new().await;
    let innermost = image::runnable("nested");
    world.push("app", &innermost);
    let mut shells = vec![innermost.clone()];
    for _ in 0..=depth_max {
        let inner = shells.last().expect("there is one");
        shells.push(push_wrapped(&world, inner));
    }
    // Nobody has asked for the index in between: no way leads from the outermost to the inside.
    let outermost = shells.last().expect("there is one");
    world.sign("app", outermost, &release());
    let answer = world.manifest("app", outermost.digest()).await;
    answer.admits(&outermost.manifest);
    let answer = world.manifest("app", innermost.digest()).await;
    answer.denies("unsigned");
    // From the outside in, each passes through the one around it, as deep as is looked.
    for (above, shell) in shells.iter().rev().enumerate() {
        let answer = world.manifest("app", shell.digest()).await;
        if above <= depth_max {
            answer.admits(&shell.manifest);
        } else {
            answer.denies("unsigned");
        }
    }
}

// THREATS G4: no index can list itself, but a web can be made in which thousands of ways lead
// from the bottom to the top. The search for a signature along them ends within its budget.
#[tokio::test]
async fn g4_a_web_of_unsigned_indexes_ends() {
    let world = World::with(Setup {
        settings: gate::Settings {
            index_manifests_max: 16,
            ..settings()
        },
        ..Setup::default()
    })
    .await;
    // Five layers of six indexes, each of which lists all of the layer below.
    let bottom = image::runnable("at the bottom");
    world.push("app", &bottom);
    let mut below = vec![bottom.descriptor()];
    let mut all = Vec::new();
    for layer in 0..5 {
        let indexes: Vec<Package> = (0..6)
            .map(|number| {
                let mut entries = below.clone();
                entries.rotate_left(number % below.len());
                let salt = image::runnable(&format!("{layer} {number}"));
                entries.push(salt.descriptor());
                image::index(&entries)
            })
            .collect();
        below = indexes.iter().map(Package::descriptor).collect();
        for index in indexes {
            world.push("app", &index);
            all.push(index);
        }
    }
    for index in &all {
        let answer = world.manifest("app", index.digest()).await;
        answer.denies("unsigned");
    }
    let lookups = "pullgate_cache_requests_total{cache=\"facts\"";
    let before = world.counted(lookups);
    let answer = world.manifest("app", bottom.digest()).await;
    answer.denies("unsigned");
    let looked = world.counted(lookups) - before;
    assert!(
        looked <= 17,
        "{looked} manifests were looked at for one decision"
    );
}

// THREATS G5: a blob passes because an admitted manifest of this repository lists it, and for no
// other reason; what is refused does not say whether it is there.
#[tokio::test]
async fn g5_a_blob_that_nothing_admitted_reaches_is_denied() {
    let world = World::new().await;
    let (good, bad) = (image::runnable("good"), image::runnable("bad"));
    world.push("app", &good);
    world.push("app", &bad);
    world.push("elsewhere", &good);
    world.sign("app", &good, &release());
    let layer = Digest::sha256(&good.blobs[1]);
    // Nobody has asked for its manifest yet.
    world.blob("app", layer).await.denies("not_reachable");
    let answer = world.manifest("app", good.digest()).await;
    answer.admits(&good.manifest);
    world.blob("app", layer).await.admits(&good.blobs[1]);

    let answer = world.manifest("app", bad.digest()).await;
    answer.denies("unsigned");
    let hidden = Digest::sha256(&bad.blobs[1]);
    let absent = Digest::sha256(b"nowhere");
    let fetched = world.registry.requests().len();
    let answers = [
        world.blob("app", hidden).await,
        world.blob("app", absent).await,
        world.blob("app", bad.digest()).await,
        world.blob("elsewhere", layer).await,
    ];
    for answer in &answers {
        answer.denies("not_reachable");
    }
    assert_eq!(
        world.registry.requests().len(),
        fetched,
        "nothing was asked"
    );
    let without_digest = |digest: Digest, message: String| {
        let message = message.replace(&digest.to_string(), "");
        message.split(" Decision ").next().map(str::to_owned)
    };
    assert_eq!(
        without_digest(hidden, answers[0].message()),
        without_digest(absent, answers[1].message()),
    );
}

// THREATS G5: a blob that was cached while its image passed goes with the image.
#[tokio::test]
async fn g5_a_cached_blob_of_a_denied_image_is_denied() {
    let world = World::new().await;
    let package = image::runnable("once good");
    world.push("app", &package);
    world.sign("app", &package, &release());
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    let layer = Digest::sha256(&package.blobs[1]);
    world.blob("app", layer).await.admits(&package.blobs[1]);
    let others = signed_by("others", "**", &[identity_rule(&stranger())]);
    world.reload(rules(vec![others]));
    for target in [
        format!("/v2/app/blobs/{layer}"),
        format!("/v2/app/blobs/{layer}?ns=registry.acme.test"),
    ] {
        world.get(&target).await.denies("not_reachable");
        let range = [("range", "bytes=0-9")];
        let answer = world.ask(http::Method::GET, &target, &range).await;
        answer.denies("not_reachable");
        let answer = world.ask(http::Method::HEAD, &target, &[]).await;
        assert_eq!(answer.status, 403);
    }
}

// THREATS G6: signatures and attestations pass, signed by whomever, so that others can verify.
#[tokio::test]
async fn g6_evidence_passes_for_downstream_verifiers() {
    let world = World::new().await;
    let package = image::runnable("to be verified downstream");
    world.push("app", &package);
    let stranger = stranger();
    let bundle = world
        .sigstore
        .sign_bundle(&package.descriptor(), &recipe(&stranger));
    let predicate = json!({"buildDefinition": {}});
    let provenance = world.sigstore.attest_bundle(
        &package.descriptor(),
        "https://slsa.dev/provenance/v1",
        &predicate,
        &recipe(&stranger),
    );
    let layer = world.sigstore.sign_layer(
        &package.digest(),
        "registry.acme.test/app",
        &Recipe::keyless(&stranger, Log::RekorV1),
    );
    let tagged = signature_tag(&package.digest(), vec![layer]);
    let sbom = Draft {
        artifact_type: Some("application/spdx+json".to_owned()),
        config: Blob::empty(),
        layers: vec![
            Blob::new(
                "application/spdx+json",
                b"{\"spdxVersion\":\"SPDX-2.3\"}".to_vec(),
            ),
            Blob::new("text/spdx", b"SPDXVersion: SPDX-2.3\n".to_vec()),
        ],
        subject: Some(package.descriptor()),
        annotations: Default::default(),
    };
    let evidence = [bundle, provenance, tagged, sbom.pack()];
    for evidence in &evidence {
        world.push("app", evidence);
    }
    let listed = world
        .get(&format!("/v2/app/referrers/{}", package.digest()))
        .await;
    assert_eq!(listed.header("content-type"), media_type::OCI_INDEX);
    let text = String::from_utf8_lossy(&listed.body).into_owned();
    for evidence in &evidence {
        let reference = match &evidence.tag {
            Some(tag) => tag.clone(),
            None => {
                assert!(text.contains(&evidence.digest().to_string()), "{text}");
                evidence.digest().to_string()
            }
        };
        let answer = world.manifest("app", reference).await;
        answer.admits(&evidence.manifest);
        for blob in &evidence.blobs {
            world.blob("app", Digest::sha256(blob)).await.admits(blob);
        }
    }
    // And none of it makes the image pass.
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("untrusted_signer");
}

// THREATS G7: a runnable image that is dressed up as a signature is judged as an image, or, where
// its media types lie, gives nothing away that could run.
#[tokio::test]
async fn g7_a_disguised_image_is_judged_or_gives_nothing_away() {
    let world = World::new().await;
    for disguise in [
        Disguise::ArtifactType,
        Disguise::SignatureTag,
        Disguise::MixedLayers,
        Disguise::LayerType,
    ] {
        let package = image::runnable(&format!("covered by {disguise:?}"));
        world.push("app", &package);
        world.sign("app", &package, &release());
        let impostor = image::disguised(disguise, &package.descriptor(), "malicious");
        world.push("app", &impostor);
        let mut references = vec![impostor.digest().to_string()];
        references.extend(impostor.tag.clone());
        for reference in references {
            let answer = world.manifest("app", reference).await;
            answer.denies("unsigned");
        }
        let layer = impostor
            .blobs
            .iter()
            .find(|blob| blob.len() > 512)
            .expect("a layer");
        let answer = world.blob("app", Digest::sha256(layer)).await;
        answer.denies("not_reachable");
        // The signature that it hides behind goes on counting, where it is not hidden.
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

// THREATS G7: JSON is not evidence because it is JSON: each layer has to be declared as evidence,
// and an artifact type declares nothing.
#[tokio::test]
async fn g7_json_that_is_not_declared_as_evidence_is_judged() {
    let world = World::new().await;
    let json = |media_type| Blob::new(media_type, b"{}".to_vec());
    let tar = "application/vnd.oci.image.layer.v1.tar";
    for layers in [
        vec![json(tar)],
        vec![json(media_type::SIMPLE_SIGNING), json(tar)],
        vec![json(BUNDLE), json("application/vnd.acme.settings+json")],
        vec![],
    ] {
        let package = Draft {
            artifact_type: Some(BUNDLE.to_owned()),
            ..Draft::of(Blob::empty(), layers)
        };
        let package = package.pack();
        world.push("app", &package);
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
    }
}

/// A manifest that lists bytes of others as a signature or a bill of materials.
fn smuggler(media_type: &str, bytes: &[u8]) -> Package {
    Draft::of(Blob::empty(), vec![Blob::new(media_type, bytes.to_vec())]).pack()
}

// THREATS G7: the layer of a refused image does not leave because somebody lists it as evidence,
// whatever kind of evidence, or as the config of some.
#[tokio::test]
async fn g7_a_refused_layer_is_not_smuggled_out_as_evidence() {
    let world = World::new().await;
    let refused = image::runnable("refused");
    world.push("app", &refused);
    let answer = world.manifest("app", refused.digest()).await;
    answer.denies("unsigned");
    let bytes = &refused.blobs[1];
    let layer = Digest::sha256(bytes);
    for media_type in [
        media_type::SIMPLE_SIGNING,
        media_type::DSSE_ENVELOPE,
        BUNDLE,
        "application/spdx+json",
        "text/spdx",
        "application/vnd.cyclonedx+xml",
    ] {
        let package = smuggler(media_type, bytes);
        world.push("app", &package);
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
        world.blob("app", layer).await.denies("not_reachable");
        let target = format!("/v2/app/blobs/{layer}");
        let range = [("range", "bytes=0-9")];
        let answer = world.ask(http::Method::GET, &target, &range).await;
        answer.denies("not_reachable");
    }
    let as_config = Draft::of(
        Blob::new("application/vnd.oci.image.config.v1+json", bytes.clone()),
        vec![Blob::new(media_type::SIMPLE_SIGNING, b"{}".to_vec())],
    )
    .pack();
    world.push("app", &as_config);
    let answer = world.manifest("app", as_config.digest()).await;
    answer.denies("unsigned");
    world.blob("app", layer).await.denies("not_reachable");
}

// THREATS G7, turned round: nobody locks up the layer of a good image by listing it as evidence.
#[tokio::test]
async fn g7_a_good_layer_is_not_locked_up_as_evidence() {
    let world = World::new().await;
    let good = image::runnable("good");
    world.push("app", &good);
    world.sign("app", &good, &release());
    let layer = Digest::sha256(&good.blobs[1]);
    let package = smuggler(media_type::SIMPLE_SIGNING, &good.blobs[1]);
    world.push("app", &package);
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
    world.blob("app", layer).await.denies("not_reachable");
    let answer = world.manifest("app", good.digest()).await;
    answer.admits(&good.manifest);
    world.blob("app", layer).await.admits(&good.blobs[1]);
}

// THREATS G7, and so it is with many: neither refused images nor pretended signatures that list a
// good image's layer drive the good image out of memory.
#[tokio::test]
async fn g7_a_good_layer_is_found_behind_many_that_list_it() {
    let world = World::new().await;
    let good = image::runnable("good");
    world.push("app", &good);
    world.sign("app", &good, &release());
    let answer = world.manifest("app", good.digest()).await;
    answer.admits(&good.manifest);
    let layer = Digest::sha256(&good.blobs[1]);
    for number in 0..20 {
        let config = json!({"os": "linux", "architecture": "amd64", "number": number});
        let layers = |media_type| vec![Blob::new(media_type, good.blobs[1].clone())];
        let tar = layers("application/vnd.oci.image.layer.v1.tar");
        let refused = Draft::of(Blob::config(&config), tar).pack();
        world.push("app", &refused);
        let answer = world.manifest("app", refused.digest()).await;
        answer.denies("unsigned");
        let signature = layers(media_type::SIMPLE_SIGNING);
        let pretended = Draft::of(Blob::config(&config), signature).pack();
        world.push("app", &pretended);
        let answer = world.manifest("app", pretended.digest()).await;
        answer.denies("unsigned");
    }
    world.blob("app", layer).await.admits(&good.blobs[1]);
}

// THREATS G7: nobody puts an unsigned image together from the layers of a signed one, called
// signatures, and a config of their own; runtimes that do not look at the types of layers would
// run it.
#[tokio::test]
async fn g7_good_layers_make_no_unsigned_image() {
    let world = World::new().await;
    let good = image::runnable("good");
    world.push("app", &good);
    world.sign("app", &good, &release());
    let answer = world.manifest("app", good.digest()).await;
    answer.admits(&good.manifest);
    let layer = Blob::new(media_type::SIMPLE_SIGNING, good.blobs[1].clone());
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sh", "-c", "something malicious"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
    });
    let image = Draft::of(Blob::config(&config), vec![layer]).pack();
    world.push("app", &image.clone().tagged("v2"));
    world.manifest("app", "v2").await.denies("unsigned");
    let answer = world.manifest("app", image.digest()).await;
    answer.denies("unsigned");
    let config = Digest::sha256(&image.blobs[0]);
    world.blob("app", config).await.denies("not_reachable");
}

// THREATS G5: many refused manifests that list a good image's layer do not make pullgate forget
// through what it is reached.
#[tokio::test]
async fn g5_refused_manifests_do_not_crowd_out_the_good_one() {
    let world = World::new().await;
    let good = image::runnable("good");
    world.push("app", &good);
    world.sign("app", &good, &release());
    let answer = world.manifest("app", good.digest()).await;
    answer.admits(&good.manifest);
    for number in 0..20 {
        let config = Blob::config(&json!({"number": number}));
        let layer = Blob::new(
            "application/vnd.oci.image.layer.v1.tar",
            good.blobs[1].clone(),
        );
        let other = Draft::of(config, vec![layer]).pack();
        world.push("app", &other);
        let answer = world.manifest("app", other.digest()).await;
        answer.denies("unsigned");
    }
    let layer = Digest::sha256(&good.blobs[1]);
    world.blob("app", layer).await.admits(&good.blobs[1]);
}
