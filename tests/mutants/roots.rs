//! Trusted roots: under a mutated one, evidence holds only where the place is not what it rests
//! on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use pullgate::oci::Digest;
use pullgate::sandbox::mutants::{self, Thoroughness};
use pullgate::sandbox::sigstore::{Log, Recipe, Sigstore};
use pullgate::verify::{self, Evidence, Material};

use crate::harness::{World, root_of};

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
    ("tlogs[2]", "another shard, which has none of this evidence"),
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

#[test]
fn evidence_needs_what_it_rests_on() {
    let world = World::new();
    let foreign = Sigstore::new(world.sigstore_time());
    let document = world.sigstore.trusted_root_json();
    let donor = foreign.trusted_root_json();
    let evidence: Vec<_> = [Log::RekorV1, Log::RekorV2]
        .into_iter()
        .map(|log| {
            let recipe = Recipe::keyless(&world.signer, log);
            world.sigstore.signature(&world.digest(), &recipe).bundle()
        })
        .collect();
    let proven = |root: &[u8]| -> Option<Vec<_>> {
        let root = root_of(std::str::from_utf8(root).ok()?)?;
        let material = Material {
            roots: vec![root],
            ..Material::default()
        };
        let facts = evidence.iter().map(|bundle| {
            let evidence = Evidence::Bundle {
                source: Digest::sha256(bundle),
                json: Bytes::copy_from_slice(bundle),
            };
            verify::prove(&evidence, &world.digest(), &material, world.now).ok()
        });
        facts.collect()
    };
    let sound = proven(document.as_bytes()).expect("both are sound");
    let donors = [donor.as_bytes()];
    let mutants = mutants::of_json(document.as_bytes(), &donors, Thoroughness::Quick);
    let mut bad = Vec::new();
    let mut neutral = 0;
    for mutant in &mutants {
        let outcome = catch_unwind(AssertUnwindSafe(|| proven(&mutant.document)));
        match outcome {
            Ok(None) => {}
            Ok(Some(facts)) => {
                assert_eq!(facts, sound, "{}", mutant.change);
                if NEUTRAL
                    .iter()
                    .any(|(place, _)| mutant.change.contains(place))
                {
                    neutral += 1;
                } else {
                    bad.push(mutant.change.clone());
                }
            }
            Err(_) => bad.push(format!("{}: panicked", mutant.change)),
        }
    }
    println!("trusted root: {} mutants, {neutral} neutral", mutants.len());
    assert!(
        bad.is_empty(),
        "{} got through:\n{}",
        bad.len(),
        bad.join("\n")
    );
    assert!(mutants.len() >= 1000, "only {} mutants", mutants.len());
}
