//! Layers of the old format, with the annotations that hold their signatures.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pullgate::oci::{Descriptor, Digest, media_type};
use pullgate::sandbox::image::{Blob, Package};
use pullgate::sandbox::mutants::Thoroughness;
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Signer};
use pullgate::verify::{Evidence, SigLayer};
use serde_json::{Value, json};

use crate::harness::{Format, THOROUGH, World};

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
fn read(document: &[u8]) -> Option<Evidence> {
    let mut annotations: BTreeMap<String, Value> = serde_json::from_slice(document).ok()?;
    let payload = annotations.remove("payload")?;
    let payload = STANDARD.decode(payload.as_str()?).ok()?;
    let descriptor = json!({
        "mediaType": media_type::SIMPLE_SIGNING,
        "digest": Digest::sha256(&payload).to_string(),
        "size": payload.len(),
        "annotations": annotations,
    });
    let descriptor: Descriptor = serde_json::from_value(descriptor).ok()?;
    SigLayer::from_descriptor(&descriptor, Bytes::from(payload)).map(Evidence::SigLayer)
}

fn mint(world: &World, image: &Package, recipe: &Recipe<'_>) -> Vec<u8> {
    let reference = "registry.sandbox.test/app";
    document(
        &world
            .sigstore
            .sign_layer(&image.digest(), reference, recipe),
    )
}

fn try_all(
    name: &str,
    recipe: fn(Signer<'_>) -> Recipe<'_>,
    by_key: bool,
    floor: usize,
    set: Thoroughness,
) {
    let world = World::new();
    let (key, other_key) = (KeyPair::generate(), KeyPair::generate());
    let (signer, other, keys) = if by_key {
        let keys = vec![key.public_key_der()];
        (Signer::Key(&key), Signer::Key(&other_key), keys)
    } else {
        let other = Signer::Keyless(&world.other_signer);
        (Signer::Keyless(&world.signer), other, Vec::new())
    };
    let format = Format {
        name,
        document: mint(&world, &world.image, &recipe(signer)),
        donors: vec![
            mint(&world, &world.other_image, &recipe(signer)),
            mint(&world, &world.image, &recipe(other)),
        ],
        read: &read,
        keys,
        floor,
    };
    format.holds_out(&world, set);
}

fn keyless(set: Thoroughness) {
    try_all("layer, keyless, promise", logged, false, 2000, set);
}

fn keyed(set: Thoroughness) {
    try_all("layer, by key, promise", logged, true, 200, set);
    try_all("layer, by key, no log", unlogged, true, 50, set);
}

fn logged(signer: Signer<'_>) -> Recipe<'_> {
    Recipe::new(signer, Log::RekorV1)
}

fn unlogged(signer: Signer<'_>) -> Recipe<'_> {
    Recipe::new(signer, Log::None)
}

#[test]
fn keyless_by_promise() {
    keyless(Thoroughness::Quick);
}

#[test]
fn by_key() {
    keyed(Thoroughness::Quick);
}

#[test]
#[ignore = "one bit of every byte: a minute"]
fn one_bit_of_every_byte_of_layers() {
    keyless(THOROUGH);
    keyed(THOROUGH);
}
