//! Refusals: "no" and "don't know", never merged; and the words for people.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::audit::Decided;
use crate::evidence::Failure;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::policy::Judgement;
use crate::policy::Mode;
use crate::policy::Reason;
use crate::policy::Shortfall;
use crate::upstream::Stage;
use crate::upstream::UpstreamError;
use crate::verify::Facts;

/// Why the gate stays shut.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// No: policy does not vouch for it. Asking again changes nothing until somebody does.
    /// With what is proven about it, where evidence was gathered.
    Denied(Arc<Denied>, Arc<Facts>),
    /// Don't know: something that has to be asked does not answer. Fails closed as well.
    Unavailable(Arc<Unavailable>),
    /// The upstream does not have it.
    NotFound(Missing),
    /// The registry, which is asked with the credentials of whoever pulls, wants others.
    LoginNeeded(RegistryHost),
}

/// What the upstream does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A manifest, or its repository.
    Manifest,
    /// A blob.
    Blob,
    /// A list of tags, and so a repository.
    Repository,
}

/// A "no" with its reasons. It is recorded, and the record outlives the pull, so it holds no
/// manifest and no facts.
#[derive(Debug)]
pub struct Denied {
    /// What was asked for.
    pub asked: Asked,
    /// The manifest that was refused, where one was read.
    pub refused: Option<Refused>,
    /// The reason's word and what people are told.
    pub shortfall: Shortfall,
    /// The policy that refuses, where one does.
    pub policy: Option<Arc<str>>,
    /// Everything that the policies said, where they were asked.
    pub judgement: Option<Judgement>,
}

/// The outside of a manifest that was refused: enough to answer HEAD, and no bytes.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: &'static str,
    /// Its length in bytes.
    pub length: usize,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A manifest.
    Manifest(ImageName, Reference),
    /// A blob.
    Blob(ImageName, Digest),
    /// A list of tags or referrers.
    Lists(ImageName),
    /// Whether the registry knows whoever asks.
    Registry(RegistryHost),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(image, reference) => f.write_str(&image.with(reference)),
            Self::Blob(image, digest) => write!(f, "blob {digest} of {image}"),
            Self::Lists(image) => image.fmt(f),
            Self::Registry(host) => host.fmt(f),
        }
    }
}

/// A "don't know" with its cause.
#[derive(Debug)]
pub struct Unavailable {
    /// What was asked for.
    pub asked: Asked,
    /// The digest, where it was resolved.
    pub digest: Option<Digest>,
    /// The cause's word.
    pub doubt: Doubt,
    /// The cause for people.
    pub cause: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// When to ask again.
    pub retry_after: Duration,
}

/// Why nobody can tell. The same words stand in messages, JSON, metrics and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The registry cannot be reached, or is in trouble itself.
    UpstreamUnreachable,
    /// The registry limits our rate.
    UpstreamRateLimited,
    /// The registry refuses our credentials.
    UpstreamUnauthorized,
    /// The manifest is there, its signatures could not be read.
    EvidenceUnavailable,
    /// No trust root that policy names is there to prove with.
    TrustRootUnavailable,
    /// There is more to prove than can wait in line.
    Overloaded,
    /// The registry sent other bytes than were asked for.
    ContentMismatch,
}

impl Doubt {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamRateLimited => "upstream_rate_limited",
            Self::UpstreamUnauthorized => "upstream_unauthorized",
            Self::EvidenceUnavailable => "evidence_unavailable",
            Self::TrustRootUnavailable => "trust_root_unavailable",
            Self::Overloaded => "overloaded",
            Self::ContentMismatch => "content_mismatch",
        }
    }

    /// What to do about it, where nobody knows better.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::UpstreamUnreachable => {
                "check that the registry is up and can be reached from pullgate"
            }
            Self::UpstreamRateLimited => "wait, or give pullgate credentials with a higher limit",
            Self::UpstreamUnauthorized => {
                "check `credentials` of this upstream, and that the repository exists"
            }
            Self::EvidenceUnavailable => {
                "check that the registry serves signatures (referrers, .sig tags)"
            }
            Self::TrustRootUnavailable => "check `trust_roots` in the configuration",
            Self::Overloaded => "wait; if it goes on, give pullgate more processors",
            Self::ContentMismatch => "repair the registry's store, or the cache in front of it",
        }
    }
}

/// When to ask again where nobody says better.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A doubt with its cause, before it is known what was asked for.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) doubt: Doubt,
    pub(super) text: String,
    pub(super) remedy: &'static str,
    pub(super) retry_after: Duration,
}

impl Cause {
    pub(super) fn new(doubt: Doubt, text: impl Into<String>) -> Self {
        Self {
            doubt,
            text: text.into(),
            remedy: doubt.remedy(),
            retry_after: RETRY_AFTER,
        }
    }

    pub(super) fn of_upstream(error: &UpstreamError) -> Self {
        let doubt = match error {
            UpstreamError::RateLimited { .. } => Doubt::UpstreamRateLimited,
            UpstreamError::Unauthorized { .. }
            | UpstreamError::NoCredentials { .. }
            | UpstreamError::ForeignRealm { .. } => Doubt::UpstreamUnauthorized,
            UpstreamError::TimedOut {
                stage: Stage::Queue,
                ..
            } => Doubt::Overloaded,
            UpstreamError::WrongBytes { .. } => Doubt::ContentMismatch,
            _ => Doubt::UpstreamUnreachable,
        };
        let retry_after = match error {
            UpstreamError::RateLimited {
                retry_after: Some(retry_after),
            } => *retry_after,
            _ => RETRY_AFTER,
        };
        Self {
            retry_after,
            ..Self::new(doubt, error.to_string())
        }
    }

    pub(super) fn of_failure(failure: &Failure) -> Self {
        let retry_after = match failure {
            Failure::Upstream { error, .. } => Self::of_upstream(error).retry_after,
            Failure::Deadline(_) => RETRY_AFTER,
        };
        Self {
            retry_after,
            ..Self::new(Doubt::EvidenceUnavailable, failure.to_string())
        }
    }

    pub(super) fn about(self, asked: Asked, digest: Option<Digest>) -> Refusal {
        Refusal::Unavailable(Arc::new(Unavailable {
            asked,
            digest,
            doubt: self.doubt,
            cause: self.text,
            remedy: self.remedy,
            retry_after: self.retry_after,
        }))
    }
}

impl Denied {
    /// Where a HEAD does not tell what was found: the digest, where it was asked for by one.
    ///
    /// Nobody looked at a manifest that the caller may not pull, nor asked whether it is there.
    /// And where it is the tag that is refused, a client that had the digest would go on with
    /// that, and pull what a tag has moved back to.
    #[must_use]
    pub fn unseen(&self) -> Option<Option<Digest>> {
        match (&self.asked, self.shortfall.reason) {
            (Asked::Manifest(_, reference), Reason::WrongPuller) => match reference {
                Reference::Digest(digest) => Some(Some(*digest)),
                Reference::Tag(_) => Some(None),
            },
            (Asked::Manifest(_, Reference::Tag(_)), _) => self.is_about_tag().then_some(None),
            _ => None,
        }
    }

    fn is_about_tag(&self) -> bool {
        let refusal = self.judgement.as_ref().and_then(Judgement::refusal);
        refusal.is_some_and(|(outcome, _)| outcome.is_about_tag)
    }

    /// What people are told, but for the decision's id.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.asked.to_string();
        if let (Asked::Manifest(_, Reference::Tag(_)), Some(refused)) = (&self.asked, &self.refused)
        {
            text.push_str(&format!(" ({})", refused.digest));
        }
        let by = match &self.policy {
            Some(policy) => format!("policy {policy:?}"),
            None => "pullgate".to_owned(),
        };
        let Shortfall {
            reason,
            found,
            expected,
            remedy,
        } = &self.shortfall;
        text.push_str(&format!(
            " is refused by {by} [{}]. Found: {found}. Expected: {expected}. To do: {remedy}.",
            reason.as_str(),
        ));
        text
    }
}

impl Unavailable {
    /// What people are told, but for the decision's id.
    #[must_use]
    pub fn message(&self) -> String {
        let Self {
            asked,
            doubt,
            cause,
            remedy,
            ..
        } = self;
        let digest = match (asked, self.digest) {
            (Asked::Manifest(_, Reference::Tag(_)), Some(digest)) => format!(" ({digest})"),
            _ => String::new(),
        };
        format!(
            "{asked}{digest} could not be judged, and is not served unjudged [{}]. Found: {cause}. \
             To do: {remedy}; the pull may be repeated.",
            doubt.as_str(),
        )
    }
}

/// The record of a decision, as all variants write it.
pub(super) fn describe(
    asked: &Asked,
    digest: Option<&Digest>,
    verdict: &str,
    reason: &str,
    judgement: Option<&Judgement>,
) -> Value {
    let outcomes = judgement
        .map(|judgement| judgement.policies.as_slice())
        .unwrap_or_default();
    let mode = outcomes
        .iter()
        .find(|outcome| outcome.shortfall.is_some())
        .or_else(|| outcomes.first())
        .map_or(Mode::Enforce, |outcome| outcome.mode);
    json!({
        "image": asked.to_string(),
        "digest": digest,
        "verdict": verdict,
        "reason": reason,
        "mode": mode.as_str(),
        "policies": outcomes,
    })
}

impl Decided for Denied {
    fn describe(&self) -> Value {
        let digest = self.refused.as_ref().map(|refused| &refused.digest);
        let reason = self.shortfall.reason.as_str();
        let mut value = describe(
            &self.asked,
            digest,
            "denied",
            reason,
            self.judgement.as_ref(),
        );
        value["message"] = self.message().into();
        value
    }
}

impl Decided for Unavailable {
    fn describe(&self) -> Value {
        let word = self.doubt.as_str();
        let mut value = describe(&self.asked, self.digest.as_ref(), "unavailable", word, None);
        value["message"] = self.message().into();
        value
    }
}

/// A shortfall that no policy but the gate itself states.
pub(super) fn own_shortfall(
    reason: Reason,
    found: String,
    expected: &str,
    remedy: &str,
) -> Shortfall {
    Shortfall {
        reason,
        found,
        expected: expected.to_owned(),
        remedy: remedy.to_owned(),
    }
}
