//! Formats: what is found of each, and that each is bounded and bound to its image.

use pullgate::policy::Caller;
use pullgate::sandbox::image::{self, Blob, Package};
use pullgate::sandbox::sigstore::{Fault, KeyPair, Log, Recipe, Signer, attestation_tag};
use pullgate::verify::{Facts, Kind};
use serde_json::{Value, json};

use crate::support::{Setup, World, identity_rule, key_rule, recipe, release, rules, signed_by};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// The types of the proven attestations, and why others prove nothing.
fn attested(facts: &Facts) -> (Vec<String>, Vec<String>) {
    let types = facts.proven.iter().filter_map(|fact| match &fact.kind {
        Kind::Attestation { predicate_type, .. } => Some(predicate_type.clone()),
        Kind::Signature => None,
    });
    let rejected = facts.rejected.iter().map(|rejected| rejected.why.clone());
    (types.collect(), rejected.collect())
}

async fn facts(world: &World, package: &Package) -> Facts {
    let ask = world.named("app", &package.digest());
    let admitted = world
        .gate
        .manifest(&ask, &Caller::Anonymous)
        .await
        .expect("admitted");
    admitted.facts().clone()
}

/// A signed image, so that it is admitted and its facts can be read.
fn signed(world: &World, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    world.sign("app", &package, &release());
    package
}

// Attestations under the `.att` tag are found and proven, keyless and by key, logged as `dsse`
// or as `intoto`; a key's without a log as well.
#[tokio::test]
async fn attestations_under_the_att_tag_are_proven() {
    let key = KeyPair::generate();
    let identity = release();
    let signers = [identity_rule(&identity), key_rule("ops", &key, false)];
    let world = World::with(Setup::ruled(rules(vec![signed_by("any", "**", &signers)]))).await;
    let recipes = [
        Recipe::keyless(&identity, Log::RekorV1),
        Recipe::keyless(&identity, Log::RekorV1Intoto),
        Recipe::key(&key, Log::RekorV1),
        Recipe::key(&key, Log::None),
    ];
    for recipe in recipes {
        let package = signed(&world, &format!("{recipe:?}"));
        let layer =
            world
                .sigstore
                .attest_layer(&package.digest(), PROVENANCE, &json!({"a": 1}), &recipe);
        world.push("app", &attestation_tag(&package.digest(), vec![layer]));
        let facts = facts(&world, &package).await;
        let (types, rejected) = attested(&facts);
        assert_eq!(rejected, [""; 0], "{recipe:?}");
        assert_eq!(types, [PROVENANCE], "{recipe:?}");
    }
}

// THREATS B1, B2, B11 for `.att` layers: another image's statement, another signature's log entry
// and broken promises prove nothing, and no attestation stands in for a signature.
#[tokio::test]
async fn b_attestations_under_the_att_tag_are_bound() {
    let identity = release();
    let world = World::new().await;
    let faults = [
        Fault::OtherSubject,
        Fault::NoSubject,
        Fault::UnreadablePayload,
        Fault::OtherPayloadType,
        Fault::BrokenSignature,
        Fault::EntryOfOtherDigest,
        Fault::EntryOfOtherSignature,
        Fault::EntryOfOtherVerifier,
        Fault::ForeignLog,
        Fault::ForeignPromise,
        Fault::NoPromise,
        Fault::NoSct,
        Fault::ForeignAuthority,
        Fault::ExpiredCertificate,
        Fault::NoCodeSigning,
    ];
    let signer = Signer::Keyless(&identity);
    are_bound(&world, signer, [Log::RekorV1, Log::RekorV1Intoto], &faults).await;
}

// The same where a key signs, and where nothing else looks at what was signed.
#[tokio::test]
async fn b_attestations_by_key_under_the_att_tag_are_bound() {
    let key = KeyPair::generate();
    let signers = [identity_rule(&release()), key_rule("ops", &key, false)];
    let world = World::with(Setup::ruled(rules(vec![signed_by("any", "**", &signers)]))).await;
    let faults = [
        Fault::OtherSubject,
        Fault::NoSubject,
        Fault::Sha512Subject,
        Fault::UnreadablePayload,
        Fault::OtherPayloadType,
        Fault::BrokenSignature,
    ];
    are_bound(
        &world,
        Signer::Key(&key),
        [Log::None, Log::RekorV1],
        &faults,
    )
    .await;
}

/// Attestations under the `.att` tag with one of these faults prove nothing, and one without stands
/// in for no signature.
async fn are_bound(world: &World, signer: Signer<'_>, logs: [Log; 2], faults: &[Fault]) {
    let attest = |package: &Package, recipe: &Recipe<'_>| {
        let digest = package.digest();
        let layer = world
            .sigstore
            .attest_layer(&digest, PROVENANCE, &json!({}), recipe);
        world.push("app", &attestation_tag(&digest, vec![layer]));
    };
    for log in logs {
        for fault in faults {
            let package = signed(world, &format!("{log:?} {fault:?}"));
            attest(&package, &Recipe::new(signer, log).with(*fault));
            let facts = facts(world, &package).await;
            let (types, rejected) = attested(&facts);
            assert_eq!(types, [""; 0], "{log:?} {fault:?}");
            assert_eq!(rejected.len(), 1, "{log:?} {fault:?}");
        }
    }
    let package = image::runnable("attested only");
    world.push("app", &package);
    attest(&package, &Recipe::new(signer, logs[0]));
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
}

/// A statement of so many bytes.
fn bill(bytes: usize) -> Value {
    json!({"packages": "p".repeat(bytes)})
}

// Attestations are larger than signatures: an SBOM of 23 MiB, of which an envelope makes nearly 32, is
// read, in either format.
#[tokio::test]
async fn large_attestations_are_read() {
    let world = World::new().await;
    let identity = release();
    let package = signed(&world, "large");
    let attestation = world.sigstore.attestation(
        &package.digest(),
        "https://spdx.dev/Document",
        &bill(23 << 20),
        &recipe(&identity),
    );
    world.attach("app", &package, &attestation);
    let recipe = Recipe::keyless(&identity, Log::RekorV1);
    let layer = world.sigstore.attest_layer(
        &package.digest(),
        "https://cyclonedx.org/bom",
        &bill(23 << 20),
        &recipe,
    );
    world.push("app", &attestation_tag(&package.digest(), vec![layer]));
    let facts = facts(&world, &package).await;
    let (mut types, rejected) = attested(&facts);
    types.sort();
    assert_eq!(rejected, [""; 0]);
    assert_eq!(
        types,
        ["https://cyclonedx.org/bom", "https://spdx.dev/Document"]
    );
    assert!(!facts.truncated);
    assert!(
        facts.size_hint() < 100_000,
        "what nobody asks for is not held"
    );
}

// THREATS D2: all large attestations of an image together have one limit, and so has each, to
// the size that it is said to have.
#[tokio::test]
async fn d2_large_attestations_have_one_limit_for_all() {
    let world = World::new().await;
    let package = signed(&world, "many");
    let layers: Vec<Blob> = (0..8)
        .map(|number| {
            let text = format!("{number}{}", "x".repeat(9 << 20));
            Blob::new("application/vnd.dsse.envelope.v1+json", text.into_bytes())
        })
        .collect();
    world.push("app", &attestation_tag(&package.digest(), layers));
    let facts = facts(&world, &package).await;
    assert!(facts.truncated);
    assert_eq!(facts.rejected.len(), 3, "of 9 MiB each fit in 32 MiB");
}
