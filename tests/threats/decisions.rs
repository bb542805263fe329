//! `pullgate verify --output json`: what docs/DECISIONS.md tells of it, key for key, is what the
//! program prints.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::sandbox::gpg::{Holder, Life};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{
    CertificateAuthority, Fault, KeyPair, Log, Recipe, Signer, Sigstore, attestation_tag,
    signature_tag,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{HOST, recipe, release};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// A policy for each repository.
const POLICIES: &str = r#"
signers:
  release: { keyless: { issuer: github-actions, identity_glob: "https://github.com/acme/**" } }
  key: { key: { file: key.pub }, transparency_log: not_required }
  ca: { ca: { file: root.pem, subject: { email: release@acme.test } }, transparency_log: not_required }
  gpg: { gpg: { file: keys.asc } }
policies:
  - { name: login, images: [HOST/login], signed_by: release, no_rollback: true }
  - { name: attested, images: [HOST/attested], attested: [{ predicate_type: slsaprovenance1, by: release, where: predicate.a == 1 }] }
  - { name: key, images: [HOST/key], signed_by: key }
  - { name: ca, images: [HOST/ca], signed_by: ca }
  - { name: gpg, images: [HOST/gpg], signed_by: gpg }
  - { name: elsewhere, images: [HOST/elsewhere], signed_by: key, source: { repository: HOST/signatures } }
  - { name: broken, images: [HOST/broken], signed_by: release }
  - { name: warned, images: [HOST/warned], signed_by: release, mode: warn }
"#;

/// A registry with images, and a folder with a configuration and an authority.
struct Site {
    registry: Registry,
    sigstore: Sigstore,
    authority: CertificateAuthority,
    key: KeyPair,
    folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let now = Clock::system().now() - SignedDuration::from_secs(60);
        let site = Self {
            registry: Registry::start().await.expect("a port"),
            sigstore: Sigstore::new(now),
            authority: CertificateAuthority::new(1, now),
            key: KeyPair::generate(),
            folder: TempDir::new().expect("a folder"),
        };
        let holder = Holder::new(Life::from(now));
        let (package, reference) = (site.push("gpg"), format!("{HOST}/gpg:v1"));
        let signed = holder.sign_image(&package.digest(), &reference, now);
        let detached = format!("store/gpg@sha256={}", package.digest().hex());
        let store = site.folder.path().join("store").display().to_string();
        let url = site.registry.url();
        let configuration = format!(
            "upstreams:\n  {HOST}: {{ url: {url:?}, lookaside: \"file://{store}\" }}\n  \
             away.test: {{ url: \"http://127.0.0.1:9\" }}\n\
             trust_roots: {{ acme: {{ file: root.json }} }}\n\
             default_trust_root: acme\npolicies: [policies.yaml]\n"
        );
        for (name, bytes) in [
            ("pullgate.yaml", configuration.into_bytes()),
            ("policies.yaml", POLICIES.replace("HOST", HOST).into_bytes()),
            ("root.json", site.sigstore.trusted_root_json().into_bytes()),
            ("key.pub", site.key.public_key_pem().into_bytes()),
            ("root.pem", site.authority.root_pem().into_bytes()),
            ("keys.asc", holder.keyring()),
            (&format!("{detached}/signature-1"), signed),
        ] {
            let path = site.folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        site
    }

    fn push(&self, repository: &str) -> Package {
        let package = image::runnable(repository).tagged("v1");
        self.registry.put_package(repository, &package);
        package
    }

    fn layer(&self, package: &Package, to: &str, recipe: &Recipe<'_>) {
        let name = format!("{HOST}/{to}");
        let layer = self.sigstore.sign_layer(&package.digest(), &name, recipe);
        let tag = signature_tag(&package.digest(), vec![layer]);
        self.registry.put_package(to, &tag);
    }

    fn push_all(&self) {
        let login = release();
        let by_key = Recipe::key(&self.key, Log::None);
        let certified = Signer::Certified {
            authority: &self.authority,
            subject: "release@acme.test",
        };
        let signed = self.push("login");
        let bundle = self
            .sigstore
            .sign_bundle(&signed.descriptor(), &recipe(&login));
        self.registry.put_package("login", &bundle);
        let attested = self.push("attested");
        let by_login = Recipe::keyless(&login, Log::RekorV1);
        let digest = attested.digest();
        let layer = self
            .sigstore
            .attest_layer(&digest, PROVENANCE, &json!({ "a": 1 }), &by_login);
        self.registry
            .put_package("attested", &attestation_tag(&digest, vec![layer]));
        self.layer(&self.push("key"), "key", &by_key);
        self.layer(&self.push("ca"), "ca", &Recipe::new(certified, Log::None));
        self.layer(&self.push("elsewhere"), "signatures", &by_key);
        let broken = recipe(&login).with(Fault::BrokenSignature);
        let package = self.push("broken");
        let bundle = self.sigstore.sign_bundle(&package.descriptor(), &broken);
        self.registry.put_package("broken", &bundle);
        self.push("warned");
    }

    /// What is printed of an image, and the exit code.
    async fn verify(&self, image: String) -> (Value, Option<i32>) {
        let folder = self.folder.path().to_owned();
        let ran = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
            let arguments = ["verify", &image, "--output", "json", "--as", "user:alice"];
            command.args(arguments).args(["--config", "pullgate.yaml"]);
            command.current_dir(folder).output().expect("it starts")
        });
        let output = ran.await.expect("it ran");
        let printed = serde_json::from_slice(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        (
            printed.unwrap_or_else(|_| panic!("{error}")),
            output.status.code(),
        )
    }
}

/// The paths of all keys, with `[]` for positions; of claims and attestations the whole alone.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if !path.ends_with("claims") && !path.ends_with("predicate") => {
            for (key, value) in members {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                paths(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) if !path.ends_with("kind.attestation.subject") => {
            for item in items {
                paths(item, &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

/// The first cells of the tables, without marks.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/DECISIONS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let keys = cells.flat_map(|cell| cell.split("`, `"));
    keys.map(|key| key.trim_matches('`').to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_every_key_that_is_printed_and_no_other() {
    let site = Site::new().await;
    site.push_all();
    let evidence = image::runnable("key")
        .digest()
        .to_string()
        .replace(':', "-");
    let mut found = BTreeSet::new();
    for (image, verdict, reason, code) in [
        ("login:v1", "admitted", "admitted", 0),
        ("attested:v1", "admitted", "admitted", 0),
        ("key:v1", "admitted", "admitted", 0),
        ("ca:v1", "admitted", "admitted", 0),
        ("gpg:v1", "admitted", "admitted", 0),
        ("elsewhere:v1", "admitted", "admitted", 0),
        ("warned:v1", "admitted", "admitted", 0),
        (&format!("key:{evidence}.sig"), "admitted", "admitted", 0),
        ("broken:v1", "denied", "invalid_signature", 1),
        ("unruled:v1", "unavailable", "not_found", 2),
        ("away.test/app:v1", "unavailable", "upstream_unreachable", 2),
    ] {
        let image = match image.starts_with("away") {
            true => image.to_owned(),
            false => format!("{HOST}/{image}"),
        };
        let (printed, exit) = site.verify(image.clone()).await;
        assert_eq!(printed["verdict"], verdict, "{image}: {printed:#}");
        assert_eq!(printed["reason"], reason, "{image}: {printed:#}");
        assert_eq!(exit, Some(code), "{image}");
        for key in [
            "id", "time", "client", "puller", "image", "digest", "mode", "policies",
        ] {
            assert!(
                printed.get(key).is_some(),
                "{image} has no {key}: {printed:#}"
            );
        }
        paths(&printed, "", &mut found);
    }
    assert_eq!(documented(), found);
}
