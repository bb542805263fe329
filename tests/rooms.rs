//! Holds the code against the table of rooms in ARCHITECTURE.md: who may import whom, where
//! each heavy dependency lives, and what is absent where.
//!
//! The source is read as text, so what a macro would build is not seen; in this house no macro
//! builds paths. Comments and literals do not count. What is under `#[cfg(test)]`, and files
//! that only such an item declares, may use the sandbox, start tasks and read clocks; the
//! order of the rooms holds for them too.

#![allow(
    clippy::expect_used,
    reason = "what fails here fails the test, with its reason"
)]

use std::{fs, path::Path};

#[path = "rooms/source.rs"]
mod source;

use source::{PathUse, Source};

/// The rooms from the roof to the ground. A room may import those that stand after it.
const ROOMS: [(&str, &str); 21] = [
    ("roof", "cli"),
    ("roof", "app"),
    ("roof", "config"),
    ("doors", "server"),
    ("doors", "admin"),
    ("doors", "authn"),
    ("heart", "gate"),
    ("hands", "content"),
    ("hands", "evidence"),
    ("hands", "trust"),
    ("hands", "upstream"),
    ("mind", "policy"),
    ("mind", "verify"),
    ("garden", "sandbox"),
    ("cupboard", "audit"),
    ("cupboard", "metrics"),
    ("ground", "oci"),
    ("ground", "clock"),
    ("ground", "flight"),
    ("ground", "places"),
    ("ground", "hands"),
];

/// What lives in some places only: the beginning of a path, and where it may stand.
const HOMES: [(&str, &[&str]); 41] = [
    // Heavy dependencies.
    ("clap", &["cli/", "app/"]),
    ("anyhow", &["cli/", "app/", "main.rs"]),
    ("saphyr_parser", &["config/"]),
    ("cel", &["policy/"]),
    ("hyper", &["server/", "admin/", "upstream/", "sandbox/"]),
    (
        "hyper_util",
        &["server/", "admin/", "upstream/", "sandbox/"],
    ),
    ("rustls", &["app/", "server/", "authn/", "upstream/"]),
    ("hyper::server", &["server/", "admin/", "sandbox/"]),
    ("hyper_util::server", &["server/", "admin/", "sandbox/"]),
    ("tokio_rustls", &["server/"]),
    ("rustls::ServerConfig", &["server/"]),
    ("rustls::server", &["server/"]),
    ("hyper::client", &["upstream/", "sandbox/"]),
    ("hyper_util::client", &["upstream/", "sandbox/"]),
    ("hyper_rustls", &["upstream/"]),
    ("webpki_roots", &["upstream/"]),
    ("rustls::ClientConfig", &["upstream/"]),
    ("moka", &["authn/", "gate/", "content/"]),
    ("bcrypt", &["authn/"]),
    ("jsonwebtoken", &["authn/", "sandbox/"]),
    ("redb", &["content/"]),
    (
        "rustix",
        &["app/", "content/disk/", "hands.rs", "server/socket.rs"],
    ),
    ("nix", &["server/socket.rs"]),
    ("sigstore_trust_root", &["trust/", "sandbox/"]),
    ("sigstore_tuf", &["trust/", "sandbox/"]),
    ("sigstore_verify", &["verify/", "sandbox/"]),
    ("sigstore_merkle", &["verify/"]),
    ("ed25519_dalek", &["verify/"]),
    ("x509_cert", &["authn/", "verify/", "sandbox/"]),
    ("webpki", &["verify/"]),
    ("rustls_pki_types", &["verify/"]),
    ("pgp", &["verify/", "sandbox/"]),
    ("prometheus", &["metrics/"]),
    ("aws_lc_rs::digest", &["oci/", "sandbox/"]),
    // Rooms that only some may enter, whatever the order says.
    ("crate::config", &["app/", "cli/", "config/"]),
    ("crate::sandbox", &["cli/demo.rs", "sandbox/"]),
    // Tasks have one parent: a tracker that `app` owns and waits for.
    ("tokio::task::spawn_blocking", &["app/"]),
    (
        "tokio_util::task",
        &[
            "app/", "cli/", "server/", "admin/", "gate/", "content/", "authn/", "hands.rs",
            "sandbox/",
        ],
    ),
    // The wall clock.
    ("SystemTime::now", &["clock.rs"]),
    ("Timestamp::now", &["clock.rs"]),
    ("Zoned::now", &["clock.rs"]),
];

/// Words that do not stand in these places.
const ABSENT: [(&str, &[&str]); 32] = [
    // Nobody starts a task that nobody waits for.
    ("tokio::spawn", &[""]),
    ("tokio::task::spawn", &[""]),
    (
        "JoinSet",
        &[
            "cli/",
            "app/",
            "config/",
            "server/",
            "admin/",
            "gate/",
            "content/",
            "upstream/",
        ],
    ),
    ("thread::spawn", &[""]),
    (
        ".spawn",
        &[
            "config/",
            "evidence/",
            "trust/",
            "upstream/",
            "oci/",
            "metrics/",
            "audit/",
        ],
    ),
    // Thinking does no I/O, waits for nothing, and is told the time.
    ("async", PURE),
    (".await", PURE),
    ("tokio", PURE),
    ("tracing", PURE),
    ("futures_util", PURE),
    ("std::net", PURE),
    ("std::fs", PURE),
    ("std::thread", PURE),
    ("std::env", PURE),
    ("Instant", PURE),
    ("SystemTime", PURE),
    ("crate::clock", PURE),
    ("crate::metrics", PURE),
    ("crate::audit", PURE),
    // The gate knows no HTTP.
    ("StatusCode", &["gate/"]),
    ("http", &["gate/"]),
    ("hyper", &["gate/"]),
    // The pull listener knows no Sigstore and no policy.
    ("crate::verify", &["server/"]),
    ("crate::policy", &["server/"]),
    ("crate::trust", &["server/"]),
    ("crate::upstream", &["server/", "admin/"]),
    // The ground knows no sockets.
    ("tokio", &["oci/"]),
    ("hyper", &["oci/"]),
    ("TcpStream", &["oci/"]),
    ("TcpListener", &["oci/"]),
    ("UdpSocket", &["oci/"]),
    // What cannot be read as `use` lines.
    ("extern crate", &[""]),
];

const PURE: &[&str] = &["verify/", "policy/"];

/// What tests may do although the code may not.
const TESTS_MAY: [&str; 9] = [
    "crate::sandbox",
    "tokio",
    "tokio::spawn",
    "tokio::task::spawn",
    "tokio_util::task",
    "thread::spawn",
    "async",
    ".await",
    "std::fs",
];

/// Where `file`, relative to `src`, is in the order.
fn floor_of(file: &str) -> Option<usize> {
    let room = file
        .split('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs");
    ROOMS.iter().position(|(_, name)| *name == room)
}

/// Everything in one file that is not as the table says: `file:line: what`.
fn offences(file: &str, text: &str, only_tests: bool) -> Vec<String> {
    let source = Source::read(text);
    let paths = source.paths();
    let mut found: Vec<(usize, String)> = Vec::new();
    imports(file, &source, &paths, &mut found);
    let in_test = |at: usize| only_tests || source.is_test(at);
    let lives_here = |homes: &[&str]| homes.iter().any(|home| file.starts_with(home));
    for used in &paths {
        let path = used.path.as_str();
        for (needle, homes) in HOMES {
            let allowed = lives_here(homes) || (in_test(used.at) && TESTS_MAY.contains(&needle));
            if names(path, needle) && !allowed {
                found.push((
                    used.at,
                    format!("`{path}` lives only in {}", homes.join(", ")),
                ));
            }
        }
        for (needle, places) in ABSENT {
            let excused = in_test(used.at) && TESTS_MAY.contains(&needle);
            if names(path, needle) && lives_here(places) && !excused {
                found.push((used.at, format!("`{path}`: there is no `{needle}` here")));
            }
        }
    }
    // What is no path: keywords and methods.
    for needle in ["async", ".await", ".spawn", "extern crate"] {
        let places = ABSENT.iter().find(|(word, _)| *word == needle);
        for at in source.words(needle) {
            let here = places.is_some_and(|(_, places)| lives_here(places));
            if here && !in_test(at) {
                found.push((at, format!("there is no `{needle}` here")));
            }
        }
    }
    found.sort();
    found.dedup();
    found
        .into_iter()
        .map(|(at, what)| format!("src/{file}:{}: {what}", source.line(at)))
        .collect()
}

/// Whether `path` begins with `needle`, or has it anywhere where it is a type (`StatusCode`), a
/// function of one (`SystemTime::now`), or so named that it cannot be another's.
fn names(path: &str, needle: &str) -> bool {
    if !path.contains(needle) {
        return false;
    }
    let anywhere = needle.starts_with(char::is_uppercase) || needle == "thread::spawn";
    let (path, needle) = (format!("::{path}::"), format!("::{needle}::"));
    path.starts_with(&needle) || (anywhere && path.contains(&needle))
}

/// The order of the rooms, and the style that lets this test read it.
fn imports(file: &str, source: &Source<'_>, paths: &[PathUse], found: &mut Vec<(usize, String)>) {
    let here = floor_of(file);
    for used in paths {
        let mut segments = used.path.split("::");
        if !matches!(segments.next(), Some("crate" | "pullgate")) {
            continue;
        }
        // `pub(crate)` names no room.
        let Some(room) = segments.next() else {
            continue;
        };
        let there = ROOMS.iter().position(|(_, name)| *name == room);
        match (here, there) {
            (_, None) => found.push((used.at, format!("`{room}` is no room of the table"))),
            (Some(here), Some(there)) if there < here => {
                let what = format!("{} may not import {room}, which is above it", ROOMS[here].1);
                found.push((used.at, what));
            }
            // `main.rs` stands on the roof.
            _ => {}
        }
    }
    for group in ["crate::{", "crate::*"] {
        for at in source.words(group) {
            found.push((
                at,
                "one `use` a line for each room, without groups".to_owned(),
            ));
        }
    }
    // From the file of a room itself, `super` is the whole house.
    let is_root =
        file.split('/').count() == 1 || file.ends_with("/mod.rs") && file.split('/').count() == 2;
    for at in source.words("super::super") {
        found.push((at, "no `super::super`".to_owned()));
    }
    for at in source.words("super::") {
        if is_root && here.is_some() && !source.is_test(at) {
            found.push((
                at,
                "`super` of a room is the house: say `crate::`".to_owned(),
            ));
        }
    }
}

/// Every file below `src`, with its path there.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below src");
                let name = name.to_str().expect("a name in UTF-8").replace('\\', "/");
                files.push((name, fs::read_to_string(&path).expect("source in UTF-8")));
            }
        }
    }
    files.sort();
    files
}

/// The files that only items under `#[cfg(test)]` declare.
fn test_files(files: &[(String, String)]) -> Vec<String> {
    let declared = files.iter().flat_map(|(file, text)| {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let modules = Source::read(text).test_modules();
        modules
            .into_iter()
            .map(move |name| format!("{folder}/{name}.rs"))
    });
    declared.collect()
}

#[test]
fn every_file_keeps_to_the_table() {
    let files = files();
    assert!(files.len() > 50, "src was not found");
    let only_tests = test_files(&files);
    let offences: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| offences(file, text, only_tests.contains(file)))
        .collect();
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn the_table_has_every_room_and_no_other() {
    let text = include_str!("../src/lib.rs");
    let mut declared: Vec<&str> = text
        .lines()
        .filter_map(|line| line.rsplit_once("mod ")?.1.strip_suffix(';'))
        .collect();
    let mut listed = ROOMS.map(|(_, room)| room).to_vec();
    declared.sort_unstable();
    listed.sort_unstable();
    assert_eq!(declared, listed);
}

#[test]
fn the_table_in_the_architecture_is_this_one() {
    let text = include_str!("../ARCHITECTURE.md");
    let (_, section) = text.split_once("## Rooms").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let floor = cells.next()?;
        let room = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((floor, room))
    });
    assert_eq!(rows.collect::<Vec<_>>(), ROOMS);
}

#[test]
fn each_rule_finds_what_breaks_it() {
    for (file, line) in [
        // The order.
        ("gate/admit.rs", "use crate::server::Service;"),
        ("verify/mod.rs", "use crate::policy::Reason;"),
        ("oci/digest.rs", "type X = Arc<crate::upstream::Upstream>;"),
        ("upstream/client.rs", "use crate::content::Store;"),
        ("trust/mod.rs", "fn f() -> Arc::<crate::evidence::Found> {}"),
        ("gate/mod.rs", "use crate::attic::Box;"),
        ("gate/mod.rs", "use crate::{oci, policy};"),
        ("gate/mod.rs", "use super::server;"),
        ("gate/x/y.rs", "use super::super::super::server;"),
        // The homes.
        ("gate/mod.rs", "use hyper::body::Incoming;"),
        ("upstream/client.rs", "use hyper::server::conn::http1;"),
        ("upstream/client.rs", "use hyper::{body, server::conn};"),
        (
            "server/mod.rs",
            "use hyper_util::{rt::TokioIo, client::legacy::Client};",
        ),
        ("upstream/client.rs", "type T = tokio_rustls::TlsAcceptor;"),
        ("evidence/mod.rs", "use sigstore_verify::Verifier;"),
        (
            "verify/mod.rs",
            "use sigstore_trust_root::SigstoreInstance;",
        ),
        ("cli/mod.rs", "use saphyr_parser::Parser;"),
        ("gate/mod.rs", "use clap::Parser;"),
        ("config/mod.rs", "fn f() -> anyhow::Result<()> {}"),
        ("server/answer.rs", "use prometheus::IntCounter;"),
        ("metrics/mod.rs", "use moka::sync::Cache;"),
        ("content/mod.rs", "use hyper_util::rt::TokioIo;"),
        ("evidence/mod.rs", "use rustls::pki_types::CertificateDer;"),
        ("gate/mod.rs", "use crate::config::Settings;"),
        ("cli/mod.rs", "use crate::sandbox::client::Client;"),
        ("app/mod.rs", "use crate::sandbox::client::Client;"),
        ("gate/mod.rs", "fn f() { tokio::spawn(async {}); }"),
        ("app/mod.rs", "use tokio::{net::TcpListener, spawn};"),
        ("gate/mod.rs", "fn f() { std::thread::spawn(|| {}); }"),
        ("evidence/mod.rs", "use tokio_util::task::TaskTracker;"),
        ("upstream/client.rs", "fn f() { tasks.spawn(x); }"),
        (
            "gate/mod.rs",
            "fn f() { let now = jiff::Timestamp::now(); }",
        ),
        ("audit/mod.rs", "fn f() { let now = SystemTime::now(); }"),
        // The absences.
        ("verify/mod.rs", "pub async fn f() {}"),
        ("policy/judge.rs", "fn f() { x.await }"),
        ("policy/judge.rs", "use tracing::info;"),
        ("verify/key.rs", "use tokio::sync::Mutex;"),
        ("verify/key.rs", "use std::{fmt, time::Instant};"),
        ("policy/rule.rs", "use crate::clock::Clock;"),
        ("gate/refusal.rs", "use http::StatusCode;"),
        ("server/respond.rs", "use crate::verify::Facts;"),
        ("server/respond.rs", "use sigstore_verify::Verifier;"),
        ("oci/name.rs", "use tokio::net::TcpStream;"),
        ("oci/name.rs", "use std::net::TcpStream;"),
    ] {
        let text = format!("//! A planted offence.\n{line}\n");
        let found = offences(file, &text, false);
        let place = format!("src/{file}:2: ");
        assert!(
            found
                .first()
                .is_some_and(|offence| offence.starts_with(&place)),
            "{file}: `{line}` was not found: {found:?}"
        );
    }
}

#[test]
fn what_is_no_code_or_a_test_is_let_be() {
    let text = r##"
//! [`Settings`](crate::config::Settings)
/* use crate::server::Service; */
const A: &str = "use crate::server::Service;";
const B: &str = r#"tokio::spawn"#;
const C: char = '"';
fn f<'a>(x: &'a str) -> &'a str { x }
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::registry::Registry;
    async fn f() { tokio::spawn(async {}).await; }
}
#[cfg(test)]
#[path = "judge_tests.rs"]
mod judged;
"##;
    assert_eq!(offences("gate/mod.rs", text, false), [""; 0]);
    assert_eq!(Source::read(text).test_modules(), ["judge_tests"]);
    let both = "#[cfg(all(test, feature = \"sandbox\"))]\nmod tests;\npub(crate) struct Here;";
    assert_eq!(offences("gate/mod.rs", both, false), [""; 0]);
    assert_eq!(Source::read(both).test_modules(), ["tests"]);
    // The code after a test is no test, and a test does not change the order.
    let after = format!("{text}use crate::sandbox::registry::Registry;\n");
    assert_eq!(offences("gate/mod.rs", &after, false).len(), 1);
    let upwards = "#[cfg(test)]\nmod tests { use crate::server::Service; }\n";
    assert_eq!(offences("gate/mod.rs", upwards, false).len(), 1);
}
