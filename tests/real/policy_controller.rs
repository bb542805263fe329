//! ClusterImagePolicy documents, judged by policy-controller's own tester and by the gate: every
//! document here and every image. Where the two differ is listed, and docs/FOREIGN.md tells why.
//!
//! `policy-tester` is `cmd/tester` of policy-controller, which `.ci/install` builds
//! (tests/real/policy-tester).

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::SignedDuration;
use pullgate::app;
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::gate::{Ask, Refusal};
use pullgate::policy::Caller;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{
    Fault, Identity, KeyPair, KeyType, Log, Recipe, Sigstore, attestation_tag, signature_tag,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::run;

const FOREIGN: &str = include_str!("../../docs/FOREIGN.md");
const SPDX: &str = "https://spdx.dev/Document";

/// Where the gate says otherwise than the tester, on purpose: the document, the image, and what
/// the tester says.
const DIFFERENCES: &[(&str, &str, bool)] = &[
    // Without `url`, it forgets `ctlog` in version v1beta1.
    ("key, log without `url`", "key", true),
    ("key, log without `url`", "key, timestamp", true),
    // A timestamp that is asked for has to be there.
    ("key, timestamp", "key", true),
    ("key, timestamp", "key, log", true),
    // A certificate that is still valid is no proof of when it signed.
    ("keyless", "keyless, no log", true),
];

/// Images, the keys and logins that signed them, and a folder for documents.
struct Site {
    runtime: Runtime,
    registry: Registry,
    sigstore: Sigstore,
    ops: Arc<KeyPair>,
    other: Arc<KeyPair>,
    p384: Arc<KeyPair>,
    signer: Identity,
    folder: PathBuf,
    images: Vec<(&'static str, Package)>,
    _undertaker: Undertaker,
}

impl Site {
    fn new() -> Self {
        let undertaker = Undertaker::call();
        let runtime = Runtime::new().expect("a runtime");
        let registry = runtime.block_on(Registry::start()).expect("a port");
        let folder = undertaker.folder("policy-controller");
        let minute = SignedDuration::from_secs(60);
        let mut site = Self {
            sigstore: Sigstore::new(Clock::system().now() - minute),
            ops: Arc::new(KeyPair::generate()),
            other: Arc::new(KeyPair::generate()),
            p384: Arc::new(KeyPair::of(KeyType::P384)),
            signer: Identity::github_actions("acme/widget", "release.yml", "refs/heads/main"),
            images: Vec::new(),
            runtime,
            registry,
            folder,
            _undertaker: undertaker,
        };
        let root = site.sigstore.trusted_root_json();
        std::fs::write(site.folder.join("trusted_root.json"), &root).expect("a file");
        let root = serde_json::from_str(&root).expect("JSON");
        let log = format!("http://{}", site.registry.address());
        let root = serde_json::to_string(&trust_root(&root, &log)).expect("JSON");
        std::fs::write(site.folder.join("trust_root.yaml"), root).expect("a file");
        site.push_images();
        site
    }

    fn push_images(&mut self) {
        let keys = [&self.ops, &self.other, &self.p384];
        let [ops, other, p384] = keys.map(Arc::clone);
        let signer = self.signer.clone();
        let stranger = Identity::email("mallory@mallory.test", "https://accounts.google.com");
        let unsct = Recipe::keyless(&signer, Log::RekorV1).with(Fault::ForeignSct);
        for (name, recipe) in [
            ("unsigned", None),
            ("key", Some(Recipe::key(&ops, Log::None))),
            ("key, log", Some(Recipe::key(&ops, Log::RekorV1))),
            (
                "key, timestamp",
                Some(Recipe::key(&ops, Log::None).timestamped()),
            ),
            ("other key", Some(Recipe::key(&other, Log::None))),
            ("P-384 key", Some(Recipe::key(&p384, Log::None))),
            ("keyless", Some(Recipe::keyless(&signer, Log::RekorV1))),
            ("keyless, no log", Some(Recipe::keyless(&signer, Log::None))),
            ("keyless, foreign SCT", Some(unsct)),
            ("stranger", Some(Recipe::keyless(&stranger, Log::RekorV1))),
        ] {
            let package = self.image(name);
            if let Some(recipe) = recipe {
                self.push("app", &self.signature(&package, &package, &recipe));
            }
        }
        let recipe = Recipe::key(&ops, Log::None);
        let moved = self.image("moved signature");
        let signed = self.images[1].1.clone();
        self.push("app", &self.signature(&signed, &moved, &recipe));
        for (name, recipe) in [
            ("attested by key", Recipe::key(&ops, Log::None)),
            ("attested keyless", Recipe::keyless(&signer, Log::RekorV1)),
        ] {
            let package = self.image(name);
            let digest = package.digest();
            let layer = self
                .sigstore
                .attest_layer(&digest, SPDX, &json!({"a": 1}), &recipe);
            self.push("app", &attestation_tag(&digest, vec![layer]));
        }
        let elsewhere = self.image("signed elsewhere");
        self.push(
            "signatures",
            &self.signature(&elsewhere, &elsewhere, &recipe),
        );
        let prefixed = self.image("signed under a prefix");
        let signature = self.signature(&prefixed, &prefixed, &recipe);
        let tag = signature.tag.clone().expect("a tag");
        self.push("app", &signature.tagged(&format!("sigprefix{tag}")));
    }

    fn image(&mut self, name: &'static str) -> Package {
        let package = image::runnable(name);
        self.push("app", &package);
        self.images.push((name, package.clone()));
        package
    }

    fn push(&self, repository: &str, package: &Package) {
        self.registry.put_package(repository, package);
    }

    /// The layer that signs one image, under the tag of another.
    fn signature(&self, signed: &Package, image: &Package, recipe: &Recipe<'_>) -> Package {
        let name = format!("{}/app", self.registry.address());
        let layer = self.sigstore.sign_layer(&signed.digest(), &name, recipe);
        signature_tag(&image.digest(), vec![layer])
    }

    /// The documents, by what they ask for.
    fn documents(&self) -> Vec<(&'static str, String)> {
        let address = self.registry.address();
        let root = "{ trustRootRef: private }";
        let log = format!("{{ url: 'http://{address}', trustRootRef: private }}");
        let key = |key: &KeyPair, hash: &str| {
            let pem = key.public_key_pem().replace('\n', "\n        ");
            format!(
                "  - key:\n{hash}      data: |\n        {}\n",
                pem.trim_end()
            )
        };
        let ops = key(&self.ops, "");
        let sha384 = "      hashAlgorithm: sha384\n";
        let keyless = |identity: &str, more: &str| {
            format!("  - keyless: {{ trustRootRef: private, identities: [{identity}]{more} }}\n")
        };
        let (issuer, subject) = (&self.signer.issuer, &self.signer.subject);
        let exact = format!("{{ issuer: '{issuer}', subject: '{subject}' }}");
        let plain = keyless(&exact, "");
        let logged = format!("{plain}    ctlog: {log}\n");
        let pattern = "{ issuerRegExp: 'githubusercontent', subjectRegExp: '/acme/widget/' }";
        let nobody = format!("{{ issuer: '{issuer}', subject: nobody }}");
        let ignoring = keyless(&exact, ", insecureIgnoreSCT: true");
        let spdx = "    attestations: [{ name: sbom, predicateType: spdxjson }]\n";
        let documents = [
            ("key", ops.clone()),
            ("key, log", format!("{ops}    ctlog: {log}\n")),
            (
                "key, log without `url`",
                format!("{ops}    ctlog: {root}\n"),
            ),
            (
                "key, timestamp",
                format!("{ops}    rfc3161timestamp: {root}\n"),
            ),
            ("P-384 key", key(&self.p384, "")),
            ("P-384 key, sha384", key(&self.p384, sha384)),
            ("keyless", plain),
            ("keyless, log", logged.clone()),
            (
                "keyless, patterns",
                format!("{}    ctlog: {log}\n", keyless(pattern, "")),
            ),
            (
                "keyless, nobody",
                format!("{}    ctlog: {log}\n", keyless(&nobody, "")),
            ),
            (
                "keyless, SCT ignored",
                format!("{ignoring}    ctlog: {log}\n"),
            ),
            ("key or keyless", format!("{ops}{logged}")),
            ("attested by key", format!("{ops}{spdx}")),
            ("attested keyless", format!("{logged}{spdx}")),
            (
                "source.oci",
                format!("{ops}    source: [{{ oci: '{address}/signatures' }}]\n"),
            ),
            (
                "source.tagPrefix",
                format!("{ops}    source: [{{ tagPrefix: sigprefix }}]\n"),
            ),
            ("static pass", "  - static: { action: pass }\n".to_owned()),
            ("static fail", "  - static: { action: fail }\n".to_owned()),
        ];
        let glob = format!("{address}/app@**");
        let enforced = documents
            .into_iter()
            .map(|(name, authorities)| (name, document(&glob, "enforce", &authorities)));
        let mut all: Vec<(&str, String)> = enforced.collect();
        all.push(("key, mode warn", document(&glob, "warn", &ops)));
        all.push((
            "key, other images",
            document(&format!("{address}/other**"), "enforce", &ops),
        ));
        // There, too, nothing is matched across a slash by one star.
        all.push((
            "key, one star",
            document(&format!("{address}/*"), "enforce", &ops),
        ));
        all.push(("key, more stars", document("***", "enforce", &ops)));
        all
    }

    /// Whether the tester lets the image pass.
    fn tester(&self, document: &str, image: &Package) -> bool {
        let policy = self.folder.join("policy.yaml");
        std::fs::write(&policy, document).expect("a file");
        let mut tester: Command = command("policy-tester");
        tester.current_dir(&self.folder).env("HOME", &self.folder);
        tester.args(["-policy", "policy.yaml", "-trustroot", "trust_root.yaml"]);
        tester.args(["-log-level", "error", "-image"]);
        tester.arg(format!(
            "{}/app@{}",
            self.registry.address(),
            image.digest()
        ));
        let finished = run(&mut tester);
        let said = &finished.said;
        // It also leaves with 1 where it does not understand the document.
        assert!(
            finished.success || said.contains(r#"{"errors":"#),
            "{document}\n{said}"
        );
        finished.success
    }

    /// What the gate says of all images: whether each passes.
    fn gate(&self, document: &str) -> Vec<bool> {
        let address = self.registry.address();
        let configuration = format!(
            "upstreams:\n  '{address}': {{ url: 'http://{address}' }}\npolicies: [policy.yaml]\n\
             trust_roots: {{ private: {{ file: trusted_root.json }} }}\ndefault_trust_root: private\n"
        );
        let path = self.folder.join("pullgate.yaml");
        std::fs::write(&path, configuration).expect("a file");
        std::fs::write(self.folder.join("policy.yaml"), document).expect("a file");
        let clock = Clock::system();
        let loaded = config::load(&path, &app::checks(), clock.now());
        let settings = loaded
            .unwrap_or_else(|problems| panic!("{document}\n{problems:#?}"))
            .settings;
        self.runtime.block_on(async {
            let built = app::build(&settings, clock, TaskTracker::new()).expect("built");
            let mut verdicts = Vec::new();
            for (name, package) in &self.images {
                let reference = format!("{address}/app@{}", package.digest());
                let (image, reference) =
                    config::parse_image(&reference, &settings).expect("an image");
                let ask = Ask { image, reference };
                let answer = built.service.gate.manifest(&ask, &Caller::default()).await;
                verdicts.push(match answer {
                    Ok(_) => true,
                    Err(Refusal::Denied(..)) => false,
                    Err(other) => panic!("{name}: {other:?}\n{document}"),
                });
            }
            verdicts
        })
    }
}

fn document(glob: &str, mode: &str, authorities: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{ name: one \
         }}\nspec:\n  mode: {mode}\n  images: [{{ glob: '{glob}' }}]\n  authorities:\n{authorities}"
    )
}

/// The tester's form of a trusted root: what it can read of it. It looks for entries that a signature
/// does not bring at `log`, which has none.
fn trust_root(root: &Value, log: &str) -> Value {
    let text = |value: &Value| value.as_str().expect("Base64").to_owned();
    let pem = |label: &str, base64: &str| {
        format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
    };
    let authorities = |key: &str| {
        let authorities = root[key].as_array().expect("authorities").iter();
        let authorities = authorities.map(|authority| {
            let chain = authority["certChain"]["certificates"].as_array();
            let chain = chain.expect("certificates").iter();
            let chain =
                chain.map(|certificate| pem("CERTIFICATE", &text(&certificate["rawBytes"])));
            json!({
                "subject": { "organization": "acme", "commonName": "acme" },
                "uri": "https://authority.acme.test",
                "certChain": BASE64_STANDARD.encode(chain.collect::<String>()),
            })
        });
        authorities.collect::<Value>()
    };
    let logs = |key: &str| {
        let logs = root[key].as_array().expect("logs").iter();
        // It refuses a trust root with any other key.
        let ecdsa = |entry: &&Value| entry["publicKey"]["keyDetails"] == "PKIX_ECDSA_P256_SHA_256";
        let logs = logs.filter(ecdsa).map(|entry| {
            let key = pem("PUBLIC KEY", &text(&entry["publicKey"]["rawBytes"]));
            json!({
                "baseURL": log,
                "hashAlgorithm": "sha-256",
                "publicKey": BASE64_STANDARD.encode(key),
            })
        });
        logs.collect::<Value>()
    };
    json!({
        "apiVersion": "policy.sigstore.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": { "name": "private" },
        "spec": { "sigstoreKeys": {
            "certificateAuthorities": authorities("certificateAuthorities"),
            "tLogs": logs("tlogs"),
            "ctLogs": logs("ctlogs"),
            "timestampAuthorities": authorities("timestampAuthorities"),
        }},
    })
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn the_tester_and_the_gate_say_the_same() {
    let site = Site::new();
    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    for (name, document) in site.documents() {
        let ours = site.gate(&document);
        let mut passing = Vec::new();
        for ((image, package), ours) in site.images.iter().zip(ours) {
            let theirs = site.tester(&document, package);
            let listed = DIFFERENCES
                .iter()
                .find(|(known, of, _)| *known == name && of == image);
            let expected = listed.map_or(ours, |(.., theirs)| *theirs);
            if theirs != expected || listed.is_some_and(|(.., theirs)| ours == *theirs) {
                wrong.push(format!("{name} / {image}: ours {ours}, theirs {theirs}"));
            }
            match (ours, theirs) {
                (true, _) => passing.push((*image).to_owned()),
                (false, true) => passing.push(format!("*{image}*")),
                (false, false) => {}
            }
        }
        let passing = match passing.len() {
            0 => "none".to_owned(),
            all if all == site.images.len() => "all".to_owned(),
            _ => passing.join("; "),
        };
        rows.push(format!("| {name} | {passing} |"));
    }
    let table = rows.join("\n");
    assert!(wrong.is_empty(), "{}\n{table}", wrong.join("\n"));
    assert!(
        FOREIGN.contains(&table),
        "docs/FOREIGN.md has other rows than\n{table}"
    );
}

// Globs are matched before anything is asked of a network: with images of Docker Hub, too.
#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn the_tester_and_the_gate_match_the_same_images() {
    let site = Site::new();
    for glob in [
        "docker.io/**",
        "index.docker.io/**",
        "index.docker.io/library/*",
        "*",
        "*/*",
        "**",
        "busybox:1",
        "**busybox**",
        "index.docker.io/library/busybox:*",
    ] {
        let document = document(glob, "enforce", "  - static: { action: pass }\n");
        std::fs::write(site.folder.join("policy.yaml"), &document).expect("a file");
        let configuration = "upstreams: { docker.io: {} }\ndefault_upstream: docker.io\n\
                             policies: [policy.yaml]\n";
        let path = site.folder.join("pullgate.yaml");
        std::fs::write(&path, configuration).expect("a file");
        let loaded = config::load(&path, &app::checks(), Clock::system().now());
        let settings = loaded.expect("loads").settings;
        for image in ["busybox:1", "docker.io/library/busybox:1", "acme/app:v1"] {
            let (name, reference) = config::parse_image(image, &settings).expect("an image");
            let ours = !settings.rules.matching(&name, &reference).is_empty();
            let mut tester: Command = command("policy-tester");
            tester.current_dir(&site.folder).env("HOME", &site.folder);
            tester.args([
                "-policy",
                "policy.yaml",
                "-log-level",
                "error",
                "-image",
                image,
            ]);
            assert_eq!(run(&mut tester).success, ours, "{glob} {image}");
        }
    }
}
