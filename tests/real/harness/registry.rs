//! The original registries, where images are pushed and signed.

use std::fmt::Write as _;
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
    daemon: Daemon,
}

/// What stands before a registry that is not for everybody: files, by their paths.
pub(crate) struct Guard<'a> {
    /// Its certificate.
    pub(crate) certificate: &'a str,
    /// The key of it.
    pub(crate) key: &'a str,
    /// Its users, as `htpasswd` writes them.
    pub(crate) users: &'a str,
    /// The authority that issued the certificates that its clients come with.
    pub(crate) clients: &'a str,
}

impl Registry {
    /// The distribution project's registry: no referrers API, so evidence lies under fallback
    /// tags.
    pub(crate) fn distribution(undertaker: &Undertaker) -> Self {
        Self::over_the_images("distribution", None, undertaker)
    }

    /// The same registry over the same images, by TLS, for those who are in a file of users and come
    /// with a certificate.
    pub(crate) fn guarded(guard: &Guard<'_>, undertaker: &Undertaker) -> Self {
        Self::over_the_images("guarded", Some(guard), undertaker)
    }

    fn over_the_images(
        name: &'static str,
        guard: Option<&Guard<'_>>,
        undertaker: &Undertaker,
    ) -> Self {
        let port = free_port();
        let images = undertaker.folder("distribution").join("data");
        let mut text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: {}}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http:\n  addr: \"127.0.0.1:{port}\"\n",
            guard.is_none(),
            images.display()
        );
        if let Some(guard) = guard {
            let Guard {
                certificate,
                key,
                users,
                clients,
            } = guard;
            let _ = write!(
                text,
                "  tls: {{certificate: {certificate}, key: {key}, clientcas: [{clients}]}}\n\
                 auth: {{htpasswd: {{realm: guarded, path: {users}}}}}\n"
            );
        }
        let settings = undertaker.folder(name).join("registry.yml");
        std::fs::write(&settings, text).expect("the registry's settings");
        let daemon = undertaker.start(
            name,
            command("registry")
                .env("OTEL_TRACES_EXPORTER", "none")
                .arg("serve")
                .arg(settings),
        );
        Self::ready(name, port, daemon)
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
            daemon,
        }
    }

    /// What people call it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What it has written down: where it has a guard, each request.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
