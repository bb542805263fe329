//! Tokens as the issuers that people use document them: names and kinds of the claims, with
//! values of our own.

use serde_json::json;

use super::token::Token;

impl Token {
    /// The token of a job on GitHub Actions
    /// (docs.github.com, "OpenID Connect reference"): `reference` is `refs/heads/main` or a
    /// tag's. A job with an `environment` has it in its subject, in place of the ref.
    #[must_use]
    pub fn github_actions(
        repository: &str,
        reference: &str,
        environment: Option<&str>,
        audience: &str,
    ) -> Self {
        let subject = match environment {
            Some(environment) => format!("repo:{repository}:environment:{environment}"),
            None => format!("repo:{repository}:ref:{reference}"),
        };
        let owner = repository.split('/').next().unwrap_or(repository);
        let workflow = format!("{repository}/.github/workflows/build.yml@{reference}");
        let token = Self::new(&subject, audience)
            .claim("repository", repository)
            .claim("repository_owner", owner)
            .claim("repository_id", "74")
            .claim("repository_owner_id", "65")
            .claim("repository_visibility", "private")
            .claim("ref", reference)
            .claim("ref_type", "branch")
            .claim("sha", "0123456789012345678901234567890123456789")
            .claim("workflow", "build")
            .claim("workflow_ref", workflow.as_str())
            .claim("job_workflow_ref", workflow.as_str())
            .claim("event_name", "push")
            .claim("actor", "octocat")
            .claim("actor_id", "12")
            .claim("head_ref", "")
            .claim("base_ref", "")
            .claim("run_id", "1000")
            .claim("run_number", "10")
            .claim("run_attempt", "1")
            .claim("runner_environment", "github-hosted")
            .claim("jti", "example-id");
        match environment {
            Some(environment) => token.claim("environment", environment),
            None => token,
        }
    }

    /// The token of a job on GitLab (docs.gitlab.com, "OpenID Connect (OIDC) Authentication
    /// Using ID Tokens"). Its numbers and truths are texts.
    #[must_use]
    pub fn gitlab(project: &str, branch: &str, audience: &str) -> Self {
        let namespace = project.rsplit_once('/').map_or(project, |(group, _)| group);
        Self::new(
            &format!("project_path:{project}:ref_type:branch:ref:{branch}"),
            audience,
        )
        .claim("project_path", project)
        .claim("project_id", "20")
        .claim("namespace_path", namespace)
        .claim("namespace_id", "72")
        .claim("ref", branch)
        .claim("ref_type", "branch")
        .claim("ref_path", format!("refs/heads/{branch}"))
        .claim("ref_protected", "true")
        .claim("pipeline_id", "574")
        .claim("pipeline_source", "push")
        .claim("job_id", "302")
        .claim("runner_environment", "gitlab-hosted")
        .claim("user_login", "sample-user")
        .claim("user_email", "sample-user@example.test")
        .claim("jti", "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b")
    }

    /// An identity token of a Google account (developers.google.com, "OpenID Connect"). The
    /// subject is a number; the mail address is a claim.
    #[must_use]
    pub fn google(subject: &str, email: &str, audience: &str) -> Self {
        Self::new(subject, audience)
            .claim("azp", audience)
            .claim("email", email)
            .claim("email_verified", true)
            .claim("at_hash", "HK6E_P6Dh8Y93mRNtsDB1Q")
    }

    /// An identity token of Microsoft Entra (learn.microsoft.com, "ID token claims reference"):
    /// the issuer has the tenant in its path, the subject is a pairwise name.
    #[must_use]
    pub fn microsoft(tenant: &str, subject: &str, login: &str, audience: &str) -> Self {
        Self::new(subject, audience)
            .claim("tid", tenant)
            .claim("oid", "690222be-ff1a-4d56-abd1-7e4f7d38e474")
            .claim("preferred_username", login)
            .claim("groups", json!(["0f3dd8f7-4d6c-4b5f-9a55-2a1ddc1d9a1c"]))
            .claim("ver", "2.0")
    }

    /// The token of a Kubernetes service account, bound to a pod
    /// (kubernetes.io, "Managing Service Accounts").
    #[must_use]
    pub fn kubernetes(namespace: &str, service_account: &str, audience: &str) -> Self {
        Self::new(
            &format!("system:serviceaccount:{namespace}:{service_account}"),
            audience,
        )
        .claim("aud", json!([audience]))
        .claim(
            "kubernetes.io",
            json!({
                "namespace": namespace,
                "node": {"name": "node-1", "uid": "6a2a1c9e-6e4d-4b0a-8d0e-6e9f4b6d5e3a"},
                "pod": {"name": "web-0", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
                "serviceaccount": {
                    "name": service_account,
                    "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798",
                },
            }),
        )
        .claim("jti", "ea28ed49-2e11-4280-9ec5-bc3d1d84661a")
    }
}
