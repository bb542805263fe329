//! `attestors`: who has to have signed.

use std::cell::Cell;
use std::sync::Arc;

use crate::config::foreign::{self, unanchored};
use crate::config::kyverno::identity::{claims, pattern};
use crate::config::kyverno::logs::{certified, log, warn_of_less};
use crate::config::kyverno::repository::Kept;
use crate::config::kyverno::sections;
use crate::config::kyverno::set::{Attestor, Member, Set, Signed, count, nested, several_places};
use crate::config::policies::Context;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::signed_by;
use crate::config::signers;
use crate::policy::Carrier;
use crate::policy::KeyHolder;
use crate::policy::Keyless;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::TimedKey;
use crate::verify::Demands;
use crate::verify::HashAlgorithm;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// The end of one key among several.
const END: &str = "-----END PUBLIC KEY-----";

/// Reads the attestors of one rule.
pub(super) struct Attestors<'c> {
    rule: String,
    pub(super) context: &'c Context<'c>,
    /// How many signers have a name already.
    named: Cell<usize>,
}

/// What the attestors are asked for.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Signatures,
    Attestations,
}

impl<'c> Attestors<'c> {
    pub(super) fn new(rule: &str, context: &'c Context<'c>) -> Self {
        Self {
            rule: rule.to_owned(),
            context,
            named: Cell::new(0),
        }
    }

    /// The lists, each of which has to be met, in one of several ways.
    pub(super) fn signatures(&self, value: &Value<'_>, kept: &Kept) -> Option<Vec<Vec<Signed>>> {
        self.all(value, |item| {
            let set = self.set(item, Purpose::Signatures, kept)?;
            match set.flat() {
                Some(signed) => checked(item, signed).map(|signed| vec![signed]),
                None => nested(item, &set),
            }
        })
    }

    /// The lists, each of which has to be met by attestations.
    pub(super) fn attestations(&self, value: &Value<'_>, kept: &Kept) -> Option<Vec<Signed>> {
        self.all(value, |item| {
            let set = self.set(item, Purpose::Attestations, kept)?;
            let flat = set.flat();
            if flat.is_none() {
                several_places(item);
            }
            checked(item, flat?)
        })
    }

    fn all<T>(&self, value: &Value<'_>, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
        let items = value.filled_list("say who has to have signed")?;
        let read: Vec<T> = items.iter().filter_map(read).collect();
        (read.len() == items.len()).then_some(read)
    }

    fn set(&self, item: &Value<'_>, purpose: Purpose, kept: &Kept) -> Option<Set> {
        let fields = item.fields(&sections::SET)?;
        let entries = fields.required("entries", "say who has to have signed")?;
        let items = entries.filled_list("say who has to have signed")?;
        let count = match fields.at("count") {
            Some(value) => Some(count(&value, items.len())?),
            None => None,
        };
        let read: Vec<Vec<Member>> = items
            .iter()
            .filter_map(|item| self.entry(item, purpose, kept))
            .collect();
        if read.len() < items.len() {
            return None;
        }
        let members: Vec<Member> = read.into_iter().flatten().collect();
        Some(Set {
            at_least: count.unwrap_or(members.len()),
            members,
        })
    }

    /// What an entry comes to: several keys are as many entries.
    fn entry(&self, item: &Value<'_>, purpose: Purpose, kept: &Kept) -> Option<Vec<Member>> {
        const FORMS: &[&str] = &["keys", "keyless", "attestor"];
        let fields = item.fields(&sections::ENTRY)?;
        let own = kept.within(&fields, self.context);
        let algorithm = passed_over(&fields);
        let (form, value) = fields.exactly_one(FORMS, "say who has to have signed")?;
        if form == "attestor" {
            return self.within(&fields, &value, purpose, kept);
        }
        let kinds = match form {
            "keys" => self.keys(&value, purpose),
            _ => self.keyless(&value, kept.format).map(|keyless| {
                let kind = SignerKind::Keyless(keyless);
                vec![kind]
            }),
        };
        let (source, ()) = (own?.source, algorithm?);
        let attestor = |kind| Attestor {
            rule: self.signer(kind),
            source: source.clone(),
        };
        let attestors = kinds?.into_iter().map(attestor);
        Some(attestors.map(Member::Signer).collect())
    }

    /// The list that stands as an entry.
    fn within(
        &self,
        entry: &Fields<'_>,
        list: &Value<'_>,
        purpose: Purpose,
        kept: &Kept,
    ) -> Option<Vec<Member>> {
        if purpose == Purpose::Attestations {
            list.error(
                "Kyverno does not look into lists within lists here, and would take an \
                 attestation by anybody",
                "write the attestors out as `entries`",
            );
            return None;
        }
        if let Some(value) = entry.at("repository") {
            value.error(
                "Kyverno passes over this beside `attestor`",
                "write it into the entries of the list within",
            );
            return None;
        }
        let set = self.set(list, purpose, kept)?;
        Some(vec![Member::Set(set)])
    }

    fn signer(&self, kind: SignerKind) -> Arc<SignerRule> {
        let number = self.named.get() + 1;
        self.named.set(number);
        Arc::new(SignerRule {
            name: format!("{}/attestor-{number}", self.rule).into(),
            kind,
            signed_identity: None,
        })
    }

    fn keys(&self, value: &Value<'_>, purpose: Purpose) -> Option<Vec<SignerKind>> {
        let fields = value.fields(&sections::KEYS)?;
        let (log, _, hash) = (log(&fields), certified(&fields, true), hash(&fields));
        if fields.has_later() {
            return None;
        }
        let value = fields.required("publicKeys", "write the public key in PEM")?;
        let text = value.text()?;
        if !text.contains("-----BEGIN") {
            value.error(
                &format!("{} is no public key in PEM", quoted(text)),
                "keys are neither fetched nor read from variables: write the key itself",
            );
            return None;
        }
        // As there, what follows the last key is nothing.
        let texts: Vec<&str> = text.split_inclusive(END).collect();
        let texts = match texts.as_slice() {
            [most @ .., last] if !most.is_empty() && !last.ends_with(END) => most,
            all => all,
        };
        if texts.len() > 1 && purpose == Purpose::Attestations {
            value.error(
                "Kyverno takes the first of several keys here, and passes over the others",
                "give each key an entry of its own, with `count`",
            );
            return None;
        }
        let checks = self.context.signers.checks;
        let keys = texts
            .iter()
            .filter_map(|text| signers::public_key_in(text, "", &value, checks));
        let keys: Vec<_> = keys.collect();
        let root = match log? {
            true => Some(self.context.signers.roots.default_root()),
            false => None,
        };
        if keys.len() < texts.len() {
            return None;
        }
        let hash = hash?;
        let holder = |key: PublicKey| KeyHolder {
            keys: vec![TimedKey {
                hash: Some(hash),
                ..TimedKey::always(key.clone())
            }],
            ..KeyHolder::of(key, root.clone())
        };
        Some(keys.into_iter().map(holder).map(SignerKind::Key).collect())
    }

    fn keyless(&self, value: &Value<'_>, format: Option<Carrier>) -> Option<Keyless> {
        let fields = value.fields(&sections::KEYLESS)?;
        let root: RootName = self.context.signers.roots.default_root();
        let (log, certified) = (log(&fields), certified(&fields, false));
        let exact = format == Some(Carrier::Bundle);
        let read = |keys: &[&'static str], mend| {
            let (key, value) = fields.exactly_one(keys, mend)?;
            match key {
                "issuerRegExp" | "subjectRegExp" => unanchored(&value),
                _ => pattern(&value, exact),
            }
        };
        let issuer = read(&["issuer", "issuerRegExp"], "say who vouches for the login");
        let subject = read(
            &["subject", "subjectRegExp"],
            "say who may sign: without it, everybody who has a login at the issuer could",
        );
        let claims = fields
            .at("additionalExtensions")
            .map_or(Some(Vec::new()), |value| claims(&value));
        let (log, certified) = (log?, certified?);
        warn_of_less(&fields, log, certified);
        let least = self.context.signers.roots.demands(&root);
        let demands = Demands {
            log: least.log.filter(|_| log),
            certificate_timestamp: least.certificate_timestamp && certified,
            ..least
        };
        if fields.has_later() {
            return None;
        }
        Some(Keyless {
            issuer: issuer?,
            identity: subject?,
            claims: claims?,
            root,
            demands,
        })
    }
}

fn checked(item: &Value<'_>, signed: Signed) -> Option<Signed> {
    let by = signed_by::checked(item, signed.by)?;
    Some(Signed { by, ..signed })
}

/// What the signatures of a key hash with: SHA-256 where nothing is said.
fn hash(keys: &Fields<'_>) -> Option<HashAlgorithm> {
    let Some(value) = keys.at("signatureAlgorithm") else {
        return Some(HashAlgorithm::Sha256);
    };
    foreign::hash_algorithm(&value, value.text()?)
}

/// Beside `keys` and `keyless`, Kyverno passes over it.
fn passed_over(entry: &Fields<'_>) -> Option<()> {
    let Some(value) = entry.at("signatureAlgorithm") else {
        return Some(());
    };
    if value.text()? != HashAlgorithm::Sha256.as_str() {
        value.error(
            "Kyverno passes over this beside `keys` and `keyless`",
            "for a key, write it within `keys`; for a login, remove the line",
        );
        return None;
    }
    Some(())
}
