//! A manifest with the bytes it was read from.

use bytes::Bytes;

use crate::oci::Digest;
use crate::oci::Manifest;
use crate::oci::ManifestError;
use crate::oci::media_type;
use crate::upstream::FetchedManifest;

/// What the text of a digest takes, with its counters and what the allocator rounds.
const DIGEST_TEXT_BYTES: usize = 160;

/// The bytes of a manifest, their digest, and what they say.
#[derive(Debug)]
pub struct Document {
    digest: Digest,
    digest_text: Bytes,
    etag: Bytes,
    bytes: Bytes,
    manifest: Result<Manifest, ManifestError>,
}

impl Document {
    /// `digest` is what `fetched` hashes to: only this room makes documents, and it hashes.
    pub(super) fn new(digest: Digest, fetched: FetchedManifest) -> Self {
        let manifest = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref());
        let etag = Bytes::from(format!("\"{digest}\""));
        Self {
            digest,
            // One piece of memory for both.
            digest_text: etag.slice(1..etag.len() - 1),
            etag,
            bytes: fetched.bytes,
            manifest,
        }
    }

    /// About how many bytes of memory it takes, parsed as well as not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let parsed = self.manifest.as_ref().map_or(0, Manifest::memory_bytes);
        size_of::<Self>() + DIGEST_TEXT_BYTES + self.bytes.len() + parsed
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The digest as it stands in headers, ready to be shared.
    #[must_use]
    pub fn digest_text(&self) -> &Bytes {
        &self.digest_text
    }

    /// The digest as an entity tag (RFC 9110, section 8.8.3).
    #[must_use]
    pub fn etag(&self) -> &Bytes {
        &self.etag
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What they say, or why they cannot be read in one way only.
    ///
    /// # Errors
    /// The [`ManifestError`] of the bytes.
    pub fn manifest(&self) -> Result<&Manifest, &ManifestError> {
        self.manifest.as_ref()
    }

    /// True when the bytes alone say what the header they came with said, too, so that they
    /// can be kept without it.
    pub(super) fn stands_alone(&self) -> bool {
        let alone = Manifest::parse(&self.bytes, None);
        match (&self.manifest, alone) {
            (Ok(manifest), Ok(alone)) => manifest.media_type == alone.media_type,
            _ => false,
        }
    }

    /// The media type to serve it with.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.manifest
            .as_ref()
            .map_or(media_type::OCI_MANIFEST, |manifest| manifest.media_type)
    }
}
