//! Denial of service: whatever is pushed, a decision costs a bounded number of requests, bytes
//! and words, and nobody else waits for it.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use pullgate::oci::{Digest, media_type};
use pullgate::sandbox::image::{self, BUNDLE, Blob, Draft, Package};
use pullgate::sandbox::registry::{Endpoint, Fault as RegistryFault, Misdeed, Recorded};
use pullgate::sandbox::sigstore::{Content, IN_TOTO, Log, Recipe, signature_tag};
use serde_json::{Value, json};

use crate::support::{Answer, Setup, World, recipe, release, settings, stranger};

/// Pushes an image with a good signature layer, and so with one that no flood of referrers is
/// to crowd out.
fn push_with_good_layer(world: &World, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    let identity = release();
    world.sign_layers("app", &package, &[Recipe::keyless(&identity, Log::RekorV1)]);
    package
}

/// Judges an image while the registry is at fault, and says how many requests that took.
async fn cost_of(world: &World, package: &Package) -> (Answer, usize) {
    world.registry.clear_requests();
    let answer = world.manifest("app", package.digest()).await;
    (answer, world.registry.requests().len())
}

// THREATS D1: ten thousand referrers, and pages of them without end.
#[tokio::test]
async fn d1_floods_of_referrers_are_read_to_a_limit() {
    for flood in [Misdeed::Referrers(10_000), Misdeed::EndlessPages] {
        let world = World::new().await;
        let good = push_with_good_layer(&world, "good");
        let unsigned = image::runnable("unsigned");
        world.push("app", &unsigned);
        let fault = RegistryFault::on(Endpoint::Referrers, flood.clone());
        world.registry.misbehave(fault);
        let (answer, cost) = cost_of(&world, &good).await;
        answer.admits(&good.manifest);
        assert!(cost < 100, "{cost} requests for {flood:?}");
        let (answer, cost) = cost_of(&world, &unsigned).await;
        answer.denies("over_limit");
        assert!(cost < 100, "{cost} requests for {flood:?}");
    }
}

// THREATS D1: a signature tag with ten thousand layers.
#[tokio::test]
async fn d1_floods_of_layers_are_read_to_a_limit() {
    let world = World::new().await;
    let (good, unsigned) = (image::runnable("good"), image::runnable("unsigned"));
    for package in [&good, &unsigned] {
        world.push("app", package);
        let layers: Vec<Blob> = (0..10_000)
            .map(|number: u32| {
                let bytes = number.to_be_bytes().to_vec();
                let mut layer = Blob::new(media_type::SIMPLE_SIGNING, bytes);
                layer.annotate("dev.cosignproject.cosign/signature", "AAAA".to_owned());
                layer
            })
            .collect();
        world.push("app", &signature_tag(&package.digest(), layers));
    }
    world.sign("app", &good, &release());
    let (answer, cost) = cost_of(&world, &good).await;
    answer.admits(&good.manifest);
    assert!(cost < 100, "{cost} requests");
    let (answer, cost) = cost_of(&world, &unsigned).await;
    answer.denies("over_limit");
    assert!(cost < 100, "{cost} requests");
}

/// A referrer of `image` with these layers.
fn referrer(image: &Package, layers: Vec<Blob>) -> Package {
    Draft {
        artifact_type: Some(BUNDLE.to_owned()),
        config: Blob::empty(),
        layers,
        subject: Some(image.descriptor()),
        annotations: Default::default(),
    }
    .pack()
}

// THREATS D2: evidence of gigabytes is not read, whatever length it says it has.
#[tokio::test]
async fn d2_evidence_of_gigabytes_is_not_read() {
    for lie in [
        Misdeed::HugeBody(8 << 30),
        Misdeed::ContentLength(1 << 40),
        Misdeed::WrongBytes(vec![b' '; 2 << 20].into()),
    ] {
        let world = World::new().await;
        let good = push_with_good_layer(&world, "good");
        let unsigned = image::runnable("unsigned");
        world.push("app", &unsigned);
        for package in [&good, &unsigned] {
            let layer = Blob::new(BUNDLE, format!("{:?}", package.digest()).into_bytes());
            let path = format!("/v2/app/blobs/{}", layer.digest());
            world.push("app", &referrer(package, vec![layer]));
            world
                .registry
                .misbehave(RegistryFault::from(lie.clone()).path(&path));
        }
        let answer = world.manifest("app", good.digest()).await;
        answer.admits(&good.manifest);
        let answer = world.manifest("app", unsigned.digest()).await;
        answer.denies("over_limit");
    }
}

// THREATS D2: a gzip bomb is some bytes like any others: nothing unfolds it, neither where it lies
// in place of a bundle nor where the registry says that it was only packed for the way.
#[tokio::test]
async fn d2_a_gzip_bomb_is_not_unfolded() {
    use std::io::Write as _;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..256 {
        bomb.write_all(&[b' '; 1 << 20]).expect("compresses");
    }
    let bomb = bomb.finish().expect("compresses");
    assert!(bomb.len() < 8 << 20, "{} bytes", bomb.len());
    let mut settings = settings();
    settings.evidence.bundle_bytes_max = 8 << 20;
    for packed in [false, true] {
        let world = World::with(Setup {
            settings: settings.clone(),
            ..Setup::default()
        })
        .await;
        let good = push_with_good_layer(&world, "good");
        let unsigned = image::runnable("unsigned");
        world.push("app", &unsigned);
        for package in [&good, &unsigned] {
            world.push(
                "app",
                &referrer(package, vec![Blob::new(BUNDLE, bomb.clone())]),
            );
        }
        if packed {
            let gzip = Misdeed::Header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let path = format!("/v2/app/blobs/{}", Digest::sha256(&bomb));
            world
                .registry
                .misbehave(RegistryFault::from(gzip).path(&path));
        }
        let answer = world.manifest("app", good.digest()).await;
        answer.admits(&good.manifest);
        let answer = world.manifest("app", unsigned.digest()).await;
        match packed {
            true => answer.denies("unsigned"),
            false => answer.denies("invalid_signature"),
        };
    }
}

// THREATS D2: nor by many pieces that are small enough each: their number has a limit for the
// whole search, however they are packed.
#[tokio::test]
async fn d2_the_number_of_pieces_has_one_limit_for_all() {
    let world = World::new().await;
    let package = push_with_good_layer(&world, "good");
    for number in 0..64 {
        let layers = (0..64)
            .map(|layer| Blob::new(BUNDLE, format!("[{number}, {layer}]").into_bytes()))
            .collect();
        world.push("app", &referrer(&package, layers));
    }
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    let blobs = |request: &Recorded| request.endpoint == Endpoint::Blobs;
    let fetched = world.registry.count(blobs);
    assert!(fetched <= 65, "{fetched} blobs for one decision");
}

/// The bundle of a good signature, changed.
fn bloated(world: &World, image: &Package, change: impl Fn(&mut Value)) -> Blob {
    let identity = release();
    let recipe = Recipe::keyless(&identity, Log::RekorV1).timestamped();
    let evidence = world.sigstore.signature(&image.digest(), &recipe);
    let mut bundle: Value = serde_json::from_slice(&evidence.bundle()).expect("JSON");
    change(&mut bundle["verificationMaterial"]);
    Blob::new(BUNDLE, bundle.to_string().into_bytes())
}

fn repeated(list: &mut Value, times: usize) {
    let one = list[0].clone();
    *list = Value::Array(vec![one; times]);
}

// THREATS D3: a bundle with as many entries, timestamps or certificates as fit is refused before
// the first of them is computed; and JSON that nests without end is no bundle.
#[tokio::test]
async fn d3_bloated_bundles_are_refused_unread() {
    let world = World::new().await;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let changes: [Change<'_>; 4] = [
        ("entries", &|material| {
            repeated(&mut material["tlogEntries"], 100);
        }),
        ("a few entries", &|material| {
            repeated(&mut material["tlogEntries"], 9);
        }),
        ("timestamps", &|material| {
            let timestamps = &mut material["timestampVerificationData"]["rfc3161Timestamps"];
            repeated(timestamps, 100);
        }),
        ("certificates", &|material| {
            let certificate = material["certificate"].take();
            material["x509CertificateChain"] = json!({"certificates": vec![certificate; 100]});
            material
                .as_object_mut()
                .expect("an object")
                .remove("certificate");
        }),
    ];
    for (name, change) in changes {
        let package = image::runnable(name);
        world.push("app", &package);
        let layer = bloated(&world, &package, change);
        world.push("app", &referrer(&package, vec![layer]));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("invalid_signature");
        assert!(
            answer.message().contains("looked at"),
            "{}",
            answer.message()
        );
    }
    let package = image::runnable("deep");
    world.push("app", &package);
    let deep = [vec![b'['; 500_000], vec![b']'; 500_000]].concat();
    world.push("app", &referrer(&package, vec![Blob::new(BUNDLE, deep)]));
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("invalid_signature");
}

// THREATS D4: a registry that drips is given up in time, cached pulls do not wait for it, and what
// was found elsewhere counts.
#[tokio::test]
async fn d4_a_dripping_registry_slows_nobody_else() {
    let mut settings = settings();
    settings.evidence.deadline = Duration::from_millis(500);
    let world = World::with(Setup {
        settings,
        ..Setup::default()
    })
    .await;
    let cached = push_with_good_layer(&world, "cached");
    let answer = world.manifest("app", cached.digest()).await;
    answer.admits(&cached.manifest);
    let slow = push_with_good_layer(&world, "slow");
    let drip = Misdeed::Drip(Duration::from_millis(50));
    world
        .registry
        .misbehave(RegistryFault::on(Endpoint::Referrers, drip));
    let pull = world.manifest("app", slow.digest());
    let others = async {
        let slow_asked = |request: &Recorded| request.endpoint == Endpoint::Referrers;
        world.registry.wait_for(2, slow_asked).await;
        for _ in 0..50 {
            let answer = world.manifest("app", cached.digest()).await;
            answer.admits(&cached.manifest);
        }
    };
    let (answer, ()) = tokio::join!(pull, others);
    answer.admits(&slow.manifest);
    let unsigned = image::runnable("unsigned");
    world.push("app", &unsigned);
    let answer = world.manifest("app", unsigned.digest()).await;
    answer.cannot_tell("evidence_unavailable");
}

// THREATS D4: a decision ends in time whatever it waits for; and what was begun for it goes on.
#[tokio::test]
async fn d4_a_decision_ends_in_time() {
    let mut settings = settings();
    settings.decision_deadline = Duration::from_millis(300);
    let world = World::with(Setup {
        settings,
        ..Setup::default()
    })
    .await;
    let package = push_with_good_layer(&world, "hanging");
    let hang = RegistryFault::on(Endpoint::Referrers, Misdeed::Hang);
    let hang = world.registry.misbehave(hang);
    let answer = world.manifest("app", package.digest()).await;
    answer.cannot_tell("evidence_unavailable");
    let message = answer.message();
    assert!(message.contains("the decision took longer"), "{message}");
    world.registry.forgive(hang);
    let begun = |request: &Recorded| request.endpoint == Endpoint::Referrers;
    let again = async {
        while world.manifest("app", package.digest()).await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), again).await;
    in_time.expect("admitted in the end");
    assert_eq!(world.registry.count(begun), 1, "it was begun anew");
}

/// A short answer, whatever it is about.
#[track_caller]
fn is_short(answer: &Answer) {
    let bytes = answer.body.len();
    assert!(bytes < 4096, "an answer of {bytes} bytes");
    let message = answer.message();
    assert!(!message.contains(char::is_control), "{message:?}");
}

// THREATS D2, D6: what strangers write into manifests, statements and payloads comes back in
// answers, logs and caches as a few words at most.
#[tokio::test]
async fn d6_long_texts_of_strangers_are_not_repeated() {
    let world = World::new().await;
    let long = "\u{1b}[31m\n".repeat(8_000);
    let plain: Value = serde_json::from_slice(&image::runnable("x").manifest).expect("JSON");
    for (member, value) in [
        ("mediaType", json!(long)),
        ("layers", json!(long)),
        ("schemaVersion", json!(long)),
        ("config", json!({"mediaType": long, "digest": long})),
    ] {
        let mut manifest = plain.clone();
        manifest[member] = value;
        let bytes = manifest.to_string();
        let digest = world
            .registry
            .put_manifest("app", None, media_type::OCI_MANIFEST, bytes);
        let answer = world.manifest("app", digest).await;
        answer.denies("malformed");
        is_short(&answer);
    }

    let stranger = stranger();
    let package = image::runnable("attested at length");
    world.push("app", &package);
    let attestation =
        world
            .sigstore
            .attestation(&package.digest(), &long, &json!({}), &recipe(&stranger));
    world.attach("app", &package, &attestation);
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("invalid_signature");
    is_short(&answer);

    let package = image::runnable("for another digest");
    world.push("app", &package);
    let payload = json!({"critical": {
        "image": {"docker-manifest-digest": &long[..6000]},
        "type": "cosign container image signature",
    }});
    let content = Content::Message(payload.to_string().into_bytes());
    let logged = Recipe::keyless(&stranger, Log::RekorV1);
    let layer = world.sigstore.evidence(content, &logged).layer();
    world.push("app", &signature_tag(&package.digest(), vec![layer]));
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("invalid_signature");
    is_short(&answer);

    let package = image::runnable("typed at length");
    world.push("app", &package);
    let content = Content::Envelope {
        payload_type: format!("{IN_TOTO}{long}"),
        payload: b"{}".to_vec(),
    };
    let evidence = world.sigstore.evidence(content, &recipe(&stranger));
    world.attach("app", &package, &evidence);
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("invalid_signature");
    is_short(&answer);

    let package = image::runnable("named at length");
    world.push("app", &package);
    let name = "registry.acme.test/".repeat(2000);
    let recipe = Recipe::keyless(&stranger, Log::RekorV1);
    let layer = world.sigstore.sign_layer(&package.digest(), &name, &recipe);
    world.push("app", &signature_tag(&package.digest(), vec![layer]));
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("invalid_signature");
    is_short(&answer);
}

// THREATS D6: requests for ever new names leave nothing behind in the metrics.
#[tokio::test]
async fn d6_names_do_not_become_labels() {
    let world = World::new().await;
    world.manifest("warm/up", "v1").await;
    let absent = |number: u32| Digest::sha256(&number.to_be_bytes());
    world.manifest("warm/up", absent(0)).await;
    world.blob("warm/up", absent(0)).await;
    world
        .ask(Method::from_bytes(b"BREW").expect("a method"), "/v2/", &[])
        .await;
    let before = world.metrics.render().expect("metrics").lines().count();
    for number in 1..50 {
        let repository = format!("team-{number}/app");
        let answer = world.manifest(&repository, format!("v{number}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        world.manifest(&repository, absent(number)).await;
        world.blob(&repository, absent(number)).await;
        let method = Method::from_bytes(format!("BREW{number}").as_bytes()).expect("a method");
        world.ask(method, &format!("/v2/{number}"), &[]).await;
    }
    let text = world.metrics.render().expect("metrics");
    assert!(!text.contains("team-") && !text.contains("BREW"));
    let grown = text.lines().count() - before;
    assert!(grown <= 2, "{grown} new series");
}
