//! The programs that pull, each with credentials of its own on its command line or in its file,
//! as their users give them.

use std::path::PathBuf;
use std::process::Command;

use crate::clients::Client;
use crate::clients::Cri;
use crate::clients::Route;
use crate::clients::containerd::Containerd;
use crate::clients::keep_apart;
use crate::harness::World;
use crate::harness::process::command;
use crate::harness::process::run;

/// Who a user says to be.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// The name; beside a token it says nothing.
    pub(crate) user: String,
    /// A password or a token.
    pub(crate) password: String,
}

impl Login {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    fn joined(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }
}

/// A program that logs in and pulls.
pub(crate) trait LogsIn {
    /// The repository of what it pulls, signed by the release workflow.
    const REPOSITORY: &'static str = "release/keyless";

    /// Its tag.
    const TAG: &'static str = "v1";

    /// Sets it up with a folder of its own.
    fn set_up(world: &'static World) -> Self
    where
        Self: Sized;

    /// Pulls `reference`; an error is what it says to its user.
    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String>;
}

/// A program that keeps what it needs in one folder.
pub(super) struct Program(PathBuf);

impl Program {
    /// One whose folder is named after it.
    pub(super) fn named(world: &World, name: &str) -> Self {
        let folder = world.undertaker.folder(&format!("login-{name}"));
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        std::fs::write(folder.join("policy.json"), policy).expect("a client's settings");
        Self(folder)
    }

    /// A command that finds its settings in that folder.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command
            .env("HOME", &self.0)
            .env("XDG_RUNTIME_DIR", &self.0)
            .env("DOCKER_CONFIG", &self.0)
            .env("REGISTRY_AUTH_FILE", self.0.join("auth.json"));
        command
    }

    /// A file or folder in that folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder that the last pull went into.
    pub(super) fn pulled(&self) -> PathBuf {
        self.0.join("pulled")
    }

    /// The same, with nothing in it.
    pub(super) fn empty(&self) -> PathBuf {
        let folder = self.pulled();
        // The first time there is none.
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }
}

/// Runs a command; an error is what it says to its user.
pub(super) fn said(command: &mut Command) -> Result<(), String> {
    let finished = run(command);
    finished.success.then_some(()).ok_or(finished.said)
}

/// `podman login`, then `podman pull`.
pub(crate) struct PodmanLogin(pub(super) Program);

impl PodmanLogin {
    pub(super) fn command(&self) -> Command {
        let mut command = self.0.command("podman");
        keep_apart(&mut command, &self.0.0);
        command
    }
}

impl LogsIn for PodmanLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Program::named(world, "podman"))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let gate = reference.split('/').next().expect("a host");
        let mut entered = self.command();
        entered.args(["login", "--tls-verify=false", "--username", &login.user]);
        said(entered.args(["--password", &login.password, gate]))?;
        let mut pull = self.command();
        pull.args([
            "pull",
            "--quiet",
            "--tls-verify=false",
            "--signature-policy",
        ]);
        said(pull.arg(self.0.0.join("policy.json")).arg(reference))
    }
}

/// `skopeo copy --src-creds`.
pub(crate) struct SkopeoLogin(pub(super) Program);

impl LogsIn for SkopeoLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Program::named(world, "skopeo"))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let mut copy = self.0.command("skopeo");
        copy.arg("--policy").arg(self.0.0.join("policy.json"));
        copy.args(["copy", "--quiet", "--all", "--src-tls-verify=false"]);
        copy.args(["--src-creds", &login.joined()])
            .arg(format!("docker://{reference}"));
        said(copy.arg(format!("dir:{}", self.0.empty().display())))
    }
}

/// `crane auth login`, then `crane pull`.
pub(crate) struct CraneLogin(pub(super) Program);

impl LogsIn for CraneLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Program::named(world, "crane"))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let gate = reference.split('/').next().expect("a host");
        let mut entered = self.0.command("crane");
        entered.args(["auth", "login", gate, "--username", &login.user]);
        said(entered.args(["--password", &login.password]))?;
        let mut pull = self.0.command("crane");
        said(
            pull.args(["pull", "--insecure", "--format", "oci", reference])
                .arg(self.0.empty()),
        )
    }
}

/// `oras cp` with credentials.
pub(crate) struct OrasLogin(pub(super) Program);

impl LogsIn for OrasLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Program::named(world, "oras"))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let mut copy = self.0.command("oras");
        copy.args(["cp", "--from-plain-http", "--from-username", &login.user]);
        copy.args(["--from-password", &login.password, "--to-oci-layout"]);
        said(
            copy.arg(reference)
                .arg(format!("{}:pulled", self.0.empty().display())),
        )
    }
}

/// The namespace of what is pulled with credentials.
pub(super) const LOGINS: &str = "logins";

/// `ctr images pull --user`.
pub(crate) struct CtrLogin(pub(super) Containerd);

impl LogsIn for CtrLogin {
    fn set_up(world: &'static World) -> Self {
        Self(Containerd::start(world, "ctr-login", Route::Original))
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let mut pull = self.0.ctr(LOGINS);
        pull.args(["images", "pull", "--plain-http", "--snapshotter", "native"]);
        said(pull.args(["--user", &login.joined(), reference]))
    }
}

/// What a kubelet asks of containerd, with the credentials of a pull secret.
impl LogsIn for Cri {
    fn set_up(world: &'static World) -> Self {
        <Self as Client>::set_up(world, Route::Original)
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        self.pull_with(reference, Some((&login.user, &login.password)))
    }
}
