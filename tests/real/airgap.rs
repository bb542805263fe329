//! Without any network: the gate in a network namespace that has loopback and nothing else.
//!
//! The test runs itself again in there, with a registry, a Sigstore and the gate. A trust root
//! from a file and the built-in one with `refresh: never` have to do.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{Identity, Log, Recipe, Sigstore};
use tokio::runtime::Runtime;

use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::process::Undertaker;
use crate::harness::process::must;
use crate::harness::process::run;
use crate::harness::web;

/// Set where the test runs for the second time.
const INSIDE: &str = "PULLGATE_WITHOUT_NETWORK";

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn images_are_judged_without_any_network() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let program = std::env::current_exe().expect("this program");
    let mut namespace = Command::new("unshare");
    namespace.args(["--net", "--", "sh", "-c"]);
    namespace.arg("ip link set lo up && exec \"$0\" \"$@\"");
    namespace.arg(program).env(INSIDE, "yes").args([
        "--ignored",
        "--exact",
        "airgap::images_are_judged_without_any_network",
    ]);
    let said = must(&mut namespace);
    assert!(said.contains("1 passed"), "{said}");
}

/// Nothing but loopback can be reached: neither addresses nor names.
fn no_network() {
    let refused = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:53"));
    let kind = refused.expect_err("a route to the world").kind();
    assert_eq!(kind, ErrorKind::NetworkUnreachable);
    TcpStream::connect("tuf-repo-cdn.sigstore.dev:443").expect_err("a name and a route");
}

fn inside() {
    no_network();
    let undertaker = Undertaker::call();
    let runtime = Runtime::new().expect("a runtime");
    let registry = runtime.block_on(Registry::start()).expect("a port");
    let sigstore = Sigstore::new(Clock::system().now() - SignedDuration::from_secs(60));
    let signer = Identity::github_actions("acme/widget", "release.yml", "refs/heads/main");
    let folder = undertaker.folder("airgap");
    let root = folder.join("trusted_root.json");
    std::fs::write(&root, sigstore.trusted_root_json()).expect("written");
    let [signed, unsigned, elsewhere] = ["signed", "unsigned", "elsewhere"].map(image::runnable);
    for package in [&signed, &unsigned, &elsewhere] {
        registry.put_package("app", package);
    }
    registry.put_package("public", &elsewhere);
    let recipe = Recipe::keyless(&signer, Log::RekorV2);
    let bundle = sigstore.sign_bundle(&signed.descriptor(), &recipe);
    registry.put_package("app", &bundle);
    let bundle = sigstore.sign_bundle(&elsewhere.descriptor(), &recipe);
    registry.put_package("public", &bundle);

    let host = registry.address().to_string();
    let settings = before(&host)
        + &format!(
            "trust_roots:\n  acme: {{ file: {} }}\n  \
             public: {{ sigstore: public_good, refresh: never }}\n\
             cache: {{ directory: {} }}\n",
            root.display(),
            folder.join("cache").display()
        );
    let keyless = |root: &str| {
        let (issuer, subject) = (&signer.issuer, &signer.subject);
        format!(
            "    keyless: {{ issuer: \"{issuer}\", identity: \"{subject}\", trust_root: {root} }}\n"
        )
    };
    let policies = format!(
        "signers:\n  ours:\n{}  publics:\n{}policies:\n  \
         - {{ name: ours, images: [\"{host}/app\"], signed_by: ours }}\n  \
         - {{ name: publics, images: [\"{host}/public\"], signed_by: publics }}\n",
        keyless("acme"),
        keyless("public"),
    );
    for start in ["first", "second"] {
        let name = format!("airgapped-{start}");
        let began = Instant::now();
        let gate = Gate::serve(&name, &settings, &policies, &undertaker);
        let url = |path: &str| format!("http://{}/v2/{path}", gate.address());
        assert!(
            web::answers(&format!("http://{}/readyz", gate.admin())),
            "{}",
            gate.log()
        );
        let manifest = web::fetch(&url(&format!("app/manifests/{}", signed.digest())));
        assert_eq!(manifest, signed.manifest);
        assert!(!web::answers(&url(&format!(
            "app/manifests/{}",
            unsigned.digest()
        ))));
        // The built-in root judges as well, and does not know this Sigstore.
        assert!(!web::answers(&url(&format!(
            "public/manifests/{}",
            elsewhere.digest()
        ))));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it waited for something"
        );
        let log = gate.log();
        assert!(
            !log.contains("tuf-repo-cdn"),
            "it asked for a network: {log}"
        );
    }
    // The other commands ask nobody, either.
    let config = undertaker.folder("airgapped-second").join("pullgate.yaml");
    let mut check = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    must(check.args(["check", "--config"]).arg(&config));
    for (package, admitted) in [(&signed, true), (&unsigned, false)] {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        verify
            .arg("verify")
            .arg(format!("{host}/app@{}", package.digest()));
        let judged = run(verify.arg("--config").arg(&config));
        assert_eq!(judged.success, admitted, "{}", judged.said);
    }
}
