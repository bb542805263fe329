//! The pieces of evidence that images come with, by the names that docs/FOREIGN.md has for them.

use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{
    Fault, Identity, KeyPair, KeyType, Log, Recipe, Sigstore, attestation_tag, signature_tag,
};
use serde_json::Value;

use super::rows::{By, Document};

/// Every host that a document names. All are one registry.
const HOSTS: [&str; 7] = [
    "ghcr.io",
    "docker.io",
    "registry.acme.test",
    "registry.local:5000",
    "registry.acme.test:5000",
    "mirror.acme.test:5000",
    "one.temporary-project.example.com",
];
/// Where documents look for signatures elsewhere.
const ELSEWHERE: [&str; 2] = ["acme/signatures", "signatures"];

/// A registry, a Sigstore, and the key that stands in the document.
pub(super) struct Site {
    pub(super) registry: Registry,
    pub(super) sigstore: Sigstore,
    pub(super) key: KeyPair,
    pub(super) other: KeyPair,
}

impl Site {
    pub(super) async fn new(key: KeyType) -> Self {
        // A minute ago: the verifier family refuses log entries from the future.
        let time = Clock::system().now() - SignedDuration::from_secs(60);
        Self {
            registry: Registry::start().await.expect("a port"),
            sigstore: Sigstore::new(time),
            key: KeyPair::of(key),
            other: KeyPair::of(key),
        }
    }

    /// `upstreams` of a configuration.
    pub(super) fn upstreams(&self) -> String {
        let url = self.registry.url();
        let hosts = HOSTS.map(|host| format!("  {host:?}: {{ url: {url:?} }}\n"));
        format!("upstreams:\n{}", hosts.concat())
    }

    /// Pushes an image of its own with this evidence; by which name it is asked for.
    pub(super) fn image_with(&self, document: &Document, evidence: &str) -> String {
        let image = document.image_for(evidence);
        let (name, tag) = image.split_once([':', '@']).unwrap_or((image, ""));
        let (_, repository) = name.split_once('/').expect("a host");
        let package = image::runnable(&format!("{}: {evidence}", document.name));
        self.registry.put_package(repository, &package);
        self.give(document, evidence, name, &package);
        if tag.is_empty() {
            return format!("{name}@{}", package.digest());
        }
        self.registry.tag(repository, tag, package.digest());
        image.to_owned()
    }

    fn give(&self, document: &Document, evidence: &str, name: &str, package: &Package) {
        let identity = |(issuer, subject)| Identity {
            subject: String::from(subject),
            ..Identity::email("", issuer)
        };
        let (login, stranger) = (identity(document.login), identity(document.stranger));
        let key = |key, log| Recipe::key(key, log);
        let (_, repository) = name.split_once('/').expect("a host");
        let sign = |recipe: &Recipe<'_>, repositories: &[&str]| {
            let layer = self.sigstore.sign_layer(&package.digest(), name, recipe);
            let tag = signature_tag(&package.digest(), vec![layer]);
            for repository in repositories {
                self.registry.put_package(repository, &tag);
            }
        };
        let by = match document.attests.by {
            By::Key => key(&self.key, document.attests.log),
            By::Login => Recipe::keyless(&login, document.attests.log),
        };
        let attest = |by: &Recipe<'_>, says: &str, in_bundle: bool| {
            let predicate: Value = serde_json::from_str(says).expect("JSON");
            let kind = document.attests.kind;
            let statement = self
                .sigstore
                .attestation(&package.digest(), kind, &predicate, by);
            let artifact = match in_bundle {
                true => statement.artifact(&package.descriptor()),
                false => attestation_tag(&package.digest(), vec![statement.layer()]),
            };
            self.registry.put_package(repository, &artifact);
        };
        let keyless = |identity| Recipe::keyless(identity, Log::RekorV1);
        let says = document.attests.says;
        let here = &[repository];
        match evidence {
            "nobody" | "skipped" => {}
            "key" => sign(&key(&self.key, Log::RekorV1), here),
            "unlogged key" => sign(&key(&self.key, Log::None), here),
            "timestamped key" => sign(&key(&self.key, Log::None).timestamped(), here),
            "key elsewhere" => sign(&key(&self.key, Log::RekorV1), &ELSEWHERE),
            "other key" => sign(&key(&self.other, Log::RekorV1), here),
            "login" => sign(&keyless(&login), here),
            "login without SCT" => sign(&keyless(&login).with(Fault::NoSct), here),
            "login elsewhere" => sign(&keyless(&login), &ELSEWHERE),
            "stranger" => sign(&keyless(&stranger), here),
            "attested" => attest(&by, says, false),
            "attested in a bundle" => attest(&by, says, true),
            "attested otherwise" => attest(&by, document.attests.otherwise, true),
            "attested by a stranger" => attest(&keyless(&stranger), says, true),
            other => panic!("{other} is no evidence"),
        }
    }
}
