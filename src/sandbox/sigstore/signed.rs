//! What is signed, and what a signature is made of, before any log or timestamp.

use serde_json::{Value, json};

use super::encoding::{base64, pem, sha256};

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
    /// A public key, the DER of a SubjectPublicKeyInfo.
    PublicKey(Vec<u8>),
    /// Nothing at all, which no sound evidence has.
    Absent,
}

impl Verifier {
    pub(super) fn pem(&self) -> String {
        match self {
            Self::Certificate(der) => pem("CERTIFICATE", der),
            Self::PublicKey(der) => pem("PUBLIC KEY", der),
            Self::Absent => String::new(),
        }
    }

    /// The member of a bundle's verification material.
    pub(super) fn material(&self) -> Value {
        match self {
            Self::Certificate(der) => json!({"certificate": {"rawBytes": base64(der)}}),
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
    /// The signature, ASN.1.
    pub signature: Vec<u8>,
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
