//! Every key there is, by section: the one table that the reader goes by and that
//! `docs/CONFIGURATION.md` is tested against.

use crate::config::limits;
use crate::config::signers::CLAIMS;

/// A mapping of the configuration and the keys that can stand in it.
#[derive(Debug)]
pub(super) struct Section {
    /// The path that leads to it, as the reference's heading has it. Upper case stands for a
    /// name that the user chooses.
    pub(super) name: &'static str,
    /// Its keys.
    pub(super) keys: &'static [&'static str],
    /// Keys that the documentation promises and this version does not have yet. They are load
    /// errors: a rule that is silently not kept would be worse.
    pub(super) later: &'static [Later],
}

/// A key that this version does not have yet.
#[derive(Debug)]
pub(super) struct Later {
    /// The key.
    pub(super) key: &'static str,
    /// What is missing.
    pub(super) why: &'static str,
    /// What to do instead.
    pub(super) mend: &'static str,
}

impl Section {
    /// Whether the key is one of this version.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

const NO_CALLERS: &str = "it does not authenticate callers";
const REMOVE_CALLERS: &str = "remove it; until a version that has it, limit who can reach the port";

/// The configuration file.
pub(super) const CONFIGURATION: Section = Section {
    name: "pullgate.yaml",
    keys: &[
        "listen",
        "admin",
        "tls",
        "upstreams",
        "default_upstream",
        "policies",
        "trust_roots",
        "default_trust_root",
        "cache",
        "limits",
    ],
    later: &[Later {
        key: "callers",
        why: NO_CALLERS,
        mend: REMOVE_CALLERS,
    }],
};

/// The certificate of the pull listener.
pub(super) const TLS: Section = Section {
    name: "tls",
    keys: &["certificate", "key"],
    later: &[],
};

/// A registry.
pub(super) const UPSTREAM: Section = Section {
    name: "upstreams.HOST",
    keys: &[
        "url",
        "ca",
        "client_certificate",
        "redirects",
        "requests_per_second_max",
        "lookaside",
        "credentials",
    ],
    later: &[],
};

/// The certificate that the proxy shows to a registry.
pub(super) const CLIENT_CERTIFICATE: Section = Section {
    name: "upstreams.HOST.client_certificate",
    keys: &["certificate", "key"],
    later: &[],
};

/// How the proxy logs in at a registry.
pub(super) const CREDENTIALS: Section = Section {
    name: "upstreams.HOST.credentials",
    keys: &[
        "username",
        "password_file",
        "docker_config",
        "credential_helpers",
    ],
    later: &[],
};

/// An item of the configuration's `policies` that is no path.
pub(super) const POLICY_SOURCE: Section = Section {
    name: "policies[]",
    keys: &[],
    later: &[Later {
        key: "containers_policy_json",
        why: "it does not read policy.json files",
        mend: "remove it, and write its rules as policies (docs/CONFIGURATION.md)",
    }],
};

/// A trust root.
pub(super) const TRUST_ROOT: Section = Section {
    name: "trust_roots.NAME",
    keys: &["file", "sigstore"],
    later: &[],
};

/// The caches.
pub(super) const CACHE: Section = Section {
    name: "cache",
    keys: &[
        "directory",
        "disk_bytes_max",
        "memory_bytes_max",
        "facts_ttl",
        "unsigned_ttl",
        "permit_ttl",
        "tag_ttl",
        "stale_ttl",
    ],
    later: &[],
};

/// The limits.
pub(super) const LIMITS: Section = Section {
    name: "limits",
    keys: limits::KEYS,
    later: &[],
};

/// A policy file.
pub(super) const POLICY_FILE: Section = Section {
    name: "policies/*.yaml",
    keys: &["signers", "policies", "default"],
    later: &[Later {
        key: "pullers",
        why: NO_CALLERS,
        mend: REMOVE_CALLERS,
    }],
};

/// A signer.
pub(super) const SIGNER: Section = Section {
    name: "signers.NAME",
    keys: &[
        "keyless",
        "key",
        "gpg",
        "transparency_log",
        "trust_root",
        "signed_identity",
    ],
    later: &[],
};

/// A login that signs.
pub(super) const KEYLESS: Section = Section {
    name: "signers.NAME.keyless",
    keys: &[
        "issuer",
        "identity",
        "identity_glob",
        "identity_regex",
        "claims",
        "trust_root",
    ],
    later: &[],
};

/// Fulcio's extensions.
pub(super) const CLAIM: Section = Section {
    name: "signers.NAME.keyless.claims",
    keys: CLAIMS,
    later: &[],
};

/// A public key that signs.
pub(super) const KEY: Section = Section {
    name: "signers.NAME.key",
    keys: &["file", "pem", "trust_root"],
    later: &[],
};

/// OpenPGP keys that sign.
pub(super) const GPG: Section = Section {
    name: "signers.NAME.gpg",
    keys: &["file", "armored"],
    later: &[],
};

/// The image that a signature must have been made for, where it is more than a word.
pub(super) const SIGNED_IDENTITY: Section = Section {
    name: "signers.NAME.signed_identity",
    keys: &["exact_reference", "exact_repository", "remap"],
    later: &[],
};

/// A prefix in place of another.
pub(super) const REMAP: Section = Section {
    name: "signers.NAME.signed_identity.remap",
    keys: &["prefix", "signed_prefix"],
    later: &[],
};

/// A policy.
pub(super) const POLICY: Section = Section {
    name: "policies[]: a policy",
    keys: &[
        "name",
        "images",
        "except",
        "mode",
        "signed_by",
        "digests",
        "deny",
        "unsafe_allow_unsigned",
        "signs",
    ],
    later: &[
        Later {
            key: "attested",
            why: "it does not judge attestations",
            mend: "remove it, and ask for a signature with `signed_by`",
        },
        Later {
            key: "pulled_by",
            why: NO_CALLERS,
            mend: REMOVE_CALLERS,
        },
    ],
};

/// Whose signatures a policy asks for.
pub(super) const SIGNED_BY: Section = Section {
    name: "policies[].signed_by",
    keys: &["any", "all", "at_least", "of"],
    later: &[],
};

/// An exemption.
pub(super) const EXEMPTION: Section = Section {
    name: "policies[].unsafe_allow_unsigned",
    keys: &["until", "because"],
    later: &[],
};

/// All sections, in the order of the reference.
#[cfg(test)]
pub(super) const ALL: &[&Section] = &[
    &CONFIGURATION,
    &TLS,
    &UPSTREAM,
    &CLIENT_CERTIFICATE,
    &CREDENTIALS,
    &POLICY_SOURCE,
    &TRUST_ROOT,
    &CACHE,
    &LIMITS,
    &POLICY_FILE,
    &SIGNER,
    &KEYLESS,
    &CLAIM,
    &KEY,
    &GPG,
    &SIGNED_IDENTITY,
    &REMAP,
    &POLICY,
    &SIGNED_BY,
    &EXEMPTION,
];
