//! Closure over a restart: what hints on disk do, and what they cannot do.

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
use crate::oci::Tag;
use crate::policy::Caller;
use crate::policy::DefaultRule;
use crate::policy::Glob;
use crate::policy::Mode;
use crate::policy::Policy;
use crate::policy::Reason;
use crate::policy::Requirement;
use crate::policy::Rules;
use crate::policy::Signs;
use crate::sandbox::registry::{Endpoint, Fault, Misdeed, Registry};
use crate::upstream;
use crate::upstream::Upstream;
use crate::verify::Material;

const HOST: &str = "registry.acme.test";
const LAYER: &[u8] = b"the layer of the image that the index lists";

/// A registry with an index that is pinned, and images that are not.
struct World {
    registry: Registry,
    directory: TempDir,
    index: Digest,
    child: Digest,
    outsider: Digest,
}

/// A gate of its own process, as it were.
struct Process {
    gate: Gate,
    content: Store,
    tasks: TaskTracker,
}

impl World {
    async fn start() -> Self {
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

    fn open(&self) -> Process {
        let pinned = Requirement::Digests([self.index].into());
        self.open_under(vec![policy("pinned", pinned, Signs::Either)])
    }

    fn open_under(&self, policies: Vec<Policy>) -> Process {
        let (tasks, clock) = (TaskTracker::new(), Clock::system());
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
            gate: Gate::new(settings(), parts),
            content,
            tasks,
        }
    }
}

/// A policy for everything.
fn policy(name: &str, requirement: Requirement, signs: Signs) -> Policy {
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

pub(super) fn settings() -> Settings {
    let hour = Duration::from_secs(3600);
    Settings {
        facts_ttl: hour,
        unsigned_ttl: hour,
        permit_ttl: hour,
        tag_ttl: hour,
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

fn image(repository: &str) -> ImageName {
    ImageName {
        registry: HOST.parse().expect("a host"),
        repository: repository.parse().expect("a repository"),
    }
}

fn key(repository: &str, digest: Digest) -> ContentKey {
    let image = image(repository);
    ContentKey {
        host: image.registry,
        repository: image.repository,
        digest,
    }
}

impl Process {
    async fn manifest(&self, reference: Reference) -> Result<Digest, Refusal> {
        let image = image("app");
        let admitted = self
            .gate
            .manifest(&Ask { image, reference }, &Caller::Anonymous)
            .await?;
        Ok(*admitted.document().digest())
    }

    async fn blob(&self, digest: Digest) -> Result<Vec<u8>, Refusal> {
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

    async fn end(self) {
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

fn reason<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> Reason {
    match refused {
        Err(Refusal::Denied(denied, _)) => denied.shortfall.reason,
        other => panic!("{other:?}"),
    }
}

// THREATS G1.
#[tokio::test]
async fn after_a_restart_a_child_and_its_blob_are_served_without_upstream() {
    let world = World::start().await;
    let process = world.open();
    let tag = Reference::Tag("v1".parse().expect("a tag"));
    process.manifest(tag).await.expect("the index");
    let child = Reference::Digest(world.child);
    process.manifest(child.clone()).await.expect("its child");
    let layer = Digest::sha256(LAYER);
    process.blob(layer).await.expect("its layer");
    process.end().await;

    world.registry.untag("app", "v1");
    world.registry.stop().await;
    // The blob first: nothing but the hints leads to it.
    let process = world.open();
    assert_eq!(process.blob(layer).await.expect("its layer"), LAYER);
    assert_eq!(
        process.manifest(child).await.expect("its child"),
        world.child
    );
    process.end().await;
}

// THREATS G5: what anybody may push does not hide what was admitted.
#[tokio::test]
async fn refused_manifests_do_not_hide_what_the_store_knows() {
    let world = World::start().await;
    let process = world.open();
    let index = Reference::Digest(world.index);
    process.manifest(index).await.expect("the index");
    let child = Reference::Digest(world.child);
    process.manifest(child).await.expect("its child");
    process.end().await;

    let process = world.open();
    for number in 0..20_u8 {
        let refused = world.registry.put_image("app", None, &[LAYER, &[number]]);
        let answer = process.manifest(Reference::Digest(refused)).await;
        assert_eq!(reason(answer), Reason::DeniedByPolicy);
    }
    let layer = process.blob(Digest::sha256(LAYER)).await;
    assert_eq!(layer.expect("the layer"), LAYER);
    process.end().await;
}

// THREATS G2.
#[tokio::test]
async fn a_child_whose_index_was_never_admitted_is_denied() {
    let world = World::start().await;
    let process = world.open();
    let child = process.manifest(Reference::Digest(world.child)).await;
    assert_eq!(reason(child), Reason::DeniedByPolicy);
    let layer = process.blob(Digest::sha256(LAYER)).await;
    assert_eq!(reason(layer), Reason::NotReachable);
    process.end().await;
}

// THREATS C8: whoever edits the store can only say where to look.
#[tokio::test]
async fn an_edited_store_admits_nothing() {
    let world = World::start().await;
    let process = world.open();
    let hints = process.content.parents().expect("a directory");
    let outside = Digest::sha256(b"of nobody's index");
    let absent = Digest::sha256(b"not there at all");
    for child in [world.outsider, outside] {
        hints.add(vec![key("app", child)], absent);
        // Itself, an image that lists it and is not admitted, and the index that does not.
        hints.add(vec![key("app", child)], child);
        hints.add(vec![key("app", child)], world.outsider);
        hints.add(vec![key("app", child)], world.index);
    }
    process.end().await;

    let process = world.open();
    let hints = process.content.parents().expect("a directory");
    let edited = hints.of(&key("app", outside)).await;
    assert!(edited.contains(&world.index), "{edited:?}");
    let outsider = process.manifest(Reference::Digest(world.outsider)).await;
    assert_eq!(reason(outsider), Reason::DeniedByPolicy);
    assert_eq!(reason(process.blob(outside).await), Reason::NotReachable);
    process.end().await;
}

// THREATS C4: whether a tag vouches for an index that cannot be read now, nobody knows.
#[tokio::test]
async fn an_index_that_cannot_be_read_is_no_refusal() {
    let world = World::start().await;
    let reason_given = "none but what a tag vouches for".to_owned();
    let never = Requirement::Deny {
        reason: reason_given,
    };
    let process = world.open();
    let hints = process.content.parents().expect("a directory");
    hints.add(vec![key("app", world.child)], world.index);
    process.end().await;

    // Of the tag there is something else to say, so it is looked at.
    let of_tag = Policy {
        images: vec![Glob::over_references("**:v1").expect("a glob")],
        ..policy("of the tag", never.clone(), Signs::Asked)
    };
    let process = world.open_under(vec![policy("never", never, Signs::Asked), of_tag]);
    let tag: Tag = "v1".parse().expect("a tag");
    let hints = &process.gate.0.hints;
    hints.tagged(&key("app", world.index), &tag, false);
    let unwell = Fault::on(Endpoint::Manifests, Misdeed::DropConnection);
    let path = format!("/v2/app/manifests/{}", world.index);
    let fault = world.registry.misbehave(unwell.path(&path));
    let child = Reference::Digest(world.child);
    let answer = process.manifest(child.clone()).await;
    assert!(matches!(answer, Err(Refusal::Unavailable(_))), "{answer:?}");
    world.registry.forgive(fault);
    let answer = process.manifest(child).await;
    assert_eq!(reason(answer), Reason::DeniedByPolicy);
    process.end().await;
}

// THREATS G5: what others may push drives nothing out that an answer, which is repeated, rests on.
#[tokio::test]
async fn an_answer_that_is_repeated_keeps_its_hints() {
    let world = World::start().await;
    let process = world.open();
    let hints = &process.gate.0.hints;
    let tag: Tag = "v1".parse().expect("a tag");
    let by_tag = Reference::Tag(tag.clone());
    process.manifest(by_tag.clone()).await.expect("the index");
    for round in 0..3_u32 {
        let turn = hints.turns();
        let long: Tag = "t".repeat(128).parse().expect("a tag");
        let mut number = 0_u32;
        while hints.turns() == turn {
            let digest = Digest::sha256(format!("{round} {number}").as_bytes());
            hints.tagged(&key("other", digest), &long, false);
            number += 1;
        }
        process.manifest(by_tag.clone()).await.expect("the index");
    }
    let hint = hints.of(&key("app", world.index)).await;
    assert_eq!(hint.tags, [tag]);
    process.end().await;
}
