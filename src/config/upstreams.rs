//! The registries: `upstreams` lowered.

use std::net::IpAddr;

use http::Uri;

use crate::config::ClientCertificate;
use crate::config::LookasideSettings;
use crate::config::Secret;
use crate::config::UpstreamCredentials;
use crate::config::UpstreamSettings;
use crate::config::docker_config;
use crate::config::docker_config::Trouble;
use crate::config::pem;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::oci::RegistryHost;

/// The name that image names have for Docker Hub.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Where Docker Hub's registry listens.
const DOCKER_HUB_URL: &str = "https://registry-1.docker.io";

/// Other names of Docker Hub, under which no image is known.
pub(super) const DOCKER_HUB_OTHERS: &[&str] = &[
    "index.docker.io",
    "registry-1.docker.io",
    "registry.docker.io",
    "hub.docker.com",
    "registry.hub.docker.com",
];

/// Every upstream that is right, and the hosts of all of them: a policy for an upstream with
/// a slip in it is not to be blamed too.
pub(super) struct Upstreams {
    pub(super) settings: Vec<UpstreamSettings>,
    pub(super) hosts: Vec<RegistryHost>,
}

/// Lowers `upstreams`.
pub(super) fn lower(value: &Value<'_>) -> Option<Upstreams> {
    let entries = value.entries()?;
    if entries.is_empty() {
        value.error("there is no upstream", MEND_NO_UPSTREAM);
        return None;
    }
    let mut upstreams = Upstreams {
        settings: Vec::new(),
        hosts: Vec::new(),
    };
    for (name, value) in entries {
        let host = host(name, &value);
        let upstream = upstream(host.as_ref(), &value);
        upstreams.settings.extend(upstream);
        upstreams.hosts.extend(host);
    }
    Some(upstreams)
}

/// What to write where there is no upstream.
pub(super) const MEND_NO_UPSTREAM: &str =
    "name the registries to pull from by the hosts that image names carry: `docker.io: {}`";

fn host(name: &str, value: &Value<'_>) -> Option<RegistryHost> {
    if DOCKER_HUB_OTHERS.contains(&name) {
        value.error(
            "image names call Docker Hub `docker.io`, so this would never be asked",
            "write `docker.io: {}`; its address is known",
        );
        return None;
    }
    match name.parse() {
        Ok(host) => Some(host),
        Err(error) => {
            let mend = if name.contains("://") || name.contains('/') {
                "write only the host here, and the address under its `url`"
            } else {
                "write the host as image names carry it, in lower case: `ghcr.io`, \
                 `registry.example:5000`"
            };
            value.error(&error.to_string(), mend);
            None
        }
    }
}

/// Reads everything even where the host is wrong, so that all problems are told.
fn upstream(host: Option<&RegistryHost>, value: &Value<'_>) -> Option<UpstreamSettings> {
    let fields = value.fields(&schema::UPSTREAM)?;
    let given = fields.at("url").map(|value| (urls(&value), value));
    let ca = fields.at("ca").map(|value| certificates(&value));
    let client_certificate = fields
        .at("client_certificate")
        .map(|value| client_certificate(&value));
    let redirects = fields.at("redirects").map(|value| redirects(&value));
    let lookaside = fields.at("lookaside").map(|value| lookaside(&value));
    let pace = fields
        .at("requests_per_second_max")
        .map(|value| pace(&value));
    let credentials = fields
        .at("credentials")
        .map_or(Some(UpstreamCredentials::Anonymous), |value| {
            credentials(host, &value)
        });
    let host = host?.clone();
    let library_prefix = host.as_str() == DOCKER_HUB;
    let (url, more_urls) = match given {
        Some((urls, value)) => {
            let mut urls = urls?.into_iter();
            for url in urls.clone() {
                warn_of_plain_credentials(&url, credentials.as_ref(), &value);
            }
            (urls.next()?, urls.collect())
        }
        None if library_prefix => (DOCKER_HUB_URL.to_owned(), Vec::new()),
        None => (format!("https://{host}"), Vec::new()),
    };
    Some(UpstreamSettings {
        host,
        url,
        more_urls,
        ca: ca.map_or(Some(Vec::new()), |ca| ca)?,
        client_certificate: whole(client_certificate)?,
        requests_per_second_max: whole(pace)?,
        redirects: whole(redirects)?,
        lookaside: whole(lookaside)?,
        credentials: credentials?,
        library_prefix,
    })
}

/// How many addresses one registry can have.
const URLS_MAX: usize = 8;

/// One address, or several of the same registry.
fn urls(value: &Value<'_>) -> Option<Vec<String>> {
    if !value.is_list() {
        return Some(vec![url(value)?]);
    }
    let items = value.filled_list("give one address, or remove the line")?;
    if items.len() > URLS_MAX {
        value.error(
            "these are more addresses than are tried",
            &format!("leave {URLS_MAX} of them"),
        );
        return None;
    }
    let urls: Vec<String> = items.iter().filter_map(url).collect();
    let secure = urls
        .iter()
        .filter(|url| url.starts_with("https://"))
        .count();
    if secure != 0 && secure != urls.len() {
        value.error(
            "some of these addresses are https and some http",
            "write https for all of them: credentials and redirects are the same for each",
        );
        return None;
    }
    (urls.len() == items.len()).then_some(urls)
}

fn pace(value: &Value<'_>) -> Option<u32> {
    value.parsed(
        |text| match text.parse::<u32>() {
            Ok(0) | Err(_) => Err("not a whole number of 1 or more"),
            Ok(pace) => Ok(pace),
        },
        "write how many requests a second this registry is sent, like 20",
    )
}

fn client_certificate(value: &Value<'_>) -> Option<ClientCertificate> {
    const MEND: &str = "write { certificate: client.crt, key: client.key }";
    let fields = value.fields(&schema::CLIENT_CERTIFICATE)?;
    let certificate = fields.required("certificate", MEND);
    let certificate = certificate.and_then(|value| certificates(&value));
    let key = fields.required("key", MEND).and_then(|value| {
        let (path, bytes) = value.file()?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if pem::has_private_key(&bytes) => Some(Secret::new(text)),
            _ => {
                value.error(
                    &format!(
                        "{} holds no private key in PEM that is not encrypted",
                        path.display()
                    ),
                    "give the certificate's private key: a `-----BEGIN PRIVATE KEY-----` block",
                );
                None
            }
        }
    });
    Some(ClientCertificate {
        certificate: certificate?,
        key: key?,
    })
}

pub(super) fn url(value: &Value<'_>) -> Option<String> {
    // Apart from the rest, so that the message does not show the password.
    if value.as_text().is_some_and(|text| text.contains('@')) {
        value.error(
            "there is a user name or password in this URL",
            "take it out, and write `credentials: { username: USER, password_file: FILE }`",
        );
        return None;
    }
    value.parsed(
        |text| {
            if text.contains(['?', '#']) {
                return Err("the URL has a query");
            }
            let uri: Uri = text.parse().map_err(|_| "not a URL")?;
            if !matches!(uri.scheme_str(), Some("https" | "http")) {
                return Err("not an https or http URL");
            }
            let authority = uri.authority().ok_or("not a URL")?.as_str();
            let host = authority.to_ascii_lowercase();
            host.parse::<RegistryHost>()
                .map_err(|_| "a URL without a host name or address")?;
            Ok(text.trim_end_matches('/').to_owned())
        },
        "write https://HOST or https://HOST:PORT",
    )
}

const LOOKASIDE_MEND: &str = "write https://HOST/PATH, or file:///FOLDER";

/// A folder or a web server. Nobody would notice a signature that somebody on the way keeps
/// back, so plain http is for this machine only.
fn lookaside(value: &Value<'_>) -> Option<LookasideSettings> {
    let text = value.text()?;
    if let Some(folder) = text.strip_prefix("file://") {
        if folder.starts_with('/') && !folder.contains('%') {
            let folder = folder.trim_end_matches('/');
            return Some(LookasideSettings::Folder(folder.into()));
        }
        value.error(
            "a file: URL names an absolute path, without a host and as it is on the disk",
            "write file:///FOLDER",
        );
        return None;
    }
    if text.starts_with("http://") && !is_loopback(text) {
        value.error(
            "signatures would come in the clear, and could be kept back on the way",
            "write https://; plain http is for this machine only",
        );
        return None;
    }
    if !text.starts_with("https://") && !text.starts_with("http://") {
        value.error(
            &format!("{} is no lookaside store", quoted(text)),
            LOOKASIDE_MEND,
        );
        return None;
    }
    url(value).map(LookasideSettings::Web)
}

fn warn_of_plain_credentials(
    url: &str,
    credentials: Option<&UpstreamCredentials>,
    value: &Value<'_>,
) {
    let named = matches!(
        credentials,
        Some(
            UpstreamCredentials::Basic { .. }
                | UpstreamCredentials::Helper { .. }
                | UpstreamCredentials::Caller
        )
    );
    if named && url.starts_with("http://") && !is_loopback(url) {
        value.warn(
            "the password goes to this upstream in the clear",
            "use https",
        );
    }
}

/// Whether the URL's host is this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    uri.host().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

pub(super) fn certificates(value: &Value<'_>) -> Option<Vec<u8>> {
    let (path, bytes) = value.file()?;
    if pem::has_certificates(&bytes) {
        return Some(bytes);
    }
    value.error(
        &format!("{} holds no certificate in PEM", path.display()),
        "give a file with at least one whole `-----BEGIN CERTIFICATE-----` block",
    );
    None
}

fn redirects(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.list()?;
    let wanted = items.len();
    let hosts: Vec<String> = items.iter().filter_map(redirect).collect();
    (hosts.len() == wanted).then_some(hosts)
}

fn redirect(value: &Value<'_>) -> Option<String> {
    value.parsed(
        |text| {
            let text = text.to_ascii_lowercase();
            let host = text.strip_prefix("*.").unwrap_or(&text);
            match host.parse::<RegistryHost>() {
                Ok(_) => Ok(text),
                Err(_) => Err("not a host"),
            }
        },
        "write a host, or `*.` and a domain for all hosts below it, perhaps with a port",
    )
}

fn credentials(host: Option<&RegistryHost>, value: &Value<'_>) -> Option<UpstreamCredentials> {
    const MEND: &str = "write `anonymous`, `caller`, { username: USER, password_file: FILE }, or \
                        { docker_config: FILE }";
    match value.as_text() {
        Some("anonymous" | "default") => return Some(UpstreamCredentials::Anonymous),
        Some("caller") => return Some(UpstreamCredentials::Caller),
        Some(text) => {
            value.error(&format!("{} is no kind of credentials", quoted(text)), MEND);
            return None;
        }
        None => {}
    }
    let fields = value.fields(&schema::CREDENTIALS)?;
    if let Some(file) = fields.at("docker_config") {
        return docker_config(host, value, &fields, &file);
    }
    if let Some(helpers) = fields.at("credential_helpers") {
        helpers.error(
            "credential helpers are named by a docker configuration, and there is none",
            "add `docker_config: FILE`, or remove the line",
        );
        return None;
    }
    let username = fields.required("username", MEND);
    let username = username.and_then(|value| {
        value.parsed(
            |text| match text.contains(':') || text.contains(char::is_control) {
                true => Err("a user name has no colon and no control characters"),
                false => Ok(text.to_owned()),
            },
            "give the name alone; the password has a file of its own",
        )
    });
    let password = fields.required("password_file", MEND);
    let password = password.and_then(|value| password_file(&value));
    Some(UpstreamCredentials::Basic {
        username: username?,
        password: password?,
    })
}

/// Who we are by docker's own configuration.
fn docker_config(
    host: Option<&RegistryHost>,
    credentials: &Value<'_>,
    fields: &Fields<'_>,
    file: &Value<'_>,
) -> Option<UpstreamCredentials> {
    if fields.at("username").is_some() || fields.at("password_file").is_some() {
        credentials.error(
            "there are two logins here",
            "write either `docker_config`, or `username` and `password_file`",
        );
        return None;
    }
    let helpers = match fields.at("credential_helpers") {
        Some(value) => credential_helpers(&value)?,
        None => Vec::new(),
    };
    let (path, bytes) = file.file()?;
    match docker_config::credentials(&bytes, host?, &helpers) {
        Ok(credentials) => Some(credentials),
        Err(trouble) => {
            let mend = match &trouble {
                Trouble::NotOne => "name the config.json that `docker login` writes".to_owned(),
                Trouble::NoLogin(host) => {
                    format!("run `docker login {host}`, or name another file")
                }
                Trouble::NoPassword(_) => {
                    "log in with a user and a password or access token".to_owned()
                }
                Trouble::HelperNotListed { helper, .. } => format!(
                    "add `credential_helpers: [{helper}]`, and docker-credential-{helper} is run"
                ),
            };
            file.error(&format!("{}: {trouble}", path.display()), &mend);
            None
        }
    }
}

/// The helpers that may be run, by what follows `docker-credential-` in their names.
fn credential_helpers(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.list()?;
    let names = items.iter().filter_map(|item| {
        item.parsed(
            |text| {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                match text.bytes().all(is_plain) {
                    true => Ok(text.to_owned()),
                    false => Err("not the name of a helper"),
                }
            },
            "write what follows `docker-credential-` in the program's name: [ecr-login]",
        )
    });
    let names: Vec<String> = names.collect();
    (names.len() == items.len()).then_some(names)
}

fn password_file(value: &Value<'_>) -> Option<Secret> {
    let (path, bytes) = value.file()?;
    // Files written by an editor or `echo` end in a newline that is not part of the password.
    let password = std::str::from_utf8(&bytes)
        .ok()
        .map(|text| text.trim_end_matches(['\r', '\n']));
    match password {
        Some(password) if !password.is_empty() && !password.contains(char::is_control) => {
            Some(Secret::new(password))
        }
        _ => {
            value.error(
                &format!("{} does not hold one line with a password", path.display()),
                "write the password or access token into it, and nothing else",
            );
            None
        }
    }
}
