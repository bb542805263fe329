//! Broken files and the problems that are told of them, in `tests/config/*.txt`: each holds
//! the files of a configuration and, last, all that is printed. With `UPDATE_CASES=1` set the
//! last part is written anew; then read it as a tired person would.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::policy::DefaultRule;
use crate::policy::IdentityRule;
use crate::policy::Mode;
use crate::policy::Requirement;
use crate::policy::SignerKind;
use crate::policy::Signs;

const PROBLEMS: &str = "problems";

pub(super) const CHECKS: Checks = Checks {
    key: |spki| match spki.len() {
        0..64 => Err("it is too short".to_owned()),
        _ => Ok(()),
    },
    authority: crate::verify::Authority::read,
    gpg: crate::verify::read_keyring,
    directory: |path| match path.ends_with("of-another") {
        true => Err("Permission denied (os error 13)".to_owned()),
        false => Ok(()),
    },
    root: |json| {
        serde_json::from_str::<serde_json::Value>(json)
            .map(drop)
            .map_err(|_| "it is not JSON".to_owned())
    },
    tuf_root: |bytes| {
        serde_json::from_slice::<serde_json::Value>(bytes)
            .map(drop)
            .map_err(|_| "it is not JSON".to_owned())
    },
};

pub(super) fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().expect("a time")
}

/// Problems as they are printed, with the folder left out.
pub(super) fn printed(problems: &[Problem], folder: &Path) -> String {
    let folder = format!("{}/", folder.display());
    problems.iter().fold(String::new(), |mut text, problem| {
        writeln!(text, "{}", problem.to_string().replace(&folder, "")).expect("a String");
        text
    })
}

/// The parts of a case: `-- NAME --` lines and the text after each.
pub(super) fn parts(case: &str) -> Vec<(&str, &str)> {
    let mut parts = Vec::new();
    let mut rest = case;
    while let Some((_, after)) = rest.split_once("-- ") {
        let (name, after) = after.split_once(" --\n").expect("-- NAME --");
        let end = after.find("\n-- ").map_or(after.len(), |end| end + 1);
        parts.push((name, &after[..end]));
        rest = &after[end..];
    }
    parts
}

pub(super) fn written(files: &[(impl AsRef<str>, impl AsRef<str>)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name.as_ref());
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text.as_ref()).expect("a file");
    }
    folder
}

pub(super) fn loaded(
    files: &[(impl AsRef<str>, impl AsRef<str>)],
) -> (TempDir, Result<Loaded, Vec<Problem>>) {
    let folder = written(files);
    let result = load(&folder.path().join("pullgate.yaml"), &CHECKS, now());
    (folder, result)
}

/// A configuration that holds, with these policies.
fn with_policies(policies: &str) -> Settings {
    let configuration = "upstreams: { ghcr.io: {}, docker.io: {} }\npolicies: [p.yaml]\n";
    let (folder, result) = loaded(&[("pullgate.yaml", configuration), ("p.yaml", policies)]);
    result
        .unwrap_or_else(|problems| panic!("{}", printed(&problems, folder.path())))
        .settings
}

fn cases() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut paths: Vec<PathBuf> = fs::read_dir(cases)
        .expect("the cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() > 5);
    paths
}

/// The files of the cases that load.
pub(super) fn loading_cases() -> Vec<Vec<(String, String)>> {
    let files = cases().into_iter().filter_map(|path| {
        let case = fs::read_to_string(path).expect("a case");
        let mut files = parts(&case);
        let (_, problems) = files.pop().expect("parts");
        let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        problems
            .starts_with("it loads")
            .then(|| files.into_iter().map(owned).collect())
    });
    files.collect()
}

/// Whether `holds` for the one document of a text.
pub(super) fn parsed_alone(text: &str, holds: impl FnOnce(&reader::Value<'_>) -> bool) -> bool {
    let problems = problem::Problems::default();
    let sheet = problem::Sheet {
        file: Path::new("alone.yaml"),
        problems: &problems,
    };
    match yaml::parse(text, &sheet).as_deref() {
        Some([root]) => holds(&reader::Value::root(root, &sheet)),
        _ => false,
    }
}

#[test]
fn every_problem_is_told_at_once_and_with_its_mend() {
    for path in cases() {
        let case = fs::read_to_string(&path).expect("a case");
        let mut files = parts(&case);
        let (last, expected) = files.pop().expect("parts");
        assert_eq!(last, PROBLEMS, "{}", path.display());
        let (folder, result) = loaded(&files);
        let (word, problems) = match &result {
            Ok(loaded) => ("it loads\n", &loaded.warnings),
            Err(problems) => ("", problems),
        };
        let found = format!("{word}{}", printed(problems, folder.path()));
        if std::env::var_os("UPDATE_CASES").is_some() {
            let kept = &case[..case.len() - expected.len()];
            fs::write(&path, format!("{kept}{found}")).expect("written");
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

/// Every key is read: a value of a kind that no key takes is told of under the key's path.
#[test]
fn no_key_is_known_and_not_read() {
    const CALLERS: &str = "callers: { oidc: [{ issuer: https://i.test, audience: a }] }";
    let wrong = "[[[]]]";
    let wraps: &[(&str, &str, &str)] = &[
        ("pullgate.yaml", "KEY: WRONG", ""),
        ("tls", "tls: { KEY: WRONG }", ""),
        ("upstreams.HOST", "upstreams: { h: { KEY: WRONG } }", ""),
        (
            "upstreams.HOST.client_certificate",
            "upstreams: { h: { client_certificate: { KEY: WRONG } } }",
            "",
        ),
        (
            "upstreams.HOST.credentials",
            "upstreams: { h: { credentials: { KEY: WRONG } } }",
            "",
        ),
        ("policies[]", "policies: [{ KEY: WRONG }]", ""),
        ("trust_roots.NAME", "trust_roots: { r: { KEY: WRONG } }", ""),
        ("callers", "callers: { KEY: WRONG }", ""),
        ("callers.oidc[]", "callers: { oidc: [{ KEY: WRONG }] }", ""),
        (
            "callers.client_certificates",
            "callers: { client_certificates: { KEY: WRONG } }",
            "",
        ),
        ("callers.tokens", "callers: { tokens: { KEY: WRONG } }", ""),
        (
            "trust_roots.NAME.tuf",
            "trust_roots: { r: { tuf: { KEY: WRONG } } }",
            "",
        ),
        ("cache", "cache: { KEY: WRONG }", ""),
        ("audit", "audit: { KEY: WRONG }", ""),
        ("limits", "limits: { KEY: WRONG }", ""),
        ("policies/*.yaml", "", "KEY: WRONG"),
        (
            "signers.NAME",
            "",
            "signers: { s: { KEY: WRONG, keyless: {} } }",
        ),
        (
            "signers.NAME.keyless",
            "",
            "signers: { s: { keyless: { KEY: WRONG } } }",
        ),
        (
            "signers.NAME.keyless.claims",
            "",
            "signers: { s: { keyless: { claims: { KEY: WRONG } } } }",
        ),
        (
            "signers.NAME.key",
            "",
            "signers: { s: { key: { KEY: WRONG } } }",
        ),
        (
            "signers.NAME.key[]",
            "",
            "signers: { s: { key: [{ KEY: WRONG }] } }",
        ),
        (
            "signers.NAME.ca",
            "",
            "signers: { s: { ca: { KEY: WRONG } } }",
        ),
        (
            "signers.NAME.ca.intermediates",
            "",
            "signers: { s: { ca: { intermediates: { KEY: WRONG } } } }",
        ),
        (
            "signers.NAME.ca.subject",
            "",
            "signers: { s: { ca: { subject: { KEY: WRONG } } } }",
        ),
        (
            "signers.NAME.gpg",
            "",
            "signers: { s: { gpg: { KEY: WRONG } } }",
        ),
        (
            "signers.NAME.trust_root",
            "",
            "signers: { s: { trust_root: { KEY: WRONG }, key: {} } }",
        ),
        (
            "signers.NAME.signed_identity",
            "",
            "signers: { s: { signed_identity: { KEY: WRONG }, keyless: {} } }",
        ),
        (
            "signers.NAME.signed_identity.remap",
            "",
            "signers: { s: { signed_identity: { remap: { KEY: WRONG } }, keyless: {} } }",
        ),
        ("pullers.NAME", "", "pullers: { p: { KEY: WRONG } }"),
        (
            "pullers.NAME.oidc",
            "",
            "pullers: { p: { oidc: { KEY: WRONG } } }",
        ),
        (
            "pullers.NAME.certificate",
            "",
            "pullers: { p: { certificate: { KEY: WRONG } } }",
        ),
        ("policies[]: a policy", "", "policies: [{ KEY: WRONG }]"),
        (
            "policies[].images[]",
            "",
            "policies: [{ images: [{ KEY: WRONG }] }]",
        ),
        (
            "policies[].any_of[]",
            "",
            "policies: [{ any_of: [{ KEY: WRONG }] }]",
        ),
        (
            "policies[].source",
            "",
            "policies: [{ source: { KEY: WRONG } }]",
        ),
        (
            "policies[].pulled_by",
            CALLERS,
            "policies: [{ pulled_by: { KEY: 1 } }]",
        ),
        (
            "policies[].signed_by",
            "",
            "policies: [{ signed_by: { of: [s], KEY: WRONG } }]",
        ),
        (
            "policies[].attested[]",
            "",
            "policies: [{ attested: [{ KEY: WRONG }] }]",
        ),
        (
            "policies[].no_rollback",
            "",
            "policies: [{ no_rollback: { KEY: WRONG } }]",
        ),
        (
            "policies[].unsafe_allow_unsigned",
            "",
            "policies: [{ unsafe_allow_unsigned: { KEY: WRONG } }]",
        ),
    ];
    for section in schema::ALL {
        for key in section.keys {
            let (_, configuration, policy) = wraps
                .iter()
                .find(|(name, ..)| *name == section.name)
                .expect("a wrap");
            let fill = |text: &str| match (*key, section.name) {
                _ if text.is_empty() => String::new(),
                // Its neighbours would be the problem.
                ("key", "signers.NAME") => format!("signers: {{ s: {{ key: {wrong} }} }}"),
                ("gpg", "signers.NAME") => format!("signers: {{ s: {{ gpg: {wrong} }} }}"),
                ("ca", "signers.NAME") => format!("signers: {{ s: {{ ca: {wrong} }} }}"),
                ("keyless", "signers.NAME") => format!("signers: {{ s: {{ keyless: {wrong} }} }}"),
                ("trust_root" | "transparency_log", "signers.NAME") => {
                    format!("signers: {{ s: {{ key: {{}}, {key}: {wrong} }} }}")
                }
                ("any" | "all" | "of", "policies[].signed_by") => {
                    format!("policies: [{{ signed_by: {{ {key}: 1 }} }}]")
                }
                _ => text.replace("KEY", key).replace("WRONG", wrong),
            };
            let policies = if policy.is_empty() {
                String::new()
            } else {
                "policies: [p.yaml]".to_owned()
            };
            let text = format!("{}\n{policies}\n", fill(configuration));
            let (folder, result) = loaded(&[("pullgate.yaml", &text), ("p.yaml", &fill(policy))]);
            let problems = result.expect_err("a problem");
            let told = problems.iter().any(|problem| {
                problem.key.split(['.', '[']).any(|part| part == *key)
                    && problem.message != "there is no such key"
            });
            assert!(
                told,
                "{} {key}:\n{}",
                section.name,
                printed(&problems, folder.path())
            );
        }
    }
}

#[test]
fn what_is_not_written_has_its_default() {
    let (folder, result) = loaded(&[("pullgate.yaml", "upstreams: { docker.io: {}, ghcr.io: }")]);
    let loaded = result.expect("it holds");
    assert_eq!(
        printed(&loaded.warnings, folder.path()),
        "pullgate.yaml:1: warning: there is no policy, so every pull is refused (mend: name files \
         or folders of *.yaml: policies: [policies/])\n"
    );
    let settings = loaded.settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:5080");
    assert_eq!(settings.admin.to_string(), "127.0.0.1:5081");
    assert_eq!(settings.tls, None);
    assert_eq!(settings.default_upstream, None);
    assert_eq!(settings.rules.default, DefaultRule::Deny);
    assert_eq!(settings.cache, CacheSettings::default());
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(
        settings.trust_roots,
        [TrustRootSource {
            name: "public".into(),
            source: RootSource::Sigstore {
                instance: SigstoreInstance::PublicGood,
                refresh: true,
            },
            unsafe_keep_stale: false,
        }]
    );
    let [hub, other] = settings.upstreams.as_slice() else {
        panic!("two upstreams");
    };
    assert_eq!(hub.url, "https://registry-1.docker.io");
    assert!(hub.library_prefix);
    assert_eq!(other.url, "https://ghcr.io");
    assert!(!other.library_prefix);
    assert_eq!(other.redirects, None);
    assert_eq!(other.credentials, UpstreamCredentials::Anonymous);
}

#[test]
fn everything_that_is_written_arrives() {
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n");
    let configuration = r#"
listen: "[::]:443"
admin: 127.0.0.1:0
tls: { certificate: tls/tls.crt, key: tls/tls.key }
upstreams:
  registry.acme.test:5000:
    url: http://127.0.0.1:5000/
    ca: ca.pem
    redirects: ["*.Storage.acme.test", 10.0.0.1:9000]
    credentials: { username: robot, password_file: secret }
default_upstream: registry.acme.test:5000
policies: [p.yaml]
trust_roots:
  acme: { file: roots/root.json }
  try: { sigstore: staging }
default_trust_root: acme
cache: { directory: state, disk_bytes_max: 1TiB, memory_bytes_max: 1000, facts_ttl: 1h30m,
  unsigned_ttl: 0s, permit_ttl: 5s, tag_ttl: 250ms, stale_ttl: 90d }
limits: { manifest_bytes_max: 1MiB, index_depth_max: 2, answer_timeout: 3s }
"#;
    let (folder, result) = loaded(&[
        ("pullgate.yaml", configuration),
        ("p.yaml", "default: unsafe_allow"),
        ("tls/tls.crt", &pem("CERTIFICATE")),
        ("tls/tls.key", &pem("EC PRIVATE KEY")),
        ("ca.pem", &pem("CERTIFICATE")),
        ("secret", "hunter2\n"),
        ("roots/root.json", "{}"),
    ]);
    let loaded = result.expect("it holds");
    assert_eq!(loaded.warnings, Vec::new());
    let settings = loaded.settings;
    let path = |name: &str| folder.path().join(name);
    assert_eq!(settings.listen.to_string(), "[::]:443");
    assert_eq!(
        settings.tls,
        Some(TlsFiles {
            certificate: path("tls/tls.crt"),
            key: path("tls/tls.key"),
        })
    );
    let upstream = &settings.upstreams[0];
    assert_eq!(upstream.host.as_str(), "registry.acme.test:5000");
    assert_eq!(settings.default_upstream.as_ref(), Some(&upstream.host));
    assert_eq!(upstream.url, "http://127.0.0.1:5000");
    assert_eq!(upstream.ca, pem("CERTIFICATE").into_bytes());
    assert_eq!(
        upstream.redirects,
        Some(vec![
            "*.storage.acme.test".to_owned(),
            "10.0.0.1:9000".to_owned()
        ])
    );
    assert_eq!(
        upstream.credentials,
        UpstreamCredentials::Basic {
            username: "robot".to_owned(),
            password: Secret::new("hunter2"),
        }
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(settings.rules.default, DefaultRule::UnsafeAllow);
    assert_eq!(settings.trust_roots.len(), 3);
    assert_eq!(
        settings.trust_roots[0].source,
        RootSource::File {
            path: path("roots/root.json"),
            json: "{}".to_owned(),
        }
    );
    assert_eq!(
        settings.cache,
        CacheSettings {
            directory: Some(path("state")),
            disk_bytes_max: 1 << 40,
            memory_bytes_max: 1000,
            facts_ttl: Duration::from_secs(5400),
            unsigned_ttl: Duration::ZERO,
            permit_ttl: Duration::from_secs(5),
            tag_ttl: Duration::from_millis(250),
            stale_ttl: Duration::from_secs(90 * 86_400),
        }
    );
    assert_eq!(
        settings.limits,
        Limits {
            manifest_bytes_max: 1 << 20,
            index_depth_max: 2,
            answer_timeout: Duration::from_secs(3),
            ..Limits::default()
        }
    );
}

#[test]
fn policies_arrive_as_they_are_meant() {
    let key = include_str!("../../config/keys/platform-team.pub").replace('\n', "\n        ");
    let text = format!(
        r#"
signers:
  workflow:
    keyless:
      issuer: github-actions
      identity_regex: "https://github.com/acme/.*"
      claims: {{ source_repository_identifier: 0123 }}
  person: {{ keyless: {{ issuer: "http://127.0.0.1:9999/x", identity: a@b }} }}
  team:
    key:
      pem: |
        {key}
    transparency_log: not_required
policies:
  - {{ name: one, images: [ghcr.io/a], signed_by: workflow }}
  - {{ name: any, images: [ghcr.io/a], signed_by: {{ any: [workflow, person] }}, signs: index }}
  - {{ name: all, images: [ghcr.io/a], signed_by: {{ all: [workflow, person, team] }}, mode: warn }}
  - {{ name: two, images: [ghcr.io/a], signed_by: {{ at_least: 2, of: [workflow, person, team] }} }}
  - name: exempt
    images: [ghcr.io/**]
    except: ["**/b"]
    unsafe_allow_unsigned: {{ until: 2026-12-31, because: trial }}
"#
    );
    let rules = with_policies(&text).rules;
    let counts: Vec<(usize, usize)> = rules
        .policies
        .iter()
        .filter_map(|policy| match &policy.requirement {
            Requirement::Proven(demands) => demands[0].signed_by.as_ref(),
            _ => None,
        })
        .map(|signed_by| (signed_by.at_least, signed_by.of.len()))
        .collect();
    assert_eq!(counts, [(1, 1), (1, 2), (3, 3), (2, 3)]);
    assert_eq!(rules.policies[1].signs, Signs::Index);
    assert_eq!(rules.policies[2].mode, Mode::Warn);
    let exempt = &rules.policies[4];
    assert!(exempt.applies_to("ghcr.io/x/a") && !exempt.applies_to("ghcr.io/x/b"));
    assert_eq!(
        exempt.requirement,
        Requirement::AllowUnsigned {
            until: Some("2027-01-01T00:00:00Z".parse().expect("a time")),
            because: "trial".to_owned(),
        }
    );
    let Requirement::Proven(demands) = &rules.policies[2].requirement else {
        panic!("signed_by");
    };
    let all = demands[0].signed_by.as_ref().expect("signed_by");
    let kinds: Vec<&SignerKind> = all.of.iter().map(|signer| &signer.kind).collect();
    let [
        SignerKind::Keyless(workflow),
        SignerKind::Keyless(person),
        SignerKind::Key(ops),
    ] = kinds.as_slice()
    else {
        panic!("{kinds:?}");
    };
    let exact = |text| IdentityRule::exact(text).expect("a text");
    assert_eq!(
        workflow.issuer,
        exact("https://token.actions.githubusercontent.com")
    );
    assert!(matches!(workflow.identity, IdentityRule::Regex { .. }));
    assert_eq!(workflow.claims[0].value, exact("0123"));
    assert_eq!(workflow.root.as_str(), "public");
    assert_eq!(person.issuer, exact("http://127.0.0.1:9999/x"));
    assert_eq!((&ops.root, ops.logged), (&None, false));
}

// A mounted ConfigMap: the files are links into a hidden folder.
#[cfg(unix)]
#[test]
fn the_hidden_folders_of_a_config_map_are_not_read_twice() {
    let policy = "policies: [{ name: p, images: [ghcr.io/a], deny: no }]";
    let folder = written(&[
        ("pullgate.yaml", "upstreams: { ghcr.io: {} }\npolicies: [p]"),
        ("p/..2026_06_01/p.yaml", policy),
        ("p/.draft.yaml", "nonsense: ["),
        ("p/notes.md", "nonsense: ["),
    ]);
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, folder.path().join("p").join(name)).expect("a link");
    };
    link("..2026_06_01", "..data");
    link("..data/p.yaml", "p.yaml");
    let loaded = load(&folder.path().join("pullgate.yaml"), &CHECKS, now()).expect("it holds");
    assert_eq!(loaded.warnings, Vec::new());
    assert_eq!(loaded.settings.rules.policies.len(), 1);
}

fn first_problem(text: &[u8]) -> String {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("pullgate.yaml");
    fs::write(&path, text).expect("a file");
    let problems = load(&path, &CHECKS, now()).expect_err("a problem");
    printed(&problems[..1], folder.path())
}

#[test]
fn a_hostile_file_is_refused_within_bounds() {
    let nested = "[".repeat(500_000);
    // Flow collections are bounded by the parser itself before our bound is met.
    assert!(first_problem(nested.as_bytes()).contains("recursion limit exceeded"));
    let nested = "[".repeat(100);
    assert!(first_problem(nested.as_bytes()).contains("nested more than 32 deep"));
    let nested = "- ".repeat(100_000);
    assert!(first_problem(nested.as_bytes()).contains("nested more than 32 deep"));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        writeln!(bomb, "a{level}: &a{level} [{before}]").expect("a String");
    }
    assert!(first_problem(bomb.as_bytes()).contains("copy more than 10000 values"));
    assert!(first_problem(b"a: &a [*a]").contains("an anchor that has not ended"));
    assert!(first_problem(&vec![b'#'; (1 << 20) + 1]).contains("larger than 1 MiB"));
    assert!(
        first_problem(b"upstreams:\n  a: \xff").starts_with("pullgate.yaml:2: this is not UTF-8")
    );
    let repeated = "x: 1\n".repeat(100_000);
    let folder = written(&[("pullgate.yaml", &repeated)]);
    let problems = load(&folder.path().join("pullgate.yaml"), &CHECKS, now()).expect_err("many");
    assert_eq!(problems.len(), 200);
}

#[test]
fn a_file_that_is_not_there_is_one_problem() {
    let problems = load(Path::new("nowhere/pullgate.yaml"), &CHECKS, now()).expect_err("none");
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(
        problem.to_string(),
        "nowhere/pullgate.yaml: cannot read this file: it is not there (mend: name a file that is \
         there and may be read)"
    );
}

/// Texts that are nearly a configuration: its own words, put together anyhow.
fn nearly() -> impl Strategy<Value = String> {
    let mut words: Vec<&'static str> = schema::ALL
        .iter()
        .flat_map(|section| section.keys)
        .copied()
        .collect();
    words.extend([
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "|",
        ">",
        "\"",
        "'",
        "#",
        "!t ",
        "---\n",
        "...\n",
        "? ",
        "~",
        "0",
        "-1",
        "1h",
        "4MiB",
        "**",
        "ghcr.io",
        "docker.io",
        "public",
        "%YAML 1.2\n",
        "\t",
        "\r",
        "\u{feff}",
        "ä",
        "\0",
        "2026-12-31",
    ]);
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in prop_oneof![any::<String>(), "[\\PC\n]{0,200}", nearly()]) {
        let configuration = "upstreams: { ghcr.io: {} }\npolicies: [p.yaml]\n";
        for files in [
            &[("pullgate.yaml", text.as_str())][..],
            &[("pullgate.yaml", configuration), ("p.yaml", text.as_str())][..],
        ] {
            let (_folder, result) = loaded(files);
            if let Err(problems) = result {
                prop_assert!(problems.iter().any(Problem::is_error));
                for problem in problems {
                    let printed = problem.to_string();
                    prop_assert!(!printed.contains('\n'), "{printed}");
                    prop_assert!(!problem.mend.is_empty());
                }
            }
        }
    }
}
