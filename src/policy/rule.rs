//! Policies, as configuration has lowered them.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use crate::oci::Digest;
use crate::oci::ImageName;
use crate::policy::Glob;
use crate::policy::PulledBy;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::verify::GpgKey;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// All policy files together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Every policy; each that matches an image must pass.
    pub policies: Vec<Arc<Policy>>,
    /// What holds where none matches.
    pub default: DefaultRule,
}

/// What holds for an image that no policy matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultRule {
    /// Refuse.
    #[default]
    Deny,
    /// Let pass, unjudged and without asking for closure.
    UnsafeAllow,
}

/// One policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name; unique over all files.
    pub name: Arc<str>,
    /// The images it is for: globs over registry and repository.
    pub images: Vec<Glob>,
    /// Images it is not for all the same.
    pub except: Vec<Glob>,
    /// Whether a refusal refuses.
    pub mode: Mode,
    /// What it asks for.
    pub requirement: Requirement,
    /// What a signature must cover.
    pub signs: Signs,
    /// Who may pull; `None` where the policy does not ask.
    pub pulled_by: Option<PulledBy>,
}

/// Whether a refusal refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does.
    Enforce,
    /// It is recorded and told, and the image passes.
    Warn,
}

impl Mode {
    /// The word for configuration, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
        }
    }
}

/// What a policy asks of an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Requirement {
    /// Signatures.
    SignedBy(SignedBy),
    /// Content that is pinned, and needs no signature.
    Digests(BTreeSet<Digest>),
    /// Never.
    Deny {
        /// Shown to whoever pulls.
        reason: String,
    },
    /// Nothing, for a while.
    AllowUnsigned {
        /// When the exemption ends, where it does.
        until: Option<Timestamp>,
        /// Why it is there.
        because: String,
    },
}

/// So many of these signers, each another key or identity.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedBy {
    /// How many; at least one.
    pub at_least: usize,
    /// Of which.
    pub of: Vec<Arc<SignerRule>>,
}

/// What a signature must cover where an image is a member of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signs {
    /// The index.
    Index,
    /// Each platform's manifest.
    Instance,
    /// One of the two.
    #[default]
    Either,
}

impl Signs {
    /// The word in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Instance => "instance",
            Self::Either => "either",
        }
    }
}

impl Policy {
    /// Whether the policy is for this image.
    #[must_use]
    pub fn applies_to(&self, name: &str) -> bool {
        self.images.iter().any(|glob| glob.matches(name))
            && !self.except.iter().any(|glob| glob.matches(name))
    }
}

impl Rules {
    /// The policies that are for this image, in the order of the files.
    #[must_use]
    pub fn matching(&self, image: &ImageName) -> Vec<Arc<Policy>> {
        let name = image.to_string();
        self.policies
            .iter()
            .filter(|policy| policy.applies_to(&name))
            .cloned()
            .collect()
    }

    /// Whether a policy asks who pulls.
    #[must_use]
    pub fn ask_who_pulls(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.pulled_by.is_some())
    }

    /// Every signer that a policy names.
    pub fn signers(&self) -> impl Iterator<Item = &SignerRule> {
        self.policies
            .iter()
            .flat_map(|policy| match &policy.requirement {
                Requirement::SignedBy(signed_by) => signed_by.of.as_slice(),
                _ => &[],
            })
            .map(AsRef::as_ref)
    }

    /// The keys that evidence is to be tried with.
    #[must_use]
    pub fn keys(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for signer in self.signers() {
            if let SignerKind::Key { key, .. } = &signer.kind
                && !keys.contains(key)
            {
                keys.push(key.clone());
            }
        }
        keys
    }

    /// The OpenPGP keys that evidence is to be tried with.
    #[must_use]
    pub fn gpg_keys(&self) -> Vec<GpgKey> {
        let kinds = self.signers().map(|signer| &signer.kind);
        let keys = kinds.filter_map(|kind| match kind {
            SignerKind::Gpg { keys } => Some(keys),
            _ => None,
        });
        GpgKey::merged(keys.flatten())
    }

    /// The trust roots that signers name.
    #[must_use]
    pub fn roots(&self) -> BTreeSet<RootName> {
        self.signers()
            .filter_map(|signer| match &signer.kind {
                SignerKind::Keyless(keyless) => Some(keyless.root.clone()),
                SignerKind::Key { log, .. } => log.clone(),
                SignerKind::Gpg { .. } => None,
            })
            .collect()
    }
}
