//! Signers whom an authority of one's own certifies, written.

use crate::config::Settings;
use crate::config::native::Unsayable;
use crate::config::native::signer::{Entries, claims, entry, issuer, pem, trust_root};
use crate::config::native::yaml::Yaml;
use crate::policy::CertifiedBy;
use crate::policy::IdentityRule;
use crate::policy::NameRule;
use crate::verify::Authority;
use crate::verify::Demands;
use crate::verify::Logged;

pub(super) fn write(rule: &CertifiedBy, settings: &Settings) -> Result<Entries, Unsayable> {
    let CertifiedBy {
        authorities,
        subject,
        issuer: of_login,
        claims: rules,
        root,
        demands,
    } = rule;
    let mut inner = self::authorities(authorities)?;
    inner.push(("subject".to_owned(), self::subject(subject)?));
    if let Some(rule) = of_login {
        match issuer(rule)? {
            (key, url) if key == "issuer" => inner.push((key, url)),
            _ => return Err("the issuer of its logins is no URL".to_owned()),
        }
    }
    inner.extend(claims(rules)?);
    let mut entries = vec![("ca".to_owned(), Yaml::Map(inner))];
    let Demands {
        log,
        timestamp,
        certificate_timestamp: _,
    } = demands;
    match log {
        Some(Logged::Promised) => {}
        Some(Logged::Included) => entries.push(entry("transparency_log", "included")),
        None => entries.push(entry("transparency_log", "not_required")),
    }
    if *timestamp {
        entries.push(entry("timestamp", "required"));
    }
    entries.extend(root.as_ref().map(|root| trust_root(root, settings)));
    Ok(entries)
}

/// The authorities, which share their intermediates.
fn authorities(authorities: &[Authority]) -> Result<Entries, Unsayable> {
    let between = |authority: &Authority| -> String {
        let certificates = authority.intermediates();
        certificates.map(|der| pem("CERTIFICATE", der)).collect()
    };
    let mut all = authorities.iter().map(between);
    let first = all.next().ok_or("it names no authority")?;
    if all.any(|other| other != first) {
        return Err("its authorities have different intermediates".to_owned());
    }
    let own = authorities.iter().map(Authority::certificate);
    let own = own.map(|der| pem("CERTIFICATE", der));
    let mut entries = vec![entry("pem", own.collect::<String>())];
    if !first.is_empty() {
        let between = Yaml::map([("pem", Some(Yaml::Text(first)))]);
        entries.push(("intermediates".to_owned(), between));
    }
    Ok(entries)
}

fn subject(rules: &[NameRule]) -> Result<Yaml, Unsayable> {
    let mut entries: Entries = Vec::new();
    for rule in rules {
        let written = match rule {
            NameRule::Email(rule) => name("email", rule),
            NameRule::Uri(rule) => name("uri", rule),
            NameRule::Dns(rule) if rule.is_exact() => entry("dns", rule.as_str()),
            NameRule::Dns(rule) => entry("dns_glob", rule.as_str()),
        };
        if entries.iter().any(|(key, _)| *key == written.0) {
            return Err(format!("it has two rules for {}", written.0));
        }
        entries.push(written);
    }
    match entries.is_empty() {
        true => Err("it names nobody".to_owned()),
        false => Ok(Yaml::Map(entries)),
    }
}

fn name(kind: &str, rule: &IdentityRule) -> (String, Yaml) {
    match rule {
        IdentityRule::Exact(text) => entry(kind, text),
        IdentityRule::Glob(glob) => entry(&format!("{kind}_glob"), glob.as_str()),
        IdentityRule::Regex { text, .. } => entry(&format!("{kind}_regex"), text),
    }
}
