use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::policy::CertificateIdentity;
use crate::policy::Mode;
use crate::policy::Requirement;
use crate::policy::Signs;

const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn token(issuer: &str, subject: &str, claims: &[(&str, Value)]) -> Caller {
    Caller::Token(Arc::new(TokenIdentity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        claims: claims
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
    }))
}

fn user(name: &str) -> Caller {
    Caller::User(name.into())
}

fn certificate(names: &[&str]) -> Caller {
    let dns_names = names.iter().map(|name| (*name).to_owned()).collect();
    Caller::Certificate(Arc::new(CertificateIdentity { dns_names }))
}

fn puller(name: &str, kind: PullerKind) -> Arc<PullerRule> {
    Arc::new(PullerRule {
        name: name.into(),
        kind,
    })
}

fn users(names: &[&str]) -> PullerKind {
    PullerKind::Users(names.iter().map(|name| (*name).to_owned()).collect())
}

fn identity(glob: &str) -> PullerKind {
    PullerKind::Token(TokenRule {
        issuer: GITHUB.to_owned(),
        identity: Some(IdentityRule::glob(glob).expect("a glob")),
        claims: Vec::new(),
    })
}

fn claims(claims: &[(&[&str], &str)]) -> PullerKind {
    let rules = claims.iter().map(|(path, glob)| ClaimRule {
        path: path.iter().map(|name| (*name).to_owned()).collect(),
        value: IdentityRule::glob(glob).expect("a glob"),
    });
    PullerKind::Token(TokenRule {
        issuer: GITHUB.to_owned(),
        identity: None,
        claims: rules.collect(),
    })
}

fn policy(name: &str, mode: Mode, any: &[Arc<PullerRule>]) -> Arc<Policy> {
    Arc::new(Policy {
        name: name.into(),
        images: vec![Glob::new("**").expect("a glob")],
        except: Vec::new(),
        mode,
        requirement: Requirement::Digests(BTreeSet::new()),
        signs: Signs::Either,
        pulled_by: Some(PulledBy { any: any.to_vec() }),
        no_rollback: None,
    })
}

fn allows(kind: PullerKind, caller: &Caller) -> bool {
    let policy = policy("p", Mode::Enforce, &[puller("them", kind)]);
    judge_caller(&[policy], caller).is_none()
}

fn message(kinds: &[(&str, PullerKind)], caller: &Caller) -> (String, String) {
    let any: Vec<_> = kinds
        .iter()
        .map(|(name, kind)| puller(name, kind.clone()))
        .collect();
    let judgement = judge_caller(&[policy("p", Mode::Enforce, &any)], caller).expect("a refusal");
    assert_eq!(judgement.reason, Reason::WrongPuller);
    let (_, shortfall) = judgement.refusal().expect("a refusal");
    (shortfall.found.clone(), shortfall.expected.clone())
}

#[test]
fn users_are_users_of_the_file_and_nothing_else() {
    let alice = || users(&["alice", "bob"]);
    assert!(allows(alice(), &user("alice")));
    assert!(!allows(alice(), &user("Alice")));
    assert!(!allows(alice(), &Caller::Anonymous));
    assert!(!allows(
        alice(),
        &token(GITHUB, "alice", &[("user", json!("alice"))])
    ));
    assert!(!allows(alice(), &certificate(&["alice"])));
}

#[test]
fn a_token_is_known_by_issuer_and_subject_together() {
    let main = || identity("repo:acme/*:ref:refs/heads/main");
    assert!(allows(
        main(),
        &token(GITHUB, "repo:acme/app:ref:refs/heads/main", &[])
    ));
    for (issuer, subject) in [
        (GITHUB, "repo:acme/app:ref:refs/heads/maint"),
        (GITHUB, "repo:evil/acme/app:ref:refs/heads/main"),
        (GITHUB, "x-repo:acme/app:ref:refs/heads/main"),
        (
            "https://token.actions.githubusercontent.com.evil.test",
            "repo:acme/app:ref:refs/heads/main",
        ),
        (
            "https://token.actions.githubusercontent.com/evil",
            "repo:acme/app:ref:refs/heads/main",
        ),
    ] {
        assert!(
            !allows(main(), &token(issuer, subject, &[])),
            "{issuer} {subject}"
        );
    }
    assert!(!allows(main(), &user("repo:acme/app:ref:refs/heads/main")));
}

#[test]
fn claims_are_compared_where_they_lie() {
    let pod = json!({"namespace": "team-a", "serviceaccount": {"name": "builder"}});
    let pod = token(GITHUB, "x", &[("kubernetes.io", pod)]);
    assert!(allows(
        claims(&[(&["kubernetes.io", "namespace"], "team-a")]),
        &pod
    ));
    assert!(allows(
        claims(&[(&["kubernetes.io", "serviceaccount", "name"], "build*")]),
        &pod
    ));
    assert!(!allows(
        claims(&[(&["kubernetes.io", "namespace"], "team-b")]),
        &pod
    ));
    assert!(
        !allows(claims(&[(&["kubernetes.io"], "**")]), &pod),
        "an object is no text"
    );
    assert!(
        !allows(claims(&[(&["namespace"], "team-a")]), &pod),
        "not at the top"
    );
    let person = [
        ("email_verified", json!(true)),
        ("groups", json!(["dev", "ops"])),
        ("n", json!(7)),
    ];
    let person = token(GITHUB, "x", &person);
    assert!(allows(
        claims(&[(&["email_verified"], "true"), (&["groups"], "ops")]),
        &person
    ));
    assert!(allows(claims(&[(&["n"], "7")]), &person));
    assert!(!allows(claims(&[(&["groups"], "op")]), &person));
    assert!(!allows(
        claims(&[(&["groups"], "ops"), (&["email_verified"], "false")]),
        &person
    ));
    assert!(
        !allows(claims(&[(&["absent"], "**")]), &person),
        "what is absent fits nothing"
    );
    assert!(
        !allows(claims(&[]), &person),
        "a rule that says nothing fits nobody"
    );
}

#[test]
fn certificates_are_known_by_dns_names() {
    let nodes = || PullerKind::Certificate(DnsRule::glob("*.nodes.acme.test").expect("a glob"));
    assert!(allows(nodes(), &certificate(&["n1.nodes.acme.test"])));
    assert!(allows(
        nodes(),
        &certificate(&["other.test", "N1.Nodes.Acme.test"])
    ));
    for stranger in [
        "nodes.acme.test",
        "a.b.nodes.acme.test",
        "n1.nodes.acme.test.evil.test",
        "n1.nodesXacme.test",
        "n1/nodes/acme/test",
        "n1.nodes/acme.test",
    ] {
        assert!(!allows(nodes(), &certificate(&[stranger])), "{stranger}");
    }
    assert!(!allows(nodes(), &certificate(&[])));
    let across = PullerKind::Certificate(DnsRule::glob("**.acme.test").expect("a glob"));
    assert!(allows(across, &certificate(&["a.b.acme.test"])));
    let one = || PullerKind::Certificate(DnsRule::exact("Node.acme.test"));
    assert!(allows(one(), &certificate(&["node.ACME.test"])));
    assert!(!allows(one(), &certificate(&["*.acme.test"])));
}

#[test]
fn every_policy_that_asks_must_be_met_and_warnings_only_warn() {
    let alice = policy("alice", Mode::Enforce, &[puller("a", users(&["alice"]))]);
    let both = policy(
        "both",
        Mode::Enforce,
        &[puller("a", users(&["alice"])), puller("b", users(&["bob"]))],
    );
    let warn = policy("warn", Mode::Warn, &[puller("c", users(&["carol"]))]);
    let nobody = policy("nobody", Mode::Enforce, &[]);
    let quiet = Arc::new(Policy {
        pulled_by: None,
        no_rollback: None,
        ..Policy::clone(&alice)
    });
    let all = [Arc::clone(&alice), both, quiet];
    assert_eq!(judge_caller(&all, &user("alice")), None);
    let refused = judge_caller(&all, &user("bob")).expect("a refusal");
    assert_eq!(refused.reason, Reason::WrongPuller);
    assert_eq!(refused.policies.len(), 2, "those that ask");
    assert_eq!(&*refused.refusal().expect("a refusal").0.policy, "alice");
    let warned = judge_caller(&[alice, warn], &user("alice")).expect("a warning");
    assert!(warned.is_admitted());
    assert_eq!(warned.warnings().count(), 1);
    assert!(judge_caller(&[nobody], &user("alice")).is_some());
    assert_eq!(judge_caller(&[], &Caller::Anonymous), None);
}

#[test]
fn the_message_says_who_asked_and_who_may() {
    let farm = ("build-farm", identity("repo:acme/*:ref:refs/heads/main"));
    let people = ("ops-people", users(&["alice", "bob"]));
    let (found, expected) = message(&[farm.clone(), people.clone()], &user("mallory"));
    assert_eq!(found, "a pull by user mallory");
    assert_eq!(
        expected,
        "a pull by one of: build-farm (repo:acme/*:ref:refs/heads/main (glob), issuer \
         https://token.actions.githubusercontent.com); ops-people (users alice, bob)"
    );
    let (found, _) = message(std::slice::from_ref(&people), &Caller::Anonymous);
    assert_eq!(found, "a pull without credentials");
    let production = ("production", claims(&[(&["environment"], "production")]));
    let job = token(
        GITHUB,
        "repo:acme/app:ref:x",
        &[("environment", json!("test"))],
    );
    let (found, expected) = message(&[production, people], &job);
    assert_eq!(
        found,
        "a pull by repo:acme/app:ref:x (issuer https://token.actions.githubusercontent.com): it \
         fits production but for the claim environment, which is test"
    );
    assert!(
        expected.contains("environment = production (glob)"),
        "{expected}"
    );
    let elsewhere = token(
        "https://evil.test",
        "repo:acme/app:ref:refs/heads/main",
        &[],
    );
    let (found, _) = message(&[farm], &elsewhere);
    assert!(
        found.ends_with("the identity fits build-farm, the issuer does not"),
        "{found}"
    );
}

// THREATS D6: what a token says comes back short and on one line.
#[test]
fn long_texts_of_callers_are_not_repeated() {
    let long = format!("a\nb{}", "x".repeat(10_000));
    let caller = token(GITHUB, &long, &[("environment", json!(long))]);
    let rule = ("p", claims(&[(&["environment"], "production")]));
    let (found, _) = message(&[rule], &caller);
    assert!(found.len() < 1000 && !found.contains('\n'), "{found}");
    let many: Vec<String> = (0..1000).map(|number| format!("user{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (_, expected) = message(&[("many", users(&many))], &Caller::Anonymous);
    assert!(expected.ends_with("and 995 more)"), "{expected}");
}
