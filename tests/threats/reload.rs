//! Reloads under load (THREATS C1): a configuration is edited on disk while pulls go on.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, StatusCode};
use pullgate::app::{self, Reloader};
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::sandbox::client::Client;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::Registry;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::{HOST, listen, push};

/// How often the policy is edited, and how many pull at the same time.
const EDITS: usize = 20;
const PULLERS: usize = 8;

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

// No request fails, every answer is of one policy as a whole, and none of an old one once the
// reload was reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_every_answer_under_a_reload_is_of_one_policy() {
    let world = Edited::start().await;
    let (reported, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, pulls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut pullers = tokio::task::JoinSet::new();
    for _ in 0..PULLERS {
        let client = Client::new(world.address);
        let (reported, written) = (Arc::clone(&reported), Arc::clone(&written));
        let (done, pulls) = (Arc::clone(&done), Arc::clone(&pulls));
        pullers.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let at_least = reported.load(Ordering::SeqCst);
                let refused = client
                    .get("/v2/refused/manifests/v1")
                    .await
                    .expect("an answer");
                let at_most = written.load(Ordering::SeqCst);
                assert_eq!(refused.status, StatusCode::FORBIDDEN);
                let told = generations(&refused.message().expect("a message"));
                let fits = |generation: &usize| (at_least..=at_most).contains(generation);
                assert!(
                    !told.is_empty() && told.iter().all(fits),
                    "{told:?} is not within {at_least} and {at_most}"
                );
                let free = client
                    .get("/v2/free/manifests/v1")
                    .await
                    .expect("an answer");
                assert_eq!(free.status, StatusCode::OK, "{:?}", free.message());
                pulls.fetch_add(2, Ordering::SeqCst);
            }
        });
    }
    let started = std::time::Instant::now();
    for generation in 1..=EDITS {
        // Every edit meets pulls: some have come since the one before.
        let before = pulls.load(Ordering::SeqCst);
        while pulls.load(Ordering::SeqCst) < before + 4 * PULLERS && !pullers.is_empty() {
            tokio::task::yield_now().await;
            assert!(pullers.try_join_next().is_none(), "a puller has ended");
        }
        written.store(generation, Ordering::SeqCst);
        write(world.folder.path(), generation);
        assert!(world.reloader.reload().await, "generation {generation}");
        reported.store(generation, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    // For whoever reads the log: no machine is slow enough to fail here.
    let rate = pulls.load(Ordering::SeqCst) as f64 / started.elapsed().as_secs_f64();
    println!("{EDITS} edits under {rate:.0} pulls a second");
    while let Some(ended) = pullers.join_next().await {
        ended.expect("a puller found everything in order");
    }
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
