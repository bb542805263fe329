//! Every key and certificate of the private Sigstore, made by openssl in the shapes that the
//! public instance has: P-384 authorities with an intermediate, a P-256 certificate
//! transparency key, an Ed25519 key for Rekor v2, a P-256 key for Rekor v1.

use std::path::Path;
use std::path::PathBuf;

use crate::harness::process::must_run;

/// The password of Fulcio's key file, which may not be without one.
pub(crate) const FULCIO_PASSWORD: &str = "fulcio";

/// The names of the public issuers that the private one stands in for.
pub(crate) const ISSUER_HOST: &str = "token.actions.githubusercontent.com";

/// The folder that holds them.
pub(crate) struct Pki(PathBuf);

impl Pki {
    /// Makes them all.
    pub(crate) fn make(folder: PathBuf) -> Self {
        let pki = Self(folder);
        pki.fulcio();
        pki.timestamp_authority();
        pki.logs();
        pki.issuer();
        pki
    }

    /// Where one of the files is.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// `path` as text, for command lines.
    pub(crate) fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// The content of one of the files.
    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).expect("a file made before")
    }

    fn fulcio(&self) {
        self.key("fulcio-root", "EC", "ec_paramgen_curve:P-384");
        self.root("fulcio-root", "pathlen:1");
        self.key("fulcio", "EC", "ec_paramgen_curve:P-384");
        self.issue(
            "fulcio",
            "fulcio-root",
            "basicConstraints=critical,CA:TRUE,pathlen:0\n\
             keyUsage=critical,keyCertSign,cRLSign\n\
             extendedKeyUsage=codeSigning\n",
        );
        self.join(&["fulcio.pem", "fulcio-root.pem"], "fulcio-chain.pem");
        let encrypted = self.text("fulcio.encrypted.key");
        let (key, password) = (self.text("fulcio.key"), format!("pass:{FULCIO_PASSWORD}"));
        must_run(
            "openssl",
            [
                "pkcs8",
                "-topk8",
                "-v2",
                "aes-256-cbc",
                "-in",
                &key,
                "-out",
                &encrypted,
                "-passout",
                &password,
            ],
        );
    }

    fn timestamp_authority(&self) {
        self.key("tsa-root", "EC", "ec_paramgen_curve:P-384");
        self.root("tsa-root", "pathlen:0");
        self.key("tsa", "EC", "ec_paramgen_curve:P-384");
        self.issue(
            "tsa",
            "tsa-root",
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n",
        );
        self.join(&["tsa.pem", "tsa-root.pem"], "tsa-chain.pem");
    }

    fn logs(&self) {
        self.key("ct", "EC", "ec_paramgen_curve:P-256");
        self.key("rekor-v1", "EC", "ec_paramgen_curve:P-256");
        self.key("rekor-v2", "ED25519", "");
        for log in ["ct", "rekor-v1", "rekor-v2"] {
            let (key, public) = (
                self.text(&format!("{log}.key")),
                self.text(&format!("{log}.pub")),
            );
            must_run("openssl", ["pkey", "-in", &key, "-pubout", "-out", &public]);
        }
    }

    fn issuer(&self) {
        self.key("issuer", "RSA", "rsa_keygen_bits:2048");
        self.key("tls-root", "EC", "ec_paramgen_curve:P-256");
        self.root("tls-root", "pathlen:0");
        self.key("tls", "EC", "ec_paramgen_curve:P-256");
        let names = format!("extendedKeyUsage=serverAuth\nsubjectAltName=DNS:{ISSUER_HOST}\n");
        self.issue("tls", "tls-root", &names);
    }

    /// A private key in PKCS#8, `<name>.key`.
    fn key(&self, name: &str, algorithm: &str, option: &str) {
        let path = self.text(&format!("{name}.key"));
        let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", &path];
        if !option.is_empty() {
            arguments.extend(["-pkeyopt", option]);
        }
        must_run("openssl", arguments);
    }

    /// A certificate that signs itself, `<name>.pem`.
    fn root(&self, name: &str, path_length: &str) {
        let (key, certificate) = (
            self.text(&format!("{name}.key")),
            self.text(&format!("{name}.pem")),
        );
        let subject = format!("/O=pullgate.test/CN={name}");
        let constraints = format!("basicConstraints=critical,CA:TRUE,{path_length}");
        must_run(
            "openssl",
            [
                "req",
                "-x509",
                "-new",
                "-key",
                &key,
                "-out",
                &certificate,
                "-days",
                "30",
                "-sha384",
                "-subj",
                &subject,
                "-addext",
                &constraints,
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ],
        );
    }

    /// A certificate with these extensions, `<name>.pem`, signed by `authority`.
    fn issue(&self, name: &str, authority: &str, extensions: &str) {
        let file = |suffix: &str| self.text(&format!("{name}.{suffix}"));
        let (key, request, certificate) = (file("key"), file("csr"), file("pem"));
        let subject = format!("/O=pullgate.test/CN={name}");
        must_run(
            "openssl",
            [
                "req", "-new", "-key", &key, "-out", &request, "-subj", &subject,
            ],
        );
        let extension_file = self.path(&format!("{name}.ext"));
        let identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        write(
            &extension_file,
            format!("{extensions}{identifiers}").as_bytes(),
        );
        let (authority_key, authority) = (
            self.text(&format!("{authority}.key")),
            self.text(&format!("{authority}.pem")),
        );
        must_run(
            "openssl",
            [
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &authority,
                "-CAkey",
                &authority_key,
                "-CAcreateserial",
                "-out",
                &certificate,
                "-days",
                "30",
                "-sha384",
                "-extfile",
                &extension_file.display().to_string(),
            ],
        );
    }

    fn join(&self, parts: &[&str], into: &str) {
        let whole: Vec<u8> = parts.iter().flat_map(|part| self.read(part)).collect();
        write(&self.path(into), &whole);
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("a file of our own");
}
