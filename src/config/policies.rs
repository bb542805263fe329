//! The policy files, lowered into [`Rules`]. All files together are one policy: a signer or
//! policy has its name in one place, and may be used from every file.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::demand;
use crate::config::foreign::{self, Engine};
use crate::config::images;
use crate::config::problem::quoted;
use crate::config::pullers::{self, Pullers, Ways};
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::rollback;
use crate::config::schema;
use crate::config::signers;
use crate::config::units;
use crate::oci::Digest;
use crate::oci::RegistryHost;
use crate::policy::DefaultRule;
use crate::policy::Glob;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::Rules;
use crate::policy::SignerRule;
use crate::policy::Signs;

/// What policies are read with.
pub(super) struct Context<'a> {
    /// What signers are read with.
    pub(super) signers: signers::Context<'a>,
    /// How callers can say who they are; `None` where nobody is asked.
    pub(super) ways: Option<Ways>,
    /// The hosts of all upstreams; `None` where they are not known for a problem with them.
    pub(super) hosts: Option<&'a [RegistryHost]>,
    /// The time, for exemptions that have ended.
    pub(super) now: Timestamp,
    /// Whether what is remembered of tags outlives the process.
    pub(super) remembers: bool,
    /// How many steps the evaluation of a condition takes at most.
    pub(super) condition_steps_max: usize,
}

/// Every signer of every file by its name; `None` for one with a problem, so that the
/// policies that name it are not blamed for it.
pub(super) type Signers = HashMap<String, Option<Arc<SignerRule>>>;

/// Lowers all documents of all policy files.
pub(super) fn lower(documents: &[Value<'_>], context: &Context<'_>) -> Rules {
    let (foreign, documents): (Vec<&Value<'_>>, Vec<&Value<'_>>) = documents
        .iter()
        .partition(|document| Engine::of(document).is_some());
    let documents: Vec<Fields<'_>> = documents.into_iter().filter_map(open).collect();
    let signers = all_signers(&documents, context);
    let pullers = pullers::all(&documents, context.ways.as_ref());
    Rules {
        policies: all_policies(&documents, &foreign, &signers, &pullers, context),
        default: default_rule(&documents),
    }
}

/// The keys of a document, if it is one of ours.
fn open<'a>(document: &Value<'a>) -> Option<Fields<'a>> {
    if document.is_null() {
        document.warn("there is nothing in this document", "remove it");
        return None;
    }
    if let Some((_, kind)) = document.peek("kind") {
        let name = kind.as_text().unwrap_or("?");
        kind.error(
            &format!(
                "not supported by this version: documents of kind {}",
                quoted(name)
            ),
            match name {
                "TrustRoot" => {
                    "write a trust root into the configuration: trust_roots: { NAME: { file: \
                     trusted_root.json } }"
                }
                "Policy" => {
                    "a `Policy` is for one namespace, and a pull does not tell for which: make it a \
                     `ClusterPolicy`"
                }
                "PolicyException" => {
                    "remove it, and name the images under `skipImageReferences`, or under `except` \
                     of a policy of pullgate's own"
                }
                "ImageValidatingPolicy" | "NamespacedImageValidatingPolicy" => {
                    "remove the document, and write its rules as `policies` (docs/POLICY.md), or as \
                     a `ClusterPolicy` with `verifyImages`"
                }
                _ => "remove the document, and write its rules as `policies` (docs/POLICY.md)",
            },
        );
        return None;
    }
    document.fields(&schema::POLICY_FILE)
}

/// Where a name was given first.
pub(super) struct FirstUse<'a> {
    file: &'a Path,
    line: usize,
}

/// Refuses a name that stood before.
pub(super) fn is_new<'a>(
    names: &mut HashMap<String, FirstUse<'a>>,
    what: &str,
    name: &str,
    value: &Value<'a>,
) -> bool {
    if let Some(first) = names.get(name) {
        value.error(
            &format!(
                "there is already a {what} {} ({}, line {})",
                quoted(name),
                first.file.display(),
                first.line
            ),
            "all policy files are one policy: give one of the two another name, or remove it",
        );
        return false;
    }
    let first = FirstUse {
        file: value.sheet().file,
        line: value.line(),
    };
    names.insert(name.to_owned(), first);
    true
}

fn all_signers(documents: &[Fields<'_>], context: &Context<'_>) -> Signers {
    let mut names = HashMap::new();
    let mut signers = Signers::new();
    for document in documents {
        let entries = document.at("signers").and_then(|value| value.entries());
        for (name, value) in entries.unwrap_or_default() {
            let rule = signers::lower(name, &value, &context.signers);
            if is_new(&mut names, "signer", name, &value) {
                signers.insert(name.to_owned(), rule.map(Arc::new));
            }
        }
    }
    signers
}

fn default_rule(documents: &[Fields<'_>]) -> DefaultRule {
    let mut first: Option<Value<'_>> = None;
    let mut rule = DefaultRule::default();
    for document in documents {
        let Some(value) = document.at("default") else {
            continue;
        };
        let words = [
            ("deny", DefaultRule::Deny),
            ("unsafe_allow", DefaultRule::UnsafeAllow),
        ];
        rule = value.choice(&words).unwrap_or(rule);
        match &first {
            None => first = Some(value),
            Some(first) => {
                let file = first.sheet().file.display();
                value.error(
                    &format!("`default` stands already in {file}, line {}", first.line()),
                    "keep one of the two",
                );
            }
        }
    }
    rule
}

fn all_policies(
    documents: &[Fields<'_>],
    foreign: &[&Value<'_>],
    signers: &Signers,
    pullers: &Pullers,
    context: &Context<'_>,
) -> Vec<Arc<Policy>> {
    let mut names = HashMap::new();
    let mut policies = Vec::new();
    for document in documents {
        let items = document.at("policies").and_then(|value| value.list());
        for value in items.unwrap_or_default() {
            if let Some(fields) = value.fields(&schema::POLICY) {
                let name = name(&fields, &mut names);
                let policy = policy(&fields, name, signers, pullers, context);
                policies.extend(policy.map(Arc::new));
            }
        }
    }
    for document in foreign {
        let Some(engine) = Engine::of(document) else {
            continue;
        };
        let lowered = engine.lower(document, context);
        let name = foreign::name(document);
        let is_new = name.is_some_and(|value| checked_name(&value, &mut names).is_some());
        for (place, policy) in lowered {
            // What a document makes of its name has to be free as well.
            let own = place.as_text() == Some(&*policy.name);
            if is_new && (own || is_free(&place, &policy.name, &mut names)) {
                policies.push(Arc::new(policy));
            }
        }
    }
    policies
}

fn name<'a>(fields: &Fields<'a>, names: &mut HashMap<String, FirstUse<'a>>) -> Option<Arc<str>> {
    let value = fields.required(
        "name",
        "name it: the name stands in refusals, logs and metrics",
    )?;
    checked_name(&value, names)
}

/// A name that fits everywhere, and that did not stand before.
fn checked_name<'a>(
    value: &Value<'a>,
    names: &mut HashMap<String, FirstUse<'a>>,
) -> Option<Arc<str>> {
    let text = value.text()?;
    is_free(value, text, names).then(|| text.into())
}

/// Whether a name, which comes from `value`, fits everywhere and did not stand before.
fn is_free<'a>(value: &Value<'a>, text: &str, names: &mut HashMap<String, FirstUse<'a>>) -> bool {
    let plain = |character: char| {
        character == ' ' || (character.is_ascii_graphic() && !matches!(character, '"' | '\\'))
    };
    if text.len() > 128 || !text.chars().all(plain) {
        value.error(
            "the name does not fit into headers and metrics",
            "use up to 128 letters (a to z), digits, spaces and signs, without quotes and \
             backslashes",
        );
        return false;
    }
    is_new(names, "policy", text, value)
}

/// Reads everything even where the name is wrong, so that all problems are told.
fn policy(
    fields: &Fields<'_>,
    name: Option<Arc<str>>,
    signers: &Signers,
    pullers: &Pullers,
    context: &Context<'_>,
) -> Option<Policy> {
    let images = fields.required(
        "images",
        "say which images it is for: images: [\"ghcr.io/acme/**\"]",
    );
    let patterns = images
        .as_ref()
        .and_then(|value| globs(value, context.hosts));
    let except = fields
        .at("except")
        .map_or(Some(Vec::new()), |value| globs(&value, context.hosts));
    if let (Some(value), Some(patterns), Some(except)) = (&images, &patterns, &except)
        && images::refuse_mixture(value, patterns, except)
    {
        return None;
    }
    let mode = fields.at("mode").map_or(Some(Mode::Enforce), |value| {
        value.choice(&[("enforce", Mode::Enforce), ("warn", Mode::Warn)])
    });
    let requirement = requirement(fields, signers, context);
    let signs = signs(fields);
    let pulled_by = fields
        .at("pulled_by")
        .map(|value| pullers::pulled_by(&value, pullers, context.ways.as_ref()));
    let no_rollback = rollback::lower(fields, requirement.as_ref(), context.remembers);
    Some(Policy {
        name: name?,
        images: patterns?,
        except: except?,
        mode: mode?,
        requirement: requirement?,
        signs: signs?,
        pulled_by: whole(pulled_by)?,
        no_rollback: no_rollback?,
    })
}

fn globs(value: &Value<'_>, hosts: Option<&[RegistryHost]>) -> Option<Vec<Glob>> {
    let items = value.filled_list("name at least one image, or remove the line")?;
    let globs: Vec<Glob> = items
        .iter()
        .filter_map(|item| images::pattern(item, hosts))
        .collect();
    (globs.len() == items.len()).then_some(globs)
}

fn signs(fields: &Fields<'_>) -> Option<Signs> {
    let Some(value) = fields.at("signs") else {
        return Some(Signs::default());
    };
    let asks_for_signatures = fields
        .at("signed_by")
        .or_else(|| fields.at("any_of"))
        .is_some();
    let signs = value.choice(&[
        ("index", Signs::Index),
        ("instance", Signs::Instance),
        ("either", Signs::Either),
        ("asked", Signs::Asked),
    ])?;
    // `asked` says something of attestations as well.
    if !asks_for_signatures && signs != Signs::Asked && !fields.has_later() {
        value.warn(
            "`signs` has no meaning without `signed_by`: attestations may cover either",
            "remove the line",
        );
    }
    Some(signs)
}

fn requirement(
    fields: &Fields<'_>,
    signers: &Signers,
    context: &Context<'_>,
) -> Option<Requirement> {
    const ALL: &[&str] = &[
        "signed_by",
        "attested",
        "any_of",
        "digests",
        "deny",
        UNSIGNED,
    ];
    const FORMS: &[&str] = &["signed_by", "any_of", "digests", "deny", UNSIGNED];
    const ATTESTED: &[&str] = &["attested", "any_of", "digests", "deny", UNSIGNED];
    const UNSIGNED: &str = "unsafe_allow_unsigned";
    const MEND: &str = "say what it asks for: signers, attestations, pinned digests, nothing at \
                        all, or no pull";
    let circumstances = demand::circumstances(fields, context);
    // `signed_by` and `attested` go together, and neither with anything else.
    let forms = match (fields.at("attested"), fields.at("signed_by")) {
        (Some(_), _) => ATTESTED,
        (None, Some(_)) => FORMS,
        (None, None) => ALL,
    };
    match fields.exactly_one(forms, MEND)? {
        ("signed_by" | "attested", _) => {
            let demand = demand::demand(fields, signers, circumstances, context)?;
            Some(Requirement::Proven(vec![demand]))
        }
        (form, value) => {
            demand::complain_of_signature_keys(fields, form);
            match form {
                "any_of" => demand::alternatives(&value, signers, context).map(Requirement::Proven),
                "digests" => digests(
                    &value,
                    "pin at least one digest; to let nothing pass, use `deny`",
                )
                .map(Requirement::Digests),
                "deny" => value.text().map(|reason| Requirement::Deny {
                    reason: reason.to_owned(),
                }),
                _ => exemption(&value, context.now),
            }
        }
    }
}

pub(super) fn digests(value: &Value<'_>, mend: &str) -> Option<BTreeSet<Digest>> {
    let items = value.filled_list(mend)?;
    let mut digests = BTreeSet::new();
    let mut whole = true;
    for item in items {
        let digest = item.parsed(
            str::parse::<Digest>,
            "write the digest that the registry has for the image: `sha256:` and 64 digits",
        );
        match digest {
            Some(digest) => {
                if !digests.insert(digest) {
                    item.warn("this digest stands twice", "remove one");
                }
            }
            None => whole = false,
        }
    }
    whole.then_some(digests)
}

fn exemption(value: &Value<'_>, now: Timestamp) -> Option<Requirement> {
    let fields = value.fields(&schema::EXEMPTION)?;
    let because = fields.required("because", "say why, for whoever reads this in a year");
    let because = because.and_then(|value| value.text());
    let until = match fields.at("until") {
        Some(value) => {
            let until = value.parsed(units::end, units::DATE_MEND)?;
            if until <= now {
                value.warn(
                    "this exemption has ended, so these images are refused",
                    "remove the policy, sign the images, or move the date",
                );
            }
            Some(until)
        }
        None => {
            value.warn(
                "this exemption never ends",
                "give it an end: `until: 2026-12-31`",
            );
            None
        }
    };
    Some(Requirement::AllowUnsigned {
        until,
        because: because?.to_owned(),
    })
}
