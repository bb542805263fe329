//! The keys of `ClusterImagePolicy` documents, and those that cannot be kept here.

use crate::config::schema::Later;
use crate::config::schema::Section;

const fn later(key: &'static str, why: &'static str, mend: &'static str) -> Later {
    Later { key, why, mend }
}

const NATIVE: &str = "remove it, and write the rule as a policy of pullgate's own (docs/POLICY.md)";

pub(super) const DOCUMENT: Section = Section {
    name: "ClusterImagePolicy",
    keys: &["apiVersion", "kind", "metadata", "spec", "status"],
    later: &[],
};

pub(super) const SPEC: Section = Section {
    name: "spec",
    keys: &["images", "authorities", "mode", "policy"],
    later: &[later(
        "match",
        "`match` selects Kubernetes' resources, and a pull has none",
        NATIVE,
    )],
};

/// A policy over what was proven. There is none that could be kept.
pub(super) const POLICY: Section = Section {
    name: "policy",
    keys: &["type", "data"],
    later: &[
        later("remote", "policies are not fetched", NATIVE),
        later("configMapRef", "there are no config maps here", NATIVE),
        later("fetchConfigFile", "an image's config is not judged", NATIVE),
        later("includeSpec", "a pull has no resource", NATIVE),
        later("includeObjectMeta", "a pull has no resource", NATIVE),
        later("includeTypeMeta", "a pull has no resource", NATIVE),
    ],
};

pub(super) const IMAGE: Section = Section {
    name: "spec.images[]",
    keys: &["glob"],
    later: &[],
};

pub(super) const AUTHORITY: Section = Section {
    name: "spec.authorities[]",
    keys: &[
        "name",
        "key",
        "keyless",
        "static",
        "ctlog",
        "rfc3161timestamp",
        "attestations",
        "signatureFormat",
        "source",
    ],
    later: &[],
};

pub(super) const SOURCE: Section = Section {
    name: "spec.authorities[].source[]",
    keys: &["oci", "tagPrefix"],
    later: &[later(
        "signaturePullSecrets",
        "there are no Kubernetes secrets here",
        "write the credentials under `upstreams` in the configuration",
    )],
};

pub(super) const KEY: Section = Section {
    name: "spec.authorities[].key",
    keys: &["data", "hashAlgorithm"],
    later: &[
        later(
            "secretRef",
            "there are no Kubernetes secrets here",
            "write the key under `data`",
        ),
        later(
            "kms",
            "keys are not fetched",
            "export the public key (cosign public-key --key KMS) and write it under `data`",
        ),
    ],
};

pub(super) const KEYLESS: Section = Section {
    name: "spec.authorities[].keyless",
    keys: &["url", "identities", "trustRootRef", "insecureIgnoreSCT"],
    later: &[later(
        "ca-cert",
        "certificates of an authority that no trust root has are not judged",
        "make a trust root with the authority, and name it in `trustRootRef`",
    )],
};

pub(super) const IDENTITY: Section = Section {
    name: "spec.authorities[].keyless.identities[]",
    keys: &["issuer", "issuerRegExp", "subject", "subjectRegExp"],
    later: &[],
};

pub(super) const STATIC: Section = Section {
    name: "spec.authorities[].static",
    keys: &["action", "message"],
    later: &[],
};

pub(super) const LOG: Section = Section {
    name: "spec.authorities[].ctlog",
    keys: &["url", "trustRootRef"],
    later: &[],
};

pub(super) const TIMESTAMP: Section = Section {
    name: "spec.authorities[].rfc3161timestamp",
    keys: &["trustRootRef"],
    later: &[],
};

pub(super) const ATTESTATION: Section = Section {
    name: "spec.authorities[].attestations[]",
    keys: &["name", "predicateType", "policy"],
    later: &[],
};
