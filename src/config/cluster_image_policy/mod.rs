//! `ClusterImagePolicy` documents of Sigstore's policy-controller (v1alpha1 and v1beta1), lowered
//! into policies like any other. They mean what they mean there, but for what docs/FOREIGN.md
//! tells; what cannot be said here is a load error that names the field.

mod sections;

use std::sync::Arc;

use crate::config::attested::PREDICATE_TYPES;
use crate::config::foreign::{self, unanchored};
use crate::config::policies::Context;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::signers;
use crate::policy::Attested;
use crate::policy::Carrier;
use crate::policy::Demand;
use crate::policy::Glob;
use crate::policy::IdentityRule;
use crate::policy::KeyHolder;
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
    let images = images.and_then(|value| images_of(&value));
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

fn images_of(value: &Value<'_>) -> Option<Vec<Glob>> {
    let items = value.filled_list("name at least one image")?;
    let globs: Vec<Glob> = items.iter().filter_map(image).collect();
    (globs.len() == items.len()).then_some(globs)
}

fn image(item: &Value<'_>) -> Option<Glob> {
    let value = item
        .fields(&sections::IMAGE)?
        .required("glob", "write { glob: \"ghcr.io/acme/**\" }")?;
    let text = value.text()?;
    // What policy-controller makes of the two shortest globs.
    let text = match text {
        "*" => "index.docker.io/library/*",
        "*/*" => "index.docker.io/*/*",
        other => other,
    };
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_:/*.@".contains(character);
    if !text.chars().all(plain) {
        value.error(
            &format!("{} is no glob", quoted(text)),
            "use letters, digits and - _ : / * . @",
        );
        return None;
    }
    let last = text.rsplit('/').next().unwrap_or(text);
    if last.contains([':', '@']) {
        value.warn(
            "this names a tag or digest, and a runtime asks for the manifests of an index by \
             digests that it does not match: they fall to other policies and the default",
            "match the repository: `ghcr.io/acme/app**`",
        );
    }
    let host = text.split('/').next().unwrap_or(text);
    let names_no_host = !text.contains('*') && !host.contains(['.', ':']);
    if host == "docker.io" || names_no_host {
        value.warn(
            "images are compared by their whole names here, so this matches none",
            "write Docker Hub's images as index.docker.io/OWNER/NAME:TAG",
        );
    } else if !text.contains('*') && !last.contains([':', '@']) {
        value.warn(
            "images are compared with their tag or digest, so this matches none",
            "match all of them: `ghcr.io/acme/app**`",
        );
    }
    value.parsed(Glob::over_references, "correct the glob")
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
            for key in ["ctlog", "rfc3161timestamp", "attestations"] {
                if let Some(beside) = fields.at(key) {
                    let message = format!("`{key}` has no meaning beside `static`");
                    beside.error(&message, "keep one of the two");
                    return None;
                }
            }
            fixed(&value)
        }
        (form, value) => {
            let log = fields.at("ctlog").map(|value| log(&value, context));
            let log = whole(log)?;
            let by = match form {
                "key" => key(&value, &name, log, &fields, context),
                _ => keyless(&value, &name, log.as_ref(), &fields, context),
            };
            demand(&fields, by).map(Authority::Demand)
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

fn log(value: &Value<'_>, context: &Context<'_>) -> Option<RootName> {
    root(&value.fields(&sections::LOG)?, context)
}

fn key(
    value: &Value<'_>,
    name: &str,
    log: Option<RootName>,
    authority: &Fields<'_>,
    context: &Context<'_>,
) -> Option<(SignedBy, bool)> {
    let fields = value.fields(&sections::KEY)?;
    if let Some(value) = authority.at("rfc3161timestamp") {
        value.error(
            "not supported by this version: a timestamp beside a key",
            "remove it, and ask for the log with `ctlog`",
        );
        return None;
    }
    if let Some(algorithm) = fields.at("hashAlgorithm") {
        let text = algorithm.text()?;
        if !text.trim().eq_ignore_ascii_case("sha256") {
            algorithm.error(
                &format!(
                    "not supported by this version: signatures over {}",
                    quoted(text)
                ),
                "sign with SHA-256, as cosign does, and remove the line",
            );
            return None;
        }
    }
    if fields.has_later() {
        return None;
    }
    let data = fields.required("data", "write the public key in PEM")?;
    let key = signers::public_key("pem", &data, context.signers.checks)?;
    let kind = SignerKind::Key(KeyHolder::of(key, log));
    let rule = SignerRule {
        name: name.into(),
        kind,
        signed_identity: None,
    };
    let of = vec![Arc::new(rule)];
    Some((SignedBy { at_least: 1, of }, false))
}

fn keyless(
    value: &Value<'_>,
    name: &str,
    log: Option<&RootName>,
    authority: &Fields<'_>,
    context: &Context<'_>,
) -> Option<(SignedBy, bool)> {
    let fields = value.fields(&sections::KEYLESS)?;
    let root = root(&fields, context)?;
    if let Some(value) = fields.at("insecureIgnoreSCT")
        && value.choice(&[("true", true), ("false", false)])?
    {
        value.error(
            "not supported by this version: certificates without an SCT",
            "remove the line",
        );
        return None;
    }
    let timestamp = match authority.at("rfc3161timestamp") {
        Some(value) => Some(self::root(&value.fields(&sections::TIMESTAMP)?, context)?),
        None => None,
    };
    for (other, key) in [(log, "ctlog"), (timestamp.as_ref(), "rfc3161timestamp")] {
        if other.is_some_and(|other| *other != root)
            && let Some(value) = authority.at(key)
        {
            value.error(
                &format!("`{key}` names another trust root than `keyless`"),
                "put certificates, log and timestamps into one trust root, and name it in each",
            );
            return None;
        }
    }
    let identities = fields.required("identities", "say who may sign")?;
    let items = identities.filled_list("say who may sign")?;
    let of: Vec<Arc<SignerRule>> = items
        .iter()
        .filter_map(|item| {
            let (issuer, identity) = identity(item)?;
            let kind = SignerKind::Keyless(Keyless {
                issuer,
                identity,
                claims: Vec::new(),
                root: root.clone(),
                // Without a `ctlog` none is asked for; a proven time always is.
                demands: Demands {
                    log: log.map(|_| Logged::Promised),
                    ..Demands::default()
                },
            });
            let name = name.into();
            Some(Arc::new(SignerRule {
                name,
                kind,
                signed_identity: None,
            }))
        })
        .collect();
    if of.len() < items.len() {
        return None;
    }
    Some((SignedBy { at_least: 1, of }, timestamp.is_some()))
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

fn demand(authority: &Fields<'_>, by: Option<(SignedBy, bool)>) -> Option<Demand> {
    let attestations = authority
        .at("attestations")
        .map(|value| attestations(&value));
    let format = match authority
        .at("signatureFormat")
        .filter(|value| value.as_text() != Some(""))
    {
        Some(value) => {
            let words = [("legacy", Carrier::Layer), ("bundle", Carrier::Bundle)];
            Some(value.choice(&words)?)
        }
        None => None,
    };
    let types = match attestations {
        Some(types) => types?,
        None => Vec::new(),
    };
    let (by, timestamped) = by?;
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
        timing: Timing {
            timestamped,
            ..Timing::default()
        },
        format,
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
