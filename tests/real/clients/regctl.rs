//! `regctl`, which copies images and artifacts.

use std::process::Command;

use crate::clients::Holds;
use crate::clients::Login;
use crate::clients::LogsIn;
use crate::clients::holds::compare_layout;
use crate::clients::logins::Program;
use crate::clients::logins::said;
use crate::harness::World;
use crate::harness::image::Image;
use crate::harness::process::run;

/// `regctl registry login`, then `regctl image copy`.
pub(crate) struct RegctlLogin(Program);

impl RegctlLogin {
    fn command(&self) -> Command {
        let mut regctl = self.0.command("regctl");
        regctl.env("REGCTL_CONFIG", self.0.file("regctl.json"));
        regctl
    }

    fn log_in(&self, login: &Login, reference: &str) -> Result<(), String> {
        let gate = reference.split('/').next().expect("a host");
        let mut plain = self.command();
        said(plain.args(["registry", "set", gate, "--tls", "disabled", "--skip-check"]))?;
        let mut entered = self.command();
        entered.args(["registry", "login", gate, "--user", &login.user]);
        said(entered.args(["--pass", &login.password, "--skip-check"]))
    }

    /// The content of an artifact of one file.
    pub(crate) fn artifact_as(&self, login: &Login, reference: &str) -> Result<Vec<u8>, String> {
        self.log_in(login, reference)?;
        let got = run(self.command().args(["artifact", "get", reference]));
        got.success.then_some(got.stdout).ok_or(got.said)
    }
}

impl LogsIn for RegctlLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Program::named(world, "regctl"))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        self.log_in(login, reference)?;
        let layout = format!("ocidir://{}:pulled", self.0.empty().display());
        said(self.command().args(["image", "copy", reference, &layout]))
    }
}

impl Holds for RegctlLogin {
    fn compare(&self, _reference: &str, image: &Image) {
        compare_layout(&self.0.pulled(), image);
    }
}
