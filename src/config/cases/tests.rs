use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::tests::{CHECKS, now, printed};
use crate::verify::Format;

const CONFIGURATION: &str = "upstreams: { registry.acme.test: {} }\npolicies: [policy.yaml]\n";
const POLICY: &str = "signers: { ops: { keyless: { issuer: google, identity: ops@acme.test } } }\n\
     policies: [{ name: all, images: ['**'], signed_by: ops }]\n";

/// Reads `text` as a file of tests, with `files` beside it.
fn read(text: &str, files: &[(&str, &str)]) -> Result<Vec<Case>, String> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("tests.yaml");
    let all = [
        ("pullgate.yaml", CONFIGURATION),
        ("policy.yaml", POLICY),
        ("tests.yaml", text),
    ];
    for (name, text) in all.iter().chain(files) {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let loaded = crate::config::load(&folder.path().join("pullgate.yaml"), &CHECKS, now());
    let settings = loaded.expect("loads").settings;
    load_cases(&path, &settings, &CHECKS).map_err(|problems| printed(&problems, folder.path()))
}

fn errors(text: &str) -> String {
    read(text, &[]).expect_err("is refused")
}

#[test]
fn a_recorded_file_and_the_same_by_hand_are_one() {
    let facts = r#"{ "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "kind": "index", "tagged": true, "recorded_at": "2026-11-01T12:00:00Z",
        "signatures": [{ "keyless": { "issuer": "google", "identity": "ops@acme.test" },
                         "log": "promised", "signed_at": "2026-11-01T11:00:00Z" }],
        "lists": [{ "rejected": [{ "why": "broken" }] }] }"#;
    let by_hand = format!(
        "tests: [{{ name: one, image: 'registry.acme.test/app:v1', expect: admitted, facts: {facts} }}]"
    );
    let by_hand = read(&by_hand, &[]).expect("reads");
    let recorded = read(
        "tests: [{ name: one, image: 'registry.acme.test/app:v1', expect: admitted, \
         facts: facts.json }]",
        &[("facts.json", facts)],
    )
    .expect("reads");
    let (one, two) = (&by_hand[0], &recorded[0]);
    assert_eq!(format!("{:?}", one.subject), format!("{:?}", two.subject));
    assert_eq!(one.now, two.now);
    assert_eq!(
        one.now.map(|now| now.to_string()).as_deref(),
        Some("2026-11-01T12:00:00Z")
    );
    assert_eq!(one.subject.facts.proven.len(), 1);
    let children = one.subject.children.as_ref().expect("was looked at");
    assert_eq!(children[0].facts.rejected[0].why, "broken");
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_mend() {
    let told = errors(
        "tests:\n\
         - name: one\n  image: elsewhere.test/app:v1\n  expect: perhaps\n\
         - name: two\n  image: registry.acme.test/app:v1\n  facts: missing.json\n  expect: denied\n\
         - name: three\n  image: registry.acme.test/app:v1\n  expect: { reason: admitted, policy: all }\n",
    );
    for line in [
        "tests.yaml:3: tests[0].image",
        "tests.yaml:4: tests[0].expect",
        "tests.yaml:7: tests[1].facts: there is no file",
        "tests.yaml:11: tests[2].expect.policy: an admitted image is not refused",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
}

#[test]
fn a_file_without_tests_is_no_success() {
    assert!(errors("tests: []\n").contains("the list is empty"));
    assert!(errors("").contains("there is no test here"));
}

#[test]
fn facts_that_nest_without_end_are_refused() {
    let mut facts = "{}".to_owned();
    for _ in 0..12 {
        facts = format!("{{ listed_by: [{facts}] }}");
    }
    let told = errors(&format!(
        "tests: [{{ name: deep, image: 'registry.acme.test/app:v1', expect: denied, facts: {facts} }}]"
    ));
    assert!(told.contains("deep in one another"), "{told}");
}

#[test]
fn predicates_are_json_and_nothing_else() {
    let attested = |predicate: &str| {
        format!(
            "tests: [{{ name: one, image: 'registry.acme.test/app:v1', expect: denied, facts: \
             {{ attestations: [{{ predicate_type: slsaprovenance1, key: {{ fingerprint: \
             'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}, \
             predicate: {predicate} }}] }} }}]"
        )
    };
    let cases = read(&attested("{ json: '{\"level\": 3}' }"), &[]).expect("reads");
    assert_eq!(cases[0].subject.facts.proven.len(), 1);
    assert!(errors(&attested("{ json: 'level: 3' }")).contains("this is not JSON"));
    assert!(errors(&attested("{ file: missing.json }")).contains("missing.json"));
}

#[test]
fn an_openpgp_key_is_told_by_its_fingerprint() {
    let signed = |fingerprint: &str| {
        format!(
            "tests: [{{ name: one, image: 'registry.acme.test/app:v1', expect: denied, facts: \
             {{ signatures: [{{ gpg: {{ fingerprint: '{fingerprint}' }}, docker_reference: \
             'registry.acme.test/app:v1' }}] }} }}]"
        )
    };
    let cases = read(&signed(&"ab".repeat(20)), &[]).expect("reads");
    let subject = &cases[0].subject;
    let fact = &subject.facts.proven[0];
    assert_eq!(
        fact.signer.to_string(),
        format!("the OpenPGP key {}", "AB".repeat(20))
    );
    assert_eq!(fact.format, Format::SimpleSigning);
    let asked = subject.asked.as_ref().expect("is asked for");
    assert_eq!(asked.to_string(), "registry.acme.test/app:v1");
    assert!(errors(&signed("ab cd")).contains("no fingerprint of an OpenPGP key"));
}
