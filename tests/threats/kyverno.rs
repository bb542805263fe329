//! Kyverno's policies, from the document to the answer: the examples of its documentation that can
//! be said here (docs/FOREIGN.md), and what could be attacked in them.

use std::fs;
use std::time::Duration;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use pullgate::app;
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::policy::Rules;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed};
use pullgate::sandbox::sigstore::{
    Identity, KeyPair, KeyType, Log, Recipe, Sigstore, attestation_tag, signature_tag,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{HOST, Setup, World, recipe, release, settings, stranger};

const REVIEW: &str = "https://example.com/CodeReview/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// What the program makes of a policy file.
fn rules_of(policies: &str) -> Rules {
    let folder = TempDir::new().expect("a folder");
    let now: Timestamp = Clock::system().now();
    let root = Sigstore::new(now - SignedDuration::from_secs(60)).trusted_root_json();
    let configuration = format!(
        "upstreams: {{ {HOST}: {{}} }}\npolicies: [policies.yaml]\n\
         trust_roots: {{ acme: {{ file: root.json }} }}\ndefault_trust_root: acme\n"
    );
    for (name, text) in [
        ("pullgate.yaml", configuration.as_str()),
        ("root.json", &root),
        ("policies.yaml", policies),
    ] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let path = folder.path().join("pullgate.yaml");
    match config::load(&path, &app::checks(), now) {
        Ok(loaded) => loaded.settings.rules,
        Err(problems) => panic!("{problems:?}\n{policies}"),
    }
}

/// A document with one entry of `verifyImages`, whose lines these are.
fn document(entry: &str) -> String {
    let entry = entry.trim().replace('\n', "\n          ");
    format!(
        "apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {{ name: check-image }}
spec:
  rules:
    - name: check-image
      match: {{ any: [{{ resources: {{ kinds: [Pod] }} }}] }}
      verifyImages:
        - {entry}
"
    )
}

async fn world_of(policies: &str) -> World {
    World::with(Setup {
        rules: rules_of(policies),
        settings: pullgate::gate::Settings {
            unsigned_ttl: Duration::ZERO,
            facts_ttl: Duration::ZERO,
            ..settings()
        },
        ..Setup::default()
    })
    .await
}

/// A gate with a rule for `org/app` that enforces, whose entry ends with these lines.
async fn world_for_app(lines: &str) -> World {
    world_of(&for_app(lines)).await
}

/// A gate with a rule for `org/app` that asks for an attestation by this key in which a member is
/// true.
async fn world_that_asks(key: &KeyPair, member: &str) -> World {
    let lines = format!(
        "attestations:
  - predicateType: {REVIEW}
    attestors: [{{ entries: [{{ keys: {{ publicKeys: {:?}, rekor: {{ ignoreTlog: true }} }} }}] }}]
    conditions: [{{ all: [{{ key: \"{{{{ {member} }}}}\", operator: Equals, value: true }}] }}]",
        key.public_key_pem()
    );
    world_for_app(&lines).await
}

fn for_app(lines: &str) -> String {
    document(&format!(
        "imageReferences: [\"{HOST}/org/app*\"]\nfailureAction: Enforce\n{lines}"
    ))
}

fn pushed(world: &World, repository: &str, content: &str) -> Package {
    let package = image::runnable(content);
    world.push(repository, &package);
    world.registry.tag(repository, "v1", package.digest());
    package
}

/// An image that `org/app:v1` names from now on.
fn app(world: &World, content: &str) -> Package {
    pushed(world, "org/app", content)
}

async fn admits(world: &World, package: &Package) {
    let answer = world.manifest("org/app", "v1").await;
    answer.admits(&package.manifest);
}

async fn denies(world: &World, reason: &str) {
    world.manifest("org/app", "v1").await.denies(reason);
}

fn attest(world: &World, package: &Package, kind: &str, predicate: &Value, by: &Recipe<'_>) {
    let attestation = world
        .sigstore
        .attestation(&package.digest(), kind, predicate, by);
    world.attach("org/app", package, &attestation);
}

fn key_entry(key: &KeyPair, more: &str) -> String {
    format!(
        "attestors:
  - count: 1
    entries:
      - keys:
          publicKeys: {:?}
{more}",
        key.public_key_pem()
    )
}

// "Verifying Image Signatures": with a key, and without a log.
#[tokio::test]
async fn an_image_is_signed_with_the_key() {
    let (key, other) = (KeyPair::generate(), KeyPair::generate());
    let rekor = "          rekor: { ignoreTlog: true, url: \"https://rekor.sigstore.dev\" }";
    let lines = key_entry(&key, rekor);
    let world = world_for_app(&lines).await;
    let signed = app(&world, "signed");
    world.sign_layers("org/app", &signed, &[Recipe::key(&key, Log::None)]);
    admits(&world, &signed).await;
    let unsigned = app(&world, "unsigned");
    denies(&world, "unsigned").await;
    world
        .manifest("org/app", unsigned.digest())
        .await
        .denies("unsigned");
    let by_another = app(&world, "by another");
    world.sign_layers("org/app", &by_another, &[Recipe::key(&other, Log::None)]);
    denies(&world, "invalid_signature").await;
    // Without `ignoreTlog` the log has to hold it.
    let lines = lines.replace("ignoreTlog: true", "ignoreTlog: false");
    world.reload(rules_of(&for_app(&lines)));
    world
        .manifest("org/app", signed.digest())
        .await
        .denies("untrusted_signer");
    let logged = app(&world, "logged");
    world.sign_layers("org/app", &logged, &[Recipe::key(&key, Log::RekorV1)]);
    admits(&world, &logged).await;
}

// "Keyless signing and verification", and what the wildcards of identities match (THREATS I2).
#[tokio::test]
async fn i2_an_identity_is_what_its_wildcards_say() {
    let entry = format!(
        "imageReferences: [\"{HOST}/org/app:*\"]
failureAction: Enforce
attestors:
  - entries:
      - keyless:
          subject: \"https://github.com/acme/*@refs/tags/v?.0.0\"
          issuer: https://token.actions.githubusercontent.com
          additionalExtensions: {{ githubWorkflowTrigger: pu* }}
          rekor: {{ url: https://rekor.sigstore.dev }}"
    );
    let world = world_of(&document(&entry)).await;
    let actions = |repository: &str, git_ref: &str| {
        Identity::github_actions(repository, "release.yml", git_ref)
    };
    let good = app(&world, "good");
    world.sign("org/app", &good, &release());
    admits(&world, &good).await;
    for (content, identity) in [
        (
            "another owner",
            actions("acmeevil/widget", "refs/tags/v1.0.0"),
        ),
        (
            "more behind it",
            actions("acme/widget", "refs/tags/v1.0.0-evil"),
        ),
        ("two for one", actions("acme/widget", "refs/tags/v12.0.0")),
        ("none for one", actions("acme/widget", "refs/tags/v.0.0")),
        ("somebody else", stranger()),
    ] {
        let package = app(&world, content);
        world.sign("org/app", &package, &identity);
        let answer = world.manifest("org/app", package.digest()).await;
        answer.denies("untrusted_signer");
    }
    // A regular expression may match anywhere, as for Kyverno; `check` warns of it.
    let entry = entry.replace("subject:", "subjectRegExp:").replace(
        "https://github.com/acme/*@refs/tags/v?.0.0",
        "acme/widget.*v1",
    );
    world.reload(rules_of(&document(&entry)));
    let package = app(&world, "more behind it");
    world
        .manifest("org/app", package.digest())
        .await
        .admits(&package.manifest);
}

// A runtime that was given a tag asks for the digest. A pattern over tags is for that as well, or
// else it would be for nothing.
#[tokio::test]
async fn a_pattern_over_tags_is_not_passed_by_digest() {
    let entry = format!(
        "imageReferences: [\"{HOST}/org/*:v*\"]
skipImageReferences: [\"{HOST}/org/app:v1\", \"{HOST}/org/app@*\", \"{HOST}/org/free/*\"]
failureAction: Enforce
attestors: [{{ entries: [{{ keyless: {{ subject: a@acme.test, issuer: \"https://i.acme.test\" }} }}] }}]"
    );
    let policies = document(&entry) + "---\ndefault: unsafe_allow\n";
    let world = world_of(&policies).await;
    let package = app(&world, "content");
    // What is skipped by its tag is not skipped by its digest, which may have other tags.
    admits(&world, &package).await;
    world
        .manifest("org/app", package.digest())
        .await
        .denies("unsigned");
    world.registry.tag("org/app", "v2", package.digest());
    world.manifest("org/app", "v2").await.denies("unsigned");
    let free = pushed(&world, "org/free/app", "content");
    world
        .manifest("org/free/app", free.digest())
        .await
        .admits(&free.manifest);
    let elsewhere = pushed(&world, "app", "content");
    world
        .manifest("app", elsewhere.digest())
        .await
        .admits(&elsewhere.manifest);
}

// THREATS T3: for Kyverno a signature counts for every entry that it fits; here a signer is one.
#[tokio::test]
async fn t3_one_signer_is_not_two_attestors() {
    let world = world_for_app(
        "attestors:
  - count: 2
    entries:
      - keyless: { subject: \"https://github.com/acme/*\", issuer: \"https://token.actions.githubusercontent.com\" }
      - keyless: { subject: \"*/release.yml@*\", issuer: \"https://token.actions.githubusercontent.com\" }
      - attestor:
          entries:
            - keyless: { subject: mallory@mallory.test, issuer: \"https://accounts.google.com\" }
            - keyless: { subject: \"*\", issuer: \"https://accounts.google.com\" }",
    )
    .await;
    let package = app(&world, "content");
    world.sign("org/app", &package, &release());
    world.sign("org/app", &package, &release());
    denies(&world, "not_enough_signers").await;
    // The list within the list asks for two as well.
    world.sign("org/app", &package, &stranger());
    denies(&world, "not_enough_signers").await;
    let other = Identity::github_actions("acme/gadget", "release.yml", "refs/tags/v1.0.0");
    world.sign("org/app", &package, &other);
    admits(&world, &package).await;
}

// Where every attestation has to say so, one that could not be read, or was not, could be the one
// that says otherwise.
#[tokio::test]
async fn b3_what_was_not_read_could_say_otherwise() {
    let key = KeyPair::generate();
    let world = world_that_asks(&key, "passed").await;
    let by = Recipe::key(&key, Log::None);
    let package = app(&world, "scanned");
    let passed = json!({ "passed": true });
    let passed = world
        .sigstore
        .attest_layer(&package.digest(), REVIEW, &passed, &by);
    world.push("org/app", &attestation_tag(&package.digest(), vec![passed]));
    attest(&world, &package, REVIEW, &json!({ "passed": false }), &by);
    for (misdeed, reason) in [
        (
            Misdeed::Status(StatusCode::BAD_GATEWAY),
            Err("evidence_unavailable"),
        ),
        (Misdeed::Referrers(10_000), Ok("over_limit")),
    ] {
        let fault = world
            .registry
            .misbehave(Fault::on(Endpoint::Referrers, misdeed));
        let answer = world.manifest("org/app", "v1").await;
        match reason {
            Ok(reason) => answer.denies(reason),
            Err(reason) => answer.cannot_tell(reason),
        }
        world.registry.forgive(fault);
    }
    denies(&world, "condition_failed").await;
}

// "Verifying Image Attestations". THREATS B3: by whom, and what they say; and all that they say.
#[tokio::test]
async fn b3_every_attestation_of_the_signer_has_to_say_so() {
    let key = KeyPair::generate();
    let lines = format!(
        "attestations:
  - predicateType: {REVIEW}
    attestors:
      - entries:
          - keys:
              publicKeys: {:?}
              rekor: {{ ignoreTlog: true, url: https://rekor.sigstore.dev }}
    conditions:
      - all:
          - {{ key: \"{{{{ repo.uri }}}}\", operator: Equals, value: \"https://git-repo.com/org/app\" }}
          - {{ key: \"{{{{ repo.branch }}}}\", operator: Equals, value: main }}
          - {{ key: \"{{{{ reviewers }}}}\", operator: AnyIn, value: [ana@example.com, bob@example.com] }}",
        key.public_key_pem()
    );
    let world = world_for_app(&lines).await;
    let by = Recipe::key(&key, Log::None);
    let (identity, uri) = (stranger(), "https://git-repo.com/org/app");
    let said = |branch: &str, reviewer: &str| {
        json!({"author": "alice@example.com", "repo": {"branch": branch, "type": "git", "uri": uri},
               "reviewers": [reviewer]})
    };
    let good = said("main", "bob@example.com");
    let package = app(&world, "reviewed");
    denies(&world, "missing_attestation").await;
    attest(&world, &package, REVIEW, &good, &recipe(&identity));
    denies(&world, "untrusted_signer").await;
    attest(&world, &package, PROVENANCE, &good, &by);
    denies(&world, "untrusted_signer").await;
    attest(&world, &package, REVIEW, &good, &by);
    admits(&world, &package).await;
    // What somebody else attests to harms nobody (THREATS B10), what the same key does, does.
    attest(
        &world,
        &package,
        REVIEW,
        &said("dev", "x"),
        &recipe(&identity),
    );
    admits(&world, &package).await;
    attest(
        &world,
        &package,
        REVIEW,
        &said("dev", "bob@example.com"),
        &by,
    );
    denies(&world, "condition_failed").await;
    for (content, predicate) in [
        ("branch", said("dev", "ana@example.com")),
        ("reviewer", said("main", "mallory@example.com")),
        (
            "missing",
            json!({"repo": {"uri": uri}, "reviewers": ["ana@example.com"]}),
        ),
    ] {
        let package = app(&world, content);
        attest(&world, &package, REVIEW, &predicate, &by);
        denies(&world, "condition_failed").await;
    }
}

// "Verifying Sigstore bundles": layers do not count, nor the other way round.
#[tokio::test]
async fn the_type_says_which_format_counts() {
    let issuer = "https://token.actions.githubusercontent.com";
    let subject = release().subject;
    let entry = format!(
        "imageReferences: [\"*\"]
type: SigstoreBundle
failureAction: Enforce
attestations:
  - type: {PROVENANCE}
    attestors: [{{ entries: [{{ keyless: {{ issuer: \"{issuer}\", subject: \"{subject}\", rekor: {{ url: https://rekor.sigstore.dev }} }} }}] }}]
    conditions:
      - all:
          - {{ key: \"{{{{ buildDefinition.buildType }}}}\", operator: Equals, value: \"https://actions.github.io/buildtypes/workflow/v1\" }}"
    );
    let world = world_of(&document(&entry)).await;
    let identity = release();
    let (bundle, layer) = (recipe(&identity), Recipe::keyless(&identity, Log::RekorV1));
    let predicate = json!({"buildDefinition": {"buildType": "https://actions.github.io/buildtypes/workflow/v1"}});
    let package = app(&world, "attested");
    let evidence = world
        .sigstore
        .attest_layer(&package.digest(), PROVENANCE, &predicate, &layer);
    world.push(
        "org/app",
        &attestation_tag(&package.digest(), vec![evidence]),
    );
    denies(&world, "missing_attestation").await;
    attest(&world, &package, PROVENANCE, &predicate, &bundle);
    admits(&world, &package).await;
    // The identity is compared literally there.
    let package = app(&world, "another");
    attest(&world, &package, PROVENANCE, &predicate, &bundle);
    let starred = entry.replace("@refs/tags/v1.0.0", "@*");
    world.reload(rules_of(&document(&starred)));
    denies(&world, "untrusted_signer").await;

    let entry = format!(
        "imageReferences: [\"*\"]
type: Cosign
failureAction: Enforce
attestors: [{{ entries: [{{ keyless: {{ issuer: \"{issuer}\", subject: \"{subject}\" }} }}] }}]"
    );
    world.reload(rules_of(&document(&entry)));
    let package = app(&world, "signed");
    world.sign("org/app", &package, &identity);
    denies(&world, "unsigned").await;
    let reference = format!("{HOST}/org/app");
    let signature = world
        .sigstore
        .sign_layer(&package.digest(), &reference, &layer);
    world.push(
        "org/app",
        &signature_tag(&package.digest(), vec![signature]),
    );
    admits(&world, &package).await;
}

// "Audit" refuses nothing and says what it found; one entry that enforces is for the whole rule.
#[tokio::test]
async fn audit_warns() {
    let entry = format!(
        "imageReferences: [\"{HOST}/org/app*\"]
failureAction: Audit
attestors: [{{ entries: [{{ keyless: {{ subject: a@acme.test, issuer: \"https://i.acme.test\" }} }}] }}]"
    );
    let world = world_of(&document(&entry)).await;
    let package = app(&world, "content");
    let answer = world.manifest("org/app", "v1").await;
    answer.admits(&package.manifest);
    assert!(answer.header("warning").contains("check-image/check-image"));
    let second = entry
        .replace("Audit", "Enforce")
        .replace("org/app*", "other*");
    let second = second.replace('\n', "\n          ");
    let policies = format!("{}        - {second}\n", document(&entry));
    world.reload(rules_of(&policies));
    denies(&world, "unsigned").await;
}

// "Using a signature repository": what is signed elsewhere counts, and beside the image nothing
// does; an entry may name a place of its own.
#[tokio::test]
async fn signatures_are_looked_for_where_the_rule_says() {
    let [ops, qa, vendor] = [(); 3].map(|()| KeyPair::generate());
    let entry = |key: &KeyPair, more: &str| {
        let key = key.public_key_pem();
        format!("{{ keys: {{ publicKeys: {key:?}, rekor: {{ ignoreTlog: true }} }}{more} }}")
    };
    let lines = format!(
        "repository: {HOST}/signatures
attestors:
  - entries: [{}]
  - count: 1
    entries: [{}, {}]
attestations:
  - type: {REVIEW}
    attestors: [{{ entries: [{}] }}]",
        entry(&ops, ""),
        entry(&qa, ""),
        entry(&vendor, &format!(", repository: {HOST}/vendor")),
        entry(&ops, &format!(", repository: {HOST}/reviews")),
    );
    let world = world_for_app(&lines).await;
    let package = app(&world, "content");
    let by = |key| Recipe::key(key, Log::None);
    let review = json!({ "passed": true });
    let review = world
        .sigstore
        .attest_layer(&package.digest(), REVIEW, &review, &by(&ops));
    let review = attestation_tag(&package.digest(), vec![review]);
    world.sign_layers("org/app", &package, &[by(&ops), by(&qa), by(&vendor)]);
    world.push("org/app", &review);
    denies(&world, "unsigned").await;
    world.sign_layers("signatures", &package, &[by(&ops), by(&vendor)]);
    denies(&world, "untrusted_signer").await;
    world.sign_layers("vendor", &package, &[by(&vendor)]);
    denies(&world, "missing_attestation").await;
    world.push("signatures", &review);
    denies(&world, "missing_attestation").await;
    world.push("reviews", &review);
    admits(&world, &package).await;
}

// "Using a different signature algorithm": a key signs over the hash that the rule names, SHA-256
// where it names none.
#[tokio::test]
async fn a_key_signs_over_the_hash_that_the_rule_names() {
    let key = KeyPair::of(KeyType::P384);
    let lines = key_entry(&key, "          rekor: { ignoreTlog: true }");
    let world = world_for_app(&lines).await;
    let package = app(&world, "over SHA-384");
    world.sign_layers("org/app", &package, &[Recipe::key(&key, Log::None)]);
    denies(&world, "untrusted_signer").await;
    for (algorithm, holds) in [("sha256", false), ("sha512", false), ("sha384", true)] {
        let lines = format!("{lines}\n          signatureAlgorithm: {algorithm}");
        world.reload(rules_of(&for_app(&lines)));
        match holds {
            true => admits(&world, &package).await,
            false => denies(&world, "untrusted_signer").await,
        }
    }
}

// What an index has been attested to counts for what it lists (`signs: asked`), also where that has
// an attestation of its own that says otherwise. Asked for alone, it is judged by its own.
#[tokio::test]
async fn a_yes_about_an_index_is_before_a_no_about_its_platform() {
    let key = KeyPair::generate();
    let world = world_that_asks(&key, "passed").await;
    let by = Recipe::key(&key, Log::None);
    let child = app(&world, "a platform");
    attest(&world, &child, REVIEW, &json!({ "passed": false }), &by);
    let alone = world.manifest("org/app", child.digest()).await;
    alone.denies("condition_failed");
    let index = image::index(&[child.descriptor()]);
    world.push("org/app", &index);
    world.registry.tag("org/app", "v1", index.digest());
    attest(&world, &index, REVIEW, &json!({ "passed": true }), &by);
    admits(&world, &index).await;
    let listed = world.manifest("org/app", child.digest()).await;
    listed.admits(&child.manifest);
}
