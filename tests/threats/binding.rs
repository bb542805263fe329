//! Binding: a signature counts for the bytes that were signed, and for nothing else.

use http::HeaderValue;
use http::Method;
use http::header::HeaderName;
use pullgate::oci::{Digest, media_type};
use pullgate::policy::Caller;
use pullgate::sandbox::image::{self, BUNDLE, Blob, Draft, Package};
use pullgate::sandbox::registry::{self, Endpoint, Fault as RegistryFault, Misdeed, Recorded};
use pullgate::sandbox::sigstore::{Fault, KeyPair, Log, Recipe, Signer, signature_tag};
use pullgate::verify::Kind;
use serde_json::{Value, json};

use crate::support::{
    Setup, World, key_rule, recipe, release, rules, settings, signed_by, stranger,
};

/// The three ways in which log entries come: in a bundle from either log, and with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Bundle(Log),
    SigLayer,
}

const ALL_WRITTEN: [Written; 3] = [
    Written::Bundle(Log::RekorV1),
    Written::Bundle(Log::RekorV2),
    Written::SigLayer,
];

impl Written {
    fn recipe(self, signer: Signer<'_>) -> Recipe<'_> {
        match self {
            Self::Bundle(log) => Recipe::new(signer, log),
            Self::SigLayer => Recipe::new(signer, Log::RekorV1),
        }
    }
}

/// Pushes an image of its own for this recipe and signs it so.
fn push_signed(world: &World, written: Written, recipe: &Recipe<'_>, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    match written {
        Written::Bundle(_) => {
            let evidence = world.sigstore.signature(&package.digest(), recipe);
            world.attach("app", &package, &evidence);
        }
        Written::SigLayer => world.sign_layers("app", &package, std::slice::from_ref(recipe)),
    }
    package
}

/// Signs one image for each fault and in each form, and expects every one to be refused.
async fn each_is_denied(world: &World, signer: Signer<'_>, faults: &[Fault], reason: &str) {
    for written in ALL_WRITTEN {
        for fault in faults {
            let content = format!("{written:?} {fault:?}");
            let recipe = written.recipe(signer).with(*fault);
            let package = push_signed(world, written, &recipe, &content);
            let answer = world.manifest("app", package.digest()).await;
            assert_eq!(answer.reason(), reason, "{content}: {}", answer.message());
            answer.denies(reason);
        }
        // The same without a fault, so that what is refused is refused for its fault.
        let content = format!("{written:?} sound");
        let package = push_signed(world, written, &written.recipe(signer), &content);
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

const FOREIGN_ENTRIES: [Fault; 3] = [
    Fault::EntryOfOtherDigest,
    Fault::EntryOfOtherSignature,
    Fault::EntryOfOtherVerifier,
];

// THREATS B1 (CVE-2022-36056, CVE-2026-22703): the log entry of another artifact vouches for
// nothing, be it another digest, another signature or another certificate that it is of.
#[tokio::test]
async fn b1_a_log_entry_of_another_artifact_does_not_count() {
    let world = World::new().await;
    let identity = release();
    let signer = Signer::Keyless(&identity);
    each_is_denied(&world, signer, &FOREIGN_ENTRIES, "invalid_signature").await;
}

// THREATS B1, where a key signs and policy asks for a log.
#[tokio::test]
async fn b1_a_log_entry_of_another_artifact_does_not_count_for_a_key() {
    let key = KeyPair::generate();
    let policy = signed_by("ops", "**", &[key_rule("ops", &key, true)]);
    let world = World::with(Setup::ruled(rules(vec![policy]))).await;
    let signer = Signer::Key(&key);
    each_is_denied(&world, signer, &FOREIGN_ENTRIES, "untrusted_signer").await;
}

// THREATS B1, with whole signatures: that of another image, pushed beside this one.
#[tokio::test]
async fn b1_a_signature_moved_from_another_image_does_not_count() {
    let world = World::new().await;
    let (signed, other) = (image::runnable("signed"), image::runnable("other"));
    world.push("app", &signed);
    world.push("app", &other);
    let identity = release();
    let evidence = world
        .sigstore
        .signature(&signed.digest(), &recipe(&identity));
    world.attach("app", &signed, &evidence);
    world.attach("app", &other, &evidence);
    let recipe = Recipe::keyless(&identity, Log::RekorV1);
    let layer = world
        .sigstore
        .sign_layer(&signed.digest(), "registry.acme.test/app", &recipe);
    world.push("app", &signature_tag(&other.digest(), vec![layer]));

    let answer = world.manifest("app", signed.digest()).await;
    answer.admits(&signed.manifest);
    let answer = world.manifest("app", other.digest()).await;
    answer.denies("invalid_signature");
}

// THREATS B2: what was signed must name this digest. As one of several subjects is enough; by
// another algorithm only, nobody can tell that it is this one, and the message says so.
#[tokio::test]
async fn b2_what_was_signed_names_this_digest() {
    let key = KeyPair::generate();
    let identity = release();
    let signers = [
        key_rule("ops", &key, false),
        crate::support::identity_rule(&identity),
    ];
    let world = World::with(Setup::ruled(rules(vec![signed_by("any", "**", &signers)]))).await;
    let ways = [
        (Signer::Keyless(&identity), Written::Bundle(Log::RekorV2)),
        (Signer::Keyless(&identity), Written::SigLayer),
        (Signer::Key(&key), Written::Bundle(Log::None)),
        (Signer::Key(&key), Written::SigLayer),
    ];
    for (signer, written) in ways {
        let content = format!("{signer:?} {written:?}");
        let sound = written.recipe(signer);
        let other = sound.clone().with(Fault::OtherSubject);
        let package = push_signed(&world, written, &other, &format!("other {content}"));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("invalid_signature");

        let Written::Bundle(_) = written else {
            continue;
        };
        let second = sound.clone().with(Fault::SecondSubject);
        let package = push_signed(&world, written, &second, &format!("second {content}"));
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);

        for fault in [Fault::Sha512Subject, Fault::NoSubject] {
            let recipe = sound.clone().with(fault);
            let package = push_signed(&world, written, &recipe, &format!("{fault:?} {content}"));
            let answer = world.manifest("app", package.digest()).await;
            answer.denies("invalid_signature");
            if matches!(signer, Signer::Key(_)) {
                assert!(answer.message().contains("sha256"), "{}", answer.message());
            }
        }
    }
}

// THREATS B3 (CVE-2022-35929): a statement of another type is no signature, whoever signed it.
#[tokio::test]
async fn b3_a_statement_of_another_type_is_no_signature() {
    let world = World::new().await;
    let identity = release();
    let recipe = recipe(&identity).with(Fault::OtherPredicateType);
    let package = push_signed(&world, Written::Bundle(Log::RekorV2), &recipe, "other type");
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
}

// THREATS B4: a payload that cannot be read proves nothing, although its signature is valid;
// and the next request is served.
#[tokio::test]
async fn b4_a_payload_that_does_not_parse_proves_nothing() {
    let key = KeyPair::generate();
    let identity = release();
    let signers = [
        key_rule("ops", &key, false),
        crate::support::identity_rule(&identity),
    ];
    let world = World::with(Setup::ruled(rules(vec![signed_by("any", "**", &signers)]))).await;
    for signer in [Signer::Keyless(&identity), Signer::Key(&key)] {
        for fault in [Fault::UnreadablePayload, Fault::OtherPayloadType] {
            for written in ALL_WRITTEN {
                // A layer's payload has no type beside it.
                if (written, fault) == (Written::SigLayer, Fault::OtherPayloadType) {
                    continue;
                }
                let recipe = written.recipe(signer).with(fault);
                let content = format!("{signer:?} {fault:?} {written:?}");
                let package = push_signed(&world, written, &recipe, &content);
                let answer = world.manifest("app", package.digest()).await;
                answer.denies("invalid_signature");
            }
        }
    }
    let package = push_signed(
        &world,
        Written::Bundle(Log::RekorV2),
        &recipe(&identity),
        "sound",
    );
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

/// Pushes this document as it stands, rightly signed.
fn push_document(world: &World, document: &Value, media_type: &'static str) -> Package {
    let package = Package {
        media_type,
        manifest: document.to_string().into_bytes(),
        blobs: Vec::new(),
        artifact_type: None,
        tag: None,
    };
    world.push("app", &package);
    world.sign("app", &package, &release());
    package
}

// THREATS B5 (GHSA-qq97-vm5h-rrhg): what two readers would read in two ways is refused, even
// with a good signature over its digest.
#[tokio::test]
async fn b5_a_document_that_reads_in_two_ways_is_refused() {
    let world = World::new().await;
    let plain = image::runnable("two ways");
    world.push("app", &plain);
    let plain: Value = serde_json::from_slice(&plain.manifest).expect("JSON");
    let entry = json!({"mediaType": media_type::OCI_MANIFEST, "size": 1,
        "digest": Digest::sha256(b"another")});
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut document = plain.clone();
        change(&mut document);
        document
    };
    for document in [
        altered(&|document| document["manifests"] = json!([entry])),
        altered(&|document| document["manifests"] = json!([])),
        altered(&|document| document["Layers"] = json!([])),
        altered(&|document| document["mediaType"] = json!(media_type::OCI_INDEX)),
        altered(&|document| document["mediaType"] = json!("text/plain")),
        altered(&|document| document["schemaVersion"] = json!(1)),
        json!({"schemaVersion": 2, "manifests": [entry], "config": plain["config"]}),
        json!({"schemaVersion": 2}),
        json!([]),
    ] {
        let package = push_document(&world, &document, media_type::OCI_MANIFEST);
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("malformed");
    }
}

// THREATS B5: a Content-Type that differs from the document is no reason to re-type it.
#[tokio::test]
async fn b5_a_document_sent_as_another_type_is_refused() {
    let world = World::new().await;
    for (number, sent_as) in [
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
        "application/vnd.acme.unknown+json; charset=utf-8",
    ]
    .into_iter()
    .enumerate()
    {
        let package = image::runnable(&format!("sent as another {number}"));
        world.push("app", &package);
        world.sign("app", &package, &release());
        let path = format!("/v2/app/manifests/{}", package.digest());
        let fault = RegistryFault::from(Misdeed::ContentType(sent_as.to_owned())).path(&path);
        world.registry.misbehave(fault);
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("malformed");
    }
}

/// A registry without a referrers API, so that a test writes the list of referrers itself.
async fn world_of_fallback_tags() -> World {
    World::with(Setup {
        registry: registry::Options {
            referrers_api: false,
            ..registry::Options::default()
        },
        ..Setup::default()
    })
    .await
}

// THREATS B6: descriptors claim. What claims to be a signature is read again and is none; what
// is one counts, whatever its descriptor says.
#[tokio::test]
async fn b6_descriptors_are_claims() {
    let world = world_of_fallback_tags().await;
    let package = image::runnable("claims");
    world.push("app", &package);
    let impostor = image::disguised(
        image::Disguise::ArtifactType,
        &package.descriptor(),
        "impostor",
    );
    world.push("app", &impostor);
    let mut entry = impostor.descriptor();
    entry.artifact_type = Some(BUNDLE.to_owned());
    let claims = ["verified", "dev.sigstore.verified", "signed-by"];
    entry.annotations = Some(claims.map(|key| (key.to_owned(), "true".to_owned())).into());
    let list = |entries| image::index(entries).tagged(&image::fallback_tag(&package.digest()));
    world.push("app", &list(&[entry.clone()]));
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");

    let other = image::runnable("claims too");
    world.push("app", &other);
    let identity = release();
    let bundle = world
        .sigstore
        .sign_bundle(&other.descriptor(), &recipe(&identity));
    world.push("app", &bundle);
    entry.digest = bundle.digest();
    entry.artifact_type = Some("application/vnd.acme.holiday-pictures".to_owned());
    let index = image::index(&[entry]).tagged(&image::fallback_tag(&other.digest()));
    world.push("app", &index);
    let answer = world.manifest("app", other.digest()).await;
    answer.admits(&other.manifest);
}

// THREATS B6: headers by which a registry says that something is verified decide nothing, and
// do not reach the client.
#[tokio::test]
async fn b6_headers_are_claims_and_are_stripped() {
    let world = World::new().await;
    let (good, bad) = (image::runnable("good"), image::runnable("bad"));
    world.push("app", &good);
    world.push("app", &bad);
    world.sign("app", &good, &release());
    let names = ["x-verified", "pullgate-decision", "docker-content-digest"];
    for name in names {
        let value = HeaderValue::from_static("trust-me");
        world
            .registry
            .misbehave(Misdeed::Header(HeaderName::from_static(name), value));
    }
    let answer = world.manifest("app", bad.digest()).await;
    answer.denies("unsigned");
    let layer = Digest::sha256(&good.blobs[1]);
    let manifest = world.manifest("app", good.digest()).await;
    manifest.admits(&good.manifest);
    let blob = world.blob("app", layer).await;
    blob.admits(&good.blobs[1]);
    for (answer, digest) in [(manifest, good.digest()), (blob, layer)] {
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        let told = answer.headers.values().any(|value| value == "trust-me");
        assert!(!told, "{:?}", answer.headers);
    }
}

// THREATS B7: what real tools write passes: signatures and attestations, with the log entries of
// either log and of the kind that came before `dsse`.
#[tokio::test]
async fn b7_bundles_of_every_kind_are_read() {
    let world = World::new().await;
    let identity = release();
    let logs = [Log::RekorV1, Log::RekorV1Intoto, Log::RekorV2];
    for log in logs {
        let package = image::runnable(&format!("{log:?}"));
        world.push("app", &package);
        let recipe = Recipe::keyless(&identity, log);
        let provenance = "https://slsa.dev/provenance/v1";
        let attestation =
            world
                .sigstore
                .attestation(&package.digest(), provenance, &json!({}), &recipe);
        world.attach("app", &package, &attestation);
        let signature = world.sigstore.signature(&package.digest(), &recipe);
        world.attach("app", &package, &signature);
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
        let ask = world.named("app", &package.digest());
        let admitted = world
            .gate
            .manifest(&ask, &Caller::Anonymous)
            .await
            .expect("admitted");
        assert_eq!(admitted.facts().rejected, [], "{log:?}");
        let attested = admitted.facts().proven.iter().any(|fact| {
            matches!(&fact.kind, Kind::Attestation { predicate_type, .. } if predicate_type == provenance)
        });
        assert!(attested, "{log:?}");
    }
}

// THREATS B8 (CVE-2022-47633, CVE-2023-47630): a registry that answers a tag with one thing the
// first time and another the second. Each pull is judged and served from the one answer with bytes
// that it got, or from bytes that it has; never from what a header says.
#[tokio::test]
async fn b8_a_tag_is_fetched_once_and_its_bytes_are_those_served() {
    let world = World::new().await;
    let good = image::runnable("good").tagged("v1");
    let bad = image::runnable("bad").tagged("v1");
    world.push("app", &bad);
    world.push("app", &good);
    world.sign("app", &good, &release());
    // Each pull but the first asks by HEAD first, and again where it hears of another digest.
    let pulls: [(&[&Package], &Package); 5] = [
        (&[&good], &good),
        (&[&bad, &bad], &bad),
        (&[&good, &good], &good),
        (&[&good], &good),
        (&[&bad, &good], &good),
    ];
    let answers = pulls.iter().flat_map(|(answers, _)| *answers);
    let turns = Misdeed::TagInTurn(answers.map(|package| package.digest()).collect());
    let fault = RegistryFault::on(Endpoint::Manifests, turns).path("/v2/app/manifests/v1");
    world.registry.misbehave(fault);
    let (mut asked, mut fetched) = (0, 0);
    for (number, (answers, served)) in pulls.iter().enumerate() {
        let answer = world.manifest("app", "v1").await;
        if served.digest() == good.digest() {
            answer.admits(&good.manifest);
            let digest = answer.header("docker-content-digest");
            assert_eq!(digest, good.digest().to_string());
        } else {
            answer.denies("unsigned");
        }
        let of_tag = |request: &Recorded| request.path == "/v2/app/manifests/v1";
        asked += answers.len();
        assert_eq!(world.registry.count(of_tag), asked, "pull {number}");
        let is_get = |request: &Recorded| of_tag(request) && request.method == Method::GET;
        fetched += usize::from(number == 0 || answers.len() == 2);
        assert_eq!(world.registry.count(is_get), fetched, "pull {number}");
    }
    let again = good.digest().to_string();
    let by_digest = world
        .registry
        .count(|request| request.path.ends_with(&again) && request.method == Method::GET);
    assert_eq!(by_digest, 1, "the referrers, and never the manifest again");
}

// THREATS B9: other bytes than those of the digest are not served, not judged and not kept.
#[tokio::test]
async fn b9_other_bytes_than_asked_for_are_neither_served_nor_kept() {
    let world = World::new().await;
    let (good, other) = (image::runnable("good"), image::runnable("other"));
    world.push("app", &good);
    world.sign("app", &good, &release());
    let wrong = Misdeed::WrongBytes(other.manifest.clone().into());
    let path = format!("/v2/app/manifests/{}", good.digest());
    let lie = world
        .registry
        .misbehave(RegistryFault::from(wrong).path(&path));
    for _ in 0..2 {
        let answer = world.manifest("app", good.digest()).await;
        answer.cannot_tell("content_mismatch");
    }
    world.registry.forgive(lie);
    let answer = world.manifest("app", good.digest()).await;
    answer.admits(&good.manifest);
}

// THREATS B9, for evidence: a good bundle that is sent in place of another is not the other.
#[tokio::test]
async fn b9_evidence_is_hashed_too() {
    let world = World::new().await;
    let package = image::runnable("signed elsewhere");
    world.push("app", &package);
    let (identity, stranger) = (release(), stranger());
    let theirs = world
        .sigstore
        .sign_bundle(&package.descriptor(), &recipe(&stranger));
    world.push("app", &theirs);
    let good = world
        .sigstore
        .signature(&package.digest(), &recipe(&identity));
    let path = format!("/v2/app/blobs/{}", Digest::sha256(&theirs.blobs[1]));
    let instead = Misdeed::WrongBytes(good.bundle().into());
    world
        .registry
        .misbehave(RegistryFault::from(instead).path(&path));
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
}

// THREATS B9, for blobs: a small one is checked before its first byte leaves, a large one is cut
// before its last, with a cache directory as without.
#[tokio::test]
async fn b9_wrong_blobs_are_refused_or_cut() {
    for (memory_blob_bytes_max, directory) in [(4 << 20, false), (16, false), (16, true)] {
        let world = World::with(Setup {
            memory_blob_bytes_max,
            directory,
            ..Setup::default()
        })
        .await;
        // Long enough that its first bytes are on their way before its last have come.
        let good = image::runnable(&"good".repeat(500_000));
        world.push("app", &good);
        world.sign("app", &good, &release());
        let manifest = world.manifest("app", good.digest()).await;
        manifest.admits(&good.manifest);
        let layer = &good.blobs[1];
        let mut wrong = layer.clone();
        wrong[600] ^= 1;
        let mut longer = layer.clone();
        longer.push(0);
        let shorter = layer[..layer.len() - 1].to_vec();
        for lie in [wrong, longer, shorter] {
            let fault = RegistryFault::on(Endpoint::Blobs, Misdeed::WrongBytes(lie.clone().into()));
            let lie_told = world.registry.misbehave(fault);
            let answer = world.blob("app", Digest::sha256(layer)).await;
            if memory_blob_bytes_max > layer.len() as u64 {
                answer.cannot_tell("content_mismatch");
            } else {
                assert!(!answer.whole, "a wrong blob was served to its end");
            }
            world.registry.forgive(lie_told);
        }
        let answer = world.blob("app", Digest::sha256(layer)).await;
        answer.admits(layer);
    }
}

/// A referrer of `image` with this layer.
fn referrer(image: &Package, layer: Blob) -> Package {
    Draft {
        artifact_type: Some(layer.media_type.clone()),
        config: Blob::empty(),
        layers: vec![layer],
        subject: Some(image.descriptor()),
        annotations: Default::default(),
    }
    .pack()
}

/// What anybody with push rights can put beside an image: bundles of others, broken ones, and
/// things that are no bundles at all.
fn push_junk_bundles(world: &World, image: &Package) {
    let (identity, stranger) = (release(), stranger());
    world.sign("app", image, &stranger);
    for fault in [
        Fault::BrokenSignature,
        Fault::ForeignAuthority,
        Fault::NoTimestamp,
    ] {
        let broken = recipe(&identity).with(fault);
        let evidence = world.sigstore.signature(&image.digest(), &broken);
        world.attach("app", image, &evidence);
    }
    for junk in ["", "{}", "null", "\u{0}\u{1}", "{\"mediaType\":7}"] {
        let layer = Blob::new(BUNDLE, junk.as_bytes().to_vec());
        world.push("app", &referrer(image, layer));
    }
    let pictures = Blob::new("image/png", vec![0x89, 0x50, 0x4e, 0x47]);
    world.push("app", &referrer(image, pictures));
    let missing = referrer(image, Blob::new(BUNDLE, b"not pushed".to_vec()));
    world
        .registry
        .put_manifest("app", None, missing.media_type, missing.manifest);
}

fn push_junk_layers(world: &World, image: &Package) {
    let stranger = stranger();
    let theirs = Recipe::keyless(&stranger, Log::RekorV1);
    let mut broken = world.sigstore.sign_layer(&image.digest(), "x", &theirs);
    broken.annotate("dev.cosignproject.cosign/signature", "!".to_owned());
    let mut unlogged = world.sigstore.sign_layer(&image.digest(), "x", &theirs);
    unlogged.annotate("dev.sigstore.cosign/bundle", "{}".to_owned());
    let plain = Blob::new(media_type::SIMPLE_SIGNING, b"\xff\xfe".to_vec());
    let layers = vec![broken, unlogged, plain];
    world.push("app", &signature_tag(&image.digest(), layers));
}

// THREATS B10: one good signature is enough, whatever lies beside it.
#[tokio::test]
async fn b10_junk_beside_a_good_signature_harms_nothing() {
    let world = World::new().await;
    let identity = release();
    let good_layer = image::runnable("good layer, junk among the referrers");
    world.push("app", &good_layer);
    let recipe = Recipe::keyless(&identity, Log::RekorV1);
    world.sign_layers("app", &good_layer, &[recipe]);
    push_junk_bundles(&world, &good_layer);
    let answer = world.manifest("app", good_layer.digest()).await;
    answer.admits(&good_layer.manifest);

    let good_bundle = image::runnable("good bundle, junk everywhere");
    world.push("app", &good_bundle);
    world.sign("app", &good_bundle, &identity);
    push_junk_bundles(&world, &good_bundle);
    push_junk_layers(&world, &good_bundle);
    let answer = world.manifest("app", good_bundle.digest()).await;
    answer.admits(&good_bundle.manifest);

    // And the junk alone admits nothing.
    let unsigned = image::runnable("only junk");
    world.push("app", &unsigned);
    push_junk_bundles(&world, &unsigned);
    push_junk_layers(&world, &unsigned);
    let answer = world.manifest("app", unsigned.digest()).await;
    answer.denies("untrusted_signer");
}

// THREATS B10, where there is no referrers API: junk under the fallback tag.
#[tokio::test]
async fn b10_junk_under_the_fallback_tag_harms_nothing() {
    let world = world_of_fallback_tags().await;
    let identity = release();
    let not_an_index = image::runnable("no index").manifest;
    for (number, junk) in [b"{".to_vec(), b"\xff".to_vec(), not_an_index]
        .into_iter()
        .enumerate()
    {
        let package = image::runnable(&format!("fallback {number}"));
        world.push("app", &package);
        world.sign_layers("app", &package, &[Recipe::keyless(&identity, Log::RekorV1)]);
        let tag = image::fallback_tag(&package.digest());
        world
            .registry
            .put_manifest("app", Some(&tag), media_type::OCI_INDEX, junk);
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

// THREATS B11: attestations by the right identity are no signature, however many there are.
#[tokio::test]
async fn b11_attestations_alone_are_no_signature() {
    let world = World::with(Setup {
        settings: settings(),
        ..Setup::default()
    })
    .await;
    let identity = release();
    let package = image::runnable("attested");
    world.push("app", &package);
    for predicate_type in [
        "https://slsa.dev/provenance/v1",
        "https://spdx.dev/Document",
        "https://sigstore.dev/cosign/sign/v2",
        "https://sigstore.dev/cosign/sign/v1/",
    ] {
        let attestation = world.sigstore.attestation(
            &package.digest(),
            predicate_type,
            &json!({}),
            &recipe(&identity),
        );
        world.attach("app", &package, &attestation);
    }
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
    assert!(answer.message().contains("only an attestation"));
}
