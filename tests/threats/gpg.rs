//! GPG signatures from a lookaside store: who signed, for which image and digest, with a key that
//! is worth something at that time.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::policy::SignedIdentity;
use pullgate::sandbox::gpg::{Holder, Life, Manner, payload};
use pullgate::sandbox::image::{self, Package};

use crate::support::{
    HOST, Setup, World, gpg_rule, identity_rule, release, rules, settings, signed_by,
};

const DAY: Duration = Duration::from_secs(86_400);
const EXACT: SignedIdentity = SignedIdentity::MatchRepoDigestOrExact;

fn yesterday() -> Timestamp {
    Clock::system().now() - SignedDuration::from_hours(24)
}

fn holder() -> Holder {
    Holder::new(Life::from(yesterday()))
}

/// A world in which what the holder of the keyring signed passes.
async fn world(keyring: &[u8], identity: SignedIdentity) -> World {
    let signer = gpg_rule("ada", keyring, identity);
    World::with(Setup {
        lookaside: true,
        ..Setup::ruled(rules(vec![signed_by("p", "**", &[signer])]))
    })
    .await
}

fn push(world: &World) -> Package {
    let package = image::runnable("signed").tagged("v1");
    world.push("app", &package);
    package
}

/// An image as `app:v1`, with a signature of it for this reference.
fn push_signed(world: &World, holder: &Holder, reference: &str) -> Package {
    let package = push(world);
    let message = holder.sign_image(&package.digest(), reference, yesterday());
    world.detach("app", &package.digest(), &[message]);
    package
}

fn v1() -> String {
    format!("{HOST}/app:v1")
}

#[tokio::test]
async fn b_a_signed_image_passes_by_tag_by_digest_and_with_its_blobs() {
    let holder = holder();
    let world = world(&holder.keyring(), EXACT).await;
    let package = push_signed(&world, &holder, &v1());
    world.manifest("app", "v1").await.admits(&package.manifest);
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    for blob in &package.blobs {
        world.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
}

// THREATS B1, B2: another digest's signature, a tampered one, and none at all.
#[tokio::test]
async fn b1_a_signature_of_something_else_does_not_count() {
    let holder = holder();
    let world = world(&holder.keyring(), EXACT).await;
    let package = push(&world);
    world.manifest("app", "v1").await.denies("unsigned");
    let others = holder.sign_image(&Digest::sha256(b"other"), &v1(), yesterday());
    let mut tampered = holder.sign_image(&package.digest(), &v1(), yesterday());
    let at = tampered.windows(6).position(|part| part == b"app:v1");
    tampered[at.expect("the name") + 5] = b'2';
    let cosigns = String::from_utf8(payload(&package.digest(), &v1())).expect("JSON");
    let cosigns = cosigns.replace("atomic container", "cosign container image");
    let cosigns = holder.sign(cosigns.as_bytes(), &Manner::at(yesterday()));
    for signature in [others, tampered, cosigns, b"junk".to_vec()] {
        let world = self::world(&holder.keyring(), EXACT).await;
        push(&world);
        world.detach("app", &package.digest(), &[signature]);
        world
            .manifest("app", "v1")
            .await
            .denies("invalid_signature");
    }
}

// THREATS B10: what lies beside a good signature harms nothing.
#[tokio::test]
async fn b10_junk_beside_a_good_detached_signature_harms_nothing() {
    let holder = holder();
    let world = world(&holder.keyring(), EXACT).await;
    let package = push(&world);
    let good = holder.sign_image(&package.digest(), &v1(), yesterday());
    let huge = vec![0xff; 1 << 20];
    let stranger = self::holder().sign_image(&package.digest(), &v1(), yesterday());
    let signatures = [b"junk".to_vec(), Vec::new(), huge, stranger, good];
    world.detach("app", &package.digest(), &signatures);
    world.manifest("app", "v1").await.admits(&package.manifest);
}

// THREATS I4: a signature names the image that it is for.
#[tokio::test]
async fn i4_a_signature_for_another_image_does_not_count() {
    use SignedIdentity::{MatchExact, MatchRepository};
    let holder = holder();
    let other_tag = format!("{HOST}/app:v2");
    let other_repository = format!("{HOST}/other:v1");
    for (rule, signed, by_tag, by_digest) in [
        (EXACT, v1(), true, true),
        (EXACT, other_tag.clone(), false, true),
        (EXACT, other_repository.clone(), false, false),
        (MatchExact, v1(), true, false),
        (MatchExact, other_tag.clone(), false, false),
        (MatchRepository, other_tag, true, true),
        (MatchRepository, other_repository, false, false),
    ] {
        let world = world(&holder.keyring(), rule.clone()).await;
        let package = push_signed(&world, &holder, &signed);
        let told = format!("{rule:?} {signed}");
        for (reference, passes) in [
            ("v1".to_owned(), by_tag),
            (package.digest().to_string(), by_digest),
        ] {
            let answer = world.manifest("app", &reference).await;
            match passes {
                true => assert_eq!(answer.body, package.manifest, "{told} {reference}"),
                false => {
                    answer.denies("untrusted_signer");
                    assert!(answer.message().contains(&signed), "{}", answer.message());
                }
            }
        }
    }
}

// THREATS T2: keys have their time, also for what is cached.
#[tokio::test]
async fn t2_an_expired_key_admits_nothing_any_more() {
    let mut holder = holder();
    holder.life.lasts = Some(DAY * 2);
    let world = world(&holder.keyring(), EXACT).await;
    let package = push_signed(&world, &holder, &v1());
    world.manifest("app", "v1").await.admits(&package.manifest);
    for blob in &package.blobs {
        world.blob("app", Digest::sha256(blob)).await.admits(blob);
    }
    world.pass(DAY * 2);
    let answer = world.manifest("app", "v1").await;
    answer.denies("invalid_signature");
    assert!(answer.message().contains("expired"), "{}", answer.message());
    for blob in &package.blobs {
        let answer = world.blob("app", Digest::sha256(blob)).await;
        answer.denies("not_reachable");
    }
}

// THREATS T2, C1: a revocation that a reload brings counts at once, whenever was signed.
#[tokio::test]
async fn t2_a_revoked_key_admits_nothing_any_more() {
    let mut holder = holder();
    let world = world(&holder.keyring(), EXACT).await;
    let package = push_signed(&world, &holder, &v1());
    world.manifest("app", "v1").await.admits(&package.manifest);
    holder.life.revoked = true;
    let signer = gpg_rule("ada", &holder.keyring(), EXACT);
    world.reload(rules(vec![signed_by("p", "**", &[signer])]));
    let answer = world.manifest("app", "v1").await;
    answer.denies("invalid_signature");
    assert!(answer.message().contains("revoked"), "{}", answer.message());
}

#[tokio::test]
async fn i_a_strangers_key_admits_nothing() {
    let (ada, mallory) = (holder(), holder());
    let world = world(&ada.keyring(), EXACT).await;
    push_signed(&world, &mallory, &v1());
    let answer = world.manifest("app", "v1").await;
    answer.denies("invalid_signature");
    let message = answer.message();
    assert!(message.contains(&mallory.fingerprint()), "{message}");
    // Known, but not for this image.
    let ada_only = signed_by("p", "**", &[gpg_rule("ada", &ada.keyring(), EXACT)]);
    let elsewhere = signed_by(
        "q",
        "x.test/**",
        &[gpg_rule("m", &mallory.keyring(), EXACT)],
    );
    world.reload(rules(vec![ada_only, elsewhere]));
    world.manifest("app", "v1").await.denies("untrusted_signer");
}

// THREATS C4: a store that cannot be read is no empty store.
#[tokio::test]
async fn c4_a_lookaside_store_that_is_away_is_never_remembered_as_unsigned() {
    let holder = holder();
    let world = world(&holder.keyring(), EXACT).await;
    let package = push_signed(&world, &holder, &v1());
    let away = world.lookaside().with_extension("away");
    fs::rename(world.lookaside(), &away).expect("moves");
    let answer = world.manifest("app", "v1").await;
    answer.cannot_tell("evidence_unavailable");
    assert!(
        answer.message().contains("lookaside"),
        "{}",
        answer.message()
    );
    fs::rename(&away, world.lookaside()).expect("moves");
    world.manifest("app", "v1").await.admits(&package.manifest);
}

// THREATS D1, D2: so many signatures are read, and so much of each.
#[tokio::test]
async fn d1_floods_of_detached_signatures_are_read_to_a_limit() {
    let holder = holder();
    let world = world(&holder.keyring(), EXACT).await;
    let package = push(&world);
    let good = holder.sign_image(&package.digest(), &v1(), yesterday());
    let mut signatures = vec![b"junk".to_vec(); settings().evidence.artifacts_max];
    signatures.push(good);
    world.detach("app", &package.digest(), &signatures);
    world.manifest("app", "v1").await.denies("over_limit");
}

// Without a GPG signer nobody asks the store.
#[tokio::test]
async fn a_store_that_can_prove_nothing_is_not_asked() {
    let setup = Setup {
        lookaside: true,
        ..Setup::ruled(rules(vec![signed_by(
            "p",
            "**",
            &[identity_rule(&release())],
        )]))
    };
    let world = World::with(setup).await;
    push(&world);
    fs::remove_dir_all(world.lookaside()).expect("is removed");
    world.manifest("app", "v1").await.denies("unsigned");
    fs::create_dir_all(world.lookaside()).expect("is made");
}
