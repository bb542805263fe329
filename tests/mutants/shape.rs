//! What a format is made of, and how it is minted.

use pullgate::oci::Digest;
use pullgate::sandbox::image::Package;
use pullgate::sandbox::sigstore::{
    BundleVersion, Evidence as Minted, KeyPair, KeyType, Log, Recipe, Signer, Sigstore,
};
use pullgate::verify::Evidence;
use serde_json::json;

use crate::harness::{By, World};
use crate::layers;

/// What carries a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Bundle(BundleVersion),
    SigLayer,
    AttLayer,
}

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// An envelope with a statement (of a `.sig` layer: its payload).
    Statement,
    /// The image's manifest.
    Message,
}

/// What is kept of what a log gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Whole,
    Promise,
    Proof,
}

/// One format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) carrier: Carrier,
    pub(crate) content: Content,
    pub(crate) by: By,
    /// Of a key that signs without a certificate.
    pub(crate) key: KeyType,
    pub(crate) log: Log,
    pub(crate) kept: Kept,
    /// Timestamped although the log tells the time, or without a log.
    pub(crate) timestamped: bool,
}

impl Shape {
    pub(crate) const fn new(carrier: Carrier, by: By, log: Log) -> Self {
        Self {
            carrier,
            content: Content::Statement,
            by,
            key: KeyType::P256,
            log,
            kept: match carrier {
                Carrier::Bundle(_) => Kept::Whole,
                Carrier::SigLayer | Carrier::AttLayer => Kept::Promise,
            },
            timestamped: false,
        }
    }

    pub(crate) const fn message(self) -> Self {
        let content = Content::Message;
        Self { content, ..self }
    }

    pub(crate) const fn timestamped(self) -> Self {
        let timestamped = true;
        Self {
            timestamped,
            ..self
        }
    }

    pub(crate) const fn keeping(self, kept: Kept) -> Self {
        Self { kept, ..self }
    }

    pub(crate) const fn signed_with(self, key: KeyType) -> Self {
        Self { key, ..self }
    }

    /// As `neutral.rs` knows it.
    pub(crate) fn name(&self) -> String {
        let carrier = match self.carrier {
            Carrier::Bundle(BundleVersion::V0_1) => "bundle 0.1",
            Carrier::Bundle(BundleVersion::V0_2) => "bundle 0.2",
            Carrier::Bundle(BundleVersion::V0_3) => "bundle 0.3",
            Carrier::Bundle(BundleVersion::V0_3Parameter) => "bundle of version=0.3",
            Carrier::SigLayer => "layer",
            Carrier::AttLayer => "layer of an attestation",
        };
        let by = match self.by {
            By::Login => "keyless",
            By::Key => "by key",
            By::Certificate => "by certificate",
        };
        let content = match self.content {
            Content::Statement => "",
            Content::Message => "message, ",
        };
        let is_layer = !matches!(self.carrier, Carrier::Bundle(_));
        let log = match (self.log, self.kept) {
            (Log::None, _) if self.timestamped => {
                return format!("{carrier}, {by}, {content}timestamp, no log");
            }
            (Log::None, _) => "no log",
            (Log::RekorV2 | Log::RekorV2Shard, _) => "Rekor v2",
            _ if is_layer => "promise",
            (_, Kept::Promise) => "promise of Rekor v1",
            (_, Kept::Proof) => "proof of Rekor v1",
            (Log::RekorV1Intoto, Kept::Whole) => "intoto in Rekor v1",
            (Log::RekorV1, Kept::Whole) => "Rekor v1",
        };
        let timestamp = match self.timestamped {
            true => " and a timestamp",
            false => "",
        };
        format!("{carrier}, {by}, {content}{log}{timestamp}")
    }

    pub(crate) fn has_timestamp(&self) -> bool {
        self.timestamped || matches!(self.log, Log::RekorV2 | Log::RekorV2Shard)
    }

    /// A document as evidence; `None` where it is not even that.
    pub(crate) fn read(&self, document: &[u8]) -> Option<Evidence> {
        match self.carrier {
            Carrier::Bundle(_) => Some(Evidence::Bundle {
                source: Digest::sha256(document),
                json: document.to_vec().into(),
            }),
            Carrier::SigLayer => layers::read_signature(document),
            Carrier::AttLayer => layers::read_attestation(document),
        }
    }

    fn mint(&self, sigstore: &Sigstore, image: &Package, signer: Signer<'_>) -> Vec<u8> {
        let mut recipe = Recipe::new(signer, self.log);
        if self.timestamped {
            recipe = recipe.timestamped();
        }
        let digest = image.digest();
        match (self.carrier, self.content) {
            (Carrier::SigLayer, _) => {
                let reference = "registry.sandbox.test/app";
                layers::document(&sigstore.sign_layer(&digest, reference, &recipe))
            }
            (Carrier::AttLayer, _) => {
                let predicate = json!({"builder": {"id": "https://acme.test/build"}});
                let kind = "https://slsa.dev/provenance/v1";
                layers::document(&sigstore.attest_layer(&digest, kind, &predicate, &recipe))
            }
            (Carrier::Bundle(version), Content::Statement) => {
                self.bundle(sigstore.signature(&digest, &recipe), version)
            }
            (Carrier::Bundle(version), Content::Message) => self.bundle(
                sigstore.message_signature(&image.manifest, &recipe),
                version,
            ),
        }
    }

    fn bundle(&self, mut evidence: Minted, version: BundleVersion) -> Vec<u8> {
        for entry in &mut evidence.entries {
            match self.kept {
                Kept::Whole => {}
                Kept::Promise => entry.proof = None,
                Kept::Proof => entry.promise = None,
            }
        }
        evidence.bundle_of(version)
    }

    /// A sound document, others like it (the same signer's of another image, another signer's of
    /// the same, and the same signer's of the same under another Sigstore or authority), and the
    /// keys that policy names.
    pub(crate) fn documents(&self, world: &World) -> Documents {
        let (key, other_key) = (KeyPair::of(self.key), KeyPair::of(self.key));
        let certified = |authority, subject| Signer::Certified { authority, subject };
        let (signer, other, elsewhere) = match self.by {
            By::Key => (
                Signer::Key(&key),
                Signer::Key(&other_key),
                Signer::Key(&key),
            ),
            By::Certificate => (
                certified(&world.authority, "release@acme.test"),
                certified(&world.authority, "mallory@acme.test"),
                certified(&world.other_authority, "release@acme.test"),
            ),
            By::Login => (
                Signer::Keyless(&world.signer),
                Signer::Keyless(&world.other_signer),
                Signer::Keyless(&world.signer),
            ),
        };
        let (ours, theirs) = (&world.sigstore, &world.other_sigstore);
        let mut donors = vec![
            self.mint(ours, &world.other_image, signer),
            self.mint(ours, &world.image, other),
        ];
        // By a key and nothing else, it would be as good as the sound one.
        if (self.by, self.log, self.timestamped) != (By::Key, Log::None, false) {
            // As many entries as in the other log, so that proofs have as many hashes.
            for image in [&world.other_image, &world.other_image] {
                self.mint(theirs, image, other);
            }
            donors.push(self.mint(theirs, &world.image, elsewhere));
        }
        Documents {
            sound: self.mint(ours, &world.image, signer),
            donors,
            keys: match self.by {
                By::Key => vec![key.public_key_der()],
                By::Login | By::Certificate => Vec::new(),
            },
        }
    }
}

/// Documents of one format.
pub(crate) struct Documents {
    pub(crate) sound: Vec<u8>,
    pub(crate) donors: Vec<Vec<u8>>,
    pub(crate) keys: Vec<Vec<u8>>,
}
