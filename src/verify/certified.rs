//! Signatures by certificates of one's own authority: no login, no certificate transparency, and
//! a log or a timestamp only where policy asks for them.
//!
//! A certificate has to be valid at every proven time of signing. Where none is proven, it has
//! to be valid now, and what is known of it ends when it is not any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;
use sigstore_verify::{crypto::parse_certificate_info, types::DerCertificate};
use x509_cert::{
    Certificate,
    der::{Decode as _, Encode as _},
    ext::pkix::{KeyUsage, KeyUsages, SubjectAltName, name::GeneralName},
};

use crate::oci::Digest;
use crate::verify::Assurance;
use crate::verify::Authority;
use crate::verify::Material;
use crate::verify::PublicKey;
use crate::verify::Signer;
use crate::verify::authority::Window;
use crate::verify::authority::purposes;
use crate::verify::authority::signs_code;
use crate::verify::certificate::refuse_two_readings;
use crate::verify::claims;
use crate::verify::key;
use crate::verify::log::Verifier;
use crate::verify::proof;
use crate::verify::proof::Proof;
use crate::verify::proof::Signed;
use crate::verify::proof::Vouched;

/// The most names that a certificate may have. Real ones have one or two.
const NAMES_MAX: usize = 16;
/// How many of them a message tells.
const NAMES_TOLD: usize = 3;

/// Somebody whom an authority of one's own has certified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Certified {
    /// The SHA-256 of the authority's certificate.
    pub authority: Digest,
    /// The certificate's subject alternative names.
    pub names: BTreeSet<Name>,
    /// The SHA-256 of the certified key's SubjectPublicKeyInfo in DER, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The OIDC issuer's URL, where the authority is a Fulcio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Fulcio's other extensions, by their names in snake case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<&'static str, String>,
    /// When the first of the certificates expires, where no time of signing is proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

/// A name by which a certificate knows its holder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// An e-mail address.
    Email(String),
    /// A URI.
    Uri(String),
    /// A domain name.
    Dns(String),
}

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email(text) | Self::Uri(text) | Self::Dns(text) => text,
        }
    }
}

impl fmt::Display for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.names.iter().take(NAMES_TOLD).map(Name::as_str);
        f.write_str(&told.collect::<Vec<_>>().join(", "))?;
        if self.names.len() > NAMES_TOLD {
            write!(f, " and {} more names", self.names.len() - NAMES_TOLD)?;
        }
        write!(f, " (certified by the authority {}", self.authority)?;
        if let Some(issuer) = &self.issuer {
            write!(f, ", issuer {issuer}")?;
        }
        f.write_str(")")
    }
}

/// Proves a signature under each authority of one's own (step 2), and reads who signed from the
/// proven certificate (step 4): one proof for each trust root that vouches for the signature, and
/// one without any where the certificate is valid now.
pub(super) fn proofs(
    signed: &Signed<'_>,
    material: &Material,
    now: Timestamp,
) -> Result<Vec<Proof>, String> {
    let certificate = signed.bundle.signing_certificate();
    let certificate = certificate.ok_or("there is no signing certificate")?;
    let parsed = Certificate::from_der(certificate.as_bytes())
        .map_err(|error| format!("the signing certificate does not parse: {error}"))?;
    let chain = signed.chain()?;
    let authorities = material.authorities.iter();
    let authorities: Vec<&Authority> = authorities
        .filter(|authority| authority.may_have_issued(&parsed, &chain))
        .collect();
    if authorities.is_empty() {
        return Err("no authority that policy names issued the certificate".to_owned());
    }
    let leaf = Leaf::read(certificate, &parsed)?;
    if key::made(&leaf.key, signed.message, signed.signature).is_none() {
        return Err(
            "the signature does not verify with the certificate's key: another key signed, or \
             it was altered"
                .to_owned(),
        );
    }
    let verifier = Verifier::Certificate(certificate.as_bytes());
    let roots = material.roots.iter();
    let mut vouchers: Vec<_> = roots
        .filter_map(|root| proof::vouched(signed, verifier, root, now))
        .map(Some)
        .collect();
    vouchers.push(None);
    let mut proofs = Vec::new();
    let mut errors = Vec::new();
    for authority in authorities {
        let mut path = Path {
            authority,
            leaf: &leaf,
            chain: &chain,
            window: None,
        };
        for voucher in &vouchers {
            match path.proof(voucher.as_ref(), now) {
                Ok(proof) => proofs.push(proof),
                Err(why) => {
                    errors.push(format!(
                        "under the authority {}: {why}",
                        authority.subject()
                    ));
                }
            }
        }
    }
    match proofs.is_empty() {
        true => Err(errors.join("; ")),
        false => Ok(proofs),
    }
}

/// The way from a certificate to an authority, which is the same for all times in its window.
struct Path<'a> {
    authority: &'a Authority,
    leaf: &'a Leaf<'a>,
    chain: &'a [Vec<u8>],
    window: Option<Window>,
}

impl Path<'_> {
    fn proof(&mut self, voucher: Option<&Vouched>, now: Timestamp) -> Result<Proof, String> {
        let times = voucher
            .map(|vouched| vouched.times.as_slice())
            .unwrap_or_default();
        let proven = !times.is_empty();
        let window = self.valid_at(if proven {
            times
        } else {
            std::slice::from_ref(&now)
        })?;
        Ok(Proof {
            signer: Signer::Certified(Arc::new(Certified {
                authority: self.authority.fingerprint(),
                names: self.leaf.names.clone(),
                key: Some(self.leaf.key.fingerprint),
                issuer: self.leaf.issuer.clone(),
                claims: self.leaf.claims.clone(),
                ends_at: (!proven).then_some(window.end),
            })),
            hash: None,
            root: voucher.map(|vouched| vouched.root.clone()),
            signed_at: times.iter().min().copied(),
            assurance: voucher.map_or(Assurance::default(), |vouched| vouched.assurance),
        })
    }

    /// The window of the path, which has all of these times in it.
    fn valid_at(&mut self, times: &[Timestamp]) -> Result<Window, String> {
        let holds = |window: &Window| times.iter().all(|at| window.contains(*at));
        if let Some(window) = self.window.filter(holds) {
            return Ok(window);
        }
        let first = *times.first().ok_or("there is no time to hold it against")?;
        let window = self.authority.path(self.leaf.der, self.chain, first)?;
        if !holds(&window) {
            return Err("the certificates are not valid at every proven time".to_owned());
        }
        self.window = Some(window);
        Ok(window)
    }
}

/// A signer's certificate, of which nothing is proven yet.
struct Leaf<'a> {
    der: &'a [u8],
    key: PublicKey,
    names: BTreeSet<Name>,
    issuer: Option<String>,
    claims: BTreeMap<&'static str, String>,
}

impl<'a> Leaf<'a> {
    fn read(der: &'a DerCertificate, certificate: &Certificate) -> Result<Self, String> {
        refuse_two_readings(certificate)?;
        let purposes = purposes(certificate).map_err(|why| format!("the certificate: {why}"))?;
        if !purposes.is_some_and(|purposes| signs_code(&purposes)) {
            return Err("the certificate's extended key usage is not code signing".to_owned());
        }
        let tbs = &certificate.tbs_certificate;
        let usage: Option<(bool, KeyUsage)> = tbs
            .get()
            .map_err(|error| format!("the certificate's key usage: {error}"))?;
        if usage.is_some_and(|(_, usage)| !usage.0.contains(KeyUsages::DigitalSignature)) {
            return Err("the certificate's key usage has no digital signatures".to_owned());
        }
        let spki = tbs.subject_public_key_info.to_der();
        let spki = spki.map_err(|error| format!("the certificate's key: {error}"))?;
        key::check(&spki).map_err(|why| format!("the certificate's key: {why}"))?;
        // Keys that the verifier family does not know have no claims for it either.
        let info = parse_certificate_info(der).ok();
        Ok(Self {
            der: der.as_bytes(),
            key: PublicKey::from_spki(&spki),
            names: names(certificate)?,
            issuer: info.as_ref().and_then(|info| info.issuer.clone()),
            claims: info.as_ref().map(claims::of).unwrap_or_default(),
        })
    }
}

/// The names that can be compared. Those of other kinds say nothing here.
fn names(certificate: &Certificate) -> Result<BTreeSet<Name>, String> {
    let names: Option<(bool, SubjectAltName)> = certificate
        .tbs_certificate
        .get()
        .map_err(|error| format!("the certificate's subject alternative name: {error}"))?;
    let names = names.map(|(_, names)| names.0).unwrap_or_default();
    if names.len() > NAMES_MAX {
        return Err(format!(
            "the certificate has {} names; {NAMES_MAX} are looked at",
            names.len()
        ));
    }
    let names: BTreeSet<Name> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::Rfc822Name(text) => Some(Name::Email(text.as_str().to_owned())),
            GeneralName::UniformResourceIdentifier(text) => {
                Some(Name::Uri(text.as_str().to_owned()))
            }
            GeneralName::DnsName(text) => Some(Name::Dns(text.as_str().to_ascii_lowercase())),
            _ => None,
        })
        .filter(|name| !name.as_str().is_empty())
        .collect();
    match names.is_empty() {
        true => {
            Err("the certificate names neither an e-mail address nor a URI nor a domain".to_owned())
        }
        false => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::sigstore::{CertificateAuthority, KeyPair};

    // THREATS T2: a time at which a certificate on the path is not valid spoils the others.
    #[test]
    fn t2_the_path_is_valid_at_every_proven_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let ours = CertificateAuthority::new(1, now);
        let chain = ours.certify("release@acme.test", &KeyPair::generate(), now, &[]);
        let authority = Authority::read(ours.root_der(), &[]).expect("an authority");
        let der = DerCertificate::from(chain[0].clone());
        let parsed = Certificate::from_der(der.as_bytes()).expect("a certificate");
        let leaf = Leaf::read(&der, &parsed).expect("a certificate");
        let valid = |times: &[Timestamp]| {
            let mut path = Path {
                authority: &authority,
                leaf: &leaf,
                chain: &chain[1..],
                window: None,
            };
            path.valid_at(times)
        };
        // It is valid for ninety days.
        let after = |days: i64| now + jiff::SignedDuration::from_hours(24 * days);
        assert!(valid(&[now, after(80)]).is_ok());
        let why = valid(&[now, after(100)]).expect_err("expired by then");
        assert!(why.contains("at every proven time"), "{why}");
    }
}
