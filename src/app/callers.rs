//! Who may ask: from settings to the room that says who asks, and the file of users when it
//! changes.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tracing::{error, info};

use crate::authn;
use crate::authn::Authn;
use crate::authn::TokenKey;
use crate::authn::Users;
use crate::config;
use crate::config::CallersSettings;
use crate::gate;
use crate::server;
use crate::upstream;

/// The largest file of users, in bytes.
const USERS_BYTES_MAX: u64 = 1 << 20;

/// Whether something differs that is read at the start only. Users are not.
pub(super) fn differ(running: &Option<CallersSettings>, new: &Option<CallersSettings>) -> bool {
    let fixed = |settings: &Option<CallersSettings>| {
        settings.as_ref().map(|callers| {
            let path = callers.htpasswd.as_ref().map(|file| file.path.clone());
            let CallersSettings {
                oidc,
                client_certificates,
                tokens,
                public_url,
                ..
            } = callers.clone();
            (path, oidc, client_certificates, tokens, public_url)
        })
    };
    fixed(running) != fixed(new)
}

/// The files of TLS, those of clients' certificates among them.
pub(super) fn tls_files(settings: &config::Settings) -> Option<server::TlsFiles> {
    let files = settings.tls.as_ref()?;
    let callers = settings.callers.as_ref();
    let clients = callers.and_then(|callers| callers.client_certificates.as_ref());
    Some(server::TlsFiles {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        clients: clients.map(|clients| server::ClientFiles {
            ca: clients.ca.clone(),
            revocation_list: clients.revocation_list.clone(),
        }),
    })
}

/// The room that says who asks, where anybody is asked.
pub(super) fn build(
    settings: &config::Settings,
    parts: &gate::Parts,
) -> anyhow::Result<Option<server::Callers>> {
    let Some(callers) = &settings.callers else {
        return Ok(None);
    };
    let issuers = callers.oidc.iter().map(|issuer| {
        let extra_roots = CertificateDer::pem_slice_iter(&issuer.ca)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| anyhow::anyhow!("callers.oidc: {}: {error}", issuer.url))?;
        Ok(authn::IssuerSettings {
            url: issuer.url.clone(),
            audience: issuer.audience.clone(),
            extra_roots,
        })
    });
    let limits = &settings.limits;
    let token_key = match &callers.tokens.key {
        Some(key) => TokenKey::shared(key.expose().as_bytes()),
        None => TokenKey::random(),
    };
    // Half of the processors: the other half goes on serving those who are known.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let lowered = authn::Settings {
        users: callers.htpasswd.as_ref().map(|file| file.users.clone()),
        oidc: authn::OidcSettings {
            issuers: issuers.collect::<anyhow::Result<_>>()?,
            keys_stale_max: limits.issuer_keys_stale_max,
            limits: upstream::Limits {
                connect_timeout: limits.connect_timeout,
                answer_timeout: limits.answer_timeout,
                manifest_deadline: limits.manifest_deadline,
                ..upstream::Limits::default()
            },
        },
        token_key: token_key.context("callers.tokens")?,
        token_lifetime: callers.tokens.lifetime,
        failures_max: limits.authentication_failures_max,
        password_threads: (processors / 2).max(1),
    };
    let parts = authn::Parts {
        clock: parts.clock.clone(),
        metrics: Arc::clone(&parts.metrics),
        hands: parts.hands.clone(),
    };
    let authn = Authn::new(lowered, parts).context("callers")?;
    Ok(Some(server::Callers {
        authn: Arc::new(authn),
        public_url: callers.public_url.clone(),
        secure: settings.tls.is_some(),
    }))
}

/// Puts the users of a configuration that was read anew in force.
pub(super) fn reload(running: &Option<server::Callers>, settings: &config::Settings) {
    let file = settings
        .callers
        .as_ref()
        .and_then(|new| new.htpasswd.as_ref());
    if let (Some(running), Some(file)) = (running, file) {
        running.authn.replace_users(file.users.clone());
    }
}

/// Puts the users of `file` in force, as it stands now. A file that does not read leaves those in
/// force as they are.
pub(super) fn read_users(authn: &Authn, file: &Path) {
    // A file that is not there is about to be: editors and mounts exchange it.
    if let Ok(text) = read(file) {
        take(authn, file, &text);
    }
}

fn take(authn: &Authn, path: &Path, text: &str) {
    match Users::parse(text) {
        Ok(users) => {
            let count = users.len();
            if authn.replace_users(users) {
                info!(users = count, "the new file of users is in use");
            }
        }
        Err(problems) => {
            for problem in problems {
                error!("{}:{}: {}", path.display(), problem.line, problem.message);
            }
            error!("the new file of users is not usable; the users in force stay");
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(USERS_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}
