//! The configuration file, and with it all that it names, lowered into [`Settings`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::CacheSettings;
use crate::config::LastGood;
use crate::config::Limits;
use crate::config::Problem;
use crate::config::Settings;
use crate::config::Sources;
use crate::config::TlsFiles;
use crate::config::UpstreamCredentials;
use crate::config::audit;
use crate::config::callers;
use crate::config::pem;
use crate::config::policies;
use crate::config::problem::Problems;
use crate::config::problem::Sheet;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::pullers;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::roots;
use crate::config::schema;
use crate::config::signers;
use crate::config::sources;
use crate::config::suggest::nearest;
use crate::config::units;
use crate::config::upstreams;
use crate::oci::RegistryHost;
use crate::policy::CONDITION_STEPS_MAX;
use crate::verify::Authority;
use crate::verify::GpgKey;
use crate::verify::KeyringError;

/// Reads an authority's certificate, with those that lead to it.
pub(super) type ReadAuthority = fn(&[u8], &[Vec<u8>]) -> Result<Authority, String>;

/// What the verifier says of keys and trust roots. The reason of a refusal is for people.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    /// Whether a key (SubjectPublicKeyInfo in DER) is one that can be verified with.
    pub key: fn(&[u8]) -> Result<(), String>,
    /// A certificate authority by its certificate, with those that lead to it; in DER.
    pub authority: ReadAuthority,
    /// The OpenPGP keys of a keyring.
    pub gpg: fn(&[u8]) -> Result<Vec<GpgKey>, KeyringError>,
    /// Whether a directory can be written to.
    pub directory: fn(&Path) -> Result<(), String>,
    /// Whether a text is a Sigstore `trusted_root.json`.
    pub root: fn(&str) -> Result<(), String>,
    /// Whether bytes are a TUF root that its own keys sign.
    pub tuf_root: fn(&[u8]) -> Result<(), String>,
}

/// A configuration that holds.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub settings: Settings,
    /// What is probably not meant.
    pub warnings: Vec<Problem>,
    /// The files that it was read from.
    pub sources: Sources,
}

/// Reads the configuration file at `path` and everything that it names: policies, keys,
/// certificates, trust roots, passwords. `now` only serves to warn of what has ended.
///
/// # Errors
/// Every problem of every file, warnings included, in the order of file and line; at least
/// one of them is an error.
pub fn load(path: &Path, checks: &Checks, now: Timestamp) -> Result<Loaded, Vec<Problem>> {
    load_watched(path, checks, now).1
}

/// As [`load`], with the files that were looked at, whatever came of it.
pub fn load_watched(
    path: &Path,
    checks: &Checks,
    now: Timestamp,
) -> (Sources, Result<Loaded, Vec<Problem>>) {
    let problems = Problems::default();
    let settings = read(path, &problems, checks, now);
    let (sources, problems) = problems.into_sorted(path);
    let loaded = match settings {
        Some(settings) if !problems.iter().any(Problem::is_error) => Ok(Loaded {
            settings,
            warnings: problems,
            sources: sources.clone(),
        }),
        _ => Err(problems),
    };
    (sources, loaded)
}

fn read(path: &Path, problems: &Problems, checks: &Checks, now: Timestamp) -> Option<Settings> {
    let sheet = Sheet {
        file: path,
        problems,
    };
    let documents = sources::documents(&sheet)?;
    if let Some(second) = documents.get(1) {
        sheet.error(
            second.line,
            "",
            "the configuration is one document, and a second one begins here",
            "remove the `---` line",
        );
    }
    let Some(root) = documents.first() else {
        sheet.error(1, "", "the file is empty", upstreams::MEND_NO_UPSTREAM);
        return None;
    };
    let fields = Value::root(root, &sheet).fields(&schema::CONFIGURATION)?;
    lower(&fields, checks, now)
}

fn lower(fields: &Fields<'_>, checks: &Checks, now: Timestamp) -> Option<Settings> {
    let listeners = listeners(fields);
    let tls = fields.at("tls").map(|value| tls(&value));
    let callers = fields
        .at("callers")
        .map(|value| callers::lower(&value, tls.is_some()));
    warn_of_plain_logins(fields, tls.is_some());
    let upstreams = fields
        .required("upstreams", upstreams::MEND_NO_UPSTREAM)
        .and_then(|value| upstreams::lower(&value));
    refuse_two_uses(fields, upstreams.as_ref());
    let hosts = upstreams
        .as_ref()
        .map(|upstreams| upstreams.hosts.as_slice());
    let default_upstream = fields
        .at("default_upstream")
        .map(|value| default_upstream(&value, hosts));
    let (mut trust_roots, root_names) = roots::lower(
        fields.at("trust_roots").as_ref(),
        fields.at("default_trust_root").as_ref(),
        checks,
    );
    let cache = fields
        .at("cache")
        .map_or(Some(CacheSettings::default()), |value| {
            cache(&value, checks)
        });
    let audit = fields.at("audit").map(|value| audit::lower(&value));
    let limits = fields
        .at("limits")
        .map_or(Some(Limits::default()), |value| {
            Some(Limits::read(&value.fields(&schema::LIMITS)?))
        });
    let context = policies::Context {
        ways: pullers::Ways::of(fields.at("callers").as_ref()),
        signers: signers::Context {
            roots: &root_names,
            checks,
            now,
        },
        hosts,
        now,
        remembers: cache.as_ref().is_none_or(|cache| cache.directory.is_some()),
        condition_steps_max: limits
            .as_ref()
            .map_or(CONDITION_STEPS_MAX, |limits| limits.condition_steps_max),
    };
    let rules = sources::rules(fields, &context);
    trust_roots.extend(root_names.take_added());
    let (listen, admin) = listeners?;
    let cache = cache?;
    let directory = cache.directory.as_ref();
    let last_good = LastGood {
        directory: directory.map(|directory| directory.join("trust")),
        read_only: false,
    };
    Some(Settings {
        listen,
        admin,
        tls: whole(tls)?,
        callers: whole(callers)?,
        default_upstream: whole(default_upstream)?,
        upstreams: upstreams?.settings,
        rules,
        trust_roots,
        default_trust_root: root_names.default_root(),
        last_good,
        cache,
        audit: whole(audit)?,
        limits: limits?,
    })
}

/// There is one `Authorization` header: with both, what a client sends to log in here would be
/// sent on to a registry.
fn refuse_two_uses(fields: &Fields<'_>, upstreams: Option<&upstreams::Upstreams>) {
    let Some((callers, upstreams)) = fields.at("callers").zip(upstreams) else {
        return;
    };
    let mut asked = upstreams.settings.iter();
    if let Some(upstream) =
        asked.find(|upstream| upstream.credentials == UpstreamCredentials::Caller)
    {
        callers.error(
            &format!(
                "upstreams.{} has `credentials: caller`, and the password or token that a caller \
                 logs in here with would be sent to it",
                upstream.host
            ),
            "give the upstream credentials of its own, and let `pulled_by` say who may pull; or \
             remove `callers`, and let the registry say",
        );
    }
}

/// Passwords and tokens are for TLS, ours or that of what is in front.
fn warn_of_plain_logins(fields: &Fields<'_>, tls: bool) {
    let Some(callers) = fields.at("callers").filter(|_| !tls) else {
        return;
    };
    let reached_over_tls = callers
        .peek("public_url")
        .and_then(|(_, value)| value.as_text())
        .is_some_and(|url| url.starts_with("https://"));
    let listen = fields.at("listen").and_then(|value| value.as_text());
    let is_local = listen
        .and_then(|listen| listen.parse::<SocketAddr>().ok())
        .is_none_or(|listen| listen.ip().is_loopback());
    if !is_local && !reached_over_tls {
        callers.warn(
            "passwords and tokens come to this gate in the clear",
            "add `tls`; or, where something in front of it speaks TLS, `public_url: https://HOST`",
        );
    }
}

/// The two addresses, which must not be one.
fn listeners(fields: &Fields<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let address = |key, port| {
        fields
            .at(key)
            .map_or(Some(loopback(port)), |value| value.address())
    };
    let (listen, admin) = (address("listen", 5080), address("admin", 5081));
    let (listen, admin) = (listen?, admin?);
    let overlap =
        listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
    if listen.port() == admin.port() && listen.port() != 0 && overlap {
        let value = fields.at("admin").or_else(|| fields.at("listen"));
        value.as_ref().unwrap_or(fields.value()).error(
            &format!("pulls ({listen}) and operators ({admin}) would be answered at one address"),
            "give `admin` another port, one that pullers cannot reach",
        );
        return None;
    }
    Some((listen, admin))
}

fn tls(value: &Value<'_>) -> Option<TlsFiles> {
    const MEND: &str = "write { certificate: tls.crt, key: tls.key }";
    let fields = value.fields(&schema::TLS)?;
    let certificate = fields.required("certificate", MEND);
    let certificate = certificate.and_then(|value| {
        pem_file(
            &value,
            pem::has_certificates,
            "no certificate in PEM",
            "give a file with the certificate and its chain",
        )
    });
    let key = fields.required("key", MEND);
    let key = key.and_then(|value| {
        pem_file(
            &value,
            pem::has_private_key,
            "no private key in PEM that is not encrypted",
            "give the certificate's private key: a `-----BEGIN PRIVATE KEY-----` block",
        )
    });
    Some(TlsFiles {
        certificate: certificate?,
        key: key?,
    })
}

fn pem_file(
    value: &Value<'_>,
    holds: fn(&[u8]) -> bool,
    lacks: &str,
    mend: &str,
) -> Option<PathBuf> {
    let (path, bytes) = value.file()?;
    if !holds(&bytes) {
        value.error(&format!("{} holds {lacks}", path.display()), mend);
        return None;
    }
    Some(path)
}

fn default_upstream(value: &Value<'_>, hosts: Option<&[RegistryHost]>) -> Option<RegistryHost> {
    let text = value.text()?;
    // Where the upstreams are wrong, nobody can say whether it is among them.
    let hosts = hosts?;
    let found = hosts.iter().find(|host| host.as_str() == text);
    if found.is_none() {
        let names = || hosts.iter().map(RegistryHost::as_str);
        let mend = match nearest(text, names()) {
            Some(host) => format!("did you mean `{host}`?"),
            None => format!(
                "write {}, or add it under `upstreams`",
                listed(names(), "or")
            ),
        };
        value.error(&format!("{} is no upstream", quoted(text)), &mend);
    }
    found.cloned()
}

fn cache(value: &Value<'_>, checks: &Checks) -> Option<CacheSettings> {
    let fields = value.fields(&schema::CACHE)?;
    let defaults = CacheSettings::default();
    let size = |key, default| match fields.at(key) {
        None => Some(default),
        Some(value) => {
            let bytes = value.parsed(units::bytes, units::SIZE_MEND)?;
            if bytes == 0 {
                value.error(
                    "a cache of 0 bytes could hold nothing",
                    "give it room, or remove the line for the default",
                );
            }
            Some(bytes)
        }
    };
    let time = |key, default: Duration| {
        fields.at(key).map_or(Some(default), |value| {
            value.parsed(units::duration, units::DURATION_MEND)
        })
    };
    let directory = fields.at("directory").map(|value| {
        let path = value.path_value()?;
        if let Err(why) = (checks.directory)(&path) {
            value.warn(
                &format!("{} cannot be written to: {why}", path.display()),
                "give it to the user who runs pullgate; where this is another one, never mind",
            );
        }
        Some(path)
    });
    let disk_bytes_max = size("disk_bytes_max", defaults.disk_bytes_max);
    let memory_bytes_max = size("memory_bytes_max", defaults.memory_bytes_max);
    let facts_ttl = time("facts_ttl", defaults.facts_ttl);
    let unsigned_ttl = time("unsigned_ttl", defaults.unsigned_ttl);
    let permit_ttl = time("permit_ttl", defaults.permit_ttl);
    let tag_ttl = time("tag_ttl", defaults.tag_ttl);
    let stale_ttl = time("stale_ttl", defaults.stale_ttl);
    Some(CacheSettings {
        directory: whole(directory)?,
        disk_bytes_max: disk_bytes_max?,
        memory_bytes_max: memory_bytes_max?,
        facts_ttl: facts_ttl?,
        unsigned_ttl: unsigned_ttl?,
        permit_ttl: permit_ttl?,
        tag_ttl: tag_ttl?,
        stale_ttl: stale_ttl?,
    })
}
