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

fn try_all(
    name: &str,
    kind: &Kind,
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
    let mint = |image, recipe| document(&(kind.mint)(&world, image, &recipe));
    let format = Format {
        name,
        document: mint(&world.image, recipe(signer)),
        donors: vec![
            mint(&world.other_image, recipe(signer)),
            mint(&world.image, recipe(other)),
        ],
        read: kind.read,
        keys,
        floor,
    };
    format.holds_out(&world, set);
}

fn logged(signer: Signer<'_>) -> Recipe<'_> {
    Recipe::new(signer, Log::RekorV1)
}

fn unlogged(signer: Signer<'_>) -> Recipe<'_> {
    Recipe::new(signer, Log::None)
}

fn keyless(set: Thoroughness) {
    try_all(
        "layer, keyless, promise",
        &SIGNATURE,
        logged,
        false,
        2000,
        set,
    );
}

fn keyless_attested(set: Thoroughness) {
    let name = "layer of an attestation, keyless, promise";
    try_all(name, &ATTESTATION, logged, false, 2000, set);
}

fn keyed(set: Thoroughness) {
    try_all("layer, by key, promise", &SIGNATURE, logged, true, 200, set);
    try_all("layer, by key, no log", &SIGNATURE, unlogged, true, 50, set);
    let name = "layer of an attestation, by key, promise";
    try_all(name, &ATTESTATION, logged, true, 200, set);
    let name = "layer of an attestation, by key, no log";
    try_all(name, &ATTESTATION, unlogged, true, 50, set);
}

#[test]
fn keyless_by_promise() {
    keyless(Thoroughness::Quick);
}

#[test]
fn keyless_attested_by_promise() {
    keyless_attested(Thoroughness::Quick);
}

#[test]
fn by_key() {
    keyed(Thoroughness::Quick);
}

#[test]
#[ignore = "one bit of every byte: a minute"]
fn one_bit_of_every_byte_of_layers() {
    keyless(THOROUGH);
    keyless_attested(THOROUGH);
    keyed(THOROUGH);
}
