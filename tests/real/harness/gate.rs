//! `pullgate serve`, the program under test, with a policy for the images of the catalogue.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::catalogue::OURS;
use crate::harness::cosign::Cosign;
use crate::harness::front::Front;
use crate::harness::process::Daemon;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::web;

/// A running gate.
pub(crate) struct Gate {
    daemon: Daemon,
    address: String,
    admin: String,
}

impl Gate {
    /// Starts one before `front`, the only upstream that it knows.
    pub(crate) fn start(front: &Front, cosign: &Cosign, undertaker: &Undertaker) -> Self {
        let host = front.host();
        let name = format!("gate-{}", host.replace(':', "-"));
        let cache = undertaker.folder(&format!("{name}-cache"));
        let settings = settings(&host, cosign, &cache);
        Self::serve(&name, &settings, &policies(&host, cosign), undertaker)
    }

    /// Starts one with these settings, whose policies are in `policies.yaml`.
    pub(crate) fn serve(
        name: &str,
        settings: &str,
        policies: &str,
        undertaker: &Undertaker,
    ) -> Self {
        Self::serve_in(&[], name, settings, policies, undertaker)
    }

    /// The same, with these variables in its environment, and none of the machine's proxies.
    pub(crate) fn serve_in(
        environment: &[(&str, &str)],
        name: &str,
        settings: &str,
        policies: &str,
        undertaker: &Undertaker,
    ) -> Self {
        let settings = Self::configure(name, settings, policies, undertaker);
        // By its whole path, which is looked for nowhere else.
        let mut program = command(env!("CARGO_BIN_EXE_pullgate"));
        program
            .args(["serve", "--config"])
            .arg(settings)
            .envs(environment.iter().copied());
        Self::run(name, &mut program, undertaker)
    }

    /// Writes its settings and policies down; where the settings are.
    pub(crate) fn configure(
        name: &str,
        settings: &str,
        policies: &str,
        undertaker: &Undertaker,
    ) -> PathBuf {
        let folder = undertaker.folder(name);
        write(&folder, "pullgate.yaml", settings);
        write(&folder, "policies.yaml", policies);
        folder.join("pullgate.yaml")
    }

    /// Starts one by this command, and waits until it says where it listens.
    pub(crate) fn run(name: &str, program: &mut Command, undertaker: &Undertaker) -> Self {
        let mut daemon = undertaker.start(name, program);
        let mut found = None;
        let log = daemon.log_file().to_path_buf();
        daemon.becomes("does not say where it listens", || {
            found = addresses(&std::fs::read_to_string(&log).unwrap_or_default());
            found.is_some()
        });
        let (address, admin) = found.expect("looked for until it was there");
        Self {
            daemon,
            address,
            admin,
        }
    }

    /// Where clients pull from.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where operators look.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let body = web::fetch(&format!("http://{}/metrics", self.admin));
        String::from_utf8(body).expect("metrics are text")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }
}

/// Reads the line `listening on ADDRESS, admin on ADDRESS`.
fn addresses(log: &str) -> Option<(String, String)> {
    log.lines()
        .filter_map(|line| line.strip_prefix("listening on "))
        .find_map(|rest| rest.split_once(", admin on "))
        .map(|(address, admin)| (address.to_owned(), admin.trim().to_owned()))
}

fn write(folder: &Path, file: &str, text: &str) {
    std::fs::write(folder.join(file), text).expect("the gate's settings");
}

/// What all settings begin with: free ports, and the one upstream `host`.
pub(crate) fn before(host: &str) -> String {
    format!(
        r#"listen: 127.0.0.1:0
admin: 127.0.0.1:0
upstreams:
  "{host}": {{ url: "http://{host}" }}
default_upstream: "{host}"
policies: [policies.yaml]
"#
    )
}

fn settings(host: &str, cosign: &Cosign, cache: &Path) -> String {
    let (trusted_root, cache) = (cosign.trusted_root().display(), cache.display());
    before(host)
        + &format!(
            r#"trust_roots:
  private: {{ file: {trusted_root} }}
default_trust_root: private
cache:
  directory: {cache}
  # Next to nothing: what is pulled comes from the directory.
  memory_bytes_max: 64KiB
  unsigned_ttl: 1s
"#
        )
}

fn policies(host: &str, cosign: &Cosign) -> String {
    let identity = Cosign::identity(OURS);
    let key = cosign.public_key("ops");
    let key = key.display();
    format!(
        r#"signers:
  release-workflow:
    keyless: {{ issuer: github-actions, identity: "{identity}" }}
  operations:
    key: {{ file: {key} }}
  operations-offline:
    key: {{ file: {key} }}
    transparency_log: not_required
policies:
  - name: releases
    images: ["{host}/release/**"]
    signed_by: release-workflow
  - name: keyed
    images: ["{host}/keyed/**"]
    signed_by: operations
  - name: offline
    images: ["{host}/offline/**"]
    signed_by: operations-offline
"#
    )
}
