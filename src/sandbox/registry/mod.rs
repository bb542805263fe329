//! An OCI registry within the process, on loopback, that can be told to misbehave.
//!
//! It answers pulls as the distribution-spec says: manifests, blobs, tag lists, referrers, and
//! the token dance in front of them. Content is put by method and not over HTTP, so a push is
//! answered 405. Every request is recorded, and every answer can be spoilt by a [`Fault`].
//!
//! Read `endpoints.rs` for what an honest registry does and `misdeed.rs` for what others do. This
//! module knows no policy, no signatures and no proxy; the bytes it is given may be as wrong as
//! a test wants them. It forgets nothing: what it holds and records grows with its use.

mod auth;
mod content;
mod endpoints;
mod fault;
mod images;
mod misdeed;
mod request;
mod serve;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::oci::Digest;

pub use auth::{Auth, Login};
pub use fault::{Fault, FaultId};
pub use misdeed::Misdeed;
pub use request::{Endpoint, Recorded};

use auth::Door;
use content::Content;
use fault::Faults;

/// What a registry is like, apart from its content.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether there is a referrers API. Without one, `referrers` is 404 and
    /// [`Registry::put_manifest`] keeps the fallback tag `sha256-<hex>`, as pushing clients do.
    pub referrers_api: bool,
    /// How many descriptors one page of referrers lists at most.
    pub referrers_per_page: usize,
    /// Who may pull.
    pub auth: Auth,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            referrers_api: true,
            referrers_per_page: 100,
            auth: Auth::None,
        }
    }
}

/// A running registry. A clone is another handle to the same one; it stops when the last
/// handle is dropped.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    _until_dropped: Arc<DropGuard>,
}

/// What the handles and the accept loop share.
struct Shared {
    address: SocketAddr,
    options: Options,
    content: Mutex<Content>,
    door: Door,
    faults: Faults,
    requests: Mutex<Vec<Recorded>>,
    recorded: Notify,
    stopped: CancellationToken,
}

impl Registry {
    /// Starts an open registry with a referrers API.
    ///
    /// # Errors
    /// When no port of the loopback interface can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a registry on a free port of the loopback interface; its accept loop runs on the
    /// current runtime.
    ///
    /// # Errors
    /// When no port of the loopback interface can be bound.
    pub async fn start_with(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stopped = CancellationToken::new();
        let shared = Arc::new(Shared {
            address,
            door: Door::new(options.auth.clone(), address),
            options,
            content: Mutex::default(),
            faults: Faults::default(),
            requests: Mutex::default(),
            recorded: Notify::new(),
            stopped: stopped.clone(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(serve::run(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            tasks,
            _until_dropped: Arc::new(stopped.drop_guard()),
        })
    }

    /// Stops serving for all handles: when this returns, connections are refused.
    pub async fn stop(&self) {
        self.shared.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Where it listens. As text, this is also the host that image names carry.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// `http://` and the address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }
}

/// Content. A repository is there as soon as something is put into it.
impl Registry {
    /// Puts a blob.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        self.content().repository(repository).put_blob(bytes.into())
    }

    /// Puts a manifest, whatever its bytes are, and points `tag` to it. Where the bytes name a
    /// `subject`, it becomes one of that subject's referrers.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let mut content = self.content();
        let repository = content.repository(repository);
        let digest = repository.put_manifest(media_type, bytes.into());
        if let Some(tag) = tag {
            repository.tag(tag, digest);
        }
        if !self.shared.options.referrers_api {
            repository.update_fallback_tag(&digest);
        }
        digest
    }

    /// Points a tag to a digest, be it there or not.
    pub fn tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.content().repository(repository).tag(tag, digest);
    }

    /// Removes a tag; the manifest stays.
    pub fn untag(&self, repository: &str, tag: &str) {
        self.content().repository(repository).untag(tag);
    }

    /// Removes the manifest or blob of that digest; tags that point to it dangle.
    pub fn delete(&self, repository: &str, digest: &Digest) {
        self.content().repository(repository).delete(digest);
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        locked(&self.shared.content)
    }
}

/// What was asked.
impl Registry {
    /// Every request since the start or the last [`clear_requests`](Self::clear_requests), in
    /// the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        locked(&self.shared.requests).clone()
    }

    /// Forgets the requests recorded so far.
    pub fn clear_requests(&self) {
        locked(&self.shared.requests).clear();
    }

    /// How many of the recorded requests `predicate` holds for.
    #[must_use]
    pub fn count(&self, predicate: impl Fn(&Recorded) -> bool) -> usize {
        let requests = locked(&self.shared.requests);
        requests.iter().filter(|request| predicate(request)).count()
    }

    /// Waits until `count` recorded requests fulfil `predicate`: a test need not sleep.
    pub async fn wait_for(&self, count: usize, predicate: impl Fn(&Recorded) -> bool) {
        loop {
            // Made before counting, so that no request slips in between unnoticed.
            let another = self.shared.recorded.notified();
            if self.count(&predicate) >= count {
                return;
            }
            another.await;
        }
    }
}

/// Misbehaviour.
impl Registry {
    /// Misbehaves from now on, as often as `fault` says. Several faults that match one request
    /// are applied in the order in which they were given.
    pub fn misbehave(&self, fault: impl Into<Fault>) -> FaultId {
        self.shared.faults.add(fault.into())
    }

    /// Ends one fault; requests that [`Misdeed::Hang`] holds are answered.
    pub fn forgive(&self, fault: FaultId) {
        self.shared.faults.remove(fault);
    }

    /// Ends all faults.
    pub fn behave(&self) {
        self.shared.faults.clear();
    }

    /// Makes every token issued so far invalid, as if it had expired.
    pub fn revoke_tokens(&self) {
        self.shared.door.revoke_tokens();
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

/// Takes a lock. A poisoned one means that a test has panicked elsewhere; what the lock guards
/// is whole all the same, since nothing here panics half-way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
