//! A manifest with the bytes it was read from.

use bytes::Bytes;
use http::HeaderValue;

use crate::oci::Digest;
use crate::oci::Manifest;
use crate::oci::ManifestError;
use crate::oci::media_type;
use crate::upstream::FetchedManifest;

/// What the texts of headers take, with their counters and what the allocator rounds.
const HEAD_TEXT_BYTES: usize = 224;

/// The bytes of a manifest, their digest, and what they say.
#[derive(Debug)]
pub struct Document {
    digest: Digest,
    head: Head,
    bytes: Bytes,
    manifest: Result<Manifest, ManifestError>,
}

/// What headers say of a document. It is written once, and every answer shares it.
#[derive(Debug)]
pub struct Head {
    /// The digest.
    pub digest: HeaderValue,
    /// The digest as an entity tag (RFC 9110, section 8.8.3).
    pub etag: HeaderValue,
    /// The media type.
    pub content_type: HeaderValue,
    /// How many bytes there are.
    pub content_length: HeaderValue,
}

impl Document {
    /// `digest` is what `fetched` hashes to: only this room makes documents, and it hashes.
    pub(super) fn new(digest: Digest, fetched: FetchedManifest) -> Self {
        let manifest = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref());
        let etag = Bytes::from(format!("\"{digest}\""));
        let head = Head {
            // One piece of memory for both.
            digest: header(etag.slice(1..etag.len() - 1)),
            etag: header(etag),
            content_type: HeaderValue::from_static(media_type_of(&manifest)),
            content_length: HeaderValue::from(fetched.bytes.len()),
        };
        Self {
            digest,
            head,
            bytes: fetched.bytes,
            manifest,
        }
    }

    /// About how many bytes of memory it takes, parsed as well as not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let parsed = self.manifest.as_ref().map_or(0, Manifest::memory_bytes);
        size_of::<Self>() + HEAD_TEXT_BYTES + self.bytes.len() + parsed
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What headers say of it.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
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
        media_type_of(&self.manifest)
    }
}

fn media_type_of(manifest: &Result<Manifest, ManifestError>) -> &'static str {
    let manifest = manifest.as_ref();
    manifest.map_or(media_type::OCI_MANIFEST, |manifest| manifest.media_type)
}

/// A value of known good characters, without a copy.
fn header(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static(""))
}
