//! The threats to policy through the program as it is run: from files and a registry to the answers
//! of `pullgate serve`, and to what `pullgate check` says. Each is tried closely elsewhere in this
//! folder.

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use pullgate::clock::Clock;
use pullgate::sandbox::image;
use pullgate::sandbox::sigstore::{Claim, Fault, Identity, Log, Recipe, signature_tag};

use crate::binary::{Gate, Site};
use crate::support::{HOST, recipe, release, stranger};

/// How long an exemption lasts from the start on.
const EXEMPT: i64 = 6;

const POLICIES: &str = r#"
signers:
  regex: { keyless: { issuer: github-actions, identity_regex: "https://github\\.com/acme/[^/]+/\\.github/workflows/release\\.yml@refs/tags/.*" } }
  glob: { keyless: { issuer: github-actions, identity_glob: "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/v*" } }
  widget:
    keyless:
      issuer: github-actions
      identity_glob: "https://github.com/acme/workflows/.github/workflows/*@refs/heads/main"
      claims: { source_repository_uri: "https://github.com/acme/widget", build_trigger: push }
      claims_glob: { source_repository_ref: "refs/tags/*" }
  named: { keyless: { issuer: github-actions, identity_glob: "https://github.com/acme/**" }, signed_identity: match_repository }
  mallory: { keyless: { issuer: google, identity: mallory@mallory.test } }
policies:
  - { name: i1, images: [HOST/i1], signed_by: regex }
  - { name: i2, images: [HOST/i2], signed_by: glob }
  - { name: i4, images: [HOST/i4, HOST/copy], signed_by: named }
  - { name: i5, images: [HOST/i5], signed_by: widget }
  - { name: t3, images: [HOST/t3], signed_by: { at_least: 2, of: [regex, glob, mallory] } }
  - { name: index, images: [HOST/index], signed_by: glob, signs: index }
  - { name: instance, images: [HOST/instance], signed_by: glob, signs: instance }
  - { name: c1, images: [HOST/c1], signed_by: glob }
  - { name: c2, images: [HOST/c2], unsafe_allow_unsigned: { until: UNTIL, because: trial } }
  - { name: c7, images: [HOST/c7], signed_by: glob, no_rollback: true }
"#;

fn workflow(repository: &str, git_ref: &str) -> Identity {
    Identity::github_actions(repository, "release.yml", git_ref)
}

/// THREATS I1, I2, I3: who a pattern is for, and who is nobody.
async fn identities(site: &Site, gate: &Gate) {
    let (tag, branch) = ("refs/tags/v1.0.0", "refs/heads/main");
    let right = workflow("acme/widget", tag);
    let others = [
        workflow("acme/widget", branch),
        workflow("acmeevil/widget", tag),
        workflow("acme/widget/x", tag),
        stranger(),
    ];
    for repository in ["i1", "i2"] {
        site.signed(repository, &recipe(&right));
        gate.says(repository, "v1", "admitted").await;
        for other in &others {
            site.signed(repository, &recipe(other));
            gate.says(repository, "v1", "untrusted_signer").await;
        }
        for fault in [Fault::SecondIdentity, Fault::IssuersDisagree] {
            site.signed(repository, &recipe(&right).with(fault));
            gate.says(repository, "v1", "invalid_signature").await;
        }
    }
    // A dot is a dot, in the glob and where the expression says so.
    let mut dotless = right;
    dotless.subject = dotless.subject.replace("release.yml", "releasexyml");
    for repository in ["i1", "i2"] {
        site.signed(repository, &recipe(&dotless));
        gate.says(repository, "v1", "untrusted_signer").await;
    }
}

/// THREATS I4: what was signed for one repository, beside the same content in another.
async fn copies(site: &Site, gate: &Gate) {
    let identity = release();
    let package = site.push("i4", "copied");
    site.push("copy", "copied");
    let by = Recipe::keyless(&identity, Log::RekorV1);
    let name = format!("{HOST}/i4");
    let layer = site.sigstore.sign_layer(&package.digest(), &name, &by);
    let tag = signature_tag(&package.digest(), vec![layer]);
    for repository in ["i4", "copy"] {
        site.registry.put_package(repository, &tag);
    }
    gate.says("i4", "v1", "admitted").await;
    gate.says("copy", "v1", "untrusted_signer").await;
    // Beside other content it proves nothing, whatever it is for.
    let other = site.push("i4", "other content");
    let moved = site.sigstore.sign_layer(&package.digest(), &name, &by);
    let tag = signature_tag(&other.digest(), vec![moved]);
    site.registry.put_package("i4", &tag);
    gate.says("i4", "v1", "invalid_signature").await;
}

/// THREATS I5: a fork's build, a pull request's, and another caller of a reusable workflow.
async fn claims(site: &Site, gate: &Gate) {
    let built = |repository: &str, git_ref: &str, trigger: &str| {
        let source = format!("https://github.com/{repository}");
        Identity::github_actions("acme/workflows", "build.yml", "refs/heads/main")
            .claiming(Claim::SourceRepositoryUri, &source)
            .claiming(Claim::SourceRepositoryRef, git_ref)
            .claiming(Claim::BuildTrigger, trigger)
    };
    site.signed("i5", &recipe(&built("acme/widget", "refs/tags/v1", "push")));
    gate.says("i5", "v1", "admitted").await;
    for other in [
        built("mallory/widget", "refs/tags/v1", "push"),
        built("acme/gadget", "refs/tags/v1", "push"),
        built("acme/widget", "refs/pull/7/merge", "push"),
        built("acme/widget", "refs/tags/v1", "pull_request_target"),
        workflow("acme/widget", "refs/tags/v1"),
    ] {
        site.signed("i5", &recipe(&other));
        gate.says("i5", "v1", "untrusted_signer").await;
    }
}

/// THREATS T3: one who fits two rules, and signs twice, is one.
async fn thresholds(site: &Site, gate: &Gate) {
    let (identity, other) = (workflow("acme/widget", "refs/tags/v1.0.0"), stranger());
    let package = site.signed("t3", &recipe(&identity));
    site.sign("t3", &package, &recipe(&identity));
    gate.says("t3", "v1", "not_enough_signers").await;
    let package = site.push("t3", "signed by two");
    for signer in [&identity, &other] {
        site.sign("t3", &package, &recipe(signer));
    }
    gate.says("t3", "v1", "admitted").await;
}

/// THREATS G3: what a signature has to cover.
async fn covers(site: &Site, gate: &Gate) {
    let identity = workflow("acme/widget", "refs/tags/v1.0.0");
    for (repository, signed_index, signed_child) in [
        ("index", "admitted", "unsigned"),
        ("instance", "unsigned", "admitted"),
    ] {
        for (sign_index, index_says, child_says) in [
            (true, signed_index, signed_index),
            (false, signed_child, signed_child),
        ] {
            let child = image::runnable(&format!("{repository} {sign_index}"));
            let index = image::index(&[child.descriptor()]).tagged("v1");
            site.registry.put_package(repository, &child);
            site.registry.put_package(repository, &index);
            let package = if sign_index { &index } else { &child };
            site.sign(repository, package, &recipe(&identity));
            gate.says(repository, "v1", index_says).await;
            gate.says(repository, child.digest(), child_says).await;
        }
    }
}

/// THREATS C7: a tag that is moved back to what is still signed.
async fn rollback(site: &Site, gate: &Gate) {
    let identity = workflow("acme/widget", "refs/tags/v1.0.0");
    let at = |hours: i64| {
        site.sigstore
            .at(Clock::system().now() - SignedDuration::from_hours(hours))
    };
    let [old, new] = [("old", 5), ("new", 3)].map(|(content, hours)| {
        let package = site.push("c7", content);
        let bundle = at(hours).sign_bundle(&package.descriptor(), &recipe(&identity));
        site.registry.put_package("c7", &bundle);
        package
    });
    gate.says("c7", "v1", "admitted").await;
    site.registry.tag("c7", "v1", old.digest());
    gate.says("c7", "v1", "denied_by_policy").await;
    gate.says("c7", old.digest(), "admitted").await;
    site.registry.tag("c7", "v1", new.digest());
    gate.says("c7", "v1", "admitted").await;
}

/// THREATS C1: an edit of the policy, once it is reported, and on what was admitted before.
async fn edit(site: &Site, gate: &Gate) {
    let identity = workflow("acme/widget", "refs/tags/v1.0.0");
    site.signed("c1", &recipe(&identity));
    gate.says("c1", "v1", "admitted").await;
    let policies = std::fs::read_to_string(site.folder.path().join("policies.yaml"));
    let policies = policies.expect("policies");
    site.write(
        "policies.yaml",
        &policies.replace("/c1], signed_by: glob", "/c1], signed_by: mallory"),
    );
    gate.reload();
    gate.comes_to_say("c1", "untrusted_signer").await;
    // A broken one changes nothing.
    site.write(
        "policies.yaml",
        &policies.replace("signed_by: glob", "signed_by: nobody"),
    );
    gate.reload();
    site.write("policies.yaml", &policies);
    gate.reload();
    gate.comes_to_say("c1", "admitted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i_c_g_t_each_through_the_whole_program() {
    let until: Timestamp = Clock::system().now() + SignedDuration::from_secs(EXEMPT);
    let site = Site::new(&POLICIES.replace("UNTIL", &until.to_string())).await;
    let gate = site.run();
    // THREATS C2: what passes by an exemption ends with it, on hits as well.
    site.push("c2", "never signed");
    gate.says("c2", "v1", "admitted").await;
    identities(&site, &gate).await;
    copies(&site, &gate).await;
    claims(&site, &gate).await;
    thresholds(&site, &gate).await;
    covers(&site, &gate).await;
    rollback(&site, &gate).await;
    gate.comes_to_say("c2", "unsigned").await;
    edit(&site, &gate).await;
}

// THREATS T7, I1: nobody is never enough, and an identity that says nothing is none.
#[tokio::test(flavor = "multi_thread")]
async fn t7_i1_what_asks_for_nobody_does_not_load() {
    for (policies, field) in [
        (
            "signed_by: { at_least: 0, of: [a] }",
            "policies[0].signed_by.at_least",
        ),
        ("signed_by: { any: [] }", "policies[0].signed_by.any"),
        ("signed_by: empty", "signers.empty.keyless.identity"),
        ("signed_by: without", "signers.without.keyless"),
    ] {
        let signer = |name: &str, identity: &str| {
            format!("  {name}: {{ keyless: {{ issuer: google{identity} }} }}\n")
        };
        let mut text = format!("signers:\n{}", signer("a", ", identity: a@acme.test"));
        if policies.contains("empty") {
            text += &signer("empty", ", identity: ''");
        }
        if policies.contains("without") {
            text += &signer("without", "");
        }
        text += &format!("policies:\n  - {{ name: p, images: [HOST/**], {policies} }}\n");
        let site = Site::new(&text).await;
        for command in ["check", "serve"] {
            let mut program = Command::new(env!("CARGO_BIN_EXE_pullgate"));
            program.args([command, "--config", "pullgate.yaml"]);
            let output = program.current_dir(site.folder.path()).output();
            let output = output.expect("it starts");
            assert_eq!(output.status.code(), Some(64), "{command} {policies}");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.contains(&format!("{field}: ")), "{command}: {told}");
        }
    }
}
