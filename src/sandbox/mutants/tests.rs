//! The walk reaches what is packed into a document, and changes one place at a time.

use std::collections::BTreeSet;

use crate::sandbox::sigstore::{Identity, Log, Recipe, Sigstore};

use super::*;

fn changes(document: &str, donors: &[&str]) -> Vec<String> {
    let donors: Vec<_> = donors.iter().map(|donor| donor.as_bytes()).collect();
    of_json(document.as_bytes(), &donors, Thoroughness::Quick)
        .into_iter()
        .map(|mutant| {
            format!(
                "{} => {}",
                mutant.change,
                String::from_utf8_lossy(&mutant.document)
            )
        })
        .collect()
}

#[test]
fn members_are_removed_duplicated_and_swapped() {
    let changes = changes(r#"{"a":1}"#, &[r#"{"a":2,"b":3}"#]);
    for expected in [
        r#"a: removed => {}"#,
        r#"a: null => {"a":null}"#,
        r#"a: twice => {"a":1,"a":1}"#,
        r#"a: swapped => {"a":2}"#,
        r#"a: twice, the other's first => {"a":2,"a":1}"#,
        r#"a: twice, the other's last => {"a":1,"a":2}"#,
        r#"a: one more => {"a":2}"#,
        r#"b: added => {"a":1,"b":3}"#,
    ] {
        assert!(
            changes.iter().any(|change| change == expected),
            "{expected}: {changes:#?}"
        );
    }
}

#[test]
fn what_is_packed_is_reached() {
    // SEQUENCE { OCTET STRING { INTEGER 5 } }, in base64 in JSON in base64 in JSON.
    let inner = base64_of(br#"{"der":"MAUEAwIBBQMAAAAAAAA="}"#);
    let outer = format!(r#"{{"body":"{inner}","note":"origin\n12\n"}}"#);
    let changes = changes(&outer, &[]);
    assert!(
        changes
            .iter()
            .any(|change| change.starts_with("body/base64/json.der/base64"))
    );
    assert!(
        changes
            .iter()
            .any(|change| change.starts_with("note/line[1]: one more"))
    );
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

// What is found in a real bundle: each extension of the certificate, its signature, the log
// entry's own certificate, the timestamp's signed attributes.
#[test]
fn every_piece_of_a_bundle_is_reached() {
    let sigstore = Sigstore::new(crate::clock::Clock::system().now());
    let identity = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let image = crate::oci::Digest::sha256(b"an image");
    let recipe = Recipe::keyless(&identity, Log::RekorV2);
    let bundle = sigstore.signature(&image, &recipe).bundle();
    let mutants = of_json(&bundle, &[], Thoroughness::Quick);
    let extension = "verificationMaterial.certificate.rawBytes/base64/der.0.7.0.";
    let extensions: BTreeSet<_> = mutants
        .iter()
        .filter_map(|mutant| {
            mutant
                .change
                .strip_prefix(extension)?
                .split([':', '.'])
                .next()
        })
        .collect();
    assert!(extensions.len() >= 26, "{extensions:?}");
    for place in [
        "verificationMaterial.certificate.rawBytes/base64/der.2",
        "verificationMaterial.tlogEntries[0].canonicalizedBody/base64/json.spec.hashedRekordV002.\
         signature.verifier.x509Certificate.rawBytes/base64/der.0.7",
        "verificationMaterial.tlogEntries[0].inclusionProof.hashes[0]/base64",
        "verificationMaterial.tlogEntries[0].inclusionProof.checkpoint.envelope/line[2]",
        "verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp/\
         base64/der.1.1.0.3.0.3",
        "dsseEnvelope.payload/base64/json.subject[0].digest.sha256",
        "dsseEnvelope.signatures[0].sig/base64",
    ] {
        assert!(
            mutants
                .iter()
                .any(|mutant| mutant.change.starts_with(place)),
            "{place} is not reached"
        );
    }
    // Every mutant is another document, and none is the one that it was made of.
    let documents: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.document).collect();
    assert!(!documents.contains(&bundle));
    assert!(
        documents.len() * 100 > mutants.len() * 95,
        "too many are alike"
    );
}

#[test]
fn thorough_is_more_and_repeatable() {
    let document = br#"{"a":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
    let mutants = |thoroughness| of_json(document, &[], thoroughness);
    let thorough = mutants(Thoroughness::Thorough { seed: 1 });
    assert!(thorough.len() > mutants(Thoroughness::Quick).len());
    assert_eq!(thorough, mutants(Thoroughness::Thorough { seed: 1 }));
    assert_ne!(thorough, mutants(Thoroughness::Thorough { seed: 2 }));
}
