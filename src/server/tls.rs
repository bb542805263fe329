//! The pull listener's certificate, which may be exchanged while it serves.

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// TLS with a certificate that can be exchanged.
#[derive(Debug)]
pub struct Tls {
    running: ArcSwap<ServerConfig>,
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
}

impl Tls {
    /// Reads a certificate chain and its key, in PEM.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be read or do not fit.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            running: ArcSwap::from_pointee(read(certificate, key)?),
        })
    }

    /// Reads them again. Connections that are open keep what they have.
    ///
    /// # Errors
    /// [`TlsError`]; the certificate in use then stays.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        self.running.store(Arc::new(read(certificate, key)?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.running.load_full().into()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let fails = |path: &Path, error: &dyn std::fmt::Display| {
        TlsError::File(path.display().to_string(), error.to_string())
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fails(certificate, &error))?;
    if chain.is_empty() {
        return Err(fails(certificate, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fails(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
