//! The manual of policy.json: a row for each scope of its documents. Their key files are the tests'
//! own.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use pullgate::clock::Clock;
use pullgate::sandbox::gpg::{Holder, Life};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::sigstore::{
    CertificateAuthority, Identity, KeyType, Log, Recipe, Signer, signature_tag,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::documents::{Passes, code, files, table};

use super::evidence::Site;
use super::{Answer, Verdicts, admitted, by_evidence, differences, folder, verify};

/// What is to be seen of a scope.
struct Scope {
    /// Its row in the table.
    row: &'static str,
    document: &'static str,
    /// An image within it.
    image: &'static str,
    /// The name under which its vendor signed the image.
    vendor: &'static str,
    verdicts: Verdicts,
}

/// The evidence that is tried in each scope. What a key, a login or a certified name signs without
/// `cosign` before it, it signs for the whole reference, as skopeo does.
const EVIDENCE: &[&str] = &[
    "nobody",
    "key",
    "cosign key",
    "other key",
    "login",
    "cosign login",
    "stranger",
    "certified",
    "certified by half",
    "GPG",
    "vendor's GPG",
    "both GPG",
    "other GPG",
];

const ADMITTED: Verdicts = &[("admitted", EVIDENCE)];
const REJECTED: Verdicts = &[("denied_by_policy", EVIDENCE)];

const NO_LAYER: &[&str] = &["nobody", "GPG", "vendor's GPG", "both GPG", "other GPG"];
const LAYERS: &[&str] = &[
    "key",
    "cosign key",
    "other key",
    "login",
    "cosign login",
    "stranger",
    "certified",
    "certified by half",
];

const SCOPE: Scope = Scope {
    row: "",
    document: "locked-down",
    image: "",
    vendor: "vendor.example.com/app:v1",
    verdicts: &[],
};

const SCOPES: &[Scope] = &[
    Scope {
        row: "default",
        image: "registry.acme.test:5000/elsewhere:v1",
        verdicts: REJECTED,
        ..SCOPE
    },
    Scope {
        row: "docker.io/openshift",
        image: "docker.io/openshift/hello:v1",
        verdicts: ADMITTED,
        ..SCOPE
    },
    Scope {
        row: "docker.io/library/busybox",
        image: "docker.io/library/busybox:v1",
        verdicts: ADMITTED,
        ..SCOPE
    },
    Scope {
        row: "*.temporary-project.example.com",
        image: "one.temporary-project.example.com/app:v1",
        verdicts: ADMITTED,
        ..SCOPE
    },
    Scope {
        row: ".../sigstore-signed-with-full-references",
        image: "registry.acme.test:5000/acme/sigstore-signed-with-full-references:v1",
        verdicts: &[
            ("admitted", &["key"]),
            (
                "untrusted_signer",
                &[
                    "cosign key",
                    "login",
                    "cosign login",
                    "stranger",
                    "certified",
                    "certified by half",
                ],
            ),
            ("invalid_signature", &["other key"]),
            ("unsigned", NO_LAYER),
        ],
        ..SCOPE
    },
    Scope {
        row: ".../sigstore-signed-fulcio-rekor",
        image: "registry.acme.test:5000/acme/sigstore-signed-fulcio-rekor:v1",
        verdicts: &[
            ("admitted", &["login"]),
            (
                "untrusted_signer",
                &[
                    "key",
                    "cosign key",
                    "cosign login",
                    "stranger",
                    "certified",
                    "certified by half",
                ],
            ),
            ("invalid_signature", &["other key"]),
            ("unsigned", NO_LAYER),
        ],
        ..SCOPE
    },
    Scope {
        row: ".../sigstore-signed-byopki",
        image: "registry.acme.test:5000/acme/sigstore-signed-byopki:v1",
        verdicts: &[
            ("admitted", &["certified"]),
            (
                "untrusted_signer",
                &[
                    "key",
                    "cosign key",
                    "login",
                    "cosign login",
                    "stranger",
                    "certified by half",
                ],
            ),
            ("invalid_signature", &["other key"]),
            ("unsigned", NO_LAYER),
        ],
        ..SCOPE
    },
    Scope {
        row: ".../sigstore-signed-allows-malicious-tag-substitution",
        image: "registry.acme.test:5000/acme/sigstore-signed-allows-malicious-tag-substitution:v1",
        verdicts: &[
            ("admitted", &["key", "cosign key"]),
            (
                "untrusted_signer",
                &[
                    "login",
                    "cosign login",
                    "stranger",
                    "certified",
                    "certified by half",
                ],
            ),
            ("invalid_signature", &["other key"]),
            ("unsigned", NO_LAYER),
        ],
        ..SCOPE
    },
    Scope {
        row: ".../sigstore-signed-fulcio-rekor-allows-malicious-tag-substitution",
        image: "registry.acme.test:5000/acme/sigstore-signed-fulcio-rekor-allows-malicious-tag-substitution:v1",
        verdicts: &[
            ("admitted", &["login", "cosign login"]),
            (
                "untrusted_signer",
                &[
                    "key",
                    "cosign key",
                    "stranger",
                    "certified",
                    "certified by half",
                ],
            ),
            ("invalid_signature", &["other key"]),
            ("unsigned", NO_LAYER),
        ],
        ..SCOPE
    },
    Scope {
        row: "dir",
        image: "registry.acme.test:5000/dir/app:v1",
        verdicts: REJECTED,
        ..SCOPE
    },
    Scope {
        row: "atomic",
        image: "registry.acme.test:5000/acme/official:v1",
        verdicts: REJECTED,
        ..SCOPE
    },
    Scope {
        row: ".../acme/official",
        document: "official",
        image: "registry.acme.test:5000/acme/official:v1",
        verdicts: &[
            ("admitted", &["GPG", "both GPG"]),
            ("untrusted_signer", &["vendor's GPG"]),
            ("invalid_signature", LAYERS),
            ("invalid_signature", &["other GPG"]),
            ("unsigned", &["nobody"]),
        ],
        ..SCOPE
    },
    Scope {
        row: ".../vendor/product",
        document: "official",
        image: "registry.acme.test:5000/vendor/product:v1",
        vendor: "vendor.example.com/product/repository:v1",
        verdicts: &[
            ("admitted", &["both GPG"]),
            ("untrusted_signer", &["GPG", "vendor's GPG"]),
            ("invalid_signature", LAYERS),
            ("invalid_signature", &["other GPG"]),
            ("unsigned", &["nobody"]),
        ],
    },
    Scope {
        row: ".../vendor-mirror",
        document: "official",
        image: "mirror.acme.test:5000/vendor-mirror/app:v1",
        vendor: "vendor.example.com/app:v1",
        verdicts: &[
            ("admitted", &["vendor's GPG", "both GPG"]),
            ("untrusted_signer", &["GPG"]),
            ("invalid_signature", LAYERS),
            ("invalid_signature", &["other GPG"]),
            ("unsigned", &["nobody"]),
        ],
    },
    Scope {
        row: "the second document",
        document: "open",
        image: "registry.acme.test:5000/elsewhere:v1",
        verdicts: ADMITTED,
        ..SCOPE
    },
];

/// Whom the documents name, and a store of GPG signatures.
struct Parties {
    site: Site,
    authority: CertificateAuthority,
    packager: Holder,
    other: Holder,
    lookaside: TempDir,
    yesterday: Timestamp,
}

impl Parties {
    async fn new() -> Self {
        let now = Clock::system().now();
        let yesterday = now - SignedDuration::from_hours(24);
        Self {
            site: Site::new(KeyType::P256).await,
            authority: CertificateAuthority::new(1, now),
            packager: Holder::new(Life::from(yesterday)),
            other: Holder::new(Life::from(yesterday)),
            lookaside: TempDir::new().expect("a folder"),
            yesterday,
        }
    }

    /// The certificates or keys of this Sigstore that lie in such a place of its trust root, in PEM.
    fn pem(&self, label: &str, found: impl Fn(&Value) -> Vec<Value>) -> String {
        let root: Value =
            serde_json::from_str(&self.site.sigstore.trusted_root_json()).expect("JSON");
        let found = found(&root);
        let blocks = found.iter().map(|der| {
            let der = der.as_str().expect("Base64");
            assert!(STANDARD.decode(der).is_ok(), "{der}");
            format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n")
        });
        blocks.collect()
    }

    /// What stands in a file that a document names.
    fn file(&self, name: &str) -> Vec<u8> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = match name {
            "keys.asc" => return self.packager.keyring(),
            "ops.pub" => self.site.key.public_key_pem(),
            "roots.pem" => self.authority.chain_pem(),
            "rekor.pub" => self.pem("PUBLIC KEY", |root| {
                let logs = list(&root["tlogs"]).into_iter();
                let first = logs.map(|log| log["publicKey"].clone());
                first
                    .filter(|key| key["keyDetails"] == "PKIX_ECDSA_P256_SHA_256")
                    .map(|key| key["rawBytes"].clone())
                    .take(1)
                    .collect()
            }),
            "fulcio.pem" => self.pem("CERTIFICATE", |root| {
                let authorities = list(&root["certificateAuthorities"]).into_iter();
                let chains = authorities.flat_map(|one| list(&one["certChain"]["certificates"]));
                chains.map(|one| one["rawBytes"].clone()).collect()
            }),
            other => panic!("{other} is not replaced"),
        };
        text.into_bytes()
    }

    /// A folder in which a document is in force.
    fn folder(&self, document: &str) -> TempDir {
        let case = files("23_policy_json_manual.txt");
        let store = format!("file://{}", self.lookaside.path().display());
        let lookaside = format!(", lookaside: {store:?} }}\n");
        let configuration = format!(
            "{}policies: [{{ containers_policy_json: {document}.json }}]\n",
            self.site.upstreams().replace(" }\n", &lookaside)
        );
        let document = format!("{document}.json");
        let mut held = vec![
            ("pullgate.yaml", configuration.into_bytes()),
            (document.as_str(), case[&document].clone().into_bytes()),
        ];
        let names = [
            "ops.pub",
            "rekor.pub",
            "fulcio.pem",
            "roots.pem",
            "keys.asc",
        ];
        held.extend(names.map(|name| (name, self.file(name))));
        folder(&held)
    }

    /// Pushes an image of its own with this evidence, under the scope's name.
    fn give(&self, scope: &Scope, evidence: &str) {
        let (name, tag) = scope.image.rsplit_once(':').expect("a tag");
        let (_, repository) = name.split_once('/').expect("a host");
        let content = format!("{} {}: {evidence}", scope.document, scope.row);
        let package = image::runnable(&content).tagged(tag);
        self.site.registry.put_package(repository, &package);
        let sign = |reference: &str, recipe: &Recipe<'_>| {
            let digest = package.digest();
            let layer = self.site.sigstore.sign_layer(&digest, reference, recipe);
            let tag = signature_tag(&digest, vec![layer]);
            self.site.registry.put_package(repository, &tag);
        };
        let by_key = |key| Recipe::key(key, Log::None);
        let login = Identity::email("release@acme.test", "https://github.com/login/oauth");
        let stranger = Identity::email("mallory@acme.test", "https://github.com/login/oauth");
        let by_login = |login| Recipe::keyless(login, Log::RekorV1);
        let certified = |subject| {
            let authority = &self.authority;
            Recipe::new(Signer::Certified { authority, subject }, Log::None)
        };
        let detach = |by: &[(&Holder, &str)]| self.detach(repository, &package, by);
        match evidence {
            "nobody" => {}
            "key" => sign(scope.image, &by_key(&self.site.key)),
            "cosign key" => sign(name, &by_key(&self.site.key)),
            "other key" => sign(scope.image, &by_key(&self.site.other)),
            "login" => sign(scope.image, &by_login(&login)),
            "cosign login" => sign(name, &by_login(&login)),
            "stranger" => sign(scope.image, &by_login(&stranger)),
            "certified" => sign(
                scope.image,
                &certified("release@acme.test,signer.acme.test"),
            ),
            "certified by half" => sign(scope.image, &certified("release@acme.test")),
            "GPG" => detach(&[(&self.packager, scope.image)]),
            "vendor's GPG" => detach(&[(&self.packager, scope.vendor)]),
            "both GPG" => detach(&[
                (&self.packager, scope.vendor),
                (&self.packager, scope.image),
            ]),
            "other GPG" => detach(&[(&self.other, scope.image), (&self.other, scope.vendor)]),
            other => panic!("{other} is no evidence"),
        }
    }

    /// Puts GPG signatures into the store, each for the reference beside its signer.
    fn detach(&self, repository: &str, package: &Package, by: &[(&Holder, &str)]) {
        let digest = package.digest();
        let name = format!("{repository}@sha256={}", digest.hex());
        let folder = self.lookaside.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for (number, (holder, reference)) in (1..).zip(by) {
            let signature = holder.sign_image(&digest, reference, self.yesterday);
            fs::write(folder.join(format!("signature-{number}")), signature).expect("a file");
        }
    }

    async fn answers(&self, scope: &Scope, folder: &Path) -> BTreeMap<&'static str, Answer> {
        let mut answers = BTreeMap::new();
        for evidence in EVIDENCE {
            self.give(scope, evidence);
            answers.insert(*evidence, verify(folder, scope.image).await);
        }
        answers
    }
}

/// What the table tells of each scope.
fn told() -> BTreeMap<String, Passes> {
    let rows = table("The examples of the manual");
    let mut told = BTreeMap::new();
    for row in &rows {
        let scopes = row[0].split(" (").next().unwrap_or_default();
        let names = match code(scopes) {
            names if names.is_empty() => vec![scopes],
            names => names,
        };
        for name in names {
            let passes =
                Passes::told(&row[2], EVIDENCE).unwrap_or_else(|| panic!("{name} has no verdict"));
            told.insert(name.to_owned(), passes);
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manuals_scopes_give_the_verdicts_that_they_describe() {
    let parties = Parties::new().await;
    let mut told = told();
    let mut different = Vec::new();
    for scope in SCOPES {
        let passes = Passes {
            evidence: admitted(scope.verdicts),
            else_warned: false,
        };
        let told = told.remove(scope.row);
        assert_eq!(told, Some(passes), "docs/FOREIGN.md on {}", scope.row);
        let folder = parties.folder(scope.document);
        let answers = parties.answers(scope, folder.path()).await;
        let expected = by_evidence(scope.verdicts);
        different.extend(differences(scope.row, &expected, false, &answers));
    }
    assert!(told.is_empty(), "without a row: {told:?}");
    assert!(different.is_empty(), "{}", different.join("\n"));
}
