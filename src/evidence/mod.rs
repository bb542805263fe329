//! Finds the signatures and attestations of a digest in its registry, within bounds.
//!
//! What is found is bytes whose digests were checked; what they prove is for `verify` to say.
//! Descriptors, artifact types and annotations are claims: they order the search and decide
//! nothing.
//!
//! The order (docs/VERIFICATION.md, "Finding"): the referrers API, or without one the index under the
//! fallback tag `sha256-<hex>`; beside it the manifest under `sha256-<hex>.sig`. One good
//! piece suffices and one bad piece beside it harms nothing, so whatever could not be read is
//! reported and the rest goes on.

mod lookaside;

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::oci::Repository;
use crate::oci::media_type;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;
use crate::verify::Evidence;
use crate::verify::SigLayer;

/// Bounds of one search.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pieces of evidence that are read for one digest.
    pub artifacts_max: usize,
    /// Bytes of one bundle.
    pub bundle_bytes_max: u64,
    /// Bytes of one `.sig` payload.
    pub payload_bytes_max: u64,
    /// How long the whole search may take.
    pub deadline: Duration,
}

/// What was asked for, in failures.
const SIG_TAG: &str = "the .sig tag";

/// How many pieces of one digest's evidence are fetched at a time.
const CONCURRENT_FETCHES: usize = 8;

/// How many bundles are read of one referrer: all that anybody writes. So the number of pieces
/// is bounded by that of referrers, and none of them takes from the others (THREATS D2).
const BUNDLES_OF_ONE_MAX: usize = 1;

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

/// Searches the registry for evidence about `digest`, and its lookaside store where signatures
/// from there can prove anything (`detached`).
pub async fn find(
    upstream: &Upstream,
    repository: &Repository,
    digest: &Digest,
    limits: &Limits,
    detached: bool,
) -> Found {
    // Each has its own time, so that one that hangs does not take from what the other found.
    let (bundles, layers, detached) = tokio::join!(
        within(
            limits.deadline,
            bundles(upstream, repository, digest, limits)
        ),
        within(
            limits.deadline,
            sig_layers(upstream, repository, digest, limits)
        ),
        within(limits.deadline, async {
            match detached && upstream.has_lookaside() {
                true => lookaside::signatures(upstream, repository, digest, limits).await,
                false => Found::default(),
            }
        }),
    );
    bundles.and(layers).and(detached)
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

/// Bundles, through the referrers API or the fallback tag.
async fn bundles(
    upstream: &Upstream,
    repository: &Repository,
    digest: &Digest,
    limits: &Limits,
) -> Found {
    let (mut descriptors, mut truncated) =
        match referrers(upstream, repository, digest, limits).await {
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
    truncated |= descriptors.len() > limits.artifacts_max;
    descriptors.truncate(limits.artifacts_max);
    let found = stream::iter(descriptors)
        .map(|descriptor| bundle(upstream, repository, descriptor, limits))
        .buffered(CONCURRENT_FETCHES)
        .fold(Found::default(), |all, one| async { all.and(one) })
        .await;
    Found {
        truncated: truncated || found.truncated,
        ..found
    }
}

/// The descriptors of what refers to `digest`.
pub async fn referrers(
    upstream: &Upstream,
    repository: &Repository,
    digest: &Digest,
    limits: &Limits,
) -> Result<(Vec<Descriptor>, bool), UpstreamError> {
    // One more than is read, to know that there was more.
    match upstream
        .referrers(repository, digest, limits.artifacts_max * 4 + 1)
        .await
    {
        Ok(referrers) => return Ok((referrers.descriptors, referrers.truncated)),
        Err(UpstreamError::NotFound) => {}
        Err(error) => return Err(error),
    }
    let tag = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    let manifest = match manifest_by_tag(upstream, repository, &tag).await {
        Ok(manifest) => manifest,
        Err(UpstreamError::NotFound) => return Ok((Vec::new(), false)),
        Err(error) => return Err(error),
    };
    // Junk under the tag is somebody's junk, not a failure.
    let index = manifest.and_then(|manifest| manifest.as_index().cloned());
    Ok((
        index.map(|index| index.manifests).unwrap_or_default(),
        false,
    ))
}

/// One referrer: its manifest is read again, whatever the descriptor claims, and its layers
/// are taken where they are bundles.
async fn bundle(
    upstream: &Upstream,
    repository: &Repository,
    descriptor: Descriptor,
    limits: &Limits,
) -> Found {
    const WHAT: &str = "a referrer";
    let reference = Reference::Digest(descriptor.digest);
    let fetched = match upstream.manifest(repository, &reference).await {
        Ok(fetched) => fetched,
        Err(error) => return unless_bad(WHAT, error),
    };
    let Ok(manifest) = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref()) else {
        return Found::default();
    };
    let layers = manifest
        .as_image()
        .map(|image| image.layers.as_slice())
        .unwrap_or_default();
    let bundles = layers
        .iter()
        .filter(|layer| media_type::is_sigstore_bundle(&layer.media_type));
    let mut found = Found {
        truncated: bundles.clone().nth(BUNDLES_OF_ONE_MAX).is_some(),
        ..Found::default()
    };
    for layer in bundles.take(BUNDLES_OF_ONE_MAX) {
        match upstream
            .blob_bytes(repository, &layer.digest, limits.bundle_bytes_max)
            .await
        {
            Ok(json) => found.evidence.push(Evidence::Bundle {
                source: layer.digest,
                json,
            }),
            Err(error) => found = found.and(unless_bad(WHAT, error)),
        }
    }
    found
}

/// The layers of the manifest under `sha256-<hex>.sig`.
async fn sig_layers(
    upstream: &Upstream,
    repository: &Repository,
    digest: &Digest,
    limits: &Limits,
) -> Found {
    let tag = format!("{}-{}.sig", digest.algorithm().as_str(), digest.hex());
    let manifest = match manifest_by_tag(upstream, repository, &tag).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Found::default(),
        Err(error) => return unless_bad(SIG_TAG, error),
    };
    let layers = manifest
        .as_image()
        .map(|image| image.layers.as_slice())
        .unwrap_or_default();
    let signed: Vec<&Descriptor> = layers
        .iter()
        .filter(|layer| layer.media_type == media_type::SIMPLE_SIGNING)
        .collect();
    let truncated = signed.len() > limits.artifacts_max;
    let found = stream::iter(signed.into_iter().take(limits.artifacts_max).cloned())
        .map(|layer| sig_layer(upstream, repository, layer, limits))
        .buffered(CONCURRENT_FETCHES)
        .fold(Found::default(), |all, one| async { all.and(one) })
        .await;
    Found {
        truncated: truncated || found.truncated,
        ..found
    }
}

async fn sig_layer(
    upstream: &Upstream,
    repository: &Repository,
    layer: Descriptor,
    limits: &Limits,
) -> Found {
    let bytes_max = limits.payload_bytes_max;
    match upstream
        .blob_bytes(repository, &layer.digest, bytes_max)
        .await
    {
        Ok(payload) => Found {
            evidence: SigLayer::from_descriptor(&layer, payload)
                .map(Evidence::SigLayer)
                .into_iter()
                .collect(),
            ..Found::default()
        },
        Err(error) => unless_bad(SIG_TAG, error),
    }
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
