//! Bundles.

use bytes::Bytes;
use pullgate::oci::Digest;
use pullgate::sandbox::image::Package;
use pullgate::sandbox::mutants::Thoroughness;
use pullgate::sandbox::sigstore::{
    BundleVersion, Evidence as Minted, KeyPair, KeyType, Log, Recipe, Signer,
};
use pullgate::verify::Evidence;

use crate::harness::{By, Format, THOROUGH, World};

fn read(document: &[u8]) -> Option<Evidence> {
    Some(Evidence::Bundle {
        source: Digest::sha256(document),
        json: Bytes::copy_from_slice(document),
    })
}

/// What is done to the recipe of a format, and to the evidence before it is written.
struct Making {
    name: &'static str,
    version: BundleVersion,
    recipe: fn(Signer<'_>) -> Recipe<'_>,
    /// What is signed: a statement, or the manifest itself.
    mint: fn(&World, &Package, &Recipe<'_>) -> Minted,
    change: fn(&mut Minted),
    floor: usize,
}

fn statement(world: &World, image: &Package, recipe: &Recipe<'_>) -> Minted {
    world.sigstore.signature(&image.digest(), recipe)
}

fn message(world: &World, image: &Package, recipe: &Recipe<'_>) -> Minted {
    world.sigstore.message_signature(&image.manifest, recipe)
}

fn unchanged(_: &mut Minted) {}

fn without_proof(evidence: &mut Minted) {
    for entry in &mut evidence.entries {
        entry.proof = None;
    }
}

fn without_promise(evidence: &mut Minted) {
    for entry in &mut evidence.entries {
        entry.promise = None;
    }
}

fn mint(world: &World, making: &Making, image: &Package, signer: Signer<'_>) -> Vec<u8> {
    let recipe = (making.recipe)(signer);
    let mut evidence = (making.mint)(world, image, &recipe);
    (making.change)(&mut evidence);
    evidence.bundle_of(making.version)
}

fn keyless(making: &Making, set: Thoroughness) {
    let world = World::new();
    let (signer, other) = (
        Signer::Keyless(&world.signer),
        Signer::Keyless(&world.other_signer),
    );
    format_of(&world, making, By::Login, (signer, other), Vec::new()).holds_out(&world, set);
}

fn certified(making: &Making, set: Thoroughness) {
    let world = World::new();
    let authority = &world.authority;
    let [signer, other] = ["release@acme.test", "mallory@acme.test"]
        .map(|subject| Signer::Certified { authority, subject });
    format_of(&world, making, By::Certificate, (signer, other), Vec::new()).holds_out(&world, set);
}

fn keyed(making: &Making, kind: KeyType, set: Thoroughness) {
    let world = World::new();
    let (key, other) = (KeyPair::of(kind), KeyPair::of(kind));
    let keys = vec![key.public_key_der()];
    let signers = (Signer::Key(&key), Signer::Key(&other));
    let format = format_of(&world, making, By::Key, signers, keys);
    format.holds_out(&world, set);
}

fn format_of<'a>(
    world: &World,
    making: &Making,
    by: By,
    (signer, other): (Signer<'_>, Signer<'_>),
    keys: Vec<Vec<u8>>,
) -> Format<'a> {
    Format {
        name: making.name,
        document: mint(world, making, &world.image, signer),
        donors: vec![
            mint(world, making, &world.other_image, signer),
            mint(world, making, &world.image, other),
        ],
        read: &read,
        by,
        keys,
        logless: false,
        floor: making.floor,
    }
}

const KEYLESS_V1: Making = Making {
    name: "bundle 0.3, keyless, dsse in Rekor v1",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: statement,
    change: unchanged,
    floor: 2000,
};
const KEYLESS_V1_INTOTO: Making = Making {
    name: "bundle 0.2, keyless, intoto in Rekor v1",
    version: BundleVersion::V0_2,
    recipe: |signer| Recipe::new(signer, Log::RekorV1Intoto),
    mint: statement,
    change: unchanged,
    floor: 2000,
};
const KEYLESS_PROMISED: Making = Making {
    name: "bundle 0.1, keyless, promise of Rekor v1",
    version: BundleVersion::V0_1,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: statement,
    change: without_proof,
    floor: 2000,
};
const KEYLESS_V1_TIMESTAMPED: Making = Making {
    name: "bundle 0.3, keyless, Rekor v1 and a timestamp",
    version: BundleVersion::V0_3Parameter,
    recipe: |signer| Recipe::new(signer, Log::RekorV1).timestamped(),
    mint: statement,
    change: unchanged,
    floor: 2000,
};
const KEYLESS_V1_PROVEN: Making = Making {
    name: "bundle 0.3, keyless, proof of Rekor v1 and a timestamp",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV1).timestamped(),
    mint: statement,
    change: without_promise,
    floor: 2000,
};
const KEYLESS_V2: Making = Making {
    name: "bundle 0.3, keyless, Rekor v2",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV2),
    mint: statement,
    change: unchanged,
    floor: 2000,
};
const KEYED_V1: Making = Making {
    name: "bundle 0.3, by key, Rekor v1",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: statement,
    change: unchanged,
    floor: 400,
};
const KEYED_V2: Making = Making {
    name: "bundle 0.3, by key, Rekor v2",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV2),
    mint: statement,
    change: unchanged,
    floor: 400,
};
const KEYED_PROMISED: Making = Making {
    name: "bundle 0.1, by key, promise of Rekor v1",
    version: BundleVersion::V0_1,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: statement,
    change: without_proof,
    floor: 400,
};
const KEYED_UNLOGGED: Making = Making {
    name: "bundle 0.3, by key, no log",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::None),
    mint: statement,
    change: unchanged,
    floor: 50,
};
const MESSAGE_KEYLESS_V1: Making = Making {
    name: "bundle 0.3, keyless, message in Rekor v1",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: message,
    change: unchanged,
    floor: 2000,
};
const MESSAGE_KEYLESS_V2: Making = Making {
    name: "bundle 0.3, keyless, message in Rekor v2",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV2),
    mint: message,
    change: unchanged,
    floor: 2000,
};
const MESSAGE_KEYED_V1: Making = Making {
    name: "bundle 0.3, by key, message in Rekor v1",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: message,
    change: unchanged,
    floor: 300,
};
const MESSAGE_KEYED_V2: Making = Making {
    name: "bundle 0.3, by key, message in Rekor v2",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::RekorV2),
    mint: message,
    change: unchanged,
    floor: 300,
};
const MESSAGE_KEYED_UNLOGGED: Making = Making {
    name: "bundle 0.3, by key, message, no log",
    version: BundleVersion::V0_3,
    recipe: |signer| Recipe::new(signer, Log::None),
    mint: message,
    change: unchanged,
    floor: 40,
};
const CERTIFIED_V1: Making = Making {
    name: "bundle 0.1, by certificate, Rekor v1",
    version: BundleVersion::V0_1,
    recipe: |signer| Recipe::new(signer, Log::RekorV1),
    mint: statement,
    change: unchanged,
    floor: 1000,
};
const CERTIFIED_V2: Making = Making {
    name: "bundle 0.2, by certificate, Rekor v2",
    version: BundleVersion::V0_2,
    recipe: |signer| Recipe::new(signer, Log::RekorV2),
    mint: statement,
    change: unchanged,
    floor: 1000,
};
const CERTIFIED_UNLOGGED: Making = Making {
    name: "bundle 0.1, by certificate, no log",
    version: BundleVersion::V0_1,
    recipe: |signer| Recipe::new(signer, Log::None),
    mint: statement,
    change: unchanged,
    floor: 500,
};

#[test]
fn messages_in_logs() {
    keyless(&MESSAGE_KEYLESS_V1, Thoroughness::Quick);
    keyless(&MESSAGE_KEYLESS_V2, Thoroughness::Quick);
    keyed(&MESSAGE_KEYED_V1, KeyType::P256, Thoroughness::Quick);
    keyed(&MESSAGE_KEYED_V2, KeyType::P256, Thoroughness::Quick);
}

#[test]
fn messages_without_log() {
    for kind in [KeyType::P256, KeyType::Rsa2048] {
        keyed(&MESSAGE_KEYED_UNLOGGED, kind, Thoroughness::Quick);
    }
}

#[test]
fn by_certificate_of_ones_own_authority() {
    certified(&CERTIFIED_V1, Thoroughness::Quick);
    certified(&CERTIFIED_V2, Thoroughness::Quick);
    certified(&CERTIFIED_UNLOGGED, Thoroughness::Quick);
}

#[test]
fn keyless_in_rekor_v1() {
    keyless(&KEYLESS_V1, Thoroughness::Quick);
}

#[test]
fn keyless_in_rekor_v1_as_intoto() {
    keyless(&KEYLESS_V1_INTOTO, Thoroughness::Quick);
}

#[test]
fn keyless_by_promise() {
    keyless(&KEYLESS_PROMISED, Thoroughness::Quick);
}

#[test]
fn keyless_in_rekor_v1_with_timestamp() {
    keyless(&KEYLESS_V1_TIMESTAMPED, Thoroughness::Quick);
}

#[test]
fn keyless_in_rekor_v1_with_timestamp_instead_of_promise() {
    keyless(&KEYLESS_V1_PROVEN, Thoroughness::Quick);
}

#[test]
fn keyless_in_rekor_v2() {
    keyless(&KEYLESS_V2, Thoroughness::Quick);
}

#[test]
fn by_key_in_rekor_v1() {
    keyed(&KEYED_V1, KeyType::P256, Thoroughness::Quick);
}

#[test]
fn by_key_by_promise() {
    keyed(&KEYED_PROMISED, KeyType::P256, Thoroughness::Quick);
}

#[test]
fn by_key_in_rekor_v2() {
    keyed(&KEYED_V2, KeyType::P256, Thoroughness::Quick);
}

#[test]
fn by_key_without_log() {
    for kind in [
        KeyType::P256,
        KeyType::P384,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        keyed(&KEYED_UNLOGGED, kind, Thoroughness::Quick);
    }
}

#[test]
#[ignore = "one bit of every byte: a minute"]
fn one_bit_of_every_byte_of_keyless_bundles() {
    for making in [
        &KEYLESS_V1,
        &KEYLESS_V1_INTOTO,
        &KEYLESS_PROMISED,
        &KEYLESS_V1_TIMESTAMPED,
        &KEYLESS_V1_PROVEN,
        &KEYLESS_V2,
        &MESSAGE_KEYLESS_V1,
        &MESSAGE_KEYLESS_V2,
    ] {
        keyless(making, THOROUGH);
    }
}

#[test]
#[ignore = "one bit of every byte: a minute"]
fn one_bit_of_every_byte_of_bundles_by_key() {
    for making in [&KEYED_V1, &KEYED_V2, &KEYED_UNLOGGED, &MESSAGE_KEYED_V1] {
        keyed(making, KeyType::P256, THOROUGH);
    }
    for making in [&CERTIFIED_V1, &CERTIFIED_V2, &CERTIFIED_UNLOGGED] {
        certified(making, THOROUGH);
    }
}
