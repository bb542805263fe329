//! Reloads under load (THREATS C1): a configuration is edited on disk while pulls go on.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, StatusCode};
use pullgate::app::{self, Reloader};
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::sandbox::client::Client;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::Registry;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::{HOST, listen, push};

/// How often the policy is edited.
const EDITS: usize = 20;
/// How many pulls begin in a second, whether or not those before them have been answered.
const RATE: usize = 500;
/// For how many seconds at least.
const SECONDS: usize = 4;

/// A gate over a folder that can be edited, in front of a registry with two images.
struct Edited {
    folder: TempDir,
    reloader: Reloader,
    built: Arc<app::Built>,
    address: SocketAddr,
    _registry: Registry,
    _shutdown: DropGuard,
}

/// A line of the file of users. The password is the name.
fn user(name: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(name, 5).expect("a hash"))
}

/// One generation of policies: two files that say the same of `refused`, and let `free` pass.
fn write(folder: &Path, generation: usize) {
    for file in ["a", "b"] {
        let mut policy = String::new();
        let _ = write!(
            policy,
            "policies:\n  - name: {file}\n    images: [\"{HOST}/refused\"]\n    \
             deny: generation-{generation}.\n"
        );
        if file == "a" {
            let _ = write!(
                policy,
                "  - name: free\n    images: [\"{HOST}/free\"]\n    \
                 unsafe_allow_unsigned: {{ because: generation-{generation} }}\n"
            );
        }
        std::fs::write(folder.join(format!("{file}.yaml")), policy).expect("a file");
    }
}

impl Edited {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// One whose users log in with a password.
    async fn asking() -> Self {
        Self::start_with("callers: { htpasswd: users }\n").await
    }

    async fn start_with(more: &str) -> Self {
        let registry = Registry::start().await.expect("a port");
        for repository in ["free", "refused"] {
            push(
                &registry,
                repository,
                &image::runnable(repository).tagged("v1"),
            );
        }
        let folder = TempDir::new().expect("a folder");
        write(folder.path(), 0);
        let users = folder.path().join("users");
        std::fs::write(&users, user("alice")).expect("a file");
        let path = folder.path().join("pullgate.yaml");
        let configuration = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ {HOST}: {{ url: \"{}\" }} }}\ndefault_upstream: {HOST}\n\
             policies: [a.yaml, b.yaml]\n{more}",
            registry.url()
        );
        std::fs::write(&path, configuration).expect("a file");
        let clock = Clock::system();
        let loaded = config::load(&path, &app::checks(), clock.now()).expect("a configuration");
        let tasks = TaskTracker::new();
        let built = app::build(&loaded.settings, clock.clone(), tasks.clone()).expect("a gate");
        let built = Arc::new(built);
        let shutdown = CancellationToken::new();
        let service = Arc::clone(&built.service);
        let address = listen(service, built.connections, &shutdown, &tasks).await;
        let sources = loaded.sources;
        Self {
            folder,
            reloader: Reloader::new(path, sources, Arc::clone(&built), clock, None, Some(users)),
            built,
            address,
            _registry: registry,
            _shutdown: shutdown.drop_guard(),
        }
    }

    fn reloads(&self, outcome: &str) -> bool {
        let text = self.built.service.metrics.render().expect("metrics");
        text.contains(&format!(
            "pullgate_policy_reloads_total{{outcome=\"{outcome}\"}} 1"
        ))
    }
}

/// The generation that a text tells of.
fn generations(text: &str) -> Vec<usize> {
    let after = text.split("generation-").skip(1);
    let digits = after.map(|rest| rest.split('.').next().unwrap_or_default());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// What is known while pulls go on: the last generation that was written, and the last one whose
/// reload was reported.
struct Watched {
    client: Client,
    written: AtomicUsize,
    reported: AtomicUsize,
    sent: watch::Sender<usize>,
    done: AtomicBool,
}

impl Watched {
    fn of(world: &Edited) -> Arc<Self> {
        Arc::new(Self {
            client: Client::new(world.address),
            written: AtomicUsize::new(0),
            reported: AtomicUsize::new(0),
            sent: watch::Sender::new(0),
            done: AtomicBool::new(false),
        })
    }

    /// A pull that every generation refuses, with a message that tells which did.
    async fn refused(&self) {
        let at_least = self.reported.load(Ordering::SeqCst);
        let answer = self.client.get("/v2/refused/manifests/v1").await;
        let answer = answer.expect("an answer");
        let at_most = self.written.load(Ordering::SeqCst);
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        let told = generations(&answer.message().expect("a message"));
        let fits = |generation: &usize| (at_least..=at_most).contains(generation);
        assert!(
            !told.is_empty() && told.iter().all(fits),
            "{told:?} is not within {at_least} and {at_most}"
        );
    }

    /// A pull that every generation lets pass.
    async fn free(&self) {
        let answer = self.client.get("/v2/free/manifests/v1").await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.message());
    }

    /// Begins [`RATE`] pulls in every second until the edits are done, and for [`SECONDS`] at
    /// least. What is late is caught up with, so that a slow machine sends as many.
    async fn load(self: Arc<Self>) -> (JoinSet<()>, Duration) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
        let mut pulls = JoinSet::new();
        let begun = Instant::now();
        while !self.done.load(Ordering::SeqCst)
            || pulls.len() < RATE * SECONDS
            || pulls.len() < RATE * begun.elapsed().as_secs() as usize
        {
            ticks.tick().await;
            let watched = Arc::clone(&self);
            match pulls.len() % 2 {
                0 => pulls.spawn(async move { watched.refused().await }),
                _ => pulls.spawn(async move { watched.free().await }),
            };
            self.sent.send_replace(pulls.len());
        }
        (pulls, begun.elapsed())
    }
}

// No request fails, every answer is of one policy as a whole, and none of an old one once the
// reload was reported, under 500 pulls a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_every_answer_under_a_reload_is_of_one_policy() {
    let world = Edited::start().await;
    let watched = Watched::of(&world);
    let load = tokio::spawn(Arc::clone(&watched).load());
    let mut sent = watched.sent.subscribe();
    for generation in 1..=EDITS {
        // Every edit meets pulls: some have begun since the one before.
        let next = *sent.borrow() + RATE * SECONDS / (EDITS + 1);
        sent.wait_for(|sent| *sent >= next).await.expect("pulls");
        watched.written.store(generation, Ordering::SeqCst);
        write(world.folder.path(), generation);
        assert!(world.reloader.reload().await, "generation {generation}");
        watched.reported.store(generation, Ordering::SeqCst);
    }
    watched.done.store(true, Ordering::SeqCst);
    let (mut pulls, lasted) = load.await.expect("the pulls begin");
    let sent = *sent.borrow();
    assert!(sent >= RATE * SECONDS.max(lasted.as_secs() as usize));
    let mut answered = 0;
    while let Some(ended) = pulls.join_next().await {
        ended.expect("a puller found everything in order");
        answered += 1;
    }
    assert_eq!(answered, sent);
    println!("{EDITS} edits under {sent} pulls in {lasted:?}");
    // Each decision holds both policies, and both are of one generation.
    let mut seen = std::collections::BTreeSet::new();
    for record in world.built.service.decisions.latest(100_000) {
        let record = record.to_json();
        if record["verdict"] != "denied" {
            continue;
        }
        let told = generations(&record["policies"].to_string());
        assert_eq!(told.len(), 2, "{record}");
        assert_eq!(told[0], told[1], "half of a policy: {record}");
        seen.insert(told[0]);
    }
    assert!(seen.len() > EDITS / 2, "{seen:?}");
}

#[tokio::test]
async fn c1_a_changed_file_is_in_force_without_a_signal() {
    let world = Edited::start().await;
    let client = Client::new(world.address);
    let told = async || {
        let answer = client
            .get("/v2/refused/manifests/v1")
            .await
            .expect("an answer");
        generations(&answer.message().expect("a message"))
    };
    assert_eq!(told().await, [0]);
    world.reloader.reload_if_changed().await;
    assert!(!world.reloads("success"), "nothing has changed");
    write(world.folder.path(), 1);
    world.reloader.reload_if_changed().await;
    assert_eq!(told().await, [1]);
    assert!(world.reloads("success"));
    // A broken edit is told of once, and the running policy stays.
    std::fs::write(
        world.folder.path().join("b.yaml"),
        "policies: [{ title: b }]",
    )
    .expect("a file");
    for _ in 0..2 {
        world.reloader.reload_if_changed().await;
        assert_eq!(told().await, [1]);
        assert!(world.reloads("failure"));
    }
    // It is mended.
    write(world.folder.path(), 2);
    world.reloader.reload_if_changed().await;
    assert_eq!(told().await, [2]);
}

// Users are taken up with the other files, and whatever becomes of these: somebody who has to go
// goes, though a policy is broken.
#[tokio::test]
async fn users_are_taken_up_though_a_policy_is_broken() {
    let world = Edited::asking().await;
    let client = Client::new(world.address);
    let status = async |name: &str| {
        let login = BASE64_STANDARD.encode(format!("{name}:{name}"));
        let value = format!("Basic {login}");
        let headers = [("Authorization", value.as_str())];
        let answer = client.ask(Method::GET, "/v2/", &headers).await;
        answer.expect("an answer").status
    };
    assert_eq!(status("alice").await, StatusCode::OK);
    assert_eq!(status("bob").await, StatusCode::UNAUTHORIZED);
    let file = |name: &str| world.folder.path().join(name);
    std::fs::write(file("b.yaml"), "policies: [{ title: b }]").expect("a file");
    std::fs::write(file("users"), user("bob")).expect("a file");
    world.reloader.reload_if_changed().await;
    assert!(world.reloads("failure"));
    assert_eq!(status("bob").await, StatusCode::OK);
    assert_eq!(status("alice").await, StatusCode::UNAUTHORIZED);
    // What does not read leaves the users as they are.
    std::fs::write(file("users"), "bob:plain\n").expect("a file");
    world.reloader.reload_if_changed().await;
    assert_eq!(status("bob").await, StatusCode::OK);
}
