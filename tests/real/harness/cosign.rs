//! The real cosign, pointed at the private Sigstore.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::catalogue::OURS;
use crate::harness::issuer::Issuer;
use crate::harness::pki::ISSUER_HOST;
use crate::harness::process::Finished;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::process::run;
use crate::harness::sigstore::Sigstore;

/// How an image is signed: by the workflow of a repository, or by the named key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// Not at all.
    None,
    /// A bundle with a certificate, an entry in Rekor v2 and a timestamp.
    Keyless(&'static str),
    /// A bundle with a certificate and an entry in Rekor v1.
    KeylessRekorV1(&'static str),
    /// A bundle by key with an entry in Rekor v2 and a timestamp.
    Key(&'static str),
    /// A `.sig` layer with a certificate and an entry in Rekor v1.
    OldKeyless(&'static str),
    /// A `.sig` layer by key with an entry in Rekor v1.
    OldKey(&'static str),
    /// A `.sig` layer by key that is in no log.
    OldKeyUnlogged(&'static str),
}

impl Signing {
    /// Whether the signature is a bundle that refers to the image, and no `.sig` layer.
    pub(crate) fn is_bundle(self) -> bool {
        matches!(
            self,
            Self::Keyless(_) | Self::KeylessRekorV1(_) | Self::Key(_)
        )
    }
}

/// The signing tool with what it needs to know.
pub(crate) struct Cosign {
    issuer: Issuer,
    fulcio: String,
    rekor_v1: String,
    trusted_root: PathBuf,
    signing_config: PathBuf,
    signing_config_v1: PathBuf,
    home: PathBuf,
}

impl Cosign {
    /// Makes the key pairs `ops` and `other`.
    pub(crate) fn new(sigstore: &Sigstore, undertaker: &Undertaker) -> Self {
        let cosign = Self {
            issuer: sigstore.issuer.clone(),
            fulcio: sigstore.fulcio.clone(),
            rekor_v1: sigstore.rekor_v1.clone(),
            trusted_root: sigstore.trusted_root.clone(),
            signing_config: sigstore.signing_config.clone(),
            signing_config_v1: sigstore.signing_config_v1.clone(),
            home: undertaker.folder("cosign"),
        };
        for name in ["ops", "other"] {
            let prefix = ["--output-key-prefix", name];
            must(cosign.command("generate-key-pair").args(prefix));
        }
        cosign
    }

    /// The trusted root that signatures made here verify under.
    pub(crate) fn trusted_root(&self) -> &Path {
        &self.trusted_root
    }

    /// The public half of a key.
    pub(crate) fn public_key(&self, name: &str) -> PathBuf {
        self.home.join(format!("{name}.pub"))
    }

    /// The identity that the release workflow of a repository has in its certificates.
    pub(crate) fn identity(repository: &str) -> String {
        format!("https://github.com/{repository}/.github/workflows/release.yml@refs/heads/main")
    }

    /// Signs the image of that name and digest.
    pub(crate) fn sign(&self, signing: Signing, image: &str) {
        let mut command = self.command("sign");
        command.args(["-y", "--allow-http-registry"]);
        match signing {
            Signing::None => return,
            Signing::Keyless(repository) => {
                self.bundle(&mut command, &self.signing_config);
                self.token(&mut command, repository);
            }
            Signing::KeylessRekorV1(repository) => {
                self.bundle(&mut command, &self.signing_config_v1);
                self.token(&mut command, repository);
            }
            Signing::Key(name) => {
                self.bundle(&mut command, &self.signing_config);
                self.key(&mut command, name);
            }
            Signing::OldKeyless(repository) => {
                self.old_format(&mut command);
                self.token(&mut command, repository);
            }
            Signing::OldKey(name) => {
                self.old_format(&mut command);
                self.key(&mut command, name);
            }
            Signing::OldKeyUnlogged(name) => {
                command.args(["--new-bundle-format=false", "--use-signing-config=false"]);
                command.arg("--tlog-upload=false");
                self.key(&mut command, name);
            }
        }
        must(command.arg(image));
    }

    /// Lets cosign itself judge an image as its users would.
    pub(crate) fn verify(&self, signing: Signing, image: &str) -> Finished {
        let mut command = self.command("verify");
        command.arg("--allow-http-registry").arg("--trusted-root");
        command.arg(&self.trusted_root);
        match signing {
            Signing::Key(name) | Signing::OldKey(name) => {
                command.arg("--key").arg(self.public_key(name));
            }
            Signing::OldKeyUnlogged(name) => {
                command.arg("--key").arg(self.public_key(name));
                command.arg("--insecure-ignore-tlog=true");
            }
            _ => {
                command.args(["--certificate-identity", &Self::identity(OURS)]);
                let issuer = format!("https://{ISSUER_HOST}");
                command.args(["--certificate-oidc-issuer", &issuer]);
            }
        }
        run(command.arg(image))
    }

    fn bundle(&self, command: &mut Command, signing_config: &Path) {
        command.arg("--signing-config").arg(signing_config);
        command.arg("--trusted-root").arg(&self.trusted_root);
    }

    fn old_format(&self, command: &mut Command) {
        command.args(["--new-bundle-format=false", "--use-signing-config=false"]);
        command.args(["--fulcio-url", &self.fulcio, "--rekor-url", &self.rekor_v1]);
        command.arg("--trusted-root").arg(&self.trusted_root);
    }

    fn token(&self, command: &mut Command, repository: &str) {
        command.args(["--identity-token", &self.issuer.token(repository)]);
    }

    fn key(&self, command: &mut Command, name: &str) {
        command
            .arg("--key")
            .arg(self.home.join(format!("{name}.key")));
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = command("cosign");
        command
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("COSIGN_PASSWORD", "")
            .arg(subcommand);
        command
    }
}
