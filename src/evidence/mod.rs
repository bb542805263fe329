//! Finds the signatures and attestations of a digest in its registry, within bounds.
//!
//! What is found is bytes whose digests were checked; what they prove is for `verify` to say.
//! Descriptors, artifact types and annotations are claims: they order the search and decide
//! nothing.
//!
//! The order (docs/VERIFICATION.md, "Finding"): the referrers API, or without one the index under the
//! fallback tag `sha256-<hex>`; beside it the manifests under `sha256-<hex>.sig` and `.att`. One
//! good piece suffices and one bad piece beside it harms nothing, so whatever could not be read
//! is reported and the rest goes on. All of it is looked for in one [`Place`]: the image's own
//! repository, or the one that policy names instead.

mod budget;
mod lookaside;
mod record;

pub use budget::{Budget, Share};
pub use record::{read_back, write_down};

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::oci::Repository;
use crate::oci::TagPrefix;
use crate::oci::media_type;
use crate::upstream::Referrers;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;
use crate::verify::AttLayer;
use crate::verify::Evidence;
use crate::verify::SigLayer;

/// Bounds of one search.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pieces of evidence that are read for one digest.
    pub artifacts_max: usize,
    /// Bytes of one bundle. Larger ones are read as attestations are.
    pub bundle_bytes_max: u64,
    /// Bytes of one `.sig` payload.
    pub payload_bytes_max: u64,
    /// Bytes of all attestations under the `.att` tag together, and again of all bundles that
    /// are larger than `bundle_bytes_max`.
    pub attestation_bytes_max: u64,
    /// How long the whole search may take.
    pub deadline: Duration,
}

/// What was asked for, in failures.
const REFERRER: &str = "a referrer";
const SIG_TAG: &str = "the .sig tag";
const ATT_TAG: &str = "the .att tag";

/// What is always paid for, in bytes: more than nearly all signatures have.
const SMALL_BYTES: u64 = 64 << 10;

/// How many pieces of one digest's evidence are fetched at a time.
const CONCURRENT_FETCHES: usize = 8;

/// What a search has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Evidence, its bytes checked against its digest.
    pub evidence: Vec<Evidence>,
    /// True when there was more than the limits let be read.
    pub truncated: bool,
    /// What could not be read although it may be there. Without it nobody can say that an
    /// image is unsigned.
    pub failures: Vec<Failure>,
}

/// Why evidence that may be there could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The registry did not answer, or not with what was asked for.
    #[error("{what}: {error}")]
    Upstream {
        /// What was asked for.
        what: &'static str,
        /// The registry's answer.
        error: UpstreamError,
    },
    /// The search took longer than it may.
    #[error("the search for signatures took longer than {} s", .0.as_secs())]
    Deadline(Duration),
}

impl Failure {
    /// True when the registry may well answer another time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Upstream { error, .. } => error.is_transient(),
            Self::Deadline(_) => true,
        }
    }
}

/// Where evidence is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The registry.
    pub upstream: &'a Upstream,
    /// The repository there.
    pub repository: &'a Repository,
    /// What stands before the tags of signatures and attestations.
    pub tag_prefix: Option<&'a TagPrefix>,
}

/// Searches one place for evidence about `digest`, and its registry's lookaside store where
/// signatures from there can prove anything (`detached`). The bytes of what is found are of `share`.
pub async fn find(
    place: Place<'_>,
    digest: &Digest,
    limits: &Limits,
    share: &Share,
    detached: bool,
) -> Found {
    let Place {
        upstream,
        repository,
        ..
    } = place;
    let source = Source {
        upstream,
        repository,
        tag_prefix: place.tag_prefix.map_or("", TagPrefix::as_str),
        limits,
        share,
    };
    // Each has its own time, so that one that hangs does not take from what the other found.
    let (bundles, signatures, attestations, detached) = tokio::join!(
        within(limits.deadline, source.bundles(digest)),
        within(limits.deadline, source.sig_layers(digest)),
        within(limits.deadline, source.att_layers(digest)),
        within(limits.deadline, async {
            match detached && upstream.has_lookaside() {
                true => lookaside::signatures(source, digest).await,
                false => Found::default(),
            }
        }),
    );
    bundles.and(signatures).and(attestations).and(detached)
}

async fn within(deadline: Duration, search: impl Future<Output = Found>) -> Found {
    let found = tokio::time::timeout(deadline, search).await;
    found.unwrap_or_else(|_| Found {
        failures: vec![Failure::Deadline(deadline)],
        ..Found::default()
    })
}

impl Found {
    fn failed(what: &'static str, error: UpstreamError) -> Self {
        Self {
            failures: vec![Failure::Upstream { what, error }],
            ..Self::default()
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.evidence.extend(other.evidence);
        self.failures.extend(other.failures);
        self.truncated |= other.truncated;
        self
    }
}

/// A place, with the bounds of the search there.
#[derive(Clone, Copy)]
struct Source<'a> {
    upstream: &'a Upstream,
    repository: &'a Repository,
    tag_prefix: &'a str,
    limits: &'a Limits,
    share: &'a Share,
}

impl Source<'_> {
    /// Bundles, through the referrers API or the fallback tag.
    async fn bundles(self, digest: &Digest) -> Found {
        // One more than is read, to know that there was more.
        let max = self.limits.artifacts_max * 4 + 1;
        let Referrers {
            mut descriptors,
            mut truncated,
        } = match referrers(self.upstream, self.repository, digest, max).await {
            Ok(listed) => listed,
            Err(error) => return Found::failed("the list of referrers", error),
        };
        // What claims to be a bundle is read first, so that junk cannot crowd it out by coming
        // first in the list.
        descriptors.sort_by_key(|descriptor| {
            !descriptor
                .artifact_type
                .as_deref()
                .is_some_and(media_type::is_sigstore_bundle)
        });
        truncated |= descriptors.len() > self.limits.artifacts_max;
        descriptors.truncate(self.limits.artifacts_max);
        let (found, large) = stream::iter(descriptors)
            .map(|descriptor| self.bundle(descriptor))
            .buffered(CONCURRENT_FETCHES)
            .fold((Found::default(), Vec::new()), |all, one| async {
                let (found, mut large) = all;
                large.extend(one.1);
                (found.and(one.0), large)
            })
            .await;
        let found = found.and(self.large_bundles(large).await);
        Found {
            truncated: truncated || found.truncated,
            ..found
        }
    }

    /// One referrer: its manifest is read again, whatever the descriptor claims, and its layers
    /// are taken where they are bundles. A large one is left for later.
    async fn bundle(self, descriptor: Descriptor) -> (Found, Option<Descriptor>) {
        let reference = Reference::Digest(descriptor.digest);
        let fetched = match self.upstream.manifest(self.repository, &reference).await {
            Ok(fetched) => fetched,
            Err(error) => return (unless_bad(REFERRER, error), None),
        };
        let Ok(manifest) = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref()) else {
            return (Found::default(), None);
        };
        let mut bundles = layers(&manifest)
            .iter()
            .filter(|layer| media_type::is_sigstore_bundle(&layer.media_type));
        let Some(layer) = bundles.next() else {
            return (Found::default(), None);
        };
        let one = Found {
            // Nobody writes more than one. So the number of pieces is bounded by that of
            // referrers, and none of them takes from the others (THREATS D2).
            truncated: bundles.next().is_some(),
            ..Found::default()
        };
        if layer.size > self.limits.bundle_bytes_max {
            return (one, Some(layer.clone()));
        }
        let found = self.bundle_of(layer).await;
        (one.and(found), None)
    }

    /// Bundles that are too large for signatures: attestations, say of what is in an image.
    async fn large_bundles(self, layers: Vec<Descriptor>) -> Found {
        let (layers, truncated) = self.within_bytes(layers);
        let found = stream::iter(layers)
            .map(|layer| async move { self.bundle_of(&layer).await })
            .buffered(CONCURRENT_FETCHES)
            .fold(Found::default(), |all, one| async { all.and(one) })
            .await;
        found.and(Found {
            truncated,
            ..Found::default()
        })
    }

    async fn bundle_of(self, layer: &Descriptor) -> Found {
        let bytes_max = layer.size.max(self.limits.bundle_bytes_max);
        self.blob(layer, bytes_max, REFERRER, |json| {
            Some(Evidence::Bundle {
                source: layer.digest,
                json,
            })
        })
        .await
    }

    /// The layers of the manifest under `sha256-<hex>.sig`.
    async fn sig_layers(self, digest: &Digest) -> Found {
        let (layers, truncated) = match self
            .layers_under(digest, "sig", SIG_TAG, media_type::SIMPLE_SIGNING)
            .await
        {
            Ok(layers) => layers,
            Err(found) => return found,
        };
        let bytes_max = self.limits.payload_bytes_max;
        let found = stream::iter(layers)
            .map(|layer| async move {
                let read = |payload| SigLayer::from_descriptor(&layer, payload);
                let read = |payload| read(payload).map(Evidence::SigLayer);
                self.blob(&layer, bytes_max, SIG_TAG, read).await
            })
            .buffered(CONCURRENT_FETCHES)
            .fold(Found::default(), |all, one| async { all.and(one) })
            .await;
        Found {
            truncated: truncated || found.truncated,
            ..found
        }
    }

    /// The layers of the manifest under `sha256-<hex>.att`.
    async fn att_layers(self, digest: &Digest) -> Found {
        let (layers, truncated) = match self
            .layers_under(digest, "att", ATT_TAG, media_type::DSSE_ENVELOPE)
            .await
        {
            Ok(layers) => layers,
            Err(found) => return found,
        };
        let (layers, too_many_bytes) = self.within_bytes(layers);
        let found = stream::iter(layers)
            .map(|layer| async move {
                let read = |envelope| AttLayer::from_descriptor(&layer, envelope);
                let read = |envelope| Some(Evidence::AttLayer(read(envelope)));
                self.blob(&layer, layer.size, ATT_TAG, read).await
            })
            .buffered(CONCURRENT_FETCHES)
            .fold(Found::default(), |all, one| async { all.and(one) })
            .await;
        Found {
            truncated: truncated || too_many_bytes || found.truncated,
            ..found
        }
    }

    /// The layers of one type of the manifest under a tag that is made of the digest, and
    /// whether there were more.
    async fn layers_under(
        self,
        digest: &Digest,
        suffix: &str,
        what: &'static str,
        media_type: &str,
    ) -> Result<(Vec<Descriptor>, bool), Found> {
        let (prefix, algorithm) = (self.tag_prefix, digest.algorithm().as_str());
        let tag = format!("{prefix}{algorithm}-{}.{suffix}", digest.hex());
        let manifest = match manifest_by_tag(self.upstream, self.repository, &tag).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Err(Found::default()),
            Err(error) => return Err(unless_bad(what, error)),
        };
        let fitting = layers(&manifest)
            .iter()
            .filter(|layer| layer.media_type == media_type);
        let mut fitting: Vec<Descriptor> = fitting.cloned().collect();
        let truncated = fitting.len() > self.limits.artifacts_max;
        fitting.truncate(self.limits.artifacts_max);
        Ok((fitting, truncated))
    }

    /// As many of the layers as are small enough together, and whether some are not. Their sizes
    /// are claims, to which they are then read.
    fn within_bytes(self, mut layers: Vec<Descriptor>) -> (Vec<Descriptor>, bool) {
        let all = layers.len();
        let mut left = self.limits.attestation_bytes_max;
        layers.retain(|layer| match left.checked_sub(layer.size) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        let truncated = layers.len() < all;
        (layers, truncated)
    }

    async fn blob(
        self,
        layer: &Descriptor,
        bytes_max: u64,
        what: &'static str,
        read: impl FnOnce(Bytes) -> Option<Evidence>,
    ) -> Found {
        if layer.size > bytes_max {
            return Found {
                truncated: true,
                ..Found::default()
            };
        }
        // As many as it is said to have, and no more: so many are paid for. Of a small piece a
        // little more, so that its hash says that it is another one.
        let bytes_max = layer.size.max(SMALL_BYTES).min(bytes_max);
        self.share.take(bytes_max).await;
        let bytes = self
            .upstream
            .blob_bytes(self.repository, &layer.digest, bytes_max)
            .await;
        match bytes {
            Ok(bytes) => Found {
                evidence: read(bytes).into_iter().collect(),
                ..Found::default()
            },
            Err(error) => unless_bad(what, error),
        }
    }
}

/// The layers of a manifest; none where it is an index.
fn layers(manifest: &Manifest) -> &[Descriptor] {
    let image = manifest.as_image();
    image
        .map(|image| image.layers.as_slice())
        .unwrap_or_default()
}

/// The descriptors of what refers to `digest`, of more than `max` in a referrers API the first ones; and
/// whether there are more.
pub async fn referrers(
    upstream: &Upstream,
    repository: &Repository,
    digest: &Digest,
    max: usize,
) -> Result<Referrers, UpstreamError> {
    match upstream.referrers(repository, digest, max).await {
        Err(UpstreamError::NotFound) => {}
        listed => return listed,
    }
    let tag = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    let manifest = match manifest_by_tag(upstream, repository, &tag).await {
        Ok(manifest) => manifest,
        Err(UpstreamError::NotFound) => None,
        Err(error) => return Err(error),
    };
    // Junk under the tag is somebody's junk, not a failure.
    let index = manifest.and_then(|manifest| manifest.as_index().cloned());
    Ok(Referrers {
        descriptors: index.map(|index| index.manifests).unwrap_or_default(),
        truncated: false,
    })
}

/// A manifest under a tag; `None` when what lies there is not one.
async fn manifest_by_tag(
    upstream: &Upstream,
    repository: &Repository,
    tag: &str,
) -> Result<Option<Manifest>, UpstreamError> {
    let Ok(tag) = tag.parse() else {
        return Ok(None);
    };
    let fetched = upstream.manifest(repository, &Reference::Tag(tag)).await?;
    Ok(Manifest::parse(&fetched.bytes, fetched.content_type.as_deref()).ok())
}

/// A piece that is missing, too large or broken is bad evidence: it proves nothing and harms
/// nothing. A registry that could not say is a failure.
fn unless_bad(what: &'static str, error: UpstreamError) -> Found {
    match error {
        UpstreamError::NotFound
        | UpstreamError::WrongBytes { .. }
        | UpstreamError::Malformed(_) => Found::default(),
        UpstreamError::TooLarge { .. } => Found {
            truncated: true,
            ..Found::default()
        },
        error => Found::failed(what, error),
    }
}
