//! Keyless signatures: certificates that Fulcio issued for a login.

use std::sync::Arc;

use sigstore_verify::{
    VerificationPolicy,
    crypto::CertificateInfo,
    types::{Artifact, Bundle, bundle::VerificationMaterialContent},
};
use x509_cert::{
    Certificate,
    der::{Decode as _, asn1::Utf8StringRef, oid::ObjectIdentifier},
    ext::{
        Extension,
        pkix::{SubjectAltName, name::GeneralName},
    },
};

use crate::verify::Identity;
use crate::verify::Material;
use crate::verify::Signer;
use crate::verify::authority::names_lead_to;
use crate::verify::claims;
use crate::verify::proof::Proof;
use crate::verify::proof::assurance;

/// Fulcio's first issuer extension: the raw text.
const ISSUER_V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
/// Its successor: a DER UTF8String.
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
/// The list of certificate timestamps (RFC 6962, 3.3).
const CERTIFICATE_TIMESTAMPS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");

/// Proves certificate, log and time under each trust root (step 2), and reads who signed from
/// the proven certificate (step 4).
pub(super) fn proofs(
    bundle: &Bundle,
    artifact: &Artifact<'_>,
    material: &Material,
) -> Result<Vec<Proof>, String> {
    let certificate = bundle
        .signing_certificate()
        .ok_or("there is no signing certificate")?;
    let parsed = Certificate::from_der(certificate.as_bytes())
        .map_err(|error| format!("the signing certificate does not parse: {error}"))?;
    refuse_ambiguous(&parsed)?;
    let certificate_timestamp = extension(&parsed, CERTIFICATE_TIMESTAMPS).is_some();
    let between = between(bundle);
    let unlogged = bundle.verification_material.tlog_entries.is_empty();
    let mut proofs = Vec::new();
    let mut errors = Vec::new();
    for root in &material.roots {
        // Most of what is found under other roots, or is somebody's junk, costs nothing so.
        if !names_lead_to(&root.issuers, &parsed, between.iter().copied()) {
            errors.push(format!(
                "under the trust root {}: none of its authorities issued the certificate",
                root.name
            ));
            continue;
        }
        let demands = material.demands.get(&root.name).copied();
        let demands = demands.unwrap_or_default();
        let mut policy = VerificationPolicy::any_identity();
        // Only what is not there at all is done without: what is there has to prove.
        if unlogged && demands.log.is_none() {
            policy = policy.skip_tlog_unsafe();
        }
        let verify =
            |policy: &VerificationPolicy| root.verifier.verify(artifact.clone(), bundle, policy);
        let without = || verify(&policy.clone().skip_sct());
        // Whoever takes certificates that no log holds takes those of an unknown log: the log's
        // key may be what the trust root lacks. It counts as none.
        let verified = match (demands.certificate_timestamp, certificate_timestamp) {
            (true, _) => verify(&policy),
            (false, true) => verify(&policy).or_else(|_| without()),
            (false, false) => without(),
        };
        match verified {
            Ok(result) => {
                let info = result.certificate().ok_or("no certificate was verified")?;
                proofs.push(Proof {
                    root: Some(root.name.clone()),
                    signer: Signer::Identity(Arc::new(identity(info)?)),
                    signed_at: result.verified_timestamps().iter().min().copied(),
                    assurance: assurance(bundle, result.sct_verified()),
                    hash: None,
                });
            }
            Err(error) => errors.push(format!("under the trust root {}: {error}", root.name)),
        }
    }
    if proofs.is_empty() {
        if errors.is_empty() {
            return Err("signed keyless, and no policy for this image names a login".to_owned());
        }
        return Err(errors.join("; "));
    }
    Ok(proofs)
}

/// What a bundle brings beside the signer's certificate.
fn between(bundle: &Bundle) -> Vec<&[u8]> {
    match &bundle.verification_material.content {
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            let above = certificates.iter().skip(1);
            above.map(|one| one.raw_bytes.as_bytes()).collect()
        }
        _ => Vec::new(),
    }
}

/// A certificate that names several people, or two issuers, could be read in two ways: the
/// verifier family takes the first name it finds (THREATS I3).
fn refuse_ambiguous(certificate: &Certificate) -> Result<(), String> {
    refuse_two_readings(certificate)?;
    let names = certificate
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|error| format!("the certificate's subject alternative name: {error}"))?
        .map(|(_, names)| names.0)
        .unwrap_or_default();
    match names.as_slice() {
        [GeneralName::Rfc822Name(_) | GeneralName::UniformResourceIdentifier(_)] => {}
        [_] => return Err("the certificate names neither an e-mail address nor a URI".to_owned()),
        names => {
            return Err(format!(
                "the certificate has {} names instead of one",
                names.len()
            ));
        }
    }
    Ok(())
}

/// Refuses a certificate that has an extension twice, or two issuers.
pub(super) fn refuse_two_readings(certificate: &Certificate) -> Result<(), String> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = extensions
        .into_iter()
        .find(|extension| !seen.insert(extension.extn_id))
    {
        return Err(format!(
            "the certificate has the extension {} twice",
            twice.extn_id
        ));
    }
    let text = |oid| {
        let value = extension(certificate, oid)?;
        let bytes = value.extn_value.as_bytes();
        let text = Utf8StringRef::from_der(bytes).map(|text| text.as_str().as_bytes());
        Some(text.unwrap_or(bytes).to_vec())
    };
    match (text(ISSUER_V1), text(ISSUER_V2)) {
        (Some(one), Some(two)) if one != two => {
            Err("the certificate's two issuer extensions disagree".to_owned())
        }
        _ => Ok(()),
    }
}

fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> Option<&Extension> {
    let mut extensions = certificate.tbs_certificate.extensions.iter().flatten();
    extensions.find(|extension| extension.extn_id == oid)
}

fn identity(info: &CertificateInfo) -> Result<Identity, String> {
    let issuer = info.issuer.clone().filter(|issuer| !issuer.is_empty());
    let subject = info.identity.as_ref().map(|name| name.as_str().to_owned());
    Ok(Identity {
        issuer: issuer.ok_or("the certificate names no issuer")?,
        subject: subject
            .filter(|subject| !subject.is_empty())
            .ok_or("the certificate names nobody")?,
        claims: claims::of(info),
    })
}
