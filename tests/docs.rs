//! The guides are held against the program: their examples load, their words are those that it
//! says, and their links lead somewhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test, with its reason"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use pullgate::app;
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::oci::ImageName;
use pullgate::policy::{Caller, TokenIdentity, judge_caller};
use pullgate::sandbox::oidc::Token;
use pullgate::sandbox::sigstore::{CertificateAuthority, KeyPair};
use tempfile::TempDir;

#[path = "support/documents.rs"]
mod documents;
#[path = "docs/foreign.rs"]
mod foreign;

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
         registry.acme.test: {} }\npolicies: [policy.yaml]\ncache: { directory: cache }\n\
         trust_roots: { acme: { sigstore: public_good } }\n";
    let key = read("config/keys/platform-team.pub");
    let cases = read("tests/config/13_gpg.txt");
    let keyring = cases
        .split("-- keys.asc --\n")
        .nth(1)
        .and_then(|rest| rest.split("-- ").next())
        .expect("a keyring");
    let [old, new] = [KeyPair::generate(), KeyPair::generate()].map(|key| key.public_key_pem());
    let authority = CertificateAuthority::new(1, Clock::system().now());
    let (root, between) = (authority.root_pem(), authority.chain_pem());
    let guide = read("docs/POLICY.md");
    let blocks = blocks(&guide, "yaml");
    assert!(blocks.len() > 8);
    for (number, block) in blocks.iter().enumerate() {
        let files = [
            ("pullgate.yaml", CONFIGURATION),
            ("policy.yaml", block.as_str()),
            ("ops.pub", key.as_str()),
            ("offline.pub", key.as_str()),
            ("ops-2025.pub", old.as_str()),
            ("ops-2026.pub", new.as_str()),
            ("acme-root.pem", root.as_str()),
            ("acme-code-signing.pem", between.as_str()),
            ("packagers.asc", keyring),
        ];
        loads(&files, &format!("docs/POLICY.md, block {number}"));
    }
}

/// The program, on arguments.
fn pullgate(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.args(arguments).current_dir(root());
    command.output().expect("runs")
}

#[test]
fn the_tests_of_the_examples_pass_and_can_fail() {
    let run = |tests: &str| pullgate(&["test", tests, "--config", "config/pullgate.yaml"]);
    let passed = run("config/tests");
    let printed = String::from_utf8_lossy(&passed.stdout).into_owned();
    assert!(
        passed.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&passed.stderr)
    );
    assert!(printed.ends_with("9 passed, 0 failed\n"), "{printed}");

    let guide = read("docs/POLICY.md");
    let blocks = blocks(&guide, "yaml test");
    assert_eq!(blocks.len(), 1);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("guide.yaml");
    fs::write(&file, &blocks[0]).expect("a file");
    let file = file.to_str().expect("a path");
    let passed = run(file);
    assert!(
        passed.status.success(),
        "{}",
        String::from_utf8_lossy(&passed.stdout)
    );

    fs::write(
        file,
        blocks[0].replace("expect: admitted", "expect: denied"),
    )
    .expect("a file");
    let failed = run(file);
    let printed = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{printed}");
    for line in [
        "FAIL  what the release workflow signed passes",
        "expected denied, got admitted for ghcr.io/intelops/compage/app:v1.0.0",
        "ok    the same workflow on a branch does not",
        "1 passed, 1 failed",
    ] {
        assert!(printed.contains(line), "{line} in\n{printed}");
    }
}

/// The examples of a page, each a configuration and a policy, by the heading above them.
fn examples(page: &str) -> BTreeMap<String, TempDir> {
    const SIGNERS: &str =
        "signers:\n  release:\n    keyless: { issuer: google, identity: a@b.test }\n";
    const USERS: &str = "alice:$2b$05$......................DyJ3dcVJb8x7OYWDTgKqxfcSJHqyPIi\n";
    let text = read(page);
    let mut examples = BTreeMap::new();
    for chapter in text.split("\n## ").skip(1) {
        let heading = chapter.lines().next().unwrap_or_default().to_owned();
        let found = blocks(chapter, "yaml");
        let [configuration, policy] = found.as_slice() else {
            assert!(found.is_empty(), "{page}, {heading}: two files");
            continue;
        };
        let name = |block: &str| {
            let first = block.lines().next().unwrap_or_default();
            first.trim_start_matches("# ").to_owned()
        };
        assert_eq!(name(configuration), "pullgate.yaml", "{page}, {heading}");
        let policy_name = name(policy);
        let files = [
            ("pullgate.yaml", configuration.as_str()),
            (policy_name.as_str(), policy.as_str()),
            ("policies/signers.yaml", SIGNERS),
            ("users.htpasswd", USERS),
        ];
        let folder = loads(&files, &format!("{page}, {heading}"));
        examples.insert(heading, folder);
    }
    examples
}

/// Whether the policies of an example let the bearer of a token pull an image.
fn lets_in(folder: &TempDir, image: &str, issuer: &str, token: &Token) -> bool {
    let path = folder.path().join("pullgate.yaml");
    let now = Clock::system().now();
    let loaded = config::load(&path, &app::checks(), now).expect("it loads");
    let claims = token.claims(issuer, now);
    let caller = Caller::Token(Arc::new(TokenIdentity {
        issuer: issuer.to_owned(),
        subject: claims["sub"].as_str().expect("a subject").to_owned(),
        claims: serde_json::from_value(claims).expect("claims"),
    }));
    let name = ImageName {
        registry: "registry.acme.test".parse().expect("a host"),
        repository: image.parse().expect("a repository"),
    };
    let latest = "latest".parse().expect("a tag");
    let policies = loaded.settings.rules.matching(&name, &latest);
    assert!(!policies.is_empty(), "no policy for {image}");
    judge_caller(&policies, &caller).is_none()
}

/// Asserts what an example says of tokens.
fn lets(folder: Option<&TempDir>, image: &str, cases: &[(&str, Token, bool)]) {
    let folder = folder.expect("the chapter");
    for (issuer, token, expected) in cases {
        let answer = lets_in(folder, image, issuer, token);
        assert_eq!(answer, *expected, "{issuer} {token:?}");
    }
}

#[test]
fn the_examples_let_in_whom_they_name_and_nobody_else() {
    const TENANT: &str = "7a1cba2c-4f0d-4a5c-9f4a-0d6f6f1d2a11";
    const GITHUB: &str = "https://token.actions.githubusercontent.com";
    const GOOGLE: &str = "https://accounts.google.com";
    const ROBOT: &str = "deployer@acme.iam.gserviceaccount.com";
    const KEYCLOAK: &str = "https://login.acme.test/realms/acme";
    let folders = examples("docs/PULLERS.md");
    assert!(folders.contains_key("People with passwords"));
    let job = |repository, reference, environment| {
        Token::github_actions(repository, reference, environment, "pullgate")
    };
    let main = "refs/heads/main";
    let cases = [
        (GITHUB, job("acme/app", main, None), true),
        (
            GITHUB,
            job("acme/app", "refs/tags/v1", Some("production")),
            true,
        ),
        (GITHUB, job("acme/app", "refs/heads/x", None), false),
        (GITHUB, job("mallory/app", main, None), false),
        (GITHUB, job("acme/app", "refs/tags/v1", Some("test")), false),
        (GOOGLE, job("acme/app", main, None), false),
    ];
    lets(folders.get("Jobs on GitHub Actions"), "app", &cases);
    let pipeline = |branch| Token::gitlab("acme/app", branch, "pullgate");
    let cases = [
        ("https://gitlab.com", pipeline("release/1"), true),
        ("https://gitlab.com", pipeline("main"), false),
        ("https://gitlab.acme.test", pipeline("release/1"), false),
    ];
    lets(folders.get("Jobs on GitLab"), "app", &cases);
    let robot = || Token::google("1", ROBOT, "pullgate");
    let cases = [
        (GOOGLE, robot(), true),
        (GOOGLE, robot().claim("email_verified", false), false),
        (GOOGLE, Token::google("1", "a@b.test", "pullgate"), false),
    ];
    lets(
        folders.get("Google accounts and service accounts"),
        "app",
        &cases,
    );
    let entra = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let person = || Token::microsoft(TENANT, "x", "a@acme.test", "pullgate");
    let cases = [
        (entra.as_str(), person(), true),
        (&entra, person().without("groups").without("oid"), false),
        (
            "https://login.microsoftonline.com/another/v2.0",
            person(),
            false,
        ),
    ];
    lets(folders.get("Microsoft Entra"), "app", &cases);
    let person = |role: &str| {
        let roles = serde_json::json!({"roles": ["offline_access", role]});
        Token::new("8f2c", "pullgate").claim("realm_access", roles)
    };
    let cases = [
        (KEYCLOAK, person("developer"), true),
        (KEYCLOAK, Token::new("robot-7", "pullgate"), true),
        (KEYCLOAK, person("guest"), false),
    ];
    lets(folders.get("Any other issuer"), "app", &cases);
    let cases = [
        (GITHUB, job("team-a/app", main, None), true),
        (GITHUB, job("team-b/app", main, None), false),
    ];
    lets(
        folders.get("A team pulls only what it signed"),
        "team-a/app",
        &cases,
    );
}

#[test]
fn pods_are_let_in_by_namespace_and_service_account() {
    const CLUSTER: &str = "https://keys.acme.test";
    const SIGNERS: &str =
        "signers:\n  release:\n    keyless: { issuer: google, identity: a@b.test }\n";
    let found = blocks(&read("docs/KUBERNETES.md"), "yaml");
    let [configuration, policy] = found.as_slice() else {
        panic!("two files");
    };
    let files = [
        ("pullgate.yaml", configuration.as_str()),
        ("policies/pull.yaml", policy.as_str()),
        ("policies/signers.yaml", SIGNERS),
    ];
    let folder = loads(&files, "docs/KUBERNETES.md");
    for (image, namespace, account, expected) in [
        ("team-a/app", "team-a", "web", true),
        ("team-a/app", "team-b", "web", false),
        ("bases/go", "team-a", "web", true),
        ("bases/go", "team-b", "builder", true),
        ("bases/go", "team-b", "web", false),
        ("bases/go", "kube-system", "builder", false),
    ] {
        let pod = Token::kubernetes(namespace, account, "pullgate");
        let answer = lets_in(&folder, image, CLUSTER, &pod);
        assert_eq!(answer, expected, "{namespace}/{account} and {image}");
        assert!(!lets_in(&folder, image, "https://other.acme.test", &pod));
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
