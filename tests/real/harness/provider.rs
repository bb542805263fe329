//! A certified OpenID provider (npm's `oidc-provider`), with the clients `team-a` and `team-b`.

use std::path::Path;

use serde_json::Value;

use crate::harness::process::Daemon;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::free_port;
use crate::harness::process::must;
use crate::harness::process::tools;

/// A running provider.
pub(crate) struct Provider {
    url: String,
    _daemon: Daemon,
}

impl Provider {
    /// Starts one on loopback.
    pub(crate) fn start(undertaker: &Undertaker) -> Self {
        let port = free_port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/oidc-provider.mjs");
        let mut node = command("node");
        node.arg(script).arg(tools().join("share/oidc-provider"));
        let mut daemon = undertaker.start("oidc-provider", node.arg(port.to_string()));
        daemon.listens(port);
        Self {
            url: format!("http://127.0.0.1:{port}"),
            _daemon: daemon,
        }
    }

    /// Its URL, which is `iss` in its tokens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The token of one of its clients, which logs in with its secret.
    pub(crate) fn token(&self, client: &str) -> String {
        let mut curl = command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--user"]);
        curl.arg(format!("{client}:secret-of-{client}"));
        curl.args(["--data", "grant_type=client_credentials"]);
        let answer = must(curl.arg(format!("{}/token", self.url)));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let token = answer["access_token"].as_str();
        token.expect("an access token").to_owned()
    }
}
