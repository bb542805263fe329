//! Client certificates, by openssl and curl: who comes in by one, and who does not.

use std::path::{Path, PathBuf};

use crate::harness::gate::Gate;
use crate::harness::process::{Undertaker, command, must_run, run};

/// A folder of keys and certificates.
struct Office<'a>(&'a Path);

impl Office<'_> {
    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// An authority that signs itself, with the database that openssl wants for revoking.
    fn authority(&self, name: &str) {
        must_run(
            "openssl",
            [
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &self.text(&format!("{name}.key")),
                "-out",
                &self.text(&format!("{name}.pem")),
                "-days",
                "30",
                "-subj",
                &format!("/CN={name}"),
            ],
        );
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
        must_run(
            "openssl",
            [
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &file("key"),
                "-out",
                &file("csr"),
                "-subj",
                "/CN=node1.nodes.acme.test",
            ],
        );
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
