//! Signers whom a certificate authority of one's own certifies.

use std::fmt;

use crate::policy::Claim;
use crate::policy::DnsRule;
use crate::policy::IdentityRule;
use crate::policy::signer::Miss;
use crate::policy::signer::Part;
use crate::verify::Authority;
use crate::verify::Certified;
use crate::verify::Demands;
use crate::verify::Fact;
use crate::verify::Name;
use crate::verify::RootName;

/// Whom an authority of one's own has to have certified, and what has to vouch for the signature.
#[derive(Debug, Clone, PartialEq)]
pub struct CertifiedBy {
    /// The authorities; each of them will do.
    pub authorities: Vec<Authority>,
    /// What has to stand among the certificate's names, all of it. Nothing is met by nobody.
    pub subject: Vec<NameRule>,
    /// The OIDC issuer that the certificate has to name, where the authority is a Fulcio.
    pub issuer: Option<IdentityRule>,
    /// Fulcio extensions that must be there with such a value.
    pub claims: Vec<Claim>,
    /// The trust root whose logs and timestamp authorities prove when a signature was made.
    /// Without one, certificates have to be valid now.
    pub root: Option<RootName>,
    /// What has to vouch for a signature beside itself. There is no certificate transparency.
    pub demands: Demands,
}

/// A name that a certificate must have.
#[derive(Debug, Clone, PartialEq)]
pub enum NameRule {
    /// An e-mail address.
    Email(IdentityRule),
    /// A URI.
    Uri(IdentityRule),
    /// A domain name.
    Dns(DnsRule),
}

impl NameRule {
    fn is_met_by(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Email(rule), Name::Email(text)) | (Self::Uri(rule), Name::Uri(text)) => {
                rule.matches(text)
            }
            (Self::Dns(rule), Name::Dns(text)) => rule.matches(text),
            _ => false,
        }
    }

    fn is_exact(&self) -> bool {
        match self {
            Self::Email(rule) | Self::Uri(rule) => matches!(rule, IdentityRule::Exact(_)),
            Self::Dns(rule) => rule.is_exact(),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(rule) | Self::Uri(rule) => fmt::Display::fmt(rule, f),
            Self::Dns(rule) => fmt::Display::fmt(rule, f),
        }
    }
}

impl CertifiedBy {
    pub(super) fn compare(&self, certified: &Certified, fact: &Fact) -> Result<(), Miss> {
        let mut authorities = self.authorities.iter();
        let by_ours = authorities.any(|one| one.fingerprint() == certified.authority);
        match (by_ours, self.is_named(certified)) {
            (false, false) => return Err(Miss::Stranger),
            (true, false) => return Err(Miss::Identity(Part::Whole)),
            (false, true) => return Err(Miss::Issuer),
            (true, true) => {}
        }
        let issuer = certified.issuer.as_deref();
        if let Some(rule) = &self.issuer
            && !issuer.is_some_and(|issuer| rule.matches(issuer))
        {
            return Err(Miss::Issuer);
        }
        // What no trust root vouches for was valid when it was proven, and is forgotten when it
        // is not any more.
        if fact.root.is_some() && fact.root != self.root {
            return Err(Miss::Root);
        }
        if let Some(missing) = self.demands.missing(&fact.assurance) {
            return Err(Miss::Missing(missing));
        }
        Claim::all_met(&self.claims, &certified.claims)
    }

    fn is_named(&self, certified: &Certified) -> bool {
        let mut rules = self.subject.iter();
        let met = |rule: &NameRule| certified.names.iter().any(|name| rule.is_met_by(name));
        !self.subject.is_empty() && rules.all(met)
    }

    /// The rule in words, for people.
    pub(super) fn describe(&self, name: &str) -> String {
        let subject: Vec<String> = self.subject.iter().map(ToString::to_string).collect();
        let authorities = self.authorities.iter().map(Authority::subject);
        let authorities = authorities.collect::<Vec<_>>().join(" or ");
        let mut text = format!(
            "{name} ({}, certified by {authorities}",
            subject.join(" and ")
        );
        if let Some(issuer) = &self.issuer {
            text.push_str(&format!(", issuer {issuer}"));
        }
        for claim in &self.claims {
            text.push_str(&format!(", {} = {}", claim.name, claim.value));
        }
        if let Some(root) = &self.root {
            text.push_str(&format!(", trust root {root}"));
        }
        text.push(')');
        text
    }

    /// Whether the two can only ever mean one and the same signer.
    #[must_use]
    pub fn means_the_same(&self, other: &Self) -> bool {
        self.subject == other.subject && self.subject.iter().all(NameRule::is_exact)
    }
}
