//! `ca`, lowered: signers whom a certificate authority of one's own certifies.

use crate::config::demands;
use crate::config::pem;
use crate::config::pullers;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::signers;
use crate::config::signers::Context;
use crate::policy::CertifiedBy;
use crate::policy::Claim;
use crate::policy::IdentityRule;
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

/// How a text becomes a rule.
type Parse = fn(&str) -> Result<IdentityRule, PatternError>;

/// Lowers `ca` of the signer whose keys are `signer`.
pub(super) fn lower(
    value: &Value<'_>,
    signer: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SignerKind> {
    demands::refuse(signer, "a certificate authority");
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
    if fields.is_empty() {
        value.error("there is no name in it", SUBJECT);
        return None;
    }
    let email = one_of(&fields, &["email", "email_glob", "email_regex"]).map(|given| {
        let (key, value) = given?;
        text_rule(key, &value, "email").map(NameRule::Email)
    });
    let uri = one_of(&fields, &["uri", "uri_glob", "uri_regex"]).map(|given| {
        let (key, value) = given?;
        text_rule(key, &value, "uri").map(NameRule::Uri)
    });
    let dns = one_of(&fields, &["dns", "dns_glob"]).map(|given| {
        let (key, value) = given?;
        pullers::dns_rule(key, &value).map(NameRule::Dns)
    });
    let rules = [whole(email)?, whole(uri)?, whole(dns)?];
    let rules: Vec<NameRule> = rules.into_iter().flatten().collect();
    (!rules.is_empty()).then_some(rules)
}

type Given<'a> = (&'static str, Value<'a>);

/// The one of these keys that is given, where one is; `Some(None)` where there are several.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and right are three things"
)]
fn one_of<'a>(fields: &Fields<'a>, keys: &[&'static str]) -> Option<Option<Given<'a>>> {
    keys.iter()
        .any(|key| fields.at(key).is_some())
        .then(|| fields.exactly_one(keys, SUBJECT))
}

fn text_rule(key: &str, value: &Value<'_>, kind: &str) -> Option<IdentityRule> {
    let parse = match key.strip_prefix(kind)? {
        "" => IdentityRule::exact,
        "_glob" => IdentityRule::glob,
        _ => IdentityRule::regex,
    };
    let rule = signers::pattern(value, parse)?;
    signers::warn_of_literal_star(value, &rule, key);
    Some(rule)
}

/// The authorities of `file` or `pem`, each with the intermediates.
fn authorities(fields: &Fields<'_>, context: &Context<'_>) -> Option<Vec<Authority>> {
    let between = fields
        .at("intermediates")
        .map_or(Some(Vec::new()), |value| intermediates(&value));
    let (form, given) = fields.exactly_one(&["file", "pem"], FORMS)?;
    let (place, certificates) = certificates(form, &given)?;
    let between = between?;
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

fn intermediates(value: &Value<'_>) -> Option<Vec<Vec<u8>>> {
    let fields = value.fields(&schema::CA_INTERMEDIATES)?;
    let (form, value) = fields.exactly_one(&["file", "pem"], FORMS)?;
    certificates(form, &value).map(|(_, certificates)| certificates)
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
