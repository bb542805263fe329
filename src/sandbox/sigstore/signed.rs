//! What is signed, and what a signature is made of, before any log or timestamp.

use serde_json::{Value, json};

use super::encoding::{base64, pem, sha256};
use super::keys::KeyType;

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// What a signature is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A DSSE envelope: the signature is over its pre-authentication encoding.
    Envelope {
        /// The type of the payload.
        payload_type: String,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Plain bytes.
    Message(Vec<u8>),
}

impl Content {
    /// The bytes that are signed.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        match self {
            Self::Envelope {
                payload_type,
                payload,
            } => {
                let header = format!(
                    "DSSEv1 {} {payload_type} {} ",
                    payload_type.len(),
                    payload.len()
                );
                [header.as_bytes(), payload].concat()
            }
            Self::Message(message) => message.clone(),
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Self::Envelope { payload, .. } => payload,
            Self::Message(message) => message,
        }
    }
}

/// What a signature is checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verifier {
    /// A leaf certificate, DER.
    Certificate(Vec<u8>),
    /// A certificate with those that lead from it to the authority's root, leaf first; DER.
    /// The root itself is not among them.
    Chain(Vec<Vec<u8>>),
    /// A public key, the DER of a SubjectPublicKeyInfo.
    PublicKey(Vec<u8>),
    /// Nothing at all, which no sound evidence has.
    Absent,
}

impl Verifier {
    pub(super) fn pem(&self) -> String {
        match self {
            Self::Certificate(_) | Self::Chain(_) => self
                .certificates()
                .first()
                .map(|leaf| pem("CERTIFICATE", leaf))
                .unwrap_or_default(),
            Self::PublicKey(der) => pem("PUBLIC KEY", der),
            Self::Absent => String::new(),
        }
    }

    /// The certificates above the leaf, one PEM document after another.
    pub(super) fn chain_pem(&self) -> String {
        let above = self.certificates().iter().skip(1);
        above.map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// Leaf first; none where it is no certificate.
    pub(super) fn certificates(&self) -> &[Vec<u8>] {
        match self {
            Self::Certificate(leaf) => std::slice::from_ref(leaf),
            Self::Chain(chain) => chain,
            Self::PublicKey(_) | Self::Absent => &[],
        }
    }

    /// The member of a bundle's verification material: before version 0.3 a chain, even of one
    /// certificate; since then the leaf certificate alone, so that whoever verifies
    /// has to have those above it.
    pub(super) fn material(&self, single: bool) -> Value {
        match self {
            Self::Certificate(_) | Self::Chain(_) if single => {
                let leaf = self.certificates().first();
                json!({"certificate": {"rawBytes": leaf.map(base64)}})
            }
            Self::Certificate(_) | Self::Chain(_) => {
                let certificates = self.certificates().iter();
                let certificates: Vec<_> = certificates
                    .map(|der| json!({"rawBytes": base64(der)}))
                    .collect();
                json!({"x509CertificateChain": {"certificates": certificates}})
            }
            Self::PublicKey(der) => {
                json!({"publicKey": {"hint": base64(sha256(&[der]))}})
            }
            Self::Absent => json!({}),
        }
    }
}

/// A signature with what it is over and what it is checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What it is over.
    pub content: Content,
    /// The signature: ASN.1 by elliptic curves, plain bytes by Ed25519 and RSA.
    pub signature: Vec<u8>,
    /// What kind of key made it.
    pub key_type: KeyType,
    /// What it is checked with.
    pub verifier: Verifier,
}

impl Signed {
    /// The DSSE envelope as JSON, or `None` where plain bytes are signed.
    #[must_use]
    pub fn envelope(&self) -> Option<Value> {
        let Content::Envelope {
            payload_type,
            payload,
        } = &self.content
        else {
            return None;
        };
        Some(json!({
            "payload": base64(payload),
            "payloadType": payload_type,
            "signatures": [{"sig": base64(&self.signature)}],
        }))
    }
}
