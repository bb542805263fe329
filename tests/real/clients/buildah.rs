//! `buildah`, which pulls what images are built from.

use std::path::PathBuf;
use std::process::Command;

use crate::clients::Holds;
use crate::clients::Login;
use crate::clients::LogsIn;
use crate::clients::containers::read;
use crate::clients::logins::Program;
use crate::clients::logins::said;
use crate::harness::World;
use crate::harness::image::FILE;
use crate::harness::image::Image;
use crate::harness::process::must;

/// `buildah login`, then `buildah pull`.
pub(crate) struct BuildahLogin(Program);

impl BuildahLogin {
    fn command(&self) -> Command {
        let mut buildah = self.0.command("buildah");
        buildah.args(["--storage-driver", "vfs"]);
        for name in ["root", "runroot"] {
            buildah.arg(format!("--{name}")).arg(self.0.file(name));
        }
        buildah
    }
}

impl LogsIn for BuildahLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Program::named(world, "buildah"))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let gate = reference.split('/').next().expect("a host");
        let mut entered = self.command();
        entered.args(["login", "--tls-verify=false", "--username", &login.user]);
        said(entered.args(["--password", &login.password, gate]))?;
        let mut pull = self.command();
        pull.args(["pull", "--quiet", "--tls-verify=false"]);
        pull.args(["--policy", "always", "--signature-policy"]);
        said(pull.arg(self.0.file("policy.json")).arg(reference))
    }
}

impl Holds for BuildahLogin {
    fn compare(&self, reference: &str, image: &Image) {
        let mut from = self.command();
        from.args(["from", "--pull-never", "--signature-policy"]);
        let container = must(from.arg(self.0.file("policy.json")).arg(reference));
        let files = PathBuf::from(must(self.command().args(["mount", &container])));
        assert_eq!(read(&files.join(FILE)), image.text.as_bytes());
        must(self.command().args(["rm", &container]));
    }
}
