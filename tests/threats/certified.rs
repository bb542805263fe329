//! Certificate authorities of one's own: whom they certify passes, and nobody else does.

use std::sync::Arc;
use std::time::Duration;

use pullgate::policy::{
    CertifiedBy, IdentityRule, NameRule, Policy, Requirement, SignedBy, SignerKind, SignerRule,
};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::{
    AuthorityFault, BundleVersion, CertificateAuthority, Fault, KeyType, Log, Recipe, Signer,
};
use pullgate::verify::{Authority, Demands, Logged, RootName};

use crate::support::{ROOT, Setup, World, identity_rule, policy, release, rules, signed_by};

const RELEASE: &str = "release@acme.test";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A signer whom the authority certifies by this e-mail address.
fn certified_rule(
    name: &str,
    authority: &CertificateAuthority,
    email: &str,
    log: Option<Logged>,
) -> Arc<SignerRule> {
    let kind = SignerKind::CertifiedBy(CertifiedBy {
        authorities: vec![Authority::read(authority.root_der(), &[]).expect("an authority")],
        subject: vec![NameRule::Email(IdentityRule::exact(email).expect("a name"))],
        issuer: None,
        claims: Vec::new(),
        root: log.map(|_| RootName::from(ROOT)),
        demands: Demands {
            log,
            timestamp: false,
            certificate_timestamp: false,
        },
    });
    Arc::new(SignerRule {
        name: name.into(),
        kind,
        signed_identity: None,
    })
}

fn logged(authority: &CertificateAuthority) -> Policy {
    let rule = certified_rule("release", authority, RELEASE, Some(Logged::Promised));
    signed_by("certified", "**", &[rule])
}

fn unlogged(authority: &CertificateAuthority) -> Policy {
    let rule = certified_rule("release", authority, RELEASE, None);
    signed_by("certified", "**", &[rule])
}

/// Puts another authority in the place of the policy's.
fn trust(policy: &mut Policy, authority: &Authority) {
    let Requirement::Proven(demands) = &mut policy.requirement else {
        panic!("signatures");
    };
    let signed_by = demands[0].signed_by.as_mut().expect("signatures");
    let mut rule = (*signed_by.of[0]).clone();
    if let SignerKind::CertifiedBy(certified) = &mut rule.kind {
        certified.authorities = vec![authority.clone()];
    }
    signed_by.of[0] = Arc::new(rule);
}

fn authority(depth: usize) -> CertificateAuthority {
    CertificateAuthority::new(depth, pullgate::clock::Clock::system().now())
}

fn recipe<'a>(authority: &'a CertificateAuthority, subject: &'a str, log: Log) -> Recipe<'a> {
    Recipe::new(Signer::Certified { authority, subject }, log)
}

/// An image with a signature layer by this recipe.
fn layered(world: &World, recipe: &Recipe<'_>, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    world.sign_layers("app", &package, std::slice::from_ref(recipe));
    package
}

/// An image with a bundle of this version by this recipe.
fn bundled(world: &World, recipe: &Recipe<'_>, version: BundleVersion, content: &str) -> Package {
    let package = image::runnable(content);
    world.push("app", &package);
    let evidence = world.sigstore.signature(&package.digest(), recipe);
    world.push("app", &evidence.artifact_of(&package.descriptor(), version));
    package
}

async fn admits(world: &World, package: &Package) {
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

async fn denies(world: &World, package: &Package, reason: &str) {
    world.manifest("app", package.digest()).await.denies(reason);
}

// What such an authority certifies passes in each format, through any number of authorities in
// between that came with the signature, by any type of key, with a log and without.
#[tokio::test]
async fn whom_an_authority_of_ones_own_certifies_passes() {
    for depth in [0, 1, 3] {
        let authority = authority(depth);
        let world = World::with(Setup::ruled(rules(vec![logged(&authority)]))).await;
        let signed = recipe(&authority, RELEASE, Log::RekorV1);
        admits(&world, &layered(&world, &signed, "layer")).await;
        for version in [BundleVersion::V0_1, BundleVersion::V0_2] {
            let package = bundled(&world, &signed, version, &format!("{version:?}"));
            admits(&world, &package).await;
        }
        for key_type in KeyType::ALL {
            let signed = recipe(&authority, RELEASE, Log::RekorV1).by(key_type);
            admits(&world, &layered(&world, &signed, &format!("{key_type:?}"))).await;
        }
        let signed = recipe(&authority, RELEASE, Log::RekorV2);
        let package = bundled(&world, &signed, BundleVersion::V0_1, "version 2 of the log");
        admits(&world, &package).await;

        world.reload(rules(vec![unlogged(&authority)]));
        let signed = recipe(&authority, RELEASE, Log::None);
        admits(&world, &layered(&world, &signed, "layer, no log")).await;
        let package = bundled(&world, &signed, BundleVersion::V0_1, "bundle, no log");
        admits(&world, &package).await;
    }
}

// A bundle of version 0.3 has the signer's certificate alone: the way to the authority is in
// the policy then.
#[tokio::test]
async fn intermediates_of_policy_lead_to_the_authority() {
    let authority = authority(2);
    let mut policy = logged(&authority);
    let world = World::with(Setup::ruled(rules(vec![policy.clone()]))).await;
    let signed = recipe(&authority, RELEASE, Log::RekorV1);
    let package = bundled(&world, &signed, BundleVersion::V0_3, "the leaf alone");
    denies(&world, &package, "invalid_signature").await;
    let key = pullgate::sandbox::sigstore::KeyPair::generate();
    let chain = authority.certify(RELEASE, &key, world.now(), &[]);
    let read = Authority::read(authority.root_der(), &chain[1..]);
    trust(&mut policy, &read.expect("an authority"));
    world.reload(rules(vec![policy]));
    admits(&world, &package).await;
}

// THREATS T1: an authority on the way that is none, may not sign certificates, is too deep, has expired, may not certify
// this name or may not certify code signers, certifies nobody.
#[tokio::test]
async fn t1_a_broken_authority_on_the_way_certifies_nobody() {
    for fault in AuthorityFault::ALL {
        let now = pullgate::clock::Clock::system().now();
        let authority = CertificateAuthority::broken(fault, now);
        for (policy, log) in [
            (logged(&authority), Log::RekorV1),
            (unlogged(&authority), Log::None),
        ] {
            let world = World::with(Setup::ruled(rules(vec![policy]))).await;
            let signed = recipe(&authority, RELEASE, log);
            let package = layered(&world, &signed, &format!("{fault:?}"));
            denies(&world, &package, "invalid_signature").await;
            let package = bundled(
                &world,
                &signed,
                BundleVersion::V0_1,
                &format!("{fault:?} 2"),
            );
            denies(&world, &package, "invalid_signature").await;
        }
    }
}

// THREATS T1: what webpki does not ask of the certificate that is trusted itself: how many
// authorities it may have below it, and whether it has expired.
#[tokio::test]
async fn t1_the_trusted_certificate_keeps_to_its_own_bounds() {
    let now = pullgate::clock::Clock::system().now();
    let key = pullgate::sandbox::sigstore::KeyPair::generate();
    for (authority, admitted) in [
        (CertificateAuthority::new(2, now), true),
        (
            CertificateAuthority::broken(AuthorityFault::PathTooLong, now),
            false,
        ),
    ] {
        let chain = authority.certify(RELEASE, &key, now, &[]);
        let mut policy = unlogged(&authority);
        trust(
            &mut policy,
            &Authority::read(&chain[2], &[]).expect("an authority"),
        );
        let world = World::with(Setup::ruled(rules(vec![policy]))).await;
        let signed = recipe(&authority, RELEASE, Log::None);
        let package = layered(&world, &signed, "below an intermediate");
        match admitted {
            true => admits(&world, &package).await,
            false => denies(&world, &package, "invalid_signature").await,
        }
    }
    // It is valid for ten years, and certifies somebody ten days before it ends.
    let authority = authority(1);
    let world = World::with(Setup::ruled(rules(vec![unlogged(&authority)]))).await;
    let package = image::runnable("outliving");
    world.push("app", &package);
    let late = world.now() + jiff::SignedDuration::from_hours(24 * (3650 - 10));
    let signed = recipe(&authority, RELEASE, Log::None);
    let layer = world
        .sigstore
        .at(late)
        .sign_layer(&package.digest(), "a.test/app", &signed);
    let tag = pullgate::sandbox::sigstore::signature_tag(&package.digest(), vec![layer]);
    world.push("app", &tag);
    world.pass((3650 - 5) * DAY);
    admits(&world, &package).await;
    world.pass(10 * DAY);
    denies(&world, &package, "invalid_signature").await;
}

/// Where it is no fault that there is one.
fn is_sound(fault: Fault) -> bool {
    matches!(
        fault,
        // One of several subjects or names is enough; what stands twice counts once.
        Fault::SecondSubject
            | Fault::SecondIdentity
            | Fault::DuplicateEntry
            | Fault::DuplicateTimestamp
            // There is no certificate transparency, and no login.
            | Fault::NoSct
            | Fault::ForeignSct
            | Fault::BrokenSct
            | Fault::DuplicateSct
            | Fault::IssuersDisagree
            | Fault::ExpiredAuthority
            // Version 1 of the log has a time of its own, and a proof beside its promise.
            | Fault::NoTimestamp
            | Fault::NoPromise
            // A bundle of version 0.1 may have a promise alone.
            | Fault::NoInclusionProof
            // Certificates of a day before are valid an hour before as well.
            | Fault::EarlyTimestamp
    )
}

// THREATS B1 to B4, T1, T2, T4, T5, T6: of everything that can be wrong with a bundle by a
// certificate, each single thing is enough to refuse it.
#[tokio::test]
async fn b1_to_t6_every_single_fault_of_a_certified_signature_is_refused() {
    let authority = authority(1);
    let world = World::with(Setup::ruled(rules(vec![logged(&authority)]))).await;
    for fault in Fault::ALL {
        let signed = recipe(&authority, RELEASE, Log::RekorV1).timestamped();
        let signed = signed.with(fault);
        let package = bundled(&world, &signed, BundleVersion::V0_1, &format!("{fault:?}"));
        let answer = world.manifest("app", package.digest()).await;
        match is_sound(fault) {
            true => answer.admits(&package.manifest),
            false => assert_eq!(answer.status, 403, "{fault:?} was let through"),
        }
    }
}

// THREATS T2: what no log and no timestamp proves the time of, counts while its certificate is
// valid, and no longer. What a log proves counts on.
#[tokio::test]
async fn t2_a_certificate_that_expires_admits_nothing_any_more() {
    let authority = authority(1);
    let setup = Setup {
        settings: pullgate::gate::Settings {
            facts_ttl: 1000 * DAY,
            ..crate::support::settings()
        },
        ..Setup::ruled(rules(vec![unlogged(&authority)]))
    };
    let world = World::with(setup).await;
    let bare = layered(&world, &recipe(&authority, RELEASE, Log::None), "bare");
    admits(&world, &bare).await;
    admits(&world, &bare).await;
    // It is valid for ninety days, of which one has passed.
    world.pass(88 * DAY);
    admits(&world, &bare).await;
    world.pass(2 * DAY);
    denies(&world, &bare, "invalid_signature").await;
}

#[tokio::test]
async fn t2_a_proven_time_is_what_a_certificate_is_held_against() {
    let authority = authority(1);
    let world = World::with(Setup::ruled(rules(vec![logged(&authority)]))).await;
    let signed = layered(&world, &recipe(&authority, RELEASE, Log::RekorV1), "logged");
    world.pass(100 * DAY);
    admits(&world, &signed).await;
    // A trust root that the signer does not name proves nothing for it.
    world.reload(rules(vec![unlogged(&authority), {
        let all = [identity_rule(&release())];
        signed_by("other", "registry.acme.test/other/**", &all)
    }]));
    denies(&world, &signed, "untrusted_signer").await;
}

// THREATS I1, I4: another name, another kind of name and another authority are strangers, and
// the log that a signer asks for has to be there.
#[tokio::test]
async fn i1_nobody_else_is_the_certified_signer() {
    let (ours, theirs) = (authority(1), authority(1));
    let world = World::with(Setup::ruled(rules(vec![
        logged(&ours),
        // So that what theirs certifies is proven, and refused for who signed.
        signed_by(
            "theirs",
            "registry.acme.test/theirs/**",
            &[certified_rule(
                "theirs",
                &theirs,
                RELEASE,
                Some(Logged::Promised),
            )],
        ),
    ])))
    .await;
    for (authority, subject, log) in [
        (&ours, "mallory@acme.test", Log::RekorV1),
        (&ours, "https://release@acme.test", Log::RekorV1),
        (&ours, "acme.test", Log::RekorV1),
        (&ours, "RELEASE@acme.test", Log::RekorV1),
        (&ours, "release@acme.test.mallory.test", Log::RekorV1),
        (&theirs, RELEASE, Log::RekorV1),
        (&ours, RELEASE, Log::None),
    ] {
        let signed = recipe(authority, subject, log);
        let package = layered(&world, &signed, &format!("{subject} {log:?} {authority:p}"));
        denies(&world, &package, "untrusted_signer").await;
    }
    let package = layered(
        &world,
        &recipe(&authority(1), RELEASE, Log::RekorV1),
        "unknown",
    );
    denies(&world, &package, "invalid_signature").await;
}

// THREATS T3: a certificate with two names is one signer, and ties together what else has
// these names.
#[tokio::test]
async fn t3_one_holder_of_two_names_counts_once() {
    let authority = authority(0);
    let rule = |name: &str, email: &str| certified_rule(name, &authority, email, None);
    let both = policy(
        "both",
        "**",
        Requirement::signed_by(SignedBy {
            at_least: 2,
            of: vec![
                rule("release", RELEASE),
                rule("mallory", "mallory@mallory.test"),
            ],
        }),
    );
    let world = World::with(Setup::ruled(rules(vec![both]))).await;
    let two_names = recipe(&authority, RELEASE, Log::None).with(Fault::SecondIdentity);
    let package = layered(&world, &two_names, "two names");
    denies(&world, &package, "not_enough_signers").await;

    let package = image::runnable("tied");
    world.push("app", &package);
    let release = recipe(&authority, RELEASE, Log::None);
    let mallory = recipe(&authority, "mallory@mallory.test", Log::None);
    world.sign_layers(
        "app",
        &package,
        &[release.clone(), mallory.clone(), two_names],
    );
    denies(&world, &package, "not_enough_signers").await;

    let package = image::runnable("two people");
    world.push("app", &package);
    world.sign_layers("app", &package, &[release, mallory]);
    admits(&world, &package).await;
}
