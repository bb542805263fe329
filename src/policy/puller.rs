//! Pullers, as policy names them: who may pull what a policy is for.
//!
//! Whether somebody may pull is a question of its own beside who signed: it needs no facts
//! about the image, so it is answered before anything is asked of anybody.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde_json::Value;

use crate::policy::Caller;
use crate::policy::Glob;
use crate::policy::GlobError;
use crate::policy::IdentityRule;
use crate::policy::Judgement;
use crate::policy::Policy;
use crate::policy::PolicyOutcome;
use crate::policy::Reason;
use crate::policy::Shortfall;
use crate::policy::TokenIdentity;

/// How many pullers, users and names of one caller a message tells of.
const TOLD_MAX: usize = 5;

/// A named puller of a policy file.
#[derive(Debug, Clone, PartialEq)]
pub struct PullerRule {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Whom it means.
    pub kind: PullerKind,
}

/// Whom a puller rule means.
#[derive(Debug, Clone, PartialEq)]
pub enum PullerKind {
    /// Users of the htpasswd file, by name.
    Users(BTreeSet<String>),
    /// The bearer of an issuer's token.
    Token(TokenRule),
    /// The holder of a client certificate with such a DNS name.
    Certificate(DnsRule),
}

/// A login that may pull. Who may is said by the identity, by claims, or by both.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRule {
    /// The issuer's URL; compared as a whole.
    pub issuer: String,
    /// What the token's `sub` has to be.
    pub identity: Option<IdentityRule>,
    /// Claims that have to be there with such a value.
    pub claims: Vec<ClaimRule>,
}

/// One claim that has to have such a value. In a claim that is a list, one member has to.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRule {
    /// Its name, and for one within others the names that lead to it.
    pub path: Vec<String>,
    /// The value.
    pub value: IdentityRule,
}

/// A DNS name, or a glob over DNS names: `*` stays within one label, `**` crosses dots.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsRule {
    text: String,
    glob: Option<Glob>,
}

impl DnsRule {
    /// One name. Upper and lower case are the same.
    #[must_use]
    pub fn exact(name: &str) -> Self {
        Self {
            text: name.to_ascii_lowercase(),
            glob: None,
        }
    }

    /// A glob over names.
    ///
    /// # Errors
    /// [`GlobError`] when it is none.
    pub fn glob(text: &str) -> Result<Self, GlobError> {
        let text = text.to_ascii_lowercase();
        // Globs divide at slashes, of which DNS names have none.
        let glob = Glob::new(&text.replace('.', "/"))?;
        let glob = Some(glob);
        Ok(Self { text, glob })
    }

    /// The name or glob as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is one name.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.glob.is_none()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match &self.glob {
            None => name == self.text,
            // A slash would be read as the dot that it is not.
            Some(glob) => !name.contains('/') && glob.matches(&name.replace('.', "/")),
        }
    }
}

impl fmt::Display for DnsRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.glob {
            None => f.write_str(&self.text),
            Some(_) => write!(f, "{} (glob)", self.text),
        }
    }
}

/// Who may pull: any one of these. Nobody, where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PulledBy {
    /// The pullers.
    pub any: Vec<Arc<PullerRule>>,
}

/// What the policies that ask who pulls make of a caller; `None` where all of them let it pull,
/// or none asks. Only the policies that ask have an outcome.
#[must_use]
pub fn judge_caller(policies: &[Arc<Policy>], caller: &Caller) -> Option<Judgement> {
    let asks = || {
        policies.iter().filter_map(|policy| {
            let pulled_by = policy.pulled_by.as_ref()?;
            Some((policy, pulled_by))
        })
    };
    if asks().all(|(_, pulled_by)| pulled_by.allows(caller)) {
        return None;
    }
    let outcomes = asks().map(|(policy, pulled_by)| PolicyOutcome {
        policy: Arc::clone(&policy.name),
        mode: policy.mode,
        shortfall: (!pulled_by.allows(caller)).then(|| pulled_by.shortfall(caller)),
        signed_at: None,
        is_about_tag: false,
    });
    let mut judgement = Judgement {
        reason: Reason::Admitted,
        policies: outcomes.collect(),
        holds_until: None,
    };
    if judgement.refusal().is_some() {
        judgement.reason = Reason::WrongPuller;
    }
    Some(judgement)
}

impl PulledBy {
    fn allows(&self, caller: &Caller) -> bool {
        self.any.iter().any(|rule| rule.compare(caller).is_ok())
    }

    fn shortfall(&self, caller: &Caller) -> Shortfall {
        let remedy = match caller {
            Caller::Anonymous => "log in as one who may pull this",
            _ => {
                "log in as one who may pull this, or add this caller to the policy's `pulled_by` \
                 if it is one of yours"
            }
        };
        Shortfall {
            reason: Reason::WrongPuller,
            found: self.found(caller),
            expected: self.expected(),
            remedy: remedy.to_owned(),
        }
    }

    fn found(&self, caller: &Caller) -> String {
        let nearest = self
            .any
            .iter()
            .filter_map(|rule| Some((rule.compare(caller).err()?, rule)))
            .max_by(|one, two| one.0.cmp(&two.0));
        let but = match nearest {
            Some((Miss::Claim(claim, found), rule)) => format!(
                ": it fits {} but for the claim {claim}, which is {}",
                rule.name,
                found.as_deref().unwrap_or("absent"),
            ),
            Some((Miss::Issuer, rule)) => {
                format!(": the identity fits {}, the issuer does not", rule.name)
            }
            _ => String::new(),
        };
        match caller {
            Caller::Anonymous => "a pull without credentials".to_owned(),
            caller => format!("a pull by {caller}{but}"),
        }
    }

    fn expected(&self) -> String {
        let told = told(self.any.iter().map(|rule| rule.describe()), "; ");
        match self.any.len() {
            0 => "a pull by nobody".to_owned(),
            1 => format!("a pull by {told}"),
            _ => format!("a pull by one of: {told}"),
        }
    }
}

/// How near a caller came to a rule, for the explanation; a higher value is nearer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    /// Another kind of caller, another name, or another issuer and identity.
    Stranger,
    /// The right issuer, another identity.
    Identity,
    /// The right identity from another issuer.
    Issuer,
    /// Everything but one claim.
    Claim(String, Option<String>),
}

impl PullerRule {
    fn compare(&self, caller: &Caller) -> Result<(), Miss> {
        let fits = match (&self.kind, caller) {
            (PullerKind::Users(users), Caller::User(name)) => users.contains(&**name),
            (PullerKind::Token(rule), Caller::Token(token)) => return rule.compare(token),
            (PullerKind::Certificate(rule), Caller::Certificate(certificate)) => {
                let mut names = certificate.dns_names.iter();
                names.any(|name| rule.matches(name))
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(Miss::Stranger) }
    }

    /// The rule in words, for people.
    fn describe(&self) -> String {
        let Self { name, kind } = self;
        match kind {
            PullerKind::Users(users) => {
                let word = if users.len() == 1 { "user" } else { "users" };
                format!("{name} ({word} {})", told(users.iter().cloned(), ", "))
            }
            PullerKind::Certificate(rule) => format!("{name} (a certificate for {rule})"),
            PullerKind::Token(rule) => {
                let identity = rule.identity.iter().map(|rule| format!("{rule}, "));
                let identity: String = identity.collect();
                let claims = rule.claims.iter();
                let claims = claims.map(|claim| format!(", {} = {}", claim.name(), claim.value));
                let claims: String = claims.collect();
                format!("{name} ({identity}issuer {}{claims})", rule.issuer)
            }
        }
    }
}

impl TokenRule {
    fn compare(&self, token: &TokenIdentity) -> Result<(), Miss> {
        let issuer_fits = self.issuer == token.issuer;
        let identity = self.identity.as_ref();
        let subject_fits = identity.map(|rule| rule.matches(&token.subject));
        match (issuer_fits, subject_fits) {
            (true, None | Some(true)) => {}
            (true, Some(false)) => return Err(Miss::Identity),
            (false, Some(true)) => return Err(Miss::Issuer),
            (false, _) => return Err(Miss::Stranger),
        }
        // A rule that says nothing of who it is fits nobody.
        if identity.is_none() && self.claims.is_empty() {
            return Err(Miss::Stranger);
        }
        for claim in &self.claims {
            let found = claim.find(token);
            if !found.is_some_and(|found| claim.is_met_by(found)) {
                return Err(Miss::Claim(claim.name(), found.map(brief)));
            }
        }
        Ok(())
    }
}

impl ClaimRule {
    fn name(&self) -> String {
        self.path.join("/")
    }

    fn find<'a>(&self, token: &'a TokenIdentity) -> Option<&'a Value> {
        let (first, rest) = self.path.split_first()?;
        let mut value = token.claims.get(first)?;
        for name in rest {
            value = value.as_object()?.get(name)?;
        }
        Some(value)
    }

    fn is_met_by(&self, found: &Value) -> bool {
        match found {
            Value::String(text) => self.value.matches(text),
            // As people write them: `email_verified: true`.
            Value::Bool(_) | Value::Number(_) => self.value.matches(&found.to_string()),
            // Lists do not lie in one another in any token that we know of.
            Value::Array(members) => members
                .iter()
                .any(|member| !member.is_array() && self.is_met_by(member)),
            Value::Null | Value::Object(_) => false,
        }
    }
}

/// A claim's value within a message: on one line and short.
fn brief(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 100;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    crate::policy::caller::short(&text, CHARACTERS_MAX)
}

/// So many of the texts that a message stays readable.
fn told(texts: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let more = texts.len().saturating_sub(TOLD_MAX);
    let mut text = texts.take(TOLD_MAX).collect::<Vec<_>>().join(between);
    if more > 0 {
        text.push_str(&format!("{between}and {more} more"));
    }
    text
}

#[cfg(test)]
#[path = "puller_tests.rs"]
mod tests;
