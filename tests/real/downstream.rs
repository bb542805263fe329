//! What else people do with a registry, done through the gate: verify for themselves, sign
//! later, and watch.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::clients::Client;
use crate::clients::Route;
use crate::clients::Skopeo;
use crate::harness::Site;
use crate::harness::catalogue::OURS;
use crate::harness::cosign::Signing;
use crate::harness::process::command;
use crate::harness::process::wait_until;
use crate::harness::web;
use crate::harness::world;

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn cosign_verifies_through_the_gate() {
    for site in &world().sites {
        for entry in site.catalogue.served() {
            let gate = site.gate.address();
            let image = format!("{gate}/{}@{}", entry.repository, entry.image.digest);
            let judged = world().cosign.verify(entry.signing, &image);
            assert!(judged.success, "{image}: {}", judged.said);
        }
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn evidence_passes_byte_for_byte() {
    for site in &world().sites {
        for entry in site.catalogue.served() {
            let tag = entry.image.digest.replace(':', "-");
            let evidence = if entry.signing.is_bundle() {
                let referrers = format!("referrers/{}", entry.image.digest);
                // The gate has the referrers API even where the registry has only its fallback.
                let original = match site.name {
                    "ferro" => referrers.clone(),
                    _ => format!("manifests/{tag}"),
                };
                let passed = fetch(site.gate.address(), &entry.repository, &referrers);
                let passed = named(&passed, "manifests", "manifests");
                let listed = fetch(&site.front.host(), &entry.repository, &original);
                assert_eq!(passed, named(&listed, "manifests", "manifests"));
                passed
            } else {
                vec![format!("manifests/{tag}.sig")]
            };
            assert!(compare(site, &entry.repository, evidence) >= 2);
        }
    }
}

/// Compares documents at the registry and through the gate, and all that they name; answers how
/// many there were.
fn compare(site: &Site, repository: &str, mut waiting: Vec<String>) -> usize {
    let mut compared = 0;
    while let Some(part) = waiting.pop() {
        let passed = fetch(site.gate.address(), repository, &part);
        let original = fetch(&site.front.host(), repository, &part);
        assert_eq!(passed, original, "{repository}/{part}");
        compared += 1;
        if part.starts_with("manifests/") {
            waiting.extend(named(&passed, "layers", "blobs"));
        }
    }
    compared
}

fn fetch(host: &str, repository: &str, part: &str) -> Vec<u8> {
    web::fetch(&format!("http://{host}/v2/{repository}/{part}"))
}

/// What a manifest or an index names under `key`, as paths under `endpoint`.
fn named(document: &[u8], key: &str, endpoint: &str) -> Vec<String> {
    let document: Value = serde_json::from_slice(document).expect("JSON");
    let descriptors = document[key].as_array().into_iter().flatten();
    descriptors
        .filter_map(|descriptor| descriptor["digest"].as_str())
        .map(|digest| format!("{endpoint}/{digest}"))
        .collect()
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn an_image_that_is_signed_later_comes_out_without_a_flush() {
    let world = world();
    let client = Skopeo::set_up(world, Route::Gate);
    for site in &world.sites {
        let entry = site.catalogue.spare();
        assert!(
            client.pull(entry).is_err(),
            "{} is unsigned",
            entry.reference
        );
        let host = site.front.host();
        let name = format!("{host}/{}@{}", entry.repository, entry.image.digest);
        world.cosign.sign(Signing::Keyless(OURS), &name);
        assert!(
            wait_until(|| client.pull(entry).is_ok()),
            "{} is still refused",
            entry.reference
        );
        client.compare(entry);
        site.front.forget();
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn promtool_finds_no_fault_in_the_metrics() {
    let world = world();
    let client = Skopeo::set_up(world, Route::Gate);
    for site in &world.sites {
        let served = site.catalogue.served().next().expect("a served image");
        let (refused, _) = site.catalogue.refused().next().expect("a refused image");
        client.pull(served).expect("a signed image");
        client.pull(refused).expect_err("an unsigned image");
        let metrics = site.gate.metrics();
        assert!(metrics.contains("pullgate_decisions_total{"), "{metrics}");
        let mut promtool = command("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("promtool");
        let mut input = promtool.stdin.take().expect("its input");
        input.write_all(metrics.as_bytes()).expect("its input");
        drop(input);
        let verdict = promtool.wait_with_output().expect("its verdict");
        let said = String::from_utf8_lossy(&verdict.stderr).into_owned();
        assert!(verdict.status.success() && said.is_empty(), "{said}");
    }
}
