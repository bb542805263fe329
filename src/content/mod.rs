//! Content by digest: from memory, from the cache directory, else from the upstream, hashed on
//! the way.
//!
//! What this room hands out has the digest it was asked for by, or ends in an error before
//! its last byte. It does not know who may have it: only `gate` asks, for what it admitted.
//! Content is kept per repository, so that what one tenant may read says nothing about
//! another's.

mod blob;
mod body;
mod disk;
mod document;
mod fill;
mod follow;
mod inner;
mod parents;
mod transfer;

#[cfg(all(test, feature = "sandbox"))]
mod tests;

pub use blob::{BlobAnswer, BlobError, ByteRange};
pub use body::{BlobBody, ByteStream};
pub use disk::OpenError;
pub use document::Document;
pub use parents::Parents;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::flight::Flights;
use crate::metrics::CacheKind;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::oci::Repository;
use crate::upstream::FetchedManifest;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

use disk::{Disk, FileName, Kind, StoredFile};
use fill::Progress;
use follow::Follower;
use inner::{Inner, given_up, lock};
use transfer::{Transfer, Verified};

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
}

/// What one held entry costs beside its bytes, roughly: keys, counters, parsed manifest.
const ENTRY_OVERHEAD_BYTES: usize = 1024;
/// How often a blob is looked for again that was there a moment ago.
const LOOKS_MAX: usize = 2;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    parents: Option<Parents>,
}

impl Store {
    /// Opens the store: what its directory holds is there at once, and is counted by a task.
    /// All its work runs in `tasks`; whoever owns them waits for them at the end. Is called
    /// within a runtime.
    ///
    /// # Errors
    /// [`OpenError`] when there is a directory and it cannot be used.
    pub fn open(
        settings: &Settings,
        metrics: Arc<Metrics>,
        clock: Clock,
        tasks: TaskTracker,
    ) -> Result<Self, OpenError> {
        let disk = match &settings.directory {
            Some(directory) => {
                let (bytes_max, metrics) = (settings.disk_bytes_max, Arc::clone(&metrics));
                let disk = Arc::new(Disk::open(directory, bytes_max, metrics, clock)?);
                let counted = Arc::clone(&disk);
                tasks.spawn_blocking(move || counted.take_stock());
                Some(disk)
            }
            None => None,
        };
        let parents = settings.directory.as_ref().map(|directory| {
            let (bytes_max, metrics) = (settings.disk_bytes_max, Arc::clone(&metrics));
            Parents::new(directory, bytes_max, metrics, tasks.clone())
        });
        let half = settings.memory_bytes_max / 2;
        let weigh = |bytes: usize| u32::try_from(bytes + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let inner = Inner {
            memory_blob_bytes_max: settings.memory_blob_bytes_max,
            documents: moka::sync::Cache::builder()
                .max_capacity(half)
                // A parsed manifest takes about as much again as its bytes.
                .weigher(move |_, document: &Arc<Document>| weigh(document.bytes().len() * 2))
                .build(),
            blobs: moka::sync::Cache::builder()
                .max_capacity(half)
                .weigher(move |_, bytes: &Bytes| weigh(bytes.len()))
                .build(),
            disk,
            fills: std::sync::Mutex::default(),
            document_flights: Flights::new(tasks.clone()),
            whole_flights: Flights::new(tasks.clone()),
            verifications: Flights::new(tasks.clone()),
            metrics,
            tasks,
        };
        Ok(Self {
            inner: Arc::new(inner),
            parents,
        })
    }

    /// The store of hints, where there is a directory.
    #[must_use]
    pub fn parents(&self) -> Option<&Parents> {
        self.parents.as_ref()
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
        match inner.document_flights.join(key.clone(), flight).await {
            Ok(landed) => landed,
            // A crash is one flight's: whoever waited for it goes alone.
            Err(_) => self.bring_manifest(upstream, key).await,
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

    async fn stored_manifest(&self, key: &ContentKey) -> Option<Arc<Document>> {
        let name = FileName::new(Kind::Manifest, key);
        let read = self
            .inner
            .on_disk(move |disk| disk.find(name)?.whole().ok());
        let bytes = read.await.flatten()?;
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
                .tasks
                .spawn_blocking(move || disk.keep(name, &bytes));
        }
        document
    }

    /// A blob, or a part of it. A part is served from verified bytes only: a blob that is not
    /// there yet is brought first, or served whole where it cannot be kept, which a client has
    /// to accept (RFC 9110, section 14.2).
    ///
    /// # Errors
    /// [`UpstreamError`] when it is not held and the upstream does not give it.
    pub async fn blob(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, UpstreamError> {
        for look in 0..LOOKS_MAX {
            let stored = self.stored_blob(key, range).await;
            if look == 0 {
                let requested = &self.inner.metrics;
                requested.cache_requested(CacheKind::Blobs, stored.is_some());
            }
            if let Some(answer) = stored {
                return Ok(answer);
            }
            let progress = fill::join(&self.inner, upstream, key);
            if let Some(answer) = self.answer(upstream, key, range, progress).await? {
                return Ok(answer);
            }
        }
        let transfer = Transfer::open(upstream, key, 0, &self.inner.metrics).await?;
        Ok(alone(transfer))
    }

    /// A blob that is held or stored.
    async fn stored_blob(&self, key: &ContentKey, range: Option<ByteRange>) -> Option<BlobAnswer> {
        if let Some(bytes) = self.inner.blobs.get(key) {
            return Some(BlobAnswer::held(bytes, range));
        }
        let mut file = self.open_file(key).await?;
        if file.size() <= self.inner.memory_blob_bytes_max {
            let whole = self.inner.blocking(move || file.whole()).await?;
            let bytes = whole.ok()?;
            self.inner.blobs.insert(key.clone(), bytes.clone());
            return Some(BlobAnswer::held(bytes, range));
        }
        let size = file.size();
        let (tasks, digest) = (self.inner.tasks.clone(), key.digest);
        let Some(range) = range else {
            return Some(BlobAnswer::Whole {
                size: Some(size),
                body: BlobBody::file(file, 0, size, digest, tasks),
            });
        };
        let Some((first, last)) = range.within(size) else {
            return Some(BlobAnswer::Outside { size });
        };
        if !file.is_verified() {
            self.verify(key, file).await;
            file = self
                .open_file(key)
                .await
                .filter(|file| file.size() == size)?;
        }
        let seek = move || file.seek(first).map(|()| file);
        let file = self.inner.blocking(seek).await?.ok()?;
        Some(BlobAnswer::Part {
            first,
            last,
            size,
            body: BlobBody::file(file, first, last + 1, digest, tasks),
        })
    }

    async fn open_file(&self, key: &ContentKey) -> Option<StoredFile> {
        let name = FileName::new(Kind::Blob, key);
        let found = self.inner.on_disk(move |disk| disk.find(name));
        found.await.flatten()
    }

    /// Verifies a file, once for all who want parts of it. What it finds, the file's next
    /// opening tells.
    async fn verify(&self, key: &ContentKey, mut file: StoredFile) {
        let inner = Arc::clone(&self.inner);
        let flight = || async move {
            let verified = inner.blocking(move || file.seek(0));
            let _ = verified.await;
        };
        let _ = self.inner.verifications.join(key.clone(), flight).await;
    }

    /// What a fill has to answer with; `None` where it is stored now, or no fill's business.
    async fn answer(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        range: Option<ByteRange>,
        mut progress: watch::Receiver<Progress>,
    ) -> Result<Option<BlobAnswer>, UpstreamError> {
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Growing { path, size, .. } if range.is_none() => {
                    let followed = progress.clone();
                    let follower = Follower::open(&self.inner, upstream, key, followed, path);
                    if let Some(follower) = follower.await {
                        let body = BlobBody::stream(size, follower.into_stream());
                        return Ok(Some(BlobAnswer::Whole { size, body }));
                    }
                }
                Progress::Asked | Progress::Growing { .. } => {}
                Progress::Held(bytes) => return Ok(Some(BlobAnswer::held(bytes, range))),
                Progress::Stored { .. } | Progress::Adrift { .. } => return Ok(None),
                Progress::Alone(begun) => {
                    let begun = lock(&begun).take();
                    let transfer = match begun {
                        Some(transfer) => transfer,
                        None => Transfer::open(upstream, key, 0, &self.inner.metrics).await?,
                    };
                    return Ok(Some(alone(transfer)));
                }
                Progress::Failed(error) => return Err(error),
            }
            if progress.changed().await.is_err() {
                return Err(given_up(key));
            }
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
        let held = self.inner.blobs.get(key);
        let bytes = match held {
            Some(bytes) => Ok(bytes),
            None => {
                let (store, upstream, flown) = (self.clone(), upstream.clone(), key.clone());
                let flight =
                    || async move { store.bring_whole(&upstream, &flown, bytes_max).await };
                let landed = self.inner.whole_flights.join(key.clone(), flight).await;
                landed.unwrap_or_else(|_| Err(given_up(key)))
            }
        };
        bytes.and_then(|bytes| within(bytes, bytes_max))
    }

    async fn bring_whole(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        bytes_max: u64,
    ) -> Result<Bytes, UpstreamError> {
        let stored = match self.open_file(key).await {
            Some(file) if file.size() > bytes_max => return Err(too_large(bytes_max)),
            Some(file) => self.inner.blocking(move || file.whole()).await,
            None => None,
        };
        let stored = stored.and_then(Result::ok);
        let requested = &self.inner.metrics;
        requested.cache_requested(CacheKind::Blobs, stored.is_some());
        let is_stored = stored.is_some();
        let bytes = match stored {
            Some(bytes) => bytes,
            None => {
                let ContentKey {
                    repository, digest, ..
                } = key;
                upstream.blob_bytes(repository, digest, bytes_max).await?
            }
        };
        if bytes.len() as u64 <= self.inner.memory_blob_bytes_max {
            self.inner.blobs.insert(key.clone(), bytes.clone());
        }
        if !is_stored {
            let name = FileName::new(Kind::Blob, key);
            self.inner.keep_on_disk(name, bytes.clone()).await;
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
        if let Some(bytes) = self.inner.blobs.get(key) {
            return Ok(Some(bytes.len() as u64));
        }
        match self.open_file(key).await {
            Some(file) => Ok(Some(file.size())),
            None => upstream.blob_size(&key.repository, &key.digest).await,
        }
    }
}

/// An answer from a transfer that is nobody else's. It is whole, whatever part was asked for:
/// none of it is verified before its end.
fn alone(transfer: Transfer) -> BlobAnswer {
    let size = transfer.size();
    let verified = Verified::from_start(transfer);
    BlobAnswer::Whole {
        size,
        body: BlobBody::stream(size, verified.into_stream()),
    }
}

fn within(bytes: Bytes, bytes_max: u64) -> Result<Bytes, UpstreamError> {
    if bytes.len() as u64 <= bytes_max {
        Ok(bytes)
    } else {
        Err(too_large(bytes_max))
    }
}

fn too_large(bytes_max: u64) -> UpstreamError {
    UpstreamError::TooLarge {
        limit: usize::try_from(bytes_max).unwrap_or(usize::MAX),
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
