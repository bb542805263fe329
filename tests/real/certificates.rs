//! Client certificates: who comes in by one, and who does not; by curl, and by real clients.

use std::path::PathBuf;

use crate::clients::keep_apart;
use crate::harness::catalogue::OURS;
use crate::harness::cosign::Cosign;
use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::office::Office;
use crate::harness::process::{Undertaker, command, run};
use crate::harness::world;

/// The status that curl gets for the base of the registry; `000` where the TLS handshake
/// fails.
fn status_for(office: &Office<'_>, address: &str, certificate: Option<&str>) -> String {
    let port = address.rsplit_once(':').expect("a port").1;
    let mut curl = command("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(["--cacert", &office.text("own.pem")])
        .args(["--resolve", &format!("gate.acme.test:{port}:127.0.0.1")]);
    if let Some(name) = certificate {
        curl.args(["--cert", &office.text(&format!("{name}.pem"))])
            .args(["--key", &office.text(&format!("{name}.key"))]);
    }
    curl.arg(format!("https://gate.acme.test:{port}/v2/"));
    let said = run(&mut curl).stdout;
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[test]
#[ignore = "needs openssl and curl"]
fn a_client_certificate_is_an_identity_by_its_dns_names() {
    let undertaker = Undertaker::call();
    let folder = undertaker.folder("certificates");
    let office = Office(&folder);
    office.authority("own");
    office.authority("clients");
    office.authority("foreign");
    office.issue("gate", "own", Some("DNS:gate.acme.test"));
    office.issue("node", "clients", Some("DNS:node1.nodes.acme.test"));
    office.issue("gone", "clients", Some("DNS:node2.nodes.acme.test"));
    office.issue("nameless", "clients", None);
    office.issue("wild", "clients", Some("DNS:*.nodes.acme.test"));
    office.issue("stranger", "foreign", Some("DNS:node1.nodes.acme.test"));
    office.revoke("gone", "clients");
    office.list("clients");
    let path = |file: &str| office.text(file);
    let settings = format!(
        r#"listen: 127.0.0.1:0
admin: 127.0.0.1:0
tls: {{ certificate: {}, key: {} }}
callers:
  client_certificates: {{ ca: {}, revocation_list: {} }}
upstreams: {{ registry.acme.test: {{}} }}
policies: [policies.yaml]
"#,
        path("gate.pem"),
        path("gate.key"),
        path("clients.pem"),
        path("revoked.pem"),
    );
    let policies = "policies: [{ name: none, images: [\"**\"], deny: nothing }]\n";
    let gate = Gate::serve("certificates-gate", &settings, policies, &undertaker);
    let status = |certificate| status_for(&office, gate.address(), certificate);
    assert_eq!(status(Some("node")), "200", "{}", gate.log());
    assert_eq!(status(None), "401");
    assert_eq!(status(Some("nameless")), "401");
    assert_eq!(status(Some("wild")), "401");
    assert_eq!(status(Some("stranger")), "000");
    assert_eq!(status(Some("gone")), "000");
    let counted = r#"pullgate_authentications_total{method="certificate",outcome="success"} 1"#;
    assert!(gate.metrics().contains(counted), "{}", gate.metrics());
}

/// The folder that podman and skopeo want: an authority, and a certificate of their own.
fn client_folder(office: &Office<'_>, name: &str) -> PathBuf {
    let folder = office.path(&format!("{name}.d"));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (from, to) in [
        ("own.pem".to_owned(), "ca.crt"),
        (format!("{name}.pem"), "client.cert"),
        (format!("{name}.key"), "client.key"),
    ] {
        std::fs::copy(office.path(&from), folder.join(to)).expect("a file");
    }
    folder
}

/// Pulls by certificate: with skopeo, podman and oras; `Err` is what the client said.
fn pulls(office: &Office<'_>, name: &str, image: &str) -> Vec<(&'static str, Result<(), String>)> {
    let certificates = client_folder(office, name);
    let at = |what: &str| certificates.join(what).display().to_string();
    let policy = office.path("policy.json");
    std::fs::write(
        &policy,
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )
    .expect("a file");
    let mut skopeo = command("skopeo");
    skopeo.arg("--policy").arg(&policy).arg("copy");
    skopeo.args(["--quiet", "--src-cert-dir", &at("")]);
    skopeo.arg(format!("docker://{image}"));
    skopeo.arg(format!("dir:{}", at("copy")));
    let mut podman = command("podman");
    keep_apart(&mut podman, &certificates);
    podman.args(["pull", "--quiet", "--signature-policy"]);
    podman.arg(&policy);
    podman.args(["--cert-dir", &at(""), image]);
    let mut oras = command("oras");
    oras.args(["cp", "--from-ca-file", &at("ca.crt")]);
    oras.args(["--from-cert-file", &at("client.cert")]);
    oras.args(["--from-key-file", &at("client.key"), "--to-oci-layout"]);
    oras.args([image, &at("layout:pulled")]);
    [("skopeo", skopeo), ("podman", podman), ("oras", oras)]
        .into_iter()
        .map(|(client, mut command)| {
            let finished = run(command.env("HOME", &certificates));
            let pulled = finished.success.then_some(()).ok_or(finished.said);
            (client, pulled)
        })
        .collect()
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn clients_pull_by_their_certificates() {
    let world = world();
    let folder = world.undertaker.folder("certs");
    let office = Office(&folder);
    office.authority("own");
    office.authority("clients");
    office.issue("gate", "own", Some("IP:127.0.0.1"));
    office.issue("node", "clients", Some("DNS:node1.nodes.acme.test"));
    office.issue("desk", "clients", Some("DNS:desk.acme.test"));
    let path = |file: &str| office.text(file);
    let host = world.sites[0].front.host();
    let root = world.cosign.trusted_root().display().to_string();
    let settings = before(&host)
        + &format!(
            r#"tls: {{ certificate: {}, key: {} }}
callers:
  client_certificates: {{ ca: {} }}
trust_roots: {{ private: {{ file: {root} }} }}
default_trust_root: private
"#,
            path("gate.pem"),
            path("gate.key"),
            path("clients.pem"),
        );
    let identity = Cosign::identity(OURS);
    let policies = format!(
        r#"signers:
  release-workflow:
    keyless: {{ issuer: github-actions, identity: "{identity}" }}
pullers:
  nodes: {{ certificate: {{ dns_glob: "*.nodes.acme.test" }} }}
policies:
  - name: releases
    images: ["{host}/release/**"]
    signed_by: release-workflow
    pulled_by: nodes
"#
    );
    let gate = Gate::serve("gate-certificates", &settings, &policies, &world.undertaker);
    let image = format!("{}/release/keyless:v1", gate.address());
    for (client, pulled) in pulls(&office, "node", &image) {
        pulled.unwrap_or_else(|said| panic!("{client}: {said}\n{}", gate.log()));
    }
    for (client, pulled) in pulls(&office, "desk", &image) {
        let said = pulled.expect_err(client);
        for part in ["wrong_puller", "certificate for desk.acme.test", "nodes"] {
            assert!(
                said.contains(part),
                "{client} should be told {part}: {said}"
            );
        }
    }
}
