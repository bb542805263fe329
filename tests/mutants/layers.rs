//! Layers of the old format, with the annotations that hold their signatures.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pullgate::oci::{Descriptor, Digest, media_type};
use pullgate::sandbox::image::{Blob, Package};
use pullgate::sandbox::mutants::Thoroughness;
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Signer};
use pullgate::verify::{AttLayer, Evidence, SigLayer};
use serde_json::{Value, json};

use crate::harness::{By, Format, THOROUGH, World};

/// A layer and the annotations of its descriptor as one JSON document, so that they can be
/// mutated.
fn document(layer: &Blob) -> Vec<u8> {
    let mut document = json!({"payload": STANDARD.encode(&layer.bytes)});
    for (name, value) in &layer.annotations {
        document[name] = value.as_str().into();
    }
    document.to_string().into_bytes()
}

/// What the registry client would make of it.
fn descriptor(document: &[u8], media_type: &str) -> Option<(Descriptor, Bytes)> {
    let mut annotations: BTreeMap<String, Value> = serde_json::from_slice(document).ok()?;
    let payload = annotations.remove("payload")?;
    let payload = STANDARD.decode(payload.as_str()?).ok()?;
    let descriptor = json!({
        "mediaType": media_type,
        "digest": Digest::sha256(&payload).to_string(),
        "size": payload.len(),
        "annotations": annotations,
    });
    Some((
        serde_json::from_value(descriptor).ok()?,
        Bytes::from(payload),
    ))
}

fn read_signature(document: &[u8]) -> Option<Evidence> {
    let (descriptor, payload) = descriptor(document, media_type::SIMPLE_SIGNING)?;
    SigLayer::from_descriptor(&descriptor, payload).map(Evidence::SigLayer)
}

fn read_attestation(document: &[u8]) -> Option<Evidence> {
    let (descriptor, envelope) = descriptor(document, media_type::DSSE_ENVELOPE)?;
    let layer = AttLayer::from_descriptor(&descriptor, envelope);
    Some(Evidence::AttLayer(layer))
}

/// One of the two formats.
struct Kind {
    mint: fn(&World, &Package, &Recipe<'_>) -> Blob,
    read: &'static dyn Fn(&[u8]) -> Option<Evidence>,
}

const SIGNATURE: Kind = Kind {
    mint: |world, image, recipe| {
        let reference = "registry.sandbox.test/app";
        world
            .sigstore
            .sign_layer(&image.digest(), reference, recipe)
    },
    read: &read_signature,
};

const ATTESTATION: Kind = Kind {
    mint: |world, image, recipe| {
        let predicate = json!({"builder": {"id": "https://acme.test/build"}});
        let kind = "https://slsa.dev/provenance/v1";
        world
            .sigstore
            .attest_layer(&image.digest(), kind, &predicate, recipe)
    },
    read: &read_attestation,
};

/// How a layer is made, and of whom.
struct Making {
    name: &'static str,
    kind: &'static Kind,
    recipe: fn(Signer<'_>) -> Recipe<'_>,
    by: By,
    floor: usize,
}

fn try_all(making: &Making, set: Thoroughness) {
    let world = World::new();
    let (key, other_key) = (KeyPair::generate(), KeyPair::generate());
    let authority = &world.authority;
    let [certified, other_certified] = ["release@acme.test", "mallory@acme.test"]
        .map(|subject| Signer::Certified { authority, subject });
    let (signer, other) = match making.by {
        By::Key => (Signer::Key(&key), Signer::Key(&other_key)),
        By::Certificate => (certified, other_certified),
        By::Login => (
            Signer::Keyless(&world.signer),
            Signer::Keyless(&world.other_signer),
        ),
    };
    let mint = |image, signer| {
        let recipe = (making.recipe)(signer);
        document(&(making.kind.mint)(&world, image, &recipe))
    };
    let format = Format {
        name: making.name,
        document: mint(&world.image, signer),
        donors: vec![mint(&world.other_image, signer), mint(&world.image, other)],
        read: making.kind.read,
        by: making.by,
        keys: match making.by {
            By::Key => vec![key.public_key_der()],
            By::Login | By::Certificate => Vec::new(),
        },
        logless: making.name.contains("no log"),
        floor: making.floor,
    };
    format.holds_out(&world, set);
}

fn logged(signer: Signer<'_>) -> Recipe<'_> {
    Recipe::new(signer, Log::RekorV1)
}

fn unlogged(signer: Signer<'_>) -> Recipe<'_> {
    Recipe::new(signer, Log::None)
}

fn logged_and_timestamped(signer: Signer<'_>) -> Recipe<'_> {
    logged(signer).timestamped()
}

fn timestamped(signer: Signer<'_>) -> Recipe<'_> {
    unlogged(signer).timestamped()
}

/// One line for each: the name, the format, how it is minted, by whom, how many mutants at least.
type Row = (
    &'static str,
    &'static Kind,
    fn(Signer<'_>) -> Recipe<'_>,
    usize,
);

const BY_LOGIN: &[Row] = &[
    ("layer, keyless, promise", &SIGNATURE, logged, 2000),
    (
        "layer, keyless, promise and a timestamp",
        &SIGNATURE,
        logged_and_timestamped,
        2000,
    ),
    (
        "layer, keyless, timestamp, no log",
        &SIGNATURE,
        timestamped,
        2000,
    ),
    (
        "layer of an attestation, keyless, promise",
        &ATTESTATION,
        logged,
        2000,
    ),
    (
        "layer of an attestation, keyless, promise and a timestamp",
        &ATTESTATION,
        logged_and_timestamped,
        2000,
    ),
    (
        "layer of an attestation, keyless, timestamp, no log",
        &ATTESTATION,
        timestamped,
        2000,
    ),
];

const BY_KEY: &[Row] = &[
    ("layer, by key, promise", &SIGNATURE, logged, 200),
    ("layer, by key, no log", &SIGNATURE, unlogged, 50),
    (
        "layer, by key, promise and a timestamp",
        &SIGNATURE,
        logged_and_timestamped,
        400,
    ),
    (
        "layer, by key, timestamp, no log",
        &SIGNATURE,
        timestamped,
        200,
    ),
    (
        "layer of an attestation, by key, promise",
        &ATTESTATION,
        logged,
        200,
    ),
    (
        "layer of an attestation, by key, no log",
        &ATTESTATION,
        unlogged,
        50,
    ),
    (
        "layer of an attestation, by key, timestamp, no log",
        &ATTESTATION,
        timestamped,
        200,
    ),
];

const BY_CERTIFICATE: &[Row] = &[
    ("layer, by certificate, promise", &SIGNATURE, logged, 500),
    ("layer, by certificate, no log", &SIGNATURE, unlogged, 400),
    (
        "layer of an attestation, by certificate, timestamp, no log",
        &ATTESTATION,
        timestamped,
        400,
    ),
];

fn try_rows(rows: &[Row], by: By, set: Thoroughness) {
    for &(name, kind, recipe, floor) in rows {
        let making = Making {
            name,
            kind,
            recipe,
            by,
            floor,
        };
        try_all(&making, set);
    }
}

#[test]
fn keyless() {
    try_rows(BY_LOGIN, By::Login, Thoroughness::Quick);
}

#[test]
fn by_key() {
    try_rows(BY_KEY, By::Key, Thoroughness::Quick);
}

#[test]
fn by_certificate_of_ones_own_authority() {
    try_rows(BY_CERTIFICATE, By::Certificate, Thoroughness::Quick);
}

#[test]
#[ignore = "one bit of every byte: minutes"]
fn one_bit_of_every_byte_of_layers() {
    try_rows(BY_LOGIN, By::Login, THOROUGH);
    try_rows(BY_KEY, By::Key, THOROUGH);
    try_rows(BY_CERTIFICATE, By::Certificate, THOROUGH);
}
