//! `ClusterImagePolicy` documents of Sigstore's policy-controller (v1alpha1 and v1beta1), lowered
//! into policies like any other. They mean what they mean there, but for what docs/FOREIGN.md
//! tells; what cannot be said here is a load error that names the field.

mod images;
mod key;
mod sections;
mod source;

use std::sync::Arc;

use crate::config::attested::PREDICATE_TYPES;
use crate::config::foreign::{self, unanchored};
use crate::config::policies::Context;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema::Section;
use crate::policy::Attested;
use crate::policy::Carrier;
use crate::policy::Demand;
use crate::policy::IdentityRule;
use crate::policy::Keyless;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::SignedBy;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::Signs;
use crate::policy::Timing;
use crate::verify::Demands;
use crate::verify::Logged;
use crate::verify::RootName;

/// The `kind` of these documents.
pub(super) const KIND: &str = "ClusterImagePolicy";

const VERSIONS: &[&str] = &[
    "policy.sigstore.dev/v1alpha1",
    "policy.sigstore.dev/v1beta1",
];

/// Lowers a document whose kind is [`KIND`].
pub(super) fn lower(document: &Value<'_>, context: &Context<'_>) -> Option<Policy> {
    let fields = document.fields(&sections::DOCUMENT)?;
    let version = fields.required("apiVersion", "write policy.sigstore.dev/v1beta1");
    let version = version.and_then(|value| {
        let text = value.text()?;
        let known = VERSIONS.contains(&text);
        if !known {
            value.error(
                &format!("{} is no version that is known here", quoted(text)),
                "write policy.sigstore.dev/v1alpha1 or policy.sigstore.dev/v1beta1",
            );
        }
        known.then_some(())
    });
    let name = foreign::name(document).and_then(|name| name.as_text());
    if name.is_none() {
        let mend = "name it: the name stands in refusals, logs and metrics";
        document.error("`metadata.name` is missing", mend);
    }
    let spec = fields.required("spec", "say what it asks for");
    let spec = spec.and_then(|value| value.fields(&sections::SPEC))?;
    let images = spec.required("images", "say which images it is for");
    let images = images.and_then(|value| images::lower(&value));
    let mode = match spec.at("mode").filter(|value| value.as_text() != Some("")) {
        Some(value) => value.choice(&[("enforce", Mode::Enforce), ("warn", Mode::Warn)]),
        None => Some(Mode::Enforce),
    };
    refuse_policy(&spec);
    let authorities = spec.required("authorities", "say who has to have signed");
    let requirement = authorities.and_then(|value| requirement(&value, name?, context));
    version?;
    Some(Policy {
        name: name?.into(),
        images: images?,
        except: Vec::new(),
        mode: mode?,
        requirement: requirement?,
        signs: Signs::Asked,
        pulled_by: None,
        no_rollback: None,
    })
}

/// Refuses a `policy` in CUE or Rego, here or within an attestation.
fn refuse_policy(fields: &Fields<'_>) {
    let Some(value) = fields.at("policy") else {
        return;
    };
    let inner = value.fields(&sections::POLICY);
    let language = inner.as_ref().and_then(|inner| inner.at("type"));
    let name = language.as_ref().and_then(Value::as_text);
    language.as_ref().unwrap_or(&value).error(
        &format!(
            "not supported by this version: policies in {}",
            quoted(name.unwrap_or("cue"))
        ),
        "write the rule as a policy of pullgate's own, with `attested` and `where`",
    );
}

/// What one authority comes to.
enum Authority {
    Pass,
    Fail(String),
    Demand(Demand),
}

fn requirement(value: &Value<'_>, name: &str, context: &Context<'_>) -> Option<Requirement> {
    let items = value.filled_list("say who has to have signed")?;
    let authorities: Vec<Authority> = items
        .iter()
        .enumerate()
        .filter_map(|(position, item)| authority(item, name, position, context))
        .collect();
    if authorities.len() < items.len() {
        return None;
    }
    let mut demands = Vec::new();
    let mut refusal = None;
    for authority in authorities {
        match authority {
            // One authority is enough, and this one always passes.
            Authority::Pass => {
                return Some(Requirement::AllowUnsigned {
                    until: None,
                    because: format!("{KIND} {name} has a static authority that passes"),
                });
            }
            Authority::Fail(message) => refusal = Some(message),
            Authority::Demand(demand) => demands.push(demand),
        }
    }
    match refusal {
        Some(reason) if demands.is_empty() => Some(Requirement::Deny { reason }),
        _ => Some(Requirement::Proven(demands)),
    }
}

fn authority(
    item: &Value<'_>,
    policy: &str,
    position: usize,
    context: &Context<'_>,
) -> Option<Authority> {
    const FORMS: &[&str] = &["key", "keyless", "static"];
    let fields = item.fields(&sections::AUTHORITY)?;
    let name = match fields.at("name") {
        Some(value) => format!("{policy}/{}", value.text()?),
        None => format!("{policy}/authority-{position}"),
    };
    match fields.exactly_one(FORMS, "say who has to have signed")? {
        ("static", value) => {
            for key in ["ctlog", "rfc3161timestamp", "attestations", "source"] {
                if let Some(beside) = fields.at(key) {
                    let message = format!("`{key}` has no meaning beside `static`");
                    beside.error(&message, "keep one of the two");
                    return None;
                }
            }
            fixed(&value)
        }
        (form, value) => {
            // The rest is read all the same, so that all problems are told.
            let vouchers = Vouchers::of(&fields, context);
            let by = vouchers.and_then(|vouchers| match form {
                "key" => key::lower(&value, &name, vouchers, &fields, context),
                _ => keyless(&value, &name, &vouchers, &fields, context),
            });
            demand(&fields, by, context).map(Authority::Demand)
        }
    }
}

fn fixed(value: &Value<'_>) -> Option<Authority> {
    let fields = value.fields(&sections::STATIC)?;
    let action = fields.required("action", "write { action: pass } or { action: fail }")?;
    let message = fields.at("message").and_then(|value| value.as_text());
    let message = message.unwrap_or("disallowed by static policy");
    match action.choice(&[("pass", true), ("fail", false)])? {
        true => {
            value.warn(
                "every image that matches passes, signed or not",
                "remove the policy",
            );
            Some(Authority::Pass)
        }
        false => Some(Authority::Fail(message.to_owned())),
    }
}

/// The trust root that a section names, or the default one.
fn root(fields: &Fields<'_>, context: &Context<'_>) -> Option<RootName> {
    match fields.at("trustRootRef") {
        Some(value) => context.signers.roots.find(&value),
        None => Some(context.signers.roots.default_root()),
    }
}

/// What has to vouch for a signature beside itself, each under its trust root.
struct Vouchers {
    log: Option<RootName>,
    timestamp: Option<RootName>,
}

impl Vouchers {
    fn of(authority: &Fields<'_>, context: &Context<'_>) -> Option<Self> {
        let under = |key, section: &'static Section| {
            let value = authority.at(key)?;
            Some(
                value
                    .fields(section)
                    .and_then(|fields| root(&fields, context)),
            )
        };
        let log = under("ctlog", &sections::LOG);
        let timestamp = under("rfc3161timestamp", &sections::TIMESTAMP);
        Some(Self {
            log: whole(log)?,
            timestamp: whole(timestamp)?,
        })
    }

    /// Refuses what is to be proven under another trust root than `first`: one proof is made
    /// under one.
    fn agree_with(&self, first: (&RootName, &str), authority: &Fields<'_>) -> Option<()> {
        let vouchers = [("ctlog", &self.log), ("rfc3161timestamp", &self.timestamp)];
        for (key, root) in vouchers {
            if root.as_ref().is_some_and(|root| root != first.0)
                && let Some(value) = authority.at(key)
            {
                value.error(
                    &format!("`{key}` names another trust root than `{}`", first.1),
                    "put certificates, log and timestamps into one trust root, and name it in each",
                );
                return None;
            }
        }
        Some(())
    }
}

fn keyless(
    value: &Value<'_>,
    name: &str,
    vouchers: &Vouchers,
    authority: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SignedBy> {
    let fields = value.fields(&sections::KEYLESS)?;
    let root = root(&fields, context)?;
    let demands = Demands {
        // Without a `ctlog` none is asked for; a proven time always is.
        log: vouchers.log.as_ref().map(|_| Logged::Promised),
        timestamp: vouchers.timestamp.is_some(),
        certificate_timestamp: !ignores_certificate_logs(&fields)?,
    };
    vouchers.agree_with((&root, "keyless"), authority)?;
    let identities = fields.required("identities", "say who may sign")?;
    let items = identities.filled_list("say who may sign")?;
    let of: Vec<Arc<SignerRule>> = items
        .iter()
        .enumerate()
        .filter_map(|(position, item)| {
            let (issuer, identity) = identity(item)?;
            let kind = SignerKind::Keyless(Keyless {
                issuer,
                identity,
                claims: Vec::new(),
                root: root.clone(),
                demands,
            });
            // Each has a name of its own.
            let name = match items.len() {
                1 => name.into(),
                _ => format!("{name}/identity-{position}").into(),
            };
            Some(Arc::new(SignerRule {
                name,
                kind,
                signed_identity: None,
            }))
        })
        .collect();
    (of.len() == items.len()).then_some(SignedBy { at_least: 1, of })
}

fn ignores_certificate_logs(keyless: &Fields<'_>) -> Option<bool> {
    let Some(value) = keyless.at("insecureIgnoreSCT") else {
        return Some(false);
    };
    let ignored = value.choice(&[("true", true), ("false", false)])?;
    if ignored {
        value.warn(
            "certificates count that no log of certificates holds, so nobody learns of those that \
             were issued to a thief",
            "keep it where the Sigstore has no such log",
        );
    }
    Some(ignored)
}

fn identity(item: &Value<'_>) -> Option<(IdentityRule, IdentityRule)> {
    let fields = item.fields(&sections::IDENTITY)?;
    let issuer = fields.exactly_one(&["issuer", "issuerRegExp"], "say who vouches for the login");
    let subject = fields.exactly_one(&["subject", "subjectRegExp"], "say who may sign");
    let rule = |(key, value): (&'static str, Value<'_>)| match key {
        "issuer" | "subject" => IdentityRule::exact(value.text()?).ok(),
        _ => unanchored(&value),
    };
    let (issuer, subject) = (issuer.and_then(rule), subject.and_then(rule));
    Some((issuer?, subject?))
}

fn demand(authority: &Fields<'_>, by: Option<SignedBy>, context: &Context<'_>) -> Option<Demand> {
    let attestations = authority
        .at("attestations")
        .map(|value| attestations(&value));
    let words = [("legacy", Carrier::Layer), ("bundle", Carrier::Bundle)];
    let format = authority.at("signatureFormat");
    let format = format.filter(|value| value.as_text() != Some(""));
    let format = format.map(|value| value.choice(&words));
    let source = authority
        .at("source")
        .map_or(Some(None), |value| source::lower(&value, context));
    let types = match attestations {
        Some(types) => types?,
        None => Vec::new(),
    };
    let by = by?;
    let attested: Vec<Attested> = types
        .into_iter()
        .map(|predicate_type| Attested {
            predicate_type,
            by: by.clone(),
            condition: None,
            every: false,
        })
        .collect();
    Some(Demand {
        // With attestations it asks for no signature of the image itself.
        signed_by: attested.is_empty().then_some(by),
        attested,
        timing: Timing::default(),
        format: whole(format)?,
        source: source?.map(Arc::new),
    })
}

/// The predicate types of the attestations that are asked for.
fn attestations(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.list()?;
    let types: Vec<String> = items.iter().filter_map(attestation).collect();
    (types.len() == items.len()).then_some(types)
}

fn attestation(item: &Value<'_>) -> Option<String> {
    let fields = item.fields(&sections::ATTESTATION)?;
    let name = fields.required("name", "give the attestation a name");
    let name = name.and_then(|value| value.text());
    let value = fields.required("predicateType", "say of which type")?;
    let text = value.text()?;
    let known = PREDICATE_TYPES.iter().find(|(name, _)| *name == text);
    refuse_policy(&fields);
    name?;
    Some(known.map_or(text, |(_, uri)| uri).to_owned())
}
