//! Content by digest: from memory, from the cache directory, else from the upstream, hashed on
//! the way.
//!
//! What this room hands out has the digest it was asked for by, or ends in an error before
//! its last byte. It does not know who may have it: only `gate` asks, for what it admitted.
//! Content is kept per repository, so that what one tenant may read says nothing about
//! another's.

mod adopt;
mod along;
mod blob;
mod blobs;
mod body;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod company_tests;
mod disk;
mod document;
mod fill;
mod follow;
mod inner;
mod notebook;
mod pace;
mod parents;
mod remembered;
mod room;
mod served;
mod spool;
mod survey;
mod transfer;

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;

pub use blob::{BlobAnswer, BlobError, ByteRange};
pub use body::{BlobBody, ByteStream};
pub use disk::{OpenError, check_directory};
pub use document::Document;
pub use parents::Parents;
pub use remembered::{Memory, Remembered};
pub use served::{Mark, Recalled, Served, TagKey, Unusable};

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::flight::Flights;
use crate::hands::Hands;
use crate::metrics::CacheKind;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::oci::Repository;
use crate::upstream::FetchedManifest;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

use disk::{Disk, FileName, Kind};
use inner::Inner;
use notebook::Notebook;

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

impl ContentKey {
    /// The content with this digest in an image's repository.
    #[must_use]
    pub fn of(image: &ImageName, digest: Digest) -> Self {
        Self {
            host: image.registry.clone(),
            repository: image.repository.clone(),
            digest,
        }
    }
}

/// What the store may use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes that may be held in memory.
    pub memory_bytes_max: u64,
    /// Blobs up to this size, in bytes, are held in memory.
    pub memory_blob_bytes_max: u64,
    /// Where content is kept beyond the life of the process; memory only, where absent.
    pub directory: Option<PathBuf>,
    /// Bytes that the directory may hold.
    pub disk_bytes_max: u64,
    /// Tags of which it is remembered what they named, where policy asks.
    pub served_tags_max: usize,
}

/// What one held entry costs beside itself, roughly: its key, and its places in the cache's tables and
/// lists.
const ENTRY_OVERHEAD_BYTES: usize = 600;
/// Of the bytes that the directory may hold, hints may take one in so many.
const HINTS_SHARE: u64 = 50;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    parents: Option<Parents>,
    remembered: Option<Remembered>,
    served: Served,
}

impl Store {
    /// Opens the store: what its directory holds is there at once, and is counted by a task.
    /// What is not there is brought by `hands`. Is called within a runtime, which reads what is.
    ///
    /// # Errors
    /// [`OpenError`] when there is a directory and it cannot be used.
    pub fn open(
        settings: &Settings,
        metrics: Arc<Metrics>,
        clock: Clock,
        hands: Hands,
    ) -> Result<Self, OpenError> {
        let hints_bytes_max = settings.disk_bytes_max / HINTS_SHARE;
        let disk = match &settings.directory {
            Some(directory) => {
                let bytes_max = settings.disk_bytes_max - hints_bytes_max;
                let (metrics, tasks) = (Arc::clone(&metrics), hands.tasks().clone());
                let opened = Disk::open(directory, bytes_max, metrics, clock, tasks);
                let disk = Arc::new(opened?);
                let counted = Arc::clone(&disk);
                hands.tasks().spawn_blocking(move || counted.take_stock());
                Some(disk)
            }
            None => None,
        };
        let (bytes_max, tasks) = (hints_bytes_max / 2, hands.tasks());
        let kept = disk.as_ref().map(|disk| {
            let notebook = Notebook::new(
                disk.root(),
                disk.user_number(),
                Arc::clone(&metrics),
                disk.clock().clone(),
            );
            let notebook = Arc::new(notebook);
            let opened = Arc::clone(&notebook);
            tasks.spawn_blocking(move || {
                opened.open();
                opened.adopt();
            });
            let manifests = Arc::clone(disk);
            let parents = Arc::clone(&notebook);
            (
                Parents::new(parents, manifests, bytes_max, tasks.clone()),
                Remembered::new(notebook, bytes_max, tasks.clone()),
            )
        });
        let (parents, remembered) = kept.unzip();
        let served = Served::new(
            settings.directory.as_deref(),
            settings.served_tags_max,
            Arc::clone(&metrics),
            hands.tasks().clone(),
        );
        let half = settings.memory_bytes_max / 2;
        // What cannot be kept on disk passes through memory.
        let for_spools = match disk {
            Some(_) => 0,
            None => half / 2,
        };
        let spools = usize::try_from(for_spools / spool::WINDOW_BYTES).unwrap_or(usize::MAX);
        let spools = spools.min(Semaphore::MAX_PERMITS);
        let weigh = |bytes: usize| u32::try_from(bytes + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let inner = Inner {
            memory_blob_bytes_max: settings.memory_blob_bytes_max,
            documents: moka::sync::Cache::builder()
                .max_capacity(half)
                .weigher(move |_, document: &Arc<Document>| weigh(document.memory_bytes()))
                .build(),
            blobs: moka::sync::Cache::builder()
                .max_capacity(half - for_spools)
                .weigher(move |_, bytes: &Bytes| weigh(bytes.len()))
                .build(),
            disk,
            spools: Arc::new(Semaphore::new(spools)),
            fills: std::sync::Mutex::default(),
            document_flights: Flights::new(hands.clone()),
            whole_flights: Flights::new(hands.clone()),
            verifications: Flights::new(hands.clone()),
            paces: pace::Paces::default(),
            metrics,
            hands,
        };
        Ok(Self {
            inner: Arc::new(inner),
            parents,
            remembered,
            served,
        })
    }

    /// The store of hints, where there is a directory.
    #[must_use]
    pub fn parents(&self) -> Option<&Parents> {
        self.parents.as_ref()
    }

    /// What was known before the process began, where there is a directory.
    #[must_use]
    pub fn remembered(&self) -> Option<&Remembered> {
        self.remembered.as_ref()
    }

    /// Keeps what `write_down` makes of evidence of an image on disk, where there is a directory, and
    /// says then by which digest it is to be asked for.
    pub fn keep_evidence(
        &self,
        image: ContentKey,
        write_down: impl FnOnce() -> Option<Bytes> + Send + 'static,
        kept: impl FnOnce(Digest) + Send + 'static,
    ) {
        let Some(disk) = self.inner.disk.clone() else {
            return;
        };
        self.inner.hands.tasks().spawn_blocking(move || {
            let Some(bytes) = write_down() else {
                return;
            };
            let digest = Digest::sha256(&bytes);
            let name = FileName::new(Kind::Evidence, &ContentKey { digest, ..image });
            disk.keep(name, &bytes);
            kept(digest);
        });
    }

    /// Evidence that was kept, hashed.
    pub async fn kept_evidence(&self, key: &ContentKey) -> Option<Bytes> {
        self.stored(FileName::new(Kind::Evidence, key)).await
    }

    /// What tags named before.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// A manifest by digest, brought in one flight for all who ask.
    ///
    /// # Errors
    /// [`UpstreamError`] when it is not held and the upstream does not give it.
    pub async fn manifest(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
    ) -> Result<Arc<Document>, UpstreamError> {
        let inner = &self.inner;
        if let Some(document) = inner.documents.get(key) {
            inner.metrics.cache_requested(CacheKind::Manifests, true);
            return Ok(document);
        }
        let (store, upstream_of_flight) = (self.clone(), upstream.clone());
        let flight = {
            let key = key.clone();
            || async move { store.bring_manifest(&upstream_of_flight, &key).await }
        };
        let flown_by = (key.clone(), upstream.asker_key());
        match inner.document_flights.join(flown_by, flight).await {
            Ok(landed) => landed,
            // A crash is one flight's: whoever waited for it goes alone.
            Err(_) => self.bring_manifest(upstream, key).await,
        }
    }

    /// A manifest by digest, where it is held or stored.
    pub async fn manifest_at_hand(&self, key: &ContentKey) -> Option<Arc<Document>> {
        match self.inner.documents.get(key) {
            Some(document) => Some(document),
            None => self.stored_manifest(key).await,
        }
    }

    /// Counts as a use of a manifest's file, which is not read as long as the manifest is in memory.
    pub fn use_manifest(&self, key: &ContentKey) {
        if let Some(disk) = &self.inner.disk {
            let (disk, name) = (Arc::clone(disk), FileName::new(Kind::Manifest, key));
            let tasks = self.inner.hands.tasks();
            tasks.spawn_blocking(move || disk.has(&name));
        }
    }

    async fn bring_manifest(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
    ) -> Result<Arc<Document>, UpstreamError> {
        let stored = self.stored_manifest(key).await;
        self.inner
            .metrics
            .cache_requested(CacheKind::Manifests, stored.is_some());
        if let Some(document) = stored {
            return Ok(document);
        }
        let reference = Reference::Digest(key.digest);
        let fetched = upstream.manifest(&key.repository, &reference).await?;
        Ok(self.keep(key, Document::new(key.digest, fetched)))
    }

    async fn stored(&self, name: FileName) -> Option<Bytes> {
        let read = self
            .inner
            .on_disk(move |disk| disk.find(name)?.whole().ok());
        read.await.flatten()
    }

    async fn stored_manifest(&self, key: &ContentKey) -> Option<Arc<Document>> {
        let bytes = self.stored(FileName::new(Kind::Manifest, key)).await?;
        let content_type = None;
        let fetched = FetchedManifest {
            bytes,
            content_type,
        };
        let document = Arc::new(Document::new(key.digest, fetched));
        let kept = Arc::clone(&document);
        self.inner.documents.insert(key.clone(), kept);
        Some(document)
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
        let key = ContentKey {
            host: host.clone(),
            repository: repository.clone(),
            digest: Digest::sha256(&fetched.bytes),
        };
        self.keep(&key, Document::new(key.digest, fetched))
    }

    fn keep(&self, key: &ContentKey, document: Document) -> Arc<Document> {
        let document = Arc::new(document);
        let known = self.inner.documents.contains_key(key);
        let kept = Arc::clone(&document);
        self.inner.documents.insert(key.clone(), kept);
        if let Some(disk) = &self.inner.disk
            && !known
            && document.stands_alone()
        {
            let (disk, name) = (Arc::clone(disk), FileName::new(Kind::Manifest, key));
            let bytes = document.bytes().clone();
            self.inner
                .hands
                .tasks()
                .spawn_blocking(move || disk.keep(name, &bytes));
        }
        document
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
