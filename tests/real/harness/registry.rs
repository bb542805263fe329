//! The original registries, where images are pushed and signed.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::harness::process::Daemon;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::free_port;

/// A running registry.
pub(crate) struct Registry {
    name: &'static str,
    address: SocketAddr,
    _daemon: Daemon,
}

impl Registry {
    /// The distribution project's registry: no referrers API, so evidence lies under fallback
    /// tags.
    pub(crate) fn distribution(undertaker: &Undertaker) -> Self {
        let folder = undertaker.folder("distribution");
        let port = free_port();
        let settings = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            folder.join("data").display()
        );
        std::fs::write(&settings, text).expect("the registry's settings");
        let daemon = undertaker.start(
            "distribution",
            command("registry")
                .env("OTEL_TRACES_EXPORTER", "none")
                .arg("serve")
                .arg(settings),
        );
        Self::ready("distribution", port, daemon)
    }

    /// A registry with a referrers API of its own.
    pub(crate) fn ferro(undertaker: &Undertaker) -> Self {
        let port = free_port();
        let daemon = undertaker.start(
            "ferro",
            command("ferro-oci-server")
                .env("FERRO_OCI_LISTEN", format!("127.0.0.1:{port}"))
                .env("FERRO_OCI_STORAGE_DIR", undertaker.folder("ferro")),
        );
        Self::ready("ferro", port, daemon)
    }

    fn ready(name: &'static str, port: u16, mut daemon: Daemon) -> Self {
        daemon.listens(port);
        Self {
            name,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            _daemon: daemon,
        }
    }

    /// What people call it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
