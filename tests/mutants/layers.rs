//! Layers of the old format, with the annotations that hold their signatures.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pullgate::oci::{Descriptor, Digest, media_type};
use pullgate::sandbox::image::Blob;
use pullgate::sandbox::mutants::Thoroughness;
use pullgate::sandbox::sigstore::Log;
use pullgate::verify::{AttLayer, Evidence, SigLayer};
use serde_json::{Value, json};

use crate::harness::{By, THOROUGH, each_holds_out};
use crate::shape::{Carrier, Shape};

/// A layer and the annotations of its descriptor as one JSON document, so that they can be
/// mutated.
pub(crate) fn document(layer: &Blob) -> Vec<u8> {
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

pub(crate) fn read_signature(document: &[u8]) -> Option<Evidence> {
    let (descriptor, payload) = descriptor(document, media_type::SIMPLE_SIGNING)?;
    SigLayer::from_descriptor(&descriptor, payload).map(Evidence::SigLayer)
}

pub(crate) fn read_attestation(document: &[u8]) -> Option<Evidence> {
    let (descriptor, envelope) = descriptor(document, media_type::DSSE_ENVELOPE)?;
    let layer = AttLayer::from_descriptor(&descriptor, envelope);
    Some(Evidence::AttLayer(layer))
}

const fn signature(by: By, log: Log) -> Shape {
    Shape::new(Carrier::SigLayer, by, log)
}

const fn attestation(by: By, log: Log) -> Shape {
    Shape::new(Carrier::AttLayer, by, log)
}

/// By the log's promise, by that and a timestamp, by the timestamp alone.
const KEYLESS: [Shape; 7] = [
    signature(By::Login, Log::RekorV1),
    signature(By::Login, Log::RekorV1).timestamped(),
    signature(By::Login, Log::None).timestamped(),
    attestation(By::Login, Log::RekorV1),
    attestation(By::Login, Log::RekorV1Intoto),
    attestation(By::Login, Log::RekorV1).timestamped(),
    attestation(By::Login, Log::None).timestamped(),
];

/// The same, and by nothing but the key.
const BY_KEY: [Shape; 9] = [
    signature(By::Key, Log::RekorV1),
    signature(By::Key, Log::RekorV1).timestamped(),
    signature(By::Key, Log::None),
    signature(By::Key, Log::None).timestamped(),
    attestation(By::Key, Log::RekorV1),
    attestation(By::Key, Log::RekorV1Intoto),
    attestation(By::Key, Log::RekorV1).timestamped(),
    attestation(By::Key, Log::None),
    attestation(By::Key, Log::None).timestamped(),
];

const BY_CERTIFICATE: [Shape; 6] = [
    signature(By::Certificate, Log::RekorV1),
    signature(By::Certificate, Log::None),
    signature(By::Certificate, Log::None).timestamped(),
    attestation(By::Certificate, Log::RekorV1),
    attestation(By::Certificate, Log::None),
    attestation(By::Certificate, Log::None).timestamped(),
];

#[test]
fn keyless() {
    each_holds_out(&KEYLESS, Thoroughness::Quick);
}

#[test]
fn by_key() {
    each_holds_out(&BY_KEY, Thoroughness::Quick);
}

#[test]
fn by_certificate_of_ones_own_authority() {
    each_holds_out(&BY_CERTIFICATE, Thoroughness::Quick);
}

#[test]
#[ignore = "one bit of every byte: minutes"]
fn one_bit_of_every_byte_of_layers() {
    each_holds_out(&KEYLESS, THOROUGH);
    each_holds_out(&BY_KEY, THOROUGH);
    each_holds_out(&BY_CERTIFICATE, THOROUGH);
}
