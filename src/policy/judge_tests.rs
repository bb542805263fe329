use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::policy::Attested;
use crate::policy::Glob;
use crate::policy::IdentityRule;
use crate::policy::KeyHolder;
use crate::policy::Keyless;
use crate::policy::SignedBy;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::TimedKey;
use crate::policy::Timing;
use crate::verify::Assurance;
use crate::verify::Demands;
use crate::verify::Fact;
use crate::verify::Format;
use crate::verify::HashAlgorithm;
use crate::verify::Identity;
use crate::verify::Kind;
use crate::verify::Logged;
use crate::verify::PublicKey;
use crate::verify::RootName;
use crate::verify::Signer;

const ISSUER: &str = "https://issuer.test";

fn rule(name: &str, identity: &str) -> Arc<SignerRule> {
    Arc::new(SignerRule {
        name: name.into(),
        kind: SignerKind::Keyless(Keyless {
            issuer: IdentityRule::exact(ISSUER).expect("an issuer"),
            identity: IdentityRule::glob(identity).expect("a glob"),
            claims: Vec::new(),
            root: RootName::from("acme"),
            demands: Demands::default(),
        }),
        signed_identity: None,
    })
}

fn key_rule(name: &str, key: &[u8], log: Option<&str>) -> Arc<SignerRule> {
    let log = log.map(RootName::from);
    let kind = SignerKind::Key(KeyHolder::of(PublicKey::from_spki(key), log));
    Arc::new(SignerRule {
        name: name.into(),
        kind,
        signed_identity: None,
    })
}

fn signed(subject: &str) -> Fact {
    Fact {
        kind: Kind::Signature,
        signer: Signer::Identity(Arc::new(Identity {
            issuer: ISSUER.to_owned(),
            subject: subject.to_owned(),
            claims: BTreeMap::new(),
        })),
        root: Some(RootName::from("acme")),
        signed_at: None,
        assurance: Assurance {
            log: Some(Logged::Included),
            timestamp: false,
            certificate_timestamp: true,
        },
        hash: None,
        format: Format::Bundle,
        source: Digest::sha256(subject.as_bytes()),
        docker_reference: None,
        found_in: None,
    }
}

fn key_signed(key: &[u8], log: Option<&str>) -> Fact {
    Fact {
        signer: Signer::Key {
            fingerprint: Digest::sha256(key),
        },
        root: log.map(RootName::from),
        ..signed("")
    }
}

fn policy(at_least: usize, of: &[Arc<SignerRule>], signs: Signs) -> Arc<Policy> {
    Arc::new(Policy {
        name: "p".into(),
        images: vec![Glob::new("**").expect("a glob")],
        except: Vec::new(),
        mode: Mode::Enforce,
        requirement: Requirement::signed_by(SignedBy {
            at_least,
            of: of.to_vec(),
        }),
        signs,
        pulled_by: None,
        no_rollback: None,
    })
}

fn facts(proven: &[Fact]) -> Arc<Facts> {
    Arc::new(Facts {
        proven: proven.to_vec(),
        ..Facts::default()
    })
}

fn image(proven: &[Fact]) -> Subject {
    Subject::alone(Digest::sha256(b"image"), Shape::Image, true, facts(proven))
}

fn index(proven: &[Fact]) -> Subject {
    Subject::alone(Digest::sha256(b"index"), Shape::Index, true, facts(proven))
}

fn reason(policy: &Arc<Policy>, subject: &Subject) -> Reason {
    judged(std::slice::from_ref(policy), subject, Timestamp::UNIX_EPOCH).reason
}

fn judged(policies: &[Arc<Policy>], subject: &Subject, now: Timestamp) -> Judgement {
    let image = ImageName {
        registry: "registry.test".parse().expect("a host"),
        repository: "app".parse().expect("a repository"),
    };
    let question = Question { image: &image, now };
    judge(policies, subject, &question)
}

#[test]
fn the_right_signer_passes_and_others_do_not() {
    let policy = policy(1, &[rule("a", "a@x")], Signs::Either);
    assert_eq!(reason(&policy, &image(&[signed("a@x")])), Reason::Admitted);
    assert_eq!(
        reason(&policy, &image(&[signed("b@x")])),
        Reason::UntrustedSigner
    );
    assert_eq!(reason(&policy, &image(&[])), Reason::Unsigned);
    assert_eq!(
        reason(&policy, &image(&[signed("b@x"), signed("a@x")])),
        Reason::Admitted
    );
    let mut other_root = signed("a@x");
    other_root.root = Some(RootName::from("public"));
    assert_eq!(
        reason(&policy, &image(&[other_root])),
        Reason::UntrustedSigner
    );
}

// THREATS B11: an attestation is no signature.
#[test]
fn an_attestation_is_no_signature() {
    let policy = policy(1, &[rule("a", "a@x")], Signs::Either);
    let attested = Fact {
        kind: Kind::Attestation {
            predicate_type: "https://slsa.dev/provenance/v1".to_owned(),
            statement: None,
        },
        ..signed("a@x")
    };
    assert_eq!(reason(&policy, &image(&[attested])), Reason::Unsigned);
}

// THREATS T3: one signer is counted once, whatever names policy has for it.
#[test]
fn signers_are_counted_once() {
    let twice = policy(
        2,
        &[key_rule("a", b"k", None), key_rule("b", b"k", None)],
        Signs::Either,
    );
    assert_eq!(
        reason(
            &twice,
            &image(&[key_signed(b"k", None), key_signed(b"k", None)])
        ),
        Reason::NotEnoughSigners
    );
    let one_name = policy(2, &[rule("any", "*@x"), rule("b", "b@x")], Signs::Either);
    assert_eq!(
        reason(&one_name, &image(&[signed("b@x")])),
        Reason::NotEnoughSigners
    );
    assert_eq!(
        reason(&one_name, &image(&[signed("a@x"), signed("c@x")])),
        Reason::NotEnoughSigners
    );
    assert_eq!(
        reason(&one_name, &image(&[signed("b@x"), signed("c@x")])),
        Reason::Admitted
    );
    // The pairing has to move: `any` fits both, `b` only one.
    let crossed = policy(2, &[rule("b", "b@x"), rule("any", "*@x")], Signs::Either);
    assert_eq!(
        reason(&crossed, &image(&[signed("b@x"), signed("c@x")])),
        Reason::Admitted
    );
    let three = policy(
        3,
        &[rule("any", "*@x"), rule("b", "b@x"), rule("c", "c@x")],
        Signs::Either,
    );
    assert_eq!(
        reason(
            &three,
            &image(&[signed("c@x"), signed("b@x"), signed("a@x")])
        ),
        Reason::Admitted
    );
    assert_eq!(
        reason(&three, &image(&[signed("c@x"), signed("b@x")])),
        Reason::NotEnoughSigners
    );
    let mut rerun = signed("b@x");
    rerun.signer = Signer::Identity(Arc::new(Identity {
        issuer: ISSUER.to_owned(),
        subject: "b@x".to_owned(),
        claims: BTreeMap::from([("run_invocation_uri", "2".to_owned())]),
    }));
    assert_eq!(
        reason(&one_name, &image(&[signed("b@x"), rerun])),
        Reason::NotEnoughSigners
    );
}

#[test]
fn a_required_log_is_required() {
    let logged = policy(1, &[key_rule("a", b"k", Some("acme"))], Signs::Either);
    assert_eq!(
        reason(&logged, &image(&[key_signed(b"k", None)])),
        Reason::UntrustedSigner
    );
    assert_eq!(
        reason(&logged, &image(&[key_signed(b"k", Some("public"))])),
        Reason::UntrustedSigner
    );
    assert_eq!(
        reason(&logged, &image(&[key_signed(b"k", Some("acme"))])),
        Reason::Admitted
    );
    let unlogged = policy(1, &[key_rule("a", b"k", None)], Signs::Either);
    assert_eq!(
        reason(&unlogged, &image(&[key_signed(b"k", None)])),
        Reason::Admitted
    );
    assert_eq!(
        reason(&unlogged, &image(&[key_signed(b"k", Some("acme"))])),
        Reason::Admitted
    );
}

// THREATS G3: child signed, index not; index signed, child not.
#[test]
fn signs_says_what_a_signature_covers() {
    let by = [rule("a", "a@x")];
    let child_of = |own: &[Fact], parent: &[Fact]| {
        let mut child = image(own);
        child.tagged = false;
        child.parents = vec![index(parent)];
        child
    };
    let index_of = |own: &[Fact], child: &[Fact]| {
        let mut parent = index(own);
        parent.children = Some(vec![image(child), image(child)]);
        parent
    };
    let good = &[signed("a@x")][..];
    for (signs, child_alone, index_alone, child_covered, index_by_children) in [
        (Signs::Index, false, true, true, false),
        (Signs::Instance, true, false, false, true),
        (Signs::Either, true, true, true, true),
        (Signs::Asked, true, true, true, false),
    ] {
        let policy = policy(1, &by, signs);
        let passes = |subject: &Subject| reason(&policy, subject) == Reason::Admitted;
        assert_eq!(
            passes(&child_of(good, &[])),
            child_alone,
            "{signs:?} child signed"
        );
        assert_eq!(
            passes(&index_of(good, &[])),
            index_alone,
            "{signs:?} index signed"
        );
        assert_eq!(
            passes(&child_of(&[], good)),
            child_covered,
            "{signs:?} child of signed index"
        );
        assert_eq!(
            passes(&index_of(&[], good)),
            index_by_children,
            "{signs:?} children signed"
        );
        assert!(!passes(&child_of(&[], &[])), "{signs:?} nothing signed");
        assert!(!passes(&index_of(&[], &[])), "{signs:?} nothing signed");
    }
    let policy = policy(1, &by, Signs::Index);
    assert_eq!(
        reason(&policy, &image(good)),
        Reason::Admitted,
        "a tagged image is its own root"
    );
    let mut unknown = image(good);
    unknown.tagged = false;
    assert_eq!(
        reason(&policy, &unknown),
        Reason::Unsigned,
        "nothing is known to lead to it"
    );
}

#[test]
fn every_enforcing_policy_must_pass_and_warnings_only_warn() {
    let signed_by = policy(1, &[rule("a", "a@x")], Signs::Either);
    let never = Arc::new(Policy {
        name: "never".into(),
        requirement: Requirement::Deny {
            reason: "no miners".to_owned(),
        },
        ..Policy::clone(&signed_by)
    });
    let warn = Arc::new(Policy {
        mode: Mode::Warn,
        ..Policy::clone(&never)
    });
    let subject = image(&[signed("a@x")]);
    let at = Timestamp::UNIX_EPOCH;
    assert_eq!(
        judged(&[Arc::clone(&signed_by), never], &subject, at).reason,
        Reason::DeniedByPolicy
    );
    let warned = judged(&[signed_by, warn], &subject, at);
    assert!(warned.is_admitted());
    assert_eq!(warned.warnings().count(), 1);
    assert_eq!(judged(&[], &subject, at).reason, Reason::NoPolicy);
}

#[test]
fn exemptions_end() {
    let until = Timestamp::from_second(100).expect("a time");
    let exempt = Arc::new(Policy {
        requirement: Requirement::AllowUnsigned {
            until: Some(until),
            because: "trial".to_owned(),
        },
        ..Policy::clone(&policy(1, &[], Signs::Either))
    });
    let subject = image(&[]);
    let before = judged(
        std::slice::from_ref(&exempt),
        &subject,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(
        (before.reason, before.holds_until),
        (Reason::Admitted, Some(until))
    );
    assert_eq!(judged(&[exempt], &subject, until).reason, Reason::Unsigned);
}

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const PACKAGES: &str = "https://spdx.dev/Document";

fn attests(subject: &str, predicate_type: &str) -> Fact {
    Fact {
        kind: Kind::Attestation {
            predicate_type: predicate_type.to_owned(),
            statement: None,
        },
        ..signed(subject)
    }
}

fn demanding(demands: Vec<Demand>, signs: Signs) -> Arc<Policy> {
    Arc::new(Policy {
        requirement: Requirement::Proven(demands),
        ..Policy::clone(&policy(1, &[], signs))
    })
}

fn by(rules: &[Arc<SignerRule>]) -> SignedBy {
    SignedBy {
        at_least: 1,
        of: rules.to_vec(),
    }
}

fn demand(signed: bool, types: &[&str], timing: Timing) -> Demand {
    let attested = |predicate_type: &&str| Attested {
        predicate_type: (*predicate_type).to_owned(),
        by: by(&[rule("builder", "builder@x")]),
        condition: None,
        every: false,
    };
    Demand {
        signed_by: signed.then(|| by(&[rule("a", "a@x")])),
        attested: types.iter().map(attested).collect(),
        timing,
        format: None,
        source: None,
    }
}

// A timestamp counts under the trust root that is asked for, and a hash where it is told.
#[test]
fn a_keys_signature_has_the_timestamp_and_the_hash_that_are_asked_for() {
    let asking = |timestamp: Option<&str>, hash| {
        let kind = SignerKind::Key(KeyHolder {
            keys: vec![TimedKey {
                hash,
                ..TimedKey::always(PublicKey::from_spki(b"ops"))
            }],
            logged: false,
            timestamped: timestamp.is_some(),
            root: timestamp.map(RootName::from),
        });
        let rule = SignerRule {
            name: "ops".into(),
            kind,
            signed_identity: None,
        };
        policy(1, &[Arc::new(rule)], Signs::Either)
    };
    let signed = |root: Option<&str>, timestamp, hash| {
        let mut fact = key_signed(b"ops", root);
        fact.assurance.timestamp = timestamp;
        fact.hash = hash;
        image(&[fact])
    };
    let (sha256, sha512) = (Some(HashAlgorithm::Sha256), Some(HashAlgorithm::Sha512));
    for (policy, subject, passes) in [
        (
            asking(Some("acme"), None),
            signed(Some("acme"), true, sha256),
            true,
        ),
        (
            asking(Some("acme"), None),
            signed(Some("acme"), false, sha256),
            false,
        ),
        (
            asking(Some("acme"), None),
            signed(Some("other"), true, sha256),
            false,
        ),
        (
            asking(Some("acme"), None),
            signed(None, false, sha256),
            false,
        ),
        (asking(None, sha256), signed(None, false, sha256), true),
        (asking(None, sha512), signed(None, false, sha256), false),
        // Keys that sign in one way only.
        (asking(None, sha512), signed(None, false, None), true),
    ] {
        let expected = match passes {
            true => Reason::Admitted,
            false => Reason::UntrustedSigner,
        };
        assert_eq!(
            reason(&policy, &subject),
            expected,
            "{policy:?} {subject:?}"
        );
    }
}

// THREATS B3: another predicate type, or another signer, is another attestation.
#[test]
fn an_attestation_is_of_its_type_and_by_its_signer() {
    let one = demand(false, &[PROVENANCE], Timing::default());
    let policy = demanding(vec![one], Signs::Either);
    let with = |facts: &[Fact]| reason(&policy, &image(facts));
    assert_eq!(with(&[attests("builder@x", PROVENANCE)]), Reason::Admitted);
    assert_eq!(with(&[]), Reason::MissingAttestation);
    assert_eq!(
        with(&[attests("builder@x", PACKAGES)]),
        Reason::MissingAttestation
    );
    assert_eq!(with(&[attests("a@x", PROVENANCE)]), Reason::UntrustedSigner);
    assert_eq!(with(&[signed("builder@x")]), Reason::MissingAttestation);
}

// Provenance lies on the index, the list of packages on the platform's manifest, and one
// policy asks for both and for a signature.
#[test]
fn parts_of_a_demand_may_be_proven_about_different_digests() {
    let both = demand(true, &[PROVENANCE, PACKAGES], Timing::default());
    let policy = demanding(vec![both], Signs::Index);
    let on_index = [signed("a@x"), attests("builder@x", PROVENANCE)];
    let on_child = [attests("builder@x", PACKAGES)];
    let mut child = image(&on_child);
    child.parents = vec![index(&on_index)];
    assert_eq!(reason(&policy, &child), Reason::Admitted);
    let mut root = index(&on_index);
    root.children = Some(vec![image(&on_child), image(&on_child)]);
    assert_eq!(reason(&policy, &root), Reason::Admitted);
    root.children = Some(vec![image(&on_child), image(&[])]);
    assert_eq!(reason(&policy, &root), Reason::MissingAttestation);
    child.parents = vec![index(&[signed("a@x")])];
    assert_eq!(reason(&policy, &child), Reason::MissingAttestation);
    child.parents = vec![index(&[attests("builder@x", PROVENANCE)])];
    assert_eq!(reason(&policy, &child), Reason::Unsigned);
}

#[test]
fn one_demand_of_several_is_enough_and_has_to_be_met_as_a_whole() {
    let demands = vec![
        demand(true, &[PROVENANCE], Timing::default()),
        demand(false, &[PACKAGES], Timing::default()),
    ];
    let policy = demanding(demands, Signs::Either);
    let with = |facts: &[Fact]| reason(&policy, &image(facts));
    assert_eq!(with(&[attests("builder@x", PACKAGES)]), Reason::Admitted);
    assert_eq!(with(&[signed("a@x")]), Reason::MissingAttestation);
    assert_eq!(
        with(&[signed("a@x"), attests("builder@x", PROVENANCE)]),
        Reason::Admitted
    );
    // THREATS T7: nobody is never enough.
    let nobody = demanding(Vec::new(), Signs::Either);
    assert_eq!(
        reason(&nobody, &image(&[signed("a@x")])),
        Reason::DeniedByPolicy
    );
}

#[test]
fn signatures_grow_old_and_cool_and_the_judgement_holds_until_then() {
    let at = |second| Timestamp::from_second(second).expect("a time");
    let timing = Timing {
        signed_within: Some(SignedDuration::from_secs(100)),
        cooldown: Some(SignedDuration::from_secs(10)),
        not_before: None,
    };
    let policy = demanding(vec![demand(true, &[], timing)], Signs::Either);
    let mut fact = signed("a@x");
    fact.signed_at = Some(at(1000));
    let mut child = image(&[]);
    child.parents = vec![index(&[fact.clone()])];
    for subject in [image(&[fact]), child] {
        let when = |second| judged(std::slice::from_ref(&policy), &subject, at(second));
        assert_eq!(when(1009).reason, Reason::UntrustedSigner);
        let now = when(1010);
        assert_eq!(now.reason, Reason::Admitted);
        let until = now.holds_until.expect("an end");
        assert!(until > at(1100) && until <= at(1101), "{until}");
        assert_eq!(
            when(1101).reason,
            Reason::UntrustedSigner,
            "{:?}",
            subject.parents
        );
    }
    // What has no proven time is neither young nor old.
    assert_eq!(
        reason(&policy, &image(&[signed("a@x")])),
        Reason::UntrustedSigner
    );
    // k of n: each that counts has to be timely.
    let mut both = demand(true, &[], timing);
    both.signed_by = Some(SignedBy {
        at_least: 2,
        of: vec![rule("a", "a@x"), rule("b", "b@x")],
    });
    let (mut young, mut old) = (signed("a@x"), signed("b@x"));
    (young.signed_at, old.signed_at) = (Some(at(1000)), Some(at(800)));
    let two = demanding(vec![both], Signs::Either);
    let judgement = judged(&[two], &image(&[young, old]), at(1050));
    assert_eq!(judgement.reason, Reason::NotEnoughSigners);
}

#[test]
fn a_near_miss_is_told() {
    let found = |policy: &Arc<Policy>, fact: Fact| {
        let judgement = judged(
            std::slice::from_ref(policy),
            &image(&[fact]),
            Timestamp::UNIX_EPOCH,
        );
        let (_, shortfall) = judgement.refusal().expect("a refusal");
        shortfall.found.clone()
    };
    let workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/";
    let release = policy(
        1,
        &[rule("release", &format!("{workflow}tags/*"))],
        Signs::Either,
    );
    assert_eq!(
        found(&release, signed(&format!("{workflow}heads/main"))),
        format!(
            "signed by {workflow}heads/main (issuer {ISSUER}), which differs from release in the \
             ref"
        )
    );
    let alice = policy(1, &[rule("alice", "alice@acme.test")], Signs::Either);
    assert_eq!(
        found(&alice, signed("alice@evil.test")),
        format!(
            "signed by alice@evil.test (issuer {ISSUER}), which differs from alice in the domain"
        )
    );
}
