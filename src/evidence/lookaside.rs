//! Detached signatures in the upstream's lookaside store: `signature-1`, `signature-2` and so
//! on, until one is not there.

use super::{Found, Source};
use crate::oci::Digest;
use crate::upstream::UpstreamError;
use crate::verify::Evidence;
use crate::verify::GpgSignature;

/// What was asked for, in failures.
const WHAT: &str = "the lookaside store";

/// The signatures of `digest`. What is too large is passed over; a store that cannot say what it
/// has is a failure.
pub(super) async fn signatures(source: Source<'_>, digest: &Digest) -> Found {
    let Source {
        upstream,
        repository,
        limits,
        share,
        ..
    } = source;
    let bytes_max = usize::try_from(limits.payload_bytes_max).unwrap_or(usize::MAX);
    let mut found = Found::default();
    for number in 1..=limits.artifacts_max {
        share.take(limits.payload_bytes_max).await;
        let signature = upstream.lookaside_signature(repository, digest, number, bytes_max);
        match signature.await {
            Ok(Some(message)) => {
                let signature = GpgSignature::new(message);
                found.evidence.push(Evidence::Gpg(signature));
            }
            Ok(None) => return found,
            Err(UpstreamError::TooLarge { .. }) => found.truncated = true,
            // What was read before still counts.
            Err(error) => return found.and(Found::failed(WHAT, error)),
        }
    }
    found.truncated = true;
    found
}
