//! policy.json documents, judged by containers/image itself and by the gate: every document here
//! and every image, and the same verdict of both.
//!
//! `containers-image` is a small program over the library `go.podman.io/image/v5`
//! (tests/real/containers_image), which `.ci/install` builds.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use pullgate::app;
use pullgate::clock::Clock;
use pullgate::config;
use pullgate::gate::{Ask, Refusal};
use pullgate::policy::Caller;
use pullgate::sandbox::gpg::{Holder, Life};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{
    CertificateAuthority, Fault, Identity, KeyPair, Log, Recipe, Signer, Sigstore, signature_tag,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use crate::harness::process::Undertaker;
use crate::harness::process::command;

/// A registry with images, the keys that signed them, and a folder for documents.
struct Site {
    runtime: Runtime,
    registry: Registry,
    sigstore: Sigstore,
    ops: KeyPair,
    other: KeyPair,
    ada: Holder,
    eve: Holder,
    /// Certifies signers in Fulcio's stead.
    authority: CertificateAuthority,
    folder: PathBuf,
    /// What is asked for: references behind the registry's address.
    images: RefCell<Vec<String>>,
    _undertaker: Undertaker,
}

const GOOGLE: &str = "https://accounts.google.com";

fn yesterday() -> Timestamp {
    Clock::system().now() - SignedDuration::from_hours(24)
}

impl Site {
    fn new() -> Self {
        let undertaker = Undertaker::call();
        let runtime = Runtime::new().expect("a runtime");
        let registry = runtime.block_on(Registry::start()).expect("a port");
        let folder = undertaker.folder("policy-json");
        let minute = SignedDuration::from_secs(60);
        let holder = || Holder::new(Life::from(yesterday()));
        let site = Self {
            registry,
            sigstore: Sigstore::new(Clock::system().now() - minute),
            ops: KeyPair::generate(),
            other: KeyPair::generate(),
            ada: holder(),
            eve: holder(),
            authority: CertificateAuthority::new(1, Clock::system().now() - minute),
            images: RefCell::default(),
            runtime,
            folder,
            _undertaker: undertaker,
        };
        for (file, bytes) in [
            ("ops.pub", site.ops.public_key_pem().into_bytes()),
            ("other.pub", site.other.public_key_pem().into_bytes()),
            ("ada.gpg", site.ada.keyring()),
            ("eve.gpg", site.eve.keyring()),
            ("rekor.pub", site.log_key(&site.sigstore).into_bytes()),
            (
                "other-rekor.pub",
                site.log_key(&Sigstore::new(Clock::system().now()))
                    .into_bytes(),
            ),
            ("fulcio.pem", site.fulcio_certificates().into_bytes()),
            ("pki.pem", site.authority.root_pem().into_bytes()),
            ("registries.conf", Vec::new()),
        ] {
            std::fs::write(site.folder.join(file), bytes).expect("a file");
        }
        let store = format!("file://{}", site.folder.join("store").display());
        let settings =
            format!("default-docker:\n  lookaside: {store}\n  use-sigstore-attachments: true\n");
        std::fs::create_dir_all(site.folder.join("registries.d")).expect("a folder");
        std::fs::write(site.folder.join("registries.d/default.yaml"), settings).expect("a file");
        site
    }

    /// The key of the log of the first version.
    fn log_key(&self, sigstore: &Sigstore) -> String {
        let root: Value = serde_json::from_str(&sigstore.trusted_root_json()).expect("JSON");
        let logs = root["tlogs"].as_array().expect("logs");
        let keys = logs.iter().map(|log| &log["publicKey"]);
        let mut keys = keys.filter(|key| key["keyDetails"] == "PKIX_ECDSA_P256_SHA_256");
        let der = keys.next().expect("a key")["rawBytes"]
            .as_str()
            .expect("Base64");
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    fn fulcio_certificates(&self) -> String {
        let root: Value = serde_json::from_str(&self.sigstore.trusted_root_json()).expect("JSON");
        let authorities = root["certificateAuthorities"]
            .as_array()
            .expect("authorities");
        let chains = authorities
            .iter()
            .map(|one| &one["certChain"]["certificates"]);
        let certificates = chains.flat_map(|chain| chain.as_array().expect("certificates"));
        let pem = certificates.map(|one| {
            let der = one["rawBytes"].as_str().expect("Base64");
            format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
        });
        pem.collect()
    }

    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address())
    }

    /// An image of its own content, under a tag.
    fn push(&self, repository: &str, tag: &str) -> Package {
        let package = image::runnable(&format!("{repository}:{tag}")).tagged(tag);
        self.push_as(repository, tag, &package);
        package
    }

    fn push_as(&self, repository: &str, tag: &str, package: &Package) {
        self.registry.put_package(repository, package);
        let mut images = self.images.borrow_mut();
        images.push(format!("{repository}:{tag}"));
        // What is wrong with these is wrong by whatever name they are asked for.
        if !matches!(repository, "faults" | "login" | "certified") {
            images.push(format!("{repository}@{}", package.digest()));
        }
    }

    /// Layers under the `.sig` tag.
    fn sign(&self, repository: &str, package: &Package, signed: &[(&str, &Recipe<'_>)]) {
        let digest = package.digest();
        let layers = signed.iter().map(|(reference, recipe)| {
            let reference = self.named(reference);
            self.sigstore.sign_layer(&digest, &reference, recipe)
        });
        let tag = signature_tag(&digest, layers.collect());
        self.registry.put_package(repository, &tag);
    }

    fn sign_by_gpg(&self, repository: &str, package: &Package, by: &Holder, reference: &str) {
        let digest = package.digest();
        let message = by.sign_image(&digest, &self.named(reference), yesterday());
        let folder = self
            .folder
            .join("store")
            .join(format!("{repository}@sha256={}", digest.hex()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("signature-1"), message).expect("a file");
    }

    /// Everything that may be signed in one way or another.
    fn publish(&self) {
        let unlogged = Recipe::key(&self.ops, Log::None);
        let logged = Recipe::key(&self.ops, Log::RekorV1);
        let by_other = Recipe::key(&self.other, Log::RekorV1);
        let app = self.push("app", "v1");
        self.sign("app", &app, &[("app:v1", &unlogged)]);
        // The same content, and with it the same signature, elsewhere.
        self.push_as("app", "again", &app.clone().tagged("again"));
        self.push_as("copy", "v1", &app);
        self.sign("copy", &app, &[("app:v1", &unlogged)]);
        let cosign = self.push("team/cosign", "v1");
        self.sign("team/cosign", &cosign, &[("team/cosign", &logged)]);
        let logged_image = self.push("team/logged", "v1");
        self.sign("team/logged", &logged_image, &[("team/logged:v1", &logged)]);
        let stranger = self.push("team/stranger", "v1");
        let layer = ("team/stranger:v1", &by_other);
        self.sign("team/stranger", &stranger, &[layer]);
        let several = self.push("team/several", "v1");
        let layers = [("x:v1", &by_other), ("team/several:v1", &unlogged)];
        self.sign("team/several", &several, &layers);
        self.push("team/unsigned", "v1");
        for (tag, fault) in [
            ("broken", Fault::BrokenSignature),
            ("other-subject", Fault::OtherSubject),
            ("unreadable", Fault::UnreadablePayload),
            ("foreign-promise", Fault::ForeignPromise),
            ("entry-of-other", Fault::EntryOfOtherSignature),
        ] {
            let package = self.push("faults", tag);
            let recipe = Recipe::key(&self.ops, Log::RekorV1).with(fault);
            let reference = format!("faults:{tag}");
            self.sign("faults", &package, &[(reference.as_str(), &recipe)]);
        }
        let bundled = self.push("bundled", "v1");
        let bundle = self.sigstore.signature(&bundled.digest(), &unlogged);
        let artifact = bundle.artifact(&bundled.descriptor());
        self.registry.put_package("bundled", &artifact);
        let gpg = self.push("gpg", "v1");
        self.sign_by_gpg("gpg", &gpg, &self.ada, "gpg:v1");
        let moved = self.push("gpg", "v2");
        self.sign_by_gpg("gpg", &moved, &self.ada, "gpg:v1");
        let by_eve = self.push("gpg", "eve");
        self.sign_by_gpg("gpg", &by_eve, &self.eve, "gpg:eve");
        let both = self.push("both", "v1");
        self.sign("both", &both, &[("both:v1", &unlogged)]);
        self.sign_by_gpg("both", &both, &self.ada, "both:v1");
        let child = image::runnable("a platform");
        self.registry.put_package("index", &child);
        let index = image::index(&[child.descriptor()]).tagged("v1");
        self.push_as("index", "v1", &index);
        self.sign("index", &index, &[("index:v1", &unlogged)]);
    }

    /// What logins and certified names have signed.
    fn publish_certified(&self) {
        let alice = Identity::email("alice@acme.test", GOOGLE);
        let bob = Identity::email("bob@acme.test", GOOGLE);
        let elsewhere = Identity::email("alice@acme.test", "https://github.com/login/oauth");
        let logged = Recipe::keyless(&alice, Log::RekorV1);
        for (tag, recipe) in [
            ("v1", logged.clone()),
            ("bob", Recipe::keyless(&bob, Log::RekorV1)),
            ("elsewhere", Recipe::keyless(&elsewhere, Log::RekorV1)),
            ("unlogged", Recipe::keyless(&alice, Log::None)),
            ("expired", logged.clone().with(Fault::ExpiredCertificate)),
            ("early", logged.clone().with(Fault::FutureCertificate)),
            ("foreign", logged.clone().with(Fault::ForeignAuthority)),
            ("no-promise", logged.clone().with(Fault::NoPromise)),
            ("promise", logged.clone().with(Fault::ForeignPromise)),
            ("entry", logged.clone().with(Fault::EntryOfOtherVerifier)),
            ("no-sct", logged.clone().with(Fault::NoSct)),
            ("broken", logged.clone().with(Fault::BrokenSignature)),
        ] {
            let package = self.push("login", tag);
            let reference = format!("login:{tag}");
            self.sign("login", &package, &[(reference.as_str(), &recipe)]);
        }
        let stranger = CertificateAuthority::new(1, Clock::system().now());
        for (tag, authority, subject) in [
            ("mail", &self.authority, "release@acme.test"),
            ("host", &self.authority, "signer.acme.test"),
            ("other", &self.authority, "other@acme.test"),
            ("stranger", &stranger, "release@acme.test"),
        ] {
            let package = self.push("certified", tag);
            let recipe = Recipe::new(Signer::Certified { authority, subject }, Log::None);
            let digest = package.digest();
            let reference = self.named(&format!("certified:{tag}"));
            let mut layer = self.sigstore.sign_layer(&digest, &reference, &recipe);
            // As cosign writes it, with the root at its end: containers/image takes whatever is
            // the last of a chain for the root, and passes over it.
            layer.annotate("dev.sigstore.cosign/chain", authority.chain_pem());
            let tag = signature_tag(&digest, vec![layer]);
            self.registry.put_package("certified", &tag);
        }
    }

    /// Requirements that rest on authorities.
    fn certified(&self) -> Vec<Value> {
        let fulcio = |issuer: &str, email: &str, log: &str| {
            json!({
                "type": "sigstoreSigned",
                "fulcio": {
                    "caPath": self.path("fulcio.pem"), "oidcIssuer": issuer, "subjectEmail": email,
                },
                "rekorPublicKeyPath": self.path(log),
            })
        };
        let pki = |mut names: Value| {
            names["caRootsPath"] = json!(self.path("pki.pem"));
            json!({ "type": "sigstoreSigned", "pki": names })
        };
        vec![
            fulcio(GOOGLE, "alice@acme.test", "rekor.pub"),
            fulcio(GOOGLE, "alice@acme.test", "other-rekor.pub"),
            fulcio(GOOGLE, "bob@acme.test", "rekor.pub"),
            fulcio(
                "https://github.com/login/oauth",
                "alice@acme.test",
                "rekor.pub",
            ),
            pki(json!({ "subjectEmail": "release@acme.test" })),
            pki(json!({ "subjectHostname": "signer.acme.test" })),
            pki(json!({ "subjectHostname": "SIGNER.acme.test." })),
            pki(json!({
                "subjectEmail": "release@acme.test", "subjectHostname": "signer.acme.test",
            })),
            pki(json!({
                "subjectEmail": "release@acme.test",
                "caIntermediatesPath": self.path("fulcio.pem"),
            })),
        ]
    }

    fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    fn key(&self, file: &str) -> Value {
        json!({ "type": "sigstoreSigned", "keyPath": self.path(file) })
    }

    fn gpg(&self, file: &str) -> Value {
        json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": self.path(file) })
    }

    /// Documents that both have to read, and to mean the same by.
    fn documents(&self) -> Vec<Value> {
        let accept = json!({ "type": "insecureAcceptAnything" });
        let reject = json!({ "type": "reject" });
        let host = self.registry.address().to_string();
        let key = self.key("ops.pub");
        let gpg = self.gpg("ada.gpg");
        let mut documents = vec![
            json!({ "default": [accept] }),
            json!({ "default": [reject] }),
            json!({ "default": [key] }),
            json!({ "default": [gpg] }),
            json!({ "default": [reject], "transports": { "docker": { "": [key] } } }),
            json!({ "default": [key], "transports": { "docker": { "": [accept] } } }),
            json!({ "default": [accept], "transports": { "dir": { "": [reject] } } }),
        ];
        let mut scoped = |scopes: Value| {
            documents.push(json!({ "default": [reject], "transports": { "docker": scopes } }));
        };
        // Which scope decides.
        scoped(json!({ &host: [accept] }));
        scoped(json!({ "": [accept], &host: [key] }));
        scoped(json!({ "*.0.0.1": [accept] }));
        scoped(json!({ "*.0.1": [accept], "*.0.0.1": [key] }));
        scoped(json!({ "*.0.0.1": [reject], &host: [key] }));
        scoped(json!({ "127.0.0.1": [accept] }));
        scoped(json!({ &host: [key], self.named("team"): [accept] }));
        scoped(json!({ &host: [accept], self.named("team"): [key], self.named("te"): [reject] }));
        scoped(json!({ &host: [accept], self.named("team/logged"): [reject] }));
        scoped(json!({ &host: [reject], self.named("app:v1"): [accept] }));
        scoped(json!({ self.named("app"): [key], self.named("app:again"): [reject] }));
        let images = self.images.borrow();
        let digest = images.iter().find(|name| name.starts_with("app@"));
        let digest = digest.expect("an image");
        scoped(json!({ self.named("app"): [reject], self.named(digest): [key] }));
        // Who signed, and what for.
        for identity in [
            json!({ "type": "matchExact" }),
            json!({ "type": "matchRepoDigestOrExact" }),
            json!({ "type": "matchRepository" }),
            json!({ "type": "exactReference", "dockerReference": self.named("app:v1") }),
            json!({ "type": "exactReference", "dockerReference": self.named("gpg:v1") }),
            json!({ "type": "exactRepository", "dockerRepository": self.named("app") }),
            json!({ "type": "exactRepository", "dockerRepository": self.named("team/cosign") }),
            json!({
                "type": "remapIdentity",
                "prefix": self.named("copy"),
                "signedPrefix": self.named("app"),
            }),
            json!({ "type": "remapIdentity", "prefix": &host, "signedPrefix": "docker.io" }),
        ] {
            for requirement in [&key, &gpg] {
                let mut requirement = requirement.clone();
                requirement["signedIdentity"] = identity.clone();
                scoped(json!({ &host: [requirement] }));
            }
        }
        let paths = [self.path("other.pub"), self.path("ops.pub")];
        scoped(json!({ &host: [{ "type": "sigstoreSigned", "keyPaths": paths }] }));
        let datas = [
            STANDARD.encode(self.other.public_key_pem()),
            STANDARD.encode(self.ops.public_key_pem()),
        ];
        scoped(json!({ &host: [{ "type": "sigstoreSigned", "keyDatas": datas }] }));
        let keyrings = [self.path("eve.gpg"), self.path("ada.gpg")];
        scoped(json!({
            &host: [{ "type": "signedBy", "keyType": "GPGKeys", "keyPaths": keyrings }],
        }));
        let data = STANDARD.encode(self.ada.keyring());
        scoped(json!({
            &host: [{ "type": "signedBy", "keyType": "GPGKeys", "keyData": data }],
        }));
        for logs in [
            json!([self.path("rekor.pub")]),
            json!([self.path("other-rekor.pub")]),
            json!([self.path("other-rekor.pub"), self.path("rekor.pub")]),
        ] {
            let mut requirement = key.clone();
            requirement["rekorPublicKeyPaths"] = logs;
            requirement["signedIdentity"] = json!({ "type": "matchRepository" });
            scoped(json!({ &host: [requirement] }));
        }
        for requirement in self.certified() {
            scoped(json!({ &host: [requirement] }));
        }
        // All of a list.
        scoped(json!({ &host: [key, gpg] }));
        scoped(json!({ &host: [accept, key] }));
        scoped(json!({ &host: [key, accept, reject] }));
        scoped(json!({ &host: [key, key] }));
        scoped(json!({ &host: [key, self.key("other.pub")] }));
        documents
    }

    /// What containers/image says: whether each document loads, and of each image whether it may
    /// run; `None` where the document does not load.
    fn theirs(&self, asked: &[(PathBuf, String)]) -> Vec<(Option<bool>, String)> {
        let mut child = command("containers-image")
            .arg(self.folder.join("registries.d"))
            .arg(self.folder.join("registries.conf"))
            .env("HOME", &self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("containers-image");
        let mut input = child.stdin.take().expect("its input");
        let lines = asked
            .iter()
            .fold(String::new(), |mut lines, (path, image)| {
                writeln!(lines, "{}", json!({ "policy": path, "image": image })).expect("a String");
                lines
            });
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("an end");
        writer.join().expect("a thread").expect("all was read");
        assert!(output.status.success());
        let answers = String::from_utf8(output.stdout).expect("text");
        let answers = answers.lines().map(|line| {
            let answer: Value = serde_json::from_str(line).expect("JSON");
            let allowed = answer["allowed"].as_bool().expect("a verdict");
            let why = answer["why"].as_str().expect("a reason").to_owned();
            (
                answer["loads"]
                    .as_bool()
                    .expect("a word")
                    .then_some(allowed),
                why,
            )
        });
        answers.collect()
    }

    /// What the gate says of each image under a document; `None` where it does not load.
    fn ours(&self, document: &Path, images: &[String]) -> Option<Vec<(bool, String)>> {
        let host = self.registry.address();
        let path = self.folder.join("pullgate.yaml");
        let configuration = format!(
            "upstreams: {{ \"{host}\": {{ url: \"http://{host}\", lookaside: \"file://{}\" }} }}\n\
             policies: [{{ containers_policy_json: {} }}]\n",
            self.folder.join("store").display(),
            document.display(),
        );
        std::fs::write(&path, configuration).expect("a file");
        let clock = Clock::system();
        let loaded = config::load(&path, &app::checks(), clock.now()).ok()?;
        let settings = loaded.settings;
        Some(self.runtime.block_on(async {
            let built = app::build(&settings, clock, TaskTracker::new()).expect("it is built");
            let mut verdicts = Vec::new();
            for name in images {
                let (image, reference) =
                    config::parse_image(name, &settings).expect("an image's name");
                let ask = Ask { image, reference };
                let answer = built.service.gate.manifest(&ask, &Caller::Anonymous).await;
                verdicts.push(match answer {
                    Ok(_) => (true, String::new()),
                    Err(Refusal::Denied(denied, _)) => (false, format!("{denied:?}")),
                    Err(other) => panic!("{name} {}: {other:?}", document.display()),
                });
            }
            verdicts
        }))
    }

    /// Writes documents into files.
    fn written(&self, documents: &[Value]) -> Vec<PathBuf> {
        let paths = documents.iter().enumerate().map(|(number, document)| {
            let path = self.folder.join(format!("policy-{number}.json"));
            std::fs::write(&path, document.to_string()).expect("a file");
            path
        });
        paths.collect()
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn containers_image_says_the_same() {
    let site = Site::new();
    site.publish();
    site.publish_certified();
    let images: Vec<String> = site
        .images
        .borrow()
        .iter()
        .map(|name| site.named(name))
        .collect();
    let documents = site.documents();
    let paths = site.written(&documents);
    let asked: Vec<(PathBuf, String)> = paths
        .iter()
        .flat_map(|path| images.iter().map(|image| (path.clone(), image.clone())))
        .collect();
    let theirs = site.theirs(&asked);
    assert_eq!(theirs.len(), asked.len());
    let mut differing = String::new();
    let (mut admitted, mut refused) = (0, 0);
    for ((document, path), theirs) in documents
        .iter()
        .zip(&paths)
        .zip(theirs.chunks(images.len()))
    {
        let ours = site.ours(path, &images);
        let ours = ours.unwrap_or_else(|| panic!("does not load: {document}"));
        for ((image, (verdict, why)), (passes, because)) in images.iter().zip(theirs).zip(ours) {
            match passes {
                true => admitted += 1,
                false => refused += 1,
            }
            if *verdict != Some(passes) {
                writeln!(
                    differing,
                    "{image} {document}\n  containers/image: {verdict:?} {why}\n  pullgate: {passes} {because}"
                )
                .expect("a String");
            }
        }
    }
    assert!(differing.is_empty(), "{differing}");
    // A table in which everything passes, or nothing, would show nothing.
    assert!(admitted > 200 && refused > 200, "{admitted} {refused}");
}
