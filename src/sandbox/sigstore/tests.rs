//! What is minted here must hold before the verifier that production uses, and each fault must
//! be refused by it, or be known as one that our own checks have to find.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Value, json};
use sigstore_verify::crypto;
use sigstore_verify::trust_root;
use sigstore_verify::types::{self, Bundle, DerPublicKey, Sha256Hash};
use sigstore_verify::{
    Policy, PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier as Family,
};

use crate::oci::{Descriptor, Digest, Manifest};
use crate::sandbox::image::{self, BUNDLE};

use super::*;

const REFERENCE: &str = "registry.sandbox.test/app";
const WORKFLOW: &str =
    "https://github.com/acme/widget/.github/workflows/release.yml@refs/heads/main";

/// A Sigstore that signs a minute ago: the family refuses log entries from the future.
pub(super) fn sigstore() -> Sigstore {
    let minute = SignedDuration::from_secs(60);
    Sigstore::new(crate::clock::Clock::system().now() - minute)
}

pub(super) fn workflow() -> Identity {
    Identity::github_actions("acme/widget", "release.yml", "refs/heads/main")
}

pub(super) fn image() -> Descriptor {
    image::runnable("hello").descriptor()
}

fn family(root: &TrustedRoot) -> Family {
    let root = trust_root::TrustedRoot::from_json(&root.json()).expect("a trusted root");
    Family::new(&root).expect("a usable trusted root")
}

/// What is asked of a bundle's log entries beyond fitting to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// A proven entry: everything that the family can ask for.
    Proof,
    /// Nothing: there may be none, or only a promise, which is checked nonetheless.
    Nothing,
}

/// Verifies a bundle with the verifier that production uses.
pub(super) fn verify(
    root: &TrustedRoot,
    bundle: &[u8],
    artifact: types::Artifact<'_>,
    signer: Signer<'_>,
    demand: Demand,
) -> Result<VerificationResult, String> {
    let text = std::str::from_utf8(bundle).expect("JSON is text");
    let bundle = Bundle::from_json(text).map_err(|error| error.to_string())?;
    let policy: Box<dyn Policy> = match signer {
        Signer::Keyless(Identity {
            subject, issuer, ..
        }) => {
            let policy = VerificationPolicy::new(subject, issuer);
            match demand {
                Demand::Proof => Box::new(policy),
                Demand::Nothing => Box::new(policy.skip_tlog_unsafe()),
            }
        }
        // Such authorities log no certificates, and name nobody who logged in.
        Signer::Certified { subject, .. } => Box::new(
            VerificationPolicy::any_identity()
                .require_identity(subject)
                .skip_sct(),
        ),
        Signer::Key(key) => {
            let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.public_key_der()));
            match demand {
                Demand::Proof => Box::new(policy),
                Demand::Nothing => Box::new(policy.skip_tlog_unsafe()),
            }
        }
    };
    family(root)
        .verify(artifact, &bundle, policy.as_ref())
        .map_err(|error| error.to_string())
}

pub(super) fn artifact(image: &Digest) -> types::Artifact<'static> {
    Sha256Hash::try_from(image.as_bytes())
        .expect("a SHA-256")
        .into()
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
        (None, Some(key)) => Verifier::PublicKey(key.public_key_der()).material(false),
        (None, None) => json!({}),
    };
    if let Some(bundle) = annotation("bundle") {
        let bundle: Value = serde_json::from_str(bundle).expect("JSON");
        let payload = &bundle["Payload"];
        let body = payload["body"].as_str().expect("a body");
        let entry: Value =
            serde_json::from_slice(&STANDARD.decode(body).expect("base64")).expect("JSON");
        let log_id = from_hex(payload["logID"].as_str().expect("a log ID"));
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

fn from_hex(hex: &str) -> Digest {
    format!("sha256:{hex}").parse().expect("32 bytes of hex")
}

/// Verifies evidence with everything that the family can ask for.
pub(super) fn prove(
    root: &TrustedRoot,
    evidence: &Evidence,
    image: &Digest,
    signer: Signer<'_>,
) -> Result<VerificationResult, String> {
    verify(
        root,
        &evidence.bundle(),
        artifact(image),
        signer,
        Demand::Proof,
    )
}

#[test]
fn bundles_of_every_kind_verify() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow();
    let person = Identity::email("ops@acme.test", "https://accounts.google.com");
    let key = KeyPair::generate();
    let provenance = json!({"buildDefinition": {"buildType": "https://acme.test/build"}});
    for signer in [
        Signer::Keyless(&identity),
        Signer::Keyless(&person),
        Signer::Key(&key),
    ] {
        for log in [Log::RekorV1, Log::RekorV1Intoto, Log::RekorV2] {
            let plain = Recipe::new(signer, log);
            for recipe in [plain.clone(), plain.timestamped()] {
                let attestation = sigstore.attestation(
                    &image,
                    "https://slsa.dev/provenance/v1",
                    &provenance,
                    &recipe,
                );
                for evidence in [sigstore.signature(&image, &recipe), attestation] {
                    let verified = prove(&root, &evidence, &image, signer)
                        .unwrap_or_else(|error| panic!("{recipe:?}: {error}"));
                    assert!(verified.tlog_verified());
                }
            }
        }
    }
}

#[test]
fn a_keyless_bundle_without_log_lives_on_its_timestamp() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::None).timestamped();
    let bundle = sigstore.signature(&image, &recipe).bundle();
    let image = artifact(&image);
    verify(&root, &bundle, image, recipe.signer, Demand::Nothing).expect("verifies");
}

#[test]
fn every_claim_of_the_certificate_is_read_back() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let identity = workflow().claiming(Claim::DeploymentEnvironment, "production");
    let recipe = Recipe::keyless(&identity, Log::RekorV1);
    let evidence = sigstore.signature(&image, &recipe);
    let verified = prove(&root, &evidence, &image, recipe.signer).expect("verifies");
    assert!(verified.sct_verified() && verified.certificate_verified());
    let certificate = verified.certificate().expect("a certificate");
    let name = certificate.identity.as_ref().expect("a name");
    assert_eq!(name.as_str(), WORKFLOW);
    let claims = &certificate.ci_claims;
    assert_eq!(claims.build_signer_uri.as_deref(), Some(WORKFLOW));
    assert_eq!(claims.deployment_environment.as_deref(), Some("production"));
    assert_eq!(
        claims.token_subject.as_deref(),
        Some("repo:acme/widget:ref:refs/heads/main")
    );
    let github = &claims.deprecated_github;
    assert_eq!(github.workflow_repository.as_deref(), Some("acme/widget"));
    let missing = format!("{claims:?}").matches("None").count();
    assert_eq!(missing, 0, "{claims:?}");
}

#[test]
fn a_key_bundle_without_log_is_a_signature_and_nothing_else() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
    let key = KeyPair::generate();
    let recipe = Recipe::key(&key, Log::None);
    let evidence = sigstore.signature(&image, &recipe);
    let verify = |bundle: &[u8]| {
        verify(
            &root,
            bundle,
            artifact(&image),
            recipe.signer,
            Demand::Nothing,
        )
    };
    // The family wants some evidence of time, even where the policy asks for none: production
    // has to check such a bundle itself.
    verify(&evidence.bundle()).expect_err("no time");
    let message = evidence.signed.content.signed_bytes();
    assert_signature(&key, &message, &evidence.signed.signature);
    let timestamped = sigstore.signature(&image, &recipe.clone().timestamped());
    verify(&timestamped.bundle()).expect("verifies");
}

fn assert_signature(key: &KeyPair, message: &[u8], signature: &[u8]) {
    crypto::verify_signature(
        &DerPublicKey::new(key.public_key_der()),
        message,
        &types::SignatureBytes::from_bytes(signature),
        crypto::SigningScheme::EcdsaP256Sha256,
    )
    .expect("a good signature");
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
        let payload = layer.bytes.as_slice().into();
        verify(&root, &bundle, payload, recipe.signer, Demand::Nothing)
            .unwrap_or_else(|error| panic!("{recipe:?}: {error}"));

        let layer = sigstore.attest_layer(&image, "https://acme.test/t", &json!({}), &recipe);
        let bundle = layer_bundle(&layer, Some(&key));
        let image = artifact(&image);
        verify(&root, &bundle, image, recipe.signer, Demand::Nothing)
            .unwrap_or_else(|error| panic!("attestation, {recipe:?}: {error}"));
    }
}

#[test]
fn a_key_layer_without_log_is_a_signature_and_nothing_else() {
    let key = KeyPair::generate();
    let recipe = Recipe::key(&key, Log::None);
    let layer = sigstore().sign_layer(&image().digest, REFERENCE, &recipe);
    let annotations: Vec<_> = layer.annotations.iter().collect();
    let [(name, signature)] = annotations[..] else {
        panic!("one annotation: {annotations:?}");
    };
    assert_eq!(name, "dev.cosignproject.cosign/signature");
    assert_signature(
        &key,
        &layer.bytes,
        &STANDARD.decode(signature).expect("base64"),
    );
}

/// What becomes of a fault before the family's verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is refused, for a reason with these words.
    Refused(&'static str),
    /// It passes, although it should not: our own checks must find it.
    Ours,
    /// It passes, and rightly.
    Sound,
    /// There is nothing to break in this kind of evidence.
    Nothing,
}

/// What is expected of a fault in a keyless bundle with a timestamp.
fn fate(fault: Fault, log: Log) -> Fate {
    use Fate::{Nothing, Ours, Refused, Sound};
    let version_1 = log == Log::RekorV1;
    match fault {
        Fault::OtherSubject | Fault::Sha512Subject => Refused("does not match any subject"),
        // One of several subjects is enough, to us as well.
        Fault::SecondSubject => Sound,
        Fault::NoSubject => Refused("no subjects"),
        // The family does not look at predicate types.
        Fault::OtherPredicateType => Ours,
        Fault::UnreadablePayload => Refused("failed to parse in-toto statement"),
        Fault::OtherPayloadType => Refused("unsupported DSSE payload type"),
        Fault::NoSct => Refused("missing SCT"),
        Fault::ForeignSct => Refused("SCT signature verification failed: Verification error: key"),
        Fault::BrokenSct => Refused("ECDSA_P256_SHA256 signature invalid"),
        Fault::DuplicateSct => Refused("multiple SCTs"),
        Fault::ForeignAuthority => Refused("InvalidSignatureForPublicKey"),
        // The family makes a trust anchor of every authority, and nobody looks at the dates
        // of trust anchors.
        Fault::ExpiredAuthority => Ours,
        Fault::ExpiredCertificate => Refused("CertExpired"),
        Fault::FutureCertificate | Fault::EarlyTimestamp => Refused("CertNotValidYet"),
        Fault::NoCodeSigning => Refused("RequiredEku"),
        // It takes the first name for the identity, and the newer extension for the issuer.
        Fault::SecondIdentity | Fault::IssuersDisagree => Ours,
        Fault::NoVerifier => Refused("no variant of enum VerificationMaterialContent"),
        Fault::BrokenSignature => Refused("DSSE signature verification failed"),
        Fault::EntryOfOtherDigest => Refused("hash mismatch"),
        Fault::EntryOfOtherSignature => Refused("signature in bundle does not match"),
        Fault::EntryOfOtherVerifier if version_1 => Refused("verifier mismatch"),
        Fault::EntryOfOtherVerifier => Refused("certificate in bundle does not match"),
        Fault::ForeignLog if version_1 => Refused("No log key"),
        Fault::ForeignLog => Refused("No matching Rekor key"),
        Fault::ForeignPromise if version_1 => Refused("SET verification failed"),
        // There still are a proof, and a timestamp for the time.
        Fault::NoPromise if version_1 => Sound,
        Fault::ForeignPromise | Fault::NoPromise => Nothing,
        Fault::BrokenCheckpoint => Refused("No valid Rekor signature"),
        Fault::BrokenInclusionProof => Refused("root hash mismatch"),
        Fault::NoInclusionProof => Refused("must have an inclusion proof"),
        // It counts nothing: whoever counts logs or times must see whether they are distinct.
        Fault::DuplicateEntry | Fault::DuplicateTimestamp => Ours,
        // The promise has a time too.
        Fault::NoTimestamp if version_1 => Sound,
        Fault::NoTimestamp => Refused("V2 bundle requires RFC3161 timestamp"),
        Fault::ForeignTimestamp => Refused("does not match any trusted TSA certificate"),
        Fault::ImpostorTimestamp => Refused("ECDSA_P384_SHA256 signature invalid"),
        Fault::TimestampOfOtherSignature => Refused("Timestamp message hash mismatch"),
    }
}

#[test]
fn each_fault_in_a_keyless_bundle_is_refused_or_known() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root().with_expired_authority();
    let image = image().digest;
    let identity = workflow();
    for log in [Log::RekorV1, Log::RekorV2] {
        for fault in Fault::ALL {
            let recipe = Recipe::keyless(&identity, log).timestamped().with(fault);
            let evidence = sigstore.signature(&image, &recipe);
            let outcome = prove(&root, &evidence, &image, recipe.signer);
            match (fate(fault, log), outcome) {
                (Fate::Refused(reason), Err(error)) if error.contains(reason) => {}
                (Fate::Ours | Fate::Sound | Fate::Nothing, Ok(_)) => {}
                (fate, outcome) => panic!("{fault:?} in {log:?}: {fate:?}, but {outcome:?}"),
            }
        }
    }
}

// THREATS B1: in a key's bundle as in a certificate's.
#[test]
fn faults_in_a_key_bundle_are_refused() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = image().digest;
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
            let evidence = sigstore.signature(&image, &recipe);
            let outcome = prove(&root, &evidence, &image, recipe.signer);
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
    let outcome = |fault| {
        let recipe = Recipe::keyless(&identity, Log::RekorV1).with(fault);
        let layer = sigstore.sign_layer(&image, REFERENCE, &recipe);
        let payload = layer.bytes.as_slice().into();
        let bundle = layer_bundle(&layer, None);
        verify(&root, &bundle, payload, recipe.signer, Demand::Nothing)
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
    prove(&root, &good, &image, recipe.signer).expect("good");

    let mut entry = good.clone();
    entry.entries = other.entries;
    prove(&root, &entry, &image, recipe.signer).expect_err("another's entry");
    let mut timestamp = good.clone();
    timestamp.timestamps = other.timestamps;
    prove(&root, &timestamp, &image, recipe.signer).expect_err("another's timestamp");
    let mut certificate = good;
    certificate.signed.verifier = other.signed.verifier;
    prove(&root, &certificate, &image, recipe.signer).expect_err("another's certificate");
}

// THREATS T2: the family sees whether the time of a log or an authority had ended.
#[test]
fn a_root_that_ended_before_the_signature_refuses_it() {
    let sigstore = sigstore();
    let image = image().digest;
    let identity = workflow();
    let before = sigstore.time - SignedDuration::from_hours(1);
    for log in [Log::RekorV1, Log::RekorV2] {
        let recipe = Recipe::keyless(&identity, log);
        let evidence = sigstore.signature(&image, &recipe);
        let ended = sigstore.trusted_root().ending(before);
        prove(&ended, &evidence, &image, recipe.signer).expect_err("ended before");
        let since = sigstore.trusted_root().ending(sigstore.time);
        prove(&since, &evidence, &image, recipe.signer).expect("ended after");
    }
}

#[test]
fn another_sigstore_is_not_trusted() {
    let (ours, theirs) = (sigstore(), sigstore());
    let image = image().digest;
    let identity = workflow();
    let recipe = Recipe::keyless(&identity, Log::RekorV2);
    let evidence = theirs.signature(&image, &recipe);
    prove(&theirs.trusted_root(), &evidence, &image, recipe.signer).expect("theirs");
    prove(&ours.trusted_root(), &evidence, &image, recipe.signer).expect_err("ours");
}

#[test]
fn the_past_can_be_signed_in() {
    let sigstore = sigstore();
    let image = image().digest;
    let identity = workflow();
    let long_ago = sigstore.time - SignedDuration::from_hours(24 * 300);
    for log in [Log::RekorV1, Log::RekorV2] {
        let recipe = Recipe::keyless(&identity, log);
        let evidence = sigstore.at(long_ago).signature(&image, &recipe);
        let root = sigstore.trusted_root();
        let verified = prove(&root, &evidence, &image, recipe.signer).expect("verifies");
        assert_eq!(verified.verified_timestamps(), [long_ago]);
    }
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
        prove(&root, &evidence, &image, recipe.signer).expect("verifies");
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

    let recipe = Recipe::keyless(&identity, Log::RekorV1);
    let layers = vec![
        sigstore.sign_layer(&image.digest, REFERENCE, &recipe),
        sigstore.sign_layer(&image.digest, REFERENCE, &recipe),
    ];
    let tag = signature_tag(&image.digest, layers);
    let name = format!("sha256-{}.sig", image.digest.hex());
    assert_eq!(tag.tag.as_deref(), Some(name.as_str()));
    let manifest = Manifest::parse(&tag.manifest, Some(tag.media_type)).expect("a manifest");
    assert!(manifest.is_evidence());
    assert_eq!(tag.blobs.len(), 3);
}
