//! `docker`, whose daemon pulls for it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::clients::Holds;
use crate::clients::Login;
use crate::clients::LogsIn;
use crate::clients::Route;
use crate::clients::containerd::Containerd;
use crate::clients::containers::read;
use crate::clients::logins::Program;
use crate::clients::logins::said;
use crate::harness::World;
use crate::harness::image::FILE;
use crate::harness::image::Image;
use crate::harness::process::Daemon;
use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::process::run;

/// `docker login`, then `docker pull`, with a daemon of its own.
pub(crate) struct DockerLogin {
    program: Program,
    socket: PathBuf,
    // Ended before the containerd that it stands on.
    _daemon: Daemon,
    _containerd: Containerd,
}

impl LogsIn for DockerLogin {
    fn set_up(world: &'static World) -> Self {
        let program = Program::named(world, "docker");
        // One that the daemon brought up itself would outlive it when it is killed.
        let containerd = Containerd::start(world, "docker-containerd", Route::Original);
        // Not that of the machine.
        std::fs::write(program.file("daemon.json"), "{}").expect("the daemon's settings");
        let socket = program.file("docker.sock");
        let mut daemon = world
            .undertaker
            .start("dockerd", &mut dockerd(&program, &containerd));
        daemon.becomes("does not answer", || {
            run(docker(&program, &socket).arg("version")).success
        });
        Self {
            program,
            socket,
            _daemon: daemon,
            _containerd: containerd,
        }
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let gate = reference.split('/').next().expect("a host");
        let mut entered = self.docker();
        entered.args(["login", "--username", &login.user]);
        said(entered.args(["--password", &login.password, gate]))?;
        // What is there already would not be fetched; the first time there is nothing.
        run(self.docker().args(["image", "rm", "--force", reference]));
        said(self.docker().args(["pull", "--quiet", reference]))
    }
}

impl Holds for DockerLogin {
    fn compare(&self, reference: &str, image: &Image) {
        let format = ["image", "inspect", "--format", "{{json .RepoDigests}}"];
        let digests = must(self.docker().args(format).arg(reference));
        assert!(digests.contains(&image.digest), "{digests}");
        let container = must(self.docker().args(["create", reference, "never-run"]));
        let copy = self.program.file(FILE);
        let file = format!("{container}:/{FILE}");
        must(self.docker().args(["cp", &file]).arg(&copy));
        assert_eq!(read(&copy), image.text.as_bytes());
        must(self.docker().args(["rm", &container]));
    }
}

impl DockerLogin {
    fn docker(&self) -> Command {
        docker(&self.program, &self.socket)
    }
}

fn docker(program: &Program, socket: &Path) -> Command {
    let mut docker = program.command("docker");
    docker
        .env_remove("DOCKER_CONTEXT")
        .arg("--host")
        .arg(format!("unix://{}", socket.display()));
    docker
}

/// The daemon, which touches neither the machine's network nor, in a mount namespace of its own,
/// its mounts. Registries on loopback it asks without TLS unless told otherwise.
fn dockerd(program: &Program, containerd: &Containerd) -> Command {
    let mut dockerd = command("unshare");
    dockerd.args(["--mount", "dockerd", "--storage-driver", "vfs"]);
    dockerd.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    dockerd.arg("--containerd").arg(containerd.socket());
    for (flag, file) in [
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "dockerd.pid"),
        ("--config-file", "daemon.json"),
    ] {
        dockerd.arg(flag).arg(program.file(file));
    }
    let socket = program.file("docker.sock");
    dockerd
        .arg("--host")
        .arg(format!("unix://{}", socket.display()));
    dockerd
}
