//! Signers, as policy names them: who a proven signature must be by.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use regex::Regex;

use crate::oci::DockerReference;
use crate::policy::CertifiedBy;
use crate::policy::Glob;
use crate::policy::KeyHolder;
use crate::policy::SignedIdentity;
use crate::verify::Demands;
use crate::verify::Fact;
use crate::verify::GpgKey;
use crate::verify::HashAlgorithm;
use crate::verify::Identity;
use crate::verify::RootName;
use crate::verify::Signer;

/// A named signer of a policy file.
#[derive(Debug, Clone, PartialEq)]
pub struct SignerRule {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Whom it means.
    pub kind: SignerKind,
    /// The image that the signature must have been made for; `None` where that is not
    /// compared. Bundles name no image, so they never meet it.
    pub signed_identity: Option<SignedIdentity>,
}

/// Whom a signer rule means.
#[derive(Debug, Clone, PartialEq)]
pub enum SignerKind {
    /// A login, certified by Fulcio under a trust root.
    Keyless(Keyless),
    /// Somebody whom a certificate authority of one's own certifies.
    CertifiedBy(CertifiedBy),
    /// The holder of keys.
    Key(KeyHolder),
    /// The holder of any of these OpenPGP keys.
    Gpg {
        /// The keys, each with its subkeys; at least one.
        keys: Vec<GpgKey>,
    },
}

/// A login that may sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyless {
    /// The OIDC issuer's URL.
    pub issuer: IdentityRule,
    /// The certificate's subject alternative name.
    pub identity: IdentityRule,
    /// Fulcio extensions that must be there with such a value.
    pub claims: Vec<Claim>,
    /// The trust root under which certificate, log and time must be proven.
    pub root: RootName,
    /// What has to vouch for a signature beside itself.
    pub demands: Demands,
}

/// One Fulcio extension that must have such a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Its name in snake case, as in Fulcio's oid-info.md.
    pub name: &'static str,
    /// The value.
    pub value: IdentityRule,
}

/// How an identity is compared. Always as a whole.
#[derive(Debug, Clone)]
pub enum IdentityRule {
    /// Equal.
    Exact(String),
    /// A glob.
    Glob(Glob),
    /// A regular expression, anchored at both ends.
    Regex {
        /// As it was written.
        text: String,
        /// Anchored and compiled.
        regex: Regex,
    },
}

/// Why a text is not an identity pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An empty identity would say nothing about who signs (CVE-2025-29778).
    #[error("the identity is empty")]
    Empty,
    /// The regular expression does not compile.
    #[error("the regular expression does not compile: {0}")]
    Regex(String),
    /// The glob does not compile.
    #[error(transparent)]
    Glob(#[from] crate::policy::GlobError),
}

impl IdentityRule {
    /// Equality with `text`.
    ///
    /// # Errors
    /// [`PatternError::Empty`] when there is no text.
    pub fn exact(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        Ok(Self::Exact(text.to_owned()))
    }

    /// A glob.
    ///
    /// # Errors
    /// [`PatternError`] when the glob is empty or does not compile.
    pub fn glob(text: &str) -> Result<Self, PatternError> {
        Ok(Self::Glob(Glob::new(text)?))
    }

    /// A regular expression; it must match the whole identity, so `|` and a missing `$` widen
    /// nothing (CVE-2026-22772).
    ///
    /// # Errors
    /// [`PatternError`] when the expression is empty or does not compile on its own.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let fails = |error: regex::Error| PatternError::Regex(error.to_string());
        // On its own first: a text like `a)|(b` closes our group and opens another.
        Regex::new(text).map_err(fails)?;
        let regex = Regex::new(&format!(r"\A(?:{text})\z")).map_err(fails)?;
        Ok(Self::Regex {
            text: text.to_owned(),
            regex,
        })
    }

    /// A regular expression that may match any part of an identity, as other engines have them.
    ///
    /// # Errors
    /// [`PatternError::Empty`] and [`PatternError::Regex`].
    pub fn regex_anywhere(text: &str) -> Result<Self, PatternError> {
        // On its own first: see `IdentityRule::regex`.
        Self::regex(text)?;
        let (before, after) = ANYWHERE;
        Self::regex(&format!("{before}{text}{after}"))
    }

    /// The one part in which `identity`, which does not match, differs.
    fn difference(&self, identity: &str) -> Part {
        let expected = match self {
            Self::Exact(text) => text,
            Self::Glob(glob) => glob.as_str(),
            Self::Regex { .. } => return Part::Whole,
        };
        let (Some(expected), Some(found)) = (parts(expected), parts(identity)) else {
            return Part::Whole;
        };
        let fits = |expected: &str, found: &str| match self {
            Self::Glob(_) => Glob::new(expected).is_ok_and(|glob| glob.matches(found)),
            _ => expected == found,
        };
        let mut differ = expected
            .iter()
            .zip(&found)
            .filter(|((_, expected), (_, found))| !fits(expected, found));
        match (expected.len() == found.len(), differ.next(), differ.next()) {
            (true, Some(((part, _), _)), None) => *part,
            _ => Part::Whole,
        }
    }

    /// True when the whole of `identity` matches.
    #[must_use]
    pub fn matches(&self, identity: &str) -> bool {
        match self {
            Self::Exact(text) => text == identity,
            Self::Glob(glob) => glob.matches(identity),
            Self::Regex { regex, .. } => regex.is_match(identity),
        }
    }
}

impl PartialEq for IdentityRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(two)) => one == two,
            (Self::Glob(one), Self::Glob(two)) => one == two,
            (Self::Regex { text: one, .. }, Self::Regex { text: two, .. }) => one == two,
            _ => false,
        }
    }
}

/// What stands around a regular expression that may match anywhere.
const ANYWHERE: (&str, &str) = ("(?s:.*)(?:", ")(?s:.*)");

impl fmt::Display for IdentityRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Glob(glob) => write!(f, "{} (glob)", glob.as_str()),
            Self::Regex { text, .. } => {
                let (before, after) = ANYWHERE;
                let inner = text.strip_prefix(before);
                match inner.and_then(|text| text.strip_suffix(after)) {
                    Some(inner) => write!(f, "{inner} (regular expression, anywhere)"),
                    None => write!(f, "{text} (regular expression)"),
                }
            }
        }
    }
}

/// How many keys of one keyring a message names.
const KEYS_TOLD: usize = 3;

/// How near a fact came to a rule, for the explanation; a higher value is nearer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    /// Another kind of signer, issuer and identity.
    Stranger,
    /// The right key, but no proof that a log holds the signature.
    NotLogged,
    /// The right key, but outside of its window; with the time that is proven.
    Window(Option<Timestamp>),
    /// The right identity or key, for whose signature this does not vouch.
    Missing(&'static str),
    /// The right key, but over another hash.
    Hash(HashAlgorithm),
    /// The right issuer, another identity, which differs in this.
    Identity(Part),
    /// The right identity, proven under another trust root.
    Root,
    /// The right identity from another issuer.
    Issuer,
    /// Everything but one claim.
    Claim(&'static str, Option<String>),
    /// The right signer, but for another image, or in a format that names none.
    Image(Option<String>),
}

/// The part of an identity in which it differs from what was expected; a higher value is
/// nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// In more than one, or in none that people have a name for.
    Whole,
    /// The domain of an e-mail address.
    Domain,
    /// The user of an e-mail address.
    User,
    /// The repository that a workflow is of.
    Repository,
    /// The file of the workflow.
    Workflow,
    /// The ref that the workflow ran for.
    Ref,
}

impl Part {
    /// The part in words, where people have one.
    pub(super) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Domain => Some("the domain"),
            Self::User => Some("the user"),
            Self::Repository => Some("the repository"),
            Self::Workflow => Some("the workflow"),
            Self::Ref => Some("the ref"),
        }
    }
}

/// An identity taken apart: for a workflow its repository, file and ref, for an e-mail address
/// user and domain.
fn parts(identity: &str) -> Option<Vec<(Part, &str)>> {
    let (path, last) = identity.rsplit_once('@')?;
    if !identity.contains("://") {
        return Some(vec![(Part::User, path), (Part::Domain, last)]);
    }
    // GitHub and GitLab: `REPOSITORY/.github/workflows/FILE`, `REPOSITORY//FILE`.
    let at = path
        .find("/.github/workflows/")
        .or_else(|| path.rfind("//").filter(|at| !path[..*at].ends_with(':')))?;
    Some(vec![
        (Part::Repository, &path[..at]),
        (Part::Workflow, &path[at..]),
        (Part::Ref, last),
    ])
}

/// What is asked for, and when: what facts are held against beside the rules themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull<'a> {
    /// The image, with which signatures that name one are compared.
    pub(super) asked: Option<&'a DockerReference>,
    /// Now.
    pub(super) now: Timestamp,
}

impl SignerRule {
    /// The next moment after `now` at which the same facts may be its or may not.
    pub(super) fn changes_after(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            SignerKind::Key(holder) => {
                let keys = holder.keys.iter();
                keys.filter_map(|key| key.changes_after(now)).min()
            }
            _ => None,
        }
    }

    /// Whether the fact is a signature by this signer for what was asked for, and how it misses
    /// otherwise.
    pub(super) fn compare(&self, fact: &Fact, pull: Pull<'_>) -> Result<(), Miss> {
        self.compare_signer(fact, pull.now)?;
        let Some(rule) = &self.signed_identity else {
            return Ok(());
        };
        let signed = fact.docker_reference.as_deref();
        match (signed, pull.asked) {
            (Some(signed), Some(asked)) if rule.accepts(signed, asked) => Ok(()),
            _ => Err(Miss::Image(signed.map(str::to_owned))),
        }
    }

    fn compare_signer(&self, fact: &Fact, now: Timestamp) -> Result<(), Miss> {
        match (&self.kind, &fact.signer) {
            (SignerKind::Key(holder), Signer::Key { fingerprint }) => {
                holder.compare(fingerprint, fact, now)
            }
            (SignerKind::Keyless(rule), Signer::Identity(identity)) => rule.compare(identity, fact),
            (SignerKind::CertifiedBy(rule), Signer::Certified(certified)) => {
                rule.compare(certified, fact)
            }
            (SignerKind::Gpg { keys }, Signer::Gpg { fingerprint, .. }) => {
                let named = keys.iter().any(|key| key.fingerprint() == &**fingerprint);
                named.then_some(()).ok_or(Miss::Stranger)
            }
            _ => Err(Miss::Stranger),
        }
    }

    /// The rule in words, for people.
    pub(super) fn describe(&self) -> String {
        let mut text = self.describe_signer();
        if let Some(rule) = &self.signed_identity {
            text.push_str(&format!(", {rule}"));
        }
        text
    }

    fn describe_signer(&self) -> String {
        match &self.kind {
            SignerKind::CertifiedBy(rule) => rule.describe(&self.name),
            SignerKind::Gpg { keys } => {
                let told = keys.iter().take(KEYS_TOLD).map(GpgKey::fingerprint);
                let told = told.collect::<Vec<_>>().join(" or ");
                let more = match keys.len().saturating_sub(KEYS_TOLD) {
                    0 => String::new(),
                    more => format!(" or {more} more"),
                };
                format!("{} (the OpenPGP key {told}{more})", self.name)
            }
            SignerKind::Key(holder) => holder.describe(&self.name),
            SignerKind::Keyless(rule) => {
                let mut text = format!("{} ({}, issuer {}", self.name, rule.identity, rule.issuer);
                for claim in &rule.claims {
                    text.push_str(&format!(", {} = {}", claim.name, claim.value));
                }
                text.push_str(&format!(", trust root {})", rule.root));
                text
            }
        }
    }
}

impl Keyless {
    fn compare(&self, identity: &Identity, fact: &Fact) -> Result<(), Miss> {
        let issuer_fits = self.issuer.matches(&identity.issuer);
        let subject_fits = self.identity.matches(&identity.subject);
        match (issuer_fits, subject_fits) {
            (false, false) => return Err(Miss::Stranger),
            (true, false) => {
                let part = self.identity.difference(&identity.subject);
                return Err(Miss::Identity(part));
            }
            (false, true) => return Err(Miss::Issuer),
            (true, true) => {}
        }
        if fact.root.as_ref() != Some(&self.root) {
            return Err(Miss::Root);
        }
        if let Some(missing) = self.demands.missing(&fact.assurance) {
            return Err(Miss::Missing(missing));
        }
        Claim::all_met(&self.claims, &identity.claims)
    }
}

impl Claim {
    /// Whether each of the claims is there with such a value, and which is the first that is not.
    pub(super) fn all_met(
        claims: &[Self],
        found: &BTreeMap<&'static str, String>,
    ) -> Result<(), Miss> {
        for claim in claims {
            let found = found.get(claim.name);
            if !found.is_some_and(|found| claim.value.matches(found)) {
                return Err(Miss::Claim(claim.name, found.cloned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // THREATS I2 (CVE-2026-22772): a pattern never matches more than it says.
    #[test]
    fn regular_expressions_are_anchored() {
        let rule = IdentityRule::regex("https://github.com/acme/.*|x").expect("compiles");
        assert!(rule.matches("https://github.com/acme/app"));
        assert!(!rule.matches("evil https://github.com/acme/app"));
        assert!(!rule.matches("xy"));
        assert!(!rule.matches("https://github.com/acme/app\nmore"));
        assert!(IdentityRule::regex("a)|(b").is_err());
        assert!(
            IdentityRule::regex("(?i)ALICE@acme[.]test")
                .expect("compiles")
                .matches("alice@acme.test")
        );
        let commented = IdentityRule::regex("(?x)alice # ");
        assert!(commented.is_err() || !commented.expect("compiles").matches("alice and more"));
    }

    #[test]
    fn the_part_that_differs_has_a_name() {
        let workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1";
        for (expected, part) in [
            (
                "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v2",
                Part::Ref,
            ),
            (
                "https://github.com/acme/app/.github/workflows/other.yml@refs/tags/*",
                Part::Workflow,
            ),
            (
                "https://github.com/acme/*/.github/workflows/x.yml@refs/tags/*",
                Part::Workflow,
            ),
            (
                "https://github.com/evil/*/.github/workflows/*@refs/tags/*",
                Part::Repository,
            ),
            (
                "https://github.com/evil/*/.github/workflows/*@refs/heads/*",
                Part::Whole,
            ),
            (
                "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1",
                Part::Whole,
            ),
            ("alice@acme.test", Part::Whole),
        ] {
            let rule = IdentityRule::glob(expected).expect("a glob");
            assert_eq!(rule.difference(workflow), part, "{expected}");
        }
        let alice = IdentityRule::exact("alice@acme.test").expect("an identity");
        assert_eq!(alice.difference("bob@acme.test"), Part::User);
        assert_eq!(alice.difference("alice@evil.test"), Part::Domain);
        let pipeline = IdentityRule::exact("https://gitlab.com/a/b//ci.yml@refs/tags/v1");
        let pipeline = pipeline.expect("an identity");
        assert_eq!(
            pipeline.difference("https://gitlab.com/a/b//ci.yml@refs/heads/x"),
            Part::Ref
        );
    }

    // THREATS I1 (CVE-2025-29778): an empty identity is no identity.
    #[test]
    fn empty_identities_are_errors() {
        assert_eq!(IdentityRule::exact(""), Err(PatternError::Empty));
        assert_eq!(IdentityRule::regex(""), Err(PatternError::Empty));
        assert!(IdentityRule::glob("").is_err());
    }
}
