//! What is printed means what it was printed from.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::native;
use crate::config::RootSource;
use crate::config::Settings;
use crate::config::load;
use crate::config::tests::{CHECKS, loaded, loading_cases, now, printed};
use crate::policy::Policy;
use crate::policy::Requirement;

type Files = Vec<(String, String)>;

/// The settings of the same configuration with its policies printed and read again.
fn again(settings: &Settings, files: &[(String, String)]) -> Settings {
    let text = native(settings);
    let mut files: Files = files.to_vec();
    for (name, configuration) in &mut files {
        if name == "pullgate.yaml" {
            let others = configuration.lines();
            let others = others.filter(|line| !line.starts_with("policies:"));
            let others: Vec<&str> = others.collect();
            *configuration = format!("policies: [printed.yaml]\n{}\n", others.join("\n"));
        }
    }
    files.push(("printed.yaml".to_owned(), text.clone()));
    let (folder, result) = loaded(&files);
    let loaded =
        result.unwrap_or_else(|problems| panic!("{text}\n{}", printed(&problems, folder.path())));
    loaded.settings
}

fn settings_of(files: &[(String, String)]) -> Settings {
    let (folder, result) = loaded(files);
    result
        .unwrap_or_else(|problems| panic!("{}", printed(&problems, folder.path())))
        .settings
}

fn holds(settings: &Settings, files: &[(String, String)]) {
    let again = again(settings, files);
    assert_eq!(logs(&again), logs(settings), "the logs that policies give");
    let (read, written) = (again.rules, &settings.rules);
    let text = native(settings);
    assert_eq!(read.default, written.default, "{text}");
    assert_eq!(read.policies.len(), written.policies.len(), "{text}");
    for (read, written) in read.policies.iter().zip(&written.policies) {
        assert_eq!(nameless(read), nameless(written), "{text}");
    }
}

/// The trust roots that policies give themselves, by their content.
fn logs(settings: &Settings) -> BTreeSet<(&str, &str)> {
    let roots = settings.trust_roots.iter();
    let logs = roots.filter_map(|root| match &root.source {
        RootSource::Logs { json, .. } => Some((root.name.as_str(), json.as_str())),
        _ => None,
    });
    logs.collect()
}

/// The policy without its signers' names: two that have one name are given two.
fn nameless(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    if let Requirement::Proven(demands) = &mut policy.requirement {
        for demand in demands {
            let attested = demand.attested.iter_mut().map(|attested| &mut attested.by);
            let all = demand.signed_by.iter_mut().chain(attested);
            for signer in all.flat_map(|by| &mut by.of) {
                Arc::make_mut(signer).name = "".into();
            }
        }
    }
    policy
}

fn with_policies(policies: &str) -> Files {
    let configuration = "upstreams: { ghcr.io: {}, docker.io: {} }\npolicies: [p.yaml]\n";
    vec![
        ("pullgate.yaml".to_owned(), configuration.to_owned()),
        ("p.yaml".to_owned(), policies.to_owned()),
    ]
}

#[test]
fn every_case_that_loads_is_printed_and_read_again() {
    let mut tried = 0;
    for files in loading_cases() {
        let settings = settings_of(&files);
        let text = native(&settings);
        // A predicate type that is no URI, which nobody attests, is the one thing without words.
        let unsaid = text.matches("no words for").count();
        assert_eq!(unsaid, text.matches("is no URI").count(), "{text}");
        if unsaid == 0 {
            holds(&settings, &files);
            tried += 1;
        }
    }
    assert!(tried >= 5, "{tried}");
}

#[test]
fn the_worked_examples_are_printed_and_read_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pullgate.yaml");
    let settings = load(&path, &CHECKS, now()).expect("loads").settings;
    let configuration = fs::read_to_string(&path).expect("a file");
    holds(&settings, &[("pullgate.yaml".to_owned(), configuration)]);
}

const KEY: &str = "-----BEGIN PUBLIC KEY-----\n        \
                   MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIcbqK2RAVZOfPzo+kbOhNYq8DK9f\n        \
                   B2BGbU7jAXEvYthJ3vRcYq8l7g9UAXXiz9P2awFuTa4COcZU2IdEDVU0uA==\n        \
                   -----END PUBLIC KEY-----\n";

/// An authority in JSON, which is YAML as well.
fn authority() -> impl Strategy<Value = String> {
    let key =
        prop_oneof![Just(""), Just("sha256"), Just("sha384"), Just("sha512")].prop_map(|hash| {
            let hash = match hash {
                "" => String::new(),
                hash => format!("      hashAlgorithm: {hash}\n"),
            };
            format!("    key:\n{hash}      data: |\n        {KEY}")
        });
    let identity = prop_oneof![
        Just("{ issuer: 'https://i.test', subject: a@b.test }"),
        Just("{ issuer: 'https://i.test', subjectRegExp: '^https://(a|b)/.*$' }"),
        Just("{ issuerRegExp: 'https?://.*', subjectRegExp: 'x: \"y\" # z' }"),
    ];
    let keyless =
        (prop::collection::vec(identity, 1..4), any::<bool>()).prop_map(|(identities, ignores)| {
            format!(
                "    keyless:\n      insecureIgnoreSCT: {ignores}\n      identities: [{}]\n",
                identities.join(", ")
            )
        });
    let who = prop_oneof![key, keyless];
    let beside = (
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(""), Just("legacy"), Just("bundle")],
        prop_oneof![
            Just(""),
            Just("{ oci: ghcr.io/acme/signatures }"),
            Just("{ tagPrefix: release }"),
            Just("{ oci: ghcr.io/acme/signatures, tagPrefix: v1_ }"),
        ],
        0..3_usize,
    );
    (who, beside).prop_map(|(who, (log, timestamp, format, source, attestations))| {
        let mut text = who;
        if log {
            text.push_str("    ctlog: { url: 'https://rekor.test' }\n");
        }
        if timestamp {
            text.push_str("    rfc3161timestamp: { trustRootRef: public }\n");
        }
        if !format.is_empty() {
            text.push_str(&format!("    signatureFormat: {format}\n"));
        }
        if !source.is_empty() {
            text.push_str(&format!("    source: [{source}]\n"));
        }
        if attestations > 0 {
            let types = ["spdxjson", "https://acme.test/own"];
            let items = types.iter().take(attestations);
            let items = items.map(|kind| format!("{{ name: x, predicateType: '{kind}' }}"));
            let items: Vec<String> = items.collect();
            text.push_str(&format!("    attestations: [{}]\n", items.join(", ")));
        }
        // As an item of a list.
        format!("  - {}", text.trim_start())
    })
}

fn document(name: usize) -> impl Strategy<Value = String> {
    let fixed = prop_oneof![
        Just("  - static: { action: pass }\n".to_owned()),
        Just("  - static: { action: fail, message: 'no: \"never\"' }\n".to_owned()),
    ];
    let authority = prop_oneof![9 => authority(), 1 => fixed];
    (
        prop::collection::vec(authority, 1..4),
        prop_oneof![Just("enforce"), Just("warn")],
        prop_oneof![
            Just("*"),
            Just("ghcr.io/acme/**"),
            Just("ghcr.io/acme/app:v*")
        ],
    )
        .prop_map(move |(authorities, mode, glob)| {
            format!(
                "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{ \
                 name: policy-{name} }}\nspec:\n  mode: {mode}\n  images: [{{ glob: '{glob}' \
                 }}]\n  authorities:\n{}",
                authorities.concat()
            )
        })
}

proptest! {
    #[test]
    fn foreign_policies_are_printed_and_read_again(one in document(1), two in document(2)) {
        let files = with_policies(&format!("{one}---\n{two}"));
        holds(&settings_of(&files), &files);
    }
}

// What the language has no words for is refused, and not left out.
#[test]
fn what_cannot_be_said_is_refused() {
    let policies = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: { \
                    name: odd }\nspec:\n  images: [{ glob: 'ghcr.io/**' }]\n  authorities:\n  - \
                    keyless: { identities: [{ issuer: 'https://i.test', subject: a }] }\n    \
                    attestations: [{ name: x, predicateType: no-uri }]\n";
    let files = with_policies(policies);
    let settings = settings_of(&files);
    let text = native(&settings);
    assert!(
        text.contains("# pullgate has no words for the policy odd"),
        "{text}"
    );
    let again = again(&settings, &files);
    let [policy] = again.rules.policies.as_slice() else {
        panic!("{text}");
    };
    assert_eq!(policy.images, settings.rules.policies[0].images);
    assert!(
        matches!(policy.requirement, Requirement::Deny { .. }),
        "{text}"
    );
}
