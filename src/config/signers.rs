//! The signers of policy files, lowered.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Checks;
use crate::config::ca;
use crate::config::demands;
use crate::config::gpg;
use crate::config::key;
use crate::config::logs;
use crate::config::pem;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::roots::RootNames;
use crate::config::schema;
use crate::config::signed_identity;
use crate::config::suggest::nearest;
use crate::config::upstreams::is_loopback;
use crate::config::workflow;
use crate::policy::Claim;
use crate::policy::IdentityRule;
use crate::policy::Keyless;
use crate::policy::PatternError;
use crate::policy::SignedIdentity;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::verify::CLAIMS;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// The issuers that Sigstore's public instance knows and that have one fixed URL, by the
/// names that people use.
pub(super) const ISSUERS: &[(&str, &str)] = &[
    (
        "github-actions",
        "https://token.actions.githubusercontent.com",
    ),
    ("gitlab", "https://gitlab.com"),
    ("google", "https://accounts.google.com"),
    ("github", "https://github.com/login/oauth"),
    ("microsoft", "https://login.microsoftonline.com"),
    ("buildkite", "https://agent.buildkite.com"),
    ("codefresh", "https://oidc.codefresh.io"),
    ("chainguard", "https://issuer.enforce.dev"),
];

pub(super) const IDENTITIES: &[&str] = &["identity", "identity_glob", "identity_regex"];

/// What signers are read with.
pub(super) struct Context<'a> {
    /// The trust roots there are.
    pub(super) roots: &'a RootNames,
    /// What the verifier says of keys.
    pub(super) checks: &'a Checks,
    /// The time, for keys that have expired.
    pub(super) now: Timestamp,
}

/// Lowers the signer `name`.
pub(super) fn lower(name: &str, value: &Value<'_>, context: &Context<'_>) -> Option<SignerRule> {
    const MEND: &str =
        "write `keyless:` with an issuer and an identity, or `key:`, `ca:` or `gpg:` with a file";
    let fields = value.fields(&schema::SIGNER)?;
    if name.trim().is_empty() {
        value.error("a signer has no name", "give it one");
        return None;
    }
    let (form, given) = fields.exactly_one(&["keyless", "key", "ca", "gpg"], MEND)?;
    let signed_identity = match fields.at("signed_identity") {
        Some(value) => signed_identity::lower(&value).map(Some),
        // A GPG signature names its image, and who makes one means it.
        None if form == "gpg" => Some(Some(SignedIdentity::MatchRepoDigestOrExact)),
        None => Some(None),
    };
    let kind = match form {
        "keyless" => keyless(&given, &fields, context).map(SignerKind::Keyless),
        "gpg" => gpg::lower(&given, &fields, context),
        "ca" => ca::lower(&given, &fields, context),
        _ => key::lower(&given, &fields, context),
    };
    Some(SignerRule {
        name: name.into(),
        kind: kind?,
        signed_identity: signed_identity?,
    })
}

/// The trust root that the signer names: beside `keyless`, `key` or `ca`, or within it.
pub(super) fn root(
    outer: &Fields<'_>,
    inner: &Fields<'_>,
    context: &Context<'_>,
) -> Option<RootName> {
    match (outer.at("trust_root"), inner.at("trust_root")) {
        (None, None) => Some(context.roots.default_root()),
        (Some(value), None) => named_root(&value, context),
        (None, Some(value)) => context.roots.find(&value),
        (Some(_), Some(value)) => {
            value.error(
                "the signer's trust root is given twice",
                "keep one of the two",
            );
            None
        }
    }
}

/// The trust root that a signer names beside its `key`, `ca` or `keyless`, or gives itself.
pub(super) fn named_root(value: &Value<'_>, context: &Context<'_>) -> Option<RootName> {
    match value.is_map() {
        true => logs::lower(value, context),
        false => context.roots.find(value),
    }
}

fn keyless(value: &Value<'_>, signer: &Fields<'_>, context: &Context<'_>) -> Option<Keyless> {
    let fields = value.fields(&schema::KEYLESS)?;
    let issuer = fields.exactly_one(
        &["issuer", "issuer_regex"],
        "say who vouches for the login: `issuer: github-actions`, or another short name or URL",
    );
    let issuer = issuer.and_then(|(key, value)| match key {
        "issuer" => IdentityRule::exact(&issuer_url(&value)?).ok(),
        _ => pattern(&value, IdentityRule::regex),
    });
    let identity = fields.exactly_one(
        IDENTITIES,
        "say who may sign: without an identity, everybody who has a login at the issuer could",
    );
    let identity = identity.and_then(|(key, value)| {
        let rule = identity_rule(key, &value)?;
        if let Some(issuer) = &issuer {
            workflow::warn_of_no_workflow(&value, issuer, &rule);
        }
        Some(rule)
    });
    let exact = fields.at("claims").map_or(Some(Vec::new()), |value| {
        claims(&value, IdentityRule::exact)
    });
    let globs = fields
        .at("claims_glob")
        .map_or(Some(Vec::new()), |value| claims(&value, IdentityRule::glob));
    if let Some(value) = signer.at("trust_root").filter(Value::is_map) {
        value.error(
            "logs alone certify no login",
            "name a trust root of the configuration, which has the authority as well",
        );
        return None;
    }
    let root = root(signer, &fields, context);
    let least = root.as_ref().map(|root| context.roots.demands(root));
    let demands = demands::lower(signer, least.unwrap_or_default());
    Some(Keyless {
        issuer: issuer?,
        identity: identity?,
        claims: [exact?, globs?].concat(),
        root: root?,
        demands: demands?,
    })
}

/// The URL of an issuer that people know by a short name; any other text as it is.
#[must_use]
pub fn named_issuer(text: &str) -> &str {
    let known = ISSUERS.iter().find(|(name, _)| *name == text);
    known.map_or(text, |(_, url)| url)
}

/// Whether a text is the URL of an issuer, and no short name.
pub(super) fn is_issuer_url(text: &str) -> bool {
    let plain = text.starts_with("http://") && is_loopback(text);
    let url = plain || text.starts_with("https://");
    url && !text.contains(char::is_whitespace) && text.parse::<http::Uri>().is_ok()
}

/// The URL of an issuer, by its short name or as it is.
pub(super) fn issuer_url(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if let Some((_, url)) = ISSUERS.iter().find(|(name, _)| *name == text) {
        return Some((*url).to_owned());
    }
    if !is_issuer_url(text) {
        let names = || ISSUERS.iter().map(|(name, _)| *name);
        let mend = match nearest(text, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("write an https:// URL, or {}", listed(names(), "or")),
        };
        value.error(&format!("{} is no issuer", quoted(text)), &mend);
        return None;
    }
    // Issuers are compared as a whole, and Fulcio writes these without a slash.
    let known = ISSUERS
        .iter()
        .find(|(_, url)| *url == text.trim_end_matches('/'));
    if let Some((name, _)) = known.filter(|(_, url)| *url != text) {
        value.warn(
            "this issuer's URL has no slash at its end, so nothing will match",
            &format!("write `{name}`"),
        );
    } else {
        workflow::warn_of_slip(value, text);
    }
    Some(text.to_owned())
}

// THREATS I1 (CVE-2025-29778): an identity that says nothing is a load error.
pub(super) fn identity_rule(key: &str, value: &Value<'_>) -> Option<IdentityRule> {
    let parse = match key {
        "identity" => IdentityRule::exact,
        "identity_glob" => IdentityRule::glob,
        _ => IdentityRule::regex,
    };
    let rule = pattern(value, parse)?;
    warn_of_literal_star(value, &rule, "identity");
    if ["https://a.example/b@c", "d@e.example", "f/g:h"]
        .iter()
        .all(|stranger| rule.matches(stranger))
    {
        value.warn(
            "this matches everybody who has a login at the issuer",
            "say whose signatures you mean",
        );
    }
    Some(rule)
}

pub(super) fn pattern(
    value: &Value<'_>,
    parse: fn(&str) -> Result<IdentityRule, PatternError>,
) -> Option<IdentityRule> {
    let text = value.text()?;
    match parse(text) {
        Ok(rule) => Some(rule),
        Err(error) => {
            value.error(
                &format!("{}: {}", quoted(text), first_line(&error)),
                "correct the pattern",
            );
            None
        }
    }
}

pub(super) fn warn_of_literal_star(value: &Value<'_>, rule: &IdentityRule, key: &str) {
    if matches!(rule, IdentityRule::Exact(text) if text.contains('*')) {
        value.warn(
            &format!("`{key}` is compared literally, so the `*` only matches a `*`"),
            &format!("write `{key}_glob` if it is a pattern"),
        );
    }
}

/// What is wrong with a pattern, on one line: the regex crate draws a picture.
pub(super) fn first_line(error: &PatternError) -> String {
    match error {
        PatternError::Regex(picture) => {
            let cause = picture.lines().rev().find(|line| !line.trim().is_empty());
            let cause = cause.unwrap_or("it does not compile").trim();
            format!(
                "not a regular expression: {}",
                cause.trim_start_matches("error: ")
            )
        }
        other => other.to_string(),
    }
}

pub(super) fn claims(
    value: &Value<'_>,
    parse: fn(&str) -> Result<IdentityRule, PatternError>,
) -> Option<Vec<Claim>> {
    let fields = value.fields(&schema::CLAIM)?;
    let mut whole = true;
    let mut claims = Vec::new();
    for &name in CLAIMS {
        let Some(value) = fields.at(name) else {
            continue;
        };
        match pattern(&value, parse) {
            Some(rule) => {
                warn_of_literal_star(&value, &rule, "claims");
                claims.push(Claim { name, value: rule });
            }
            None => whole = false,
        }
    }
    whole.then_some(claims)
}

/// A public key, from the file that `form` says or in PEM.
pub(super) fn public_key(form: &str, value: &Value<'_>, checks: &Checks) -> Option<PublicKey> {
    let (place, text) = pem_text(form, value)?;
    public_key_in(&text, &place, value, checks)
}

/// The public key in `text`, which stands at `place` and is named by `value`.
pub(super) fn public_key_in(
    text: &str,
    place: &str,
    value: &Value<'_>,
    checks: &Checks,
) -> Option<PublicKey> {
    let spki = match pem::public_key(text) {
        Ok(spki) => spki,
        Err(no_key) => {
            value.error(&format!("{place}{}", no_key.message), no_key.mend);
            return None;
        }
    };
    if let Err(why) = (checks.key)(&spki) {
        value.error(
            &format!("{place}this key cannot be verified with: {why}"),
            "give a key of a usual kind, like the one that `cosign generate-key-pair` makes",
        );
        return None;
    }
    Some(PublicKey::from_spki(&spki))
}

/// The text of a PEM, in the file that `form` says or as it stands, and where that is.
pub(super) fn pem_text(form: &str, value: &Value<'_>) -> Option<(String, String)> {
    if form != "file" {
        return Some((String::new(), value.text()?.to_owned()));
    }
    let (path, bytes) = value.file()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some((format!("{}: ", path.display()), text))
}

/// Whether two rules can only ever mean one and the same signer.
pub(super) fn same(one: &Arc<SignerRule>, two: &Arc<SignerRule>) -> bool {
    match (&one.kind, &two.kind) {
        (SignerKind::Key(one), SignerKind::Key(two)) => one.means_the_same(two),
        (SignerKind::CertifiedBy(one), SignerKind::CertifiedBy(two)) => one.means_the_same(two),
        (SignerKind::Gpg { keys: one }, SignerKind::Gpg { keys: two }) => match (&**one, &**two) {
            ([one], [two]) => one.fingerprint() == two.fingerprint(),
            _ => false,
        },
        (SignerKind::Keyless(one), SignerKind::Keyless(two)) => {
            one.issuer == two.issuer
                && matches!(one.issuer, IdentityRule::Exact(_))
                && matches!(one.identity, IdentityRule::Exact(_))
                && one.identity == two.identity
        }
        _ => false,
    }
}
