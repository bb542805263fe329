//! `pullgate runtime-config`: client configuration that leaves no way around the gate. The
//! forms are those that were seen to seal (docs/RUNBOOK.md, "Sealing").

use std::{path::PathBuf, process::ExitCode};

use crate::config;
use crate::oci::RegistryHost;

/// Arguments of `pullgate runtime-config`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The client.
    #[arg(value_enum)]
    runtime: Runtime,
    /// The configuration file.
    #[arg(long)]
    pub(super) config: PathBuf,
    /// The name, with a port where it has one, by which clients reach the gate; `listen` without.
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<RegistryHost>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Runtime {
    Containerd,
    Podman,
    Crio,
    Docker,
    K3s,
}

pub(super) fn run(arguments: &Arguments, settings: &config::Settings) -> ExitCode {
    let listen = settings.listen;
    if arguments.host.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
        eprintln!(
            "pullgate: nobody can ask for {listen}: say with --host under which name clients reach \
             the gate"
        );
    }
    let host = arguments.host.as_ref().map(ToString::to_string);
    let gate = Gate {
        host: host.unwrap_or_else(|| listen.to_string()),
        tls: settings.tls.is_some(),
    };
    let hosts: Vec<&str> = settings
        .upstreams
        .iter()
        .map(|upstream| upstream.host.as_str())
        .collect();
    print!(
        "{}{}",
        gate.authority(arguments.runtime),
        match arguments.runtime {
            Runtime::Containerd => containerd(&gate, &hosts),
            Runtime::Podman | Runtime::Crio => registries_conf(&gate, &hosts),
            Runtime::Docker => docker(&gate, &hosts),
            Runtime::K3s => k3s(&gate, &hosts),
        }
    );
    ExitCode::SUCCESS
}

struct Gate {
    host: String,
    tls: bool,
}

impl Gate {
    fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.host
        )
    }
}

impl Gate {
    /// Where the authority goes that has certified the gate, if it is none that clients know.
    fn authority(&self, runtime: Runtime) -> String {
        if !self.tls {
            return String::new();
        }
        let place = match runtime {
            Runtime::Containerd => "`ca = \"FILE\"` below each host entry".to_owned(),
            Runtime::Podman | Runtime::Crio | Runtime::Docker => {
                let folder = match runtime {
                    Runtime::Docker => "/etc/docker/certs.d",
                    _ => "/etc/containers/certs.d",
                };
                format!("{folder}/{}/ca.crt", self.host)
            }
            Runtime::K3s => {
                format!(
                    "configs: {{ \"{}\": {{ tls: {{ ca_file: FILE }} }} }}",
                    self.host
                )
            }
        };
        format!("# If an authority of your own has certified the gate, name it here: {place}\n")
    }
}

fn containerd(gate: &Gate, hosts: &[&str]) -> String {
    let url = gate.url();
    let mut text = String::from(
        "# containerd: one file per registry under the directory that `config_path` names\n\
         # (io.containerd.grpc.v1.cri registry, usually /etc/containerd/certs.d). `server` and\n\
         # the host entry are both needed: with one of them alone some versions ask the\n\
         # original. A file that does not parse is ignored, which opens the original again.\n",
    );
    for host in hosts.iter().copied().chain(["_default"]) {
        text.push_str(&format!(
            "\n# {host}/hosts.toml\nserver = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        ));
    }
    text
}

fn registries_conf(gate: &Gate, hosts: &[&str]) -> String {
    let mut text = String::from(
        "# podman, skopeo, buildah, CRI-O: registries.conf. A location and no mirror: a mirror\n\
         # that refuses would be passed over for the original.\n",
    );
    for host in hosts {
        text.push_str(&format!(
            "\n[[registry]]\nprefix = \"{host}\"\nlocation = \"{}/{host}\"\n{}",
            gate.host,
            if gate.tls { "" } else { "insecure = true\n" },
        ));
    }
    text
}

fn docker(gate: &Gate, hosts: &[&str]) -> String {
    let mut text = String::from(
        "# dockerd passes over a mirror that refuses, and has mirrors for docker.io only: nothing\n\
         # in daemon.json seals it. Name the gate in image names, and close the way to the\n\
         # registries in the network. (daemon.json takes no comments: only the last line is for it.)\n",
    );
    for host in hosts {
        text.push_str(&format!(
            "#   docker pull {}/{host}/REPOSITORY:TAG\n",
            gate.host
        ));
    }
    if gate.tls {
        text.push_str("{}\n");
    } else {
        text.push_str(&format!(
            "{{ \"insecure-registries\": [\"{}\"] }}\n",
            gate.host
        ));
    }
    text
}

fn k3s(gate: &Gate, hosts: &[&str]) -> String {
    let mut text = String::from(
        "# k3s: /etc/rancher/k3s/registries.yaml. Start k3s with\n\
         # --disable-default-registry-endpoint, or the originals stay open.\nmirrors:\n",
    );
    for host in hosts.iter().copied().chain(["*"]) {
        text.push_str(&format!(
            "  \"{host}\":\n    endpoint: [\"{}\"]\n",
            gate.url()
        ));
    }
    text
}
