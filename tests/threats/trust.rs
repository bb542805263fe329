//! Trust roots that a TUF mirror keeps fresh (THREATS R1, R2), through the whole program: a
//! configuration is read, the gate is built from it and asked over HTTP. What a mirror may send
//! is tried one by one in `src/trust/tests.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::StatusCode;
use jiff::SignedDuration;
use pullgate::app::{self, Built};
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::sandbox::client::Client;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::Sigstore;
use pullgate::sandbox::tuf::{Mirror, Repository, Served};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{HOST, listen, push, recipe, release};

const DAY: i64 = 24 * 3600;

/// A private Sigstore whose trusted root a TUF repository publishes, and the gate in front of a
/// registry with one image that this Sigstore vouches for.
struct Trusting {
    registry: Registry,
    sigstore: Sigstore,
    repository: Repository,
    mirror: Mirror,
    image: Package,
    seconds_passed: Arc<AtomicI64>,
    folder: TempDir,
    running: Option<Running>,
}

struct Running {
    built: Built,
    address: SocketAddr,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

fn clock(passed: &Arc<AtomicI64>) -> Clock {
    let (passed, system) = (Arc::clone(passed), Clock::system());
    Clock::from_fn(move || system.now() + SignedDuration::from_secs(passed.load(Ordering::SeqCst)))
}

impl Trusting {
    /// The mirror has the trusted root; the gate is not running yet.
    async fn new() -> Self {
        let seconds_passed = Arc::new(AtomicI64::new(0));
        let now = clock(&seconds_passed).now();
        let registry = Registry::start().await.expect("a port");
        let sigstore = Sigstore::new(now - SignedDuration::from_secs(60));
        let mut repository = Repository::new(now);
        repository.publish(&sigstore.trusted_root_json());
        let mirror = Mirror::start().await.expect("a port");
        mirror.serve(&repository);
        let image = image::runnable("trusted").tagged("v1");
        push(&registry, "app", &image);
        let identity = release();
        let signature = sigstore.sign_bundle(&image.descriptor(), &recipe(&identity));
        push(&registry, "app", &signature);
        let folder = TempDir::new().expect("a folder");
        let world = Self {
            registry,
            sigstore,
            repository,
            mirror,
            image,
            seconds_passed,
            folder,
            running: None,
        };
        world.write();
        world
    }

    fn write(&self) {
        self.write_with("");
    }

    /// With more keys of the trust root.
    fn write_with(&self, more: &str) {
        let configuration = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ {HOST}: {{ url: \"{}\" }} }}\ndefault_upstream: {HOST}\n\
             policies: [policy.yaml]\n\
             trust_roots: {{ acme: {{ tuf: {{ mirror: \"{}\", root: root.json }}{more} }} }}\n\
             cache: {{ directory: cache, unsigned_ttl: 0s, tag_ttl: 0s }}\n\
             limits: {{ trust_root_stale_max: 3d, answer_timeout: 1s }}\n",
            self.registry.url(),
            self.mirror.url(),
        );
        let policy = format!(
            "signers:\n  release:\n    keyless:\n      issuer: github-actions\n      \
             identity: {}\n      trust_root: acme\n\
             policies:\n  - name: signed\n    images: [\"{HOST}/app\"]\n    signed_by: release\n  \
             - name: never\n    images: [\"{HOST}/never\"]\n    deny: because\n    \n",
            release().subject
        );
        let path = |name: &str| self.folder.path().join(name);
        std::fs::write(path("pullgate.yaml"), configuration).expect("a file");
        std::fs::write(path("policy.yaml"), policy).expect("a file");
        std::fs::write(path("root.json"), self.repository.pinned()).expect("a file");
    }

    fn clock(&self) -> Clock {
        clock(&self.seconds_passed)
    }

    fn pass(&self, days: i64) {
        self.seconds_passed.fetch_add(days * DAY, Ordering::SeqCst);
    }

    /// Starts the gate, or starts it again over the same folder. Asks no mirror.
    async fn start(&mut self) {
        if let Some(running) = self.running.take() {
            // The directory is free when nothing of the old gate runs any more.
            running.shutdown.cancel();
            running.tasks.close();
            running.tasks.wait().await;
        }
        let path = self.folder.path().join("pullgate.yaml");
        let now = self.clock().now();
        let loaded = config::load(&path, &app::checks(), now).expect("a configuration");
        let tasks = TaskTracker::new();
        let built = app::build(&loaded.settings, self.clock(), tasks.clone()).expect("a gate");
        built.apply_trust(now);
        let shutdown = CancellationToken::new();
        let service = Arc::clone(&built.service);
        let address = listen(service, built.connections, &shutdown, &tasks).await;
        self.running = Some(Running {
            built,
            address,
            tasks,
            shutdown,
        });
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("started")
    }

    /// One round of what the gate does in the background.
    async fn refresh(&self) {
        self.running().built.refresh_trust(&self.clock()).await;
    }

    /// The status of a pull, and what people are told where it is refused.
    async fn pull(&self, repository: &str) -> (StatusCode, String) {
        let client = Client::new(self.running().address);
        let path = format!("/v2/{repository}/manifests/v1");
        let answer = client.get(&path).await.expect("an answer");
        if answer.status == StatusCode::OK {
            assert_eq!(answer.body, self.image.manifest);
        }
        (answer.status, answer.message().unwrap_or_default())
    }

    #[track_caller]
    fn counts(&self, metric: &str) {
        let text = self
            .running()
            .built
            .service
            .metrics
            .render()
            .expect("metrics");
        assert!(text.lines().any(|line| line == metric), "{metric}\n{text}");
    }

    async fn admits(&self) {
        let (status, message) = self.pull("app").await;
        assert_eq!(status, StatusCode::OK, "{message}");
    }

    async fn cannot_tell(&self, why: &str) {
        let (status, message) = self.pull("app").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{message}");
        assert!(message.contains("[trust_root_unavailable]"), "{message}");
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn r1_without_any_root_nobody_can_tell() {
    let mut world = Trusting::new().await;
    world.mirror.down(true);
    world.start().await;
    world.refresh().await;
    world.cannot_tell("was never had").await;
    // A refusal that needs no proof is one.
    push(&world.registry, "never", &world.image);
    let (status, message) = world.pull("never").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{message}");
    world.counts("pullgate_trust_root_usable{root=\"acme\"} 0");
    world.counts("pullgate_trust_root_refreshes_total{outcome=\"unreachable\",root=\"acme\"} 1");
    // The mirror is back; a minute later it is asked again.
    world.mirror.down(false);
    world.seconds_passed.fetch_add(61, Ordering::SeqCst);
    world.refresh().await;
    world.admits().await;
    world.counts("pullgate_trust_root_usable{root=\"acme\"} 1");
    world.counts("pullgate_trust_epoch 2");
}

#[tokio::test]
async fn r1_the_last_good_root_is_used_to_a_bound() {
    let mut world = Trusting::new().await;
    world.start().await;
    world.refresh().await;
    world.admits().await;
    // The mirror goes away: at a refresh, and at a start.
    world.mirror.down(true);
    world.pass(2);
    world.refresh().await;
    world.admits().await;
    world.start().await;
    world.admits().await;
    // Beyond the bound nobody can tell, whatever was admitted and is cached.
    world.pass(2);
    world.refresh().await;
    world.cannot_tell("could be used until").await;
    world.counts("pullgate_trust_root_usable{root=\"acme\"} 0");
    world.start().await;
    world.cannot_tell("could be used until").await;
    // It is back.
    world.mirror.down(false);
    world.refresh().await;
    world.admits().await;
}

// Beyond the bound the configured mode decides; the other one keeps what was good, and tells how old it
// is.
#[tokio::test]
async fn r1_beyond_the_bound_the_configured_mode_decides() {
    let mut world = Trusting::new().await;
    world.write_with(", unsafe_keep_stale: true");
    world.start().await;
    world.refresh().await;
    world.admits().await;
    world.mirror.down(true);
    for restarted in [false, true] {
        if restarted {
            world.start().await;
        }
        world.pass(100);
        world.refresh().await;
        world.admits().await;
        world
            .counts("pullgate_trust_root_refreshes_total{outcome=\"unreachable\",root=\"acme\"} 1");
    }
}

#[tokio::test]
async fn r1_an_expired_timestamp_confirms_nothing() {
    let mut world = Trusting::new().await;
    world.start().await;
    world.refresh().await;
    world.admits().await;
    // A mirror that shows the same for ever. The timestamp lasts seven days; on the sixth it was
    // confirmed for the last time.
    world.pass(6);
    world.refresh().await;
    world.pass(2);
    world.refresh().await;
    world.admits().await;
    world.counts("pullgate_trust_root_refreshes_total{outcome=\"refused\",root=\"acme\"} 1");
    world.pass(2);
    world.refresh().await;
    world.cannot_tell("timestamp metadata expired").await;
}

#[tokio::test]
async fn r1_a_clock_that_is_wrong_is_survived() {
    let mut world = Trusting::new().await;
    world.start().await;
    world.refresh().await;
    world.admits().await;
    world.pass(1000);
    world.refresh().await;
    world.cannot_tell("metadata expired").await;
    world.pass(-1000);
    world.refresh().await;
    world.admits().await;
}

#[tokio::test]
async fn r2_an_older_state_is_refused() {
    let mut world = Trusting::new().await;
    let old = world.repository.files.clone();
    // The maintainers take the certificate authority away that has signed the image.
    let clean = Sigstore::new(world.clock().now() - SignedDuration::from_secs(60));
    world.repository.publish(&clean.trusted_root_json());
    world.mirror.serve(&world.repository);
    world.start().await;
    world.refresh().await;
    let (status, message) = world.pull("app").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{message}");
    // Somebody shows the state of before.
    for (name, bytes) in old {
        world.mirror.put(&name, Served::Bytes(bytes));
    }
    for restarted in [false, true] {
        if restarted {
            world.start().await;
        }
        world.pass(1);
        world.refresh().await;
        let (status, message) = world.pull("app").await;
        assert_eq!(
            status,
            StatusCode::FORBIDDEN,
            "restarted: {restarted}: {message}"
        );
        world.counts("pullgate_trust_root_refreshes_total{outcome=\"refused\",root=\"acme\"} 1");
    }
}

#[tokio::test]
async fn r2_a_rotation_is_in_force_with_the_next_request() {
    let mut world = Trusting::new().await;
    world.start().await;
    world.refresh().await;
    world.admits().await;
    world.counts("pullgate_trust_epoch 2");
    // Other keys of the repository, and another Sigstore: what the old one signed is nothing.
    let other = Sigstore::new(world.clock().now() - SignedDuration::from_secs(60));
    world.repository.rotate_root();
    world.repository.rotate_timestamp();
    world.repository.publish(&other.trusted_root_json());
    world.mirror.serve(&world.repository);
    world.pass(1);
    world.refresh().await;
    let (status, message) = world.pull("app").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{message}");
    assert!(message.contains("[invalid_signature]"), "{message}");
    world.counts("pullgate_trust_epoch 3");
    // And back, by a newer version: allowed.
    world
        .repository
        .publish(&world.sigstore.trusted_root_json());
    world.mirror.serve(&world.repository);
    world.pass(1);
    world.refresh().await;
    world.admits().await;
}

// A mirror that hangs ends at its deadline, and no pull waits for it.
#[tokio::test]
async fn r1_a_mirror_that_hangs_holds_up_nobody() {
    let mut world = Trusting::new().await;
    world.start().await;
    world.refresh().await;
    world.mirror.put("timestamp.json", Served::Silence);
    world.pass(1);
    let refresh = world.refresh();
    let pulls = async {
        for _ in 0..10 {
            world.admits().await;
        }
    };
    let both = async { tokio::join!(refresh, pulls) };
    let ended = tokio::time::timeout(Duration::from_secs(30), both).await;
    assert!(
        ended.is_ok(),
        "the deadline of an answer is one second here"
    );
    world.admits().await;
}
