//! `pullers` and `pulled_by`, lowered: who may pull.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::policies;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::signers;
use crate::config::suggest::nearest;
use crate::policy::ClaimRule;
use crate::policy::DnsRule;
use crate::policy::IdentityRule;
use crate::policy::PulledBy;
use crate::policy::PullerKind;
use crate::policy::PullerRule;
use crate::policy::TokenRule;

const FORMS: &str = "write a puller's name, or { any: [a, b] }";
const NO_CALLERS: &str = "add `callers` to pullgate.yaml: who is not asked cannot be known";
/// How deep claims may lie in one another; those of Kubernetes lie three deep.
const CLAIM_DEPTH_MAX: usize = 8;

/// Every puller of every file by its name; `None` for one with a problem, so that the policies
/// that name it are not blamed for it.
pub(super) type Pullers = HashMap<String, Option<Arc<PullerRule>>>;

/// The ways in which callers can say who they are, as `callers` has them. Only as far as it
/// takes to see that a puller can never come; whether it is well written is told elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// There is a file of users.
    pub(super) users: bool,
    /// There are client certificates.
    pub(super) certificates: bool,
    /// The issuers of tokens.
    pub(super) issuers: Vec<String>,
}

impl Ways {
    /// What `callers` has; `None` where it is not given.
    pub(super) fn of(callers: Option<&Value<'_>>) -> Option<Self> {
        let callers = callers?;
        let issuers = callers
            .peek("oidc")
            .map(|(_, value)| match value.is_list() {
                true => value.list().unwrap_or_default(),
                false => vec![value],
            });
        let issuers = issuers.into_iter().flatten();
        let issuers = issuers.filter_map(|issuer| {
            let (_, value) = issuer.peek("issuer")?;
            Some(signers::named_issuer(value.as_text()?).to_owned())
        });
        Some(Self {
            users: callers.peek("htpasswd").is_some(),
            certificates: callers.peek("client_certificates").is_some(),
            issuers: issuers.collect(),
        })
    }
}

/// Every puller of every file.
pub(super) fn all(documents: &[Fields<'_>], ways: Option<&Ways>) -> Pullers {
    let mut names = HashMap::new();
    let mut pullers = Pullers::new();
    for document in documents {
        let entries = document.at("pullers").and_then(|value| value.entries());
        for (name, value) in entries.unwrap_or_default() {
            let rule = lower(name, &value, ways);
            if policies::is_new(&mut names, "puller", name, &value) {
                pullers.insert(name.to_owned(), rule.map(Arc::new));
            }
        }
    }
    pullers
}

/// Lowers the puller `name`.
fn lower(name: &str, value: &Value<'_>, ways: Option<&Ways>) -> Option<PullerRule> {
    const MEND: &str = "write `user:` with names, `oidc:` with an issuer and an identity, or \
                        `certificate:` with a DNS name";
    let fields = value.fields(&schema::PULLER)?;
    if name.trim().is_empty() {
        value.error("a puller has no name", "give it one");
        return None;
    }
    let (way, value) = fields.exactly_one(&["user", "oidc", "certificate"], MEND)?;
    let kind = match way {
        "user" => users(&value).map(PullerKind::Users),
        "oidc" => token(&value, ways).map(PullerKind::Token),
        _ => certificate(&value).map(PullerKind::Certificate),
    };
    let missing = match (way, ways) {
        ("user", Some(ways)) if !ways.users => Some(("a user", "htpasswd")),
        ("certificate", Some(ways)) if !ways.certificates => {
            Some(("known by a certificate", "client_certificates"))
        }
        _ => None,
    };
    if let Some((what, key)) = missing {
        value.error(
            &format!("no caller can be {what}: `callers` has no `{key}`"),
            "let callers log in in that way, or name this puller by another",
        );
        return None;
    }
    Some(PullerRule {
        name: name.into(),
        kind: kind?,
    })
}

/// One user, or a list of them.
fn users(value: &Value<'_>) -> Option<BTreeSet<String>> {
    let items = match value.as_text() {
        Some(_) => vec![value.clone()],
        None => value.filled_list("name at least one user")?,
    };
    let mut users = BTreeSet::new();
    let mut whole = true;
    for item in items {
        match item.text() {
            Some(name) if name.contains('*') => {
                whole = false;
                item.error(
                    &format!("{} has a `*`, and users are not patterns", quoted(name)),
                    "name every user",
                );
            }
            Some(name) if !users.insert(name.to_owned()) => {
                item.warn("this user stands twice", "remove one");
            }
            Some(_) => {}
            None => whole = false,
        }
    }
    whole.then_some(users)
}

fn token(value: &Value<'_>, ways: Option<&Ways>) -> Option<TokenRule> {
    const MEND: &str = "say who: without an identity or a claim, everybody who has a login at the \
                        issuer could pull";
    let fields = value.fields(&schema::PULLER_OIDC)?;
    let issuer = fields.required(
        "issuer",
        "say whose tokens: `issuer: github-actions`, or another short name or URL",
    );
    let issuer = issuer.and_then(|value| issuer_of(&value, ways));
    let is_given = |key: &&&'static str| fields.at(key).is_some();
    let identity = if signers::IDENTITIES.iter().any(|key| is_given(&key)) {
        let given = fields.exactly_one(signers::IDENTITIES, MEND);
        given
            .and_then(|(key, value)| signers::identity_rule(key, &value))
            .map(Some)
    } else {
        Some(None)
    };
    let exact = claims(&fields, "claims");
    let globs = claims(&fields, "claims_glob");
    let (identity, mut claims) = (identity?, exact?);
    claims.extend(globs?);
    if identity.is_none() && claims.is_empty() {
        value.error("it is not said who may pull", MEND);
        return None;
    }
    Some(TokenRule {
        issuer: issuer?,
        identity,
        claims,
    })
}

fn issuer_of(value: &Value<'_>, ways: Option<&Ways>) -> Option<String> {
    let url = signers::issuer_url(value)?;
    let known = ways.map(|ways| ways.issuers.as_slice()).unwrap_or_default();
    if ways.is_some() && !known.contains(&url) {
        let names = || known.iter().map(String::as_str);
        let mend = match known.len() {
            0 => "add it under `oidc` of `callers`".to_owned(),
            _ => format!(
                "add it under `oidc` of `callers`, or write {}",
                listed(names(), "or")
            ),
        };
        value.error(&format!("no caller has a token of {}", quoted(&url)), &mend);
        return None;
    }
    Some(url)
}

/// The claims under `key`, each with the names that lead to it.
fn claims(fields: &Fields<'_>, key: &'static str) -> Option<Vec<ClaimRule>> {
    let Some(value) = fields.at(key) else {
        return Some(Vec::new());
    };
    let mut rules = Vec::new();
    let whole = claims_within(&value, &[], key == "claims_glob", &mut rules);
    if whole && rules.is_empty() {
        value.error("there is no claim", "name one, or remove the line");
        return None;
    }
    whole.then_some(rules)
}

fn claims_within(
    value: &Value<'_>,
    path: &[String],
    is_glob: bool,
    rules: &mut Vec<ClaimRule>,
) -> bool {
    if path.len() >= CLAIM_DEPTH_MAX {
        value.error("claims do not lie so deep", "write fewer mappings");
        return false;
    }
    let Some(entries) = value.entries() else {
        return false;
    };
    let mut whole = true;
    for (name, value) in entries {
        let mut path = path.to_vec();
        path.push(name.to_owned());
        if value.is_map() {
            whole &= claims_within(&value, &path, is_glob, rules);
            continue;
        }
        match claim_value(&value, is_glob) {
            Some(value) => rules.push(ClaimRule { path, value }),
            None => whole = false,
        }
    }
    whole
}

fn claim_value(value: &Value<'_>, is_glob: bool) -> Option<IdentityRule> {
    let text = value.text()?;
    if is_glob {
        return value.parsed(IdentityRule::glob, "correct the pattern");
    }
    if text.contains('*') {
        value.warn(
            "`claims` are compared literally, so the `*` only matches a `*`",
            "write it under `claims_glob` if it is a pattern",
        );
    }
    value.parsed(IdentityRule::exact, "write the claim's value")
}

fn certificate(value: &Value<'_>) -> Option<DnsRule> {
    let fields = value.fields(&schema::PULLER_CERTIFICATE)?;
    let (key, value) = fields.exactly_one(
        &["dns", "dns_glob"],
        "write { dns: node1.acme.test }, or { dns_glob: \"*.nodes.acme.test\" }",
    )?;
    dns_rule(key, &value)
}

/// A domain name, or with the key `dns_glob` a pattern over them.
pub(super) fn dns_rule(key: &str, value: &Value<'_>) -> Option<DnsRule> {
    let text = value.text()?;
    if text.contains(['/', ' ', '@']) {
        value.error(
            &format!("{} is no DNS name", quoted(text)),
            "write a DNS name, as it stands in the certificate (subject alternative name)",
        );
        return None;
    }
    if key == "dns_glob" {
        return value.parsed(DnsRule::glob, "correct the pattern");
    }
    if text.contains('*') {
        value.warn(
            "`dns` is compared literally, so the `*` only matches a `*`",
            "write `dns_glob` if it is a pattern",
        );
    }
    Some(DnsRule::exact(text))
}

/// Lowers `pulled_by`.
pub(super) fn pulled_by(
    value: &Value<'_>,
    pullers: &Pullers,
    ways: Option<&Ways>,
) -> Option<PulledBy> {
    if ways.is_none() {
        value.error(
            "nobody is asked who pulls: there is no `callers`",
            NO_CALLERS,
        );
        return None;
    }
    if value.as_text().is_some() {
        let any = vec![puller(value, pullers)?];
        return Some(PulledBy { any });
    }
    if value.is_list() {
        value.error("a list alone does not say that any one of them may", FORMS);
        return None;
    }
    for form in ["all", "at_least", "of"] {
        if let Some((_, value)) = value.peek(form) {
            value.error(
                &format!("one pull has one puller, so `{form}` means nothing here"),
                FORMS,
            );
            return None;
        }
    }
    let fields = value.fields(&schema::PULLED_BY)?;
    let list = fields.required("any", FORMS)?;
    let items = list.filled_list("name at least one puller; to let nobody pull, use `deny`")?;
    let mut names: Vec<&str> = Vec::new();
    let mut any = Vec::new();
    for item in &items {
        let Some(name) = item.text() else { continue };
        if names.contains(&name) {
            item.error(
                &format!("{} is named twice", quoted(name)),
                "name each puller once",
            );
            continue;
        }
        names.push(name);
        any.extend(puller(item, pullers));
    }
    (any.len() == items.len()).then_some(PulledBy { any })
}

fn puller(value: &Value<'_>, pullers: &Pullers) -> Option<Arc<PullerRule>> {
    let name = value.text()?;
    if let Some(rule) = pullers.get(name) {
        return rule.clone();
    }
    let mut known: Vec<&str> = pullers.keys().map(String::as_str).collect();
    known.sort_unstable();
    let mend = match (nearest(name, known.iter().copied()), known.len()) {
        (Some(name), _) => format!("did you mean `{name}`?"),
        (None, 1..=10) => format!(
            "the pullers are {}; or add it under `pullers`",
            listed(known, "and")
        ),
        _ => "add it under `pullers`, in any policy file".to_owned(),
    };
    value.error(&format!("there is no puller {}", quoted(name)), &mend);
    None
}
