//! Content by digest: from memory, else from the upstream, hashed on the way.
//!
//! What this room hands out has the digest it was asked for by, or ends in an error before
//! its last byte. It does not know who may have it: only `gate` asks, for what it admitted.

mod blob;
mod document;

pub use blob::{BlobAnswer, BlobBody, BlobError, ByteRange};
pub use document::Document;

use std::sync::Arc;

use bytes::Bytes;

use crate::metrics::CacheKind;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::oci::Repository;
use crate::upstream::FetchedManifest;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// Where content lies: a digest in one repository of one registry. Content is not shared
/// between repositories, so that what one tenant may read says nothing about another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentKey {
    /// The registry.
    pub host: RegistryHost,
    /// The repository there.
    pub repository: Repository,
    /// The content.
    pub digest: Digest,
}

/// Bounds of the store.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes that may be held in memory.
    pub memory_bytes_max: u64,
    /// Blobs up to this size, in bytes, are held in memory.
    pub memory_blob_bytes_max: u64,
}

/// What one held entry costs beside its bytes, roughly: keys, counters, parsed manifest.
const ENTRY_OVERHEAD_BYTES: usize = 1024;

/// The store.
#[derive(Clone)]
pub struct Store {
    settings: Settings,
    documents: moka::sync::Cache<ContentKey, Arc<Document>>,
    blobs: moka::sync::Cache<ContentKey, Bytes>,
    metrics: Arc<Metrics>,
}

impl Store {
    /// A store that holds nothing yet.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let half = settings.memory_bytes_max / 2;
        let weigh = |bytes: usize| u32::try_from(bytes + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        Self {
            settings,
            documents: moka::sync::Cache::builder()
                .max_capacity(half)
                // A parsed manifest takes about as much again as its bytes.
                .weigher(move |_, document: &Arc<Document>| weigh(document.bytes().len() * 2))
                .build(),
            blobs: moka::sync::Cache::builder()
                .max_capacity(half)
                .weigher(move |_, bytes: &Bytes| weigh(bytes.len()))
                .build(),
            metrics,
        }
    }

    /// A manifest by digest, where it is held.
    #[must_use]
    pub fn held_manifest(&self, key: &ContentKey) -> Option<Arc<Document>> {
        let held = self.documents.get(key);
        self.metrics
            .cache_requested(CacheKind::Manifests, held.is_some());
        held
    }

    /// Fetches a manifest by digest, and holds it from now on.
    ///
    /// # Errors
    /// [`UpstreamError`] when the upstream does not give it.
    pub async fn fetch_manifest(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
    ) -> Result<Arc<Document>, UpstreamError> {
        let reference = Reference::Digest(key.digest);
        let fetched = upstream.manifest(&key.repository, &reference).await?;
        Ok(self.keep(
            &key.host,
            &key.repository,
            Document::new(key.digest, fetched),
        ))
    }

    /// Takes in a manifest that was fetched by tag: its bytes are hashed here, once, and are
    /// the bytes that are judged and served.
    #[must_use]
    pub fn take_in(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        fetched: FetchedManifest,
    ) -> Arc<Document> {
        let digest = Digest::sha256(&fetched.bytes);
        self.keep(host, repository, Document::new(digest, fetched))
    }

    fn keep(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        document: Document,
    ) -> Arc<Document> {
        let document = Arc::new(document);
        let (host, repository) = (host.clone(), repository.clone());
        let key = ContentKey {
            host,
            repository,
            digest: *document.digest(),
        };
        self.documents.insert(key, Arc::clone(&document));
        document
    }

    /// A blob, or a part of it where the whole is held and so known to be right.
    ///
    /// # Errors
    /// [`UpstreamError`] when it is not held and the upstream does not give it.
    pub async fn blob(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, UpstreamError> {
        let held = self.blobs.get(key);
        self.metrics
            .cache_requested(CacheKind::Blobs, held.is_some());
        if let Some(bytes) = held {
            return Ok(BlobAnswer::held(bytes, range));
        }
        let small = self.settings.memory_blob_bytes_max;
        let fetched = upstream.blob(&key.repository, &key.digest, 0).await?;
        match fetched.size {
            Some(size) if size <= small => {
                let bytes = fetched.whole(&key.digest, small).await?;
                self.blobs.insert(key.clone(), bytes.clone());
                Ok(BlobAnswer::held(bytes, range))
            }
            // A range is served from verified bytes only, and these are not: the whole is
            // streamed instead, which a client has to accept (RFC 9110, section 14.2).
            size => Ok(BlobAnswer::stream(size, fetched.body, key.digest)),
        }
    }

    /// A small blob as a whole.
    ///
    /// # Errors
    /// [`UpstreamError`] when it is not held and the upstream does not give it, or it is
    /// larger than `bytes_max`.
    pub async fn whole_blob(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        bytes_max: u64,
    ) -> Result<Bytes, UpstreamError> {
        let held = self.blobs.get(key);
        self.metrics
            .cache_requested(CacheKind::Blobs, held.is_some());
        if let Some(bytes) = held {
            return Ok(bytes);
        }
        let bytes = upstream
            .blob_bytes(&key.repository, &key.digest, bytes_max)
            .await?;
        if bytes.len() as u64 <= self.settings.memory_blob_bytes_max {
            self.blobs.insert(key.clone(), bytes.clone());
        }
        Ok(bytes)
    }

    /// The size of a blob in bytes: known where it is held, else the upstream's claim.
    ///
    /// # Errors
    /// [`UpstreamError`] when it is not held and the upstream does not say.
    pub async fn blob_size(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
    ) -> Result<Option<u64>, UpstreamError> {
        match self.blobs.get(key) {
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None => upstream.blob_size(&key.repository, &key.digest).await,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
