//! What a proof yields: statements about one digest that are true whatever a policy says.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::oci::Digest;
use crate::oci::EvidenceSource;
use crate::verify::Certified;
use crate::verify::Statement;

/// The name under which configuration knows a trust root. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RootName(Arc<str>);

impl RootName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RootName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A public key to verify with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// SubjectPublicKeyInfo in DER (RFC 5280, 4.1.2.7).
    pub spki: Arc<[u8]>,
    /// The SHA-256 of `spki`: the key's name in facts.
    pub fingerprint: Digest,
}

impl PublicKey {
    /// A key from its SubjectPublicKeyInfo in DER. Whether it can be used says
    /// [`check_key`](crate::verify::check_key).
    #[must_use]
    pub fn from_spki(spki: &[u8]) -> Self {
        Self {
            spki: spki.into(),
            fingerprint: Digest::sha256(spki),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint)
    }
}

/// What a piece of memory has beside its bytes: counters of those who share it, and what the
/// allocator rounds up.
const HEAP_BYTES: usize = 32;
/// What a claim has beside its text: its place in a tree, and its memory.
const CLAIM_BYTES: usize = 100;

/// Everything that was proven about one digest, and what did not prove.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Facts {
    /// What is true.
    pub proven: Vec<Fact>,
    /// Evidence that was found and proves nothing, with the reason.
    pub rejected: Vec<Rejected>,
    /// True when there was more evidence than the limits let be read.
    pub truncated: bool,
}

impl Facts {
    /// True when no evidence was found at all, good or bad.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proven.is_empty() && self.rejected.is_empty() && !self.truncated
    }

    /// What was found in two places.
    #[must_use]
    pub fn and(one: Arc<Self>, two: Arc<Self>) -> Arc<Self> {
        if two.is_empty() {
            return one;
        }
        if one.is_empty() {
            return two;
        }
        let (mut both, two) = (Self::clone(&one), Self::clone(&two));
        both.proven.extend(two.proven);
        both.rejected.extend(two.rejected);
        both.truncated |= two.truncated;
        Arc::new(both)
    }

    /// About how many bytes it holds, for caches that are bounded in bytes.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        let proven = self.proven.iter().map(Fact::size_hint);
        let rejected = self.rejected.iter();
        let rejected = rejected.map(|one| size_of::<Rejected>() + HEAP_BYTES + one.why.len());
        size_of::<Self>() + 3 * HEAP_BYTES + proven.sum::<usize>() + rejected.sum::<usize>()
    }

    /// When the first of the facts ends, by the wall clock: a key, a signature
    /// or a certificate that expires.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        let ends = self.proven.iter().filter_map(|fact| match &fact.signer {
            Signer::Gpg { ends_at, .. } => *ends_at,
            Signer::Certified(certified) => certified.ends_at,
            Signer::Key { .. } | Signer::Identity(_) => None,
        });
        ends.min()
    }

    /// The proven signatures (attestations are no signatures).
    pub fn signatures(&self) -> impl Iterator<Item = &Fact> {
        self.proven
            .iter()
            .filter(|fact| fact.kind == Kind::Signature)
    }
}

impl Fact {
    fn size_hint(&self) -> usize {
        let signer = match &self.signer {
            // Shared with the key that it was proven by.
            Signer::Key { .. } | Signer::Gpg { .. } => 0,
            Signer::Identity(identity) => {
                let claims = identity
                    .claims
                    .values()
                    .map(|claim| claim.len() + CLAIM_BYTES);
                let own = size_of::<Identity>() + 3 * HEAP_BYTES;
                own + identity.issuer.len() + identity.subject.len() + claims.sum::<usize>()
            }
            Signer::Certified(certified) => {
                let names = certified
                    .names
                    .iter()
                    .map(|name| name.as_str().len() + CLAIM_BYTES);
                let claims = certified.claims.values();
                let claims = claims.map(|claim| claim.len() + CLAIM_BYTES);
                size_of::<Certified>() + HEAP_BYTES + names.sum::<usize>() + claims.sum::<usize>()
            }
        };
        let kind = match &self.kind {
            Kind::Signature => 0,
            Kind::Attestation {
                predicate_type,
                statement,
            } => {
                let statement = statement.as_deref().map_or(0, Statement::size_hint);
                HEAP_BYTES + predicate_type.len() + statement
            }
        };
        let name = self.docker_reference.as_ref();
        let name = name.map_or(0, |name| HEAP_BYTES + name.len());
        size_of::<Self>() + signer + kind + name
    }
}

/// "This digest carries a valid signature by that signer, logged there, at that time."
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fact {
    /// A signature, or an attestation and of what.
    pub kind: Kind,
    /// Who signed.
    pub signer: Signer,
    /// The trust root under which certificate, log and time were proven. `None` for a key's
    /// signature for which no log entry and no time was proven.
    pub root: Option<RootName>,
    /// The earliest proven time of signing, where one was proven.
    pub signed_at: Option<Timestamp>,
    /// What vouches for it beside the signature.
    pub assurance: Assurance,
    /// What it hashes with, where a key signed whose kind leaves that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashAlgorithm>,
    /// The format that carried it.
    pub format: Format,
    /// The digest of the evidence: of the bundle, or of the signed payload.
    pub source: Digest,
    /// What the payload of a `.sig` layer or of a simple signature names as the image
    /// (`critical.identity.docker-reference`). Bundles name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_reference: Option<String>,
    /// Where it was found, where that is not beside the image. A proof does not know; whoever
    /// looked there says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_in: Option<Arc<EvidenceSource>>,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A cosign signature of the image.
    Signature,
    /// An in-toto statement about the image, with this predicate type.
    Attestation {
        /// The predicate type's URI.
        predicate_type: String,
        /// What it says, where [`Material::predicates`](crate::verify::Material::predicates)
        /// has its type; others are not held.
        #[serde(flatten)]
        statement: Option<Arc<Statement>>,
    },
}

/// What a signature hashes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Sha256, Self::Sha384, Self::Sha512];

    /// The word for configuration and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|hash| hash.as_str() == word)
    }
}

/// What vouches for a signature beside itself: each of these was proven, or is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Assurance {
    /// That a transparency log holds the signature.
    pub log: Option<Logged>,
    /// That a timestamp authority saw the signature (RFC 3161).
    pub timestamp: bool,
    /// That a certificate transparency log holds the certificate (SCT).
    pub certificate_timestamp: bool,
}

/// What has to vouch for a keyless signature beside itself. The default is what Sigstore's
/// public instance gives to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// How a transparency log must vouch for it, where one must.
    pub log: Option<Logged>,
    /// That a timestamp authority saw it.
    pub timestamp: bool,
    /// That a certificate transparency log holds the certificate.
    pub certificate_timestamp: bool,
}

impl Default for Demands {
    fn default() -> Self {
        Self {
            log: Some(Logged::Promised),
            timestamp: false,
            certificate_timestamp: true,
        }
    }
}

impl Demands {
    /// What GitHub's own instance gives, which signs for private repositories: it has no logs,
    /// and a timestamp instead.
    pub const TIMESTAMPED: Self = Self {
        log: None,
        timestamp: true,
        certificate_timestamp: false,
    };

    /// Whether less is demanded than the instance gives to everybody.
    #[must_use]
    pub fn are_unsafe(&self) -> bool {
        (self.log.is_none() || !self.certificate_timestamp) && *self != Self::TIMESTAMPED
    }

    /// What is missing, in words; `None` when nothing is.
    #[must_use]
    pub fn missing(&self, assurance: &Assurance) -> Option<&'static str> {
        if assurance.log < self.log {
            return Some(match self.log {
                Some(Logged::Included) => "no proof of inclusion in the transparency log",
                _ => "no entry in the transparency log",
            });
        }
        if self.timestamp && !assurance.timestamp {
            return Some("no timestamp");
        }
        (self.certificate_timestamp && !assurance.certificate_timestamp)
            .then_some("no certificate timestamp (SCT)")
    }

    /// The lesser of the two in each respect.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            log: self.log.min(other.log),
            timestamp: self.timestamp && other.timestamp,
            certificate_timestamp: self.certificate_timestamp && other.certificate_timestamp,
        }
    }
}

/// How a transparency log vouches for a signature. The greater is the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Logged {
    /// It has promised to hold it (SET).
    Promised,
    /// It was shown to hold it: by an inclusion proof up to a signed checkpoint.
    Included,
}

/// Who signed. Signers are the same when these are equal, whatever names policy has for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signer {
    /// The holder of a key.
    Key {
        /// The SHA-256 of the key's SubjectPublicKeyInfo in DER.
        fingerprint: Digest,
    },
    /// The holder of an OpenPGP key.
    Gpg {
        /// The primary key's fingerprint, in upper case.
        fingerprint: Arc<str>,
        /// When the key or the signature expires, where one of them does.
        #[serde(skip_serializing_if = "Option::is_none")]
        ends_at: Option<Timestamp>,
    },
    /// A login, as Fulcio has certified it.
    Identity(Arc<Identity>),
    /// A name, as a certificate authority of one's own has certified it.
    Certified(Arc<Certified>),
}

/// A certified login (Fulcio, oid-info.md).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Identity {
    /// The OIDC issuer's URL.
    pub issuer: String,
    /// The certificate's subject alternative name: an e-mail address or a URI.
    pub subject: String,
    /// Fulcio's other extensions, by their names in snake case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<&'static str, String>,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { fingerprint } => write!(f, "the key {fingerprint}"),
            Self::Gpg { fingerprint, .. } => write!(f, "the OpenPGP key {fingerprint}"),
            Self::Identity(identity) => {
                write!(f, "{} (issuer {})", identity.subject, identity.issuer)
            }
            Self::Certified(certified) => write!(f, "{certified}"),
        }
    }
}

/// The formats in which evidence is written. Also a metrics label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A Sigstore bundle (cosign v3's default).
    Bundle,
    /// A layer of a `.sig` manifest (cosign's first format).
    SigLayer,
    /// A signed OpenPGP message (containers/image's "simple signing").
    SimpleSigning,
    /// A layer of an `.att` manifest (its counterpart for attestations).
    AttLayer,
}

impl Format {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Bundle,
        Self::SigLayer,
        Self::SimpleSigning,
        Self::AttLayer,
    ];

    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::SigLayer => "sig_layer",
            Self::SimpleSigning => "simple_signing",
            Self::AttLayer => "att_layer",
        }
    }
}

/// Evidence that proves nothing, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rejected {
    /// The digest of the evidence.
    pub source: Digest,
    /// Its format.
    pub format: Format,
    /// Why it does not count, for people.
    pub why: String,
}
