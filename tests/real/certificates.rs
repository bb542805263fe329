//! Client certificates: who comes in by one, and who does not; by curl, and by real clients.

use std::path::{Path, PathBuf};

use crate::clients::keep_apart;
use crate::harness::catalogue::OURS;
use crate::harness::cosign::Cosign;
use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::process::{Undertaker, command, must, must_run, run};
use crate::harness::world;

/// A folder of keys and certificates.
struct Office<'a>(&'a Path);

impl Office<'_> {
    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// A new key, and for it what `openssl req` makes.
    fn request(&self, name: &str, subject: &str, out: &str, more: &[&str]) {
        let mut openssl = command("openssl");
        openssl.args([
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]);
        openssl.args(["-nodes", "-keyout", &self.text(&format!("{name}.key"))]);
        must(openssl.args(["-out", out, "-subj", subject]).args(more));
    }

    /// An authority that signs itself, with the database that openssl wants for revoking.
    fn authority(&self, name: &str) {
        let out = self.text(&format!("{name}.pem"));
        let subject = format!("/CN={name}");
        self.request(name, &subject, &out, &["-x509", "-days", "30"]);
        std::fs::write(self.path(&format!("{name}.db")), "").expect("a file");
        // With a number openssl writes lists of version 2, the only ones that are read.
        std::fs::write(self.path(&format!("{name}.number")), "01\n").expect("a file");
        let settings = format!(
            "[ca]\ndefault_ca=it\n[it]\ndatabase={}\ncrlnumber={}\ndefault_md=sha256\n\
             certificate={}\nprivate_key={}\n",
            self.text(&format!("{name}.db")),
            self.text(&format!("{name}.number")),
            self.text(&format!("{name}.pem")),
            self.text(&format!("{name}.key")),
        );
        std::fs::write(self.path(&format!("{name}.cnf")), settings).expect("a file");
    }

    /// A certificate with these names, as `subjectAltName` has them; only a common name without.
    fn issue(&self, name: &str, authority: &str, names: Option<&str>) {
        let file = |suffix: &str| self.text(&format!("{name}.{suffix}"));
        self.request(name, "/CN=node1.nodes.acme.test", &file("csr"), &[]);
        let names = names.map_or(String::new(), |names| format!("subjectAltName={names}\n"));
        // Without any extension openssl writes a certificate of version 1, which is refused.
        let extensions = format!("basicConstraints=CA:FALSE\n{names}");
        std::fs::write(self.path(&format!("{name}.ext")), extensions).expect("a file");
        must_run(
            "openssl",
            [
                "x509",
                "-req",
                "-in",
                &file("csr"),
                "-CA",
                &self.text(&format!("{authority}.pem")),
                "-CAkey",
                &self.text(&format!("{authority}.key")),
                "-CAcreateserial",
                "-out",
                &file("pem"),
                "-days",
                "30",
                "-extfile",
                &file("ext"),
            ],
        );
    }

    fn revoke(&self, name: &str, authority: &str) {
        let (settings, certificate) = (
            self.text(&format!("{authority}.cnf")),
            self.text(&format!("{name}.pem")),
        );
        must_run(
            "openssl",
            ["ca", "-config", &settings, "-revoke", &certificate],
        );
    }

    fn list(&self, authority: &str) {
        must_run(
            "openssl",
            [
                "ca",
                "-config",
                &self.text(&format!("{authority}.cnf")),
                "-gencrl",
                "-crldays",
                "7",
                "-out",
                &self.text("revoked.pem"),
            ],
        );
    }

    /// The status that curl gets for the base of the registry; `000` where the TLS handshake
    /// fails.
    fn status(&self, address: &str, certificate: Option<&str>) -> String {
        let port = address.rsplit_once(':').expect("a port").1;
        let mut curl = command("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["--cacert", &self.text("own.pem")])
            .args(["--resolve", &format!("gate.acme.test:{port}:127.0.0.1")]);
        if let Some(name) = certificate {
            curl.args(["--cert", &self.text(&format!("{name}.pem"))])
                .args(["--key", &self.text(&format!("{name}.key"))]);
        }
        curl.arg(format!("https://gate.acme.test:{port}/v2/"));
        let said = run(&mut curl).stdout;
        String::from_utf8_lossy(&said).trim().to_owned()
    }
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
    let status = |certificate| office.status(gate.address(), certificate);
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
