//! A row for each document that loads: the image that it is for, whom it names, and what it says of
//! each piece of evidence.

use pullgate::sandbox::sigstore::{KeyType, Log};

use super::Verdicts;

/// See the module's description.
pub(super) struct Document {
    pub(super) name: &'static str,
    /// As it is asked for: with a tag, or without for the digest.
    pub(super) image: &'static str,
    /// An image that it skips.
    pub(super) skips: Option<&'static str>,
    /// Issuer and subject of the login that it names.
    pub(super) login: (&'static str, &'static str),
    /// Issuer and subject of another one.
    pub(super) stranger: (&'static str, &'static str),
    /// What its key is.
    pub(super) key: KeyType,
    pub(super) attests: Attests,
    /// Whether all that is refused passes with a warning.
    pub(super) warns: bool,
    pub(super) verdicts: Verdicts,
}

/// The attestation that it asks for.
pub(super) struct Attests {
    pub(super) by: By,
    pub(super) log: Log,
    pub(super) kind: &'static str,
    /// What has to be said.
    pub(super) says: &'static str,
    /// What must not.
    pub(super) otherwise: &'static str,
}

pub(super) enum By {
    Key,
    Login,
}

/// The evidence that each document of policy-controller's is tried with.
pub(super) const SIGNATURES: &[&str] = &[
    "nobody",
    "key",
    "unlogged key",
    "timestamped key",
    "other key",
    "login",
    "login without SCT",
    "login elsewhere",
    "stranger",
];
/// The evidence that each of Kyverno's is tried with.
pub(super) const ATTESTATIONS: &[&str] = &[
    "nobody",
    "key",
    "unlogged key",
    "key elsewhere",
    "other key",
    "login",
    "login without SCT",
    "stranger",
    "attested",
    "attested in a bundle",
    "attested otherwise",
    "attested by a stranger",
];

impl Document {
    /// The image that gets this evidence.
    pub(super) fn image_for(&self, evidence: &str) -> &'static str {
        match evidence {
            "skipped" => self.skips.expect("an image that it skips"),
            _ => self.image,
        }
    }
}

const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// Who pods are in the documents of policy-controller's own tests.
const POD: (&str, &str) = (
    "https://kubernetes.default.svc",
    "https://kubernetes.io/namespaces/default/serviceaccounts/default",
);
const RELEASE: (&str, &str) = (
    GITHUB,
    "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.0.0",
);

const DOCUMENT: Document = Document {
    name: "",
    image: "ghcr.io/acme/app:v1",
    skips: None,
    login: POD,
    stranger: ("https://accounts.google.com", "mallory@mallory.test"),
    key: KeyType::P256,
    attests: Attests {
        by: By::Login,
        log: Log::RekorV1,
        kind: "https://slsa.dev/provenance/v1",
        says: "{}",
        otherwise: "{}",
    },
    warns: false,
    verdicts: &[],
};

/// By a key that the log has.
const KEY: Verdicts = &[
    ("admitted", &["key"]),
    (
        "untrusted_signer",
        &["unlogged key", "timestamped key", "login", "stranger"],
    ),
    ("invalid_signature", &["other key", "login without SCT"]),
    ("unsigned", &["nobody", "login elsewhere"]),
];
/// By a key, logged or not. Nothing is proven of whom a trust root certifies, where none is asked.
const KEY_ALONE: Verdicts = &[
    ("admitted", &["key", "unlogged key", "timestamped key"]),
    (
        "invalid_signature",
        &["other key", "login", "login without SCT", "stranger"],
    ),
    ("unsigned", &["nobody", "login elsewhere"]),
];
/// By a login.
const LOGIN: Verdicts = &[
    ("admitted", &["login"]),
    ("untrusted_signer", &["stranger"]),
    (
        "invalid_signature",
        &[
            "key",
            "unlogged key",
            "timestamped key",
            "other key",
            "login without SCT",
        ],
    ),
    ("unsigned", &["nobody", "login elsewhere"]),
];
/// By a login, and kept elsewhere: beside the image is nothing.
const ELSEWHERE: Verdicts = &[
    ("admitted", &["login elsewhere"]),
    (
        "unsigned",
        &[
            "nobody",
            "key",
            "unlogged key",
            "timestamped key",
            "other key",
            "login",
            "login without SCT",
            "stranger",
        ],
    ),
];
/// By one of both.
const KEY_OR_LOGIN: Verdicts = &[
    ("admitted", &["key", "login"]),
    (
        "untrusted_signer",
        &["unlogged key", "timestamped key", "stranger"],
    ),
    ("invalid_signature", &["other key", "login without SCT"]),
    ("unsigned", &["nobody", "login elsewhere"]),
];

pub(super) const POLICY_CONTROLLER: &[Document] = &[
    Document {
        name: "examples/release-signed-by-github-actions",
        verdicts: LOGIN,
        image: "ghcr.io/acme/app/release-1",
        login: RELEASE,
        ..DOCUMENT
    },
    Document {
        name: "examples/signed-by-github-actions",
        verdicts: LOGIN,
        login: RELEASE,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-key",
        verdicts: KEY,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-key-no-rekor",
        verdicts: KEY_ALONE,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-key-hash-algorithm",
        verdicts: KEY_ALONE,
        key: KeyType::P521,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-key-tsa",
        verdicts: &[
            ("admitted", &["timestamped key"]),
            (
                "untrusted_signer",
                &["key", "unlogged key", "login", "stranger"],
            ),
            ("invalid_signature", &["other key", "login without SCT"]),
            ("unsigned", &["nobody", "login elsewhere"]),
        ],
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-keyless",
        verdicts: LOGIN,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-keyless-warn",
        verdicts: LOGIN,
        warns: true,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-keyless-with-identities",
        verdicts: LOGIN,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-keyless-with-identities-mismatch",
        verdicts: LOGIN,
        login: (
            "https://kubernetes.other.svc",
            "https://kubernetes.io/namespaces/default/serviceaccounts/other",
        ),
        stranger: POD,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-keyless-with-source",
        verdicts: ELSEWHERE,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-key-and-keyless",
        verdicts: KEY_OR_LOGIN,
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-key-and-keyless-ignore-sct",
        verdicts: &[
            ("admitted", &["key", "login", "login without SCT"]),
            (
                "untrusted_signer",
                &["unlogged key", "timestamped key", "stranger"],
            ),
            ("invalid_signature", &["other key"]),
            ("unsigned", &["nobody", "login elsewhere"]),
        ],
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-static-pass",
        verdicts: &[("admitted", SIGNATURES)],
        ..DOCUMENT
    },
    Document {
        name: "e2e/cip-static-fail",
        verdicts: &[("denied_by_policy", SIGNATURES)],
        ..DOCUMENT
    },
    Document {
        name: "tester/cip-public-keyless",
        verdicts: LOGIN,
        login: ("https://acme.test", "release@acme.test"),
        ..DOCUMENT
    },
    Document {
        name: "valid/valid-policy-hash-algo-sha512",
        verdicts: KEY_ALONE,
        key: KeyType::P521,
        ..DOCUMENT
    },
];

const PROVENANCE: &str =
    r#"{"buildDefinition": {"buildType": "https://actions.github.io/buildtypes/workflow/v1"}}"#;
const REVIEW: &str = r#"{"repo": {"uri": "https://git.acme.test/org/app", "branch": "main"}, "reviewers": ["bob@example.com"]}"#;

const BARE: &[&str] = &[
    "nobody",
    "key elsewhere",
    "attested",
    "attested in a bundle",
    "attested otherwise",
    "attested by a stranger",
];
/// By a key that the log has. What is attested is no signature.
const KYVERNO_KEY: Verdicts = &[
    ("admitted", &["key"]),
    ("untrusted_signer", &["unlogged key", "login", "stranger"]),
    ("invalid_signature", &["other key", "login without SCT"]),
    ("unsigned", BARE),
];
/// By a key, logged or not. Of those who attest nothing is proven, where no trust root is asked.
const KYVERNO_KEY_ALONE: Verdicts = &[
    ("admitted", &["key", "unlogged key"]),
    (
        "invalid_signature",
        &[
            "other key",
            "login",
            "login without SCT",
            "stranger",
            "attested",
            "attested in a bundle",
            "attested otherwise",
            "attested by a stranger",
        ],
    ),
    ("unsigned", &["nobody", "key elsewhere"]),
];
/// By a login. What is attested is no signature.
const KYVERNO_LOGIN: Verdicts = &[
    ("admitted", &["login"]),
    ("untrusted_signer", &["stranger"]),
    (
        "invalid_signature",
        &["key", "unlogged key", "other key", "login without SCT"],
    ),
    ("unsigned", BARE),
];
/// Attested, in either format. A signature attests to nothing.
const KYVERNO_ATTESTED: Verdicts = &[
    ("admitted", &["attested", "attested in a bundle"]),
    ("condition_failed", &["attested otherwise"]),
    ("untrusted_signer", &["attested by a stranger"]),
    ("missing_attestation", SIGNED),
];
const SIGNED: &[&str] = &[
    "nobody",
    "key",
    "unlogged key",
    "key elsewhere",
    "other key",
    "login",
    "login without SCT",
    "stranger",
];

pub(super) const KYVERNO: &[Document] = &[
    Document {
        name: "sigstore/key",
        verdicts: KYVERNO_KEY_ALONE,
        ..DOCUMENT
    },
    Document {
        name: "sigstore/bundle",
        verdicts: &[
            ("admitted", &["attested in a bundle"]),
            ("condition_failed", &["attested otherwise"]),
            ("untrusted_signer", &["attested by a stranger"]),
            ("missing_attestation", SIGNED),
            ("missing_attestation", &["attested"]),
        ],
        login: (
            GITHUB,
            "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main",
        ),
        attests: Attests {
            says: PROVENANCE,
            otherwise: r#"{"buildDefinition": {"buildType": "https://elsewhere.test/v1"}}"#,
            ..DOCUMENT.attests
        },
        ..DOCUMENT
    },
    Document {
        name: "sigstore/skipped",
        verdicts: KYVERNO_KEY,
        skips: Some("ghcr.io/trusted/app:v1"),
        ..DOCUMENT
    },
    Document {
        name: "sigstore/code-review",
        verdicts: KYVERNO_ATTESTED,
        image: "registry.acme.test/org/app:v1",
        attests: Attests {
            by: By::Key,
            kind: "https://example.com/CodeReview/v1",
            says: REVIEW,
            otherwise: r#"{"repo": {"uri": "https://git.acme.test/org/app", "branch": "main"}, "reviewers": ["mallory@example.com"]}"#,
            ..DOCUMENT.attests
        },
        ..DOCUMENT
    },
    Document {
        name: "sigstore/keyless",
        verdicts: KYVERNO_LOGIN,
        image: "ghcr.io/acme/app:signed-keyless",
        login: RELEASE,
        ..DOCUMENT
    },
    Document {
        name: "sigstore/keyless-expressions",
        verdicts: KYVERNO_LOGIN,
        image: "ghcr.io/acme/app:signed-keyless",
        login: RELEASE,
        ..DOCUMENT
    },
    Document {
        name: "sigstore/repository",
        verdicts: &[
            ("admitted", &["key elsewhere"]),
            (
                "unsigned",
                &[
                    "nobody",
                    "key",
                    "unlogged key",
                    "other key",
                    "login",
                    "login without SCT",
                    "stranger",
                    "attested",
                    "attested in a bundle",
                    "attested otherwise",
                    "attested by a stranger",
                ],
            ),
        ],
        warns: true,
        ..DOCUMENT
    },
    Document {
        name: "sigstore/algorithm",
        verdicts: KYVERNO_KEY,
        warns: true,
        ..DOCUMENT
    },
    Document {
        name: "sigstore/no-log",
        verdicts: KYVERNO_KEY_ALONE,
        warns: true,
        ..DOCUMENT
    },
    Document {
        name: "sigstore/no-certificate-log",
        verdicts: KYVERNO_KEY,
        warns: true,
        ..DOCUMENT
    },
    Document {
        name: "policies/verify-flux-images",
        verdicts: KYVERNO_LOGIN,
        image: "ghcr.io/acme/one:v1",
        login: RELEASE,
        warns: true,
        ..DOCUMENT
    },
    Document {
        name: "policies/verify-image",
        verdicts: KYVERNO_KEY,
        ..DOCUMENT
    },
    Document {
        name: "policies/verify-sbom-cyclonedx",
        verdicts: KYVERNO_ATTESTED,
        image: "registry.acme.test/org/app:v1",
        login: (GITHUB, "mysubject"),
        attests: Attests {
            kind: "https://cyclonedx.org/schema",
            says: r#"{"Data": {"bomFormat": "CycloneDX"}}"#,
            otherwise: r#"{"Data": {"bomFormat": "SPDX"}}"#,
            ..DOCUMENT.attests
        },
        warns: true,
        ..DOCUMENT
    },
];
