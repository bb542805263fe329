//! The audit log of the program as it runs: every decision is on record, whatever becomes of the
//! disk, and no pull waits for it (THREATS D).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use pullgate::sandbox::client::Client;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::Registry;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::Program;
use crate::support::{HOST, push};

/// The program, in front of a registry with one image that passes and one that does not.
struct World {
    program: Program,
    pulls: Client,
    admin: Client,
    folder: TempDir,
    _registry: Registry,
}

impl World {
    async fn start(audit: &str) -> Self {
        let registry = Registry::start().await.expect("a port");
        for repository in ["free", "refused"] {
            let package = image::runnable(repository).tagged("v1");
            push(&registry, repository, &package);
        }
        let folder = TempDir::new().expect("a folder");
        let configuration = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ {HOST}: {{ url: \"{}\" }} }}\ndefault_upstream: {HOST}\n\
             policies: [policy.yaml]\naudit: {audit}\n",
            registry.url()
        );
        let policy = format!(
            "policies:\n  - {{ name: refused, images: [\"{HOST}/refused\"], deny: never }}\n  \
             - {{ name: free, images: [\"{HOST}/free\"], unsafe_allow_unsigned: {{ because: x }} }}\n"
        );
        for (name, text) in [("pullgate.yaml", configuration), ("policy.yaml", policy)] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let program = Program::start(env!("CARGO_BIN_EXE_pullgate"), folder.path());
        Self {
            pulls: Client::new(&program.address),
            admin: Client::new(&program.admin),
            program,
            folder,
            _registry: registry,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn pull(&self, repository: &str, status: StatusCode) {
        let target = format!("/v2/{repository}/manifests/v1");
        let answer = self.pulls.get(&target).await.expect("an answer");
        assert_eq!(answer.status, status, "{:?}", answer.message());
    }

    async fn metric(&self, outcome: &str) -> u64 {
        let answer = self.admin.get("/metrics").await.expect("an answer");
        let text = String::from_utf8(answer.body.to_vec()).expect("text");
        let name = format!("pullgate_audit_records_total{{outcome=\"{outcome}\"}} ");
        let mut values = text.lines().filter_map(|line| line.strip_prefix(&*name));
        values
            .next()
            .expect("the metric")
            .parse()
            .expect("a number")
    }

    /// Until so many records came to this.
    async fn counted(&self, outcome: &str, count: u64) {
        let asking = async {
            while self.metric(outcome).await < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let within = tokio::time::timeout(Duration::from_secs(20), asking);
        within.await.unwrap_or_else(|_| panic!("{count} {outcome}"));
    }

    /// Ends it as an operator does, and waits until it has.
    fn end(mut self) -> TempDir {
        let pid = self.program.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill").success());
        assert!(self.program.process.wait().expect("it ends").success());
        self.folder
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a file");
    let parsed = text.lines().map(serde_json::from_str);
    parsed.map(|line| line.expect("a line of JSON")).collect()
}

#[tokio::test]
async fn d_every_decision_is_on_record_and_outlives_logrotate() {
    let world = World::start("{ file: audit.jsonl }").await;
    world.pull("free", StatusCode::OK).await;
    world.pull("refused", StatusCode::FORBIDDEN).await;
    world.counted("written", 2).await;
    let decisions = world.admin.get("/decisions").await.expect("an answer");
    let decisions: Vec<Value> = serde_json::from_slice(&decisions.body).expect("JSON");
    let mut written = lines(&world.path("audit.jsonl"));
    written.reverse();
    assert_eq!(written, decisions, "the same values under the same names");
    let moved = world.path("audit.moved");
    std::fs::rename(world.path("audit.jsonl"), &moved).expect("moves");
    world.pull("free", StatusCode::OK).await;
    world.counted("written", 3).await;
    assert_eq!(lines(&moved).len(), 2);
    assert_eq!(lines(&world.path("audit.jsonl")).len(), 1);
    // What still waits when it is told to stop is written first.
    for _ in 0..20 {
        world.pull("free", StatusCode::OK).await;
    }
    let folder = world.end();
    assert_eq!(lines(&folder.path().join("audit.jsonl")).len(), 21);
}

#[tokio::test]
async fn d_a_full_disk_is_counted_and_pulls_go_on() {
    let world = World::start("{ file: /dev/full }").await;
    for _ in 0..5 {
        world.pull("free", StatusCode::OK).await;
    }
    world.counted("failed", 5).await;
    assert_eq!(world.metric("written").await, 0);
    drop(world.end());
}
