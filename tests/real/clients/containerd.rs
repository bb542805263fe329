//! containerd with its `ctr`, which resolves and fetches in the client itself.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::clients::Client;
use crate::clients::Route;
use crate::harness::World;
use crate::harness::catalogue::Entry;
use crate::harness::image::Image;
use crate::harness::process::Daemon;
use crate::harness::process::command;
use crate::harness::process::run;

/// A containerd with folders and sockets of its own.
pub(crate) struct Containerd {
    folder: PathBuf,
    _daemon: Daemon,
}

impl Containerd {
    /// Starts one that asks as `route` says.
    pub(crate) fn start(world: &World, name: &str, route: Route) -> Self {
        let folder = world.undertaker.folder(&format!("{name}-{route:?}"));
        write_hosts(world, &folder.join("certs.d"), route);
        let settings = folder.join("config.toml");
        std::fs::write(&settings, settings_text(&folder)).expect("containerd's settings");
        let mut daemon = world.undertaker.start(
            &format!("{name}-{route:?}"),
            command("containerd").arg("--config").arg(&settings),
        );
        let socket = folder.join("containerd.sock");
        daemon.becomes("does not answer", || {
            let mut version = command("ctr");
            run(version.arg("--address").arg(&socket).arg("version")).success
        });
        Self {
            folder,
            _daemon: daemon,
        }
    }

    /// Where it is reached.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// `ctr` in one namespace.
    pub(crate) fn ctr(&self, namespace: &str) -> Command {
        let mut ctr = command("ctr");
        ctr.arg("--address").arg(self.socket());
        ctr.args(["--namespace", namespace]);
        ctr
    }

    /// The folder that says which host stands for which registry.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.folder.join("certs.d")
    }

    /// Panics unless the content store holds the very bytes that were published.
    pub(crate) fn compare(&self, namespace: &str, image: &Image) {
        for content in image.native() {
            let digest = format!("sha256:{}", content.hex);
            let found = run(self.ctr(namespace).args(["content", "get", &digest]));
            assert!(
                found.success,
                "{digest} of {}: {}",
                image.digest, found.said
            );
            assert_eq!(found.stdout, content.bytes, "{digest} of {}", image.digest);
        }
    }
}

/// One `hosts.toml` per registry. With `server` alone containerd 1.6 goes to the original.
fn write_hosts(world: &World, hosts: &Path, route: Route) {
    if route == Route::Original {
        std::fs::create_dir_all(hosts).expect("containerd's hosts");
        return;
    }
    for site in &world.sites {
        let folder = hosts.join(site.front.host());
        std::fs::create_dir_all(&folder).expect("containerd's hosts");
        let gate = route.address(site);
        let text = format!(
            "server = \"http://{gate}\"\n\
             [host.\"http://{gate}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::write(folder.join("hosts.toml"), text).expect("containerd's hosts");
    }
}

fn settings_text(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{folder}/cni"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{folder}/certs.d"
"#
    )
}

/// `ctr images pull`.
pub(crate) struct Ctr(Containerd);

const NAMESPACE: &str = "tests";

impl Client for Ctr {
    fn set_up(world: &'static World, route: Route) -> Self {
        Self(Containerd::start(world, "ctr", route))
    }

    fn pull(&self, entry: &Entry) -> Result<(), String> {
        let mut ctr = self.0.ctr(NAMESPACE);
        ctr.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]);
        let finished = run(ctr.arg(self.0.hosts()).arg(&entry.reference));
        finished.success.then_some(()).ok_or(finished.said)
    }

    fn compare(&self, entry: &Entry) {
        self.0.compare(NAMESPACE, &entry.image);
    }
}
