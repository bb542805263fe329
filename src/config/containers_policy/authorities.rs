//! `fulcio` and `pki`: signers whom an authority certifies, which the document gives itself.

use std::net::IpAddr;

use crate::config::containers_policy::Reader;
use crate::config::containers_policy::keys;
use crate::config::containers_policy::keys::Forms;
use crate::config::containers_policy::keys::Given;
use crate::config::containers_policy::sections;
use crate::config::pem;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::policy::CertifiedBy;
use crate::policy::DnsRule;
use crate::policy::IdentityRule;
use crate::policy::NameRule;
use crate::verify::Authority;
use crate::verify::Demands;
use crate::verify::Logged;
use crate::verify::RootName;

const CA: Forms = &["caPath", "caData"];
const ROOTS: Forms = &["caRootsPath", "caRootsData"];
const BETWEEN: Forms = &["caIntermediatesPath", "caIntermediatesData"];
const MEND_CA: &str = "name the file with the authority's certificate in PEM";
const MEND_EMAIL: &str = "write the whole address: release@acme.test";

/// Lowers `fulcio`; `log` is the trust root with the logs of `rekorPublicKey...`, one of which
/// has to have promised to hold the signature, and tells when it was made.
pub(super) fn fulcio(
    value: &Value<'_>,
    log: Option<RootName>,
    reader: &Reader<'_>,
) -> Option<CertifiedBy> {
    let fields = value.fields(&sections::FULCIO)?;
    let issuer = fields.required(
        "oidcIssuer",
        "write the issuer's URL, as certificates have it",
    );
    let issuer = issuer.and_then(|value| IdentityRule::exact(value.text()?).ok());
    let email = fields.required("subjectEmail", MEND_EMAIL);
    let email = email.and_then(|value| email_rule(&value));
    let authorities = authorities(&fields, CA, &[], reader);
    Some(CertifiedBy {
        authorities: authorities?,
        subject: vec![email?],
        issuer: Some(issuer?),
        claims: Vec::new(),
        root: Some(log?),
        demands: Demands {
            log: Some(Logged::Promised),
            timestamp: false,
            certificate_timestamp: false,
        },
    })
}

/// Lowers `pki`: certificates that are valid now, and no log.
pub(super) fn pki(value: &Value<'_>, reader: &Reader<'_>) -> Option<CertifiedBy> {
    let fields = value.fields(&sections::PKI)?;
    let subject = subject(&fields);
    let between = match BETWEEN.iter().any(|key| fields.at(key).is_some()) {
        true => certificates(&fields, BETWEEN, reader)?,
        false => Vec::new(),
    };
    let between: Vec<Vec<u8>> = between.into_iter().map(|(_, _, der)| der).collect();
    let authorities = authorities(&fields, ROOTS, &between, reader);
    Some(CertifiedBy {
        authorities: authorities?,
        subject: subject?,
        issuer: None,
        claims: Vec::new(),
        root: None,
        demands: Demands {
            log: None,
            timestamp: false,
            certificate_timestamp: false,
        },
    })
}

fn subject(fields: &Fields<'_>) -> Option<Vec<NameRule>> {
    let email = fields.at("subjectEmail");
    let hostname = fields.at("subjectHostname");
    if email.is_none() && hostname.is_none() {
        fields.value().error(
            "neither `subjectEmail` nor `subjectHostname` is given",
            "say whom the authority has to have certified: without it everybody who has a \
             certificate could sign",
        );
        return None;
    }
    let given = usize::from(email.is_some()) + usize::from(hostname.is_some());
    let rules = [
        email.and_then(|value| email_rule(&value)),
        hostname.and_then(|value| hostname_rule(&value)),
    ];
    let rules: Vec<NameRule> = rules.into_iter().flatten().collect();
    (rules.len() == given).then_some(rules)
}

fn email_rule(value: &Value<'_>) -> Option<NameRule> {
    let text = value.text()?;
    if !text.contains('@') || text.contains("://") {
        value.error(
            &format!("{} is no e-mail address", quoted(text)),
            MEND_EMAIL,
        );
        return None;
    }
    IdentityRule::exact(text).ok().map(NameRule::Email)
}

/// A host. A certificate with a `*` in its name is for no host in particular, and not for it.
fn hostname_rule(value: &Value<'_>) -> Option<NameRule> {
    let text = value.text()?;
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() || text.contains(['*', '/', ':']) {
        value.error(
            &format!(
                "{} is no host's name, and nothing else is compared",
                quoted(text)
            ),
            "write the name that the certificate has: signer.acme.test",
        );
        return None;
    }
    let host = text.trim_end_matches('.');
    Some(NameRule::Dns(DnsRule::exact(host)))
}

fn authorities(
    fields: &Fields<'_>,
    forms: Forms,
    between: &[Vec<u8>],
    reader: &Reader<'_>,
) -> Option<Vec<Authority>> {
    let mut authorities = Vec::new();
    for (value, place, certificate) in certificates(fields, forms, reader)? {
        match (reader.context.signers.checks.authority)(&certificate, between) {
            Ok(authority) => authorities.push(authority),
            Err(why) => {
                value.error(
                    &format!("{place}{why}"),
                    "give the certificates of authorities that may certify code signers",
                );
                return None;
            }
        }
    }
    Some(authorities)
}

/// The certificates that one of `forms` gives, in DER, each with where it stands; none where
/// nothing is read.
fn certificates<'a>(
    fields: &Fields<'a>,
    forms: Forms,
    reader: &Reader<'_>,
) -> Option<Vec<(Value<'a>, String, Vec<u8>)>> {
    if !reader.has_effect {
        keys::has_shape(fields, forms, MEND_CA)?;
        return None;
    }
    let mut certificates = Vec::new();
    for given in keys::given(fields, forms, MEND_CA)? {
        let Given {
            value,
            place,
            bytes,
            ..
        } = given;
        let text = String::from_utf8_lossy(&bytes);
        let blocks = pem::blocks(&text);
        let found = blocks
            .into_iter()
            .map(|block| block.der.filter(|_| block.label == "CERTIFICATE"))
            .collect::<Option<Vec<_>>>();
        let Some(found) = found.filter(|found| !found.is_empty()) else {
            value.error(
                &format!("{place}this is no PEM of certificates and nothing else"),
                MEND_CA,
            );
            return None;
        };
        let found = found.into_iter();
        certificates.extend(found.map(|der| (value.clone(), place.clone(), der)));
    }
    Some(certificates)
}
