//! THREATS C7: a tag that is moved back to older content, which is still signed as policy asks.
//! Asked over HTTP of a gate that is built from its configuration, and that is started anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use pullgate::app::{self, Reloader};
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::content::{Mark, TagKey};
use pullgate::oci::{Digest, Reference};
use pullgate::policy::{NoRollback, Policy};
use pullgate::sandbox::client::{Answer, Client};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{Identity, KeyPair, Sigstore};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::policy_json::{enforce_beside, named, scopes, sign_by_key, signed_with};
use crate::support::{
    self, HOST, Setup, identity_rule, listen, push, recipe, release, rules, settings, signed_by,
    stranger,
};

/// What outlives a process: the registry, who signs, and the folder with all files.
struct World {
    registry: Registry,
    sigstore: Sigstore,
    now: Timestamp,
    folder: TempDir,
}

/// A gate while it runs.
struct Process {
    client: Client,
    reloader: Reloader,
    built: Arc<app::Built>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl World {
    async fn start() -> Self {
        let now = Clock::system().now() - SignedDuration::from_secs(60);
        let world = Self {
            registry: Registry::start().await.expect("a port"),
            sigstore: Sigstore::new(now),
            now,
            folder: TempDir::new().expect("a folder"),
        };
        world.write("root.json", &world.sigstore.trusted_root_json());
        world.configure("directory: cache, ", "");
        world.rule("no_rollback: true");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn configure(&self, cache: &str, limits: &str) {
        let text = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ {HOST}: {{ url: \"{}\" }} }}\ndefault_upstream: {HOST}\n\
             policies: [policy.yaml]\ntrust_roots: {{ acme: {{ file: root.json }} }}\n\
             default_trust_root: acme\ncache: {{ {cache}tag_ttl: 0s, unsigned_ttl: 1ms }}\n\
             limits: {{ {limits} }}\n",
            self.registry.url()
        );
        self.write("pullgate.yaml", &text);
    }

    /// Any of two may sign.
    fn rule(&self, lines: &str) {
        let signer = |name: &str, identity: &Identity| {
            format!(
                "  {name}: {{ keyless: {{ issuer: \"{}\", identity: \"{}\" }} }}\n",
                identity.issuer, identity.subject
            )
        };
        let text = format!(
            "signers:\n{}{}policies:\n  - name: releases\n    images: [\"{HOST}/**\"]\n    \
             signed_by: {{ any: [release, other] }}\n    {lines}\n",
            signer("release", &release()),
            signer("other", &stranger()),
        );
        self.write("policy.yaml", &text);
    }

    /// An image that was signed so many hours ago.
    fn push(&self, content: &str, hours_ago: i64) -> Package {
        let package = image::runnable(content);
        push(&self.registry, "app", &package);
        self.sign(&package, hours_ago, &release());
        package
    }

    fn sign(&self, package: &Package, hours_ago: i64, identity: &Identity) {
        let then = self.now - SignedDuration::from_hours(hours_ago);
        let sigstore = self.sigstore.at(then);
        let bundle = sigstore.sign_bundle(&package.descriptor(), &recipe(identity));
        push(&self.registry, "app", &bundle);
    }

    fn tag(&self, tag: &str, package: &Package) {
        self.registry.tag("app", tag, package.digest());
    }

    /// Runs over a tag that has moved from old to new content, and been moved back.
    async fn moved_back(&self) -> (Process, Package, Package) {
        let (old, new) = (self.push("old", 5), self.push("new", 3));
        let gate = self.run().await;
        self.tag("v1", &new);
        gate.admits("v1", &new).await;
        self.tag("v1", &old);
        (gate, old, new)
    }

    async fn run(&self) -> Process {
        let path = self.path("pullgate.yaml");
        let clock = Clock::system();
        let loaded = config::load(&path, &app::checks(), clock.now()).expect("a configuration");
        let tasks = TaskTracker::new();
        let built = app::build(&loaded.settings, clock.clone(), tasks.clone()).expect("a gate");
        let built = Arc::new(built);
        let shutdown = CancellationToken::new();
        let service = Arc::clone(&built.service);
        let address = listen(service, built.connections, &shutdown, &tasks).await;
        let reloader = Reloader::new(path, loaded.sources, Arc::clone(&built), clock, None, None);
        Process {
            client: Client::new(address),
            reloader,
            built,
            shutdown,
            tasks,
        }
    }
}

impl Process {
    async fn get(&self, reference: impl ToString) -> Answer {
        let target = format!("/v2/app/manifests/{}", reference.to_string());
        self.client.get(&target).await.expect("an answer")
    }

    async fn head(&self, reference: impl ToString) -> Answer {
        let target = format!("/v2/app/manifests/{}", reference.to_string());
        let asked = self.client.ask(Method::HEAD, &target, &[]).await;
        asked.expect("an answer")
    }

    async fn admits(&self, reference: impl ToString, package: &Package) {
        let answer = self.get(reference).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.message());
        assert_eq!(answer.body, package.manifest);
    }

    /// What the refusal says.
    async fn denies(&self, reference: impl ToString) -> String {
        let answer = self.get(reference).await;
        let message = answer.message().unwrap_or_default();
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{message}");
        assert!(message.contains("[denied_by_policy]"), "{message}");
        message
    }

    /// Puts these lines of the policy in force.
    async fn ruled(&self, world: &World, lines: &str) {
        world.rule(lines);
        assert!(self.reloader.reload().await);
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        drop((self.reloader, self.built));
    }
}

// A tag that is moved back is refused, to GET and HEAD, at once and after a restart; what it named
// passes by its digest, and the tag as soon as it moves on.
#[tokio::test]
async fn c7_a_tag_that_is_moved_back_is_refused() {
    let world = World::start().await;
    let (old, new) = (world.push("old", 5), world.push("new", 3));
    let gate = world.run().await;
    world.tag("v1", &old);
    gate.admits("v1", &old).await;
    world.tag("v1", &new);
    gate.admits("v1", &new).await;
    gate.admits("v1", &new).await;
    world.tag("v1", &old);
    let message = gate.denies("v1").await;
    for told in [old.digest(), new.digest()] {
        assert!(message.contains(&told.to_string()), "{message}");
    }
    assert!(message.contains("signed at"), "{message}");
    // A client that learnt the digest from a HEAD would go on with it.
    let head = gate.head("v1").await;
    assert_eq!(head.header("docker-content-digest"), None, "{head:?}");
    assert!(head.body.is_empty());
    gate.admits(old.digest(), &old).await;
    // Another tag has its own past.
    world.tag("v0", &old);
    gate.admits("v0", &old).await;
    gate.end().await;

    let gate = world.run().await;
    gate.denies("v1").await;
    gate.admits("v0", &old).await;
    world.tag("v1", &new);
    gate.admits("v1", &new).await;
    gate.end().await;
}

// A HEAD serves as much as a GET does: containerd asks for tags by HEAD only.
#[tokio::test]
async fn c7_what_a_head_told_was_served() {
    let world = World::start().await;
    let (old, new) = (world.push("old", 5), world.push("new", 3));
    let gate = world.run().await;
    world.tag("v1", &new);
    let head = gate.head("v1").await;
    let digest = new.digest().to_string();
    assert_eq!(head.header("docker-content-digest"), Some(digest.as_str()));
    gate.end().await;
    let gate = world.run().await;
    world.tag("v1", &old);
    gate.denies("v1").await;
    gate.end().await;
}

// The ways back that people have: a new signature by a signer who counts, the digest in the
// policy; and a signature by somebody else is none.
#[tokio::test]
async fn c7_who_means_it_can_go_back() {
    let world = World::start().await;
    let (gate, old, new) = world.moved_back().await;
    let nobody = Identity::email("eve@eve.test", "https://accounts.google.com");
    world.sign(&old, 1, &nobody);
    gate.denies("v1").await;
    let permit = format!("no_rollback: {{ permit: [\"{}\"] }}", old.digest());
    gate.ruled(&world, &permit).await;
    gate.admits("v1", &old).await;
    // It permits this content, and forgets nothing.
    gate.ruled(&world, "no_rollback: true").await;
    gate.denies("v1").await;
    world.sign(&old, 2, &release());
    gate.admits("v1", &old).await;
    world.tag("v1", &new);
    gate.denies("v1").await;
    gate.end().await;
}

// Of two signers that a policy wants, one alone does not make old content new.
#[tokio::test]
async fn c7_one_signer_of_two_does_not_make_it_new() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(world.path("policy.yaml")).expect("a policy");
    world.write("policy.yaml", &policy.replace("any:", "all:"));
    let (old, new) = (world.push("old", 5), world.push("new", 3));
    world.sign(&old, 5, &stranger());
    world.sign(&new, 3, &stranger());
    let gate = world.run().await;
    world.tag("v1", &new);
    gate.admits("v1", &new).await;
    world.tag("v1", &old);
    world.sign(&old, 1, &stranger());
    gate.denies("v1").await;
    world.sign(&old, 1, &release());
    gate.admits("v1", &old).await;
    gate.end().await;
}

// A policy may warn of it only: the image passes with the warning, and what was served before is
// not forgotten for that.
#[tokio::test]
async fn c7_a_policy_may_warn() {
    let world = World::start().await;
    world.rule("no_rollback: true\n    mode: warn");
    let (gate, ..) = world.moved_back().await;
    for _ in 0..2 {
        let answer = gate.get("v1").await;
        assert_eq!(answer.status, StatusCode::OK);
        let warning = answer.header("warning").expect("a warning");
        assert!(warning.contains("signed at"), "{warning}");
    }
    gate.ruled(&world, "no_rollback: true").await;
    gate.denies("v1").await;
    gate.end().await;
}

/// Has later content be served under the tag, as by another pull.
async fn serve_later(world: &support::World) {
    let ask = world.named("app", &"v1");
    let Reference::Tag(tag) = ask.reference else {
        panic!("a tag");
    };
    let mark = Mark {
        digest: Digest::sha256(b"new"),
        signed_at: world.now(),
        served_at: world.now(),
    };
    let tag = TagKey::new(&"releases".into(), &ask.image, &tag);
    assert_eq!(world.served.note(&tag, mark).await, Ok(true));
}

// What is answered from the caches is judged as well: an admission that is still held does not
// outlive later content under its tag, which another pull was served.
#[tokio::test]
async fn c7_a_held_admission_does_not_outlive_what_was_served_after_it() {
    let policy = Policy {
        no_rollback: Some(NoRollback::default()),
        ..signed_by("releases", "**", &[identity_rule(&release())])
    };
    let world = support::World::with(Setup {
        settings: pullgate::gate::Settings {
            tag_ttl: Duration::from_secs(3600),
            ..settings()
        },
        ..Setup::ruled(rules(vec![policy]))
    })
    .await;
    let package = image::runnable("old").tagged("v1");
    world.push("app", &package);
    world.sign("app", &package, &release());
    world.manifest("app", "v1").await.admits(&package.manifest);
    let asked = world.registry.requests().len();
    world.manifest("app", "v1").await.admits(&package.manifest);
    assert_eq!(world.registry.requests().len(), asked, "it is held");
    serve_later(&world).await;
    world.manifest("app", "v1").await.denies("denied_by_policy");
    // By its digest it passes, as before.
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

// Nor does what was reached through it: what an index lists, and blobs, by their digests.
#[tokio::test]
async fn c7_what_a_held_admission_leads_to_does_not_outlive_it() {
    let mut settings = settings();
    settings.tag_ttl = Duration::from_secs(3600);
    let world = support::World::with(Setup {
        settings,
        ..Setup::ruled(rules(Vec::new()))
    })
    .await;
    let forward = Policy {
        no_rollback: Some(NoRollback::default()),
        ..signed_by("releases", "**", &[identity_rule(&release())])
    };
    // Of these, the tag alone admits.
    let key = KeyPair::generate();
    let document = scopes(&json!({ named("app:v1"): [signed_with(&key)] }));
    enforce_beside(&world, &document, vec![forward]);
    let child = image::runnable("a platform");
    let index = image::index(&[child.descriptor()]).tagged("v1");
    world.push("app", &child);
    world.push("app", &index);
    world.sign("app", &index, &release());
    sign_by_key(&world, "app", &index, &named("app:v1"), &key);
    world.manifest("app", "v1").await.admits(&index.manifest);
    let layer = Digest::sha256(&child.blobs[0]);
    let answer = world.manifest("app", child.digest()).await;
    answer.admits(&child.manifest);
    let answer = world.blob("app", layer).await;
    answer.admits(&child.blobs[0]);
    let asked = world.registry.requests().len();
    assert!(world.blob("app", layer).await.status.is_success());
    assert_eq!(world.registry.requests().len(), asked, "it is held");

    serve_later(&world).await;
    world.blob("app", layer).await.denies("not_reachable");
    let answer = world.manifest("app", child.digest()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.message());
}

// Where what was served cannot be looked up or written down, tags are refused, and digests pass.
#[tokio::test]
async fn c7_a_store_that_cannot_be_used_refuses() {
    let world = World::start().await;
    let new = world.push("new", 3);
    world.tag("v1", &new);
    let gate = world.run().await;
    gate.admits("v1", &new).await;
    gate.end().await;
    let store = world.path("cache/served.redb");
    let whole = std::fs::read(&store).expect("a store");
    for damaged in [&whole[..1000], &[]] {
        std::fs::write(&store, damaged).expect("a file");
        let gate = world.run().await;
        let message = gate.denies("v1").await;
        assert!(message.contains("served.redb"), "{message}");
        gate.admits(new.digest(), &new).await;
        let metrics = gate.built.service.metrics.render().expect("metrics");
        let counted = "pullgate_cache_disk_failures_total{operation=\"served\"} 1";
        assert!(metrics.contains(counted), "{metrics}");
        gate.end().await;
    }
    // Without it nothing is known, as at the first start.
    std::fs::remove_file(&store).expect("is removed");
    let gate = world.run().await;
    gate.admits("v1", &new).await;
    gate.end().await;
}

// What is remembered is bounded; what is forgotten is not taken for new.
#[tokio::test]
async fn c7_what_is_forgotten_is_not_taken_for_new() {
    let world = World::start().await;
    world.configure("directory: cache, ", "served_tags_max: 2");
    let packages: Vec<Package> = (1..=4)
        .map(|hours| world.push(&format!("signed {hours} hours ago"), hours))
        .collect();
    let gate = world.run().await;
    for (tag, package) in [
        ("b", &packages[1]),
        ("a", &packages[0]),
        ("c", &packages[0]),
    ] {
        world.tag(tag, package);
        gate.admits(tag, package).await;
    }
    // `b` is forgotten, and cannot move back for that.
    world.tag("b", &packages[2]);
    let message = gate.denies("b").await;
    assert!(message.contains("served_tags_max"), "{message}");
    world.tag("b", &packages[0]);
    gate.admits("b", &packages[0]).await;
    let digest: Digest = packages[3].digest();
    gate.admits(digest, &packages[3]).await;
    gate.end().await;
}

// What was looked at on behalf of a blob was not served under its tag, whatever the tag names then.
#[tokio::test]
async fn c7_what_a_tag_vouches_for_was_not_served_under_it() {
    let world = World::start().await;
    let accepts = format!(
        "{{\"default\":[{{\"type\":\"reject\"}}],\"transports\":{{\"docker\":{{\"{HOST}/app:v1\":\
         [{{\"type\":\"insecureAcceptAnything\"}}]}}}}}}"
    );
    world.write("policy.json", &accepts);
    let path = world.path("pullgate.yaml");
    let text = std::fs::read_to_string(path).expect("a file");
    let both = "policies: [policy.yaml, { containers_policy_json: policy.json }]";
    world.write(
        "pullgate.yaml",
        &text.replace("policies: [policy.yaml]", both),
    );
    let (old, new) = (world.push("old", 5), world.push("new", 3));
    let gate = world.run().await;
    world.tag("v1", &old);
    gate.admits("v1", &old).await;
    world.tag("v1", &new);
    let blob = async |package: &Package| {
        let digest = Digest::sha256(&package.blobs[0]);
        let target = format!("/v2/app/blobs/{digest}");
        gate.client.get(&target).await.expect("an answer").status
    };
    // The tag is looked at for the old image, and names another.
    assert_eq!(blob(&old).await, StatusCode::FORBIDDEN);
    // Then for the new one, of which nobody has asked for more than the refused digest.
    gate.denies(new.digest()).await;
    assert_eq!(blob(&new).await, StatusCode::OK);
    world.tag("v1", &old);
    gate.admits("v1", &old).await;
    // What was served under it still forbids what is older.
    world.tag("v1", &new);
    gate.admits("v1", &new).await;
    world.tag("v1", &old);
    gate.denies("v1").await;
    gate.end().await;
}
