//! What proofs rest on: trust roots and public keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use sigstore_verify::{
    Verifier,
    crypto::Keyring,
    trust_root::TrustedRoot,
    tsa,
    types::{SignatureBytes, TimeRange, TimestampToken},
};
use x509_cert::{Certificate, der::Decode as _, name::Name, time::Time};

use crate::oci::Digest;
use crate::verify::Authority;
use crate::verify::Demands;
use crate::verify::GpgKey;
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
    /// The keys of its transparency logs.
    pub(super) log_keys: Keyring,
    timestamp_authorities: Vec<tsa::TsaAuthority>,
    /// The names of its certificate authorities, those above them included.
    pub(super) issuers: Vec<Name>,
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
        let mut root = TrustedRoot::from_json(json)
            .map_err(|error| TrustRootError::Json(error.to_string()))?;
        narrow(&mut root)?;
        let verifier =
            Verifier::new(&root).map_err(|error| TrustRootError::Unusable(error.to_string()))?;
        let log_keys = root
            .rekor_keys()
            .map_err(|error| TrustRootError::Unusable(error.to_string()))?;
        Ok(Self {
            log_keys,
            timestamp_authorities: root.tsa_authorities(),
            issuers: issuers(&root),
            name,
            expires_at: expires_at(&root),
            document: Digest::sha256(json.as_bytes()),
            verifier,
        })
    }
}

impl TrustRoot {
    /// When one of the timestamp authorities saw the signature, by its token.
    pub(super) fn seen_at(
        &self,
        token: &TimestampToken,
        signature: &SignatureBytes,
    ) -> Option<Timestamp> {
        let mut authorities = self.timestamp_authorities.iter();
        authorities.find_map(|authority| {
            tsa::verify_timestamp_for_authority(token, signature, authority).ok()
        })
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", self.name)
    }
}

/// Narrows the window of each authority to the time in which every certificate of its chain is
/// valid, and leaves out those for which there is no such time.
///
/// The verifier family makes trust anchors of these certificates, and nobody looks at the dates
/// of trust anchors; but it does ask the window, at every proven time of signing (THREATS T1).
fn narrow(root: &mut TrustedRoot) -> Result<(), TrustRootError> {
    let mut authorities = Vec::new();
    for mut authority in std::mem::take(&mut root.certificate_authorities) {
        let chain = authority.cert_chain.certificates.iter();
        let chain = chain.map(|entry| entry.raw_bytes.as_bytes());
        if let Some(window) = window(chain, authority.valid_for)? {
            authority.valid_for = Some(window);
            authorities.push(authority);
        }
    }
    root.certificate_authorities = authorities;
    let mut authorities = Vec::new();
    for mut authority in std::mem::take(&mut root.timestamp_authorities) {
        let chain = authority.cert_chain.certificates.iter();
        let chain = chain.map(|entry| entry.raw_bytes.as_bytes());
        if let Some(window) = window(chain, authority.valid_for)? {
            authority.valid_for = Some(window);
            authorities.push(authority);
        }
    }
    root.timestamp_authorities = authorities;
    Ok(())
}

/// The part of `stated` in which every certificate is valid; `None` when there is none.
fn window<'a>(
    chain: impl Iterator<Item = &'a [u8]>,
    stated: Option<TimeRange>,
) -> Result<Option<TimeRange>, TrustRootError> {
    let unusable = |what: &str| TrustRootError::Unusable(what.to_owned());
    let mut whole = stated;
    for certificate in chain {
        let (start, end) = validity(certificate)
            .ok_or_else(|| unusable("the certificate of an authority does not parse"))?;
        whole = Some(match whole {
            None => TimeRange::new(start, Some(end)),
            Some(so_far) => TimeRange::new(
                so_far.start.max(start),
                Some(so_far.end.map_or(end, |earlier| earlier.min(end))),
            ),
        });
    }
    let whole = whole.ok_or_else(|| unusable("an authority has no certificates"))?;
    Ok(whole
        .end
        .is_none_or(|end| whole.start <= end)
        .then_some(whole))
}

/// The names of all certificates of the certificate authorities.
fn issuers(root: &TrustedRoot) -> Vec<Name> {
    let authorities = root.certificate_authorities.iter();
    let certificates = authorities.flat_map(|authority| &authority.cert_chain.certificates);
    certificates
        .filter_map(|entry| Certificate::from_der(entry.raw_bytes.as_bytes()).ok())
        .map(|certificate| certificate.tbs_certificate.subject)
        .collect()
}

/// From when to when a certificate is valid.
pub(super) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let validity = Certificate::from_der(der).ok()?.tbs_certificate.validity;
    let timestamp = |time: Time| Timestamp::try_from(time.to_system_time()).ok();
    Some((
        timestamp(validity.not_before)?,
        timestamp(validity.not_after)?,
    ))
}

/// The latest end among the certificate authorities' windows.
fn expires_at(root: &TrustedRoot) -> Option<Timestamp> {
    let windows = root.certificate_authorities.iter();
    windows
        .filter_map(|authority| authority.valid_for?.end)
        .max()
}

/// All that proofs may rest on at one time.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// The trust roots that policy names.
    pub roots: Vec<Arc<TrustRoot>>,
    /// The keys that policy names.
    pub keys: Vec<PublicKey>,
    /// The certificate authorities of one's own that policy names, each once.
    pub authorities: Vec<Authority>,
    /// The OpenPGP keys that policy names, each once.
    pub gpg_keys: Vec<GpgKey>,
    /// The predicate types that policy has conditions on. What attestations of these types say
    /// is held in facts; of others there is no use for it, and it may be megabytes.
    pub predicates: BTreeSet<String>,
    /// The least that a signer of policy demands of keyless signatures under each root; the
    /// default where it has none. What does not reach it is refused here already.
    pub demands: BTreeMap<RootName, Demands>,
    /// The trust roots that policy names and that are not there to prove with.
    pub missing: Vec<MissingRoot>,
}

/// A trust root that is not there: what it would have to prove can be neither proven nor denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRoot {
    /// Its name in the configuration.
    pub name: RootName,
    /// Why it is not there, for people.
    pub why: String,
}

impl Material {
    /// True when proofs rest on the same roots and keys and hold the same, so that facts stay
    /// what they are.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let roots = |material: &Self| -> Vec<(RootName, Digest)> {
            material
                .roots
                .iter()
                .map(|root| (root.name.clone(), root.document))
                .collect()
        };
        let missing = |material: &Self| -> Vec<RootName> {
            let missing = material.missing.iter();
            missing.map(|root| root.name.clone()).collect()
        };
        roots(self) == roots(other)
            && self.keys == other.keys
            && self.authorities == other.authorities
            && self.gpg_keys == other.gpg_keys
            && self.predicates == other.predicates
            && missing(self) == missing(other)
            && self.demands == other.demands
    }
}

#[cfg(test)]
mod tests {
    use sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

    use super::*;

    // The windows of real authorities are those of their certificates already, or wider: none of
    // them is lost.
    #[test]
    fn the_public_root_keeps_its_authorities() {
        let mut root = TrustedRoot::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT).expect("a root");
        let before = root.clone();
        narrow(&mut root).expect("certificates that parse");
        let (certificate, timestamp) = (
            root.certificate_authorities.len(),
            root.timestamp_authorities.len(),
        );
        assert_eq!(certificate, before.certificate_authorities.len());
        assert_eq!(timestamp, before.timestamp_authorities.len());
        for (narrowed, stated) in root
            .certificate_authorities
            .iter()
            .zip(&before.certificate_authorities)
        {
            let (narrowed, stated) = (
                narrowed.valid_for.expect("a window"),
                stated.valid_for.expect("a window"),
            );
            assert!(narrowed.start >= stated.start && narrowed.end.is_some());
            assert!(stated.end.is_none_or(|end| narrowed.end <= Some(end)));
        }
    }
}
