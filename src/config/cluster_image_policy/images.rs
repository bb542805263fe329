//! `images` of a `ClusterImagePolicy`: globs over whole references.

use crate::config::cluster_image_policy::sections;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::policy::Glob;

/// Lowers `images`.
pub(super) fn lower(value: &Value<'_>) -> Option<Vec<Glob>> {
    let items = value.filled_list("name at least one image")?;
    let globs: Vec<Glob> = items.iter().filter_map(image).collect();
    (globs.len() == items.len()).then_some(globs)
}

fn image(item: &Value<'_>) -> Option<Glob> {
    let value = item
        .fields(&sections::IMAGE)?
        .required("glob", "write { glob: \"ghcr.io/acme/**\" }")?;
    let text = value.text()?;
    // What policy-controller makes of the two shortest globs. More than two stars say no more
    // than two.
    let text = match text {
        "*" => "index.docker.io/library/*".to_owned(),
        "*/*" => "index.docker.io/*/*".to_owned(),
        other => two_stars(other),
    };
    let text = text.as_str();
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_:/*.@".contains(character);
    if !text.chars().all(plain) {
        value.error(
            &format!("{} is no glob", quoted(text)),
            "use letters, digits and - _ : / * . @",
        );
        return None;
    }
    let last = text.rsplit('/').next().unwrap_or(text);
    if let Some(at) = last.find([':', '@']) {
        let name = &text[..text.len() - last.len() + at];
        value.warn(
            "this names a tag or digest, and a runtime asks for the manifests of an index by \
             digests that it does not match: they fall to other policies and the default",
            &format!(
                "match the repository: `{}`",
                two_stars(&format!("{name}**"))
            ),
        );
    }
    let host = text.split('/').next().unwrap_or(text);
    let names_no_host = !text.contains('*') && !host.contains(['.', ':']);
    if host == "docker.io" || names_no_host {
        value.warn(
            "images are compared by their whole names here, so this matches none",
            "write Docker Hub's images as index.docker.io/OWNER/NAME:TAG",
        );
    } else if !text.contains('*') && !last.contains([':', '@']) {
        value.warn(
            "images are compared with their tag or digest, so this matches none",
            "match all of them: `ghcr.io/acme/app**`",
        );
    }
    value.parsed(|_| Glob::over_references(text), "correct the glob")
}

fn two_stars(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("***") {
        text = text.replace("***", "**");
    }
    text
}
