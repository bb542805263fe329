//! The guides are held against the program: their examples load, their words are those that it
//! says, and their links lead somewhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test, with its reason"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pullgate::app;
use pullgate::clock::Clock;
use pullgate::config;
use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .collect();
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

/// Writes files into a folder, and loads `pullgate.yaml` there: no error, no warning.
fn loads(files: &[(&str, &str)], what: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let path = folder.path().join("pullgate.yaml");
    match config::load(&path, &app::checks(), Clock::system().now()) {
        Ok(loaded) => assert!(loaded.warnings.is_empty(), "{what}: {:?}", loaded.warnings),
        Err(problems) => panic!("{what}: {problems:?}"),
    }
    folder
}

#[test]
fn the_readme_has_a_configuration_that_loads() {
    let readme = read("README.md");
    let blocks = blocks(&readme, "yaml");
    let named: Vec<(&str, &str)> = blocks
        .iter()
        .map(|block| {
            let first = block.lines().next().expect("a line");
            (first.trim_start_matches("# "), block.as_str())
        })
        .collect();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["pullgate.yaml", "policies/app.yaml"]);
    loads(&named, "README.md");
}

#[test]
fn every_policy_of_the_guide_loads() {
    const CONFIGURATION: &str = "upstreams: { docker.io: {}, ghcr.io: {}, registry.gitlab.com: {}, \
         registry.acme.test: {} }\npolicies: [policy.yaml]\n\
         trust_roots: { acme: { sigstore: public_good } }\n";
    let key = read("config/keys/platform-team.pub");
    let guide = read("docs/POLICY.md");
    let blocks = blocks(&guide, "yaml");
    assert!(blocks.len() > 8);
    for (number, block) in blocks.iter().enumerate() {
        let files = [
            ("pullgate.yaml", CONFIGURATION),
            ("policy.yaml", block.as_str()),
            ("ops.pub", key.as_str()),
            ("offline.pub", key.as_str()),
        ];
        loads(&files, &format!("docs/POLICY.md, block {number}"));
    }
}

/// The words that an `as_str` of this source gives.
fn words_of(source: &str) -> BTreeSet<String> {
    let is_word = |word: &&str| word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
    let words = source.lines().filter_map(|line| {
        let (variant, word) = line.trim().split_once(" => \"")?;
        variant.starts_with("Self::").then_some(())?;
        word.strip_suffix("\",")
    });
    words.filter(is_word).map(str::to_owned).collect()
}

#[test]
fn every_reason_stands_in_the_runbook_and_no_other() {
    let reasons = words_of(&read("src/policy/reason.rs"));
    let doubts = words_of(&read("src/gate/refusal.rs"));
    assert_eq!((reasons.len(), doubts.len()), (13, 7));
    let runbook = read("docs/RUNBOOK.md");
    let told: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    assert_eq!(told, reasons.union(&doubts).cloned().collect());
}

/// The names in a text that begin like those of metrics.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let names = text.split(|next: char| !(next.is_ascii_alphanumeric() || next == '_'));
    names
        .filter(|name| name.starts_with("pullgate_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_stands_in_the_runbook_and_no_other() {
    let there = metrics_of(&read("src/metrics/mod.rs"));
    assert_eq!(metrics_of(&read("docs/RUNBOOK.md")), there);
}

#[test]
fn the_runbook_seals_as_the_program_does() {
    let folder = loads(
        &[
            (
                "pullgate.yaml",
                "upstreams: { ghcr.io: {} }\npolicies: [p.yaml]\n",
            ),
            (
                "p.yaml",
                "policies:\n  - { name: p, images: [ghcr.io/**], deny: no }\n",
            ),
        ],
        "sealing",
    );
    let printed: String = ["containerd", "podman"]
        .map(|runtime| {
            let output = Command::new(env!("CARGO_BIN_EXE_pullgate"))
                .args(["runtime-config", runtime, "--config"])
                .arg(folder.path().join("pullgate.yaml"))
                .output()
                .expect("the program runs");
            String::from_utf8(output.stdout).expect("UTF-8")
        })
        .concat();
    let blocks = blocks(&read("docs/RUNBOOK.md"), "toml");
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(printed.contains(&block), "{block} is not in {printed}");
    }
}

/// The files that people read.
fn pages() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")];
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = files.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// The name of a heading in links, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|next| next.is_alphanumeric() || matches!(next, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(page).expect("a page");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(anchor).any(|name| name == wanted)
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
        {
            let target = link.0;
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            let place = page.display();
            assert!(path.exists(), "{place}: {target} is not there");
            assert!(
                heading.is_empty() || has_anchor(&path, heading),
                "{place}: {target} has no such heading"
            );
        }
    }
    assert!(seen > 10);
}
