//! The pull listener's certificate, and the authorities of its clients' certificates; all of it
//! may be exchanged while it serves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::sync::watch;

use crate::oci::Digest;

/// TLS with a certificate that can be exchanged.
#[derive(Debug)]
pub struct Tls {
    running: ArcSwap<ServerConfig>,
    /// The hash of what the files held that it was read from.
    held: ArcSwap<Digest>,
    /// Told of every exchange.
    exchanged: watch::Sender<()>,
}

/// The files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
    /// Whose certificates clients may come with, where they are asked for any.
    pub clients: Option<ClientFiles>,
}

/// What clients' certificates are held against. A client without one is served as well: it may
/// say in another way who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that issue them, in PEM.
    pub ca: PathBuf,
    /// Lists of those that are revoked (RFC 5280, section 5), in PEM: where there is a file, one
    /// of each authority in a client's chain, and none past its next update.
    pub revocation_list: Option<PathBuf>,
}

/// Why a certificate cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{0}: {1}")]
    File(String, String),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities of clients, or the lists of what they revoked.
    #[error("clients' certificates cannot be verified: {0}")]
    Clients(String),
}

impl Tls {
    /// Reads a certificate chain, its key, and what clients' certificates are held against.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be read or do not fit.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            held: ArcSwap::from_pointee(contents(files)),
            running: ArcSwap::from_pointee(read(files)?),
            exchanged: watch::Sender::new(()),
        })
    }

    /// Reads them again, where they hold something else. Connections that are open keep what they have; but those that were
    /// opened with a client's certificate end, since it may be revoked now.
    ///
    /// # Errors
    /// [`TlsError`]; what is in use then stays.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let held = contents(files);
        if held == **self.held.load() {
            return Ok(());
        }
        self.running.store(Arc::new(read(files)?));
        self.held.store(Arc::new(held));
        self.exchanged.send_replace(());
        Ok(())
    }

    /// Becomes changed when something else is in use.
    pub(super) fn exchanged(&self) -> watch::Receiver<()> {
        self.exchanged.subscribe()
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.running.load_full().into()
    }
}

/// The hash of what the files hold. One that cannot be read has none, and reading it will say so.
fn contents(files: &TlsFiles) -> Digest {
    let clients = files.clients.as_ref();
    let lists = clients.and_then(|clients| clients.revocation_list.as_ref());
    let paths = [Some(&files.certificate), Some(&files.key)];
    let mut all = Vec::new();
    for path in paths
        .into_iter()
        .chain([clients.map(|clients| &clients.ca), lists])
    {
        let held = path.and_then(|path| std::fs::read(path).ok());
        let digest = held.map(|held| Digest::sha256(&held).to_string());
        all.push(digest.unwrap_or_default());
    }
    Digest::sha256(all.join(" ").as_bytes())
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate)?;
    let private = PrivateKeyDer::from_pem_file(&files.key);
    let private = private.map_err(|error| unreadable(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
    };
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Of the clients that resume a session at all, each wants one at a time; making one is a part
    // of every handshake.
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn verifier(
    clients: &ClientFiles,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&clients.ca)? {
        roots.add(authority)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(path) = &clients.revocation_list {
        let lists = CertificateRevocationListDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(path, &error))?;
        if lists.is_empty() {
            return Err(unreadable(path, &"there is no revocation list in it"));
        }
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    let verifier = builder.allow_unauthenticated().build();
    verifier.map_err(|error| TlsError::Clients(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(path, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::File(path.display().to_string(), error.to_string())
}
