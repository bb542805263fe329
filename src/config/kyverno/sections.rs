//! The keys of Kyverno's policies, and those that cannot be kept here.

use crate::config::schema::Later;
use crate::config::schema::Section;

const fn later(key: &'static str, why: &'static str, mend: &'static str) -> Later {
    Later { key, why, mend }
}

const CLUSTER: &str = "keep this rule in the cluster, in a policy of its own, and leave rules with `verifyImages` here";
const NARROWED: &str = "a rule that holds for some Pods only, and a pull does not tell for which";
const NARROWED_MEND: &str = "remove it, so that the rule is for every pull of its images";
const VARIABLE: &str = "variables, which are read from the cluster or from a Pod";
const VARIABLE_MEND: &str = "write the values out";
const DEPRECATED: &str = "this form of the field, which Kyverno has replaced";

pub(super) const DOCUMENT: Section = Section {
    name: "ClusterPolicy",
    keys: &["apiVersion", "kind", "metadata", "spec", "status"],
    later: &[],
};

pub(super) const SPEC: Section = Section {
    name: "spec",
    keys: &[
        "rules",
        "validationFailureAction",
        "applyRules",
        "admission",
        "failurePolicy",
        "webhookConfiguration",
        // These have to do with the cluster, or with rules of other kinds.
        "background",
        "emitWarning",
        "generateExisting",
        "generateExistingOnPolicyUpdate",
        "mutateExistingOnPolicyUpdate",
        "schemaValidation",
        "useServerSideApply",
        "webhookTimeoutSeconds",
    ],
    later: &[later(
        "validationFailureActionOverrides",
        "an action for some namespaces only, and a pull does not tell for which",
        "remove it; `failureAction` is for all",
    )],
};

pub(super) const WEBHOOK: Section = Section {
    name: "spec.webhookConfiguration",
    keys: &["failurePolicy", "timeoutSeconds"],
    later: &[later("matchConditions", NARROWED, NARROWED_MEND)],
};

pub(super) const RULE: Section = Section {
    name: "spec.rules[]",
    keys: &[
        "name",
        "match",
        "verifyImages",
        "reportProperties",
        "skipBackgroundRequests",
    ],
    later: &[
        later("context", VARIABLE, VARIABLE_MEND),
        later("exclude", NARROWED, NARROWED_MEND),
        later("preconditions", NARROWED, NARROWED_MEND),
        later("celPreconditions", NARROWED, NARROWED_MEND),
        later(
            "imageExtractors",
            "images that resources of other kinds name",
            "remove it, so that the rule is for every pull of its images",
        ),
        later("validate", "rules that validate resources", CLUSTER),
        later("mutate", "rules that change resources", CLUSTER),
        later("generate", "rules that make resources", CLUSTER),
    ],
};

pub(super) const MATCH: Section = Section {
    name: "spec.rules[].match",
    keys: &["any", "all", "resources"],
    later: &[
        later("roles", NARROWED, NARROWED_MEND),
        later("clusterRoles", NARROWED, NARROWED_MEND),
        later("subjects", NARROWED, NARROWED_MEND),
    ],
};

pub(super) const FILTER: Section = Section {
    name: "spec.rules[].match.any[]",
    keys: &["resources"],
    later: &[
        later("roles", NARROWED, NARROWED_MEND),
        later("clusterRoles", NARROWED, NARROWED_MEND),
        later("subjects", NARROWED, NARROWED_MEND),
    ],
};

pub(super) const RESOURCES: Section = Section {
    name: "spec.rules[].match.any[].resources",
    keys: &["kinds", "operations"],
    later: &[
        later("name", NARROWED, NARROWED_MEND),
        later("names", NARROWED, NARROWED_MEND),
        later("namespaces", NARROWED, NARROWED_MEND),
        later("namespaceSelector", NARROWED, NARROWED_MEND),
        later("annotations", NARROWED, NARROWED_MEND),
        later("selector", NARROWED, NARROWED_MEND),
    ],
};

pub(super) const VERIFICATION: Section = Section {
    name: "spec.rules[].verifyImages[]",
    keys: &[
        "failureAction",
        "type",
        "imageReferences",
        "skipImageReferences",
        "attestors",
        "attestations",
        "repository",
        // What these ask for always holds here, or has no meaning.
        "cosignOCI11",
        "mutateDigest",
        "verifyDigest",
        "required",
        "useCache",
    ],
    later: &[
        later(
            "imageRegistryCredentials",
            "credentials in a policy",
            "remove it, and write them into the configuration: upstreams: { HOST: { credentials: \
             ... } }",
        ),
        later(
            "validate",
            "conditions over several attestations together",
            "ask for each attestation with `conditions` of its own",
        ),
        later("image", DEPRECATED, "write it into `imageReferences`"),
        later(
            "key",
            DEPRECATED,
            "write it under `attestors`: entries: [{ keys: ... }]",
        ),
        later(
            "issuer",
            DEPRECATED,
            "write it under `attestors`: entries: [{ keyless: ... }]",
        ),
        later(
            "subject",
            DEPRECATED,
            "write it under `attestors`: entries: [{ keyless: ... }]",
        ),
        later(
            "roots",
            DEPRECATED,
            "write it under `attestors`: entries: [{ keyless: ... }]",
        ),
        later(
            "additionalExtensions",
            DEPRECATED,
            "write it under `attestors`: entries: [{ keyless: ... }]",
        ),
        later("annotations", ANNOTATIONS, ANNOTATIONS_MEND),
    ],
};

const ANNOTATIONS: &str = "what a signature says beside the digest is not judged";
const ANNOTATIONS_MEND: &str =
    "remove it, or ask for an attestation with `conditions`, which can say the same";

pub(super) const SET: Section = Section {
    name: "attestors[]",
    keys: &["count", "entries"],
    later: &[],
};

pub(super) const ENTRY: Section = Section {
    name: "attestors[].entries[]",
    keys: &[
        "keys",
        "keyless",
        "attestor",
        "signatureAlgorithm",
        "repository",
    ],
    later: &[
        later(
            "certificates",
            "certificates within a policy of Kyverno's",
            "for `cert` alone, where signatures come without the certificate, write its public key \
             under `keys` (openssl x509 -in CERT -noout -pubkey); else write a policy of \
             pullgate's own with a `ca` signer, which says whom the authority has to have \
             certified",
        ),
        later("annotations", ANNOTATIONS, ANNOTATIONS_MEND),
    ],
};

pub(super) const KEYS: Section = Section {
    name: "attestors[].entries[].keys",
    keys: &["publicKeys", "signatureAlgorithm", "rekor", "ctlog"],
    later: &[
        later(
            "kms",
            "keys are not fetched",
            "export the public key (cosign public-key --key KMS) and write it under `publicKeys`",
        ),
        later(
            "secret",
            "there are no Kubernetes secrets here",
            "write the key under `publicKeys`",
        ),
    ],
};

pub(super) const KEYLESS: Section = Section {
    name: "attestors[].entries[].keyless",
    keys: &[
        "issuer",
        "issuerRegExp",
        "subject",
        "subjectRegExp",
        "additionalExtensions",
        "rekor",
        "ctlog",
    ],
    later: &[later(
        "roots",
        "certificates of an authority that no trust root has are not judged",
        "make a trust root with the authority, and name it as `default_trust_root`",
    )],
};

pub(super) const REKOR: Section = Section {
    name: "rekor",
    keys: &["url", "pubkey", "ignoreTlog"],
    later: &[],
};

pub(super) const CTLOG: Section = Section {
    name: "ctlog",
    keys: &["pubkey", "ignoreSCT"],
    later: &[later(
        "tsaCertChain",
        "timestamps of an authority that no trust root has are not judged",
        "make a trust root with the authority, and name it as `default_trust_root`",
    )],
};

/// Fulcio's extensions as Kyverno names them, by name or by number, and as they are named here.
pub(super) const EXTENSIONS: &[(&str, &str, &str)] = &[
    (
        "githubWorkflowTrigger",
        "1.3.6.1.4.1.57264.1.2",
        "github_workflow_trigger",
    ),
    (
        "githubWorkflowSha",
        "1.3.6.1.4.1.57264.1.3",
        "github_workflow_sha",
    ),
    (
        "githubWorkflowName",
        "1.3.6.1.4.1.57264.1.4",
        "github_workflow_name",
    ),
    (
        "githubWorkflowRepository",
        "1.3.6.1.4.1.57264.1.5",
        "github_workflow_repository",
    ),
    (
        "githubWorkflowRef",
        "1.3.6.1.4.1.57264.1.6",
        "github_workflow_ref",
    ),
];

pub(super) const ATTESTATION: Section = Section {
    name: "attestations[]",
    keys: &["name", "type", "predicateType", "attestors", "conditions"],
    later: &[],
};

pub(super) const BLOCK: Section = Section {
    name: "conditions[]",
    keys: &["any", "all"],
    later: &[],
};

pub(super) const CONDITION: Section = Section {
    name: "conditions[].all[]",
    keys: &["key", "operator", "value", "message"],
    later: &[],
};
