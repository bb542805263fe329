//! A manifest with the bytes it was read from.

use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderMap;

use crate::oci::Digest;
use crate::oci::Manifest;
use crate::oci::ManifestError;
use crate::oci::media_type;
use crate::upstream::FetchedManifest;

/// What the headers of an answer take beside the map, with what the allocator rounds.
const HEADERS_BYTES: usize = 1024;

/// The bytes of a manifest, their digest, and what they say.
#[derive(Debug)]
pub struct Document {
    digest: Digest,
    /// Written once, by whoever answers with it first.
    headers: OnceLock<HeaderMap>,
    bytes: Bytes,
    manifest: Result<Manifest, ManifestError>,
}

impl Document {
    /// `digest` is what `fetched` hashes to: only this room makes documents, and it hashes.
    pub(super) fn new(digest: Digest, fetched: FetchedManifest) -> Self {
        let manifest = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref());
        Self {
            digest,
            headers: OnceLock::new(),
            bytes: fetched.bytes,
            manifest,
        }
    }

    /// About how many bytes of memory it takes, parsed as well as not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let parsed = self.manifest.as_ref().map_or(0, Manifest::memory_bytes);
        size_of::<Self>() + HEADERS_BYTES + self.bytes.len() + parsed
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The headers of an answer with it: what `write` makes of it, once for all answers.
    pub fn headers(&self, write: impl FnOnce(&Self) -> HeaderMap) -> &HeaderMap {
        self.headers.get_or_init(|| write(self))
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
        let manifest = self.manifest.as_ref();
        manifest.map_or(media_type::OCI_MANIFEST, |manifest| manifest.media_type)
    }
}
