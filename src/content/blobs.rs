//! Where a blob comes from: memory, a file, a fill, or a transfer of its own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    BlobAnswer, BlobBody, ByteRange, ContentKey, Store,
    disk::{FileName, Kind, StoredFile},
    fill::{self, Progress},
    follow::Follower,
    inner::{given_up, lock},
    spool::Listener,
    transfer::{Transfer, Verified},
};
use crate::metrics::CacheKind;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// How often a blob is looked for again that was there a moment ago.
const LOOKS_MAX: usize = 2;

impl Store {
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
        let (tasks, digest) = (self.inner.hands.tasks().clone(), key.digest);
        let pace = self.inner.paces.pace();
        let Some(range) = range else {
            let size = file.size();
            return Some(BlobAnswer::Whole {
                size: Some(size),
                body: BlobBody::file(file, size, digest, pace, tasks),
            });
        };
        file = self.hashed(key, file).await?;
        let size = file.size();
        let Some((first, last)) = range.within(size) else {
            return Some(BlobAnswer::Outside { size });
        };
        let seek = move || file.seek(first).map(|()| file);
        let file = self.inner.blocking(seek).await?.ok()?;
        Some(BlobAnswer::Part {
            first,
            last,
            size,
            body: BlobBody::file(file, last + 1, digest, pace, tasks),
        })
    }

    async fn open_file(&self, key: &ContentKey) -> Option<StoredFile> {
        let name = FileName::new(Kind::Blob, key);
        let found = self.inner.on_disk(move |disk| disk.find(name));
        found.await.flatten()
    }

    /// A file whose size is the blob's: it was hashed. `None` where it was not what it should be, and is
    /// gone.
    async fn hashed(&self, key: &ContentKey, file: StoredFile) -> Option<StoredFile> {
        if file.is_verified() {
            return Some(file);
        }
        self.verify(key, file).await;
        self.open_file(key).await
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
                Progress::Passing { spool, size } => {
                    let followed = progress.clone();
                    let listener = Listener::join(&self.inner, upstream, key, followed, spool);
                    return Ok(listener.map(|listener| BlobAnswer::Whole {
                        size,
                        body: BlobBody::stream(size, listener.into_stream()),
                    }));
                }
                Progress::Asked | Progress::Growing { .. } => {}
                Progress::Held(bytes) => return Ok(Some(BlobAnswer::held(bytes, range))),
                Progress::Stored { .. } | Progress::Adrift { .. } | Progress::Passed => {
                    return Ok(None);
                }
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
        // What a file says of itself that was cut short is no size to tell.
        let file = match self.open_file(key).await {
            Some(file) => self.hashed(key, file).await,
            None => None,
        };
        match file {
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
