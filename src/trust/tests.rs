//! What a mirror may send that is not what its maintainers meant, against repositories that the
//! sandbox mints. THREATS R1 and R2 over HTTP are in `tests/threats/trust.rs`.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::sandbox::mutants;
use crate::sandbox::mutants::Thoroughness;
use crate::sandbox::sigstore::{KeyPair, Sigstore};
use crate::sandbox::tuf;
use crate::sandbox::tuf::{Mirror, Repository, Served};
use crate::upstream;
use crate::upstream::Upstream;

/// A repository on its mirror, and a Sigstore whose trusted root it publishes.
struct World {
    now: Timestamp,
    repository: Repository,
    mirror: Mirror,
    pinned: Arc<[u8]>,
    directory: TempDir,
}

const TIMES: KeptTimes = KeptTimes {
    interval: Duration::from_secs(6 * 3600),
    deadline: Duration::from_secs(5),
    stale_max: Duration::from_secs(7 * 24 * 3600),
};

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().expect("a time")
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn trusted_root() -> String {
    Sigstore::new(now()).trusted_root_json()
}

impl World {
    async fn new() -> Self {
        let mut repository = Repository::new(now());
        repository.publish(&trusted_root());
        let mirror = Mirror::start().await.expect("a port");
        mirror.serve(&repository);
        Self {
            now: now(),
            pinned: repository.pinned().into(),
            repository,
            mirror,
            directory: TempDir::new().expect("a folder"),
        }
    }

    fn settings(&self) -> KeptSettings {
        let url: upstream::BaseUrl = self.mirror.url().parse().expect("a URL");
        let mut settings = upstream::Settings::known(url.host().expect("a host"));
        settings.url = url;
        settings.limits.answer_timeout = Duration::from_millis(300);
        KeptSettings {
            name: RootName::from("acme"),
            mirror: Upstream::new(settings).expect("a client"),
            pinned: Arc::clone(&self.pinned),
            built_in: None,
            file: Some(self.directory.path().join("acme.json")),
            writes: true,
            unsafe_keep_stale: false,
            times: TIMES,
        }
    }

    fn open(&self) -> Kept {
        Kept::open(self.settings(), self.now)
    }

    /// A root that has been had once.
    async fn had(&self) -> Kept {
        let kept = self.open();
        kept.refresh(self.now).await.expect("a good mirror");
        kept
    }
}

fn document(kept: &Kept, now: Timestamp) -> Option<crate::oci::Digest> {
    kept.standing(now).root.ok().map(|root| root.document)
}

/// The mirror is refused for this reason, and the last good root stays.
async fn refuses(world: &World, kept: &Kept, reason: &str) {
    let before = document(kept, world.now);
    let error = kept.refresh(world.now).await.expect_err("a refusal");
    assert!(matches!(error, WalkError::Refused(_)), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(document(kept, world.now), before, "the last good one went");
    // And is there after a restart.
    assert_eq!(document(&world.open(), world.now), before, "on disk");
}

#[tokio::test]
async fn what_maintainers_publish_is_taken_up() {
    let mut world = World::new().await;
    let kept = world.open();
    assert!(kept.is_due(world.now));
    let never = kept.standing(world.now).root.expect_err("nothing yet");
    assert!(never.contains("was never had"), "{never}");
    kept.refresh(world.now).await.expect("a good mirror");
    let first = document(&kept, world.now).expect("a root");
    assert!(!kept.is_due(world.now));
    // The same once more is the same root.
    kept.refresh(world.now).await.expect("a good mirror");
    assert_eq!(document(&kept, world.now), Some(first));
    // Another one, new keys of the timestamp, new keys of the root, one after the other.
    world.repository.publish(&trusted_root());
    world.repository.rotate_timestamp();
    world.repository.rotate_root();
    world.repository.rotate_root();
    world.mirror.serve(&world.repository);
    kept.refresh(world.now).await.expect("a good mirror");
    let second = document(&kept, world.now).expect("a root");
    assert_ne!(first, second);
    // All of it is there after a restart, from the first root on, with no mirror.
    world.mirror.down(true);
    assert_eq!(document(&world.open(), world.now), Some(second));
    assert!(!world.open().is_due(world.now), "it was asked just now");
}

#[tokio::test]
async fn older_versions_are_refused() {
    let mut world = World::new().await;
    let old = world.repository.files.clone();
    world.repository.publish(&trusted_root());
    world.mirror.serve(&world.repository);
    let kept = world.had().await;
    // All of an older state, as it once was signed.
    world.repository.files = old;
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "rollback detected for timestamp").await;
    // A gate that restarts knows it still.
    refuses(&world, &world.open(), "rollback detected for timestamp").await;
}

#[tokio::test]
async fn an_older_snapshot_under_a_new_timestamp_is_refused() {
    let mut world = World::new().await;
    world.repository.publish(&trusted_root());
    world.mirror.serve(&world.repository);
    let kept = world.had().await;
    world.repository.snapshot.version = 1;
    world.repository.publish_timestamp();
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "rollback detected for snapshot").await;
}

#[tokio::test]
async fn older_targets_under_a_new_snapshot_are_refused() {
    let mut world = World::new().await;
    world.repository.publish(&trusted_root());
    world.mirror.serve(&world.repository);
    let kept = world.had().await;
    world.repository.targets.version = 1;
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "rollback detected for targets.json").await;
}

#[tokio::test]
async fn what_was_seen_in_a_refresh_that_broke_off_is_not_forgotten() {
    let mut world = World::new().await;
    let kept = world.had().await;
    let good = document(&kept, world.now);
    let old = world.repository.files.clone();
    world.repository.publish(&trusted_root());
    world.repository.files.remove("2.snapshot.json");
    world.mirror.serve(&world.repository);
    let error = kept.refresh(world.now).await.expect_err("half a state");
    assert!(matches!(error, WalkError::Unreachable(_)), "{error}");
    world.repository.files = old;
    world.mirror.serve(&world.repository);
    // The last good root is there after a restart, and so is what was seen since.
    let restarted = world.open();
    assert_eq!(document(&restarted, world.now), good);
    refuses(&world, &restarted, "rollback detected for timestamp").await;
}

// Two processes share the file, and one of them is behind.
#[tokio::test]
async fn who_is_behind_takes_nothing_from_the_file() {
    let mut world = World::new().await;
    let behind = world.had().await;
    let old = world.repository.files.clone();
    world.repository.publish(&trusted_root());
    world.mirror.serve(&world.repository);
    let ahead = world.had().await;
    let good = document(&ahead, world.now);
    assert_ne!(document(&behind, world.now), good);
    let path = world.directory.path().join("acme.json");
    let read = || std::fs::read(&path).expect("the file");
    let written = read();
    // A refresh that fails has nothing to say.
    world.mirror.down(true);
    let error = behind.refresh(world.now).await.expect_err("no mirror");
    assert!(matches!(error, WalkError::Unreachable(_)), "{error}");
    assert_eq!(read(), written);
    // One that succeeds at a mirror that is behind as well has something, which is older.
    world.mirror.down(false);
    world.repository.files = old;
    world.mirror.serve(&world.repository);
    let later = world.now + days(1);
    behind.refresh(later).await.expect("nothing newer is known");
    assert_eq!(read(), written);
    assert_eq!(document(&world.open(), world.now), good);
    // From then on it knows what the other has seen.
    let error = behind.refresh(later).await.expect_err("an older state");
    let error = error.to_string();
    assert!(error.contains("rollback detected for timestamp"), "{error}");
}

#[tokio::test]
async fn of_two_who_share_the_file_each_keeps_what_is_newer() {
    let mut world = World::new().await;
    let (one, other) = (world.had().await, world.open());
    let old = world.repository.files.clone();
    // One sees a newer timestamp, and no more.
    world.repository.publish(&trusted_root());
    world.repository.files.remove("2.snapshot.json");
    world.mirror.serve(&world.repository);
    one.refresh(world.now).await.expect_err("half a state");
    // The other has what is older confirmed, and later.
    world.repository.files = old;
    world.mirror.serve(&world.repository);
    let later = world.now + days(1);
    other.refresh(later).await.expect("a good mirror");
    let restarted = Kept::open(world.settings(), later);
    assert_eq!(restarted.standing(later).confirmed_at, Some(later));
    let error = restarted.refresh(later).await.expect_err("an older state");
    let error = error.to_string();
    assert!(error.contains("rollback detected for timestamp"), "{error}");
}

// What others put there counts as far as it verifies.
#[tokio::test]
async fn a_file_that_nobody_signed_is_replaced() {
    let world = World::new().await;
    let kept = world.had().await;
    let good = document(&kept, world.now);
    let path = world.directory.path().join("acme.json");
    let mut other = World::new().await;
    other.repository.publish(&trusted_root());
    other.mirror.serve(&other.repository);
    other.had().await;
    std::fs::copy(other.directory.path().join("acme.json"), &path).expect("a copy");
    kept.refresh(world.now).await.expect("a good mirror");
    assert_eq!(document(&world.open(), world.now), good);
    // A confirmation that is yet to come is none.
    let text = std::fs::read_to_string(&path).expect("the file");
    let mut saved: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    saved["confirmed_at"] = json!("2030-01-01T00:00:00Z");
    std::fs::write(&path, saved.to_string()).expect("the file");
    kept.refresh(world.now).await.expect("a good mirror");
    let confirmed_at = world.open().standing(world.now).confirmed_at;
    assert_eq!(confirmed_at, Some(world.now));
}

#[tokio::test]
async fn documents_of_two_states_are_refused() {
    let mut world = World::new().await;
    let kept = world.had().await;
    let old = world.repository.files.clone();
    world.repository.publish(&trusted_root());
    // The new timestamp with the old snapshot under the new name.
    let snapshot = old["1.snapshot.json"].clone();
    world.mirror.serve(&world.repository);
    world.mirror.put("2.snapshot.json", Served::Bytes(snapshot));
    refuses(&world, &kept, "integrity check failed").await;
    // The new snapshot with the old targets.
    let targets = old["1.targets.json"].clone();
    world.mirror.serve(&world.repository);
    world.mirror.put("2.targets.json", Served::Bytes(targets));
    refuses(&world, &kept, "does not match snapshot pin").await;
    // All of it, with another trusted root under the name of this one.
    let files = world.repository.files.iter();
    let names = files.filter(|(name, _)| name.starts_with("targets/"));
    let other = trusted_root().into_bytes();
    world.mirror.serve(&world.repository);
    for (name, bytes) in names {
        let mut other = other.clone();
        other.resize(bytes.len(), b' ');
        world.mirror.put(name, Served::Bytes(other));
    }
    refuses(&world, &kept, "sha256 mismatch").await;
}

#[tokio::test]
async fn a_state_without_enough_signatures_is_refused() {
    // Each role in turn: none of its keys signs, or another key does.
    type Roles = [(&'static str, fn(&mut Repository) -> &mut tuf::Role); 3];
    let roles: Roles = [
        ("timestamp", |repository| &mut repository.timestamp),
        ("snapshot", |repository| &mut repository.snapshot),
        ("targets", |repository| &mut repository.targets),
    ];
    for (name, role) in roles {
        let mut world = World::new().await;
        let kept = world.had().await;
        role(&mut world.repository).signing = 0;
        world.repository.publish(&trusted_root());
        world.mirror.serve(&world.repository);
        let reason = format!("threshold not met for role {name}: 0/1");
        refuses(&world, &kept, &reason).await;
        let role = role(&mut world.repository);
        (role.signing, role.keys) = (1, vec![KeyPair::generate()]);
        world.repository.publish(&trusted_root());
        world.mirror.serve(&world.repository);
        refuses(&world, &kept, &reason).await;
    }
}

#[tokio::test]
async fn a_root_without_enough_signatures_is_refused() {
    // One of three keys, where two have to sign.
    let mut world = World::new().await;
    let kept = world.had().await;
    world.repository.root.signing = 1;
    world.repository.publish_root(&[]);
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "threshold not met for role root: 1/2").await;

    // New keys, and nobody of the old ones agrees.
    let mut world = World::new().await;
    let kept = world.had().await;
    world.repository.root.keys = (0..3).map(|_| KeyPair::generate()).collect();
    world.repository.publish_root(&[]);
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "threshold not met for role root: 0/2").await;

    // A version left out.
    let mut world = World::new().await;
    let kept = world.had().await;
    world.repository.root.version = 2;
    world.repository.publish_root(&[]);
    let skipped = world.repository.files["3.root.json"].clone();
    world.mirror.put("2.root.json", Served::Bytes(skipped));
    refuses(&world, &kept, "root version must increment by one").await;
}

// A revoked timestamp key is refused even where its version is higher.
#[tokio::test]
async fn a_rotated_key_signs_no_more() {
    let mut world = World::new().await;
    let kept = world.had().await;
    let lost = KeyPair::generate();
    let lost = std::mem::replace(&mut world.repository.timestamp.keys, vec![lost]);
    world.repository.publish_root(&[]);
    world.repository.publish_timestamp();
    world.mirror.serve(&world.repository);
    kept.refresh(world.now).await.expect("a good mirror");
    world.repository.timestamp.keys = lost;
    world.repository.publish_timestamp();
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "threshold not met for role timestamp").await;
}

#[tokio::test]
async fn one_key_under_two_names_counts_once() {
    let world = World::new().await;
    let mut root: serde_json::Value = serde_json::from_slice(&world.pinned).expect("JSON");
    let signed = &mut root["signed"];
    let name = signed["roles"]["timestamp"]["keyids"][0].clone();
    let name = name.as_str().expect("a name").to_owned();
    signed["keys"]["other"] = signed["keys"][&name].clone();
    signed["roles"]["timestamp"] = json!({ "keyids": [name, "other"], "threshold": 2 });
    let bytes = tuf::signed_by(signed, world.repository.root.keys.iter());
    let error = check_root(&bytes).expect_err("one key twice");
    assert!(error.contains("one key under two names"), "{error}");
    assert_eq!(check_root(&world.pinned), Ok(()));
    let threshold_of_nobody = {
        signed["roles"]["root"]["threshold"] = json!(0);
        tuf::signed_by(signed, std::iter::empty())
    };
    assert!(check_root(&threshold_of_nobody).is_err());
}

#[tokio::test]
async fn what_has_expired_is_refused() {
    type Roles = [(&'static str, fn(&mut Repository) -> &mut tuf::Role); 3];
    let roles: Roles = [
        ("timestamp", |repository| &mut repository.timestamp),
        ("snapshot", |repository| &mut repository.snapshot),
        ("targets", |repository| &mut repository.targets),
    ];
    for (name, role) in roles {
        let mut world = World::new().await;
        let kept = world.had().await;
        role(&mut world.repository).expires = world.now - days(1);
        world.repository.publish(&trusted_root());
        world.mirror.serve(&world.repository);
        refuses(&world, &kept, &format!("{name} metadata expired")).await;
    }
    let mut world = World::new().await;
    let kept = world.had().await;
    world.repository.root.expires = world.now - days(1);
    world.repository.publish_root(&[]);
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "root metadata expired").await;
}

// A mirror that shows the same state for ever is found out when the timestamp expires.
#[tokio::test]
async fn a_frozen_mirror_confirms_nothing() {
    let world = World::new().await;
    let kept = world.had().await;
    let later = world.now + days(8);
    let error = kept
        .refresh(later)
        .await
        .expect_err("the timestamp expired");
    assert!(error.to_string().contains("timestamp metadata expired"));
    assert_eq!(
        kept.standing(later).confirmed_at,
        Some(world.now),
        "the bound runs from the last confirmation"
    );
}

#[tokio::test]
async fn large_files_are_not_read() {
    for name in [
        "timestamp.json",
        "2.root.json",
        "2.snapshot.json",
        "2.targets.json",
    ] {
        let mut world = World::new().await;
        let kept = world.had().await;
        world.repository.publish(&trusted_root());
        world.mirror.serve(&world.repository);
        world.mirror.put(name, Served::Endless);
        refuses(&world, &kept, "is larger than").await;
    }
    let mut world = World::new().await;
    let kept = world.had().await;
    let target = json!({ "length": 2 << 20, "hashes": { "sha256": "00".repeat(32) } });
    world
        .repository
        .publish_targets(&json!({ "trusted_root.json": target }));
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "exceeds configured max").await;
}

#[tokio::test]
async fn what_is_signed_and_no_trust_root_is_refused() {
    let mut world = World::new().await;
    let kept = world.had().await;
    world.repository.publish("{}");
    world.mirror.serve(&world.repository);
    refuses(&world, &kept, "trusted_root.json").await;
}

#[tokio::test]
async fn a_mirror_that_does_not_answer_changes_nothing() {
    let world = World::new().await;
    let kept = world.had().await;
    let good = document(&kept, world.now);
    let elsewhere = World::new().await;
    for served in [
        Served::Status(500),
        Served::Silence,
        Served::Redirect(format!("{}/timestamp.json", elsewhere.mirror.url())),
        Served::Status(404),
    ] {
        world.mirror.put("timestamp.json", served.clone());
        let error = kept.refresh(world.now).await.expect_err("no answer");
        assert!(
            matches!(error, WalkError::Unreachable(_)),
            "{served:?}: {error}"
        );
        assert_eq!(document(&kept, world.now), good, "{served:?}");
    }
    assert!(
        elsewhere.mirror.asked().is_empty(),
        "a redirect was followed"
    );
    world.mirror.down(true);
    let error = kept.refresh(world.now).await.expect_err("no mirror");
    assert!(matches!(error, WalkError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn the_last_good_root_is_used_to_a_bound() {
    let world = World::new().await;
    let kept = world.had().await;
    world.mirror.down(true);
    let (before, after) = (
        world.now + days(7) - SignedDuration::from_secs(1),
        world.now + days(7),
    );
    assert!(document(&kept, before).is_some());
    let why = kept.standing(after).root.expect_err("the bound has passed");
    assert!(why.contains("could be used until"), "{why}");
    // A restart does not move the bound, and neither does a clock that was moved.
    let restarted = Kept::open(world.settings(), after);
    assert_eq!(document(&restarted, after), None);
    assert!(restarted.is_due(after));
    // Who asks for it goes on.
    let mut settings = world.settings();
    settings.unsafe_keep_stale = true;
    assert!(document(&Kept::open(settings, after), after).is_some());
    // A mirror that is back ends it.
    let mut world = world;
    world.repository.timestamp.expires = after + days(7);
    world.repository.publish_timestamp();
    world.mirror.serve(&world.repository);
    world.mirror.down(false);
    restarted.refresh(after).await.expect("a good mirror");
    assert!(document(&restarted, after).is_some());
}

#[tokio::test]
async fn no_edit_of_the_file_moves_the_bound_or_admits_a_root() {
    let world = World::new().await;
    world.had().await;
    let path = world.directory.path().join("acme.json");
    let honest = std::fs::read_to_string(&path).expect("the file");
    let edit = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut saved: serde_json::Value = serde_json::from_str(&honest).expect("JSON");
        change(&mut saved);
        std::fs::write(&path, saved.to_string()).expect("the file");
    };
    // A confirmation that is said to be later than it can have been: the timestamp lasts 7 days.
    edit(&|saved| saved["confirmed_at"] = json!("2030-01-01T00:00:00Z"));
    let kept = world.open();
    let until = kept.standing(world.now).usable_until;
    assert_eq!(until, Some(world.now + days(14)));
    assert_eq!(document(&kept, world.now + days(14)), None);
    // None at all.
    edit(&|saved| saved["confirmed_at"] = json!(null));
    assert_eq!(document(&world.open(), world.now), None);
    // Another trusted root.
    edit(&|saved| saved["good"]["targets/trusted_root.json"] = json!(trusted_root()));
    assert_eq!(document(&world.open(), world.now), None);
    // Another repository's documents.
    let other = World::new().await;
    other.had().await;
    std::fs::copy(other.directory.path().join("acme.json"), &path).expect("a copy");
    assert_eq!(document(&world.open(), world.now), None);
    // Junk, and half a file.
    for text in ["junk", &honest[..honest.len() / 2]] {
        std::fs::write(&path, text).expect("the file");
        assert_eq!(document(&world.open(), world.now), None);
    }
    world
        .open()
        .refresh(world.now)
        .await
        .expect("a good mirror");
}

// Every field of every document flipped, removed, doubled, and swapped with that of another
// repository: what is kept leads to the root that it was kept for, or to none.
#[tokio::test]
async fn no_mutant_of_what_is_kept_leads_to_another_root() {
    let (mut world, mut other) = (World::new().await, World::new().await);
    let mut files = Vec::new();
    for world in [&mut world, &mut other] {
        // So that there is a root that the pinned one leads to.
        world.repository.rotate_root();
        world.mirror.serve(&world.repository);
        world.had().await;
        let path = world.directory.path().join("acme.json");
        files.push(std::fs::read(path).expect("the file"));
    }
    let json = |file: &[u8]| -> Option<String> {
        let saved: shelf::Saved = serde_json::from_slice(file).ok()?;
        let walked = chain::walk_again(&world.pinned, &saved.good, world.now);
        Some(walked.ok()?.json)
    };
    let sound = json(&files[0]).expect("what was kept is sound");
    let set = Thoroughness::Quick;
    let mut mutants = mutants::of_json(&files[0], &[&files[1]], set);
    // What was seen says which versions are too old, and is not walked through.
    mutants.retain(|mutant| mutant.change.starts_with("good"));
    let mut refused = 0;
    for mutant in &mutants {
        match json(&mutant.document) {
            None => refused += 1,
            Some(json) => assert_eq!(json, sound, "{}", mutant.change),
        }
    }
    println!("TUF: {} mutants, {refused} refused", mutants.len());
    assert!(refused > 500, "{refused} of {}", mutants.len());
}

proptest! {
    #[test]
    fn any_documents_are_walked_through_or_not(
        pinned in prop::collection::vec(any::<u8>(), 0..60),
        name in "(root|timestamp|snapshot|targets|root_history/[0-9]{0,3})(.json)?",
        text in "\\PC{0,60}",
        expires in "[0-9TZ:.-]{0,24}",
    ) {
        let dated = format!(r#"{{"signed":{{"_type":"root","expires":"{expires}"}},"signatures":[]}}"#);
        for text in [text, dated] {
            let documents = [(name.clone(), text.clone())].into();
            prop_assert!(chain::walk_again(&pinned, &documents, now()).is_err());
            prop_assert!(chain::walk_again(text.as_bytes(), &documents, now()).is_err());
            let _ = chain::root_expires_at(text.as_bytes());
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_keeps_the_last_good_root() {
    let world = World::new().await;
    let kept = world.had().await;
    // Far ahead: everything has expired, and nothing is believed for ever.
    let ahead = world.now + days(400);
    assert!(kept.refresh(ahead).await.is_err());
    assert_eq!(document(&kept, ahead), None);
    // Right again: as before. Behind: usable, and asked soon enough.
    assert!(document(&kept, world.now).is_some());
    let behind = world.now - days(400);
    assert!(document(&kept, behind).is_some());
    assert!(kept.is_due(behind));
}

#[test]
fn what_is_built_in_can_be_used() {
    for which in [BuiltIn::PublicGood, BuiltIn::Staging, BuiltIn::GitHub] {
        let root = built_in(RootName::from("public"), which).expect("a usable root");
        assert!(root.expires_at.is_some());
        assert_eq!(check_root(&pinned(which)), Ok(()), "{which:?}");
        assert!(which.mirror().starts_with("https://"));
    }
}

#[tokio::test]
async fn a_built_in_root_is_there_at_once_and_to_its_own_bound() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.built_in = Some(BuiltIn::PublicGood);
    settings.pinned = pinned(BuiltIn::PublicGood);
    let kept = Kept::open(settings, world.now);
    let standing = kept.standing(world.now);
    assert!(standing.root.is_ok());
    assert!(standing.confirmed_at.is_none());
    let until = standing.usable_until.expect("the TUF root's expiry");
    assert!(document(&kept, until).is_none());
    // A mirror of somebody else's repository changes nothing.
    let error = kept
        .refresh(world.now)
        .await
        .expect_err("another repository");
    assert!(matches!(
        error,
        WalkError::Refused(_) | WalkError::Unreachable(_)
    ));
    assert!(document(&kept, world.now).is_some());
}
