//! What one proof of each format costs, beside the signatures that it cannot be had without, each
//! verified once and nothing else: `cargo bench --bench proof`. docs/PERFORMANCE.md has the ratios.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the bench, with its reason"
)]

use std::{hint::black_box, sync::Arc};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    UnparsedPublicKey, VerificationAlgorithm,
};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;

use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::sandbox::image;
use pullgate::sandbox::sigstore::{
    CertificateAuthority, Identity, KeyPair, KeyType, Log, Recipe, Signer, Sigstore,
};
use pullgate::verify::{
    Authority, Evidence, Material, PublicKey, RootName, SigLayer, TrustRoot, prove,
};

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct World {
    sigstore: Sigstore,
    identity: Identity,
    key: KeyPair,
    authority: CertificateAuthority,
    image: image::Package,
    root: Arc<TrustRoot>,
    now: Timestamp,
}

/// Who signs.
#[derive(Clone, Copy)]
enum By {
    Login,
    Key,
    Authority,
}

impl World {
    fn new() -> Self {
        let now = Clock::system().now();
        let sigstore = Sigstore::new(now);
        let key = KeyPair::generate();
        let root = TrustRoot::from_json(RootName::from("bench"), &sigstore.trusted_root_json())
            .expect("the sandbox's root is usable");
        let authority = CertificateAuthority::new(0, now);
        let identity = Identity::github_actions("acme/widget", "release.yml", "refs/tags/v1.0.0");
        Self {
            sigstore,
            identity,
            key,
            authority,
            image: image::runnable("bench"),
            root: Arc::new(root),
            now,
        }
    }

    /// What a policy with one such signer rests on.
    fn material(&self, by: By) -> Material {
        let authority = || Authority::read(self.authority.root_der(), &[]).expect("an authority");
        let key = || PublicKey::from_spki(&self.key.public_key_der());
        Material {
            roots: vec![self.root.clone()],
            keys: matches!(by, By::Key).then(key).into_iter().collect(),
            authorities: matches!(by, By::Authority)
                .then(authority)
                .into_iter()
                .collect(),
            ..Material::default()
        }
    }

    fn bundle(&self, recipe: &Recipe<'_>) -> Evidence {
        self.bundle_with(recipe, 0)
    }

    /// A bundle with so many more timestamps.
    fn bundle_with(&self, recipe: &Recipe<'_>, timestamps: usize) -> Evidence {
        let mut evidence = self.sigstore.signature(&self.image.digest(), recipe);
        let signature = evidence.signed.signature.clone();
        let more = (0..timestamps).map(|_| self.sigstore.timestamp(&signature));
        evidence.timestamps.extend(more);
        let json = evidence.bundle();
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

/// The kinds of signatures that formats are made of.
#[derive(Clone, Copy)]
enum Operation {
    /// ECDSA P-256 over SHA-256: keys of signers, logs of certificates, Rekor v1.
    P256,
    /// ECDSA P-384 over SHA-384: certificates.
    P384,
    /// ECDSA P-384 over SHA-256: timestamps.
    P384Sha256,
    /// Ed25519: checkpoints of Rekor v2.
    Ed25519,
}

/// A signature of each kind, made once, over as many bytes as a certificate has.
struct Raw {
    signatures: Vec<(&'static dyn VerificationAlgorithm, Vec<u8>, Vec<u8>)>,
    message: Vec<u8>,
}

impl Raw {
    fn new() -> Self {
        let message = vec![7; 700];
        let kinds: [(KeyType, &'static dyn VerificationAlgorithm, usize); 4] = [
            (KeyType::P256, &ECDSA_P256_SHA256_ASN1, 65),
            (KeyType::P384, &ECDSA_P384_SHA384_ASN1, 97),
            (KeyType::P384Sha256, &ECDSA_P384_SHA256_ASN1, 97),
            (KeyType::Ed25519, &ED25519, 32),
        ];
        let signatures = kinds.map(|(kind, algorithm, bytes)| {
            let key = KeyPair::of(kind);
            let spki = key.public_key_der();
            // The key itself stands at the end of a SubjectPublicKeyInfo.
            let public = spki[spki.len() - bytes..].to_vec();
            (algorithm, public, key.sign(&message))
        });
        Self {
            signatures: signatures.into(),
            message,
        }
    }

    fn verify(&self, operation: Operation) {
        let (algorithm, key, signature) = &self.signatures[operation as usize];
        let key = UnparsedPublicKey::new(*algorithm, key);
        let message = black_box(&self.message);
        key.verify(message, signature).expect("verifies");
    }
}

fn proofs(criterion: &mut Criterion) {
    use Operation::{Ed25519, P256, P384, P384Sha256};
    let world = World::new();
    let raw = Raw::new();
    let keyless = |log| Recipe::keyless(&world.identity, log);
    let keyed = |log| Recipe::key(&world.key, log);
    let certified = |log| {
        let signer = Signer::Certified {
            authority: &world.authority,
            subject: "release@acme.test",
        };
        Recipe::new(signer, log)
    };
    // In the order in which they are needed: the signature; the certificate, its timestamp; the
    // log's checkpoint, its promise; the timestamp and its authority's certificate. Nothing that is
    // verified twice is counted twice.
    let formats: [(&str, By, Evidence, &[Operation]); 11] = [
        (
            "bundle, keyless, Rekor v2, timestamp",
            By::Login,
            world.bundle(&keyless(Log::RekorV2)),
            &[P256, P384, P256, Ed25519, P384Sha256, P384],
        ),
        (
            "bundle, keyless, Rekor v2, two timestamps",
            By::Login,
            world.bundle_with(&keyless(Log::RekorV2), 1),
            &[P256, P384, P256, Ed25519, P384Sha256, P384, P384Sha256],
        ),
        (
            "bundle, keyless, Rekor v1, timestamp",
            By::Login,
            world.bundle(&keyless(Log::RekorV1).timestamped()),
            &[P256, P384, P256, P256, P256, P384Sha256, P384],
        ),
        (
            "bundle, keyless, Rekor v1",
            By::Login,
            world.bundle(&keyless(Log::RekorV1)),
            &[P256, P384, P256, P256, P256],
        ),
        (
            "bundle, key, Rekor v2, timestamp",
            By::Key,
            world.bundle(&keyed(Log::RekorV2)),
            &[P256, Ed25519, P384Sha256, P384],
        ),
        (
            "bundle, key, no log",
            By::Key,
            world.bundle(&keyed(Log::None)),
            &[P256],
        ),
        (
            ".sig layer, keyless, promise",
            By::Login,
            world.layer(&keyless(Log::RekorV1)),
            &[P256, P384, P256, P256],
        ),
        (
            ".sig layer, key, promise",
            By::Key,
            world.layer(&keyed(Log::RekorV1)),
            &[P256, P256],
        ),
        (
            ".sig layer, key, no log",
            By::Key,
            world.layer(&keyed(Log::None)),
            &[P256],
        ),
        (
            ".sig layer, own authority, promise",
            By::Authority,
            world.layer(&certified(Log::RekorV1)),
            &[P256, P384, P256],
        ),
        (
            ".sig layer, own authority, no log",
            By::Authority,
            world.layer(&certified(Log::None)),
            &[P256, P384],
        ),
    ];
    for (name, by, evidence, operations) in formats {
        let digest = world.image.digest();
        let material = world.material(by);
        let proven = prove(&evidence, &digest, &material, world.now);
        proven.unwrap_or_else(|rejected| panic!("{name}: {}", rejected.why));
        let mut group = criterion.benchmark_group(name);
        group.bench_function("proof", |bencher| {
            bencher.iter(|| prove(black_box(&evidence), &digest, &material, world.now));
        });
        group.bench_function("its signatures alone", |bencher| {
            bencher.iter(|| operations.iter().for_each(|one| raw.verify(*one)));
        });
        group.finish();
    }
    unusable(criterion, &world);
}

/// What evidence costs that can prove nothing.
fn unusable(criterion: &mut Criterion, world: &World) {
    let foreign = World::new();
    let strangers = Identity::email("mallory@mallory.test", "https://accounts.google.com");
    let mut group = criterion.benchmark_group("what proves nothing that policy asks for");
    for (name, by, evidence) in [
        (
            "bundle, keyless, under another trust root",
            By::Login,
            foreign.bundle(&Recipe::keyless(&world.identity, Log::RekorV2)),
        ),
        (
            "bundle, by another key",
            By::Key,
            foreign.bundle(&Recipe::key(&foreign.key, Log::None)),
        ),
        (
            "bundle, keyless, by a stranger",
            By::Login,
            world.bundle(&Recipe::keyless(&strangers, Log::RekorV2)),
        ),
    ] {
        let (digest, material) = (world.image.digest(), world.material(by));
        group.bench_function(name, |bencher| {
            bencher.iter(|| prove(black_box(&evidence), &digest, &material, world.now));
        });
    }
    group.finish();
}

criterion_group!(benches, proofs);
criterion_main!(benches);
