//! `ca`, lowered: signers whom a certificate authority of one's own certifies.

use crate::config::pem;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::signers;
use crate::config::signers::Context;
use crate::policy::CertifiedBy;
use crate::policy::Claim;
use crate::policy::IdentityRule;
use crate::policy::NameKind;
use crate::policy::NameRule;
use crate::policy::PatternError;
use crate::policy::SignerKind;
use crate::verify::Authority;
use crate::verify::Demands;
use crate::verify::Logged;

const FORMS: &str =
    "write { file: ca.pem }, or { pem: \"-----BEGIN CERTIFICATE-----...\" }, and a `subject`";
const SUBJECT: &str = "say whom the authority has to have certified, `subject: { email: \
                       release@acme.test }`, or with `uri` or `dns`: without it everybody who has \
                       a certificate could sign";

type Parse = fn(&str) -> Result<IdentityRule, PatternError>;

/// The keys of `subject`: of which kind of names, and how they are compared.
const NAMES: &[(&str, NameKind, Parse)] = &[
    ("email", NameKind::Email, IdentityRule::exact),
    ("email_glob", NameKind::Email, IdentityRule::glob),
    ("email_regex", NameKind::Email, IdentityRule::regex),
    ("uri", NameKind::Uri, IdentityRule::exact),
    ("uri_glob", NameKind::Uri, IdentityRule::glob),
    ("uri_regex", NameKind::Uri, IdentityRule::regex),
    ("dns", NameKind::Dns, IdentityRule::exact),
    ("dns_glob", NameKind::Dns, IdentityRule::glob),
    ("dns_regex", NameKind::Dns, IdentityRule::regex),
];

/// Lowers `ca` of the signer whose keys are `signer`.
pub(super) fn lower(
    value: &Value<'_>,
    signer: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SignerKind> {
    for key in [
        "unsafe_without_transparency_log",
        "unsafe_without_certificate_timestamp",
    ] {
        if let Some(value) = signer.at(key) {
            value.error(
                "this is for keyless signers",
                "remove the line; for a certificate authority there is `transparency_log: \
                 not_required`",
            );
        }
    }
    let fields = value.fields(&schema::CA)?;
    let authorities = authorities(&fields, context);
    let subject = subject(&fields);
    let issuer = fields
        .at("issuer")
        .map(|value| IdentityRule::exact(&signers::issuer_url(&value)?).ok());
    let exact = claims(&fields, "claims", IdentityRule::exact);
    let globs = claims(&fields, "claims_glob", IdentityRule::glob);
    let demands = demands(signer)?;
    // Who asks for no log and names no trust root has none to say when something was signed.
    let named = signer.at("trust_root").or_else(|| fields.at("trust_root"));
    let asks = demands.log.is_some() || demands.timestamp || named.is_some();
    let root = asks.then(|| signers::root(signer, &fields, context));
    Some(SignerKind::CertifiedBy(CertifiedBy {
        authorities: authorities?,
        subject: subject?,
        issuer: whole(issuer)?,
        claims: [exact?, globs?].concat(),
        root: whole(root)?,
        demands,
    }))
}

fn claims(fields: &Fields<'_>, key: &'static str, parse: Parse) -> Option<Vec<Claim>> {
    let value = fields.at(key);
    value.map_or(Some(Vec::new()), |value| signers::claims(&value, parse))
}

fn demands(signer: &Fields<'_>) -> Option<Demands> {
    let log = signer
        .at("transparency_log")
        .map_or(Some(Some(Logged::Promised)), |value| {
            value.choice(&[
                ("required", Some(Logged::Promised)),
                ("included", Some(Logged::Included)),
                ("not_required", None),
            ])
        });
    let timestamp = signer.at("timestamp").map_or(Some(false), |value| {
        value.choice(&[("required", true), ("not_required", false)])
    });
    Some(Demands {
        log: log?,
        timestamp: timestamp?,
        certificate_timestamp: false,
    })
}

fn subject(fields: &Fields<'_>) -> Option<Vec<NameRule>> {
    let value = fields.required("subject", SUBJECT)?;
    let fields = value.fields(&schema::CA_SUBJECT)?;
    let mut rules = Vec::new();
    let mut whole = true;
    for (key, kind, parse) in NAMES {
        let Some(value) = fields.at(key) else {
            continue;
        };
        let rule = signers::pattern(&value, *parse);
        let Some(rule) = rule else {
            whole = false;
            continue;
        };
        signers::warn_of_literal_star(&value, &rule, key);
        if rules.iter().any(|rule: &NameRule| rule.kind == *kind) {
            value.error(
                "this kind of name stands twice",
                "keep one; where several people may sign, give each a signer",
            );
            whole = false;
            continue;
        }
        let value = match (kind, rule) {
            (NameKind::Dns, IdentityRule::Exact(name)) => {
                IdentityRule::Exact(name.to_ascii_lowercase())
            }
            (_, rule) => rule,
        };
        rules.push(NameRule { kind: *kind, value });
    }
    if fields.is_empty() {
        value.error("there is no name in it", SUBJECT);
        return None;
    }
    (whole && !rules.is_empty()).then_some(rules)
}

/// The authorities of `file` or `pem`, each with the intermediates.
fn authorities(fields: &Fields<'_>, context: &Context<'_>) -> Option<Vec<Authority>> {
    let (form, given) = fields.exactly_one(&["file", "pem"], FORMS)?;
    let between = match fields.at("intermediates") {
        Some(value) => {
            let fields = value.fields(&schema::CA_INTERMEDIATES)?;
            let (form, value) = fields.exactly_one(&["file", "pem"], FORMS)?;
            certificates(form, &value)?.1
        }
        None => Vec::new(),
    };
    let (place, certificates) = certificates(form, &given)?;
    let mut authorities = Vec::new();
    for (position, certificate) in certificates.iter().enumerate() {
        match (context.checks.authority)(certificate, &between) {
            Ok(authority) => {
                if authority.expires_at() <= context.now {
                    given.warn(
                        &format!(
                            "{place}the certificate of {} expired at {}, and what it certified \
                             counts only where it was signed before",
                            authority.subject(),
                            authority.expires_at()
                        ),
                        "replace it, or remove it",
                    );
                }
                authorities.push(authority);
            }
            Err(why) => {
                given.error(
                    &format!("{place}certificate {}: {why}", position + 1),
                    "give the certificate of an authority that may certify code signers; what \
                     lies between it and the signers belongs into `intermediates`",
                );
                return None;
            }
        }
    }
    Some(authorities)
}

/// The certificates of a PEM, in DER, and where they stand.
fn certificates(form: &str, value: &Value<'_>) -> Option<(String, Vec<Vec<u8>>)> {
    let (place, text) = signers::pem_text(form, value)?;
    let mut certificates = Vec::new();
    for block in pem::blocks(&text) {
        match (block.label, block.der) {
            ("CERTIFICATE", Some(der)) => certificates.push(der),
            (label, _) => {
                value.error(
                    &format!(
                        "{place}there is a PEM block of another kind or without content: {label}"
                    ),
                    "give certificates only, and keep private keys away from here",
                );
                return None;
            }
        }
    }
    if certificates.is_empty() {
        value.error(&format!("{place}there is no certificate in it"), FORMS);
        return None;
    }
    Some((place, certificates))
}
