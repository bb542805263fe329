//! The image patterns of policies: globs over whole names, `registry/repository`.

use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::suggest::nearest;
use crate::config::upstreams::DOCKER_HUB;
use crate::config::upstreams::DOCKER_HUB_OTHERS;
use crate::oci::RegistryHost;
use crate::policy::Glob;

/// Reads one pattern, and warns of one that can never match.
pub(super) fn pattern(value: &Value<'_>, hosts: Option<&[RegistryHost]>) -> Option<Glob> {
    if value.is_map() {
        return reference(value);
    }
    let text = value.text()?;
    if let Some((message, mend)) = mistake(text) {
        value.error(&format!("{} {message}", quoted(text)), mend);
        return None;
    }
    let glob = value.parsed(
        Glob::new,
        "see `images` in docs/CONFIGURATION.md for what patterns are",
    )?;
    if let Some((message, mend)) = never_matches(text, hosts) {
        value.warn(&format!("{} {message}", quoted(text)), &mend);
    }
    Some(glob)
}

/// A pattern over whole references, as other engines have them: with tag or digest. Each of them
/// has a way of its own to match, and to spell Docker Hub.
fn reference(value: &Value<'_>) -> Option<Glob> {
    const MEND: &str = "write { reference: \"registry.example/app:v*\" }, and Docker Hub as \
                        index.docker.io/OWNER/NAME; or { written: \"registry.example/app*\" }";
    let (form, value) = value
        .fields(&schema::IMAGE_PATTERN)?
        .exactly_one(&["reference", "written"], MEND)?;
    match form {
        "written" => value.parsed(Glob::over_written, MEND),
        _ => value.parsed(Glob::over_references, MEND),
    }
}

/// Tells of patterns that cannot stand in one policy: those over what people may have written are
/// matched with all spellings of an image at once, the others with one.
pub(super) fn refuse_mixture(value: &Value<'_>, images: &[Glob], except: &[Glob]) -> bool {
    let written = images.iter().chain(except);
    let written = written.filter(|glob| glob.is_over_written()).count();
    let mixed = written != 0 && written != images.len() + except.len();
    if mixed {
        value.error(
            "some of the patterns are `written` and some are not",
            "write all of `images` and `except` in one way, or two policies",
        );
    }
    mixed
}

/// What makes a text no pattern over names.
fn mistake(text: &str) -> Option<(&'static str, &'static str)> {
    const NAMES_ONLY: &str = "patterns are over names without tag and digest: `ghcr.io/acme/app`";
    if text.contains("://") {
        return Some((
            "is a URL, and images are meant by name",
            "write it without the scheme: `ghcr.io/acme/**`",
        ));
    }
    if text.contains('@') {
        return Some(("has a digest", NAMES_ONLY));
    }
    let (host, repository) = text.split_once('/').unwrap_or(("", text));
    // The first segment may have a port.
    if repository.contains(':') && !host.starts_with('[') {
        return Some(("has a tag", NAMES_ONLY));
    }
    if text.chars().any(|character| character.is_whitespace()) {
        return Some(("has a space", "remove it, or write two patterns"));
    }
    None
}

/// Why no name that this proxy serves matches.
fn never_matches(text: &str, hosts: Option<&[RegistryHost]>) -> Option<(String, String)> {
    const FULL: &str = "names are whole: `docker.io/library/busybox`; `**` crosses segments";
    let never = |why: &str, mend: &str| Some((format!("matches no image: {why}"), mend.to_owned()));
    let Some((first, rest)) = text.split_once('/') else {
        return match text.contains("**") {
            true => None,
            false => never("it has no registry and repository", FULL),
        };
    };
    if text.chars().any(|character| character.is_ascii_uppercase()) {
        return never("names are in lower case", "write it in lower case");
    }
    if let Some(name) = text.strip_suffix('/') {
        return never(
            "it ends with a slash",
            &format!("write `{name}/**` for all below it, or `{name}`"),
        );
    }
    if first == DOCKER_HUB && !rest.contains('/') && !rest.contains("**") {
        return never(
            "on Docker Hub every name has two segments at least",
            &format!("write `docker.io/library/{rest}`"),
        );
    }
    let hosts = hosts?;
    if first.starts_with('*') || first.contains("**") {
        return None;
    }
    let glob = Glob::new(first).ok()?;
    if hosts.iter().any(|host| glob.matches(host.as_str())) {
        return None;
    }
    if DOCKER_HUB_OTHERS.contains(&first) {
        let mend = format!("write `{DOCKER_HUB}/{rest}`");
        return never("images of Docker Hub are named by `docker.io`", &mend);
    }
    let names = || hosts.iter().map(RegistryHost::as_str);
    let mend = match nearest(first, names()) {
        Some(host) => format!("did you mean `{host}`?"),
        None if hosts.is_empty() => "add it under `upstreams`".to_owned(),
        None => format!(
            "add it under `upstreams`, where there is {}",
            listed(names(), "and")
        ),
    };
    never(&format!("{} is no upstream", quoted(first)), &mend)
}
