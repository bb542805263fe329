//! policy.json of containers/image: the most specific scope decides alone, each requirement has to
//! hold, and a signature is for the image that it names.

use std::{fs, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use pullgate::app;
use pullgate::clock::Clock;
use pullgate::config::{self, RootSource};
use pullgate::oci::Digest;
use pullgate::policy::Policy;
use pullgate::sandbox::gpg::{Holder, Life};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::{
    CertificateAuthority, Fault, Identity, KeyPair, Log, Recipe, Signer, Sigstore, signature_tag,
};
use pullgate::verify::TrustRoot;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{HOST, Setup, World, material, rules};

pub(crate) async fn world() -> World {
    World::with(Setup {
        lookaside: true,
        ..Setup::ruled(rules(Vec::new()))
    })
    .await
}

/// Puts a policy.json in force, as a configuration names it.
pub(crate) fn enforce(world: &World, document: &Value) {
    enforce_beside(world, document, Vec::new());
}

/// The same, beside policies of our own.
pub(crate) fn enforce_beside(world: &World, document: &Value, policies: Vec<Policy>) {
    let folder = TempDir::new().expect("a folder");
    let configuration = format!(
        "upstreams: {{ {HOST}: {{}} }}\npolicies: [{{ containers_policy_json: policy.json }}]\n"
    );
    let path = folder.path().join("pullgate.yaml");
    fs::write(&path, configuration).expect("a file");
    fs::write(folder.path().join("policy.json"), document.to_string()).expect("a file");
    let loaded = config::load(&path, &app::checks(), Clock::system().now());
    let mut settings = loaded.expect("it loads").settings;
    let policies = policies.into_iter().map(Arc::new);
    settings.rules.policies.extend(policies);
    let mut material = material(&world.sigstore.trusted_root_json(), &settings.rules);
    for root in settings.trust_roots {
        if let RootSource::Logs { json, .. } = root.source {
            let root = TrustRoot::from_json(root.name, &json).expect("a trust root");
            material.roots.push(root.into());
        }
    }
    world.gate.reload(settings.rules, material);
}

/// Requirements for `docker` scopes, and refusal of all else.
pub(crate) fn scopes(scopes: &Value) -> Value {
    json!({ "default": [{ "type": "reject" }], "transports": { "docker": scopes } })
}

/// One requirement for the whole host.
fn everywhere(requirement: &Value) -> Value {
    scopes(&json!({ HOST: [requirement] }))
}

fn data(key: &KeyPair) -> String {
    STANDARD.encode(key.public_key_pem())
}

pub(crate) fn signed_with(key: &KeyPair) -> Value {
    json!({ "type": "sigstoreSigned", "keyData": data(key) })
}

pub(crate) fn identified(mut requirement: Value, identity: Value) -> Value {
    requirement["signedIdentity"] = identity;
    requirement
}

fn push(world: &World, repository: &str, content: &str) -> Package {
    let package = image::runnable(content).tagged("v1");
    world.push(repository, &package);
    package
}

/// A `.sig` layer by this key, for this image.
fn sign(world: &World, repository: &str, package: &Package, reference: &str, recipe: &Recipe<'_>) {
    let layer = world
        .sigstore
        .sign_layer(&package.digest(), reference, recipe);
    let tag = signature_tag(&package.digest(), vec![layer]);
    world.push(repository, &tag);
}

pub(crate) fn sign_by_key(
    world: &World,
    repository: &str,
    package: &Package,
    reference: &str,
    key: &KeyPair,
) {
    let recipe = Recipe::key(key, Log::None);
    sign(world, repository, package, reference, &recipe);
}

pub(crate) fn named(name: &str) -> String {
    format!("{HOST}/{name}")
}

#[tokio::test]
async fn b_the_most_specific_scope_decides_alone() {
    let world = world().await;
    let key = KeyPair::generate();
    enforce(
        &world,
        &scopes(&json!({
            HOST: [{ "type": "insecureAcceptAnything" }],
            named("team"): [signed_with(&key)],
            named("team/never"): [{ "type": "reject" }],
            named("team/open"): [{ "type": "insecureAcceptAnything" }],
            "*.acme.test": [{ "type": "reject" }],
        })),
    );
    let open = push(&world, "other", "open");
    world.manifest("other", "v1").await.admits(&open.manifest);
    let teams = push(&world, "teams", "no path below team");
    world.manifest("teams", "v1").await.admits(&teams.manifest);

    push(&world, "team/app", "unsigned");
    world.manifest("team/app", "v1").await.denies("unsigned");
    let signed = push(&world, "team/signed", "signed");
    let reference = named("team/signed:v1");
    sign_by_key(&world, "team/signed", &signed, &reference, &key);
    enforce(
        &world,
        &scopes(&json!({ HOST: [{ "type": "reject" }], named("team"): [signed_with(&key)] })),
    );
    let answer = world.manifest("team/signed", "v1").await;
    answer.admits(&signed.manifest);
    let answer = world.manifest("other", "v1").await;
    answer.denies("denied_by_policy");
}

#[tokio::test]
async fn b_a_scope_within_another_is_not_overruled_by_it() {
    let world = world().await;
    let key = KeyPair::generate();
    enforce(
        &world,
        &scopes(&json!({
            named("team"): [signed_with(&key)],
            named("team/never"): [{ "type": "reject" }],
            named("team/open"): [{ "type": "insecureAcceptAnything" }],
        })),
    );
    let signed = push(&world, "team/never", "signed");
    let reference = named("team/never:v1");
    sign_by_key(&world, "team/never", &signed, &reference, &key);
    let answer = world.manifest("team/never", "v1").await;
    answer.denies("denied_by_policy");
    let open = push(&world, "team/open", "open");
    let answer = world.manifest("team/open", "v1").await;
    answer.admits(&open.manifest);
    push(&world, "elsewhere", "what no scope is for");
    let answer = world.manifest("elsewhere", "v1").await;
    answer.denies("denied_by_policy");
}

// THREATS I4: a signature that was copied beside the same content in another repository.
#[tokio::test]
async fn i4_a_copied_signature_is_for_the_image_that_it_names() {
    let key = KeyPair::generate();
    let world = world().await;
    enforce(&world, &everywhere(&signed_with(&key)));
    let package = push(&world, "x", "content");
    sign_by_key(&world, "x", &package, &named("x:v1"), &key);
    push(&world, "y", "content");
    sign_by_key(&world, "y", &package, &named("x:v1"), &key);
    world.manifest("x", "v1").await.admits(&package.manifest);
    let answer = world.manifest("y", "v1").await;
    answer.denies("untrusted_signer");
    assert!(
        answer.message().contains(&named("x:v1")),
        "{}",
        answer.message()
    );
    let by_digest = world.manifest("y", package.digest()).await;
    by_digest.denies("untrusted_signer");
}

// THREATS I4: each `signedIdentity`, by tag and by digest.
#[tokio::test]
async fn i4_a_signature_fits_the_reference_that_is_asked_for() {
    let key = KeyPair::generate();
    let exact = json!({ "type": "matchExact" });
    let default = json!({ "type": "matchRepoDigestOrExact" });
    let repository = json!({ "type": "matchRepository" });
    let this = json!({ "type": "exactReference", "dockerReference": "origin.test/app:v7" });
    let these = json!({ "type": "exactRepository", "dockerRepository": "origin.test/app" });
    let remap = json!({ "type": "remapIdentity", "prefix": HOST, "signedPrefix": "origin.test" });
    for (identity, signed, by_tag, by_digest) in [
        (&exact, named("app:v1"), true, false),
        (&exact, named("app:v2"), false, false),
        (&default, named("app:v1"), true, true),
        (&default, named("app:v2"), false, true),
        // So cosign signs.
        (&default, named("app"), false, false),
        (&repository, named("app"), true, true),
        (&repository, named("app:v2"), true, true),
        (&repository, named("other"), false, false),
        (&this, "origin.test/app:v7".to_owned(), true, true),
        (&this, "origin.test/app:v8".to_owned(), false, false),
        (&this, named("app:v1"), false, false),
        (&these, "origin.test/app".to_owned(), true, true),
        (&these, named("app:v1"), false, false),
        (&remap, "origin.test/app:v1".to_owned(), true, true),
        (&remap, "origin.test/app:v2".to_owned(), false, true),
        (&remap, named("app:v1"), false, false),
    ] {
        let world = world().await;
        let requirement = identified(signed_with(&key), identity.clone());
        enforce(&world, &everywhere(&requirement));
        let package = push(&world, "app", "content");
        sign_by_key(&world, "app", &package, &signed, &key);
        let digest = package.digest().to_string();
        for (reference, passes) in [("v1", by_tag), (digest.as_str(), by_digest)] {
            let answer = world.manifest("app", reference).await;
            let told = format!("{identity} {signed} {reference}: {}", answer.message());
            assert_eq!(answer.status.is_success(), passes, "{told}");
        }
    }
}

// A bundle names no image, so that it says nothing where an image has to be named.
#[tokio::test]
async fn i4_a_bundle_does_not_count_under_a_signed_identity() {
    let key = KeyPair::generate();
    let world = world().await;
    let identity = json!({ "type": "matchRepository" });
    enforce(
        &world,
        &everywhere(&identified(signed_with(&key), identity)),
    );
    let recipe = Recipe::key(&key, Log::None);
    let bundled = push(&world, "bundled", "content");
    let both = push(&world, "both", "other content");
    for (repository, package) in [("bundled", &bundled), ("both", &both)] {
        let bundle = world.sigstore.signature(&package.digest(), &recipe);
        world.attach(repository, package, &bundle);
    }
    sign_by_key(&world, "both", &both, &named("both"), &key);
    let answer = world.manifest("bundled", "v1").await;
    answer.denies("untrusted_signer");
    world.manifest("both", "v1").await.admits(&both.manifest);
}

#[tokio::test]
async fn b_every_requirement_of_a_scope_has_to_hold() {
    let (one, two) = (KeyPair::generate(), KeyPair::generate());
    let both = |more: Value| {
        scopes(&json!({ HOST: [signed_with(&one), { "type": "insecureAcceptAnything" }, more] }))
    };
    for (document, passes) in [
        (both(signed_with(&two)), false),
        (both(json!({ "type": "reject" })), false),
        // One key may meet two requirements.
        (both(signed_with(&one)), true),
        (
            scopes(&json!({ HOST: [{
                "type": "sigstoreSigned",
                "keyDatas": [data(&two), data(&one)],
            }] })),
            true,
        ),
    ] {
        let world = world().await;
        enforce(&world, &document);
        let package = push(&world, "app", "content");
        sign_by_key(&world, "app", &package, &named("app:v1"), &one);
        let answer = world.manifest("app", "v1").await;
        assert_eq!(
            answer.status.is_success(),
            passes,
            "{document}: {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn b_what_gpg_signed_and_what_a_key_signed_are_two_things() {
    let yesterday: Timestamp = Clock::system().now() - SignedDuration::from_hours(24);
    let holder = Holder::new(Life::from(yesterday));
    let key = KeyPair::generate();
    let gpg = json!({
        "type": "signedBy", "keyType": "GPGKeys", "keyData": STANDARD.encode(holder.keyring()),
    });
    let world = world().await;
    let package = push(&world, "app", "content");
    let message = holder.sign_image(&package.digest(), &named("app:v1"), yesterday);
    world.detach("app", &package.digest(), &[message]);
    for (requirement, passes) in [(&gpg, true), (&signed_with(&key), false)] {
        enforce(&world, &everywhere(requirement));
        let answer = world.manifest("app", "v1").await;
        assert_eq!(answer.status.is_success(), passes, "{}", answer.message());
    }
    push(&world, "other", "content");
    enforce(&world, &everywhere(&gpg));
    world.manifest("other", "v1").await.denies("unsigned");
}

/// The public keys of this Sigstore's logs of the first version, in Base64 of PEM.
fn logs(sigstore: &Sigstore) -> Vec<String> {
    let root: Value = serde_json::from_str(&sigstore.trusted_root_json()).expect("JSON");
    let logs = root["tlogs"].as_array().expect("logs");
    let keys = logs.iter().map(|log| &log["publicKey"]);
    keys.filter(|key| key["keyDetails"] == "PKIX_ECDSA_P256_SHA_256")
        .map(|key| {
            let der = key["rawBytes"].as_str().expect("Base64");
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
            STANDARD.encode(pem)
        })
        .collect()
}

#[tokio::test]
async fn b_a_log_has_to_have_promised_to_hold_the_signature() {
    let key = KeyPair::generate();
    let world = world().await;
    let logged = |logs: Vec<String>| {
        let mut requirement = signed_with(&key);
        requirement["rekorPublicKeyDatas"] = json!(logs);
        everywhere(&requirement)
    };
    let other = Sigstore::new(Clock::system().now());
    let unlogged = push(&world, "unlogged", "unlogged");
    sign_by_key(&world, "unlogged", &unlogged, &named("unlogged:v1"), &key);
    let package = push(&world, "app", "content");
    let recipe = Recipe::key(&key, Log::RekorV1);
    sign(&world, "app", &package, &named("app:v1"), &recipe);
    enforce(&world, &logged(logs(&world.sigstore)));
    world.manifest("app", "v1").await.admits(&package.manifest);
    let answer = world.manifest("unlogged", "v1").await;
    answer.denies("untrusted_signer");
    enforce(&world, &logged(logs(&other)));
    world.manifest("app", "v1").await.denies("untrusted_signer");
    enforce(
        &world,
        &logged([logs(&other), logs(&world.sigstore)].concat()),
    );
    world.manifest("app", "v1").await.admits(&package.manifest);
}

// What is judged is what is asked for; what an index lists passes through it, with its blobs.
#[tokio::test]
async fn g_what_a_signed_index_lists_passes_through_it() {
    let key = KeyPair::generate();
    let world = world().await;
    enforce(&world, &everywhere(&signed_with(&key)));
    let child = image::runnable("amd64");
    let stranger = image::runnable("nobody lists me");
    let index = image::index(&[child.descriptor()]).tagged("v1");
    for package in [&child, &stranger, &index] {
        world.push("app", package);
    }
    sign_by_key(&world, "app", &index, &named("app:v1"), &key);
    world
        .manifest("app", child.digest())
        .await
        .denies("unsigned");
    world.manifest("app", "v1").await.admits(&index.manifest);
    let answer = world.manifest("app", child.digest()).await;
    answer.admits(&child.manifest);
    for blob in &child.blobs {
        world.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
    let answer = world.manifest("app", stranger.digest()).await;
    answer.denies("unsigned");
}

// A scope, or a signature, for a tag is for all that the tag leads to, by whatever digest clients
// then ask for it; and for nothing else.
#[tokio::test]
async fn g_what_a_tag_admits_passes_with_all_that_it_consists_of() {
    let key = KeyPair::generate();
    let world = world().await;
    let exact = identified(signed_with(&key), json!({ "type": "matchExact" }));
    enforce(
        &world,
        &scopes(&json!({ named("app:v1"): [signed_with(&key)], named("exact"): [exact] })),
    );
    for repository in ["app", "exact"] {
        let child = image::runnable(&format!("a platform of {repository}"));
        let stranger = image::runnable(&format!("in no index of {repository}"));
        let index = image::index(&[child.descriptor()]).tagged("v1");
        for package in [&child, &stranger, &index] {
            world.push(repository, package);
        }
        let reference = named(&format!("{repository}:v1"));
        sign_by_key(&world, repository, &index, &reference, &key);
        let layer = Digest::sha256(&child.blobs[0]);
        let refused = world.manifest(repository, child.digest()).await;
        assert!(
            !refused.status.is_success(),
            "before anybody asked for the tag"
        );
        world.blob(repository, layer).await.denies("not_reachable");

        let answer = world.manifest(repository, "v1").await;
        answer.admits(&index.manifest);
        let answer = world.manifest(repository, child.digest()).await;
        answer.admits(&child.manifest);
        for blob in &child.blobs {
            let answer = world.blob(repository, Digest::sha256(blob)).await;
            answer.admits(blob);
        }
        // What is asked for by its digest is judged by that, and so is what no index lists.
        for digest in [index.digest(), stranger.digest()] {
            let answer = world.manifest(repository, digest).await;
            assert!(!answer.status.is_success(), "{}", answer.message());
        }
    }
    let single = image::runnable("an image alone").tagged("v2");
    world.push("exact", &single);
    sign_by_key(&world, "exact", &single, &named("exact:v2"), &key);
    world.manifest("exact", "v2").await.admits(&single.manifest);
    let blob = &single.blobs[0];
    world.blob("exact", Digest::sha256(blob)).await.admits(blob);
}

// THREATS G5: a tag that has moved on vouches no more for what it named.
#[tokio::test]
async fn g5_a_tag_that_has_moved_brings_nothing_any_more() {
    let key = KeyPair::generate();
    let world = world().await;
    let document = scopes(&json!({ named("app:v1"): [signed_with(&key)] }));
    enforce(&world, &document);
    let package = push(&world, "app", "the first");
    sign_by_key(&world, "app", &package, &named("app:v1"), &key);
    world.manifest("app", "v1").await.admits(&package.manifest);
    let blob = &package.blobs[0];
    world.blob("app", Digest::sha256(blob)).await.admits(blob);
    let next = push(&world, "app", "the next");
    sign_by_key(&world, "app", &next, &named("app:v1"), &key);
    enforce(&world, &document);
    let answer = world.blob("app", Digest::sha256(blob)).await;
    answer.denies("not_reachable");
}

// What policy says of one digest it means, whatever tag leads there.
#[tokio::test]
async fn g_a_scope_for_a_digest_is_not_overruled_by_a_tag() {
    let world = world().await;
    let child = image::runnable("a platform");
    let index = image::index(&[child.descriptor()]).tagged("v1");
    world.push("app", &child);
    world.push("app", &index);
    let listed = named(&format!("app@{}", child.digest()));
    enforce(
        &world,
        &scopes(&json!({
            named("app:v1"): [{ "type": "insecureAcceptAnything" }],
            listed: [{ "type": "reject" }],
        })),
    );
    world.manifest("app", "v1").await.admits(&index.manifest);
    let answer = world.manifest("app", child.digest()).await;
    answer.denies("denied_by_policy");
}

const ISSUER: &str = "https://accounts.google.com";

/// The certificates of this Sigstore's Fulcio, in Base64 of PEM.
fn authorities(sigstore: &Sigstore) -> String {
    let root: Value = serde_json::from_str(&sigstore.trusted_root_json()).expect("JSON");
    let authorities = root["certificateAuthorities"]
        .as_array()
        .expect("authorities");
    let chains = authorities
        .iter()
        .map(|one| &one["certChain"]["certificates"]);
    let certificates = chains.flat_map(|chain| chain.as_array().expect("certificates"));
    let pem: String = certificates
        .map(|one| {
            let der = one["rawBytes"].as_str().expect("Base64");
            format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
        })
        .collect();
    STANDARD.encode(pem)
}

// THREATS I1, B1: the address, the issuer, the authority and the log, each of them.
#[tokio::test]
async fn i_a_login_is_told_by_authority_issuer_and_address() {
    let world = world().await;
    let other = Sigstore::new(Clock::system().now());
    let fulcio = |authority: &Sigstore, log: &Sigstore, issuer: &str, email: &str| {
        everywhere(&json!({
            "type": "sigstoreSigned",
            "fulcio": {
                "caData": authorities(authority), "oidcIssuer": issuer, "subjectEmail": email,
            },
            "rekorPublicKeyDatas": logs(log),
        }))
    };
    let alice = Identity::email("alice@acme.test", ISSUER);
    let recipe = Recipe::keyless(&alice, Log::RekorV1);
    let package = push(&world, "app", "content");
    sign(&world, "app", &package, &named("app:v1"), &recipe);
    let unlogged = push(&world, "unlogged", "no promise");
    let broken = recipe.clone().with(Fault::NoPromise);
    sign(
        &world,
        "unlogged",
        &unlogged,
        &named("unlogged:v1"),
        &broken,
    );
    let (here, address) = (&world.sigstore, "alice@acme.test");
    enforce(&world, &fulcio(here, here, ISSUER, address));
    world.manifest("app", "v1").await.admits(&package.manifest);
    let answer = world.manifest("unlogged", "v1").await;
    assert!(!answer.status.is_success(), "{}", answer.message());
    for document in [
        fulcio(&other, here, ISSUER, address),
        fulcio(here, &other, ISSUER, address),
        fulcio(here, here, "https://github.com/login/oauth", address),
        fulcio(here, here, ISSUER, "bob@acme.test"),
        fulcio(here, here, ISSUER, "lice@acme.test"),
    ] {
        enforce(&world, &document);
        let answer = world.manifest("app", "v1").await;
        assert!(!answer.status.is_success(), "{document}");
    }
}

// `pki`: the authority, every name that is given, and certificates that are valid now.
#[tokio::test]
async fn i_a_certificate_has_the_names_that_are_asked_for_and_is_valid_now() {
    let now = Clock::system().now();
    let authority = CertificateAuthority::new(1, now);
    let other = CertificateAuthority::new(1, now);
    let pki = |authority: &CertificateAuthority, names: Value| {
        let mut pki = names;
        pki["caRootsData"] = json!(STANDARD.encode(authority.root_pem()));
        everywhere(&json!({ "type": "sigstoreSigned", "pki": pki }))
    };
    let certified = |subject| Signer::Certified {
        authority: &authority,
        subject,
    };
    let world = world().await;
    let by_mail = push(&world, "mail", "by mail");
    let recipe = Recipe::new(certified("release@acme.test"), Log::None);
    sign(&world, "mail", &by_mail, &named("mail:v1"), &recipe);
    let by_host = push(&world, "host", "by host");
    let recipe = Recipe::new(certified("signer.acme.test"), Log::None);
    sign(&world, "host", &by_host, &named("host:v1"), &recipe);
    let mail = json!({ "subjectEmail": "release@acme.test" });
    let host = json!({ "subjectHostname": "Signer.acme.test" });
    let both = json!({
        "subjectEmail": "release@acme.test", "subjectHostname": "signer.acme.test",
    });
    let above = json!({ "subjectHostname": "acme.test" });
    for (document, by_mail, by_host) in [
        (pki(&authority, mail.clone()), true, false),
        (pki(&authority, host), false, true),
        (pki(&authority, both), false, false),
        (pki(&authority, above), false, false),
        (pki(&other, mail.clone()), false, false),
    ] {
        enforce(&world, &document);
        for (repository, passes) in [("mail", by_mail), ("host", by_host)] {
            let answer = world.manifest(repository, "v1").await;
            let told = format!("{repository} {document}: {}", answer.message());
            assert_eq!(answer.status.is_success(), passes, "{told}");
        }
    }
    enforce(&world, &pki(&authority, mail));
    world.manifest("mail", "v1").await.admits(&by_mail.manifest);
    world.pass(Duration::from_secs(400 * 86_400));
    let answer = world.manifest("mail", "v1").await;
    assert!(!answer.status.is_success(), "the certificate has expired");
}

// `*.domain` is for every host below it; where nothing else is said, `default` decides.
#[tokio::test]
async fn the_manuals_wildcard_and_its_open_document_let_pass() {
    let world = world().await;
    let package = push(&world, "app", "unsigned");
    let (_, domain) = HOST.split_once('.').expect("a domain");
    for (document, passes) in [
        (json!({ "default": [{ "type": "reject" }] }), false),
        (
            scopes(&json!({ format!("*.{domain}"): [{ "type": "insecureAcceptAnything" }] })),
            true,
        ),
        (
            json!({ "default": [{ "type": "insecureAcceptAnything" }] }),
            true,
        ),
    ] {
        enforce(&world, &document);
        let answer = world.manifest("app", "v1").await;
        match passes {
            true => answer.admits(&package.manifest),
            false => answer.denies("denied_by_policy"),
        }
    }
}
