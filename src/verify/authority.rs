//! Certificate authorities of one's own, which certify signers in Fulcio's stead: which are
//! usable, and whether they vouch for a certificate (step 2).
//!
//! A path from a certificate to the authority is found and checked by `webpki`: signatures,
//! dates, basic constraints, path lengths, name constraints, usages of what lies between, and
//! that no critical extension is there which it does not know. What it leaves aside is checked
//! here: the dates, the path length and the usages of the authority's own certificate, and that
//! whatever lies between may sign certificates at all.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage as Usage, anchor_from_trusted_cert};
use x509_cert::{
    Certificate,
    der::{
        Decode as _,
        oid::{
            ObjectIdentifier,
            db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_CODE_SIGNING},
        },
    },
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages},
    name::Name as DistinguishedName,
};

use crate::oci::Digest;
use crate::verify::PARTS_MAX;
use crate::verify::trust::validity;

/// The most certificates that one authority may bring to find paths with.
const INTERMEDIATES_MAX: usize = 16;
/// The code signing usage, in a place that lasts.
static CODE_SIGNING: ObjectIdentifier = ID_KP_CODE_SIGNING;

/// The certificate of an authority that policy trusts to certify signers. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    root: Arc<Root>,
    /// What may lie between it and a signer's certificate. Nothing is believed because it is
    /// here: it is signed by the authority, or it is of no use.
    intermediates: Arc<[CertificateDer<'static>]>,
}

struct Root {
    certificate: Vec<u8>,
    fingerprint: Digest,
    name: DistinguishedName,
    subject: String,
    anchor: TrustAnchor<'static>,
    window: Window,
    path_length: Option<u8>,
}

/// From when to when certificates are valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Window {
    pub(super) fn contains(self, at: Timestamp) -> bool {
        self.start <= at && at <= self.end
    }

    fn and(self, other: Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }

    fn of(certificate: &[u8]) -> Result<Self, String> {
        let (start, end) = validity(certificate).ok_or("its dates do not parse")?;
        Ok(Self { start, end })
    }
}

impl Authority {
    /// Its certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.root.certificate
    }

    /// What may lie between it and a signer's certificate, in DER.
    pub fn intermediates(&self) -> impl Iterator<Item = &[u8]> {
        self.intermediates.iter().map(AsRef::as_ref)
    }

    /// Reads an authority's certificate, and those that help to find the way to it; all in DER.
    ///
    /// # Errors
    /// What is wrong with one of them, for people.
    pub fn read(certificate: &[u8], intermediates: &[Vec<u8>]) -> Result<Self, String> {
        let parsed = may_certify(certificate)?;
        let constraints: Option<(bool, BasicConstraints)> = parsed
            .tbs_certificate
            .get()
            .map_err(|error| format!("its basic constraints do not parse: {error}"))?;
        let (_, constraints) = constraints
            .filter(|(_, constraints)| constraints.ca)
            .ok_or("it is no certificate authority: its basic constraints do not say so")?;
        if intermediates.len() > INTERMEDIATES_MAX {
            return Err(format!(
                "there are {} intermediate certificates; {INTERMEDIATES_MAX} are looked at",
                intermediates.len()
            ));
        }
        for intermediate in intermediates {
            may_certify(intermediate).map_err(|why| format!("an intermediate: {why}"))?;
        }
        let anchor = CertificateDer::from(certificate);
        let anchor = anchor_from_trusted_cert(&anchor)
            .map_err(|error| format!("it does not parse: {error}"))?;
        let intermediates = intermediates.iter().cloned().map(CertificateDer::from);
        Ok(Self {
            root: Arc::new(Root {
                fingerprint: Digest::sha256(certificate),
                subject: parsed.tbs_certificate.subject.to_string(),
                name: parsed.tbs_certificate.subject,
                anchor: anchor.to_owned(),
                window: Window::of(certificate)?,
                path_length: constraints.path_len_constraint,
                certificate: certificate.to_vec(),
            }),
            intermediates: intermediates.collect(),
        })
    }

    /// The SHA-256 of its certificate: its name in facts.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.root.fingerprint
    }

    /// Whom its certificate names.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.root.subject
    }

    /// When its certificate expires.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.root.window.end
    }

    /// Each authority once, with all that help to find the way to it.
    pub fn merged<'a>(authorities: impl Iterator<Item = &'a Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for authority in authorities {
            let known = merged
                .iter_mut()
                .find(|known| known.fingerprint() == authority.fingerprint());
            match known {
                None => merged.push(authority.clone()),
                Some(known) => {
                    let mut all = known.intermediates.to_vec();
                    let more = authority.intermediates.iter();
                    let more: Vec<_> = more.filter(|one| !all.contains(one)).cloned().collect();
                    all.extend(more);
                    known.intermediates = all.into();
                }
            }
        }
        merged
    }

    /// Whether names lead from a certificate to this authority.
    pub(super) fn may_have_issued(&self, leaf: &Certificate, chain: &[Vec<u8>]) -> bool {
        let above = chain.iter().map(Vec::as_slice).take(PARTS_MAX);
        let above = above.chain(self.intermediates.iter().map(|one| one.as_ref()));
        names_lead_to(std::slice::from_ref(&self.root.name), leaf, above)
    }

    /// When all certificates on a path from `leaf` to this authority are valid, where there is
    /// one at the time `at`. `chain` is what came with the signature.
    pub(super) fn path(
        &self,
        leaf: &[u8],
        chain: &[Vec<u8>],
        at: Timestamp,
    ) -> Result<Window, String> {
        if !self.root.window.contains(at) {
            return Err(format!("its own certificate is not valid at {at}"));
        }
        let intermediates = self.between(chain)?;
        let leaf_der = CertificateDer::from(leaf);
        let end_entity = EndEntityCert::try_from(&leaf_der)
            .map_err(|error| format!("the certificate does not parse: {error}"))?;
        let seconds = u64::try_from(at.as_second()).map_err(|_| "the time is before 1970")?;
        let anchors = std::slice::from_ref(&self.root.anchor);
        let path = end_entity
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                anchors,
                &intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                Usage::required_if_present(CODE_SIGNING.as_bytes()),
                None,
                None,
            )
            .map_err(|error| format!("at {at}, nothing leads to it: {error}"))?;
        let mut window = self.root.window.and(Window::of(leaf)?);
        let mut length = 0;
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            may_certify(&der).map_err(|why| format!("a certificate on the way: {why}"))?;
            window = window.and(Window::of(&der)?);
            length += 1;
        }
        if self
            .root
            .path_length
            .is_some_and(|most| length > usize::from(most))
        {
            return Err("there are more authorities below it than it may have".to_owned());
        }
        Ok(window)
    }

    /// What can lie between. A name that stands twice in what came with a signature would make
    /// many paths of few certificates, all to be tried.
    fn between(&self, chain: &[Vec<u8>]) -> Result<Vec<CertificateDer<'static>>, String> {
        if chain.len() > PARTS_MAX {
            return Err(format!(
                "{} certificates came with the signature; {PARTS_MAX} are looked at",
                chain.len()
            ));
        }
        let mut subjects = Vec::new();
        let mut between = self.intermediates.to_vec();
        for der in chain {
            let known = between.iter().any(|one| **one == **der);
            if known || *der == self.root.certificate {
                continue;
            }
            let certificate = Certificate::from_der(der)
                .map_err(|error| format!("the chain does not parse: {error}"))?;
            let subject = certificate.tbs_certificate.subject;
            if subjects.contains(&subject) {
                return Err("two certificates of the chain have the same name".to_owned());
            }
            subjects.push(subject);
            between.push(CertificateDer::from(der.clone()));
        }
        Ok(between)
    }
}

/// Whether the names of issuers lead from a certificate to one of these authorities, over
/// certificates that can lie between. Where they do not, nothing does, and nothing has to be
/// computed.
pub(super) fn names_lead_to<'a>(
    authorities: &[DistinguishedName],
    leaf: &Certificate,
    between: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let between: Vec<Certificate> = between
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect();
    let mut names = vec![&leaf.tbs_certificate.issuer];
    let mut looked_at = 0;
    while let Some(name) = names.get(looked_at).copied() {
        if authorities.contains(name) {
            return true;
        }
        looked_at += 1;
        for certificate in &between {
            let issuer = &certificate.tbs_certificate.issuer;
            if certificate.tbs_certificate.subject == *name && !names.contains(&issuer) {
                names.push(issuer);
            }
        }
    }
    false
}

/// Parses a certificate whose key usages, where it has some, let it certify code signers.
fn may_certify(der: &[u8]) -> Result<Certificate, String> {
    let certificate =
        Certificate::from_der(der).map_err(|error| format!("it does not parse: {error}"))?;
    let usage: Option<(bool, KeyUsage)> = certificate
        .tbs_certificate
        .get()
        .map_err(|error| format!("its key usage does not parse: {error}"))?;
    if usage.is_some_and(|(_, usage)| !usage.0.contains(KeyUsages::KeyCertSign)) {
        return Err("its key usage does not let it sign certificates".to_owned());
    }
    match purposes(&certificate)? {
        Some(purposes) if !signs_code(&purposes) && !purposes.contains(&ANY_EXTENDED_KEY_USAGE) => {
            Err("its extended key usage does not have code signing".to_owned())
        }
        _ => Ok(certificate),
    }
}

/// What a certificate's key is for, beyond its usages; `None` where that is not said.
pub(super) fn purposes(certificate: &Certificate) -> Result<Option<Vec<ObjectIdentifier>>, String> {
    let purposes: Option<(bool, ExtendedKeyUsage)> = certificate
        .tbs_certificate
        .get()
        .map_err(|error| format!("its extended key usage does not parse: {error}"))?;
    Ok(purposes.map(|(_, purposes)| purposes.0))
}

pub(super) fn signs_code(purposes: &[ObjectIdentifier]) -> bool {
    purposes.contains(&ID_KP_CODE_SIGNING)
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint() && self.intermediates == other.intermediates
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::sigstore::{CertificateAuthority, KeyPair};

    // THREATS T2: webpki does not ask when the certificate that is trusted itself is valid.
    #[test]
    fn t2_an_authority_that_has_expired_certifies_nobody() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let ours = CertificateAuthority::new(0, start);
        let authority = Authority::read(ours.root_der(), &[]).expect("an authority");
        let day = jiff::SignedDuration::from_hours(24);
        let end = authority.expires_at();
        let key = KeyPair::generate();
        // Valid for ninety days, and so beyond the authority's end.
        let chain = ours.certify("release@acme.test", &key, end - day, &[]);
        assert!(authority.path(&chain[0], &[], end - day).is_ok());
        let why = authority.path(&chain[0], &[], end + day);
        let why = why.expect_err("the authority has expired");
        assert!(why.contains("its own certificate is not valid"), "{why}");
    }
}
