//! Signers, written.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;

use crate::config::RootSource;
use crate::config::Settings;
use crate::config::native::Unsayable;
use crate::config::native::certified_by;
use crate::config::native::least;
use crate::config::native::yaml::Yaml;
use crate::config::signers::is_issuer_url;
use crate::policy::Claim;
use crate::policy::IdentityRule;
use crate::policy::KeyHolder;
use crate::policy::Keyless;
use crate::policy::SignedIdentity;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::TimedKey;
use crate::verify::Demands;
use crate::verify::GpgKey;
use crate::verify::Logged;
use crate::verify::RootName;
use crate::verify::read_keyring;

pub(super) type Entries = Vec<(String, Yaml)>;

pub(super) fn write(rule: &SignerRule, settings: &Settings) -> Result<Yaml, Unsayable> {
    let SignerRule {
        name: _,
        kind,
        signed_identity,
    } = rule;
    let mut entries = match kind {
        SignerKind::Keyless(keyless) => self::keyless(keyless, settings)?,
        SignerKind::Key(holder) => key(holder, settings),
        SignerKind::CertifiedBy(rule) => certified_by::write(rule, settings)?,
        SignerKind::Gpg { keys } => gpg(keys)?,
    };
    if let Some(identity) = signed_identity {
        entries.push((
            "signed_identity".to_owned(),
            self::signed_identity(identity),
        ));
    }
    Ok(Yaml::Map(entries))
}

pub(super) fn entry(key: &str, text: impl Into<String>) -> (String, Yaml) {
    (key.to_owned(), Yaml::Text(text.into()))
}

fn key(holder: &KeyHolder, settings: &Settings) -> Entries {
    let KeyHolder {
        keys,
        root,
        logged,
        timestamped,
    } = holder;
    let written = match keys.as_slice() {
        [one] => timed_key(one),
        several => Yaml::List(several.iter().map(timed_key).collect()),
    };
    let mut entries = vec![("key".to_owned(), written)];
    if !logged {
        entries.push(entry("transparency_log", "not_required"));
    }
    if *timestamped {
        entries.push(entry("timestamp", "required"));
    }
    entries.extend(root.as_ref().map(|root| trust_root(root, settings)));
    entries
}

/// The trust root, by its name, or the logs of one that has none.
pub(super) fn trust_root(name: &RootName, settings: &Settings) -> (String, Yaml) {
    let mut roots = settings.trust_roots.iter();
    let value = match roots
        .find(|root| root.name == *name)
        .map(|root| &root.source)
    {
        Some(RootSource::Logs { keys, .. }) => {
            let keys = keys
                .iter()
                .map(|key| Yaml::Text(pem("PUBLIC KEY", &key.spki)));
            Yaml::map([("log_keys", Some(Yaml::List(keys.collect())))])
        }
        _ => Yaml::text(name.as_str()),
    };
    ("trust_root".to_owned(), value)
}

/// The keyrings that the keys were read from, together.
fn gpg(keys: &[GpgKey]) -> Result<Entries, Unsayable> {
    let mut keyrings: Vec<&[u8]> = Vec::new();
    for keyring in keys.iter().flat_map(GpgKey::keyrings) {
        if !keyrings.contains(&keyring) {
            keyrings.push(keyring);
        }
    }
    let together = keyrings.concat();
    // More than a keyring may hold, perhaps.
    if read_keyring(&together).as_deref() != Ok(keys) {
        return Err("its OpenPGP keys are too many for one keyring".to_owned());
    }
    let armored = block("PGP PUBLIC KEY BLOCK", "\n", &together);
    let keyring = Yaml::map([("armored", Some(Yaml::Text(armored)))]);
    Ok(vec![("gpg".to_owned(), keyring)])
}

fn timed_key(timed: &TimedKey) -> Yaml {
    let TimedKey {
        key,
        hash,
        not_before,
        not_after,
    } = timed;
    let time = |time: Timestamp| Yaml::text(time.to_string());
    Yaml::map([
        ("pem", Some(Yaml::Text(pem("PUBLIC KEY", &key.spki)))),
        ("hash_algorithm", hash.map(|hash| Yaml::text(hash.as_str()))),
        ("not_before", not_before.map(time)),
        ("not_after", not_after.map(time)),
    ])
}

/// A block of PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    block(label, "", der)
}

/// A block of text that is Base64 behind a head, as in PEM and OpenPGP's armor.
fn block(label: &str, head: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n{head}");
    let encoded = BASE64_STANDARD.encode(bytes);
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn keyless(rule: &Keyless, settings: &Settings) -> Result<Entries, Unsayable> {
    let Keyless {
        issuer,
        identity,
        claims,
        root,
        demands,
    } = rule;
    let mut inner = vec![self::issuer(issuer)?, self::identity(identity)];
    inner.extend(self::claims(claims)?);
    let mut entries = vec![("keyless".to_owned(), Yaml::Map(inner))];
    entries.push(entry("trust_root", root.as_str()));
    entries.extend(self::demands(*demands, least(root, settings)));
    Ok(entries)
}

pub(super) fn issuer(rule: &IdentityRule) -> Result<(String, Yaml), Unsayable> {
    match rule {
        IdentityRule::Exact(url) if is_issuer_url(url) => Ok(entry("issuer", url)),
        // The language takes URLs only; this means the same.
        IdentityRule::Exact(text) => Ok(entry("issuer_regex", regex::escape(text))),
        IdentityRule::Regex { text, .. } => Ok(entry("issuer_regex", text)),
        IdentityRule::Glob(_) => Err("its issuer is a glob".to_owned()),
    }
}

pub(super) fn identity(rule: &IdentityRule) -> (String, Yaml) {
    match rule {
        IdentityRule::Exact(text) => entry("identity", text),
        IdentityRule::Glob(glob) => entry("identity_glob", glob.as_str()),
        IdentityRule::Regex { text, .. } => entry("identity_regex", text),
    }
}

pub(super) fn claims(rules: &[Claim]) -> Result<Entries, Unsayable> {
    let (mut exact, mut globs) = (Vec::new(), Vec::new());
    for Claim { name, value } in rules {
        match value {
            IdentityRule::Exact(text) => exact.push(entry(name, text)),
            IdentityRule::Glob(glob) => globs.push(entry(name, glob.as_str())),
            IdentityRule::Regex { .. } => {
                return Err(format!(
                    "the claim {name} is compared with a regular expression"
                ));
            }
        }
    }
    let kinds = [("claims", exact), ("claims_glob", globs)];
    let filled = kinds.into_iter().filter(|(_, entries)| !entries.is_empty());
    Ok(filled
        .map(|(key, entries)| (key.to_owned(), Yaml::Map(entries)))
        .collect())
}

/// What is demanded otherwise than the trust root gives.
fn demands(demands: Demands, least: Demands) -> Entries {
    let mut entries = Vec::new();
    if demands.log != least.log {
        entries.push(match demands.log {
            Some(Logged::Promised) => entry("transparency_log", "required"),
            Some(Logged::Included) => entry("transparency_log", "included"),
            None => entry("unsafe_without_transparency_log", "true"),
        });
    }
    if demands.timestamp != least.timestamp {
        let word = match demands.timestamp {
            true => "required",
            false => "not_required",
        };
        entries.push(entry("timestamp", word));
    }
    if demands.certificate_timestamp != least.certificate_timestamp {
        let without = (!demands.certificate_timestamp).to_string();
        entries.push(entry("unsafe_without_certificate_timestamp", without));
    }
    entries
}

fn signed_identity(rule: &SignedIdentity) -> Yaml {
    let word = |text: &str| Yaml::text(text);
    match rule {
        SignedIdentity::MatchExact => word("match_exact"),
        SignedIdentity::MatchRepoDigestOrExact => word("match_repo_digest_or_exact"),
        SignedIdentity::MatchRepository => word("match_repository"),
        SignedIdentity::ExactReference(reference) => {
            Yaml::map([("exact_reference", Some(word(&reference.to_string())))])
        }
        SignedIdentity::ExactRepository(name) => {
            Yaml::map([("exact_repository", Some(word(&name.to_string())))])
        }
        SignedIdentity::RemapIdentity {
            prefix,
            signed_prefix,
        } => {
            let remap = Yaml::map([
                ("prefix", Some(word(prefix))),
                ("signed_prefix", Some(word(signed_prefix))),
            ]);
            Yaml::map([("remap", Some(remap))])
        }
    }
}
