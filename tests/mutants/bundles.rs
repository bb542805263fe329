//! Bundles: each version in each spelling, with each thing that is signed, by each kind of signer, in
//! each log.

use pullgate::sandbox::mutants::Thoroughness;
use pullgate::sandbox::sigstore::{BundleVersion, KeyType, Log};

use crate::harness::{By, THOROUGH, each_holds_out};
use crate::shape::{Carrier, Kept, Shape};

/// A statement and a message.
fn both(shape: Shape) -> [Shape; 2] {
    [shape, shape.message()]
}

fn keyless(version: BundleVersion) -> Vec<Shape> {
    let shape = |log| Shape::new(Carrier::Bundle(version), By::Login, log);
    let mut shapes = vec![shape(Log::RekorV1Intoto)];
    shapes.extend(both(shape(Log::RekorV1)));
    // The verifier takes nothing of version 0.1 that no log has promised.
    if version != BundleVersion::V0_1 {
        shapes.extend(both(shape(Log::RekorV2)));
        shapes.extend(both(shape(Log::None).timestamped()));
    }
    match version {
        // An entry that is promised and not shown is for this version only.
        BundleVersion::V0_1 => shapes.extend(both(shape(Log::RekorV1).keeping(Kept::Promise))),
        BundleVersion::V0_3 => shapes.extend([
            shape(Log::RekorV1).timestamped(),
            shape(Log::RekorV1).timestamped().keeping(Kept::Proof),
        ]),
        BundleVersion::V0_2 | BundleVersion::V0_3Parameter => {}
    }
    shapes
}

fn by_key(version: BundleVersion) -> Vec<Shape> {
    let shape = |log| Shape::new(Carrier::Bundle(version), By::Key, log);
    let mut shapes = vec![shape(Log::RekorV1Intoto)];
    shapes.extend(both(shape(Log::RekorV1)));
    shapes.extend(both(shape(Log::RekorV2)));
    shapes.extend(both(shape(Log::None)));
    shapes.extend(both(shape(Log::None).timestamped()));
    if version == BundleVersion::V0_1 {
        shapes.extend(both(shape(Log::RekorV1).keeping(Kept::Promise)));
    }
    shapes
}

/// What an authority of one's own certifies needs its chain, which version 0.3 has no place for.
fn by_certificate(version: BundleVersion) -> Vec<Shape> {
    let shape = |log| Shape::new(Carrier::Bundle(version), By::Certificate, log);
    [Log::RekorV1, Log::RekorV2, Log::None]
        .into_iter()
        .flat_map(|log| both(shape(log)))
        .collect()
}

#[test]
fn keyless_of_version_0_1() {
    each_holds_out(&keyless(BundleVersion::V0_1), Thoroughness::Quick);
}

#[test]
fn keyless_of_version_0_2() {
    each_holds_out(&keyless(BundleVersion::V0_2), Thoroughness::Quick);
}

#[test]
fn keyless_of_version_0_3() {
    each_holds_out(&keyless(BundleVersion::V0_3), Thoroughness::Quick);
}

#[test]
fn keyless_of_version_0_3_as_it_was_spelled_first() {
    each_holds_out(&keyless(BundleVersion::V0_3Parameter), Thoroughness::Quick);
}

#[test]
fn by_key_of_every_version() {
    for version in BundleVersion::ALL {
        each_holds_out(&by_key(version), Thoroughness::Quick);
    }
}

// What a signature is over does not depend on the key, but how it is written does.
#[test]
fn by_every_kind_of_key() {
    let kinds = [
        KeyType::P384,
        KeyType::P521,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ];
    for kind in kinds {
        let shape = Shape::new(Carrier::Bundle(BundleVersion::V0_3), By::Key, Log::None);
        each_holds_out(&[shape.signed_with(kind)], Thoroughness::Quick);
    }
    // A message is signed over the hash by which the image is named.
    let shape = Shape::new(Carrier::Bundle(BundleVersion::V0_3), By::Key, Log::None);
    let shape = shape.message().signed_with(KeyType::Rsa2048);
    each_holds_out(&[shape], Thoroughness::Quick);
}

#[test]
fn by_certificate_of_ones_own_authority() {
    for version in [BundleVersion::V0_1, BundleVersion::V0_2] {
        each_holds_out(&by_certificate(version), Thoroughness::Quick);
    }
}

#[test]
#[ignore = "one bit of every byte: minutes"]
fn one_bit_of_every_byte_of_keyless_bundles() {
    for version in BundleVersion::ALL {
        each_holds_out(&keyless(version), THOROUGH);
    }
}

#[test]
#[ignore = "one bit of every byte: minutes"]
fn one_bit_of_every_byte_of_bundles_by_key() {
    for version in BundleVersion::ALL {
        each_holds_out(&by_key(version), THOROUGH);
    }
    for version in [BundleVersion::V0_1, BundleVersion::V0_2] {
        each_holds_out(&by_certificate(version), THOROUGH);
    }
}
