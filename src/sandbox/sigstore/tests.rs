//! What is minted here must hold before the verifier that production uses, and each fault must
//! be refused by it, or be known as one that our own checks have to find.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Value, json};
use sigstore_verify::trust_root;
use sigstore_verify::types::{self, Bundle, DerPublicKey, Sha256Hash};
use sigstore_verify::{
    PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier as Family,
};

use crate::oci::{Descriptor, Digest, Manifest};
use crate::sandbox::image;

use super::*;

const REFERENCE: &str = "registry.sandbox.test/app";
const WORKFLOW: &str =
    "https://github.com/acme/widget/.github/workflows/release.yml@refs/heads/main";

/// A Sigstore that signs a minute ago: the family refuses log entries from the future.
fn sigstore() -> Sigstore {
    let minute = SignedDuration::from_secs(60);
    Sigstore::new(crate::clock::Clock::system().now() - minute)
}

fn workflow() -> Identity {
    Identity::github_actions("acme/widget", "release.yml", "refs/heads/main")
}

fn image() -> Descriptor {
    image::runnable("hello").descriptor()
}

fn family(root: &TrustedRoot) -> Family {
    let root = trust_root::TrustedRoot::from_json(&root.json()).expect("a trusted root");
    Family::new(&root).expect("a usable trusted root")
}

/// Verifies a bundle for an image as production does, with the family's verifier.
fn verify(
    root: &TrustedRoot,
    bundle: &[u8],
    image: &Digest,
    signer: Signer<'_>,
    log: Log,
) -> Result<VerificationResult, String> {
    let digest = Sha256Hash::try_from(image.as_bytes()).expect("a SHA-256");
    verify_artifact(root, bundle, types::Artifact::from(digest), signer, log)
}

fn verify_artifact(
    root: &TrustedRoot,
    bundle: &[u8],
    artifact: types::Artifact<'_>,
    signer: Signer<'_>,
    log: Log,
) -> Result<VerificationResult, String> {
    let text = std::str::from_utf8(bundle).expect("JSON is text");
    let bundle = Bundle::from_json(text).map_err(|error| error.to_string())?;
    let result = match signer {
        Signer::Keyless(identity) => {
            let policy =
                VerificationPolicy::new(identity.subject.as_str(), identity.issuer.as_str());
            let policy = match log {
                Log::None => policy.skip_tlog_unsafe(),
                _ if bundle.has_inclusion_proof() => policy,
                // Without a proof there is only the promise, and that is always checked.
                _ => policy.skip_tlog_unsafe(),
            };
            family(root).verify(artifact, &bundle, &policy)
        }
        Signer::Key(key) => {
            let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.public_key_der()));
            let policy = match log {
                Log::None => policy.skip_tlog_unsafe(),
                _ if bundle.has_inclusion_proof() => policy,
                _ => policy.skip_tlog_unsafe(),
            };
            family(root).verify(artifact, &bundle, &policy)
        }
    };
    result.map_err(|error| error.to_string())
}

/// Maps a layer of the old format onto a bundle of version 0.1, as far as these tests need.
fn layer_bundle(layer: &Blob, key: Option<&KeyPair>) -> Vec<u8> {
    let annotation = |name: &str| {
        layer
            .annotations
            .get(&format!("dev.sigstore.cosign/{name}"))
    };
    let mut material = match (annotation("certificate"), key) {
        (Some(pem), _) => {
            let der = types::DerCertificate::from_pem(pem).expect("a certificate");
            json!({"x509CertificateChain": {"certificates": [{"rawBytes": der.to_base64()}]}})
        }
        (None, Some(key)) => Verifier::PublicKey(key.public_key_der()).material(),
        (None, None) => json!({}),
    };
    if let Some(bundle) = annotation("bundle") {
        let bundle: Value = serde_json::from_str(bundle).expect("JSON");
        let payload = &bundle["Payload"];
        let body = payload["body"].as_str().expect("a body");
        let entry: Value =
            serde_json::from_slice(&STANDARD.decode(body).expect("base64")).expect("JSON");
        let log_id = Digest::try_from_hex(payload["logID"].as_str().expect("a log ID"));
        material["tlogEntries"] = json!([{
            "logIndex": payload["logIndex"].to_string(),
            "logId": {"keyId": STANDARD.encode(log_id.as_bytes())},
            "kindVersion": {"kind": entry["kind"], "version": entry["apiVersion"]},
            "integratedTime": payload["integratedTime"].to_string(),
            "inclusionPromise": {"signedEntryTimestamp": bundle["SignedEntryTimestamp"]},
            "canonicalizedBody": body,
        }]);
    }
    if let Some(timestamp) = annotation("rfc3161timestamp") {
        let timestamp: Value = serde_json::from_str(timestamp).expect("JSON");
        material["timestampVerificationData"] = json!({
            "rfc3161Timestamps": [{"signedTimestamp": timestamp["SignedRFC3161Timestamp"]}],
        });
    }
    let signature = &layer.annotations["dev.cosignproject.cosign/signature"];
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": material,
    });
    if signature.is_empty() {
        bundle["dsseEnvelope"] = serde_json::from_slice(&layer.bytes).expect("an envelope");
    } else {
        bundle["messageSignature"] = json!({
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": STANDARD.encode(layer.digest().as_bytes()),
            },
            "signature": signature,
        });
    }
    bundle.to_string().into_bytes()
}

trait FromHex {
    fn try_from_hex(hex: &str) -> Self;
}

impl FromHex for Digest {
    fn try_from_hex(hex: &str) -> Self {
        format!("sha256:{hex}").parse().expect("32 bytes of hex")
    }
}

/// The bundle in an artifact.
fn bundle_of(artifact: &Package) -> &[u8] {
    &artifact.blobs[1]
}

#[test]
fn bundles_of_every_kind_verify() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image();
    let identity = workflow();
    let person = Identity::email("ops@acme.test", "https://accounts.google.com");
    let key = KeyPair::generate();
    for signer in [
        Signer::Keyless(&identity),
        Signer::Keyless(&person),
        Signer::Key(&key),
    ] {
        for log in [Log::RekorV1, Log::RekorV1Intoto, Log::RekorV2] {
            for recipe in [
                Recipe::new(signer, log),
                Recipe::new(signer, log).timestamped(),
            ] {
                let signature = sigstore.sign_bundle(&image, &recipe);
                let verified = verify(&root, bundle_of(&signature), &image.digest, signer, log)
                    .unwrap_or_else(|error| panic!("{recipe:?}: {error}"));
                assert!(verified.tlog_verified());
                let attestation = sigstore.attest_bundle(
                    &image,
                    "https://slsa.dev/provenance/v1",
                    &json!({"buildDefinition": {"buildType": "https://acme.test/build"}}),
                    &recipe,
                );
                verify(&root, bundle_of(&attestation), &image.digest, signer, log)
                    .unwrap_or_else(|error| panic!("attestation, {recipe:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_keyless_bundle_without_log_lives_on_its_timestamp() {
    let sigstore = sigstore();
    let image = image();
    let identity = workflow();
    let signer = Signer::Keyless(&identity);
    let recipe = Recipe::new(signer, Log::None).timestamped();
    let signature = sigstore.sign_bundle(&image, &recipe);
    let root = sigstore.trusted_root();
    verify(
        &root,
        bundle_of(&signature),
        &image.digest,
        signer,
        Log::None,
    )
    .expect("verifies");
}

#[test]
fn every_claim_of_the_certificate_is_read_back() {
    let sigstore = sigstore();
    let image = image();
    let identity = workflow().claiming(Claim::DeploymentEnvironment, "production");
    let signer = Signer::Keyless(&identity);
    let recipe = Recipe::new(signer, Log::RekorV1);
    let signature = sigstore.sign_bundle(&image, &recipe);
    let root = sigstore.trusted_root();
    let verified = verify(
        &root,
        bundle_of(&signature),
        &image.digest,
        signer,
        Log::RekorV1,
    );
    let verified = verified.expect("verifies");
    assert!(verified.sct_verified() && verified.certificate_verified());
    let certificate = verified.certificate().expect("a certificate");
    assert_eq!(
        certificate.identity.as_ref().expect("a name").as_str(),
        WORKFLOW
    );
    let claims = &certificate.ci_claims;
    assert_eq!(claims.build_signer_uri.as_deref(), Some(WORKFLOW));
    assert_eq!(claims.deployment_environment.as_deref(), Some("production"));
    assert_eq!(
        claims.token_subject.as_deref(),
        Some("repo:acme/widget:ref:refs/heads/main")
    );
    let github = &claims.deprecated_github;
    assert_eq!(github.workflow_repository.as_deref(), Some("acme/widget"));
    assert!(
        format!("{claims:?}").matches("None").count() == 0,
        "{claims:?}"
    );
}

#[test]
fn a_key_bundle_without_log_is_a_signature_and_nothing_else() {
    let sigstore = sigstore();
    let image = image();
    let key = KeyPair::generate();
    let recipe = Recipe::key(&key, Log::None);
    let evidence = sigstore.signature(&image.digest, &recipe);
    let root = sigstore.trusted_root();
    // The family wants some evidence of time, even where the policy asks for none: production
    // has to check such a bundle itself.
    let signer = Signer::Key(&key);
    verify(&root, &evidence.bundle(), &image.digest, signer, Log::None).expect_err("no time");
    let verifying = sigstore_verify::crypto::VerificationKey::from_spki(&DerPublicKey::new(
        key.public_key_der(),
    ));
    verifying
        .expect("a key")
        .verify(
            evidence.signed.content.signed_bytes(),
            &types::SignatureBytes::from_bytes(&evidence.signed.signature),
        )
        .expect("a good signature");
    let timestamped = sigstore.sign_bundle(&image, &recipe.timestamped());
    verify(
        &root,
        bundle_of(&timestamped),
        &image.digest,
        signer,
        Log::None,
    )
    .expect("verifies");
}

#[test]
fn layers_of_every_kind_verify() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow();
    let key = KeyPair::generate();
    for recipe in [
        Recipe::keyless(&identity, Log::RekorV1),
        Recipe::keyless(&identity, Log::RekorV1).timestamped(),
        Recipe::key(&key, Log::RekorV1),
    ] {
        let layer = sigstore.sign_layer(&image, REFERENCE, &recipe);
        let bundle = layer_bundle(&layer, Some(&key));
        let payload = types::Artifact::from(layer.bytes.as_slice());
        verify_artifact(&root, &bundle, payload, recipe.signer, recipe.log)
            .unwrap_or_else(|error| panic!("{recipe:?}: {error}"));

        let layer = sigstore.attest_layer(&image, "https://acme.test/t", &json!({}), &recipe);
        let bundle = layer_bundle(&layer, Some(&key));
        verify(&root, &bundle, &image, recipe.signer, recipe.log)
            .unwrap_or_else(|error| panic!("attestation, {recipe:?}: {error}"));
    }
}

#[test]
fn a_key_layer_without_log_is_a_signature_and_nothing_else() {
    let key = KeyPair::generate();
    let recipe = Recipe::key(&key, Log::None);
    let layer = sigstore().sign_layer(&image().digest, REFERENCE, &recipe);
    let annotations: Vec<_> = layer.annotations.keys().collect();
    assert_eq!(annotations, ["dev.cosignproject.cosign/signature"]);
    let signature = &layer.annotations["dev.cosignproject.cosign/signature"];
    sigstore_verify::crypto::verify_signature(
        &DerPublicKey::new(key.public_key_der()),
        &layer.bytes,
        &types::SignatureBytes::from_base64(signature).expect("base64"),
        sigstore_verify::crypto::SigningScheme::EcdsaP256Sha256,
    )
    .expect("a good signature");
}

/// What becomes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The family refuses it.
    Refused,
    /// The family lets it pass: our own checks must find it.
    Ours,
    /// There is nothing wrong with it.
    Sound,
    /// There is nothing to break in this kind of evidence.
    Nothing,
}

/// What is expected of a fault in a keyless bundle.
fn fate(fault: Fault, log: Log) -> Fate {
    let version_1 = log == Log::RekorV1;
    match fault {
        // One of several subjects is enough for the family, and for us.
        Fault::SecondSubject => Fate::Sound,
        // The claim check asks for the predicate type, which the family does not look at.
        Fault::OtherPredicateType => Fate::Ours,
        // The family takes an expired authority for a trust anchor, whose dates nobody looks
        // at, and of several names the first. It reads only the newer issuer extension.
        Fault::ExpiredAuthority | Fault::SecondIdentity | Fault::IssuersDisagree => Fate::Ours,
        // The family counts nothing. Whoever counts signers, logs or times must look whether
        // they are distinct.
        Fault::DuplicateEntry | Fault::DuplicateTimestamp => Fate::Ours,
        // The timestamp's time is another source beside the promise, in version 2 the only.
        Fault::ForeignPromise | Fault::NoPromise if !version_1 => Fate::Nothing,
        // Both recipes are timestamped: without the promise there still is a time.
        Fault::NoPromise => Fate::Ours,
        Fault::NoTimestamp if version_1 => Fate::Sound,
        _ => Fate::Refused,
    }
}

#[test]
fn each_fault_in_a_keyless_bundle_is_refused_or_known() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root().with_expired_authority();
    let image = image();
    let identity = workflow();
    let signer = Signer::Keyless(&identity);
    for log in [Log::RekorV1, Log::RekorV2] {
        for fault in Fault::ALL {
            let recipe = Recipe::new(signer, log).timestamped().with(fault);
            let evidence = sigstore.signature(&image.digest, &recipe);
            let outcome = verify_strictly(&root, &evidence, &image.digest, &identity);
            let accepted = fate(fault, log) != Fate::Refused;
            assert_eq!(
                outcome.is_ok(),
                accepted,
                "{fault:?} in {log:?}: {outcome:?}"
            );
        }
    }
}

/// Verifies with everything that the family can ask for.
fn verify_strictly(
    root: &TrustedRoot,
    evidence: &Evidence,
    image: &Digest,
    identity: &Identity,
) -> Result<VerificationResult, String> {
    let text = String::from_utf8(evidence.bundle()).expect("JSON is text");
    let bundle = Bundle::from_json(&text).map_err(|error| error.to_string())?;
    let digest = Sha256Hash::try_from(image.as_bytes()).expect("a SHA-256");
    let policy = VerificationPolicy::new(identity.subject.as_str(), identity.issuer.as_str());
    family(root)
        .verify(digest, &bundle, &policy)
        .map_err(|error| error.to_string())
}

// THREATS T6: an entry of Rekor v2 has no time of its own.
#[test]
fn rekor_2_without_a_timestamp_is_refused() {
    let sigstore = sigstore();
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::RekorV2).with(Fault::NoTimestamp);
    let image = image().digest;
    let evidence = sigstore.signature(&image, &recipe);
    let error = verify_strictly(&sigstore.trusted_root(), &evidence, &image, &identity)
        .expect_err("no time");
    assert!(error.contains("timestamp"), "{error}");
}

// THREATS B1: of a key's bundle as of a certificate's.
#[test]
fn faults_in_a_key_bundle_are_refused() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image();
    let key = KeyPair::generate();
    for log in [Log::RekorV1, Log::RekorV2] {
        for fault in [
            Fault::OtherSubject,
            Fault::Sha512Subject,
            Fault::UnreadablePayload,
            Fault::BrokenSignature,
            Fault::EntryOfOtherDigest,
            Fault::EntryOfOtherSignature,
            Fault::EntryOfOtherVerifier,
            Fault::ForeignLog,
            Fault::BrokenCheckpoint,
            Fault::BrokenInclusionProof,
            Fault::NoInclusionProof,
            Fault::ForeignTimestamp,
            Fault::NoVerifier,
        ] {
            let recipe = Recipe::key(&key, log).timestamped().with(fault);
            let text = String::from_utf8(sigstore.signature(&image.digest, &recipe).bundle());
            let outcome = Bundle::from_json(&text.expect("JSON is text"))
                .map_err(|error| error.to_string())
                .and_then(|bundle| {
                    let digest = Sha256Hash::try_from(image.digest.as_bytes()).expect("SHA-256");
                    let policy =
                        PublicKeyVerificationPolicy::new(DerPublicKey::new(key.public_key_der()));
                    family(&root)
                        .verify(digest, &bundle, &policy)
                        .map_err(|error| error.to_string())
                });
            assert!(outcome.is_err(), "{fault:?} in {log:?}");
        }
    }
}

#[test]
fn faults_in_a_signature_layer_are_refused_or_known() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow();
    let signer = Signer::Keyless(&identity);
    let outcome = |fault| {
        let recipe = Recipe::new(signer, Log::RekorV1).with(fault);
        let layer = sigstore.sign_layer(&image, REFERENCE, &recipe);
        let payload = types::Artifact::from(layer.bytes.as_slice());
        verify_artifact(
            &root,
            &layer_bundle(&layer, None),
            payload,
            signer,
            Log::RekorV1,
        )
    };
    for fault in [
        Fault::BrokenSignature,
        Fault::EntryOfOtherDigest,
        Fault::EntryOfOtherSignature,
        Fault::EntryOfOtherVerifier,
        Fault::ForeignLog,
        Fault::ForeignPromise,
        Fault::NoPromise,
        Fault::ExpiredCertificate,
        Fault::FutureCertificate,
        Fault::NoSct,
    ] {
        assert!(outcome(fault).is_err(), "{fault:?}");
    }
    // To the family the payload of a layer is bytes: whether it can be read, and which image
    // it names, is for our own claim check.
    for fault in [Fault::UnreadablePayload, Fault::OtherSubject] {
        outcome(fault).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }
}

// THREATS B1, with whole pieces of other evidence rather than named faults.
#[test]
fn pieces_of_another_signature_do_not_fit() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::RekorV2);
    let good = sigstore.signature(&image, &recipe);
    let other = sigstore.signature(&image, &recipe);
    verify_strictly(&root, &good, &image, &identity).expect("good");
    for mixed in [
        Evidence {
            entries: other.entries.clone(),
            ..good.clone()
        },
        Evidence {
            timestamps: other.timestamps.clone(),
            ..good.clone()
        },
        Evidence {
            signed: Signed {
                verifier: other.signed.verifier.clone(),
                ..good.signed.clone()
            },
            ..good.clone()
        },
    ] {
        verify_strictly(&root, &mixed, &image, &identity).expect_err("mixed");
    }
}

// THREATS T2: the family tells whether a log's or an authority's time had ended.
#[test]
fn a_root_that_ended_before_the_signature_refuses_it() {
    let sigstore = sigstore();
    let image = image().digest;
    let identity = workflow();
    let before = sigstore.time - SignedDuration::from_hours(1);
    for log in [Log::RekorV1, Log::RekorV2] {
        let evidence = sigstore.signature(&image, &Recipe::keyless(&identity, log));
        let ended = sigstore.trusted_root().ending(before);
        verify_strictly(&ended, &evidence, &image, &identity).expect_err("ended before");
        let since = sigstore.trusted_root().ending(sigstore.time);
        verify_strictly(&since, &evidence, &image, &identity).expect("ended after");
    }
}

#[test]
fn another_sigstore_is_not_trusted() {
    let (ours, theirs) = (sigstore(), sigstore());
    let image = image().digest;
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::RekorV2);
    let evidence = theirs.signature(&image, &recipe);
    verify_strictly(&theirs.trusted_root(), &evidence, &image, &identity).expect("theirs");
    verify_strictly(&ours.trusted_root(), &evidence, &image, &identity).expect_err("ours");
}

#[test]
fn a_log_grows_and_still_proves() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::RekorV2);
    let mut indexes = BTreeSet::new();
    for _ in 0..12 {
        let evidence = sigstore.signature(&image, &recipe);
        verify_strictly(&root, &evidence, &image, &identity).expect("verifies");
        indexes.insert(evidence.entries[0].log_index);
    }
    assert_eq!(indexes.len(), 12);
}

#[test]
fn artifacts_look_like_cosigns() {
    let sigstore = sigstore();
    let image = image();
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::RekorV2);
    let signature = sigstore.sign_bundle(&image, &recipe);
    let manifest = Manifest::parse(&signature.manifest, Some(signature.media_type));
    let manifest = manifest.expect("a manifest");
    assert_eq!(manifest.subject, Some(image.digest));
    assert_eq!(manifest.artifact_type.as_deref(), Some(BUNDLE));
    assert!(manifest.is_evidence());
    let written: Value = serde_json::from_slice(&signature.manifest).expect("JSON");
    let annotations = &written["annotations"];
    assert_eq!(annotations["dev.sigstore.bundle.content"], "dsse-envelope");
    assert_eq!(
        annotations["dev.sigstore.bundle.predicateType"],
        COSIGN_SIGN
    );

    let layers = vec![
        sigstore.sign_layer(
            &image.digest,
            REFERENCE,
            &Recipe::keyless(&identity, Log::RekorV1),
        ),
        sigstore.sign_layer(&image.digest, REFERENCE, &recipe),
    ];
    let tag = signature_tag(&image.digest, layers);
    let name = format!("sha256-{}.sig", image.digest.hex());
    assert_eq!(tag.tag.as_deref(), Some(name.as_str()));
    let manifest = Manifest::parse(&tag.manifest, Some(tag.media_type)).expect("a manifest");
    assert!(manifest.is_evidence());
    assert_eq!(tag.blobs.len(), 3);
}
