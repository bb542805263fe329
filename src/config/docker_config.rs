//! Docker's `config.json`: who we are to one registry, as `docker login` has written it down.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::config::Secret;
use crate::config::UpstreamCredentials;
use crate::config::upstreams::DOCKER_HUB;
use crate::oci::RegistryHost;

/// The name that docker has for its own registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Why the file says nothing about a registry that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It is not the JSON that docker writes. What is wrong is not told: it may be a password.
    #[error("this is not a docker configuration")]
    NotOne,
    /// Nobody is logged in there.
    #[error("it has no login for {0}")]
    NoLogin(String),
    /// The login is no user and password.
    #[error("its login for {0} is not one of a user and a password")]
    NoPassword(String),
    /// The password is with a program that was not listed.
    #[error(
        "it keeps the login for {host} with the credential helper `{helper}`, which is not run"
    )]
    HelperNotListed {
        /// The registry.
        host: String,
        /// The helper's name, without `docker-credential-`.
        helper: String,
    },
}

/// The members that mean something here; `docker` has many more.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Who we are to `host`. Of credential helpers, only those in `helpers` are asked.
pub(super) fn credentials(
    json: &[u8],
    host: &RegistryHost,
    helpers: &[String],
) -> Result<UpstreamCredentials, Trouble> {
    let file: File = serde_json::from_slice(json).map_err(|_| Trouble::NotOne)?;
    let names = names_of(host);
    let found = names.iter().find_map(|name| file.helpers.get(name));
    if let Some(helper) = found.or(file.store.as_ref()) {
        if !helpers.contains(helper) {
            return Err(Trouble::HelperNotListed {
                host: host.to_string(),
                helper: helper.clone(),
            });
        }
        let known = |name: &&String| file.auths.contains_key(*name);
        let known = names.iter().find(known).or(names.first());
        return Ok(UpstreamCredentials::Helper {
            name: helper.clone(),
            server: known.cloned().unwrap_or_else(|| host.to_string()),
        });
    }
    let login = names.iter().find_map(|name| file.auths.get(name));
    let login = login.ok_or_else(|| Trouble::NoLogin(host.to_string()))?;
    login
        .user_and_password()
        .map(|(username, password)| UpstreamCredentials::Basic {
            username,
            password: Secret::new(&password),
        })
        .ok_or_else(|| Trouble::NoPassword(host.to_string()))
}

/// The keys under which docker and its kin write a registry down, the usual one first.
fn names_of(host: &RegistryHost) -> Vec<String> {
    let mut names = vec![
        host.to_string(),
        format!("https://{host}"),
        format!("https://{host}/"),
        format!("https://{host}/v1/"),
        format!("https://{host}/v2/"),
    ];
    if host.as_str() == DOCKER_HUB {
        names.insert(0, DOCKER_HUB_KEY.to_owned());
    }
    names
}

impl Login {
    fn user_and_password(&self) -> Option<(String, String)> {
        let pair = match self.auth.as_deref().filter(|auth| !auth.is_empty()) {
            Some(auth) => {
                let decoded = BASE64_STANDARD.decode(auth.trim()).ok()?;
                let text = String::from_utf8(decoded).ok()?;
                let (username, password) = text.split_once(':')?;
                // Some versions of docker pad with zeros.
                (
                    username.to_owned(),
                    password.trim_end_matches('\0').to_owned(),
                )
            }
            None => (self.username.clone()?, self.password.clone()?),
        };
        // `<token>` stands for an identity token, which is no password.
        let usable = !pair.0.is_empty() && pair.0 != "<token>" && !pair.1.is_empty();
        let plain = !pair.0.contains(char::is_control) && !pair.1.contains(char::is_control);
        (usable && plain).then_some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, host: &str, helpers: &[&str]) -> Result<UpstreamCredentials, Trouble> {
        let helpers: Vec<String> = helpers.iter().map(ToString::to_string).collect();
        credentials(json.as_bytes(), &host.parse().expect("a host"), &helpers)
    }

    fn user(json: &str, host: &str) -> String {
        match read(json, host, &[]) {
            Ok(UpstreamCredentials::Basic { username, password }) => {
                format!("{username}:{}", password.expose())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn logins_are_found_under_the_names_that_tools_use() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnBhc3M="},
            "ghcr.io": {"auth": "YTpiOmM="},
            "https://quay.io": {"username": "u", "password": "p"}
        }, "HttpHeaders": {}}"#;
        assert_eq!(user(json, "docker.io"), "hub:pass");
        assert_eq!(user(json, "ghcr.io"), "a:b:c");
        assert_eq!(user(json, "quay.io"), "u:p");
        let missing = read(json, "r.test", &[]).expect_err("nobody is logged in");
        assert_eq!(missing, Trouble::NoLogin("r.test".to_owned()));
    }

    #[test]
    fn a_helper_is_asked_only_where_it_is_listed() {
        let json = r#"{"auths": {"https://index.docker.io/v1/": {}},
            "credHelpers": {"r.test": "ecr-login"}, "credsStore": "desktop"}"#;
        let helper = |host, helpers: &[&str]| match read(json, host, helpers) {
            Ok(UpstreamCredentials::Helper { name, server }) => format!("{name} for {server}"),
            other => format!("{other:?}"),
        };
        assert_eq!(helper("r.test", &["ecr-login"]), "ecr-login for r.test");
        assert_eq!(
            helper("docker.io", &["desktop"]),
            "desktop for https://index.docker.io/v1/"
        );
        let refused = read(json, "r.test", &["desktop"]).expect_err("not listed");
        assert!(
            matches!(refused, Trouble::HelperNotListed { helper, .. } if helper == "ecr-login")
        );
    }

    #[test]
    fn what_is_no_login_is_told_without_its_text() {
        for (json, trouble) in [
            (
                r#"{"auths": {"r.test": {"auth": "secret"}}}"#,
                "a user and a password",
            ),
            (r#"{"auths": {"r.test": {}}}"#, "a user and a password"),
            (r#"{"auths": "secret"}"#, "not a docker configuration"),
            ("secret", "not a docker configuration"),
        ] {
            let said = read(json, "r.test", &[]).expect_err("no login").to_string();
            assert!(said.contains(trouble) && !said.contains("secret"), "{said}");
        }
    }
}
