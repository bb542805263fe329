//! Who a keyless signature is by: what Fulcio writes into a certificate.

use std::collections::BTreeMap;

/// The issuer of GitHub Actions' identity tokens.
const GITHUB_ACTIONS: &str = "https://token.actions.githubusercontent.com";

/// Fulcio's extensions under 1.3.6.1.4.1.57264.1; the discriminant is the last arc
/// (fulcio, docs/oid-info.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Fulcio's, and say all there is")]
#[repr(u8)]
pub enum Claim {
    GithubWorkflowTrigger = 2,
    GithubWorkflowSha = 3,
    GithubWorkflowName = 4,
    GithubWorkflowRepository = 5,
    GithubWorkflowRef = 6,
    BuildSignerUri = 9,
    BuildSignerDigest = 10,
    RunnerEnvironment = 11,
    SourceRepositoryUri = 12,
    SourceRepositoryDigest = 13,
    SourceRepositoryRef = 14,
    SourceRepositoryIdentifier = 15,
    SourceRepositoryOwnerUri = 16,
    SourceRepositoryOwnerIdentifier = 17,
    BuildConfigUri = 18,
    BuildConfigDigest = 19,
    BuildTrigger = 20,
    RunInvocationUri = 21,
    SourceRepositoryVisibilityAtSigning = 22,
    DeploymentEnvironment = 23,
    TokenSubject = 24,
}

impl Claim {
    /// The last arc of the extension's object identifier.
    #[must_use]
    pub fn arc(self) -> u8 {
        self as u8
    }

    /// The deprecated extensions hold bare text, the others a DER UTF8String.
    pub(super) fn is_bare_text(self) -> bool {
        self.arc() <= Self::GithubWorkflowRef.arc()
    }
}

/// An identity that Fulcio certifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The OpenID issuer.
    pub issuer: String,
    /// The subject alternative name: a URI where it has a scheme, else an e-mail address.
    pub subject: String,
    /// The claims about a build.
    pub claims: BTreeMap<Claim, String>,
}

impl Identity {
    /// Someone who logged in with an e-mail address.
    #[must_use]
    pub fn email(address: &str, issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            subject: address.to_owned(),
            claims: BTreeMap::new(),
        }
    }

    /// A GitHub Actions workflow `.github/workflows/<workflow>` of `repository`
    /// (`owner/name`), run by a push to `git_ref`, with every extension that Fulcio writes.
    #[must_use]
    pub fn github_actions(repository: &str, workflow: &str, git_ref: &str) -> Self {
        const COMMIT: &str = "6fb1cd2ea0b4b0c1c7a4bdb1c9ea3d2b9f0a7e35";
        let owner = repository.split('/').next().unwrap_or_default();
        let source = format!("https://github.com/{repository}");
        let build = format!("{source}/.github/workflows/{workflow}@{git_ref}");
        let claims = [
            (Claim::GithubWorkflowTrigger, "push".to_owned()),
            (Claim::GithubWorkflowSha, COMMIT.to_owned()),
            (Claim::GithubWorkflowName, "Release".to_owned()),
            (Claim::GithubWorkflowRepository, repository.to_owned()),
            (Claim::GithubWorkflowRef, git_ref.to_owned()),
            (Claim::BuildSignerUri, build.clone()),
            (Claim::BuildSignerDigest, COMMIT.to_owned()),
            (Claim::RunnerEnvironment, "github-hosted".to_owned()),
            (Claim::SourceRepositoryUri, source.clone()),
            (Claim::SourceRepositoryDigest, COMMIT.to_owned()),
            (Claim::SourceRepositoryRef, git_ref.to_owned()),
            (Claim::SourceRepositoryIdentifier, "512345678".to_owned()),
            (
                Claim::SourceRepositoryOwnerUri,
                format!("https://github.com/{owner}"),
            ),
            (Claim::SourceRepositoryOwnerIdentifier, "1234567".to_owned()),
            (Claim::BuildConfigUri, build.clone()),
            (Claim::BuildConfigDigest, COMMIT.to_owned()),
            (Claim::BuildTrigger, "push".to_owned()),
            (
                Claim::RunInvocationUri,
                format!("{source}/actions/runs/4711/attempts/1"),
            ),
            (
                Claim::SourceRepositoryVisibilityAtSigning,
                "public".to_owned(),
            ),
            (
                Claim::TokenSubject,
                format!("repo:{repository}:ref:{git_ref}"),
            ),
        ];
        Self {
            issuer: GITHUB_ACTIONS.to_owned(),
            subject: build,
            claims: claims.into_iter().collect(),
        }
    }

    /// The same identity with a claim set to another value.
    #[must_use]
    pub fn claiming(mut self, claim: Claim, value: &str) -> Self {
        self.claims.insert(claim, value.to_owned());
        self
    }
}
