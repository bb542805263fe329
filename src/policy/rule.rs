//! Policies, as configuration has lowered them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::oci::Digest;
use crate::oci::EvidenceSource;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Condition;
use crate::policy::Glob;
use crate::policy::NoRollback;
use crate::policy::PulledBy;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::written::Written;
use crate::verify::Authority;
use crate::verify::Demands;
use crate::verify::Format;
use crate::verify::GpgKey;
use crate::verify::PublicKey;
use crate::verify::RootName;

/// The host that image names of Docker Hub carry.
pub(super) const DOCKER_HUB: &str = "docker.io";

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
    /// That a tag never moves back, where the policy says so.
    pub no_rollback: Option<NoRollback>,
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
    /// Signatures and attestations: one of these demands has to be met as a whole. A list of
    /// none is met by nothing.
    Proven(Vec<Demand>),
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

impl Requirement {
    /// Signatures, at any time, and nothing else.
    #[must_use]
    pub fn signed_by(signed_by: SignedBy) -> Self {
        Self::Proven(vec![Demand {
            signed_by: Some(signed_by),
            attested: Vec::new(),
            timing: Timing::default(),
            format: None,
            source: None,
        }])
    }
}

/// What has to be proven about an image. Its parts may be proven about different digests of
/// the image: the provenance about an index, the list of packages about a platform's manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Whose signatures; `None` where attestations are enough.
    pub signed_by: Option<SignedBy>,
    /// The attestations, all of them.
    pub attested: Vec<Attested>,
    /// When signatures and attestations have to have been made.
    pub timing: Timing,
    /// The one format that counts; `None` where each does.
    pub format: Option<Carrier>,
    /// Where they are kept; `None` where that is beside the image. What is kept elsewhere does
    /// not count.
    pub source: Option<Arc<EvidenceSource>>,
}

/// What carries a signature or an attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A Sigstore bundle.
    Bundle,
    /// A layer under a `.sig` or `.att` tag.
    Layer,
}

impl Carrier {
    /// Whether evidence of this format is carried so.
    pub(super) fn carries(self, format: Format) -> bool {
        match format {
            Format::Bundle => self == Self::Bundle,
            Format::SigLayer | Format::AttLayer => self == Self::Layer,
            Format::SimpleSigning => false,
        }
    }
}

/// An attestation that has to be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Attested {
    /// The URI of its predicate type; compared as a whole.
    pub predicate_type: String,
    /// Who has to have attested.
    pub by: SignedBy,
    /// What has to hold of it.
    pub condition: Option<Arc<Condition>>,
    /// Whether it has to hold of every attestation of the type by a signer who is to count, and
    /// not only of one.
    pub every: bool,
}

/// When a signature has to have been made, by its proven time. One without a proven time meets
/// none of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// No longer ago than this.
    pub signed_within: Option<SignedDuration>,
    /// Not before this moment.
    pub not_before: Option<Timestamp>,
    /// At least so long ago, so that there was time to notice.
    pub cooldown: Option<SignedDuration>,
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
    /// What is asked for, or an index that lists it; but an index does not pass by what it
    /// lists. So judge those who know no indexes.
    Asked,
}

impl Signs {
    /// The word in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Instance => "instance",
            Self::Either => "either",
            Self::Asked => "asked",
        }
    }
}

impl Demand {
    /// Every signer that it names.
    pub fn signers(&self) -> impl Iterator<Item = &SignerRule> {
        let attested = self.attested.iter().map(|attested| &attested.by);
        self.signed_by
            .iter()
            .chain(attested)
            .flat_map(|signed_by| &signed_by.of)
            .map(AsRef::as_ref)
    }
}

impl Policy {
    /// Whether the policy is for this image.
    #[must_use]
    pub fn applies_to(&self, name: &str) -> bool {
        let fits = |glob: &Glob| !glob.is_over_references() && glob.matches(name);
        self.images.iter().any(fits) && !self.except.iter().any(fits)
    }

    /// Whether the policy is for what is asked for, by its name, by its whole reference, or in
    /// a way in which people may have written it.
    pub(super) fn applies_to_reference(
        &self,
        name: &str,
        reference: &str,
        written: &Written,
    ) -> bool {
        if self.images.iter().any(Glob::is_over_written) {
            return written.fits(&self.images, &self.except);
        }
        let fits = |glob: &Glob| match glob.is_over_references() {
            true => glob.matches(reference),
            false => glob.matches(name),
        };
        self.images.iter().any(fits) && !self.except.iter().any(fits)
    }

    fn is_over_references(&self) -> bool {
        self.images.iter().any(Glob::is_over_references)
    }

    /// Whether what it says of a digest gives way to what is said of the tag that leads there: it
    /// judges what is asked for, and is not for this digest in particular.
    #[must_use]
    pub fn leaves_digests_to_their_tags(&self) -> bool {
        self.signs == Signs::Asked && !self.is_over_references()
    }

    /// Whether it may say another thing of a tag than of the digest that the tag names, where it is
    /// for both: a signer of it signs for names.
    #[must_use]
    pub fn reads_references(&self) -> bool {
        self.signers()
            .any(|signer| signer.signed_identity.is_some())
    }

    /// Whether nothing may leave, whatever is proven of it.
    #[must_use]
    pub fn forbids(&self) -> bool {
        self.mode == Mode::Enforce && matches!(self.requirement, Requirement::Deny { .. })
    }

    /// Where its evidence is kept, beside the image as `None`; nothing where it asks for none.
    pub fn sources(&self) -> impl Iterator<Item = Option<&Arc<EvidenceSource>>> {
        self.demands().iter().map(|demand| demand.source.as_ref())
    }

    fn demands(&self) -> &[Demand] {
        match &self.requirement {
            Requirement::Proven(demands) => demands,
            _ => &[],
        }
    }

    /// Every signer that it names.
    pub fn signers(&self) -> impl Iterator<Item = &SignerRule> {
        self.demands().iter().flat_map(Demand::signers)
    }

    /// The trust roots under which it takes proofs.
    pub fn roots(&self) -> impl Iterator<Item = &RootName> {
        self.signers().filter_map(|signer| match &signer.kind {
            SignerKind::Keyless(keyless) => Some(&keyless.root),
            SignerKind::CertifiedBy(rule) => rule.root.as_ref(),
            SignerKind::Key(holder) => holder.root.as_ref(),
            SignerKind::Gpg { .. } => None,
        })
    }
}

impl Rules {
    /// The policies that are for what is asked for, in the order of the files.
    #[must_use]
    pub fn matching(&self, image: &ImageName, reference: &Reference) -> Vec<Arc<Policy>> {
        let (name, whole) = Self::names_of(image, reference);
        let written = Written::new(image, reference);
        self.policies
            .iter()
            .filter(|policy| policy.applies_to_reference(&name, &whole, &written))
            .cloned()
            .collect()
    }

    /// What patterns over names, and over references, are matched with.
    pub(super) fn names_of(image: &ImageName, reference: &Reference) -> (String, String) {
        let mut whole = image.with(reference);
        if image.registry.as_str() == DOCKER_HUB {
            whole = format!("index.{whole}");
        }
        (image.to_string(), whole)
    }

    /// Whether a policy is for this image, or could be for a tag or digest of it.
    #[must_use]
    pub fn may_match(&self, image: &ImageName) -> bool {
        let name = image.to_string();
        self.policies
            .iter()
            .any(|policy| policy.is_over_references() || policy.applies_to(&name))
    }

    /// The policies that are for this image whatever is asked of it, in the order of the files.
    #[must_use]
    pub fn for_image(&self, image: &ImageName) -> Vec<Arc<Policy>> {
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
        self.policies.iter().flat_map(|policy| policy.signers())
    }

    /// The keys that evidence is to be tried with.
    #[must_use]
    pub fn keys(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for signer in self.signers() {
            let SignerKind::Key(holder) = &signer.kind else {
                continue;
            };
            for timed in &holder.keys {
                if !keys.contains(&timed.key) {
                    keys.push(timed.key.clone());
                }
            }
        }
        keys
    }

    /// The certificate authorities of one's own that evidence is to be tried under.
    #[must_use]
    pub fn authorities(&self) -> Vec<Authority> {
        let kinds = self.signers().map(|signer| &signer.kind);
        let authorities = kinds.filter_map(|kind| match kind {
            SignerKind::CertifiedBy(rule) => Some(&rule.authorities),
            _ => None,
        });
        Authority::merged(authorities.flatten())
    }

    /// The least that a signer demands of keyless signatures under each trust root, where that
    /// is less than usual: so that other edits of policy leave facts what they are.
    #[must_use]
    pub fn lenience(&self) -> BTreeMap<RootName, Demands> {
        let mut least: BTreeMap<RootName, Demands> = BTreeMap::new();
        for signer in self.signers() {
            if let SignerKind::Keyless(keyless) = &signer.kind {
                least
                    .entry(keyless.root.clone())
                    .and_modify(|demands| *demands = demands.or(keyless.demands))
                    .or_insert(keyless.demands);
            }
        }
        least.retain(|_, demands| demands.log.is_none() || !demands.certificate_timestamp);
        least
    }

    /// How many signers do without what vouches for signatures everywhere else.
    #[must_use]
    pub fn unsafe_signers(&self) -> usize {
        let weak = |signer: &&SignerRule| match &signer.kind {
            SignerKind::Keyless(keyless) => keyless.demands.are_unsafe(),
            SignerKind::CertifiedBy(_) | SignerKind::Key(_) | SignerKind::Gpg { .. } => false,
        };
        let names: BTreeSet<&str> = self
            .signers()
            .filter(weak)
            .map(|signer| signer.name.as_ref())
            .collect();
        names.len()
    }

    /// The predicate types that a policy has conditions on: what attestations of these say is
    /// held in facts.
    #[must_use]
    pub fn predicates(&self) -> BTreeSet<String> {
        self.policies
            .iter()
            .flat_map(|policy| policy.demands())
            .flat_map(|demand| &demand.attested)
            .filter(|attested| attested.condition.is_some())
            .map(|attested| attested.predicate_type.clone())
            .collect()
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
        let policies = self.policies.iter();
        policies
            .flat_map(|policy| policy.roots())
            .cloned()
            .collect()
    }
}
