//! TUF as others speak it: python-tuf's repository is read by the gate, and its client reads the
//! repository that the tests make.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{Identity, Log, Recipe, Sigstore};
use pullgate::sandbox::tuf::{Mirror, Repository};
use tokio::runtime::Runtime;

use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::free_port;
use crate::harness::process::must;
use crate::harness::process::run;
use crate::harness::process::tools;
use crate::harness::web;

/// One of the scripts, with python-tuf at hand.
fn python(script: &str) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/tuf");
    let mut python = command("python3");
    python
        .env("PYTHONPATH", tools().join("share/python-tuf"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(here.join(script));
    python
}

/// A folder on a web server of its own.
fn serve(folder: &Path, undertaker: &Undertaker) -> String {
    let port = free_port();
    let mut server = command("python3");
    server.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
    server.arg(folder).arg(port.to_string());
    let mut daemon = undertaker.start("tuf-mirror", &mut server);
    daemon.listens(port);
    // The undertaker ends it with the process.
    std::mem::forget(daemon);
    format!("http://127.0.0.1:{port}")
}

struct World {
    runtime: Runtime,
    undertaker: Undertaker,
    sigstore: Sigstore,
    folder: PathBuf,
}

impl World {
    fn new() -> Self {
        let undertaker = Undertaker::call();
        let sigstore = Sigstore::new(Clock::system().now() - SignedDuration::from_secs(60));
        let folder = undertaker.folder("tuf");
        let root = folder.join("trusted_root.json");
        std::fs::write(root, sigstore.trusted_root_json()).expect("written");
        Self {
            runtime: Runtime::new().expect("a runtime"),
            undertaker,
            sigstore,
            folder,
        }
    }
}

// The gate takes the trusted root out of a repository that python-tuf wrote, over a rotation of
// its root; and does not, where another root is pinned or a byte of a target is another.
#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn the_gate_reads_what_python_tuf_publishes() {
    let world = World::new();
    let registry = world.runtime.block_on(Registry::start()).expect("a port");
    let signer = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let signed = image::runnable("signed");
    registry.put_package("app", &signed);
    let recipe = Recipe::keyless(&signer, Log::RekorV2);
    let bundle = world.sigstore.sign_bundle(&signed.descriptor(), &recipe);
    registry.put_package("app", &bundle);
    let host = registry.address().to_string();

    let trusted_root = world.folder.join("trusted_root.json");
    let [good, other, broken] = ["good", "other", "broken"].map(|name| world.folder.join(name));
    for folder in [&good, &other, &broken] {
        must(python("repository.py").arg(folder).arg(&trusted_root));
    }
    let targets = std::fs::read_dir(broken.join("targets")).expect("a folder");
    for target in targets {
        let path = target.expect("a target").path();
        let text = std::fs::read_to_string(&path).expect("a target");
        std::fs::write(path, text.replacen("sandbox", "mallory", 1)).expect("written");
    }
    for (name, mirror, pinned, status) in [
        ("good", &good, &good, "200"),
        ("pinned", &good, &other, "503"),
        ("broken", &broken, &broken, "503"),
    ] {
        let mirror = serve(mirror, &world.undertaker);
        let settings = before(&host)
            + &format!(
                "trust_roots:\n  acme: {{ tuf: {{ mirror: \"{mirror}\", root: {} }} }}\n",
                pinned.join("1.root.json").display()
            );
        let policies = format!(
            "signers:\n  ours:\n    keyless: {{ issuer: \"{}\", identity: \"{}\" }}\n    \
             trust_root: acme\npolicies:\n  \
             - {{ name: all, images: [\"{host}/**\"], signed_by: ours }}\n",
            signer.issuer, signer.subject,
        );
        let gate = Gate::serve(
            &format!("gate-{name}"),
            &settings,
            &policies,
            &world.undertaker,
        );
        let url = format!(
            "http://{}/v2/app/manifests/{}",
            gate.address(),
            signed.digest()
        );
        let ask = || {
            let mut curl = command("curl");
            curl.args([
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ]);
            must(curl.arg(&url))
        };
        let ready = format!("http://{}/readyz", gate.admin());
        let came = crate::harness::process::wait_until(|| {
            web::answers(&ready) || gate.log().contains("trust root")
        });
        assert!(came, "{name}: {}", gate.log());
        assert_eq!(ask(), status, "{name}: {}", gate.log());
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn python_tuf_reads_what_the_tests_publish() {
    let world = World::new();
    let trusted_root = world.sigstore.trusted_root_json();
    let mut repository = Repository::new(Clock::system().now());
    repository.publish(&trusted_root);
    let pinned = world.folder.join("root.json");
    std::fs::write(&pinned, repository.pinned()).expect("written");
    let mirror = world.runtime.block_on(Mirror::start()).expect("a port");
    let read = |name: &str| {
        let folder = world.folder.join(name);
        let mut client = python("client.py");
        run(client.arg(&pinned).arg(mirror.url()).arg(folder))
    };
    for name in ["as it is", "rotated"] {
        mirror.serve(&repository);
        let judged = read(name);
        assert!(judged.success, "{name}: {}", judged.said);
        assert_eq!(judged.stdout, trusted_root.as_bytes(), "{name}");
        repository.rotate_root();
        repository.publish(&trusted_root);
    }
    repository.timestamp.signing = 0;
    repository.publish(&trusted_root);
    mirror.serve(&repository);
    let judged = read("unsigned");
    assert!(!judged.success, "a timestamp without signatures");
}
