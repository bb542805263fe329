//! What is repeated for a name that is kept, without a look-up.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::gate::admission::Admission;
use crate::gate::by_tag::Tries;
use crate::gate::test_world::{Process, World, image, policy};
use crate::gate::{Ask, tag_key};
use crate::oci::Digest;
use crate::oci::Reference;
use crate::oci::Tag;
use crate::policy::Caller;
use crate::policy::DefaultRule;
use crate::policy::Policy;
use crate::policy::Requirement;
use crate::policy::Rules;
use crate::policy::Signs;
use crate::verify::Material;

/// Whoever keeps a name.
struct Keeper {
    ask: Arc<Ask>,
    _name: Arc<Ask>,
    /// No time goes by.
    now: Instant,
}

impl Keeper {
    fn of(tag: &Tag) -> Self {
        let ask = Arc::new(Ask {
            image: image("app"),
            reference: Reference::Tag(tag.clone()),
        });
        Self {
            _name: Arc::clone(&ask),
            ask,
            now: Instant::now(),
        }
    }

    async fn admit(&self, process: &Process) -> Digest {
        let (ruling, tries) = (process.gate.0.ruling.load_full(), Tries::default());
        let admitted = process.gate.admit(&ruling, &self.ask, &tries).await;
        *admitted.expect("an admission").document().digest()
    }

    fn asks_again(&self, process: &Process) -> Option<Digest> {
        let gate = &process.gate;
        let said = gate.manifest_at_once(&self.ask, &Caller::Anonymous, self.now)?;
        Some(*said.expect("an admission").document().digest())
    }

    /// What there is without a look-up.
    fn lately(&self, process: &Process) -> Option<Arc<Admission>> {
        process.gate.0.lately.get(&self.ask, self.now)
    }
}

fn anything(until: Option<Timestamp>) -> Policy {
    let because = "for a test".to_owned();
    let exempt = Requirement::AllowUnsigned { until, because };
    policy("anything", exempt, Signs::Either)
}

fn tag() -> Tag {
    "v1".parse().expect("a tag")
}

// THREATS C1.
#[tokio::test]
async fn a_name_that_is_kept_is_repeated_without_a_look_up_until_policy_changes() {
    let world = World::start().await;
    let process = world.open_under(vec![anything(None)]);
    let keeper = Keeper::of(&tag());
    assert_eq!(keeper.asks_again(&process), None);
    assert_eq!(keeper.admit(&process).await, world.index);
    assert!(keeper.lately(&process).is_none());
    assert_eq!(keeper.asks_again(&process), Some(world.index));
    assert!(keeper.lately(&process).is_some());
    assert_eq!(keeper.asks_again(&process), Some(world.index));
    let nothing = Rules {
        policies: Vec::new(),
        default: DefaultRule::Deny,
    };
    process.gate.reload(nothing, Material::default());
    assert!(keeper.lately(&process).is_some());
    assert_eq!(keeper.asks_again(&process), None);
    process.end().await;
}

// Somebody else's flight may have seen what the tag names now.
#[tokio::test]
async fn what_is_admitted_anew_is_what_is_repeated() {
    let world = World::start().await;
    let process = world.open_under(vec![anything(None)]);
    let keeper = Keeper::of(&tag());
    keeper.admit(&process).await;
    assert_eq!(keeper.asks_again(&process), Some(world.index));
    let before = keeper.lately(&process).expect("is repeated");
    let moved = world.registry.put_image("app", Some("v1"), &[b"another"]);
    process.gate.0.tags.remove(&tag_key(&image("app"), &tag()));
    assert_eq!(keeper.admit(&process).await, moved);
    for _ in 0..3 {
        assert_eq!(keeper.asks_again(&process), Some(moved));
    }
    let ruling = process.gate.0.ruling.load();
    let holds = process.gate.holds(&before.validity, &ruling, keeper.now);
    assert!(holds, "by itself it holds still");
    process.end().await;
}

// THREATS C2.
#[tokio::test]
async fn an_exemption_that_ends_is_not_repeated() {
    let world = World::start().await;
    let ends = Timestamp::UNIX_EPOCH + Duration::from_secs(1000);
    let wall = Arc::new(Mutex::new(Timestamp::UNIX_EPOCH));
    let read = Arc::clone(&wall);
    let clock = Clock::from_fn(move || *read.lock().expect("a time"));
    let process = world.open_at(clock, vec![anything(Some(ends))]);
    let keeper = Keeper::of(&tag());
    keeper.admit(&process).await;
    for _ in 0..3 {
        assert_eq!(keeper.asks_again(&process), Some(world.index));
    }
    assert!(keeper.lately(&process).is_some());
    *wall.lock().expect("a time") = ends;
    assert_eq!(keeper.asks_again(&process), None);
    process.end().await;
}
