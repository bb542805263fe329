//! The command line that the public sigstore-conformance suite calls, on top of pullgate's own
//! `verify` room: what the gate proves of an image, this proves of a file.
//!
//! docs/VERIFICATION.md says how the suite is run. Signing is no business of pullgate's, so of
//! the suite's commands there is `verify-bundle` alone. It exits with 0 when the bundle holds for
//! the file, with 1 when it does not, and with 64 when the command line cannot be read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use clap::{Args, Parser, Subcommand};

use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::trust;
use pullgate::verify::{Demands, Evidence, Fact, Material, PublicKey, RootName, Signer};
use pullgate::verify::{check_key, prove};

/// Verifies Sigstore bundles as the gate does.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verifies a bundle about a file or a digest.
    VerifyBundle(VerifyBundle),
}

#[derive(Args)]
struct VerifyBundle {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// The certificate's name.
    #[arg(long, requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    /// The certificate's issuer.
    #[arg(long, requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// A public key in PEM, instead of a certificate.
    #[arg(long, conflicts_with = "certificate_identity")]
    key: Option<PathBuf>,
    /// A trusted_root.json; otherwise Sigstore's public instance.
    #[arg(long)]
    trusted_root: Option<PathBuf>,
    /// Sigstore's staging instance.
    #[arg(long)]
    staging: bool,
    /// The file, or its digest as `sha256:HEX`.
    artifact: String,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(64);
        }
    };
    let Command::VerifyBundle(verify) = arguments.command;
    match verify.run() {
        Ok(facts) => {
            for fact in facts {
                println!("signed by {}", fact.signer);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl VerifyBundle {
    fn run(&self) -> anyhow::Result<Vec<Fact>> {
        let json = read(&self.bundle)?;
        let evidence = Evidence::Bundle {
            source: Digest::sha256(&json),
            json: json.into(),
        };
        let digest = match self.artifact.starts_with("sha256:") {
            true => self.artifact.parse()?,
            false => Digest::sha256(&read(Path::new(&self.artifact))?),
        };
        let facts = prove(&evidence, &digest, &self.material()?, Clock::system().now());
        let mut facts = facts.map_err(|rejected| anyhow::anyhow!(rejected.why))?;
        // What a policy asks for by default: this signer, and a log that holds the signature.
        facts.retain(|fact| fact.assurance.log.is_some() && self.is_by(&fact.signer));
        if facts.is_empty() {
            bail!("the bundle holds, but is by another signer or in no log");
        }
        Ok(facts)
    }

    fn material(&self) -> anyhow::Result<Material> {
        let name = RootName::from("conformance");
        let root = match &self.trusted_root {
            Some(path) => trust::from_json(name, &String::from_utf8(read(path)?)?)?,
            None if self.staging => trust::built_in(name, trust::BuiltIn::Staging)?,
            None => trust::built_in(name, trust::BuiltIn::PublicGood)?,
        };
        Ok(Material {
            demands: BTreeMap::from([(root.name.clone(), Demands::default())]),
            roots: vec![Arc::clone(&root)],
            keys: self.public_key()?.into_iter().collect(),
            ..Material::default()
        })
    }

    fn is_by(&self, signer: &Signer) -> bool {
        match signer {
            Signer::Key { .. } => self.key.is_some(),
            Signer::Gpg { .. } | Signer::Certified(_) => false,
            Signer::Identity(identity) => {
                self.certificate_identity.as_ref() == Some(&identity.subject)
                    && self.certificate_oidc_issuer.as_ref() == Some(&identity.issuer)
            }
        }
    }

    fn public_key(&self) -> anyhow::Result<Option<PublicKey>> {
        let Some(path) = &self.key else {
            return Ok(None);
        };
        let pem = String::from_utf8(read(path)?)?;
        let base64: String = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let spki = base64::engine::general_purpose::STANDARD.decode(base64.trim())?;
        check_key(&spki).map_err(|why| anyhow::anyhow!("the key cannot be used: {why}"))?;
        Ok(Some(PublicKey::from_spki(&spki)))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}
