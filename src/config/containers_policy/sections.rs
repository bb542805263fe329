//! The members of policy.json's objects (containers-policy.json(5)).

use crate::config::schema::Section;

pub(super) const DOCUMENT: Section = Section {
    name: "policy.json",
    keys: &["default", "transports"],
    later: &[],
};

/// `insecureAcceptAnything` and `reject`.
pub(super) const PLAIN: Section = Section {
    name: "a requirement without keys",
    keys: &["type"],
    later: &[],
};

pub(super) const SIGNED_BY: Section = Section {
    name: "signedBy",
    keys: &[
        "type",
        "keyType",
        "keyPath",
        "keyPaths",
        "keyData",
        "signedIdentity",
    ],
    later: &[],
};

pub(super) const SIGSTORE_SIGNED: Section = Section {
    name: "sigstoreSigned",
    keys: &[
        "type",
        "keyPath",
        "keyPaths",
        "keyData",
        "keyDatas",
        "fulcio",
        "pki",
        "rekorPublicKeyPath",
        "rekorPublicKeyPaths",
        "rekorPublicKeyData",
        "rekorPublicKeyDatas",
        "signedIdentity",
    ],
    later: &[],
};

pub(super) const FULCIO: Section = Section {
    name: "fulcio",
    keys: &["caPath", "caData", "oidcIssuer", "subjectEmail"],
    later: &[],
};

pub(super) const PKI: Section = Section {
    name: "pki",
    keys: &[
        "caRootsPath",
        "caRootsData",
        "caIntermediatesPath",
        "caIntermediatesData",
        "subjectEmail",
        "subjectHostname",
    ],
    later: &[],
};

/// `matchExact`, `matchRepoDigestOrExact` and `matchRepository`.
pub(super) const MATCH: Section = Section {
    name: "signedIdentity",
    keys: &["type"],
    later: &[],
};

pub(super) const EXACT_REFERENCE: Section = Section {
    name: "exactReference",
    keys: &["type", "dockerReference"],
    later: &[],
};

pub(super) const EXACT_REPOSITORY: Section = Section {
    name: "exactRepository",
    keys: &["type", "dockerRepository"],
    later: &[],
};

pub(super) const REMAP_IDENTITY: Section = Section {
    name: "remapIdentity",
    keys: &["type", "prefix", "signedPrefix"],
    later: &[],
};
