//! A gate in front of a registry, for the tests of this room.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::content;
use crate::content::BlobAnswer;
use crate::content::ContentKey;
use crate::content::Store;
use crate::evidence;
use crate::gate::{Ask, Gate, Parts, Refusal, Settings};
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Caller;
use crate::policy::DefaultRule;
use crate::policy::Glob;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::Requirement;
use crate::policy::Rules;
use crate::policy::Signs;
use crate::sandbox::registry::Registry;
use crate::upstream;
use crate::upstream::Upstream;
use crate::verify::Material;

const HOST: &str = "registry.acme.test";
pub(super) const LAYER: &[u8] = b"the layer of the image that the index lists";

/// A registry with an index that is pinned, and images that are not.
pub(super) struct World {
    pub(super) registry: Registry,
    directory: TempDir,
    pub(super) index: Digest,
    pub(super) child: Digest,
    pub(super) outsider: Digest,
}

/// A gate of its own process, as it were.
pub(super) struct Process {
    pub(super) gate: Gate,
    pub(super) content: Store,
    tasks: TaskTracker,
}

impl World {
    pub(super) async fn start() -> Self {
        let registry = Registry::start().await.expect("a free port");
        let child = registry.put_image("app", None, &[LAYER]);
        let index = registry.put_index("app", Some("v1"), &[child]);
        let outsider = registry.put_image("app", None, &[b"of nobody's index"]);
        Self {
            registry,
            directory: TempDir::new().expect("a directory"),
            index,
            child,
            outsider,
        }
    }

    /// Lets the next process be on another machine, with a copy of the directory.
    pub(super) fn copy_directory(&mut self) {
        let copy = TempDir::new().expect("a directory");
        let mut copied = std::process::Command::new("cp");
        let source = self.directory.path().join(".");
        let copied = copied.arg("-R").arg(source).arg(copy.path()).status();
        assert!(copied.expect("cp").success());
        self.directory = copy;
    }

    pub(super) fn open(&self) -> Process {
        let pinned = Requirement::Digests([self.index].into());
        self.open_under(vec![policy("pinned", pinned, Signs::Either)])
    }

    pub(super) fn open_under(&self, policies: Vec<Policy>) -> Process {
        self.open_at(Clock::system(), policies)
    }

    pub(super) fn open_at(&self, clock: Clock, policies: Vec<Policy>) -> Process {
        self.open_with(settings(), clock, policies)
    }

    pub(super) fn open_with(
        &self,
        settings: Settings,
        clock: Clock,
        policies: Vec<Policy>,
    ) -> Process {
        let tasks = TaskTracker::new();
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let content = content::Settings {
            memory_bytes_max: 1 << 20,
            memory_blob_bytes_max: 1 << 10,
            directory: Some(self.directory.path().to_owned()),
            disk_bytes_max: 10 << 20,
            served_tags_max: 1000,
        };
        let hands = Hands::new(tasks.clone(), Handle::current());
        let content = Store::open(&content, Arc::clone(&metrics), clock.clone(), hands.clone());
        let content = content.expect("opens");
        let mut upstream = upstream::Settings::known(HOST.parse().expect("a host"));
        upstream.url = self.registry.url().parse().expect("a URL");
        let parts = Parts {
            upstreams: vec![Upstream::new(upstream).expect("builds")],
            content: content.clone(),
            rules: Rules {
                policies: policies.into_iter().map(Arc::new).collect(),
                default: DefaultRule::Deny,
            },
            material: Material::default(),
            metrics,
            clock,
            hands,
        };
        Process {
            gate: Gate::new(settings, parts),
            content,
            tasks,
        }
    }
}

/// A policy for everything.
pub(super) fn policy(name: &str, requirement: Requirement, signs: Signs) -> Policy {
    Policy {
        name: name.into(),
        images: vec![Glob::new("**").expect("a glob")],
        except: Vec::new(),
        mode: Mode::Enforce,
        requirement,
        signs,
        pulled_by: None,
        no_rollback: None,
    }
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn settings() -> Settings {
    Settings {
        facts_ttl: HOUR,
        unsigned_ttl: HOUR,
        permit_ttl: HOUR,
        tag_ttl: HOUR,
        stale_ttl: Duration::ZERO,
        evidence: evidence::Limits {
            artifacts_max: 64,
            bundle_bytes_max: 1 << 20,
            payload_bytes_max: 64 << 10,
            attestation_bytes_max: 32 << 20,
            deadline: Duration::from_secs(10),
        },
        index_manifests_max: 64,
        index_depth_max: 4,
        decision_deadline: Duration::from_secs(60),
        searches_max: 32,
        search_queue_max: 10_000,
        evidence_in_flight_bytes_max: 256 << 20,
        verification_threads: 1,
        verification_queue_max: 100,
        evidence_bytes_max: 1 << 20,
    }
}

pub(super) fn image(repository: &str) -> ImageName {
    ImageName {
        registry: HOST.parse().expect("a host"),
        repository: repository.parse().expect("a repository"),
    }
}

pub(super) fn key(repository: &str, digest: Digest) -> ContentKey {
    let image = image(repository);
    ContentKey {
        host: image.registry,
        repository: image.repository,
        digest,
    }
}

impl Process {
    pub(super) async fn manifest(&self, reference: Reference) -> Result<Digest, Refusal> {
        let image = image("app");
        let admitted = self
            .gate
            .manifest(&Ask { image, reference }, &Caller::Anonymous)
            .await?;
        Ok(*admitted.document().digest())
    }

    pub(super) async fn blob(&self, digest: Digest) -> Result<Vec<u8>, Refusal> {
        let admitted = self
            .gate
            .blob(&image("app"), digest, &Caller::Anonymous)
            .await?;
        match self.gate.open(&admitted, None).await? {
            BlobAnswer::Whole { body, .. } => {
                let body = body.collect().await.expect("all of it");
                Ok(body.to_bytes().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until all that it has to write is on disk.
    pub(super) async fn settled(&self) {
        while !self.tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn end(self) {
        let Self {
            gate,
            content,
            tasks,
        } = self;
        drop((gate, content));
        tasks.close();
        tasks.wait().await;
    }
}

pub(super) fn reason<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> Reason {
    match refused {
        Err(Refusal::Denied(denied, _)) => denied.shortfall.reason,
        other => panic!("{other:?}"),
    }
}
