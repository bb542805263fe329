//! Time, thresholds and identity: who signed, when, and how many of them.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pullgate::policy::{
    Claim, IdentityRule, KeyHolder, Keyless, PatternError, Policy, Requirement, SignedBy,
    SignerKind, SignerRule, TimedKey,
};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::Claim as Certified;
use pullgate::sandbox::sigstore::{Fault, Identity, KeyPair, Log, Recipe, Signer};
use pullgate::verify::{Demands, Logged, PublicKey, RootName};

use crate::support::{
    HOST, ROOT, Setup, World, identity_rule, key_rule, keyless, policy, recipe, release, rules,
    signed_by, stranger,
};

const GITHUB: &str = "https://token.actions.githubusercontent.com";

/// Pushes an image with one bundle by this recipe.
fn push_with_bundle(world: &World, recipe: &Recipe<'_>, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    let evidence = world.sigstore.signature(&package.digest(), recipe);
    world.attach("app", &package, &evidence);
    package
}

/// Pushes an image with one signature layer by this recipe.
fn push_with_layer(world: &World, recipe: &Recipe<'_>, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    world.sign_layers("app", &package, std::slice::from_ref(recipe));
    package
}

/// What a fault has to lead to.
enum Fate {
    Refused,
    Sound,
}

/// In a bundle with one entry of this log and a timestamp.
fn fate_in_bundle(fault: Fault, log: Log) -> Fate {
    match (fault, log) {
        // One of several subjects is enough; what stands twice counts once.
        (Fault::SecondSubject | Fault::DuplicateEntry | Fault::DuplicateTimestamp, _)
        // Version 1 has a time of its own in its promise, and a proof beside the promise.
        | (Fault::NoTimestamp | Fault::NoPromise, Log::RekorV1)
        // Version 2 gives no promise that could be broken.
        | (Fault::ForeignPromise | Fault::NoPromise, Log::RekorV2) => Fate::Sound,
        _ => Fate::Refused,
    }
}

// THREATS B1 to B4, T1, T2, T4, T5, T6, I3: of everything that can be wrong with a keyless
// bundle, each single thing is enough to refuse it.
#[tokio::test]
async fn t1_to_t6_every_single_fault_in_a_bundle_is_refused() {
    let world = World::new().await;
    let root = world.sigstore.trusted_root().with_expired_authority();
    world.reload_under(Setup::default().rules, &root.json());
    let identity = release();
    for log in [Log::RekorV1, Log::RekorV2] {
        for fault in Fault::ALL {
            let recipe = Recipe::keyless(&identity, log).timestamped().with(fault);
            let package = push_with_bundle(&world, &recipe, &format!("{log:?} {fault:?}"));
            let answer = world.manifest("app", package.digest()).await;
            match fate_in_bundle(fault, log) {
                Fate::Sound => answer.admits(&package.manifest),
                Fate::Refused => {
                    let status = answer.status.as_u16();
                    assert_eq!(status, 403, "{fault:?} in {log:?} was let through");
                }
            }
        }
    }
}

// The same for the faults that a signature layer can have.
#[tokio::test]
async fn t1_to_t6_every_single_fault_in_a_layer_is_refused() {
    let world = World::new().await;
    let root = world.sigstore.trusted_root().with_expired_authority();
    world.reload_under(Setup::default().rules, &root.json());
    let identity = release();
    for fault in [
        Fault::OtherSubject,
        Fault::UnreadablePayload,
        Fault::NoSct,
        Fault::ForeignSct,
        Fault::BrokenSct,
        Fault::DuplicateSct,
        Fault::ForeignAuthority,
        Fault::ExpiredAuthority,
        Fault::ExpiredCertificate,
        Fault::FutureCertificate,
        Fault::NoCodeSigning,
        Fault::SecondIdentity,
        Fault::IssuersDisagree,
        Fault::NoVerifier,
        Fault::BrokenSignature,
        Fault::EntryOfOtherDigest,
        Fault::EntryOfOtherSignature,
        Fault::EntryOfOtherVerifier,
        Fault::ForeignLog,
        Fault::ForeignPromise,
        Fault::NoPromise,
    ] {
        let recipe = Recipe::keyless(&identity, Log::RekorV1).with(fault);
        let package = push_with_layer(&world, &recipe, &format!("{fault:?}"));
        let answer = world.manifest("app", package.digest()).await;
        assert_eq!(answer.status.as_u16(), 403, "{fault:?} was let through");
    }
}

// THREATS T1: a certificate that is valid itself does not outlive the authority that issued it.
#[tokio::test]
async fn t1_an_expired_authority_certifies_nobody() {
    let world = World::new().await;
    let root = world.sigstore.trusted_root().with_expired_authority();
    world.reload_under(Setup::default().rules, &root.json());
    let identity = release();
    let plain = recipe(&identity);
    let expired = plain.clone().with(Fault::ExpiredAuthority);
    let package = push_with_bundle(&world, &expired, "expired authority");
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("invalid_signature");
    // The other authority of the same root goes on.
    let package = push_with_bundle(&world, &plain, "current authority");
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

fn at_least(count: usize, of: &[Arc<SignerRule>]) -> Policy {
    let requirement = Requirement::signed_by(SignedBy {
        at_least: count,
        of: of.to_vec(),
    });
    policy("several", "**", requirement)
}

// THREATS T3: one signer is one, however often it signs and by whatever names policy knows it.
#[tokio::test]
async fn t3_one_signer_is_counted_once() {
    let key = KeyPair::generate();
    let identity = release();
    let glob = |name, text| {
        let rule = IdentityRule::glob(text).expect("a glob");
        keyless(name, GITHUB, rule)
    };
    let policies = [
        at_least(
            2,
            &[key_rule("one", &key, false), key_rule("two", &key, false)],
        ),
        at_least(
            2,
            &[
                identity_rule(&identity),
                glob("wide", "https://github.com/acme/**"),
                identity_rule(&stranger()),
            ],
        ),
    ];
    for (signer, policy) in [Signer::Key(&key), Signer::Keyless(&identity)]
        .into_iter()
        .zip(policies)
    {
        let world = World::with(Setup::ruled(rules(vec![policy]))).await;
        let package = image::runnable("signed over and over");
        world.push("app", &package);
        for log in [Log::RekorV1, Log::RekorV2, Log::RekorV1Intoto] {
            let recipe = Recipe::new(signer, log);
            for recipe in [
                recipe.clone(),
                recipe.clone().with(Fault::DuplicateEntry),
                recipe.clone().timestamped().with(Fault::DuplicateTimestamp),
            ] {
                let evidence = world.sigstore.signature(&package.digest(), &recipe);
                world.attach("app", &package, &evidence);
            }
        }
        let recipe = Recipe::new(signer, Log::RekorV1);
        world.sign_layers("app", &package, &[recipe.clone(), recipe]);
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("not_enough_signers");
    }
}

// THREATS T3: two signers are two.
#[tokio::test]
async fn t3_two_signers_are_two() {
    let (one, other) = (release(), stranger());
    let policy = at_least(2, &[identity_rule(&one), identity_rule(&other)]);
    let world = World::with(Setup::ruled(rules(vec![policy]))).await;
    let package = image::runnable("signed by two");
    world.push("app", &package);
    world.sign("app", &package, &one);
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("not_enough_signers");
    let both = image::runnable("really signed by two");
    world.push("app", &both);
    world.sign("app", &both, &one);
    world.sign("app", &both, &other);
    let answer = world.manifest("app", both.digest()).await;
    answer.admits(&both.manifest);
}

// THREATS T7: no policy is satisfied by nobody.
#[tokio::test]
async fn t7_a_threshold_of_nobody_admits_nothing() {
    let world = World::with(Setup::ruled(rules(vec![at_least(0, &[])]))).await;
    let package = image::runnable("nobody signed");
    world.push("app", &package);
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("unsigned");
}

/// A world in which GitHub's workflows that this rule fits may sign.
async fn world_of(rule: IdentityRule) -> World {
    let signer = keyless("release", GITHUB, rule);
    World::with(Setup::ruled(rules(vec![signed_by("p", "**", &[signer])]))).await
}

// THREATS I1 (CVE-2025-29778): a rule that has only a regular expression is enforced, as is its
// issuer; and no rule is made of nothing.
#[tokio::test]
async fn i1_a_regular_expression_alone_is_enforced() {
    for empty in [
        IdentityRule::exact(""),
        IdentityRule::glob(""),
        IdentityRule::regex(""),
    ] {
        assert!(empty.is_err(), "{empty:?}");
    }
    let text = r"https://github\.com/acme/widget/\.github/workflows/.*@refs/tags/v[0-9.]+";
    let world = world_of(IdentityRule::regex(text).expect("a rule")).await;
    let identity = release();
    let package = push_with_bundle(&world, &recipe(&identity), "right");
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);

    let other_issuer = Identity {
        issuer: "https://accounts.google.com".to_owned(),
        ..release()
    };
    let other_workflow = Identity::github_actions("acme/gadget", "release.yml", "refs/tags/v1.0.0");
    for wrong in [other_issuer, other_workflow, stranger()] {
        let package = push_with_bundle(&world, &recipe(&wrong), &format!("{wrong:?}"));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("untrusted_signer");
    }
}

// THREATS I2 (CVE-2026-22772): a pattern matches the whole identity or nothing, and what is not
// written as a wildcard is none.
#[tokio::test]
async fn i2_patterns_match_no_more_than_they_say() {
    let repository = "https://github.com/acme/widget";
    let rules = [
        IdentityRule::regex(repository),
        IdentityRule::regex(&format!("{repository}|nothing")),
        IdentityRule::regex("https://github[.]com/acme/widget/[.]github/workflows/release[.]yml"),
        IdentityRule::regex("refs/tags/v1[.]0[.]0"),
        IdentityRule::glob("https://github.com/acme/widget/*@refs/tags/v1.0.0"),
        IdentityRule::glob("https://github.com/acme/*"),
        IdentityRule::glob("*"),
        IdentityRule::glob("https://github.com/acme/widget/?github/workflows/**"),
        IdentityRule::exact(repository),
    ];
    for rule in rules {
        let rule = rule.expect("a rule");
        let world = world_of(rule.clone()).await;
        let identity = release();
        let package = push_with_bundle(&world, &recipe(&identity), "right, but not by this rule");
        let answer = world.manifest("app", package.digest()).await;
        assert_eq!(answer.reason(), "untrusted_signer", "{rule}");
    }
    // A dot in a glob is a dot.
    let rule = IdentityRule::glob("https://github.com/acme/widget/**").expect("a rule");
    let world = world_of(rule).await;
    let lookalike = Identity {
        subject: release().subject.replace("github.com", "githubXcom"),
        ..release()
    };
    let package = push_with_bundle(&world, &recipe(&lookalike), "lookalike");
    let answer = world.manifest("app", package.digest()).await;
    answer.denies("untrusted_signer");
}

// THREATS I3: a certificate that could be read as two people's, or as of two issuers, is
// nobody's, in either format.
#[tokio::test]
async fn i3_a_certificate_that_names_two_is_nobodys() {
    let world = World::new().await;
    let identity = release();
    for fault in [Fault::SecondIdentity, Fault::IssuersDisagree] {
        let bundle = recipe(&identity).with(fault);
        let layer = Recipe::keyless(&identity, Log::RekorV1).with(fault);
        for package in [
            push_with_bundle(&world, &bundle, &format!("bundle {fault:?}")),
            push_with_layer(&world, &layer, &format!("layer {fault:?}")),
        ] {
            let answer = world.manifest("app", package.digest()).await;
            answer.denies("invalid_signature");
        }
    }
}

fn with_claims(
    identity: &Identity,
    exact: &[(&'static str, &str)],
    globs: &[(&'static str, &str)],
) -> Arc<SignerRule> {
    let base = identity_rule(identity);
    let SignerKind::Keyless(rule) = &base.kind else {
        panic!("keyless");
    };
    let claim = |value: Result<IdentityRule, _>, name| Claim {
        name,
        value: value.unwrap_or_else(|_: PatternError| panic!("a pattern")),
    };
    let exact = exact
        .iter()
        .map(|(name, value)| claim(IdentityRule::exact(value), *name));
    let globs = globs
        .iter()
        .map(|(name, value)| claim(IdentityRule::glob(value), *name));
    Arc::new(SignerRule {
        name: base.name.clone(),
        kind: SignerKind::Keyless(Keyless {
            claims: exact.chain(globs).collect(),
            ..rule.clone()
        }),
        signed_identity: None,
    })
}

// THREATS I5: the claims that a policy asks for are those of the certificate, and each has to be
// there: a fork's build, a pull request's, and one that does not say.
#[tokio::test]
async fn i5_claims_of_another_build_do_not_fit() {
    let identity = release();
    let signer = with_claims(
        &identity,
        &[
            ("source_repository_uri", "https://github.com/acme/widget"),
            ("build_trigger", "push"),
        ],
        &[],
    );
    let world = World::with(Setup::ruled(rules(vec![signed_by("p", HOST, &[])]))).await;
    world.reload(rules(vec![signed_by("p", "**", &[signer])]));
    let package = push_with_bundle(&world, &recipe(&identity), "right");
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    let fork = identity.clone().claiming(
        Certified::SourceRepositoryUri,
        "https://github.com/mallory/widget",
    );
    let pull_request = identity
        .clone()
        .claiming(Certified::BuildTrigger, "pull_request_target");
    let mut silent = identity;
    silent.claims.remove(&Certified::BuildTrigger);
    for wrong in [fork, pull_request, silent] {
        let package = push_with_bundle(&world, &recipe(&wrong), &format!("{:?}", wrong.claims));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("untrusted_signer");
    }
}

// THREATS I5: a reusable workflow signs for whoever calls it. Its own name stands in the
// certificate, so only the claims tell who called, and from which ref.
#[tokio::test]
async fn i5_a_reusable_workflow_is_told_by_who_calls_it() {
    let shared = |repository: &str, git_ref: &str| {
        let caller = format!("https://github.com/acme/{repository}");
        Identity::github_actions("acme/workflows", "build.yml", "refs/heads/main")
            .claiming(Certified::SourceRepositoryUri, &caller)
            .claiming(Certified::SourceRepositoryRef, git_ref)
            .claiming(Certified::GithubWorkflowRef, git_ref)
    };
    let called = shared("app", "refs/tags/v1.2.3");
    let signer = with_claims(
        &called,
        &[("source_repository_uri", "https://github.com/acme/app")],
        &[
            ("source_repository_ref", "refs/tags/v*"),
            ("github_workflow_ref", "refs/tags/*"),
        ],
    );
    let world = World::with(Setup::ruled(rules(vec![signed_by("p", "**", &[signer])]))).await;
    let package = push_with_bundle(&world, &recipe(&called), "called by the right one");
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    for (wrong, claim) in [
        (shared("other", "refs/tags/v1.2.3"), "source_repository_uri"),
        (shared("app", "refs/pull/7/merge"), "source_repository_ref"),
        (
            shared("app", "refs/tags/v1/../../heads/x"),
            "source_repository_ref",
        ),
        (
            shared("app", "refs/heads/refs/tags/v1"),
            "source_repository_ref",
        ),
    ] {
        let package = push_with_bundle(&world, &recipe(&wrong), &format!("{:?}", wrong.claims));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("untrusted_signer");
        assert!(answer.message().contains(claim), "{}", answer.message());
    }
}

// THREATS T2: a key counts in its window, by the time that the log proves; and by now, where
// nothing is proven.
#[tokio::test]
async fn t2_a_key_outside_of_its_window_signs_nothing() {
    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    let (old, new) = (KeyPair::generate(), KeyPair::generate());
    let world = World::with(Setup::ruled(rules(Vec::new()))).await;
    let now = world.now();
    let rotated = |turn: Timestamp, logged: bool| {
        let timed = |key: &KeyPair, not_before, not_after| TimedKey {
            not_before,
            not_after,
            ..TimedKey::always(PublicKey::from_spki(&key.public_key_der()))
        };
        let rule = Arc::new(SignerRule {
            name: "ops".into(),
            kind: SignerKind::Key(KeyHolder {
                keys: vec![timed(&old, None, Some(turn)), timed(&new, Some(turn), None)],
                root: logged.then(|| RootName::from(ROOT)),
                logged,
                timestamped: false,
            }),
            signed_identity: None,
        });
        rules(vec![signed_by("rotated", "**", &[rule])])
    };
    let [by_old, by_new] = [&old, &new].map(|key| {
        [Log::RekorV1, Log::None].map(|log| {
            let content = format!("{log:?} {:?}", key.public_key_der());
            push_with_layer(&world, &Recipe::key(key, log), &content)
        })
    });
    // Everything here is signed a minute ago.
    for (turn, logged, admitted, denied) in [
        (now + HOUR, true, &by_old[0], &by_new[0]),
        (now - HOUR, true, &by_new[0], &by_old[0]),
        (now + HOUR, false, &by_old[1], &by_new[1]),
        (now - HOUR, false, &by_new[1], &by_old[1]),
    ] {
        world.reload(rotated(turn, logged));
        let answer = world.manifest("app", admitted.digest()).await;
        answer.admits(&admitted.manifest);
        let answer = world.manifest("app", denied.digest()).await;
        answer.denies("untrusted_signer");
        assert!(
            answer.message().contains("keys of ops"),
            "{}",
            answer.message()
        );
    }
    // The window closes over what is cached: not over what the log saw before, but over all else.
    world.reload(rotated(now + HOUR, true));
    let [logged, bare] = &by_old;
    world
        .manifest("app", logged.digest())
        .await
        .admits(&logged.manifest);
    world.pass(Duration::from_secs(2 * 3600));
    world
        .manifest("app", logged.digest())
        .await
        .admits(&logged.manifest);
    let now = world.now();
    world.reload(rotated(now + HOUR, false));
    world
        .manifest("app", bare.digest())
        .await
        .admits(&bare.manifest);
    world.pass(Duration::from_secs(2 * 3600));
    world
        .manifest("app", bare.digest())
        .await
        .denies("untrusted_signer");
    // A trust root that the signer does not name says nothing of when it was.
    world
        .manifest("app", logged.digest())
        .await
        .denies("untrusted_signer");
}

/// The release, as a signer who demands this.
fn demanding(demands: Demands) -> Vec<Policy> {
    let mut rule = (*identity_rule(&release())).clone();
    let SignerKind::Keyless(keyless) = &mut rule.kind else {
        panic!("a keyless signer");
    };
    keyless.demands = demands;
    vec![signed_by("demanding", "**", &[Arc::new(rule)])]
}

// What a keyless signer demands beside a promise of the log has to be there (THREATS T).
#[tokio::test]
async fn t_what_a_keyless_signer_demands_has_to_be_there() {
    let world = World::new().await;
    let identity = release();
    let plain = Recipe::keyless(&identity, Log::RekorV1);
    let promised = push_with_layer(&world, &plain, "a promise alone");
    let included = push_with_bundle(&world, &plain, "a proof of inclusion");
    let timestamped = push_with_bundle(&world, &plain.clone().timestamped(), "a timestamp");
    let default = Demands::default();
    let inclusion = Demands {
        log: Some(Logged::Included),
        ..default
    };
    let timestamp = Demands {
        timestamp: true,
        ..default
    };
    // Each demand, and which is the first of the images that meets it.
    for (demands, first) in [(default, 0), (inclusion, 1), (timestamp, 2)] {
        world.reload(rules(demanding(demands)));
        for (at, package) in [&promised, &included, &timestamped].into_iter().enumerate() {
            let answer = world.manifest("app", package.digest()).await;
            match at >= first {
                true => answer.admits(&package.manifest),
                false => answer.denies("untrusted_signer"),
            };
        }
    }
}

/// A world in which the release may sign without a log, so that a timestamp has to do alone.
async fn world_without_logs() -> World {
    let demands = Demands {
        log: None,
        ..Demands::default()
    };
    World::with(Setup::ruled(rules(demanding(demands)))).await
}

/// Pushes an image for each format in which a timestamp can come, signed by the release with this
/// fault: with an entry of Rekor v2 in a bundle, and without a log in a bundle and in a layer.
fn push_timestamped(world: &World, fault: Option<Fault>) -> [Package; 3] {
    let identity = release();
    let recipe = |log| {
        let recipe = Recipe::keyless(&identity, log).timestamped();
        match fault {
            Some(fault) => recipe.with(fault),
            None => recipe,
        }
    };
    let name = |what: &str| format!("{what} {fault:?}");
    [
        push_with_bundle(world, &recipe(Log::RekorV2), &name("Rekor v2")),
        push_with_bundle(world, &recipe(Log::None), &name("bundle")),
        push_with_layer(world, &recipe(Log::None), &name("layer")),
    ]
}

async fn each_is_refused_for(fault: Fault, reason: &str) {
    let world = world_without_logs().await;
    for package in push_timestamped(&world, Some(fault)) {
        let answer = world.manifest("app", package.digest()).await;
        answer.denies(reason);
    }
    for package in push_timestamped(&world, None) {
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

// THREATS T4: a token that brings a certificate along, by an authority of the same name and with the
// same number as the one that is trusted.
#[tokio::test]
async fn t4_a_certificate_in_the_bag_of_a_timestamp_is_not_believed() {
    each_is_refused_for(Fault::ImpostorTimestamp, "invalid_signature").await;
    // Nor where a key signs and its signer asks for a timestamp.
    let key = KeyPair::generate();
    let rule = SignerRule {
        name: "ops".into(),
        kind: SignerKind::Key(KeyHolder {
            keys: vec![TimedKey::always(PublicKey::from_spki(
                &key.public_key_der(),
            ))],
            root: Some(RootName::from(ROOT)),
            logged: false,
            timestamped: true,
        }),
        signed_identity: None,
    };
    let policies = vec![signed_by("timed", "**", &[Arc::new(rule)])];
    let world = World::with(Setup::ruled(rules(policies))).await;
    let sound = Recipe::key(&key, Log::None).timestamped();
    let broken = sound.clone().with(Fault::ImpostorTimestamp);
    for push in [push_with_bundle, push_with_layer] {
        let package = push(&world, &broken, "an impostor's");
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("untrusted_signer");
        let package = push(&world, &sound, "sound");
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

// THREATS T5: a timestamp says when, and not who: with neither certificate nor key beside it nobody
// has signed.
#[tokio::test]
async fn t5_a_timestamp_with_neither_certificate_nor_key_proves_nothing() {
    each_is_refused_for(Fault::NoVerifier, "invalid_signature").await;
}

// THREATS T6: an entry of Rekor v2 tells no time, so without a timestamp nobody knows whether the
// certificate was valid.
#[tokio::test]
async fn t6_an_entry_of_rekor_v2_without_a_timestamp_proves_nothing() {
    each_is_refused_for(Fault::NoTimestamp, "invalid_signature").await;
}
