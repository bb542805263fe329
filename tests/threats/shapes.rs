//! Shapes that real tools write, as they lie in registries: GitHub's artifact attestations,
//! buildkit's attestations within an index, signatures in several shards of one log.

use std::sync::Arc;

use pullgate::oci::media_type;
use pullgate::policy::{
    Attested, Demand, Policy, Requirement, SignedBy, SignerKind, SignerRule, Timing,
};
use pullgate::sandbox::image;
use pullgate::sandbox::sigstore::{Fault, Identity, Log, Recipe};
use pullgate::verify::Demands;
use serde_json::json;

use crate::support::{Setup, World, identity_rule, policy, recipe, release, rules};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const OLD_PROVENANCE: &str = "https://slsa.dev/provenance/v0.2";

/// The policy that is met by provenance by this signer.
fn attested_by(signer: Arc<SignerRule>, predicate_type: &str) -> Policy {
    let demand = Demand {
        signed_by: None,
        attested: vec![Attested {
            predicate_type: predicate_type.to_owned(),
            by: SignedBy {
                at_least: 1,
                of: vec![signer],
            },
            condition: None,
            every: false,
        }],
        timing: Timing::default(),
        format: None,
        source: None,
    };
    policy("provenance", "**", Requirement::Proven(vec![demand]))
}

/// The signer under an instance like GitHub's own, which has timestamps and no logs.
fn timestamped(identity: &Identity) -> Arc<SignerRule> {
    let mut rule = (*identity_rule(identity)).clone();
    if let SignerKind::Keyless(keyless) = &mut rule.kind {
        keyless.demands = Demands::TIMESTAMPED;
    }
    Arc::new(rule)
}

// `actions/attest-build-provenance`, of a public repository by Sigstore's public instance and its
// first log, of a private one by GitHub's own instance: without a log, without a certificate
// timestamp, with a timestamp.
#[tokio::test]
async fn githubs_artifact_attestations_pass() {
    let workflow = release();
    let predicate = json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": "refs/tags/v1.0.0"}},
        },
        "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}},
    });
    let public = Recipe::keyless(&workflow, Log::RekorV1);
    let private = Recipe::keyless(&workflow, Log::None)
        .timestamped()
        .with(Fault::NoSct);
    let world = World::with(Setup::ruled(rules(Vec::new()))).await;
    let mut images = Vec::new();
    for (name, recipe) in [("public", &public), ("private", &private)] {
        let package = image::runnable(name);
        world.push("app", &package);
        let sigstore = &world.sigstore;
        let evidence =
            sigstore.attest_bundle(&package.descriptor(), PROVENANCE, &predicate, recipe);
        let artifact_type = evidence.artifact_type.as_deref().unwrap_or_default();
        assert!(media_type::is_sigstore_bundle(artifact_type));
        world.push("app", &evidence);
        images.push(package);
    }
    let [public, private] = images.as_slice() else {
        panic!("two images");
    };
    let get = async |image: &image::Package| world.manifest("app", image.digest()).await;

    world.reload(rules(vec![attested_by(
        identity_rule(&workflow),
        PROVENANCE,
    )]));
    get(public).await.admits(&public.manifest);
    get(private).await.denies("missing_attestation");

    world.reload(rules(vec![attested_by(timestamped(&workflow), PROVENANCE)]));
    get(private).await.admits(&private.manifest);
    // It has no timestamp.
    assert_eq!(get(public).await.status, 403);

    let other = Identity::github_actions("mallory/widget", "release.yml", "refs/tags/v1.0.0");
    world.reload(rules(vec![attested_by(timestamped(&other), PROVENANCE)]));
    get(private).await.denies("untrusted_signer");
}

// What buildkit lists beside the images of an index is not signed, and so says nothing, although it
// has the very type that policy asks for; it comes out as a member of an index that is signed.
#[tokio::test]
async fn buildkits_attestations_are_reached_and_prove_nothing() {
    let world = World::new().await;
    let signer = release();
    let platform = image::platform("linux", "amd64");
    let build = |content: &str| {
        let image = image::runnable_for(&platform, content);
        let predicate = json!({"builder": {"id": "https://acme.test/build"}});
        let built = image::buildkit_attestation(&image.digest(), OLD_PROVENANCE, &predicate);
        let (attestation, entry) = built;
        let index = image::index(&[image::entry_for(&image, platform.clone()), entry]);
        for package in [&image, &attestation, &index] {
            world.push("app", package);
        }
        (image, attestation, index)
    };
    let signed = build("signed");
    let bundle = world
        .sigstore
        .sign_bundle(&signed.2.descriptor(), &recipe(&signer));
    world.push("app", &bundle);
    let unsigned = build("unsigned");
    for package in [&signed.2, &signed.0, &signed.1] {
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
    for package in [&unsigned.2, &unsigned.0, &unsigned.1] {
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
    }
    for predicate_type in [OLD_PROVENANCE, PROVENANCE] {
        world.reload(rules(vec![attested_by(
            identity_rule(&signer),
            predicate_type,
        )]));
        for package in [&signed.2, &signed.0] {
            let answer = world.manifest("app", package.digest()).await;
            answer.denies("missing_attestation");
        }
    }
}

// One trusted root has several logs: a signature counts in each of its shards, and in none of a
// trusted root that does not have it.
#[tokio::test]
async fn every_shard_of_the_trusted_root_counts() {
    let world = World::new().await;
    let signer = release();
    for log in [Log::RekorV1, Log::RekorV2, Log::RekorV2Shard] {
        let package = image::runnable(&format!("{log:?}"));
        world.push("app", &package);
        let recipe = Recipe::keyless(&signer, log);
        let bundle = world.sigstore.sign_bundle(&package.descriptor(), &recipe);
        world.push("app", &bundle);
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
        let elsewhere = image::runnable(&format!("{log:?}, another log"));
        world.push("app", &elsewhere);
        let recipe = recipe.with(Fault::ForeignLog);
        let bundle = world.sigstore.sign_bundle(&elsewhere.descriptor(), &recipe);
        world.push("app", &bundle);
        let answer = world.manifest("app", elsewhere.digest()).await;
        answer.denies("invalid_signature");
    }
}
