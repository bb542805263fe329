//! What people read when a pull is refused, as podman and skopeo show it: one message for each
//! reason, in `tests/refusals.txt`. After a change of wording, `WRITE_REFUSALS=1` writes the file
//! anew; read it as somebody who was woken by it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::SignedDuration;
use pullgate::gate;
use pullgate::oci::{Digest, media_type};
use pullgate::policy::{
    Attested, CONDITION_STEPS_MAX, Condition, Demand, NoRollback, Policy, PulledBy, PullerKind,
    PullerRule, Reason, Requirement, SignedBy, SignerRule, Timing,
};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed};
use pullgate::sandbox::sigstore::{Fault as SigstoreFault, Identity};
use regex::Regex;
use serde_json::json;

use crate::support::{
    Answer, HOST, Setup, World, identity_rule, policy, recipe, release, rules, settings, stranger,
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

fn of(repository: &str, requirement: Requirement) -> Policy {
    policy(repository, &format!("{HOST}/{repository}"), requirement)
}

/// A signer under a name that people give.
fn named(name: &str, identity: &Identity) -> Arc<SignerRule> {
    let mut rule = identity_rule(identity);
    Arc::make_mut(&mut rule).name = name.into();
    rule
}

fn by_release() -> SignedBy {
    SignedBy {
        at_least: 1,
        of: vec![named("release", &release())],
    }
}

fn attested(condition: Option<&str>) -> Requirement {
    let condition = condition.map(|text| Condition::new(text, CONDITION_STEPS_MAX));
    Requirement::Proven(vec![Demand {
        signed_by: None,
        attested: vec![Attested {
            predicate_type: PROVENANCE.to_owned(),
            by: by_release(),
            condition: condition.map(|condition| Arc::new(condition.expect("a condition"))),
            every: false,
        }],
        timing: Timing::default(),
        format: None,
        source: None,
    }])
}

/// A policy of its own for each repository.
fn policies() -> Vec<Policy> {
    let signed = |name: &str| of(name, Requirement::signed_by(by_release()));
    let team = PullerRule {
        name: "team-a".into(),
        kind: PullerKind::Users(["alice".to_owned()].into()),
    };
    let two = SignedBy {
        at_least: 2,
        of: vec![named("release", &release()), named("security", &stranger())],
    };
    let fresh = Demand {
        signed_by: Some(by_release()),
        attested: Vec::new(),
        timing: Timing {
            signed_within: Some(SignedDuration::from_hours(1)),
            ..Timing::default()
        },
        format: None,
        source: None,
    };
    vec![
        signed("app"),
        of("two", Requirement::signed_by(two)),
        of("provenance", attested(None)),
        of(
            "condition",
            attested(Some(
                "predicate.runDetails.builder.id == 'https://builder.acme.test'",
            )),
        ),
        of("fresh", Requirement::Proven(vec![fresh])),
        of(
            "never",
            Requirement::Deny {
                reason: "miners are not run here".to_owned(),
            },
        ),
        of(
            "pinned",
            Requirement::Digests([Digest::sha256(b"x")].into()),
        ),
        of(
            "trial",
            Requirement::AllowUnsigned {
                until: Some("2020-01-01T00:00:00Z".parse().expect("a time")),
                because: "trial images".to_owned(),
            },
        ),
        Policy {
            no_rollback: Some(NoRollback::default()),
            ..signed("forwards")
        },
        Policy {
            pulled_by: Some(PulledBy {
                any: vec![Arc::new(team)],
            }),
            ..signed("team")
        },
    ]
}

/// The messages so far, each under what led to it.
#[derive(Default)]
struct Told(String);

impl Told {
    fn add(&mut self, what: &str, answer: &Answer) {
        let reason = what.split(':').next();
        assert_eq!(Some(&*answer.reason()), reason, "{}", answer.message());
        // containers/image: the code in lower case without underscores, then the message.
        let code = answer.code().to_lowercase().replace('_', " ");
        self.0.push_str(&format!(
            "-- {what} --\n{} {code}: {}\n\n",
            answer.status.as_u16(),
            plain(&answer.message())
        ));
    }
}

/// Without what is another at every run.
fn plain(message: &str) -> String {
    let mut text = message.to_owned();
    for (pattern, word) in [
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
        (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
        (r"decision [0-9a-f]{16}", "decision ID"),
    ] {
        let pattern = Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, word).into_owned();
    }
    text
}

fn push(world: &World, repository: &str, content: &str) -> Package {
    let package = image::runnable(content).tagged("v1");
    world.push(repository, &package);
    package
}

/// What policy says no to.
async fn denials(world: &World, told: &mut Told) {
    let get = async |repository: &str| world.manifest(repository, "v1").await;
    push(world, "unruled", "x");
    told.add("no_policy", &get("unruled").await);
    push(world, "app", "unsigned");
    told.add("unsigned", &get("app").await);
    push(world, "trial", "x");
    told.add("unsigned: an exemption that has ended", &get("trial").await);
    let package = push(world, "app", "invalid");
    let identity = release();
    let broken = recipe(&identity).with(SigstoreFault::OtherSubject);
    let bundle = world.sigstore.sign_bundle(&package.descriptor(), &broken);
    world.push("app", &bundle);
    told.add("invalid_signature", &get("app").await);
    let package = push(world, "app", "foreign");
    world.sign("app", &package, &stranger());
    told.add("untrusted_signer", &get("app").await);
    let package = push(world, "app", "of a branch");
    let branch = Identity::github_actions("acme/widget", "release.yml", "refs/heads/dev");
    world.sign("app", &package, &branch);
    told.add("untrusted_signer: another ref", &get("app").await);
    let package = push(world, "fresh", "old");
    let old = world
        .sigstore
        .at(world.now() - SignedDuration::from_hours(3));
    let bundle = old.sign_bundle(&package.descriptor(), &recipe(&release()));
    world.push("fresh", &bundle);
    told.add("untrusted_signer: too old", &get("fresh").await);
    let package = push(world, "two", "one of two");
    world.sign("two", &package, &release());
    told.add("not_enough_signers", &get("two").await);
    let package = push(world, "provenance", "signed only");
    world.sign("provenance", &package, &release());
    told.add("missing_attestation", &get("provenance").await);
    for (what, builder) in [
        ("condition_failed", json!({})),
        (
            "condition_failed: another value",
            json!({ "id": "https://elsewhere.test" }),
        ),
    ] {
        let package = push(world, "condition", what);
        let predicate = json!({ "runDetails": { "builder": builder } });
        let (digest, by) = (package.digest(), recipe(&identity));
        let attestation = world
            .sigstore
            .attestation(&digest, PROVENANCE, &predicate, &by);
        world.attach("condition", &package, &attestation);
        told.add(what, &get("condition").await);
    }
    push(world, "team", "x");
    told.add("wrong_puller", &get("team").await);
    push(world, "never", "x");
    told.add("denied_by_policy", &get("never").await);
    push(world, "pinned", "x");
    told.add("denied_by_policy: not pinned", &get("pinned").await);
    moved_back(world, told).await;
    let blob = Digest::sha256(b"anything");
    told.add("not_reachable", &world.blob("app", blob).await);
    let twice = r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#;
    let registry = &world.registry;
    registry.put_manifest("app", None, media_type::OCI_MANIFEST, twice);
    let digest = Digest::sha256(twice.as_bytes());
    told.add("malformed", &world.manifest("app", digest).await);
    let package = push(world, "app", "flooded");
    let fault = Fault::on(Endpoint::Referrers, Misdeed::Referrers(10_000));
    let fault = world.registry.misbehave(fault);
    told.add("over_limit", &world.manifest("app", package.digest()).await);
    world.registry.forgive(fault);
}

async fn moved_back(world: &World, told: &mut Told) {
    for (content, hours) in [("new", 3), ("old", 5)] {
        let package = push(world, "forwards", content);
        let then = world.now() - SignedDuration::from_hours(hours);
        let sigstore = world.sigstore.at(then);
        let bundle = sigstore.sign_bundle(&package.descriptor(), &recipe(&release()));
        world.push("forwards", &bundle);
        let answer = world.manifest("forwards", "v1").await;
        if content == "old" {
            told.add("denied_by_policy: a tag that moved back", &answer);
        } else {
            answer.admits(&package.manifest);
        }
    }
}

/// What nobody could tell.
async fn doubts(world: &World, told: &mut Told) {
    push(world, "app", "doubtful");
    let unseen = image::runnable("never pulled");
    world.push("app", &unseen);
    let status = |status| Misdeed::Status(status);
    for (what, endpoint, misdeed) in [
        (
            "upstream_unreachable",
            Endpoint::Manifests,
            status(StatusCode::BAD_GATEWAY),
        ),
        (
            "upstream_unauthorized",
            Endpoint::Manifests,
            Misdeed::ForeignRealm("http://thief.test/token".to_owned()),
        ),
        (
            "evidence_unavailable",
            Endpoint::Referrers,
            status(StatusCode::BAD_GATEWAY),
        ),
    ] {
        let fault = world.registry.misbehave(Fault::on(endpoint, misdeed));
        told.add(what, &world.manifest("app", "v1").await);
        world.registry.forgive(fault);
    }
    let wrong = Misdeed::WrongBytes("wrong".into());
    let fault = world
        .registry
        .misbehave(Fault::on(Endpoint::Manifests, wrong));
    let answer = world.manifest("app", unseen.digest()).await;
    told.add("content_mismatch", &answer);
    world.registry.forgive(fault);
    // The last, since a registry that says for how long it wants to be left alone is left alone.
    let busy = Misdeed::TooManyRequests(Duration::from_secs(77));
    world
        .registry
        .misbehave(Fault::on(Endpoint::Manifests, busy));
    told.add("upstream_rate_limited", &world.manifest("app", "v1").await);
}

/// Two that need more than a registry to come about: the words of the gate's own value.
fn rare_doubts(told: &mut Told) {
    use gate::Doubt::{Overloaded, TrustRootUnavailable};
    for (doubt, cause) in [
        (
            TrustRootUnavailable,
            "the trust root acme is not there: it was never had from its mirror",
        ),
        (Overloaded, "too many images are waiting for their proofs"),
    ] {
        let image = crate::support::image_name("app");
        let reference = "v1".parse().expect("a tag");
        let unavailable = gate::Unavailable {
            asked: gate::Asked::Manifest(image, reference),
            digest: None,
            doubt,
            cause: cause.to_owned(),
            remedy: doubt.remedy(),
            retry_after: Duration::from_secs(5),
        };
        told.0.push_str(&format!(
            "-- {} --\n503 unavailable: {}\n\n",
            doubt.as_str(),
            unavailable.message()
        ));
    }
}

#[tokio::test]
async fn what_people_read_is_as_it_was_read_before() {
    let world = World::with(Setup {
        settings: gate::Settings {
            unsigned_ttl: Duration::ZERO,
            ..settings()
        },
        ..Setup::ruled(rules(policies()))
    })
    .await;
    let mut told = Told::default();
    denials(&world, &mut told).await;
    doubts(&world, &mut told).await;
    rare_doubts(&mut told);
    for reason in Reason::ALL {
        let heading = format!("-- {}", reason.as_str());
        let is_there = told.0.contains(&heading) || *reason == Reason::Admitted;
        assert!(is_there, "{} is not among them", reason.as_str());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refusals.txt");
    if std::env::var_os("WRITE_REFUSALS").is_some() {
        std::fs::write(&file, &told.0).expect("a file");
    }
    let read = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(told.0, read);
}
