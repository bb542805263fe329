//! What the program serves after it was started again while its registry is away, and what it does not.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use pullgate::oci::Digest;
use pullgate::sandbox::image::Package;
use pullgate::sandbox::registry::Misdeed;
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, attestation_tag, signature_tag};
use serde_json::json;

use super::{Gate, PATIENCE, RELEASES, Site, files, until};
use crate::support::{Answer, HOST, recipe, release};

const AWAY: &str = "upstream_unreachable";
const NO_EVIDENCE: &str = "evidence_unavailable";

fn is_stale(answer: &Answer) -> bool {
    let mut warnings = answer.headers.get_all("warning").iter();
    warnings.any(|warning| warning.as_bytes().starts_with(b"111 "))
}

/// Pulls all of an image.
async fn pull(site: &Site, gate: &Gate, repository: &str, package: &Package) {
    let answer = gate.manifest(repository, "v1").await;
    answer.admits(&package.manifest);
    assert!(!is_stale(&answer));
    site.kept("manifests", package.digest()).await;
    for blob in &package.blobs {
        let digest = Digest::sha256(blob);
        gate.blob(repository, digest).await.admits(blob);
        site.kept("blobs", digest).await;
    }
}

/// Waits until what is remembered of so many images is on disk; the files with their evidence.
async fn remembered(site: &Site, images: &[&Package]) -> Vec<PathBuf> {
    let folder = site.path("cache/evidence");
    let all = || Some(files(&folder)).filter(|records| records.len() == images.len());
    let records = until("the evidence is not kept", all).await;
    let digest_of = |record: &PathBuf| {
        let name = record.file_name().unwrap_or_default().to_string_lossy();
        let hex = name.split('.').next().unwrap_or_default();
        format!("sha256:{hex}").parse().expect("a digest")
    };
    let mut digests: Vec<Digest> = records.iter().map(digest_of).collect();
    digests.extend(images.iter().map(|image| image.digest()));
    site.hinted(&digests).await;
    records
}

#[tokio::test]
async fn what_was_admitted_outlives_a_kill_while_the_registry_is_away() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let unsigned = site.push("unsigned", "nobody has signed it");
    let gate = site.run();
    gate.says("unsigned", "v1", "unsigned").await;
    pull(&site, &gate, "app", &package).await;
    remembered(&site, &[&package]).await;

    site.registry.misbehave(Misdeed::DropConnection);
    let gate = site.restart(gate);
    // A blob first: the image that lists it is judged by what is remembered.
    for blob in &package.blobs {
        gate.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
    for _ in 0..2 {
        for reference in ["v1".to_owned(), package.digest().to_string()] {
            let answer = gate.manifest("app", reference).await;
            answer.admits(&package.manifest);
            assert!(is_stale(&answer), "{:?}", answer.headers);
        }
    }
    gate.manifest("app", "v2").await.cannot_tell(AWAY);
    let answer = gate.manifest("unsigned", unsigned.digest()).await;
    answer.cannot_tell(NO_EVIDENCE);

    // It is proven under the trust, and judged under the policies, that are in force.
    let ours = site.sigstore.trusted_root_json();
    site.rule(&RELEASES.replace("signed_by: release", "signed_by: mallory"));
    let gate = site.restart(gate);
    gate.manifest("app", "v1").await.cannot_tell(NO_EVIDENCE);
    site.rule(RELEASES);
    let others = Site::new(RELEASES).await.sigstore.trusted_root_json();
    site.write("root.json", &others);
    let gate = site.restart(gate);
    gate.manifest("app", "v1").await.cannot_tell(NO_EVIDENCE);
    site.write("root.json", &ours);
    let gate = site.restart(gate);
    gate.manifest("app", "v1").await.admits(&package.manifest);

    // And it is asked for anew as soon as that can be.
    site.registry.behave();
    let fresh = async || {
        let answer = gate.manifest("app", "v1").await;
        answer.admits(&package.manifest);
        !is_stale(&answer)
    };
    let begun = Instant::now();
    while !fresh().await {
        assert!(begun.elapsed() < PATIENCE, "it is not asked for anew");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

// An update while the old program still runs: the new one finds what the old one has left.
#[tokio::test]
async fn what_a_program_remembered_goes_to_the_one_that_takes_its_place() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let old = site.run();
    pull(&site, &old, "app", &package).await;
    remembered(&site, &[&package]).await;
    let new = site.run();
    site.registry.misbehave(Misdeed::DropConnection);
    new.manifest("app", "v1").await.cannot_tell(AWAY);
    drop(old);
    // That was a while ago. It looks every ten seconds.
    let store = fs::File::options()
        .write(true)
        .open(site.path("cache/hints.redb"));
    let aged = store.and_then(|store| store.set_modified(SystemTime::UNIX_EPOCH));
    aged.expect("what the old one has left");
    let begun = Instant::now();
    while new.manifest("app", "v1").await.status != http::StatusCode::OK {
        assert!(begun.elapsed() < PATIENCE, "it is not found");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = new.manifest("app", "v1").await;
    answer.admits(&package.manifest);
    assert!(is_stale(&answer));
}

// What is remembered says nothing while the registry can.
#[tokio::test]
async fn a_signature_that_is_gone_is_gone_after_a_kill() {
    let site = Site::new(RELEASES).await;
    let package = site.push("app", "signed once");
    let identity = release();
    let bundle = site
        .sigstore
        .sign_bundle(&package.descriptor(), &recipe(&identity));
    site.registry.put_package("app", &bundle);
    let gate = site.run();
    pull(&site, &gate, "app", &package).await;
    remembered(&site, &[&package]).await;
    site.registry.delete("app", &bundle.digest());
    let gate = site.restart(gate);
    gate.says("app", "v1", "unsigned").await;
    // Nor does it later: it is forgotten, which is on disk with what was learned after it.
    let later = site.released("later");
    pull(&site, &gate, "later", &later).await;
    site.hinted(&[later.digest()]).await;
    site.registry.misbehave(Misdeed::DropConnection);
    let gate = site.restart(gate);
    gate.manifest("app", "v1").await.cannot_tell(NO_EVIDENCE);
}

// THREATS C8: evidence on disk is as good as evidence of anybody.
#[tokio::test]
async fn evidence_that_somebody_has_edited_proves_nothing() {
    let site = Site::new(RELEASES).await;
    let package = site.released("app");
    let gate = site.run();
    pull(&site, &gate, "app", &package).await;
    let record = remembered(&site, &[&package]).await.remove(0);
    let kept = fs::read(&record).expect("a record");
    site.registry.misbehave(Misdeed::DropConnection);
    let mut gate = gate;
    let half = &kept[..kept.len() / 2];
    let mut bent = kept.clone();
    bent[kept.len() / 2] ^= 1;
    for edited in [half, &bent, b"", b"{}"] {
        drop(gate);
        fs::write(&record, edited).expect("writes");
        gate = site.run();
        gate.manifest("app", "v1").await.cannot_tell(NO_EVIDENCE);
    }
    drop(gate);
    fs::create_dir_all(record.parent().expect("a folder")).expect("a folder");
    fs::write(&record, &kept).expect("writes");
    let gate = site.run();
    gate.manifest("app", "v1").await.admits(&package.manifest);
}

// What was found beside the image is all that is needed to prove it again, whatever its format.
#[tokio::test]
async fn evidence_of_every_format_is_proven_again() {
    let policies = r#"
signers:
  release: { keyless: { issuer: github-actions, identity_glob: "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/v*" } }
  ours: { key: { file: ours.pem }, transparency_log: not_required }
policies:
  - { name: releases, images: [HOST/bundle, HOST/layer], signed_by: release }
  - { name: ours, images: [HOST/key], signed_by: ours }
  - name: built
    images: [HOST/attested, HOST/attached]
    attested: [{ predicate_type: slsaprovenance1, by: release, where: "predicate.level == 3" }]
"#;
    let site = Site::new(policies).await;
    let key = KeyPair::generate();
    site.write("ours.pem", &key.public_key_pem());
    let (identity, slsa) = (release(), "https://slsa.dev/provenance/v1");
    let (keyless, predicate) = (recipe(&identity), json!({"level": 3}));
    let logged = Recipe::keyless(&identity, Log::RekorV1);
    let (sigstore, registry) = (&site.sigstore, &site.registry);
    let images = ["bundle", "layer", "key", "attested", "attached"].map(|repository| {
        let package = site.push(repository, repository);
        let (digest, descriptor) = (package.digest(), package.descriptor());
        let evidence = match repository {
            "bundle" => sigstore.sign_bundle(&descriptor, &keyless),
            "layer" => signature_tag(&digest, vec![sigstore.sign_layer(&digest, HOST, &logged)]),
            "key" => {
                let by_key = Recipe::key(&key, Log::None);
                signature_tag(&digest, vec![sigstore.sign_layer(&digest, HOST, &by_key)])
            }
            "attested" => sigstore.attest_bundle(&descriptor, slsa, &predicate, &keyless),
            _ => {
                let layer = sigstore.attest_layer(&digest, slsa, &predicate, &logged);
                attestation_tag(&digest, vec![layer])
            }
        };
        registry.put_package(repository, &evidence);
        (repository, package)
    });
    let gate = site.run();
    for (repository, package) in &images {
        pull(&site, &gate, repository, package).await;
    }
    let packages = images.each_ref().map(|(_, package)| package);
    remembered(&site, &packages).await;
    site.registry.misbehave(Misdeed::DropConnection);
    let gate = site.restart(gate);
    for (repository, package) in &images {
        let answer = gate.manifest(repository, "v1").await;
        answer.admits(&package.manifest);
        assert!(is_stale(&answer), "{repository}");
    }
}
