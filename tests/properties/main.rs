//! Properties of what reads strangers' bytes: nothing panics, whatever they are, and what was
//! written is read back the same. (Readers that their room keeps to itself have theirs there.)

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests are made of may fail as they do"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use jiff::SignedDuration;
use proptest::prelude::*;
use pullgate::authn::Users;
use pullgate::clock::Clock;
use pullgate::oci::{
    Descriptor, Digest, DockerReference, Manifest, Reference, RegistryHost, Repository, Tag,
    TagPrefix, media_type,
};
use pullgate::policy::Glob;
use pullgate::sandbox::image;
use pullgate::sandbox::mutants::{self, Thoroughness};
use pullgate::sandbox::sigstore::{
    BundleVersion, CertificateAuthority, Content, IN_TOTO, KeyPair, KeyType, Log, Recipe, Signer,
    Sigstore, Verifier,
};
use pullgate::upstream::{BaseUrl, HostPattern, Proxy};
use pullgate::verify::{
    self, AttLayer, Authority, Evidence, Material, PublicKey, RootName, SigLayer, TrustRoot,
};
use serde_json::json;

/// A Sigstore whose signatures these tests alter, and what proofs rest on.
struct Signing {
    sigstore: Sigstore,
    key: KeyPair,
    authority: CertificateAuthority,
    material: Material,
}

/// A type of predicates that policy has a condition on, so that they are read as a whole.
const READ: &str = "https://slsa.dev/provenance/v1";

static SIGNING: LazyLock<Signing> = LazyLock::new(|| {
    let now = Clock::system().now();
    let sigstore = Sigstore::new(now - SignedDuration::from_secs(60));
    let authority = CertificateAuthority::new(1, now);
    let trusted = Authority::read(authority.root_der(), &[]).expect("an authority");
    let key = KeyPair::generate();
    let root = TrustRoot::from_json(RootName::from("sandbox"), &sigstore.trusted_root_json());
    let material = Material {
        roots: vec![Arc::new(root.expect("a trusted root"))],
        keys: vec![PublicKey::from_spki(&key.public_key_der())],
        authorities: vec![trusted],
        predicates: [READ.to_owned()].into(),
        ..Material::default()
    };
    Signing {
        sigstore,
        key,
        authority,
        material,
    }
});

fn prove(evidence: &Evidence) -> bool {
    let digest = Digest::sha256(b"an image");
    let now = Clock::system().now();
    verify::prove(evidence, &digest, &SIGNING.material, now).is_ok()
}

fn bundle(json: Vec<u8>) -> Evidence {
    Evidence::Bundle {
        source: Digest::sha256(&json),
        json: json.into(),
    }
}

fn layers(bytes: Vec<u8>, annotations: &BTreeMap<&str, String>) -> Vec<Evidence> {
    let descriptor = json!({
        "mediaType": media_type::SIMPLE_SIGNING,
        "digest": Digest::sha256(&bytes).to_string(),
        "size": bytes.len(),
        "annotations": annotations,
    });
    let descriptor: Descriptor = serde_json::from_value(descriptor).expect("a descriptor");
    let bytes = Bytes::from(bytes);
    let attestation = AttLayer::from_descriptor(&descriptor, bytes.clone());
    let signature = SigLayer::from_descriptor(&descriptor, bytes);
    let signature = signature.map(Evidence::SigLayer);
    signature
        .into_iter()
        .chain([Evidence::AttLayer(attestation)])
        .collect()
}

/// JSON of any shape, with the names that the formats have.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    const NAMES: &[&str] = &[
        "mediaType",
        "verificationMaterial",
        "certificate",
        "rawBytes",
        "tlogEntries",
        "logIndex",
        "logId",
        "keyId",
        "kindVersion",
        "kind",
        "version",
        "dsseEnvelope",
        "payload",
        "payloadType",
        "signatures",
        "sig",
        "critical",
        "identity",
        "image",
        "type",
        "_type",
        "docker-manifest-digest",
        "subject",
        "digest",
        "sha256",
        "predicateType",
        "predicate",
        "layers",
        "manifests",
        "config",
        "size",
        "annotations",
        "schemaVersion",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        prop::sample::select(vec![
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            "application/vnd.in-toto+json",
            "application/vnd.oci.image.manifest.v1+json",
            "https://in-toto.io/Statement/v1",
            "cosign container image signature",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "MAUEAwIBBQ==",
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let member = (prop::sample::select(NAMES), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Into::into),
            prop::collection::vec(member, 0..6).prop_map(|members| {
                let members = members.into_iter();
                members
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn names_are_read_back_as_they_were_written(text in "\\PC{0,40}", like in "[a-z0-9:/._@A-Z-]{0,90}") {
        for text in [text, like] {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text.clone());
            }
            if let Ok(repository) = text.parse::<Repository>() {
                prop_assert_eq!(repository.to_string(), text.clone());
            }
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert_eq!(tag.to_string(), text.clone());
            }
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text.clone());
            }
            if let Ok(host) = text.parse::<RegistryHost>() {
                prop_assert_eq!(host.as_str().parse::<RegistryHost>(), Ok(host.clone()));
            }
            let _ = DockerReference::parse(&text);
            if let Ok(prefix) = text.parse::<TagPrefix>() {
                prop_assert_eq!(prefix.as_str(), text.as_str());
            }
            let _ = text.parse::<BaseUrl>();
            let _ = text.parse::<HostPattern>();
        }
    }

    #[test]
    fn digests_are_read_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let digest = Digest::sha256(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }

    // THREATS I2: a pattern without stars matches itself and nothing else.
    #[test]
    fn a_pattern_without_stars_is_itself(text in "[a-z0-9/.-]{1,30}", other in "\\PC{0,30}") {
        if let Ok(glob) = Glob::new(&text) {
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }
    }

    #[test]
    fn any_pattern_matches_or_not(pattern in "[a-z*?\\[\\]{}/\\\\.-]{0,20}", text in "\\PC{0,30}") {
        if let Ok(glob) = Glob::new(&pattern) {
            let _ = glob.matches(&text);
        }
    }

    #[test]
    fn any_bytes_are_a_manifest_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200), json in any_json()) {
        for sent_as in [None, Some("application/vnd.oci.image.index.v1+json"), Some("x")] {
            let _ = Manifest::parse(&bytes, sent_as);
            let _ = Manifest::parse(json.to_string().as_bytes(), sent_as);
        }
    }

    #[test]
    fn any_bytes_prove_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json in any_json(),
        annotation in "\\PC{0,40}",
    ) {
        let json = json.to_string();
        for document in [bytes, json.clone().into_bytes()] {
            prop_assert!(!prove(&bundle(document.clone())));
            for text in [&annotation, &json] {
                let annotations = BTreeMap::from([
                    ("dev.cosignproject.cosign/signature", text.clone()),
                    ("dev.sigstore.cosign/certificate", text.clone()),
                    ("dev.sigstore.cosign/chain", text.clone()),
                    ("dev.sigstore.cosign/bundle", text.clone()),
                    ("dev.sigstore.cosign/rfc3161timestamp", text.clone()),
                ]);
                for layer in layers(document.clone(), &annotations) {
                    prop_assert!(!prove(&layer));
                }
            }
        }
    }

    // THREATS B4: what a trusted key signed need not be readable.
    #[test]
    fn any_signed_payload_proves_nothing(bytes in prop::collection::vec(any::<u8>(), 0..100), json in any_json()) {
        let Signing { sigstore, key, .. } = &*SIGNING;
        let recipe = Recipe::key(key, Log::None);
        for payload in [bytes, json.to_string().into_bytes()] {
            let envelope = Content::Envelope {
                payload_type: IN_TOTO.to_owned(),
                payload: payload.clone(),
            };
            prop_assert!(!prove(&bundle(sigstore.evidence(envelope, &recipe).bundle())));
            let layer = sigstore.evidence(Content::Message(payload), &recipe).layer();
            let annotations = layer.annotations.iter();
            let annotations = annotations.map(|(name, value)| (name.as_str(), value.clone()));
            for layer in layers(layer.bytes.clone(), &annotations.collect()) {
                prop_assert!(!prove(&layer));
            }
        }
    }

    // What an attestation says is read where policy has a condition on it.
    #[test]
    fn any_predicate_is_read_or_not(predicate in any_json(), other in any_json()) {
        let Signing { sigstore, key, .. } = &*SIGNING;
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": Digest::sha256(b"an image").hex()}}, other],
            "predicateType": READ,
            "predicate": predicate,
        });
        let envelope = Content::Envelope {
            payload_type: IN_TOTO.to_owned(),
            payload: statement.to_string().into_bytes(),
        };
        let _ = prove(&bundle(sigstore.evidence(envelope, &Recipe::key(key, Log::None)).bundle()));
    }

    #[test]
    fn any_certificate_proves_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let Signing { sigstore, key, .. } = &*SIGNING;
        let image = Digest::sha256(b"an image");
        let mut evidence = sigstore.signature(&image, &Recipe::key(key, Log::RekorV1));
        evidence.signed.verifier = Verifier::Certificate(bytes);
        prop_assert!(!prove(&bundle(evidence.bundle())));
    }

    // An edit that is no edit proves what it did; every other proves nothing.
    #[test]
    fn an_edited_certificate_proves_nothing(place: prop::sample::Index, instead: u8) {
        let Signing { sigstore, authority, .. } = &*SIGNING;
        let image = Digest::sha256(b"an image");
        let signer = Signer::Certified { authority, subject: "release@acme.test" };
        let mut evidence = sigstore.signature(&image, &Recipe::new(signer, Log::None));
        let Verifier::Chain(chain) = &mut evidence.signed.verifier else {
            panic!("a chain");
        };
        let byte = place.get(&chain[0]).to_owned();
        *place.get_mut(&mut chain[0]) = instead;
        let bundle = bundle(evidence.bundle_of(BundleVersion::V0_1));
        prop_assert_eq!(prove(&bundle), byte == instead);
    }

    #[test]
    fn any_certificate_is_an_authority_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        place: prop::sample::Index,
        instead: u8,
    ) {
        let _ = Authority::read(&bytes, &[]);
        let mut edited = SIGNING.authority.root_der().to_vec();
        *place.get_mut(&mut edited) = instead;
        let _ = Authority::read(&edited, &[bytes]);
    }

    // A key's log entries and timestamps are read by readers of our own. A signature by a key holds
    // without them.
    #[test]
    fn any_log_entry_and_timestamp_vouch_for_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json in any_json(),
        v2: bool,
    ) {
        let Signing { sigstore, key, material, .. } = &*SIGNING;
        let image = Digest::sha256(b"an image");
        let log = if v2 { Log::RekorV2 } else { Log::RekorV1 };
        let mut evidence = sigstore.signature(&image, &Recipe::key(key, log));
        for body in [bytes.clone(), json.to_string().into_bytes()] {
            evidence.entries[0].body = body;
            evidence.timestamps = vec![bytes.clone()];
            let bundle = bundle(evidence.bundle());
            let facts = verify::prove(&bundle, &image, material, Clock::system().now());
            prop_assert!(facts.is_ok_and(|facts| facts.iter().all(|fact| fact.root.is_none())));
        }
    }

    #[test]
    fn any_text_is_a_file_of_users_or_not(
        text in "\\PC{0,80}",
        like in "([a-z]{0,4}:?(\\$2[aby]\\$[0-9]{0,3}\\$[./A-Za-z0-9]{0,60})?\n?){0,3}",
    ) {
        let _ = Users::parse(&text);
        let _ = Users::parse(&like);
    }

    #[test]
    fn any_text_is_a_proxy_or_not(
        text in "\\PC{0,40}",
        like in "(https?://)?([a-z%0-9:]{0,9}@)?[\\[\\]a-z0-9.:]{0,12}(:[0-9]{0,6})?/?",
        exceptions in "[a-z0-9.*:, \\[\\]]{0,30}",
    ) {
        let _ = Proxy::parse(&text, &exceptions);
        let _ = Proxy::parse(&like, &text);
    }

    #[test]
    fn any_bytes_are_a_key_or_not(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = verify::check_key(&bytes);
    }

    #[test]
    fn any_text_is_a_trusted_root_or_not(text in "\\PC{0,80}", json in any_json()) {
        for text in [text, json.to_string()] {
            let _ = TrustRoot::from_json(RootName::from("any"), &text);
        }
    }
}

#[test]
fn mutants_of_manifests_are_read_or_not() {
    let package = image::runnable("hello");
    let donor = image::runnable("other");
    let donors = [donor.manifest.as_slice()];
    let set = Thoroughness::Thorough { seed: 1 };
    let mutants = mutants::of_json(&package.manifest, &donors, set);
    for mutant in &mutants {
        let _ = Manifest::parse(&mutant.document, Some(package.media_type));
    }
    assert!(mutants.len() > 100, "{}", mutants.len());
}

#[test]
fn mutants_of_keys_are_keys_or_not() {
    for kind in [
        KeyType::P256,
        KeyType::P384,
        KeyType::P521,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        let key = json!({"key": base64_of(&KeyPair::of(kind).public_key_der())});
        let set = Thoroughness::Thorough { seed: 1 };
        let mutants = mutants::of_json(key.to_string().as_bytes(), &[], set);
        for mutant in &mutants {
            let document: serde_json::Value =
                serde_json::from_slice(&mutant.document).unwrap_or_default();
            let Some(key) = document["key"].as_str() else {
                continue;
            };
            let _ = verify::check_key(&bytes_of(key));
        }
        assert!(mutants.len() > 50, "{kind:?}: {}", mutants.len());
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn bytes_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default()
}
