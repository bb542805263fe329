//! The configuration file, and with it all that it names, lowered into [`Settings`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::CacheSettings;
use crate::config::Limits;
use crate::config::Problem;
use crate::config::Settings;
use crate::config::TlsFiles;
use crate::config::files;
use crate::config::pem;
use crate::config::policies;
use crate::config::problem::Problems;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Sheet;
use crate::config::reader::Value;
use crate::config::roots;
use crate::config::schema;
use crate::config::signers;
use crate::config::suggest::nearest;
use crate::config::units;
use crate::config::upstreams;
use crate::config::yaml;
use crate::config::yaml::Node;
use crate::oci::RegistryHost;
use crate::policy::Rules;

/// What the verifier says of keys and trust roots. The reason of a refusal is for people.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    /// Whether a key (SubjectPublicKeyInfo in DER) is one that can be verified with.
    pub key: fn(&[u8]) -> Result<(), String>,
    /// Whether a text is a Sigstore `trusted_root.json`.
    pub root: fn(&str) -> Result<(), String>,
}

/// A configuration that holds.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub settings: Settings,
    /// What is probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads the configuration file at `path` and everything that it names: policies, keys,
/// certificates, trust roots, passwords. `now` only serves to warn of what has ended.
///
/// # Errors
/// Every problem of every file, warnings included, in the order of file and line; at least
/// one of them is an error.
pub fn load(path: &Path, checks: &Checks, now: Timestamp) -> Result<Loaded, Vec<Problem>> {
    let problems = Problems::default();
    let settings = read(path, &problems, checks, now);
    let problems = problems.into_sorted(path);
    match settings {
        Some(settings) if !problems.iter().any(Problem::is_error) => Ok(Loaded {
            settings,
            warnings: problems,
        }),
        _ => Err(problems),
    }
}

fn read(path: &Path, problems: &Problems, checks: &Checks, now: Timestamp) -> Option<Settings> {
    let sheet = Sheet {
        file: path,
        problems,
    };
    let documents = documents(&sheet)?;
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

/// The YAML documents of the file that `sheet` is about.
fn documents(sheet: &Sheet<'_>) -> Option<Vec<Node>> {
    let bytes = match files::read(sheet.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("cannot read this file: {error}");
            sheet.error(0, "", &message, "name a file that is there and may be read");
            return None;
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => yaml::parse(text, sheet),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
            sheet.error(line, "", "this is not UTF-8", "save the file as UTF-8");
            None
        }
    }
}

fn lower(fields: &Fields<'_>, checks: &Checks, now: Timestamp) -> Option<Settings> {
    let listeners = listeners(fields);
    let tls = fields.at("tls").map(|value| tls(&value));
    let upstreams = fields
        .required("upstreams", upstreams::MEND_NO_UPSTREAM)
        .and_then(|value| upstreams::lower(&value));
    let hosts = upstreams
        .as_ref()
        .map(|upstreams| upstreams.hosts.as_slice());
    let default_upstream = fields
        .at("default_upstream")
        .map(|value| default_upstream(&value, hosts));
    let (trust_roots, root_names) = roots::lower(
        fields.at("trust_roots").as_ref(),
        fields.at("default_trust_root").as_ref(),
        checks,
    );
    let cache = fields
        .at("cache")
        .map_or(Some(CacheSettings::default()), |value| cache(&value));
    let limits = fields
        .at("limits")
        .map_or(Some(Limits::default()), |value| {
            Some(Limits::read(&value.fields(&schema::LIMITS)?))
        });
    let context = policies::Context {
        signers: signers::Context {
            roots: &root_names,
            checks,
        },
        hosts,
        now,
    };
    let rules = rules(fields, &context);
    let (listen, admin) = listeners?;
    Some(Settings {
        listen,
        admin,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        default_upstream: match default_upstream {
            Some(host) => Some(host?),
            None => None,
        },
        upstreams: upstreams?.settings,
        rules,
        trust_roots,
        cache: cache?,
        limits: limits?,
    })
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

fn cache(value: &Value<'_>) -> Option<CacheSettings> {
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
    let directory = fields.at("directory").map(|value| value.path_value());
    let disk_bytes_max = size("disk_bytes_max", defaults.disk_bytes_max);
    let memory_bytes_max = size("memory_bytes_max", defaults.memory_bytes_max);
    let facts_ttl = time("facts_ttl", defaults.facts_ttl);
    let unsigned_ttl = time("unsigned_ttl", defaults.unsigned_ttl);
    let tag_ttl = time("tag_ttl", defaults.tag_ttl);
    let stale_ttl = time("stale_ttl", defaults.stale_ttl);
    Some(CacheSettings {
        directory: match directory {
            Some(directory) => Some(directory?),
            None => None,
        },
        disk_bytes_max: disk_bytes_max?,
        memory_bytes_max: memory_bytes_max?,
        facts_ttl: facts_ttl?,
        unsigned_ttl: unsigned_ttl?,
        tag_ttl: tag_ttl?,
        stale_ttl: stale_ttl?,
    })
}

/// Reads the policy files that `policies` names.
fn rules(fields: &Fields<'_>, context: &policies::Context<'_>) -> Rules {
    let files = policy_files(fields);
    let problems = fields.value().sheet().problems;
    let sheets: Vec<Sheet<'_>> = files.iter().map(|file| Sheet { file, problems }).collect();
    let parsed: Vec<(&Sheet<'_>, Vec<Node>)> = sheets
        .iter()
        .filter_map(|sheet| Some((sheet, documents(sheet)?)))
        .collect();
    for (sheet, nodes) in &parsed {
        if nodes.is_empty() {
            sheet.warn(1, "", "there is nothing in this file", "remove it");
        }
    }
    let documents: Vec<Value<'_>> = parsed
        .iter()
        .flat_map(|(sheet, nodes)| nodes.iter().map(|node| Value::root(node, sheet)))
        .collect();
    policies::lower(&documents, context)
}

/// The policy files, each once, in the order in which they are named; those of a folder by
/// name.
fn policy_files(fields: &Fields<'_>) -> Vec<PathBuf> {
    const MEND: &str = "name files or folders of *.yaml: policies: [policies/]";
    let Some(value) = fields.at("policies") else {
        fields
            .value()
            .warn("there is no policy, so every pull is refused", MEND);
        return Vec::new();
    };
    let items = value.filled_list(MEND).unwrap_or_default();
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items {
        if item.as_text().is_none() && !item.is_null() {
            // Only to say which mapping it is that cannot stand here.
            if item
                .fields(&schema::POLICY_SOURCE)
                .is_some_and(|fields| fields.is_empty())
            {
                item.error("this names no file", MEND);
            }
            continue;
        }
        for file in item
            .path_value()
            .map_or_else(Vec::new, |path| expand(&item, path))
        {
            // One file by two ways would be told as a heap of names that stand twice.
            if seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
                files.push(file);
            } else {
                let message = format!("{} is named more than once", file.display());
                item.warn(&message, "it is read once; remove the other");
            }
        }
    }
    files
}

/// The file itself, or those of the folder.
fn expand(item: &Value<'_>, path: PathBuf) -> Vec<PathBuf> {
    if !path.is_dir() {
        return match path.exists() {
            true => vec![path],
            false => {
                item.error(
                    &format!("there is no file or folder {}", path.display()),
                    "a relative path starts at the file that names it",
                );
                Vec::new()
            }
        };
    }
    let folder = match files::list(&path) {
        Ok(folder) => folder,
        Err(error) => {
            let message = format!("cannot read the folder {}: {error}", path.display());
            item.error(&message, "make it readable, or name its files one by one");
            return Vec::new();
        }
    };
    for inner in &folder.folders {
        let message = format!(
            "{} is a folder within a folder, and is not read",
            inner.display()
        );
        item.warn(
            &message,
            "name it under `policies` too, if it holds policies",
        );
    }
    if folder.files.is_empty() {
        let message = format!("{} holds no *.yaml file", path.display());
        item.warn(&message, "put policies there, or remove it");
    }
    folder.files
}
