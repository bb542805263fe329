//! Kinds of keys, versions of bundles, shards of logs, authorities of one's own.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1,
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    VerificationAlgorithm,
};

use super::tests::{self, Demand, artifact, prove, sigstore, verify, workflow};
use super::*;
use crate::sandbox::image;

const RSA: &[KeyType] = &[KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096];

fn algorithm(kind: KeyType) -> &'static dyn VerificationAlgorithm {
    match kind {
        KeyType::P256 => &ECDSA_P256_SHA256_ASN1,
        KeyType::P384 => &ECDSA_P384_SHA384_ASN1,
        KeyType::P384Sha256 => &ECDSA_P384_SHA256_ASN1,
        KeyType::P521 => &ECDSA_P521_SHA512_ASN1,
        KeyType::Ed25519 => &ED25519,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => &RSA_PKCS1_2048_8192_SHA256,
        KeyType::Rsa2048Pss => &RSA_PSS_2048_8192_SHA256,
    }
}

#[test]
fn keys_of_every_type_sign_in_their_own_way() {
    for kind in KeyType::ALL {
        let key = KeyPair::of(kind);
        let public = ParsedPublicKey::new(algorithm(kind), key.public_key_der());
        let public = public.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let signature = key.sign(b"a message");
        public
            .verify_sig(b"a message", &signature)
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        public
            .verify_sig(b"another", &signature)
            .expect_err("another message");
    }
}

// The key types for which the family takes the same hash as cosign.
#[test]
fn bundles_by_keys_of_many_types_verify_with_their_entries() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = tests::image().digest;
    let kinds = [KeyType::P256, KeyType::Ed25519].iter().chain(RSA);
    for kind in kinds {
        let key = KeyPair::of(*kind);
        for log in [Log::RekorV1, Log::RekorV1Intoto, Log::RekorV2] {
            // The family reads entries of Rekor v2 by P-256 only.
            if log == Log::RekorV2 && *kind != KeyType::P256 {
                continue;
            }
            let recipe = Recipe::key(&key, log);
            let evidence = sigstore.signature(&image, &recipe);
            prove(&root, &evidence, &image, recipe.signer)
                .unwrap_or_else(|error| panic!("{kind:?} in {log:?}: {error}"));
        }
    }
}

#[test]
fn every_version_of_the_bundle_verifies() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = tests::image().digest;
    let identity = workflow();
    for version in BundleVersion::ALL {
        let recipe = Recipe::keyless(&identity, Log::RekorV1);
        let evidence = sigstore.signature(&image, &recipe);
        let bundle = evidence.bundle_of(version);
        let text = String::from_utf8(bundle.clone()).expect("JSON");
        assert!(text.contains(version.media_type()), "{version:?}");
        verify(
            &root,
            &bundle,
            artifact(&image),
            recipe.signer,
            Demand::Proof,
        )
        .unwrap_or_else(|error| panic!("{version:?}: {error}"));
    }
}

#[test]
fn a_bundle_can_sign_the_manifest_itself() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let package = image::runnable("hello");
    let identity = workflow();
    for log in [Log::RekorV1, Log::RekorV2] {
        let recipe = Recipe::keyless(&identity, log);
        let evidence = sigstore.message_signature(&package.manifest, &recipe);
        let image = artifact(&package.descriptor().digest);
        verify(
            &root,
            &evidence.bundle(),
            image,
            recipe.signer,
            Demand::Proof,
        )
        .unwrap_or_else(|error| panic!("{log:?}: {error}"));
    }
}

#[test]
fn a_log_has_shards_with_keys_of_their_own() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = tests::image().digest;
    let identity = workflow();
    let [one, two] = [Log::RekorV2, Log::RekorV2Shard].map(|log| {
        let recipe = Recipe::keyless(&identity, log);
        let evidence = sigstore.signature(&image, &recipe);
        prove(&root, &evidence, &image, recipe.signer).expect("verifies");
        evidence
    });
    assert_ne!(one.entries[0].log_id, two.entries[0].log_id);
}

#[test]
fn keyless_keys_may_be_of_other_types() {
    let sigstore = sigstore();
    let root = sigstore.trusted_root();
    let image = tests::image().digest;
    let identity = workflow();
    for kind in [KeyType::Ed25519, KeyType::Rsa2048] {
        let recipe = Recipe::keyless(&identity, Log::RekorV1).by(kind);
        let evidence = sigstore.signature(&image, &recipe);
        prove(&root, &evidence, &image, recipe.signer)
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn an_authority_of_ones_own_certifies_through_any_number_of_others() {
    let sigstore = sigstore();
    let image = tests::image().digest;
    for depth in [0, 1, 2, 3] {
        let authority = CertificateAuthority::new(depth, sigstore.time);
        let trusted = [authority.root_der().to_vec()];
        let root = sigstore.trusted_root().with_authority(&trusted);
        let signer = Signer::Certified {
            authority: &authority,
            subject: "https://build.acme.test/release",
        };
        let recipe = Recipe::new(signer, Log::RekorV1);
        let evidence = sigstore.signature(&image, &recipe);
        // Version 0.3 sends the leaf alone.
        let bundle = evidence.bundle_of(BundleVersion::V0_1);
        let verify = |root| verify(root, &bundle, artifact(&image), signer, Demand::Proof);
        verify(&root).unwrap_or_else(|error| panic!("{depth}: {error}"));
        verify(&sigstore.trusted_root()).expect_err("not trusted");

        let layer = sigstore.sign_layer(&image, "registry.sandbox.test/app", &recipe);
        assert_eq!(
            layer.annotations["dev.sigstore.cosign/chain"]
                .matches("BEGIN CERTIFICATE")
                .count(),
            depth
        );
        assert_eq!(authority.chain_pem().matches("BEGIN").count(), depth + 1);
    }
}

#[test]
fn a_broken_authority_certifies_nobody() {
    let sigstore = sigstore();
    let image = tests::image().digest;
    for fault in AuthorityFault::ALL {
        let authority = CertificateAuthority::broken(fault, sigstore.time);
        let trusted = [authority.root_der().to_vec()];
        let root = sigstore.trusted_root().with_authority(&trusted);
        let signer = Signer::Certified {
            authority: &authority,
            subject: "https://build.acme.test/release",
        };
        let evidence = sigstore.signature(&image, &Recipe::new(signer, Log::RekorV1));
        let bundle = evidence.bundle_of(BundleVersion::V0_1);
        let outcome = verify(&root, &bundle, artifact(&image), signer, Demand::Proof);
        let error = outcome.expect_err("refused");
        assert!(
            error.contains("chain validation failed"),
            "{fault:?}: {error}"
        );
    }
}
