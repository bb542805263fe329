//! Holders of OpenPGP keys who sign images as `skopeo copy --sign-by` does, and say of their
//! keys whatever a test wants to have said.

use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use jiff::Timestamp;
use pgp::{
    crypto::{ed25519, hash::HashAlgorithm, public_key::PublicKeyAlgorithm},
    packet::{
        KeyFlags, LiteralData, OnePassSignature, Packet, PacketTrait, PubKeyInner, PublicKey,
        PublicSubkey, RevocationCode, SecretKey, SecretSubkey, Signature, SignatureConfig,
        SignatureType, Subpacket, SubpacketData, UserId,
    },
    ser::Serialize as _,
    types::{
        Duration as Seconds, KeyDetails as _, KeyVersion, Password, PlainSecretParams,
        PublicParams, SecretParams, SigningKey, Tag, Timestamp as Instant,
    },
};
use serde_json::json;

use crate::oci::Digest;

/// What comes of parts that the sandbox made; see the room's description.
#[expect(clippy::expect_used, reason = "a bug of the sandbox, not a condition")]
fn built<T>(result: pgp::errors::Result<T>) -> T {
    result.expect("the sandbox builds its OpenPGP packets of its own parts")
}

/// What a holder says of a key.
#[derive(Debug, Clone)]
pub struct Life {
    /// When it was made.
    pub created: Timestamp,
    /// For how long it holds from then on.
    pub lasts: Option<Duration>,
    /// Whether it is revoked.
    pub revoked: bool,
    /// Whether it may sign.
    pub may_sign: bool,
}

impl Life {
    /// Made then, without an end, and may sign.
    #[must_use]
    pub fn from(created: Timestamp) -> Self {
        Self {
            created,
            lasts: None,
            revoked: false,
            may_sign: true,
        }
    }
}

/// A message that a holder signs otherwise than `skopeo` would.
#[derive(Debug, Clone)]
pub struct Manner {
    /// When it says it was signed.
    pub signed_at: Timestamp,
    /// For how long the signature holds.
    pub lasts: Option<Duration>,
    /// With the subkey, where there is one.
    pub by_subkey: bool,
    /// With something in it that has to be understood, and that nobody does.
    pub demands: bool,
}

impl Manner {
    /// As `skopeo` signs, at this time.
    #[must_use]
    pub fn at(signed_at: Timestamp) -> Self {
        Self {
            signed_at,
            lasts: None,
            by_subkey: false,
            demands: false,
        }
    }
}

/// The holder of a key, which may have a subkey.
#[derive(Debug)]
pub struct Holder {
    primary: SecretKey,
    /// What the holder says of the key now.
    pub life: Life,
    subkey: Option<SecretSubkey>,
    /// What the holder says of the subkey now.
    pub subkey_life: Life,
    /// False for a subkey that does not say itself whose it is.
    pub subkey_agrees: bool,
}

impl Holder {
    /// A holder with a fresh key.
    #[must_use]
    pub fn new(life: Life) -> Self {
        let (inner, secret) = fresh(life.created);
        let public = built(PublicKey::from_inner(inner));
        Self {
            primary: built(SecretKey::new(public, secret)),
            subkey: None,
            subkey_life: life.clone(),
            subkey_agrees: true,
            life,
        }
    }

    /// The same with a fresh subkey.
    #[must_use]
    pub fn with_subkey(mut self, life: Life) -> Self {
        let (inner, secret) = fresh(life.created);
        let public = built(PublicSubkey::from_inner(inner));
        self.subkey = Some(built(SecretSubkey::new(public, secret)));
        self.subkey_life = life;
        self
    }

    /// The primary key's fingerprint, in upper case.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.primary.fingerprint().to_string().to_uppercase()
    }

    /// The public key with all that its holder says of it, in binary.
    #[must_use]
    pub fn keyring(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        built(self.public().to_writer_with_header(&mut bytes));
        if self.life.revoked {
            bytes.extend(self.revocation());
        }
        let id = built(UserId::from_str(Default::default(), "Ada <ada@acme.test>"));
        built(id.to_writer_with_header(&mut bytes));
        let mut config = self.config(SignatureType::CertPositive, &self.life);
        said(&mut config, &self.life);
        let public = self.public();
        let said = config.sign_certification(&self.primary, public, &none(), Tag::UserId, &id);
        built(built(said).to_writer_with_header(&mut bytes));
        if let Some(subkey) = &self.subkey {
            self.write_subkey(subkey, &mut bytes);
        }
        bytes
    }

    /// A revocation of the key, as a packet of its own.
    #[must_use]
    pub fn revocation(&self) -> Vec<u8> {
        let mut config = self.config(SignatureType::KeyRevocation, &self.life);
        let reason = SubpacketData::RevocationReason(RevocationCode::KeyCompromised, Bytes::new());
        config
            .hashed_subpackets
            .push(built(Subpacket::regular(reason)));
        let revocation = built(config.sign_key(&self.primary, &none(), self.public()));
        let mut bytes = Vec::new();
        built(revocation.to_writer_with_header(&mut bytes));
        bytes
    }

    fn write_subkey(&self, subkey: &SecretSubkey, bytes: &mut Vec<u8>) {
        let public = subkey.public_key();
        built(public.to_writer_with_header(bytes));
        let life = &self.subkey_life;
        let mut config = self.config(SignatureType::SubkeyBinding, life);
        said(&mut config, life);
        if self.subkey_agrees {
            let back = config_of(subkey, SignatureType::KeyBinding, life.created);
            let back = back.sign_primary_key_binding(subkey, &public, &none(), self.public());
            let back = SubpacketData::EmbeddedSignature(Box::new(built(back)));
            config
                .hashed_subpackets
                .push(built(Subpacket::regular(back)));
        }
        let bind = |config: SignatureConfig| {
            built(config.sign_subkey_binding(&self.primary, self.public(), &none(), &public))
        };
        built(bind(config).to_writer_with_header(bytes));
        if life.revoked {
            let revocation = bind(self.config(SignatureType::SubkeyRevocation, life));
            built(revocation.to_writer_with_header(bytes));
        }
    }

    /// Signs an image as `skopeo copy --sign-by` does.
    #[must_use]
    pub fn sign_image(&self, digest: &Digest, reference: &str, signed_at: Timestamp) -> Vec<u8> {
        let payload = payload(digest, reference);
        self.sign(&payload, &Manner::at(signed_at))
    }

    /// A signed message with this payload.
    #[must_use]
    pub fn sign(&self, payload: &[u8], manner: &Manner) -> Vec<u8> {
        match (&self.subkey, manner.by_subkey) {
            (Some(subkey), true) => message(subkey, payload, manner),
            _ => message(&self.primary, payload, manner),
        }
    }

    fn public(&self) -> &PublicKey {
        self.primary.public_key()
    }

    fn config(&self, kind: SignatureType, life: &Life) -> SignatureConfig {
        config_of(&self.primary, kind, life.created)
    }
}

/// What `skopeo` signs for an image.
#[must_use]
pub fn payload(digest: &Digest, reference: &str) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "type": "atomic container signature",
            "image": { "docker-manifest-digest": digest },
            "identity": { "docker-reference": reference },
        },
        "optional": { "creator": "pullgate sandbox", "timestamp": 1_700_000_000 },
    });
    payload.to_string().into_bytes()
}

fn message(key: &impl SigningKey, payload: &[u8], manner: &Manner) -> Vec<u8> {
    let mut config = config_of(key, SignatureType::Binary, manner.signed_at);
    if let Some(lasts) = manner.lasts {
        let lasts = SubpacketData::SignatureExpirationTime(length(lasts));
        config
            .hashed_subpackets
            .push(built(Subpacket::regular(lasts)));
    }
    if manner.demands {
        let demand = SubpacketData::Experimental(101, Bytes::from_static(b"demand"));
        config
            .hashed_subpackets
            .push(built(Subpacket::critical(demand)));
    }
    let announced = OnePassSignature::v3(
        SignatureType::Binary,
        config.hash_alg,
        key.algorithm(),
        key.legacy_key_id(),
    );
    let signature: Signature = built(config.sign(key, &none(), payload));
    let text = built(LiteralData::from_bytes("", payload.to_vec().into()));
    let packets: [Packet; 3] = [announced.into(), text.into(), signature.into()];
    let mut bytes = Vec::new();
    for packet in packets {
        built(packet.to_writer(&mut bytes));
    }
    bytes
}

fn fresh(created: Timestamp) -> (PubKeyInner, SecretParams) {
    let mut seed = [0; 32];
    // It cannot fail but where the machine has no randomness at all.
    if rand::fill(&mut seed).is_err() {
        seed = *Digest::sha256(created.to_string().as_bytes())
            .as_bytes()
            .first_chunk()
            .unwrap_or(&seed);
    }
    let secret = built(ed25519::SecretKey::try_from_bytes(
        seed,
        ed25519::Mode::Ed25519,
    ));
    let public = PublicParams::Ed25519((&secret).into());
    let inner = PubKeyInner::new(
        KeyVersion::V4,
        PublicKeyAlgorithm::Ed25519,
        instant(created),
        None,
        public,
    );
    let secret = SecretParams::Plain(PlainSecretParams::Ed25519(secret));
    (built(inner), secret)
}

fn config_of(key: &impl SigningKey, kind: SignatureType, at: Timestamp) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, key.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets = [
        SubpacketData::SignatureCreationTime(instant(at)),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ]
    .into_iter()
    .map(|data| built(Subpacket::regular(data)))
    .collect();
    config.unhashed_subpackets = vec![built(Subpacket::regular(SubpacketData::IssuerKeyId(
        key.legacy_key_id(),
    )))];
    config
}

/// Adds what a holder says of a key.
fn said(config: &mut SignatureConfig, life: &Life) {
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(life.may_sign);
    let mut say = |data| {
        config
            .hashed_subpackets
            .push(built(Subpacket::regular(data)));
    };
    say(SubpacketData::KeyFlags(flags));
    if let Some(lasts) = life.lasts {
        say(SubpacketData::KeyExpirationTime(length(lasts)));
    }
}

fn none() -> Password {
    Password::empty()
}

fn instant(at: Timestamp) -> Instant {
    Instant::from_secs(u32::try_from(at.as_second()).unwrap_or(u32::MAX))
}

fn length(duration: Duration) -> Seconds {
    Seconds::from_secs(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX))
}
