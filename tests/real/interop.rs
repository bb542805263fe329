//! Whether the sandbox speaks a private dialect: what it mints, the real cosign verifies; what the
//! real cosign signs with keys of every kind, `pullgate verify` admits. And what is wrong is wrong
//! to both.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry as Sandbox;
use pullgate::sandbox::sigstore::{
    CertificateAuthority, Fault, Identity, KeyPair, KeyType, Log, Recipe, Signer, Sigstore,
    attestation_tag, signature_tag,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::image::Image;
use crate::harness::process::Finished;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::process::run;
use crate::harness::registry::Registry;

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// A sandbox of registry and Sigstore that the real cosign is let loose on.
struct World {
    _runtime: Runtime,
    registry: Sandbox,
    sigstore: Sigstore,
    signer: Identity,
    folder: PathBuf,
    _undertaker: Undertaker,
}

/// What cosign is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Signature,
    Attestation,
}

impl World {
    fn new() -> Self {
        let undertaker = Undertaker::call();
        let runtime = Runtime::new().expect("a runtime");
        let registry = runtime.block_on(Sandbox::start()).expect("a port");
        let minute = SignedDuration::from_secs(60);
        let sigstore = Sigstore::new(Clock::system().now() - minute);
        let folder = undertaker.folder("interop");
        let root = folder.join("trusted_root.json");
        std::fs::write(root, sigstore.trusted_root_json()).expect("written");
        Self {
            _runtime: runtime,
            registry,
            sigstore,
            signer: Identity::github_actions("acme/widget", "release.yml", "refs/heads/main"),
            folder,
            _undertaker: undertaker,
        }
    }

    /// Pushes an image and what is beside it.
    fn push(&self, package: &Package, evidence: &Package) {
        self.registry.put_package("app", package);
        self.registry.put_package("app", evidence);
    }

    /// `cosign verify` or `verify-attestation`, old format or new.
    fn cosign(&self, question: Question, package: &Package, new: bool) -> Command {
        let mut command = command("cosign");
        command.current_dir(&self.folder).env("HOME", &self.folder);
        match question {
            Question::Signature => command.arg("verify"),
            Question::Attestation => command.args(["verify-attestation", "--type", PROVENANCE]),
        };
        command.args([
            "--allow-http-registry",
            "--trusted-root",
            "trusted_root.json",
        ]);
        command.arg(format!("--new-bundle-format={new}"));
        command.arg(format!(
            "{}/app@{}",
            self.registry.address(),
            package.digest()
        ));
        command
    }

    fn keyless(&self, question: Question, package: &Package, new: bool) -> Finished {
        let mut command = self.cosign(question, package, new);
        command.args(["--certificate-identity", &self.signer.subject]);
        command.args(["--certificate-oidc-issuer", &self.signer.issuer]);
        run(&mut command)
    }

    fn keyed(
        &self,
        question: Question,
        package: &Package,
        key: &KeyPair,
        new: bool,
        more: &[&str],
    ) -> Finished {
        let file = self.folder.join("key.pub");
        std::fs::write(&file, key.public_key_pem()).expect("written");
        let mut command = self.cosign(question, package, new);
        run(command.arg("--key").arg(file).args(more))
    }
}

/// A new image for each case, since evidence piles up beside one.
fn package(what: &str) -> Package {
    image::runnable(what)
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn cosign_verifies_bundles_of_the_sandbox() {
    let world = World::new();
    for log in [Log::RekorV1, Log::RekorV2, Log::RekorV2Shard] {
        let recipe = Recipe::keyless(&world.signer, log);
        let signed = package(&format!("signed {log:?}"));
        let evidence = world.sigstore.sign_bundle(&signed.descriptor(), &recipe);
        world.push(&signed, &evidence);
        let judged = world.keyless(Question::Signature, &signed, true);
        assert!(judged.success, "{log:?}: {}", judged.said);

        let attested = package(&format!("attested {log:?}"));
        let predicate = json!({"buildType": "https://acme.test/build"});
        let evidence =
            world
                .sigstore
                .attest_bundle(&attested.descriptor(), PROVENANCE, &predicate, &recipe);
        world.push(&attested, &evidence);
        let judged = world.keyless(Question::Attestation, &attested, true);
        assert!(judged.success, "attestation, {log:?}: {}", judged.said);
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn cosign_verifies_layers_of_the_sandbox() {
    let world = World::new();
    let name = format!("{}/app", world.registry.address());
    for timestamped in [false, true] {
        let mut recipe = Recipe::keyless(&world.signer, Log::RekorV1);
        if timestamped {
            recipe = recipe.timestamped();
        }
        let signed = package(&format!("signed {timestamped}"));
        let layer = world.sigstore.sign_layer(&signed.digest(), &name, &recipe);
        world.push(&signed, &signature_tag(&signed.digest(), vec![layer]));
        let judged = world.keyless(Question::Signature, &signed, false);
        assert!(judged.success, "{timestamped}: {}", judged.said);

        let attested = package(&format!("attested {timestamped}"));
        let layer =
            world
                .sigstore
                .attest_layer(&attested.digest(), PROVENANCE, &json!({"a": 1}), &recipe);
        world.push(&attested, &attestation_tag(&attested.digest(), vec![layer]));
        let judged = world.keyless(Question::Attestation, &attested, false);
        assert!(
            judged.success,
            "attestation, {timestamped}: {}",
            judged.said
        );
    }
}

/// What cosign has to be told of a key's hash, which it takes for SHA-256.
fn digest_algorithm(kind: KeyType) -> Option<&'static str> {
    match kind {
        KeyType::P384 => Some("sha384"),
        KeyType::P521 => Some("sha512"),
        _ => None,
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn cosign_verifies_the_sandboxs_keys_of_every_type() {
    let world = World::new();
    let name = format!("{}/app", world.registry.address());
    for kind in KeyType::ALL {
        let key = KeyPair::of(kind);
        let mut more = vec!["--insecure-ignore-tlog=true"];
        if let Some(algorithm) = digest_algorithm(kind) {
            more.extend(["--signature-digest-algorithm", algorithm]);
        }
        let recipe = Recipe::key(&key, Log::None);
        let signed = package(&format!("{kind:?}"));
        let layer = world.sigstore.sign_layer(&signed.digest(), &name, &recipe);
        world.push(&signed, &signature_tag(&signed.digest(), vec![layer]));
        let judged = world.keyed(Question::Signature, &signed, &key, false, &more);
        // cosign knows no PSS where it is given a key in a file.
        let known = kind != KeyType::Rsa2048Pss;
        assert_eq!(judged.success, known, "{kind:?}: {}", judged.said);
        let other = KeyPair::of(KeyType::P256);
        let judged = world.keyed(Question::Signature, &signed, &other, false, &more);
        assert!(!judged.success, "{kind:?}: another key");
    }
}

// What is wrong by the sandbox's word is wrong by cosign's as well. (But for a certificate without
// the code signing usage, which cosign takes and pullgate does not.)
#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn cosign_refuses_the_sandboxs_faults() {
    let world = World::new();
    for log in [Log::RekorV1, Log::RekorV2] {
        for fault in [
            Fault::OtherSubject,
            Fault::NoSct,
            Fault::ForeignSct,
            Fault::ForeignAuthority,
            Fault::ExpiredCertificate,
            Fault::BrokenSignature,
            Fault::EntryOfOtherDigest,
            Fault::EntryOfOtherSignature,
            Fault::EntryOfOtherVerifier,
            Fault::ForeignLog,
            Fault::BrokenCheckpoint,
            Fault::BrokenInclusionProof,
        ] {
            let recipe = Recipe::keyless(&world.signer, log).with(fault);
            let package = package(&format!("{fault:?} {log:?}"));
            let evidence = world.sigstore.sign_bundle(&package.descriptor(), &recipe);
            world.push(&package, &evidence);
            let judged = world.keyless(Question::Signature, &package, true);
            assert!(!judged.success, "{fault:?} in {log:?}: {}", judged.said);
        }
    }
    let stranger = Identity::email("mallory@acme.test", "https://accounts.google.com");
    let package = package("a stranger's");
    let recipe = Recipe::keyless(&stranger, Log::RekorV2);
    let evidence = world.sigstore.sign_bundle(&package.descriptor(), &recipe);
    world.push(&package, &evidence);
    let judged = world.keyless(Question::Signature, &package, true);
    assert!(!judged.success, "a stranger's: {}", judged.said);
}

/// Keys as people make them, for cosign.
fn imported(folder: &Path, name: &str, arguments: &[&str]) {
    let pem = folder.join(format!("{name}.pem"));
    let mut openssl = command("openssl");
    openssl.arg("genpkey").args(arguments).arg("-out").arg(&pem);
    must(&mut openssl);
    let mut import = cosign(folder, "import-key-pair");
    import.args(["-y", "--output-key-prefix", name, "--key"]);
    must(import.arg(&pem));
}

fn cosign(folder: &Path, subcommand: &str) -> Command {
    let mut command = command("cosign");
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("COSIGN_PASSWORD", "")
        .arg(subcommand);
    command
}

/// The ways in which cosign signs without any service.
const WAYS: [(&str, &[&str]); 2] = [
    (
        "layer",
        &[
            "--new-bundle-format=false",
            "--use-signing-config=false",
            "--tlog-upload=false",
        ],
    ),
    ("bundle", &["--signing-config", "no-services.json"]),
];

/// Kinds of keys, as openssl makes them.
const KEYS: [(&str, &[&str]); 7] = [
    (
        "p256",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ),
    (
        "p384",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ),
    (
        "p521",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    ),
    ("ed25519", &["-algorithm", "ED25519"]),
    (
        "rsa2048",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ),
    (
        "rsa3072",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    ),
    (
        "rsa4096",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    ),
];

/// `pullgate verify`, where the key of that name has to have signed.
fn judged(folder: &Path, host: &str, key: &str, image: &str) -> Finished {
    let settings = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
         upstreams:\n  \"{host}\": {{ url: \"http://{host}\" }}\n\
         default_upstream: \"{host}\"\npolicies: [policies-{key}.yaml]\n"
    );
    let policies = format!(
        "signers:\n  ops:\n    key: {{ file: {key}.pub }}\n    transparency_log: not_required\n\
         policies:\n  - name: all\n    images: [\"{host}/**\"]\n    signed_by: ops\n"
    );
    let config = folder.join(format!("pullgate-{key}.yaml"));
    std::fs::write(&config, settings).expect("written");
    std::fs::write(folder.join(format!("policies-{key}.yaml")), policies).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.args(["verify", "--output", "json", "--config"]);
    command.arg(config).arg(image);
    run(&mut command)
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn what_cosign_signs_and_attests_by_key_is_proven() {
    let undertaker = Undertaker::call();
    let folder = undertaker.folder("keys");
    let registry = Registry::distribution(&undertaker);
    let host = registry.address().to_string();
    must(cosign(&folder, "signing-config").args(["create", "--out", "no-services.json"]));
    imported(&folder, "stranger", KEYS[0].1);
    std::fs::write(folder.join("predicate.json"), "{\"a\": 1}").expect("written");
    let mut images = Vec::new();
    for (key, arguments) in KEYS {
        imported(&folder, key, arguments);
        for (way, flags) in WAYS {
            let name = format!("{host}/{key}/{way}");
            let image = Image::single(&name, &folder);
            image.push(&format!("{name}:v1"), &folder);
            let image = format!("{name}@{}", image.digest);
            let mut sign = cosign(&folder, "sign");
            sign.args(["-y", "--allow-http-registry", "--key"]);
            must(sign.arg(format!("{key}.key")).args(flags).arg(&image));
            let mut attest = cosign(&folder, "attest");
            attest.args(["-y", "--allow-http-registry", "--type", PROVENANCE]);
            attest.args(["--predicate", "predicate.json", "--key"]);
            must(attest.arg(format!("{key}.key")).args(flags).arg(&image));
            let ours = judged(&folder, &host, key, &image);
            assert!(ours.success, "{key}, {way}: {}", ours.said);
            let facts: Value = serde_json::from_slice(&ours.stdout).expect("JSON");
            let facts = facts["facts"].to_string();
            assert!(facts.contains(PROVENANCE), "{key}, {way}: {facts}");
            let theirs = judged(&folder, &host, "stranger", &image);
            assert!(!theirs.success, "{key}, {way}, by a stranger's key");
            images.push((format!("{key}/{way}"), image));
        }
    }
    let gate = gate_for_keys(&undertaker, &folder, &host);
    for (repository, image) in images {
        let digest = image.rsplit('@').next().expect("a digest");
        assert_eq!(status(&gate, &repository, digest), "200", "{repository}");
        let elsewhere = format!("stranger/{repository}");
        let copied = format!("{host}/{elsewhere}@{digest}");
        let mut copy = cosign(&folder, "copy");
        must(copy.args(["--allow-http-registry", &image, &copied]));
        assert_eq!(status(&gate, &elsewhere, digest), "403", "{elsewhere}");
    }
}

/// A gate that admits what is signed and attested by the key that the repository is named after.
fn gate_for_keys(undertaker: &Undertaker, folder: &Path, host: &str) -> Gate {
    let (mut signers, mut policies) = (String::new(), String::new());
    for key in KEYS.iter().map(|(key, _)| *key).chain(["stranger"]) {
        let file = folder.join(format!("{key}.pub"));
        signers.push_str(&format!(
            "  {key}:\n    key: {{ file: {} }}\n    transparency_log: not_required\n",
            file.display()
        ));
        policies.push_str(&format!(
            "  - name: {key}\n    images: [\"{host}/{key}/**\"]\n    signed_by: {key}\n    \
             attested: [{{ predicate_type: \"{PROVENANCE}\", by: {key} }}]\n"
        ));
    }
    let policies = format!("signers:\n{signers}policies:\n{policies}");
    Gate::serve("gate-keys", &before(host), &policies, undertaker)
}

/// What the gate answers to a pull.
fn status(gate: &Gate, repository: &str, digest: &str) -> String {
    let url = format!(
        "http://{}/v2/{repository}/manifests/{digest}",
        gate.address()
    );
    let mut curl = command("curl");
    must(curl.args([
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        &url,
    ]))
}

/// A root, an authority below it, and a certificate for code signing by that one, with its key
/// ready for cosign.
fn certificates(folder: &Path) {
    imported(folder, "leaf", KEYS[0].1);
    imported(folder, "root", KEYS[1].1);
    imported(folder, "middle", KEYS[0].1);
    let extensions = "[root]\nbasicConstraints=critical,CA:TRUE\n\
                      keyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n\
                      [middle]\nbasicConstraints=critical,CA:TRUE,pathlen:0\n\
                      keyUsage=critical,keyCertSign\nextendedKeyUsage=codeSigning\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
                      [leaf]\nbasicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                      extendedKeyUsage=codeSigning\nsubjectAltName=email:release@acme.test\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(folder.join("extensions.cnf"), extensions).expect("written");
    for (name, above) in [
        ("root", None),
        ("middle", Some("root")),
        ("leaf", Some("middle")),
    ] {
        let mut request = command("openssl");
        request.current_dir(folder).args(["req", "-new", "-subj"]);
        request.arg(format!("/O=acme.test/CN={name}"));
        must(request.args(["-key", &format!("{name}.pem"), "-out", "request.csr"]));
        let mut issue = command("openssl");
        issue.current_dir(folder);
        issue.args(["x509", "-req", "-in", "request.csr", "-days", "30"]);
        issue.args(["-extfile", "extensions.cnf", "-extensions", name]);
        issue.args(["-out", &format!("{name}.crt")]);
        match above {
            None => issue.args(["-key", &format!("{name}.pem")]),
            Some(above) => {
                issue.args(["-CA", &format!("{above}.crt"), "-CAcreateserial"]);
                issue.args(["-CAkey", &format!("{above}.pem")])
            }
        };
        must(&mut issue);
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a certificate");
    let chain = read("middle.crt") + &read("root.crt");
    std::fs::write(folder.join("chain.pem"), chain).expect("written");
}

// What cosign signs with a certificate of one's own authority is admitted for the name in it, and
// for no other; and what the sandbox signs with one, cosign verifies.
#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn what_cosign_signs_by_certificate_is_admitted() {
    let undertaker = Undertaker::call();
    let folder = undertaker.folder("certificates");
    let registry = Registry::distribution(&undertaker);
    let host = registry.address().to_string();
    certificates(&folder);
    let name = format!("{host}/app");
    let image = Image::single(&name, &folder);
    image.push(&format!("{name}:v1"), &folder);
    let mut sign = cosign(&folder, "sign");
    sign.args(["-y", "--allow-http-registry", "--key", "leaf.key"]);
    sign.args([
        "--certificate",
        "leaf.crt",
        "--certificate-chain",
        "chain.pem",
    ]);
    must(sign.args(WAYS[0].1).arg(format!("{name}@{}", image.digest)));
    let gate = |file: &str, subject: &str| {
        let ca = folder.join(file);
        let policies = format!(
            "signers:\n  ours:\n    ca: {{ file: {}, subject: {{ email: {subject} }} }}\n    \
             transparency_log: not_required\npolicies:\n  - name: all\n    \
             images: [\"{host}/**\"]\n    signed_by: ours\n",
            ca.display()
        );
        Gate::serve(
            &format!("gate-{file}-{subject}"),
            &before(&host),
            &policies,
            &undertaker,
        )
    };
    let ours = gate("root.crt", "release@acme.test");
    assert_eq!(status(&ours, "app", &image.digest), "200", "{}", ours.log());
    let other_name = gate("root.crt", "mallory@acme.test");
    assert_eq!(status(&other_name, "app", &image.digest), "403");
    let world = World::new();
    // cosign takes the last certificate of a chain for a root, and there is none in the sandbox's.
    let theirs = CertificateAuthority::new(0, Clock::system().now());
    std::fs::write(folder.join("theirs.crt"), theirs.root_pem()).expect("written");
    let other_authority = gate("theirs.crt", "release@acme.test");
    assert_eq!(status(&other_authority, "app", &image.digest), "403");

    let signer = Signer::Certified {
        authority: &theirs,
        subject: "release@acme.test",
    };
    let signed = package("certified");
    let reference = format!("{}/app", world.registry.address());
    let recipe = Recipe::new(signer, Log::None);
    let layer = world
        .sigstore
        .sign_layer(&signed.digest(), &reference, &recipe);
    world.push(&signed, &signature_tag(&signed.digest(), vec![layer]));
    for (chain, name, holds) in [
        ("theirs.crt", "release@acme.test", true),
        ("theirs.crt", "mallory@acme.test", false),
        ("root.crt", "release@acme.test", false),
    ] {
        let mut verify = cosign(&folder, "verify");
        verify.args(["--allow-http-registry", "--new-bundle-format=false"]);
        verify.args(["--insecure-ignore-tlog=true", "--insecure-ignore-sct=true"]);
        verify.args(["--ca-roots", chain, "--certificate-identity", name]);
        verify.args(["--certificate-oidc-issuer-regexp", ".*"]);
        let judged = run(verify.arg(format!("{reference}@{}", signed.digest())));
        assert_eq!(judged.success, holds, "{chain}, {name}: {}", judged.said);
    }
}
