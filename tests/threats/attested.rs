//! Attestations, conditions over them, and when things were signed.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use pullgate::policy::{
    Attested, CONDITION_STEPS_MAX, Condition, Demand, Policy, Requirement, SignedBy, Timing,
};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::Identity;
use serde_json::{Value, json};

use crate::support::{
    Setup, World, identity_rule, policy, recipe, release, rules, settings, stranger,
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const PACKAGES: &str = "https://spdx.dev/Document";
const HOUR: Duration = Duration::from_secs(3600);

fn by(identity: &Identity) -> SignedBy {
    SignedBy {
        at_least: 1,
        of: vec![identity_rule(identity)],
    }
}

fn attested(predicate_type: &str, condition: Option<&str>) -> Attested {
    let condition = condition
        .map(|text| Arc::new(Condition::new(text, CONDITION_STEPS_MAX).expect("a condition")));
    Attested {
        predicate_type: predicate_type.to_owned(),
        by: by(&release()),
        condition,
        every: false,
    }
}

fn demanding(attested: Vec<Attested>, signed: bool, timing: Timing) -> Policy {
    let demand = Demand {
        signed_by: signed.then(|| by(&release())),
        attested,
        timing,
        format: None,
        source: None,
    };
    policy("p", "**", Requirement::Proven(vec![demand]))
}

async fn world_of(policy: Policy) -> World {
    World::with(Setup {
        rules: rules(vec![policy]),
        settings: pullgate::gate::Settings {
            tag_ttl: 48 * HOUR,
            facts_ttl: 48 * HOUR,
            unsigned_ttl: Duration::ZERO,
            ..settings()
        },
        ..Setup::default()
    })
    .await
}

fn attest(world: &World, package: &Package, kind: &str, predicate: &Value, identity: &Identity) {
    let digest = package.digest();
    let attestation = world
        .sigstore
        .attestation(&digest, kind, predicate, &recipe(identity));
    world.attach("app", package, &attestation);
}

fn pushed(world: &World, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    package
}

// THREATS B3: only an attestation of the type, by the signer, with the condition, counts; and
// the message has the path of what is missing.
#[tokio::test]
async fn b3_an_attestation_has_its_type_its_signer_and_its_condition() {
    let condition = "predicate.builder.id == 'ours'";
    let world = world_of(demanding(
        vec![attested(PROVENANCE, Some(condition))],
        false,
        Timing::default(),
    ))
    .await;
    let good = json!({"builder": {"id": "ours"}});
    for (content, kind, predicate, identity, reason) in [
        ("type", PACKAGES, &good, release(), "missing_attestation"),
        ("signer", PROVENANCE, &good, stranger(), "untrusted_signer"),
        (
            "value",
            PROVENANCE,
            &json!({"builder": {"id": "theirs"}}),
            release(),
            "condition_failed",
        ),
        (
            "missing",
            PROVENANCE,
            &json!({"builder": {}}),
            release(),
            "condition_failed",
        ),
        (
            "kind",
            PROVENANCE,
            &json!({"builder": [1]}),
            release(),
            "condition_failed",
        ),
        (
            "null",
            PROVENANCE,
            &Value::Null,
            release(),
            "condition_failed",
        ),
    ] {
        let package = pushed(&world, content);
        attest(&world, &package, kind, predicate, &identity);
        let answer = world.manifest("app", package.digest()).await;
        answer.denies(reason);
        if content == "missing" {
            let message = answer.message();
            assert!(
                message.contains("`predicate.builder.id` is not there"),
                "{message}"
            );
        }
    }
    let none = pushed(&world, "none");
    let answer = world.manifest("app", none.digest()).await;
    answer.denies("missing_attestation");
    // One that fits is enough, whatever lies beside it.
    let package = pushed(&world, "good");
    attest(
        &world,
        &package,
        PROVENANCE,
        &json!({"builder": {}}),
        &release(),
    );
    attest(&world, &package, PROVENANCE, &good, &stranger());
    attest(&world, &package, PROVENANCE, &good, &release());
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

// Provenance and signature on the index, the list of packages on each platform's manifest: one
// policy asks for all of it, and both the index and its images pass.
#[tokio::test]
async fn parts_may_lie_on_different_digests_of_one_image() {
    let world = world_of(demanding(
        vec![
            attested(PROVENANCE, None),
            attested(PACKAGES, Some("size(predicate.packages) > 0")),
        ],
        true,
        Timing::default(),
    ))
    .await;
    let child = pushed(&world, "child");
    let index = image::index(&[child.descriptor()]);
    world.push("app", &index);
    world.sign("app", &index, &release());
    attest(&world, &index, PROVENANCE, &json!({}), &release());
    world
        .manifest("app", index.digest())
        .await
        .denies("missing_attestation");
    attest(
        &world,
        &child,
        PACKAGES,
        &json!({"packages": ["a"]}),
        &release(),
    );
    world
        .manifest("app", index.digest())
        .await
        .admits(&index.manifest);
    world
        .manifest("app", child.digest())
        .await
        .admits(&child.manifest);
}

// THREATS C2: conditions and times run on hits, too: what was admitted stops being so by the
// clock alone, while tag, facts and admission are all still held.
#[tokio::test]
async fn c2_conditions_and_times_run_on_hits() {
    let soon = demanding(
        vec![attested(
            PROVENANCE,
            Some("now < timestamp(predicate.until)"),
        )],
        false,
        Timing::default(),
    );
    let young = demanding(
        Vec::new(),
        true,
        Timing {
            signed_within: Some(SignedDuration::from_hours(5)),
            ..Timing::default()
        },
    );
    for policy in [soon, young] {
        let world = world_of(policy).await;
        let package = pushed(&world, "until");
        let until = world.now() + SignedDuration::from_hours(5);
        let predicate = json!({"until": until.to_string()});
        attest(&world, &package, PROVENANCE, &predicate, &release());
        world.sign("app", &package, &release());
        for _ in 0..2 {
            let answer = world.manifest("app", package.digest()).await;
            answer.admits(&package.manifest);
            world.pass(2 * HOUR);
        }
        world.pass(2 * HOUR);
        let answer = world.manifest("app", package.digest()).await;
        let status = answer.status.as_u16();
        assert_eq!(status, 403, "still served");
        let blob = pullgate::oci::Digest::sha256(&package.blobs[0]);
        world.blob("app", blob).await.denies("not_reachable");
    }
}

// A cooldown keeps fresh signatures out, and lets them in by the clock alone.
#[tokio::test]
async fn t_a_signature_has_to_cool() {
    let world = world_of(demanding(
        Vec::new(),
        true,
        Timing {
            cooldown: Some(SignedDuration::from_hours(24)),
            ..Timing::default()
        },
    ))
    .await;
    let package = pushed(&world, "hot");
    world.sign("app", &package, &release());
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("untrusted_signer");
    assert!(
        answer.message().contains("less than 1d ago"),
        "{}",
        answer.message()
    );
    world.pass(25 * HOUR);
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

// An evaluation is bounded, and what is cut off is no "yes".
#[tokio::test]
async fn d_a_condition_that_goes_on_and_on_ends() {
    let endless = "predicate.all(a, predicate.all(b, predicate.all(c, predicate.all(d, \
                   predicate.all(e, true)))))";
    let world = world_of(demanding(
        vec![attested(PACKAGES, Some(endless))],
        false,
        Timing::default(),
    ))
    .await;
    let package = pushed(&world, "many");
    let many: Vec<usize> = (0..10_000).collect();
    attest(&world, &package, PACKAGES, &json!(many), &release());
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("condition_failed");
    assert!(
        answer.message().contains("condition_steps_max"),
        "{}",
        answer.message()
    );
}
