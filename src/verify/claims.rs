//! Fulcio's certificate extensions by name (Fulcio, oid-info.md): the one list, for facts and
//! for policy files.

use std::collections::BTreeMap;

use sigstore_verify::crypto::CertificateInfo;

/// Makes the names and the reader from one list, so that policy cannot ask for a claim that
/// nobody reads.
macro_rules! claims {
    ($($name:literal = $($field:ident).+;)*) => {
        /// Their names in snake case. The issuer is not one of them: it is always compared.
        pub const CLAIMS: &[&str] = &[$($name),*];

        /// Those that the certificate has.
        pub(super) fn of(info: &CertificateInfo) -> BTreeMap<&'static str, String> {
            let claims = &info.ci_claims;
            [$(($name, &claims.$($field).+)),*]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.clone()?)))
                .collect()
        }
    };
}

claims! {
    "build_signer_uri" = build_signer_uri;
    "build_signer_digest" = build_signer_digest;
    "runner_environment" = runner_environment;
    "source_repository_uri" = source_repository_uri;
    "source_repository_digest" = source_repository_digest;
    "source_repository_ref" = source_repository_ref;
    "source_repository_identifier" = source_repository_identifier;
    "source_repository_owner_uri" = source_repository_owner_uri;
    "source_repository_owner_identifier" = source_repository_owner_identifier;
    "build_config_uri" = build_config_uri;
    "build_config_digest" = build_config_digest;
    "build_trigger" = build_trigger;
    "run_invocation_uri" = run_invocation_uri;
    "source_repository_visibility_at_signing" = source_repository_visibility_at_signing;
    "deployment_environment" = deployment_environment;
    "token_subject" = token_subject;
    // What Fulcio wrote for GitHub alone before there were the ones above, and still writes.
    "github_workflow_trigger" = deprecated_github.workflow_trigger;
    "github_workflow_sha" = deprecated_github.workflow_sha;
    "github_workflow_name" = deprecated_github.workflow_name;
    "github_workflow_repository" = deprecated_github.workflow_repository;
    "github_workflow_ref" = deprecated_github.workflow_ref;
}
