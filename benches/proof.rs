//! What one proof of each format costs, beside the single ECDSA verification that it cannot be
//! had without: `cargo bench --bench proof`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the bench, with its reason"
)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;

use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::sandbox::image;
use pullgate::sandbox::sigstore::{Identity, KeyPair, Log, Recipe, Sigstore};
use pullgate::verify::{Evidence, Material, PublicKey, RootName, SigLayer, TrustRoot, prove};

struct World {
    sigstore: Sigstore,
    identity: Identity,
    key: KeyPair,
    image: image::Package,
    material: Material,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        let now = Clock::system().now();
        let sigstore = Sigstore::new(now);
        let key = KeyPair::generate();
        let root = TrustRoot::from_json(RootName::from("bench"), &sigstore.trusted_root_json())
            .expect("the sandbox's root is usable");
        let material = Material {
            roots: vec![Arc::new(root)],
            keys: vec![PublicKey::from_spki(&key.public_key_der())],
            ..Material::default()
        };
        let identity = Identity::github_actions("acme/widget", "release.yml", "refs/tags/v1.0.0");
        Self {
            sigstore,
            identity,
            key,
            image: image::runnable("bench"),
            material,
            now,
        }
    }

    fn bundle(&self, recipe: &Recipe<'_>) -> Evidence {
        let package = self.sigstore.sign_bundle(&self.image.descriptor(), recipe);
        let json = package.blobs.last().expect("a bundle is a layer").clone();
        Evidence::Bundle {
            source: Digest::sha256(&json),
            json: json.into(),
        }
    }

    fn layer(&self, recipe: &Recipe<'_>) -> Evidence {
        let layer = self
            .sigstore
            .sign_layer(&self.image.digest(), "acme.test/app", recipe);
        let descriptor = layer.descriptor();
        let layer = SigLayer::from_descriptor(&descriptor, layer.bytes.into());
        Evidence::SigLayer(layer.expect("a signed layer"))
    }
}

fn proofs(criterion: &mut Criterion) {
    let world = World::new();
    let message = b"one ECDSA P-256 verification over SHA-256";
    let signature = world.key.sign(message);
    let spki = world.key.public_key_der();
    let mut group = criterion.benchmark_group("proof");
    group.bench_function("peer: one ECDSA P-256 verification", |bencher| {
        // The point is the last 65 bytes of a P-256 SubjectPublicKeyInfo.
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            &spki[spki.len() - 65..],
        );
        bencher.iter(|| {
            key.verify(black_box(message), &signature)
                .expect("verifies");
        });
    });
    let keyless = |log| Recipe::keyless(&world.identity, log);
    let keyed = |log| Recipe::key(&world.key, log);
    for (name, evidence) in [
        (
            "bundle, keyless, Rekor v2, timestamp",
            world.bundle(&keyless(Log::RekorV2)),
        ),
        (
            "bundle, keyless, Rekor v1",
            world.bundle(&keyless(Log::RekorV1)),
        ),
        (
            "bundle, key, Rekor v2, timestamp",
            world.bundle(&keyed(Log::RekorV2)),
        ),
        ("bundle, key, no log", world.bundle(&keyed(Log::None))),
        (
            ".sig layer, keyless, promise",
            world.layer(&keyless(Log::RekorV1)),
        ),
        (
            ".sig layer, key, promise",
            world.layer(&keyed(Log::RekorV1)),
        ),
        (".sig layer, key, no log", world.layer(&keyed(Log::None))),
    ] {
        let digest = world.image.digest();
        let proven = prove(&evidence, &digest, &world.material, world.now);
        proven.unwrap_or_else(|rejected| panic!("{name}: {}", rejected.why));
        group.bench_function(name, |bencher| {
            bencher.iter(|| prove(black_box(&evidence), &digest, &world.material, world.now));
        });
    }
    group.finish();
}

criterion_group!(benches, proofs);
criterion_main!(benches);
