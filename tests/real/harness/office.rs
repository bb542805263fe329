//! Certificates for servers and clients, made by openssl.

use std::path::Path;
use std::path::PathBuf;

use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::process::must_run;

/// A folder of keys and certificates.
pub(crate) struct Office<'a>(pub(crate) &'a Path);

impl Office<'_> {
    /// Where one of its files is.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The same as text, for command lines and settings.
    pub(crate) fn text(&self, file: &str) -> String {
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
    pub(crate) fn authority(&self, name: &str) {
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
    pub(crate) fn issue(&self, name: &str, authority: &str, names: Option<&str>) {
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

    /// Takes a certificate back.
    pub(crate) fn revoke(&self, name: &str, authority: &str) {
        let (settings, certificate) = (
            self.text(&format!("{authority}.cnf")),
            self.text(&format!("{name}.pem")),
        );
        must_run(
            "openssl",
            ["ca", "-config", &settings, "-revoke", &certificate],
        );
    }

    /// Writes `revoked.pem`, the list of what an authority has taken back.
    pub(crate) fn list(&self, authority: &str) {
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
}
