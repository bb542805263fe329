//! Every key there is, by section: the one table that the reader goes by and that
//! `docs/CONFIGURATION.md` is tested against.

use crate::config::limits;
use crate::verify::CLAIMS;

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

/// The configuration file.
pub(super) const CONFIGURATION: Section = Section {
    name: "pullgate.yaml",
    keys: &[
        "listen",
        "admin",
        "tls",
        "callers",
        "upstreams",
        "default_upstream",
        "policies",
        "trust_roots",
        "default_trust_root",
        "cache",
        "audit",
        "limits",
    ],
    later: &[],
};

/// The certificate of the pull listener.
pub(super) const TLS: Section = Section {
    name: "tls",
    keys: &["certificate", "key"],
    later: &[],
};

/// Who may ask.
pub(super) const CALLERS: Section = Section {
    name: "callers",
    keys: &[
        "htpasswd",
        "oidc",
        "client_certificates",
        "tokens",
        "public_url",
    ],
    later: &[],
};

/// Certificates that clients come with.
pub(super) const CLIENT_CERTIFICATES: Section = Section {
    name: "callers.client_certificates",
    keys: &["ca", "revocation_list"],
    later: &[],
};

/// An issuer of tokens.
pub(super) const OIDC: Section = Section {
    name: "callers.oidc[]",
    keys: &["issuer", "audience", "ca"],
    later: &[],
};

/// The tokens that pullgate gives out itself.
pub(super) const TOKENS: Section = Section {
    name: "callers.tokens",
    keys: &["key_file", "lifetime"],
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
    keys: &["containers_policy_json"],
    later: &[],
};

/// A trust root.
pub(super) const TRUST_ROOT: Section = Section {
    name: "trust_roots.NAME",
    keys: &["file", "sigstore", "tuf", "refresh", "unsafe_keep_stale"],
    later: &[],
};

/// A TUF repository that keeps a trust root fresh.
pub(super) const TUF: Section = Section {
    name: "trust_roots.NAME.tuf",
    keys: &["mirror", "root", "ca"],
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

/// Where every decision is written to, where it is a file.
pub(super) const AUDIT: Section = Section {
    name: "audit",
    keys: &["file", "bytes_max", "files_max"],
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
    keys: &["signers", "pullers", "policies", "default"],
    later: &[],
};

/// A puller.
pub(super) const PULLER: Section = Section {
    name: "pullers.NAME",
    keys: &["user", "oidc", "certificate"],
    later: &[],
};

/// The bearer of a token that pulls.
pub(super) const PULLER_OIDC: Section = Section {
    name: "pullers.NAME.oidc",
    keys: &[
        "issuer",
        "identity",
        "identity_glob",
        "identity_regex",
        "claims",
        "claims_glob",
    ],
    later: &[],
};

/// The holder of a certificate that pulls.
pub(super) const PULLER_CERTIFICATE: Section = Section {
    name: "pullers.NAME.certificate",
    keys: &["dns", "dns_glob"],
    later: &[],
};

/// A signer.
pub(super) const SIGNER: Section = Section {
    name: "signers.NAME",
    keys: &[
        "keyless",
        "key",
        "ca",
        "gpg",
        "transparency_log",
        "timestamp",
        "unsafe_without_transparency_log",
        "unsafe_without_certificate_timestamp",
        "trust_root",
        "signed_identity",
    ],
    later: &[],
};

/// A trust root that a signer gives itself.
pub(super) const SIGNER_TRUST_ROOT: Section = Section {
    name: "signers.NAME.trust_root",
    keys: &["log_keys"],
    later: &[],
};

/// A login that signs.
pub(super) const KEYLESS: Section = Section {
    name: "signers.NAME.keyless",
    keys: &[
        "issuer",
        "issuer_regex",
        "identity",
        "identity_glob",
        "identity_regex",
        "claims",
        "claims_glob",
        "trust_root",
    ],
    later: &[],
};

/// Fulcio's extensions: of `claims`, and of `claims_glob` as well.
pub(super) const CLAIM: Section = Section {
    name: "signers.NAME.keyless.claims",
    keys: CLAIMS,
    later: &[],
};

/// A public key that signs.
pub(super) const KEY: Section = Section {
    name: "signers.NAME.key",
    keys: &[
        "file",
        "pem",
        "hash_algorithm",
        "not_before",
        "not_after",
        "trust_root",
    ],
    later: &[],
};

/// One of several keys of a signer.
pub(super) const KEYS: Section = Section {
    name: "signers.NAME.key[]",
    keys: &["file", "pem", "hash_algorithm", "not_before", "not_after"],
    later: &[],
};

/// A certificate authority of one's own, and whom it certifies.
pub(super) const CA: Section = Section {
    name: "signers.NAME.ca",
    keys: &[
        "file",
        "pem",
        "intermediates",
        "subject",
        "issuer",
        "claims",
        "claims_glob",
        "trust_root",
    ],
    later: &[],
};

/// Certificates that lead to the authority.
pub(super) const CA_INTERMEDIATES: Section = Section {
    name: "signers.NAME.ca.intermediates",
    keys: &["file", "pem"],
    later: &[],
};

/// The names that a certificate must have.
pub(super) const CA_SUBJECT: Section = Section {
    name: "signers.NAME.ca.subject",
    keys: &[
        "email",
        "email_glob",
        "email_regex",
        "uri",
        "uri_glob",
        "uri_regex",
        "dns",
        "dns_glob",
    ],
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
        "attested",
        "signed_within",
        "not_before",
        "cooldown",
        "format",
        "source",
        "any_of",
        "no_rollback",
        "digests",
        "deny",
        "unsafe_allow_unsigned",
        "signs",
        "pulled_by",
    ],
    later: &[],
};

/// An image that is matched with its tag or digest.
pub(super) const IMAGE_PATTERN: Section = Section {
    name: "policies[].images[]",
    keys: &["reference", "written"],
    later: &[],
};

/// One of several ways to pass.
pub(super) const ALTERNATIVE: Section = Section {
    name: "policies[].any_of[]",
    keys: &[
        "signed_by",
        "attested",
        "signed_within",
        "not_before",
        "cooldown",
        "format",
        "source",
    ],
    later: &[],
};

/// Where evidence is kept.
pub(super) const SOURCE: Section = Section {
    name: "policies[].source",
    keys: &["repository", "tag_prefix"],
    later: &[],
};

/// Who may pull what a policy is for.
pub(super) const PULLED_BY: Section = Section {
    name: "policies[].pulled_by",
    keys: &["any"],
    later: &[],
};

/// Whose signatures a policy asks for.
pub(super) const SIGNED_BY: Section = Section {
    name: "policies[].signed_by",
    keys: &["any", "all", "at_least", "of"],
    later: &[],
};

/// An attestation that a policy asks for.
pub(super) const ATTESTED: Section = Section {
    name: "policies[].attested[]",
    keys: &["predicate_type", "by", "where", "every"],
    later: &[],
};

/// That a tag never moves back, with exceptions.
pub(super) const NO_ROLLBACK: Section = Section {
    name: "policies[].no_rollback",
    keys: &["permit"],
    later: &[],
};

/// An exemption.
pub(super) const EXEMPTION: Section = Section {
    name: "policies[].unsafe_allow_unsigned",
    keys: &["until", "because"],
    later: &[],
};

/// A file of policy tests.
pub(super) const TEST_FILE: Section = Section {
    name: "tests/*.yaml",
    keys: &["tests"],
    later: &[],
};

/// A policy test.
pub(super) const TEST: Section = Section {
    name: "tests[]: a policy test",
    keys: &["name", "image", "facts", "as", "now", "expect"],
    later: &[],
};

/// What a policy test expects.
pub(super) const EXPECTATION: Section = Section {
    name: "tests[].expect",
    keys: &["reason", "policy"],
    later: &[],
};

/// The facts of a policy test.
pub(super) const FACTS: Section = Section {
    name: "tests[].facts",
    keys: &[
        "image",
        "recorded_at",
        "digest",
        "kind",
        "tagged",
        "signatures",
        "attestations",
        "rejected",
        "truncated",
        "listed_by",
        "lists",
    ],
    later: &[],
};

/// A proven signature.
pub(super) const SIGNATURE_FACT: Section = Section {
    name: "tests[].facts.signatures[]",
    keys: &[
        "keyless",
        "key",
        "ca",
        "gpg",
        "trust_root",
        "signed_at",
        "log",
        "timestamp",
        "certificate_timestamp",
        "format",
        "source",
        "docker_reference",
        "hash_algorithm",
        "found_in",
    ],
    later: &[],
};

/// A proven attestation.
pub(super) const ATTESTATION_FACT: Section = Section {
    name: "tests[].facts.attestations[]",
    keys: &[
        "predicate_type",
        "predicate",
        "subject",
        "keyless",
        "key",
        "ca",
        "gpg",
        "trust_root",
        "signed_at",
        "log",
        "timestamp",
        "certificate_timestamp",
        "format",
        "source",
        "docker_reference",
        "hash_algorithm",
        "found_in",
    ],
    later: &[],
};

/// A login that has signed.
pub(super) const IDENTITY_FACT: Section = Section {
    name: "tests[].facts.signatures[].keyless",
    keys: &["issuer", "identity", "claims"],
    later: &[],
};

/// A key that has signed.
pub(super) const KEY_FACT: Section = Section {
    name: "tests[].facts.signatures[].key",
    keys: &["file", "pem", "fingerprint"],
    later: &[],
};

/// An OpenPGP key that has signed.
pub(super) const GPG_FACT: Section = Section {
    name: "tests[].facts.signatures[].gpg",
    keys: &["fingerprint"],
    later: &[],
};

/// Whom an authority of one's own has certified.
pub(super) const CA_FACT: Section = Section {
    name: "tests[].facts.signatures[].ca",
    keys: &[
        "file",
        "pem",
        "fingerprint",
        "email",
        "uri",
        "dns",
        "issuer",
        "claims",
    ],
    later: &[],
};

/// A JSON value.
pub(super) const JSON: Section = Section {
    name: "tests[].facts.attestations[].predicate",
    keys: &["file", "json"],
    later: &[],
};

/// Evidence that proves nothing.
pub(super) const REJECTED_FACT: Section = Section {
    name: "tests[].facts.rejected[]",
    keys: &["why", "format", "source"],
    later: &[],
};

/// The sections of the configuration and of policies, in the order of the reference.
pub(super) const ALL: &[&Section] = &[
    &CONFIGURATION,
    &TLS,
    &CALLERS,
    &OIDC,
    &CLIENT_CERTIFICATES,
    &TOKENS,
    &UPSTREAM,
    &CLIENT_CERTIFICATE,
    &CREDENTIALS,
    &POLICY_SOURCE,
    &TRUST_ROOT,
    &TUF,
    &CACHE,
    &AUDIT,
    &LIMITS,
    &POLICY_FILE,
    &PULLER,
    &PULLER_OIDC,
    &PULLER_CERTIFICATE,
    &SIGNER,
    &SIGNER_TRUST_ROOT,
    &KEYLESS,
    &CLAIM,
    &KEY,
    &KEYS,
    &CA,
    &CA_INTERMEDIATES,
    &CA_SUBJECT,
    &GPG,
    &SIGNED_IDENTITY,
    &REMAP,
    &POLICY,
    &IMAGE_PATTERN,
    &ALTERNATIVE,
    &SOURCE,
    &SIGNED_BY,
    &ATTESTED,
    &PULLED_BY,
    &NO_ROLLBACK,
    &EXEMPTION,
];

/// The sections of policy tests, in the order of the reference.
#[cfg(test)]
pub(super) const CASES: &[&Section] = &[
    &TEST_FILE,
    &TEST,
    &EXPECTATION,
    &FACTS,
    &SIGNATURE_FACT,
    &ATTESTATION_FACT,
    &IDENTITY_FACT,
    &KEY_FACT,
    &GPG_FACT,
    &CA_FACT,
    &JSON,
    &REJECTED_FACT,
];
