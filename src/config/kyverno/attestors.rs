//! `attestors`: who has to have signed.

use std::cell::Cell;
use std::sync::Arc;

use crate::config::foreign::unanchored;
use crate::config::kyverno::identity::{claims, pattern};
use crate::config::kyverno::logs::{certified, log, warn_of_less};
use crate::config::kyverno::sections;
use crate::config::kyverno::set::{Member, Set, count, nested};
use crate::config::policies::Context;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::signed_by;
use crate::config::signers;
use crate::policy::Carrier;
use crate::policy::KeyHolder;
use crate::policy::Keyless;
use crate::policy::SignedBy;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::verify::Demands;
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
    pub(super) fn signatures(
        &self,
        value: &Value<'_>,
        format: Option<Carrier>,
    ) -> Option<Vec<Vec<SignedBy>>> {
        self.all(value, |item| {
            let set = self.set(item, Purpose::Signatures, format)?;
            match set.flat() {
                Ok(flat) => signed_by::checked(item, flat).map(|flat| vec![flat]),
                Err(set) => nested(item, &set),
            }
        })
    }

    /// The lists, each of which has to be met by attestations.
    pub(super) fn attestations(
        &self,
        value: &Value<'_>,
        format: Option<Carrier>,
    ) -> Option<Vec<SignedBy>> {
        self.all(value, |item| {
            let set = self.set(item, Purpose::Attestations, format)?;
            signed_by::checked(item, set.flat().ok()?)
        })
    }

    fn all<T>(&self, value: &Value<'_>, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
        let items = value.filled_list("say who has to have signed")?;
        let read: Vec<T> = items.iter().filter_map(read).collect();
        (read.len() == items.len()).then_some(read)
    }

    fn set(&self, item: &Value<'_>, purpose: Purpose, format: Option<Carrier>) -> Option<Set> {
        let fields = item.fields(&sections::SET)?;
        let entries = fields.required("entries", "say who has to have signed")?;
        let items = entries.filled_list("say who has to have signed")?;
        let count = match fields.at("count") {
            Some(value) => Some(count(&value, items.len())?),
            None => None,
        };
        let read: Vec<Vec<Member>> = items
            .iter()
            .filter_map(|item| self.entry(item, purpose, format))
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
    fn entry(
        &self,
        item: &Value<'_>,
        purpose: Purpose,
        format: Option<Carrier>,
    ) -> Option<Vec<Member>> {
        const FORMS: &[&str] = &["keys", "keyless", "attestor"];
        let fields = item.fields(&sections::ENTRY)?;
        let algorithm = algorithm(&fields);
        let (form, value) = fields.exactly_one(FORMS, "say who has to have signed")?;
        let members = match form {
            "keys" => self.keys(&value, purpose),
            "keyless" => self.keyless(&value, format).map(|kind| {
                let rule = self.signer(SignerKind::Keyless(kind));
                vec![Member::Signer(rule)]
            }),
            _ if purpose == Purpose::Attestations => {
                value.error(
                    "Kyverno does not look into lists within lists here, and would take an \
                     attestation by anybody",
                    "write the attestors out as `entries`",
                );
                None
            }
            _ => self
                .set(&value, purpose, format)
                .map(|set| vec![Member::Set(set)]),
        };
        algorithm?;
        members
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

    fn keys(&self, value: &Value<'_>, purpose: Purpose) -> Option<Vec<Member>> {
        let fields = value.fields(&sections::KEYS)?;
        let (log, _, algorithm) = (log(&fields), certified(&fields, true), algorithm(&fields));
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
        algorithm?;
        let member = |key| {
            let log = root.clone();
            Member::Signer(self.signer(SignerKind::Key(KeyHolder::of(key, log))))
        };
        Some(keys.into_iter().map(member).collect())
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

fn algorithm(fields: &Fields<'_>) -> Option<()> {
    let Some(value) = fields.at("signatureAlgorithm") else {
        return Some(());
    };
    let text = value.text()?;
    if text != "sha256" {
        value.error(
            &format!(
                "not supported by this version: signatures over {}",
                quoted(text)
            ),
            "sign with SHA-256, as cosign does, and remove the line",
        );
        return None;
    }
    Some(())
}
