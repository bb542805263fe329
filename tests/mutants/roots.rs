//! Trusted roots: under a mutated one, evidence holds only where the place is not what it rests
//! on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use pullgate::oci::Digest;
use pullgate::sandbox::mutants::{self, Thoroughness};
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Signer};
use pullgate::verify::{self, Evidence, Fact, Material, PublicKey};

use crate::harness::{World, root_of};
use crate::matrix::{Matrix, Outcome, Piece};

/// Where a root can change without any of the evidence below losing its ground, and why. All else
/// in it is what some of that evidence rests on, or makes the root unreadable.
const NEUTRAL: &[(&str, &str)] = &[
    ("mediaType", "the version of the document"),
    (".baseUrl", "where a service is reached"),
    (".uri", "where a service is reached"),
    (".subject", "what people call an authority"),
    (".hashAlgorithm", "there is one"),
    (".keyDetails", "the key says of itself what it is"),
    ("validFor: removed", "no bound is a wider one"),
    ("validFor: null", "no bound is a wider one"),
    ("validFor.start", "another start before the signature"),
    ("validFor: swapped", "another start before the signature"),
    ("[0]: twice", "trusted once is enough"),
    ("]: the other's", "more that is trusted"),
    (
        "]: changes places with the next",
        "their order means nothing",
    ),
    (
        "tlogs[1].logId.keyId/base64: bit 0 of byte",
        "a checkpoint names four bytes of it",
    ),
    (
        "tlogs[2].logId.keyId/base64: bit 0 of byte",
        "a checkpoint names four bytes of it",
    ),
    (
        "certificates[1]",
        "a root above an authority that is trusted itself",
    ),
    (
        "certificateAuthorities[0].certChain.certificates[0].rawBytes/base64/der.0.1",
        "an authority in a trust root counts by its name, key and dates: not its number,",
    ),
    (
        "certificateAuthorities[0].certChain.certificates[0].rawBytes/base64/der.0.3",
        "not its issuer,",
    ),
    (
        "certificateAuthorities[0].certChain.certificates[0].rawBytes/base64/der.0.4.",
        "not the very dates, as long as they lie around the signature's,",
    ),
    (
        "certificateAuthorities[0].certChain.certificates[0].rawBytes/base64/der.0.4: swapped",
        "the same,",
    ),
    (
        "certificateAuthorities[0].certChain.certificates[0].rawBytes/base64/der.0.7",
        "not its extensions,",
    ),
    (
        "certificateAuthorities[0].certChain.certificates[0].rawBytes/base64/der.2",
        "not what its issuer signed",
    ),
    (
        ": without all of its padding",
        "base64 without its padding is the same bytes",
    ),
];

/// What keys need nothing of.
const FOR_LOGINS: [&str; 2] = ["certificateAuthorities", "ctlogs"];

#[test]
fn keyless_evidence_needs_what_it_rests_on() {
    let world = World::new();
    let signer = Signer::Keyless(&world.signer);
    each_place_is_needed(&world, signer, &Material::default(), &[]);
}

// A key's signature holds without; what vouches for it does not.
#[test]
fn evidence_by_key_needs_what_it_rests_on() {
    let world = World::new();
    let key = KeyPair::generate();
    let material = Material {
        keys: vec![PublicKey::from_spki(&key.public_key_der())],
        ..Material::default()
    };
    each_place_is_needed(&world, Signer::Key(&key), &material, &FOR_LOGINS);
}

/// Tries every mutant of the trusted root, but for what is in these parts of it.
fn each_place_is_needed(world: &World, signer: Signer<'_>, material: &Material, but: &[&str]) {
    let document = world.sigstore.trusted_root_json();
    let donor = world.other_sigstore.trusted_root_json();
    let evidence = [Log::RekorV1, Log::RekorV2, Log::RekorV2Shard].map(|log| {
        let recipe = Recipe::new(signer, log);
        let bundle = world.sigstore.signature(&world.digest(), &recipe).bundle();
        Evidence::Bundle {
            source: Digest::sha256(&bundle),
            json: Bytes::from(bundle),
        }
    });
    // What each piece of evidence proves, where a root vouches for all of it.
    let proven = |root: &[u8]| -> Option<Vec<Vec<Fact>>> {
        let root = root_of(std::str::from_utf8(root).ok()?)?;
        let material = Material {
            roots: vec![root],
            ..material.clone()
        };
        let facts = evidence.iter().map(|evidence| {
            let facts = verify::prove(evidence, &world.digest(), &material, world.now).ok();
            facts.filter(|facts| facts.iter().all(|fact| fact.root.is_some()))
        });
        facts.collect()
    };
    let sound = proven(document.as_bytes()).expect("all are sound");
    let donors = [donor.as_bytes()];
    let mutants = mutants::of_json(document.as_bytes(), &donors, Thoroughness::Quick);
    let needed = |change: &str| !but.iter().any(|part| change.starts_with(part));
    let mut matrix = Matrix::new(pieces(needed));
    let mut bad = Vec::new();
    let mut neutral = 0;
    for mutant in mutants.iter().filter(|mutant| needed(&mutant.change)) {
        let change = &mutant.change;
        match catch_unwind(AssertUnwindSafe(|| proven(&mutant.document))) {
            Ok(None) => matrix.count(change, Outcome::Refused),
            Ok(Some(facts)) => {
                assert_eq!(facts, sound, "{change}");
                if NEUTRAL.iter().any(|(place, _)| change.contains(place)) {
                    neutral += 1;
                    matrix.count(change, Outcome::Neutral);
                } else {
                    bad.push(change.clone());
                }
            }
            Err(_) => bad.push(format!("{change}: panicked")),
        }
    }
    println!(
        "trusted root: {} mutants, {neutral} neutral\n{}",
        mutants.len(),
        matrix.table()
    );
    bad.extend(matrix.gaps("trusted root"));
    assert!(bad.is_empty(), "{}:\n{}", bad.len(), bad.join("\n"));
}

/// The pieces of a trusted root in such places: whom it trusts, and by which keys and certificates.
fn pieces(needed: impl Fn(&str) -> bool) -> Vec<Piece> {
    let key = |name: String, whole: &str| {
        let places = ["", ".publicKey", ".publicKey.rawBytes"];
        Piece::new(name, &places.map(|part| format!("{whole}{part}")))
    };
    let certificate = |name: &str, whole: &str, number: usize| {
        let one = format!("{whole}.certChain.certificates[{number}]");
        Piece::new(name, &[format!("{one}.rawBytes"), one])
    };
    let logs = (0..3).map(|log| key(format!("log {log}"), &format!("tlogs[{log}]")));
    let ids = (0..3).map(|log| {
        let whole = format!("tlogs[{log}].logId");
        Piece::new(
            format!("log {log}, its ID"),
            &[format!("{whole}.keyId"), whole],
        )
    });
    let others = [
        key("certificate log".to_owned(), "ctlogs[0]"),
        Piece::new(
            "certificate log, its ID",
            &["ctlogs[0].logId", "ctlogs[0].logId.keyId"],
        ),
        Piece::new("certificate authority", &["certificateAuthorities[0]"]),
        certificate("its certificate", "certificateAuthorities[0]", 0),
        certificate("the one above it", "certificateAuthorities[0]", 1),
        Piece::new("timestamp authority", &["timestampAuthorities[0]"]),
        certificate("the timestamps' certificate", "timestampAuthorities[0]", 0),
    ];
    let pieces = logs.chain(ids).chain(others);
    pieces.filter(|piece| piece.stands(&needed)).collect()
}
