//! Fills: one transfer per blob, however many ask for it at once.
//!
//! A fill runs in a task of its own. A small blob is collected in memory; a large one grows in
//! a file of the cache directory, and whoever asks meanwhile reads what has arrived and
//! follows. Without a directory, or without room in it, a large blob is not shared: each
//! reader has a transfer of its own.
//!
//! A reader who goes away harms nobody. When the last has gone, the fill goes on for a minute,
//! since a client that broke off comes back soon, and then ends.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{select, sync::watch, time::sleep};

use super::{
    ContentKey,
    disk::{Draft, FileName, Kind},
    inner::{Inner, given_up, lock},
    spool::Spool,
    transfer::Transfer,
};
use crate::oci::Digest;
use crate::oci::Hasher;
use crate::upstream::MalformedAnswer;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

/// Bytes that are hashed and written at a time, where so many have come.
const BATCH_BYTES: usize = 512 << 10;
/// How long a fill goes on that nobody reads.
const ABANDONED_SECONDS: u32 = 60;

/// How far a fill is.
#[derive(Clone)]
pub(super) enum Progress {
    /// The upstream has not answered yet.
    Asked,
    /// A file grows. Its last byte is not to be passed on: it may be the last of all, and
    /// nothing is verified yet.
    Growing {
        /// The file.
        path: Arc<Path>,
        /// The size of the whole, by the upstream's claim.
        size: Option<u64>,
        /// Bytes that are in the file.
        written: u64,
    },
    /// It is held, and right.
    Held(Bytes),
    /// It is in its file, and right.
    Stored {
        /// Its size in bytes.
        size: u64,
    },
    /// The disk failed. Whoever follows goes on alone.
    Adrift {
        /// Has seen the bytes that are in the file.
        hasher: Hasher,
        /// How many they are.
        at: u64,
    },
    /// It cannot be kept, and passes through memory. Who comes early enough reads along.
    Passing {
        /// Its latest bytes.
        spool: Arc<Spool>,
        /// The size of the whole, by the upstream's claim.
        size: Option<u64>,
    },
    /// All of it has passed, and was right.
    Passed,
    /// It is not shared. The transfer that was begun is for the first who takes it.
    Alone(Arc<std::sync::Mutex<Option<Transfer>>>),
    /// It failed.
    Failed(UpstreamError),
}

/// A fill under way.
struct Fill {
    inner: Arc<Inner>,
    upstream: Upstream,
    key: ContentKey,
    progress: watch::Sender<Progress>,
}

/// A growing file and the hash of what is in it.
struct Growing {
    draft: Draft,
    hasher: Hasher,
}

/// Joins the fill of a blob, or begins it.
pub(super) fn join(
    inner: &Arc<Inner>,
    upstream: &Upstream,
    key: &ContentKey,
) -> watch::Receiver<Progress> {
    let mut fills = lock(&inner.fills);
    if let Some(progress) = fills.get(key) {
        return progress.subscribe();
    }
    let (progress, receiver) = watch::channel(Progress::Asked);
    fills.insert(key.clone(), progress.clone());
    let listed = Listed {
        inner: Arc::clone(inner),
        key: key.clone(),
    };
    let fill = Fill {
        inner: Arc::clone(inner),
        upstream: upstream.clone(),
        key: key.clone(),
        progress,
    };
    inner.hands.begin(async move {
        fill.run(listed).await;
    });
    receiver
}

/// Takes a fill off the list, also when it crashes.
struct Listed {
    inner: Arc<Inner>,
    key: ContentKey,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.inner.fills).remove(&self.key);
    }
}

impl Fill {
    async fn run(&self, listed: Listed) {
        let mut listed = Some(listed);
        let end = self.bring(&mut listed).await;
        let end = end.unwrap_or_else(Progress::Failed);
        // Off the list first: who comes now starts anew, and hears of no failure that is over.
        drop(listed);
        self.progress.send_replace(end);
    }

    async fn bring(&self, listed: &mut Option<Listed>) -> Result<Progress, UpstreamError> {
        // Another fill may have ended after its reader had looked and before this one began.
        if let Some(found) = self.at_hand().await {
            return Ok(found);
        }
        let metrics = &self.inner.metrics;
        let transfer = Transfer::open(&self.upstream, &self.key, 0, metrics).await?;
        let size = transfer.size();
        if let Some(small) = size.filter(|size| *size <= self.inner.memory_blob_bytes_max) {
            return self.collect(transfer, small).await;
        }
        let draft = self.inner.on_disk(move |disk| Draft::begin(disk, size));
        if let Some(draft) = draft.await.flatten() {
            return self.grow(transfer, draft).await;
        }
        match Arc::clone(&self.inner.spools).try_acquire_owned() {
            Ok(place) => self.pass(transfer, Spool::new(place), listed).await,
            Err(_) => Ok(Progress::Alone(Arc::new(Some(transfer).into()))),
        }
    }

    async fn at_hand(&self) -> Option<Progress> {
        if let Some(bytes) = self.inner.blobs.get(&self.key) {
            return Some(Progress::Held(bytes));
        }
        let name = FileName::new(Kind::Blob, &self.key);
        let found = self.inner.on_disk(move |disk| disk.find(name));
        let size = found.await.flatten()?.size();
        Some(Progress::Stored { size })
    }

    /// A small blob, in memory.
    async fn collect(&self, mut transfer: Transfer, size: u64) -> Result<Progress, UpstreamError> {
        let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
        while let Some(more) = transfer.next().await? {
            if (bytes.len() + more.len()) as u64 > size {
                return Err(other_size());
            }
            bytes.extend_from_slice(&more);
        }
        let (bytes, expected) = (bytes.freeze(), self.key.digest);
        let (bytes, found) = self
            .inner
            .blocking(move || {
                let found = Digest::of(expected.algorithm(), &bytes);
                (bytes, found)
            })
            .await
            .ok_or_else(|| given_up(&self.key))?;
        if found != expected {
            return Err(wrong_bytes(expected, found));
        }
        self.inner.blobs.insert(self.key.clone(), bytes.clone());
        // Nobody waits for the disk.
        self.progress.send_replace(Progress::Held(bytes.clone()));
        self.inner
            .keep_on_disk(FileName::new(Kind::Blob, &self.key), bytes.clone())
            .await;
        Ok(Progress::Held(bytes))
    }

    /// A large blob, in a file.
    async fn grow(&self, transfer: Transfer, draft: Draft) -> Result<Progress, UpstreamError> {
        self.progress.send_replace(Progress::Growing {
            path: draft.path().into(),
            size: transfer.size(),
            written: 0,
        });
        let mut growing = Some(Growing {
            draft,
            hasher: Hasher::new(self.key.digest.algorithm()),
        });
        let end = self.pour(transfer, &mut growing).await;
        // Removing a large file takes its time, too.
        if let Some(unfinished) = growing {
            self.inner.blocking(move || drop(unfinished)).await;
        }
        end
    }

    async fn pour(
        &self,
        mut transfer: Transfer,
        growing: &mut Option<Growing>,
    ) -> Result<Progress, UpstreamError> {
        let size = transfer.size();
        let mut abandoned = pin!(self.abandoned());
        loop {
            let ready = select! {
                ready = transfer.next_ready(BATCH_BYTES) => ready?,
                () = &mut abandoned => return Err(given_up(&self.key)),
            };
            let Some(ready) = ready else {
                return self.finish(size, growing).await;
            };
            let Some(mut file) = growing.take() else {
                return Err(given_up(&self.key));
            };
            let (file, appended) = self
                .inner
                .blocking(move || {
                    let appended = file.append(&ready);
                    (file, appended)
                })
                .await
                .ok_or_else(|| given_up(&self.key))?;
            let written = file.draft.written();
            let hasher = file.hasher.clone();
            *growing = Some(file);
            if appended.is_err() {
                let at = written;
                return Ok(Progress::Adrift { hasher, at });
            }
            if size.is_some_and(|size| written > size) {
                return Err(other_size());
            }
            self.progress.send_modify(|progress| {
                if let Progress::Growing { written: shown, .. } = progress {
                    *shown = written;
                }
            });
        }
    }

    /// A large blob that cannot be kept, through memory.
    async fn pass(
        &self,
        mut transfer: Transfer,
        spool: Arc<Spool>,
        listed: &mut Option<Listed>,
    ) -> Result<Progress, UpstreamError> {
        let size = transfer.size();
        let expected = self.key.digest;
        let mut hasher = Hasher::new(expected.algorithm());
        let mut come = 0;
        self.progress.send_replace(Progress::Passing {
            spool: Arc::clone(&spool),
            size,
        });
        while let Some(ready) = transfer.next_ready(BATCH_BYTES).await? {
            if spool.is_full() {
                // Whoever comes from now on has it brought once more, and is not alone with that.
                listed.take();
                if !spool.make_room().await {
                    // Nobody is left to tell. Who sits down at this very moment asks again.
                    return Ok(Progress::Passed);
                }
            }
            let hashed = self.inner.blocking(move || {
                let bytes = Bytes::from(ready.concat());
                hasher.update(&bytes);
                (bytes, hasher)
            });
            let bytes;
            (bytes, hasher) = hashed.await.ok_or_else(|| given_up(&self.key))?;
            come += bytes.len() as u64;
            if size.is_some_and(|size| come > size) {
                return Err(other_size());
            }
            spool.push(bytes, hasher.clone());
            self.progress.send_modify(|_| {});
        }
        let found = hasher.finish();
        if found != expected {
            return Err(wrong_bytes(expected, found));
        }
        if size.is_some_and(|size| size != come) {
            return Err(other_size());
        }
        spool.finish();
        Ok(Progress::Passed)
    }

    /// All has come: if it is right, the file gets its name.
    async fn finish(
        &self,
        claimed: Option<u64>,
        growing: &mut Option<Growing>,
    ) -> Result<Progress, UpstreamError> {
        let Some(Growing { draft, hasher }) = growing.take() else {
            return Err(given_up(&self.key));
        };
        let (size, expected) = (draft.written(), self.key.digest);
        let name = FileName::new(Kind::Blob, &self.key);
        let published = self.inner.blocking(move || {
            let found = hasher.finish();
            if found != expected {
                return Err(wrong_bytes(expected, found));
            }
            if claimed.is_some_and(|claimed| claimed != size) {
                return Err(other_size());
            }
            draft.publish(name);
            Ok(Progress::Stored { size })
        });
        published.await.ok_or_else(|| given_up(&self.key))?
    }

    /// Ends when nobody has read for a while, or the program is waiting for its tasks.
    async fn abandoned(&self) {
        let mut seconds = 0;
        while seconds < ABANDONED_SECONDS {
            self.progress.closed().await;
            sleep(Duration::from_secs(1)).await;
            let alone = self.progress.is_closed();
            if alone && self.inner.hands.tasks().is_closed() {
                return;
            }
            seconds = if alone { seconds + 1 } else { 0 };
        }
    }
}

impl Growing {
    fn append(&mut self, ready: &[Bytes]) -> std::io::Result<()> {
        for bytes in ready {
            self.draft.append(bytes)?;
            self.hasher.update(bytes);
        }
        Ok(())
    }
}

fn wrong_bytes(expected: Digest, found: Digest) -> UpstreamError {
    UpstreamError::WrongBytes {
        expected: Box::new(expected),
        found: Box::new(found),
    }
}

/// More or fewer bytes than the upstream had announced.
fn other_size() -> UpstreamError {
    UpstreamError::Malformed(MalformedAnswer::Range)
}
