//! What the store and its tasks share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::{
    ContentKey, Document,
    disk::{Disk, FileName},
    fill::Progress,
    pace::Paces,
};
use crate::flight::Flights;
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::upstream::LoginKey;
use crate::upstream::UpstreamError;

pub(super) type DocumentFlight = (ContentKey, Option<LoginKey>);
pub(super) type Answer<T> = Result<T, UpstreamError>;

/// What the store and its tasks share.
pub(super) struct Inner {
    pub(super) memory_blob_bytes_max: u64,
    pub(super) documents: moka::sync::Cache<ContentKey, Arc<Document>>,
    pub(super) blobs: moka::sync::Cache<ContentKey, Bytes>,
    pub(super) disk: Option<Arc<Disk>>,
    /// Places for blobs that pass through memory, since they cannot be kept.
    pub(super) spools: Arc<Semaphore>,
    pub(super) fills: Mutex<HashMap<ContentKey, watch::Sender<Progress>>>,
    /// By caller, where the registry is asked as one: a refusal is for nobody else.
    pub(super) document_flights: Flights<DocumentFlight, Answer<Arc<Document>>>,
    pub(super) whole_flights: Flights<ContentKey, Answer<Bytes>>,
    pub(super) verifications: Flights<ContentKey, ()>,
    pub(super) paces: Paces,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hands: Hands,
}

impl Inner {
    /// Runs what may block on a thread for that; `None` when it crashed.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.hands.tasks().spawn_blocking(work).await.ok()
    }

    /// Does something with the cache directory; `None` where there is none.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Disk>) -> T + Send + 'static,
    ) -> Option<T> {
        let disk = Arc::clone(self.disk.as_ref()?);
        self.blocking(move || work(&disk)).await
    }

    /// Writes verified bytes to the cache directory, where there is one.
    pub(super) async fn keep_on_disk(&self, name: FileName, bytes: Bytes) {
        self.on_disk(move |disk| disk.keep(name, &bytes)).await;
    }
}

/// The task that was to bring it ended without a word: the program is shutting down, or
/// crashed.
pub(super) fn given_up(key: &ContentKey) -> UpstreamError {
    UpstreamError::Unreachable {
        host: key.host.to_string(),
        cause: "the transfer was given up".to_owned(),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
