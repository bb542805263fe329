//! GPG signatures, made by real skopeo with keys of real gpg, into a lookaside store that the gate
//! reads.
//!
//! This has a registry and gates of its own, without Sigstore.

use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::process::run;
use crate::harness::registry::Registry;

/// What to sign with, where to, and who checks it.
struct Site {
    folder: PathBuf,
    host: String,
    _registry: Registry,
    _undertaker: Undertaker,
}

impl Site {
    fn start() -> Self {
        let undertaker = Undertaker::call();
        let registry = Registry::distribution(&undertaker);
        let folder = undertaker.folder("gpg");
        let host = registry.address().to_string();
        let site = Self {
            folder,
            host,
            _registry: registry,
            _undertaker: undertaker,
        };
        let store = site.folder.join("store");
        std::fs::create_dir_all(site.folder.join("registries.d")).expect("a folder");
        std::fs::create_dir_all(&store).expect("a folder");
        let lookaside = format!("file://{}", store.display());
        // Debian's skopeo knows the older name, too.
        let text =
            format!("default-docker:\n  sigstore: {lookaside}\n  sigstore-staging: {lookaside}\n");
        std::fs::write(site.folder.join("registries.d/default.yaml"), text).expect("a file");
        std::fs::write(
            site.folder.join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .expect("a file");
        site
    }

    /// A program with this home of keys.
    fn command(&self, program: &str, home: &str) -> Command {
        let home = self.folder.join(home);
        if !home.exists() {
            std::fs::create_dir_all(&home).expect("a folder");
            must(command("chmod").arg("700").arg(&home));
        }
        let mut command = command(program);
        command.env("GNUPGHOME", home).env("HOME", &self.folder);
        command
    }

    /// A key of its own in a home of its own, and its fingerprint.
    fn key(&self, home: &str, kind: &str, ends: &str) -> String {
        let name = format!("{home}@acme.test");
        let unlocked = ["--batch", "--pinentry-mode", "loopback", "--passphrase", ""];
        let mut gpg = self.command("gpg", home);
        must(
            gpg.args(unlocked)
                .args(["--quick-gen-key", &name, kind, "sign", ends]),
        );
        let mut gpg = self.command("gpg", home);
        let listed = must(gpg.args(["--batch", "--with-colons", "--list-keys", &name]));
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:"));
        let fingerprint = fingerprint.expect("a fingerprint").replace(':', "");
        self.export(home);
        fingerprint
    }

    fn export(&self, home: &str) {
        let keyring = self
            .command("gpg", home)
            .args(["--export", "--armor"])
            .output();
        let path = self.folder.join(format!("{home}.asc"));
        std::fs::write(path, keyring.expect("gpg").stdout).expect("a file");
    }

    /// Copies `source` to `repository:tag` of the registry, signed where there is a key.
    fn push(&self, source: &Path, name: &str, signed: Option<(&str, &str)>) {
        let home = signed.map_or("nobody", |(home, _)| home);
        let mut skopeo = self.command("skopeo", home);
        skopeo
            .arg("--policy")
            .arg(self.folder.join("policy.json"))
            .arg("--registries.d")
            .arg(self.folder.join("registries.d"))
            .args(["copy", "--quiet", "--dest-tls-verify=false"]);
        if let Some((_, fingerprint)) = signed {
            skopeo.args(["--sign-by", fingerprint]);
        }
        must(
            skopeo
                .arg(format!("dir:{}", source.display()))
                .arg(format!("docker://{}/{name}", self.host)),
        );
    }

    /// An image in a folder, as skopeo writes one.
    fn image(&self, content: &str) -> PathBuf {
        let folder = self.folder.join(format!("image-{content}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["CONTENT={content}"]}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let hex = crate::harness::image::sha256(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{hex}","size":{}}},"layers":[]}}"#,
            config.len()
        );
        for (file, text) in [
            (hex.as_str(), config.as_str()),
            ("manifest.json", &manifest),
            ("version", "Directory Transport Version: 1.1\n"),
        ] {
            std::fs::write(folder.join(file), text).expect("a file");
        }
        folder
    }

    /// What `pullgate verify` says of an image, where keys of this home sign.
    fn verdict(&self, home: &str, rule: &str, name: &str) -> (bool, String) {
        let Self { folder, host, .. } = self;
        let mut text = String::new();
        writeln!(text, "upstreams:\n  \"{host}\":").expect("a String");
        writeln!(text, "    url: http://{host}").expect("a String");
        writeln!(text, "    lookaside: file://{}/store", folder.display()).expect("a String");
        writeln!(text, "policies: [policy.yaml]").expect("a String");
        std::fs::write(folder.join("pullgate.yaml"), text).expect("a file");
        let policy = format!(
            "signers:\n  ada: {{ gpg: {{ file: {home}.asc }}, signed_identity: {rule} }}\n\
             policies:\n  - {{ name: p, images: [\"{host}/**\"], signed_by: ada }}\n"
        );
        std::fs::write(folder.join("policy.yaml"), policy).expect("a file");
        let finished = run(Command::new(env!("CARGO_BIN_EXE_pullgate"))
            .args(["verify", &format!("{host}/{name}"), "--config"])
            .arg(folder.join("pullgate.yaml")));
        (finished.success, finished.said)
    }
}

const EXACT: &str = "match_repo_digest_or_exact";

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn what_skopeo_signs_with_gpg_passes_and_nothing_else_does() {
    let site = Site::start();
    let image = site.image("one");
    let ada = site.key("ada", "ed25519", "never");
    site.push(&image, "app:v1", Some(("ada", &ada)));
    let admitted = |rule: &str, name: &str| {
        let (passes, said) = site.verdict("ada", rule, name);
        assert!(passes, "{said}");
    };
    let refused = |home: &str, rule: &str, name: &str, because: &str| {
        let (passes, said) = site.verdict(home, rule, name);
        assert!(!passes && said.contains(because), "{said}");
    };
    admitted(EXACT, "app:v1");
    admitted("match_exact", "app:v1");

    // Another reference of the same content, which the signature lies beside as well.
    site.push(&image, "app:v2", None);
    refused("ada", EXACT, "app:v2", "made for");
    admitted("match_repository", "app:v2");

    // Unsigned content, another repository, another key.
    site.push(&site.image("two"), "app:v3", None);
    refused("ada", EXACT, "app:v3", "unsigned");
    site.push(&image, "other:v1", None);
    refused("ada", EXACT, "other:v1", "unsigned");
    site.key("mallory", "ed25519", "never");
    refused("mallory", EXACT, "app:v1", &ada);

    // RSA, and with it the other way in which gpg writes signatures.
    let rita = site.key("rita", "rsa3072", "never");
    site.push(&site.image("three"), "rsa:v1", Some(("rita", &rita)));
    let (passes, said) = site.verdict("rita", EXACT, "rsa:v1");
    assert!(passes, "{said}");

    // A key whose time is over, as its holder says later; a key that is revoked.
    let stale = site
        .folder
        .join("ada/openpgp-revocs.d")
        .join(format!("{ada}.rev"));
    let certificate = std::fs::read_to_string(stale).expect("gpg's revocation certificate");
    // gpg keeps it from being imported by accident with a colon.
    let certificate = certificate.replace(":-----BEGIN", "-----BEGIN");
    let keys = std::fs::read_to_string(site.folder.join("ada.asc")).expect("the keyring");
    let revoked = format!("{keys}\n{certificate}");
    std::fs::write(site.folder.join("revoked.asc"), revoked).expect("a file");
    refused("revoked", EXACT, "app:v1", "is revoked");
    let brief = site.key("brief", "ed25519", "seconds=20");
    site.push(&site.image("four"), "brief:v1", Some(("brief", &brief)));
    let expires = || !site.verdict("brief", EXACT, "brief:v1").0;
    assert!(
        crate::harness::process::wait_until(expires),
        "the key expires"
    );
    refused("brief", EXACT, "brief:v1", "expired");

    // Another digest, and a tampered payload: somebody else's signature in the store.
    let store = site.folder.join("store");
    let signatures = |name: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&store).expect("the store");
        entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains(&format!("/{name}@")))
            .map(|path| path.join("signature-1"))
            .collect()
    };
    let of_app = signatures("app").remove(0);
    site.push(&site.image("five"), "rsa:v2", None);
    let message = std::fs::read(&of_app).expect("a signature");
    let of_rsa = signatures("rsa").remove(0);
    std::fs::write(&of_rsa, &message).expect("a file");
    let (passes, said) = site.verdict("ada", EXACT, "rsa:v1");
    assert!(!passes && said.contains("another digest"), "{said}");
    let mut tampered = message;
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    std::fs::write(&of_app, &tampered).expect("a file");
    refused("ada", EXACT, "app:v1", "invalid_signature");
}
