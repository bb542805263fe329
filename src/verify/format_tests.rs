//! Every type of key in every format, and what vouches for it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests are made of may fail as they do"
)]

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::oci::Digest;
use crate::sandbox::image::Blob;
use crate::sandbox::sigstore;
use crate::sandbox::sigstore::Fault;
use crate::sandbox::sigstore::Identity;
use crate::sandbox::sigstore::KeyPair;
use crate::sandbox::sigstore::KeyType;
use crate::sandbox::sigstore::Log;
use crate::sandbox::sigstore::Recipe;
use crate::sandbox::sigstore::Sigstore;

use super::*;

const MANIFEST: &[u8] = b"{\"a\": \"manifest\"}";

struct World {
    sigstore: Sigstore,
    now: Timestamp,
    image: Digest,
}

impl World {
    fn new() -> Self {
        // In the past: the verifier family refuses what its own clock has not come to.
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            sigstore: Sigstore::new(now - SignedDuration::from_secs(60)),
            now,
            image: Digest::sha256(MANIFEST),
        }
    }

    fn material(&self, keys: &[&KeyPair], demands: Demands) -> Material {
        let name = RootName::from("acme");
        let root = TrustRoot::from_json(name.clone(), &self.sigstore.trusted_root_json());
        Material {
            roots: vec![Arc::new(root.expect("a root"))],
            keys: keys
                .iter()
                .map(|key| PublicKey::from_spki(&key.public_key_der()))
                .collect(),
            demands: BTreeMap::from([(name, demands)]),
            ..Material::default()
        }
    }

    fn prove(&self, evidence: &Evidence, material: &Material) -> Result<Vec<Fact>, Rejected> {
        prove(evidence, &self.image, material, self.now)
    }

    fn bundle(&self, recipe: &Recipe<'_>) -> Evidence {
        bundle(&self.sigstore.signature(&self.image, recipe))
    }

    fn sig_layer(&self, recipe: &Recipe<'_>) -> Evidence {
        let layer = self
            .sigstore
            .sign_layer(&self.image, "acme.test/app", recipe);
        let (descriptor, bytes) = (layer.descriptor(), layer_bytes(&layer));
        let layer = SigLayer::from_descriptor(&descriptor, bytes);
        Evidence::SigLayer(layer.expect("a signature"))
    }

    fn att_layer(&self, recipe: &Recipe<'_>) -> Evidence {
        let layer =
            self.sigstore
                .attest_layer(&self.image, "https://a.test/v1", &json!({}), recipe);
        let (descriptor, bytes) = (layer.descriptor(), layer_bytes(&layer));
        Evidence::AttLayer(AttLayer::from_descriptor(&descriptor, bytes))
    }
}

fn layer_bytes(layer: &Blob) -> Bytes {
    Bytes::copy_from_slice(&layer.bytes)
}

fn bundle(evidence: &sigstore::Evidence) -> Evidence {
    let json: Bytes = evidence.bundle().into();
    Evidence::Bundle {
        source: Digest::sha256(&json),
        json,
    }
}

// Every key that cosign and key services have is verified by the hash that they use, and its log
// entry counts, in both formats and in both logs.
#[test]
fn every_type_of_key_signs_in_every_format() {
    let world = World::new();
    for kind in KeyType::ALL {
        let key = KeyPair::of(kind);
        check_key(&key.public_key_der()).expect("a usable key");
        let material = world.material(&[&key], Demands::default());
        for log in [Log::RekorV1, Log::RekorV2, Log::None] {
            let recipe = Recipe::key(&key, log);
            let mut evidence = vec![world.bundle(&recipe)];
            if log != Log::RekorV2 {
                evidence.extend([world.sig_layer(&recipe), world.att_layer(&recipe)]);
            }
            for evidence in evidence {
                let what = format!("{kind:?} {log:?} {:?}", evidence.format());
                let facts = world.prove(&evidence, &material);
                let facts = facts.unwrap_or_else(|rejected| panic!("{what}: {rejected:?}"));
                let logged = facts.iter().any(|fact| fact.assurance.log.is_some());
                assert_eq!(logged, log != Log::None, "{what}");
            }
        }
    }
}

// THREATS B1 for keys: an entry that is of another signature, or that no log of the trust root
// holds, does not count; the signature is then one without a log.
#[test]
fn b1_a_broken_log_entry_of_a_key_does_not_count() {
    let world = World::new();
    let faults = [
        Fault::EntryOfOtherDigest,
        Fault::EntryOfOtherSignature,
        Fault::EntryOfOtherVerifier,
        Fault::ForeignLog,
        Fault::BrokenCheckpoint,
        Fault::BrokenInclusionProof,
    ];
    for kind in [KeyType::P256, KeyType::P384, KeyType::Ed25519] {
        let key = KeyPair::of(kind);
        let material = world.material(&[&key], Demands::default());
        for log in [Log::RekorV1, Log::RekorV1Intoto, Log::RekorV2] {
            for fault in faults {
                let evidence = world.bundle(&Recipe::key(&key, log).with(fault));
                let facts = world.prove(&evidence, &material).expect("signed");
                let what = format!("{kind:?} {log:?} {fault:?}");
                assert!(facts.iter().all(|fact| fact.root.is_none()), "{what}");
            }
        }
        let recipe = Recipe::key(&key, Log::RekorV1).with(Fault::ForeignPromise);
        let facts = world.prove(&world.sig_layer(&recipe), &material);
        assert_eq!(facts.expect("signed")[0].root, None, "{kind:?}");
    }
}

// A log that tells a time which has not come yet is not believed (THREATS T).
#[test]
fn t_a_log_entry_of_the_future_does_not_count_for_a_key() {
    let world = World::new();
    let key = KeyPair::generate();
    let material = world.material(&[&key], Demands::default());
    let recipe = Recipe::key(&key, Log::RekorV1);
    let root_when_signed = |at: Timestamp| {
        let evidence = bundle(&world.sigstore.at(at).signature(&world.image, &recipe));
        let facts = world.prove(&evidence, &material).expect("signed");
        facts[0].root.clone()
    };
    let minute = SignedDuration::from_secs(60);
    assert!(root_when_signed(world.now - minute).is_some());
    assert_eq!(root_when_signed(world.now + minute), None);
}

// A signature without a log is refused where the log is demanded, and holds by its timestamp
// where it is not; without either it never holds.
#[test]
fn without_a_log_a_timestamp_has_to_prove_the_time() {
    let world = World::new();
    let identity = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let strict = world.material(&[], Demands::default());
    let unlogged = Demands {
        log: None,
        ..Demands::default()
    };
    let lax = world.material(&[], unlogged);
    let timestamped = Recipe::keyless(&identity, Log::None).timestamped();
    let untimed = Recipe::keyless(&identity, Log::None);
    for (recipe, holds) in [(&timestamped, true), (&untimed, false)] {
        for evidence in [
            world.bundle(recipe),
            world.sig_layer(recipe),
            world.att_layer(recipe),
        ] {
            let what = format!("{recipe:?} {:?}", evidence.format());
            assert!(world.prove(&evidence, &strict).is_err(), "{what}");
            let facts = world.prove(&evidence, &lax);
            assert_eq!(facts.is_ok(), holds, "{what}: {facts:?}");
            let Ok(facts) = facts else { continue };
            let assurance = facts[0].assurance;
            assert_eq!(assurance.log, None, "{what}");
            assert!(
                assurance.timestamp && assurance.certificate_timestamp,
                "{what}"
            );
            assert!(facts[0].signed_at.is_some(), "{what}");
            assert!(unlogged.missing(&assurance).is_none(), "{what}");
            assert!(Demands::default().missing(&assurance).is_some(), "{what}");
        }
    }
    // What is there has to prove, whatever is demanded.
    for fault in [Fault::ForeignTimestamp, Fault::EarlyTimestamp, Fault::NoSct] {
        let broken = timestamped.clone().with(fault);
        assert!(
            world.prove(&world.bundle(&broken), &lax).is_err(),
            "{fault:?}"
        );
    }
    let logged = Recipe::keyless(&identity, Log::RekorV1).with(Fault::ForeignLog);
    assert!(world.prove(&world.bundle(&logged), &lax).is_err());
}

// A certificate without timestamps holds only where they are not demanded; and so does one whose
// timestamp does not verify, which counts as none.
#[test]
fn certificate_timestamps_are_demanded_unless_told_otherwise() {
    let world = World::new();
    let identity = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let lax = Demands {
        certificate_timestamp: false,
        ..Demands::default()
    };
    let (strict, lax) = (
        world.material(&[], Demands::default()),
        world.material(&[], lax),
    );
    let recipe = Recipe::keyless(&identity, Log::RekorV1);
    let without = world.bundle(&recipe.clone().with(Fault::NoSct));
    assert!(world.prove(&without, &strict).is_err());
    let facts = world.prove(&without, &lax).expect("holds");
    assert!(!facts[0].assurance.certificate_timestamp);
    assert!(Demands::default().missing(&facts[0].assurance).is_some());
    for fault in [Fault::ForeignSct, Fault::BrokenSct] {
        let broken = world.bundle(&recipe.clone().with(fault));
        assert!(world.prove(&broken, &strict).is_err(), "{fault:?}");
        let facts = world.prove(&broken, &lax).expect("holds");
        assert!(!facts[0].assurance.certificate_timestamp, "{fault:?}");
    }
    // A good one is seen all the same.
    let facts = world.prove(&world.bundle(&recipe), &lax).expect("holds");
    assert!(facts[0].assurance.certificate_timestamp);
}

// A promise in an annotation is enough, whatever timestamp stands beside it.
#[test]
fn a_foreign_timestamp_beside_a_promise_harms_nothing() {
    let world = World::new();
    let identity = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let material = world.material(&[], Demands::default());
    let recipe = Recipe::keyless(&identity, Log::RekorV1).timestamped();
    let facts = world.prove(&world.sig_layer(&recipe), &material);
    assert!(facts.expect("holds")[0].assurance.timestamp);
    let foreign = recipe.with(Fault::ForeignTimestamp);
    let facts = world.prove(&world.sig_layer(&foreign), &material);
    assert!(!facts.expect("holds")[0].assurance.timestamp);
}

// A signature over the manifest's own bytes is one of the image, and of no other.
#[test]
fn a_message_signature_is_of_its_manifest() {
    let world = World::new();
    let identity = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let key = KeyPair::of(KeyType::P256);
    let material = world.material(&[&key], Demands::default());
    let recipes = [
        Recipe::keyless(&identity, Log::RekorV1),
        Recipe::keyless(&identity, Log::RekorV2),
        Recipe::key(&key, Log::RekorV1),
        Recipe::key(&key, Log::RekorV2),
        Recipe::key(&key, Log::None),
    ];
    for recipe in recipes {
        let good = bundle(&world.sigstore.message_signature(MANIFEST, &recipe));
        let facts = world.prove(&good, &material).expect("holds");
        assert_eq!(facts[0].kind, Kind::Signature, "{recipe:?}");
        let other = bundle(&world.sigstore.message_signature(b"{}", &recipe));
        assert!(world.prove(&other, &material).is_err(), "{recipe:?}");
    }
}

// One key has one encoding, so that it is never two signers.
#[test]
fn keys_have_one_encoding() {
    let der = KeyPair::of(KeyType::P256).public_key_der();
    check_key(&der).expect("as it should be");
    let mut trailing = der.clone();
    trailing.push(0);
    assert!(check_key(&trailing).is_err());
    // The same point, compressed: 0x02 or 0x03 and its first coordinate.
    let mut compressed = der.clone();
    compressed.truncate(der.len() - 32);
    let at = compressed.len() - 33;
    compressed[at] = 2 + (der[der.len() - 1] & 1);
    compressed[1] -= 32;
    let bits = at - 2;
    compressed[bits] -= 32;
    let why = check_key(&compressed).expect_err("another encoding");
    assert!(why.contains("compressed"), "{why}");
    // RSA without the NULL that RFC 3279 asks for.
    let rsa = KeyPair::of(KeyType::Rsa2048).public_key_der();
    check_key(&rsa).expect("as it should be");
    let null = rsa
        .windows(2)
        .position(|pair| pair == [5, 0])
        .expect("a NULL");
    let mut absent = rsa;
    absent.drain(null..null + 2);
    absent[5] -= 2;
    assert!(check_key(&absent).is_err());
}
