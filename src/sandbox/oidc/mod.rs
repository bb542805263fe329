//! An OpenID Connect issuer within the process, on loopback: discovery document, keys, and
//! tokens of every kind that a relying party meets, right ones and wrong ones.
//!
//! A [`Token`] says what its claims are, which algorithm signs it, and which [`Fault`] it has;
//! [`Issuer::mint`] makes it. Keys are made when they are first asked for and published until
//! they are [rotated away](Issuer::rotate). What the issuer answers can be spoilt by a
//! [`Misdeed`]. A foreign issuer is a second one.
//!
//! What this room does not know: how tokens are verified, and who may pull what. It signs with
//! primitives and not with the library that the verifier uses, so that the two cannot share a
//! mistake.

mod key;
mod serve;
mod shapes;
mod token;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use key::Algorithm;
pub use token::{Fault, Token};

use key::SigningKey;

/// Where the discovery document is (OpenID Connect Discovery 1.0, section 4), below the issuer.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the keys are.
pub const KEYS: &str = "/keys";

/// What an issuer does that it should not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misdeed {
    /// Answers 503 to everything.
    Down,
    /// Accepts requests and answers none.
    Hang,
    /// Its discovery document says that it is another issuer.
    OtherIssuer(String),
    /// Its discovery document says that the keys are elsewhere.
    KeysElsewhere(String),
    /// Sends the caller elsewhere.
    Redirect(String),
    /// Its keys are so many bytes and no end.
    LargeKeys(usize),
    /// Answers with what is no JSON.
    NoJson,
}

/// A running issuer. A clone is another handle to the same one; it stops when the last handle
/// is dropped.
#[derive(Clone)]
pub struct Issuer {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    _until_dropped: Arc<DropGuard>,
}

/// What the handles and the accept loop share.
struct Shared {
    address: SocketAddr,
    path: String,
    keys: Mutex<Vec<Arc<SigningKey>>>,
    misdeed: Mutex<Option<Misdeed>>,
    requests: Mutex<Vec<String>>,
    recorded: Notify,
    stopped: CancellationToken,
}

impl Shared {
    fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    fn discovery(&self) -> Value {
        let url = self.url();
        let (mut issuer, mut keys) = (url.clone(), format!("{url}{KEYS}"));
        match &*locked(&self.misdeed) {
            Some(Misdeed::OtherIssuer(other)) => issuer.clone_from(other),
            Some(Misdeed::KeysElsewhere(other)) => keys.clone_from(other),
            _ => {}
        }
        let algorithms = Algorithm::ALL.map(Algorithm::name);
        json!({
            "issuer": issuer,
            "jwks_uri": keys,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    fn keys(&self) -> Value {
        let published: Vec<Value> = locked(&self.keys).iter().map(|key| key.jwk()).collect();
        json!({"keys": published})
    }
}

impl Issuer {
    /// Starts an issuer without a path on a free port of the loopback interface; its accept
    /// loop runs on the current runtime.
    ///
    /// # Errors
    /// When no port of the loopback interface can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_at("").await
    }

    /// Starts an issuer whose URL ends in `path`, like those of tenants: `/tenant-a`.
    ///
    /// # Errors
    /// When no port of the loopback interface can be bound.
    pub async fn start_at(path: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let stopped = CancellationToken::new();
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            path: path.to_owned(),
            keys: Mutex::default(),
            misdeed: Mutex::default(),
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

    /// Stops serving for all handles: when this returns, connections are refused. Tokens can
    /// still be minted.
    pub async fn stop(&self) {
        self.shared.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Its URL, which is `iss` in its tokens.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// Mints a token at `now`. The key for its algorithm is made and published if there is
    /// none.
    #[must_use]
    pub fn mint(&self, token: &Token, now: Timestamp) -> String {
        token.minted(&self.url(), &self.key(token.signed_with()), now)
    }

    /// Replaces the keys of an algorithm by a new one: tokens signed before are no longer good
    /// for those who ask for the keys from now on.
    pub fn rotate(&self, algorithm: Algorithm) {
        let mut keys = locked(&self.shared.keys);
        keys.retain(|key| key.algorithm() != algorithm);
        keys.push(Arc::new(SigningKey::generate(algorithm)));
    }

    /// Misbehaves from now on, in this one way.
    pub fn misbehave(&self, misdeed: Misdeed) {
        *locked(&self.shared.misdeed) = Some(misdeed);
    }

    /// Behaves again. Who hangs goes on hanging.
    pub fn behave(&self) {
        *locked(&self.shared.misdeed) = None;
    }

    /// How often this path below the issuer was asked for: [`DISCOVERY`] or [`KEYS`].
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        let whole = format!("{}{path}", self.shared.path);
        let requests = locked(&self.shared.requests);
        requests.iter().filter(|request| **request == whole).count()
    }

    /// Waits until this path was asked for so often: a test need not sleep.
    pub async fn wait_for(&self, count: usize, path: &str) {
        loop {
            // Made before counting, so that no request slips in between unnoticed.
            let another = self.shared.recorded.notified();
            if self.count(path) >= count {
                return;
            }
            another.await;
        }
    }

    /// The key that signs with `algorithm` now.
    fn key(&self, algorithm: Algorithm) -> Arc<SigningKey> {
        let mut keys = locked(&self.shared.keys);
        if let Some(key) = keys.iter().find(|key| key.algorithm() == algorithm) {
            return Arc::clone(key);
        }
        let key = Arc::new(SigningKey::generate(algorithm));
        keys.push(Arc::clone(&key));
        key
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

/// Takes a lock. A poisoned one means that a test has panicked elsewhere; what the lock guards
/// is whole all the same, since nothing here panics half-way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
