//! What each document of other engines that loads says of images, through the whole program: a row
//! for each of those that tests/config holds, and for each scope of policy.json's manual. The table
//! of docs/FOREIGN.md that has the document tells what passes, and is held against the rows here.
//!
//! Nobody here has the private halves of the keys in the documents, nor their authorities and logs.
//! So each key is replaced by one of the tests' own, and the default trust root, and each that a
//! document names, is that of a Sigstore of the tests' own, which certifies the login that the
//! document names. Nothing else of a document is touched.

mod evidence;
mod manual;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use pullgate::sandbox::sigstore::KeyPair;
use regex::{NoExpand, Regex};
use serde_json::Value;
use tempfile::TempDir;

use crate::documents::{Passes, code, documents, files, table};
use evidence::Site;
use rows::{ATTESTATIONS, Document, KYVERNO, POLICY_CONTROLLER, SIGNATURES};

/// Reasons, each with the evidence for which it is the answer; `admitted` is one.
type Verdicts = &'static [(&'static str, &'static [&'static str])];

/// What `pullgate verify` answers: the reason, and whether the image passes with a warning of it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    reason: String,
    warned: bool,
}

/// The reason for each piece of evidence.
fn by_evidence(verdicts: Verdicts) -> BTreeMap<&'static str, &'static str> {
    let mut reasons = BTreeMap::new();
    for (reason, evidence) in verdicts {
        for name in *evidence {
            assert!(reasons.insert(*name, *reason).is_none(), "{name} twice");
        }
    }
    reasons
}

fn admitted(verdicts: Verdicts) -> BTreeSet<String> {
    let admitted = verdicts.iter().filter(|(reason, _)| *reason == "admitted");
    let names = admitted.flat_map(|(_, evidence)| *evidence);
    names.map(|name| (*name).to_owned()).collect()
}

/// A folder with these files.
fn folder(files: &[(&str, impl AsRef<[u8]>)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

/// What `pullgate verify` says of an image.
async fn verify(folder: &Path, image: &str) -> Answer {
    let (folder, image) = (folder.to_owned(), image.to_owned());
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        let arguments = ["verify", &image, "--output", "json", "--config"];
        command.args(arguments).arg("pullgate.yaml");
        command.current_dir(folder).output().expect("it starts")
    });
    let output = ran.await.expect("it ran");
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let admitted = record["verdict"] == "admitted";
    assert_eq!(output.status.code(), Some(i32::from(!admitted)), "{record}");
    let warned = record["warnings"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    let reason = match warned {
        true => &record["policies"][0]["shortfall"]["reason"],
        false => &record["reason"],
    };
    let reason = reason.as_str().unwrap_or_default().to_owned();
    Answer { reason, warned }
}

/// Every answer that is not as the row says.
fn differences(
    name: &str,
    expected: &BTreeMap<&'static str, &'static str>,
    warns: bool,
    answers: &BTreeMap<&'static str, Answer>,
) -> Vec<String> {
    let told: Vec<_> = expected.keys().collect();
    assert_eq!(told, answers.keys().collect::<Vec<_>>(), "{name}");
    let differing = answers.iter().filter_map(|(evidence, answer)| {
        let reason = expected[evidence];
        let warned = warns && reason != "admitted";
        let same = answer.reason == reason && answer.warned == warned;
        (!same).then(|| format!("{name}, {evidence}: {reason} is expected, it is {answer:?}"))
    });
    differing.collect()
}

/// The document with the tests' key in the place of each of its own.
fn with_key(document: &str, key: &KeyPair) -> String {
    let pem = "(?m)^( *)-----BEGIN PUBLIC KEY-----\n(?:.*\n)*? *-----END PUBLIC KEY-----$";
    let pem = Regex::new(pem).expect("compiles");
    let Some(indent) = pem.captures(document).map(|found| found[1].to_owned()) else {
        return document.to_owned();
    };
    let lines: Vec<String> = key
        .public_key_pem()
        .lines()
        .map(|line| format!("{indent}{line}"))
        .collect();
    pem.replace_all(document, NoExpand(&lines.join("\n")))
        .into_owned()
}

/// The answers to an image with each piece of evidence.
async fn answers(
    document: &Document,
    text: &str,
    evidence: &[&'static str],
) -> BTreeMap<&'static str, Answer> {
    let site = Site::new(document.key).await;
    let policy = with_key(text, &site.key);
    let root = site.sigstore.trusted_root_json();
    let configuration = format!(
        "{}trust_roots: {{ acme: {{ file: root.json }}, my-sigstore-keys: {{ file: root.json }} }}\n\
         default_trust_root: acme\npolicies: [policy.yaml]\n",
        site.upstreams()
    );
    let folder = folder(&[
        ("pullgate.yaml", &configuration),
        ("root.json", &root),
        ("policy.yaml", &policy),
    ]);
    let mut answers = BTreeMap::new();
    let skipped = document.skips.map(|_| "skipped");
    for name in evidence.iter().copied().chain(skipped) {
        let image = site.image_with(document, name);
        answers.insert(name, verify(folder.path(), &image).await);
    }
    answers
}

/// What the table tells of each document that loads, or does with what is said there.
fn told(heading: &str, all: &[&str]) -> BTreeMap<String, Passes> {
    let mut told = BTreeMap::new();
    for row in table(heading) {
        let passes = Passes::told(&row[2], all);
        assert!(passes.is_some() || row[1] != "loads", "{row:?}");
        let names = code(&row[0]).into_iter();
        told.extend(names.filter_map(|name| Some((name.to_owned(), passes.clone()?))));
    }
    told
}

/// The texts of the documents, and which of them load.
fn texts(cases: &[&str]) -> BTreeMap<String, (String, bool)> {
    let mut texts = BTreeMap::new();
    for case in cases {
        let files = files(case);
        for (name, errors) in documents(case) {
            let text = files[&format!("{name}.yaml")].clone();
            texts.insert(name, (text, errors.is_empty()));
        }
    }
    texts
}

/// Every document that loads has its row, and says of each piece of evidence what stands there.
async fn gives_the_verdicts_of(
    heading: &str,
    cases: &[&str],
    rows: &[Document],
    evidence: &[&'static str],
) {
    let texts = texts(cases);
    let mut told = told(heading, evidence);
    let loading = texts.iter().filter(|(_, (_, loads))| *loads);
    for (name, _) in loading {
        let has_row = rows.iter().any(|row| row.name == name);
        assert!(has_row, "{name} loads and has no row");
    }
    let mut different = Vec::new();
    for row in rows {
        let name = row.name;
        let passes = Passes {
            evidence: admitted(row.verdicts),
            else_warned: row.warns,
        };
        let told = told.remove(name);
        assert_eq!(told, Some(passes), "docs/FOREIGN.md on {name}");
        let (text, _) = &texts[name];
        let answers = answers(row, text, evidence).await;
        let mut expected = by_evidence(row.verdicts);
        expected.extend(row.skips.map(|_| ("skipped", "no_policy")));
        different.extend(differences(name, &expected, row.warns, &answers));
    }
    assert!(told.is_empty(), "without a row: {told:?}");
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_controllers_documents_give_the_verdicts_that_they_describe() {
    gives_the_verdicts_of(
        "The documents of policy-controller's repository",
        &[
            "20_policy_controller_documents.txt",
            "20_policy_controller_documents_valid_and_not.txt",
        ],
        POLICY_CONTROLLER,
        SIGNATURES,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kyvernos_documents_give_the_verdicts_that_they_describe() {
    gives_the_verdicts_of(
        "The examples of Kyverno's documentation",
        &["21_kyverno_documents.txt"],
        KYVERNO,
        ATTESTATIONS,
    )
    .await;
}
