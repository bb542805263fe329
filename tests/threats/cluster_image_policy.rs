//! Documents of policy-controller through the whole program: what `pullgate verify` and
//! `pullgate check` make of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pullgate::clock::Clock;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Sigstore, signature_tag};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::push;

fn pullgate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pullgate"))
        .current_dir(folder)
        .args(arguments)
        .args(["--config", "pullgate.yaml"])
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A registry with an image that `key` signed in another repository and one that nobody did, and
/// a folder with a policy that asks for it.
struct Site {
    registry: Registry,
    folder: TempDir,
    signed: Package,
    unsigned: Package,
}

impl Site {
    async fn new(mode: &str) -> Self {
        let registry = Registry::start().await.expect("a port");
        let key = KeyPair::generate();
        let sigstore = Sigstore::new(Clock::system().now());
        let (signed, unsigned) = (image::runnable("signed"), image::runnable("unsigned"));
        push(&registry, "app", &signed);
        push(&registry, "app", &unsigned);
        let recipe = Recipe::key(&key, Log::None);
        let layer = sigstore.sign_layer(&signed.digest(), "app", &recipe);
        push(
            &registry,
            "signatures",
            &signature_tag(&signed.digest(), vec![layer]),
        );
        let address = registry.address();
        let key = key.public_key_pem().replace('\n', "\n          ");
        let policy = format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{ name: \
             there }}\nspec:\n  mode: {mode}\n  images: [{{ glob: '{address}/**' }}]\n  \
             authorities:\n    - key:\n        data: |\n          {key}\n      source: [{{ oci: \
             '{address}/signatures' }}]\n"
        );
        let configuration = format!(
            "upstreams: {{ '{address}': {{ url: 'http://{address}' }} }}\npolicies: [policy.yaml]\n"
        );
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("policy.yaml"), policy).expect("a file");
        fs::write(folder.path().join("pullgate.yaml"), configuration).expect("a file");
        Self {
            registry,
            folder,
            signed,
            unsigned,
        }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let folder = self.folder.path().to_owned();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let ran = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            pullgate(&folder, &arguments)
        });
        ran.await.expect("ran")
    }

    async fn verify(&self, package: &Package, more: &[&str]) -> Output {
        let image = format!("{}/app@{}", self.registry.address(), package.digest());
        self.run(&[&["verify", image.as_str()], more].concat())
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_policy_in_warn_mode_admits_and_warns() {
    let site = Site::new("warn").await;
    let output = site.verify(&site.unsigned, &[]).await;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("verdict: admitted"), "{said}");
    assert!(
        said.contains("\nwarning: ") && said.contains("unsigned"),
        "{said}"
    );
    let output = site.verify(&site.unsigned, &["--output", "json"]).await;
    assert_eq!(output.status.code(), Some(0));
    let record: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(record["verdict"], "admitted");
    let warnings = record["warnings"].as_array().expect("warnings");
    assert_eq!(warnings.len(), 1, "{record}");
    // Without a reason there is no warning.
    let said = text(&site.verify(&site.signed, &[]).await);
    assert!(
        said.contains("verdict: admitted") && !said.contains("warning"),
        "{said}"
    );
}

// What is printed in pullgate's own language judges as the document did.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_policy_is_printed_and_judges_the_same() {
    let site = Site::new("enforce").await;
    let native = site.run(&["check", "--print", "native"]).await;
    assert_eq!(native.status.code(), Some(0));
    for policies in [None, Some(text(&native))] {
        if let Some(policies) = policies {
            assert!(!policies.contains("kind:"), "{policies}");
            fs::write(site.folder.path().join("policy.yaml"), policies).expect("a file");
        }
        let output = site.verify(&site.signed, &[]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(text(&output).contains("/signatures)"), "{}", text(&output));
        let output = site.verify(&site.unsigned, &[]).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    }
}
