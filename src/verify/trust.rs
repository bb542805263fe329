//! What proofs rest on: trust roots and public keys.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use sigstore_verify::{Verifier, trust_root::TrustedRoot};
use x509_cert::der::Decode as _;

use crate::oci::Digest;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// A Sigstore trust root, parsed and ready to verify with.
pub struct TrustRoot {
    /// Its name in the configuration.
    pub name: RootName,
    /// After this time no certificate authority in it issues certificates any more.
    pub expires_at: Option<Timestamp>,
    /// The digest of the document it was read from: two roots are the same when these are.
    pub document: Digest,
    pub(super) verifier: Verifier,
}

/// Why a document is not a usable trust root.
#[derive(Debug, thiserror::Error)]
pub enum TrustRootError {
    /// Not the JSON of a `trusted_root.json`.
    #[error("it is not a Sigstore trusted_root.json: {0}")]
    Json(String),
    /// It parses, but keys or certificates in it cannot be used.
    #[error("it cannot be used: {0}")]
    Unusable(String),
}

impl TrustRoot {
    /// Reads a `trusted_root.json` (Sigstore protobuf-specs, `TrustedRoot`).
    ///
    /// # Errors
    /// [`TrustRootError`] when it does not parse or holds keys that cannot be used.
    pub fn from_json(name: RootName, json: &str) -> Result<Self, TrustRootError> {
        let root = TrustedRoot::from_json(json)
            .map_err(|error| TrustRootError::Json(error.to_string()))?;
        let verifier =
            Verifier::new(&root).map_err(|error| TrustRootError::Unusable(error.to_string()))?;
        Ok(Self {
            name,
            expires_at: expires_at(&root),
            document: Digest::sha256(json.as_bytes()),
            verifier,
        })
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", self.name)
    }
}

/// The latest end among the certificate authorities; each ends with its window or with the
/// first certificate of its chain to expire.
fn expires_at(root: &TrustedRoot) -> Option<Timestamp> {
    let ends = root.certificate_authorities.iter().map(|authority| {
        let window = authority.valid_for.and_then(|window| window.end);
        authority
            .cert_chain
            .certificates
            .iter()
            .filter_map(|entry| not_after(entry.raw_bytes.as_bytes()))
            .chain(window)
            .min()
    });
    ends.flatten().max()
}

fn not_after(der: &[u8]) -> Option<Timestamp> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    Timestamp::try_from(
        certificate
            .tbs_certificate
            .validity
            .not_after
            .to_system_time(),
    )
    .ok()
}

/// All that proofs may rest on at one time.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// The trust roots that policy names.
    pub roots: Vec<Arc<TrustRoot>>,
    /// The keys that policy names.
    pub keys: Vec<PublicKey>,
}

impl Material {
    /// True when proofs rest on the same roots and keys, so that facts stay true.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let roots = |material: &Self| -> Vec<(RootName, Digest)> {
            material
                .roots
                .iter()
                .map(|root| (root.name.clone(), root.document))
                .collect()
        };
        roots(self) == roots(other) && self.keys == other.keys
    }
}
