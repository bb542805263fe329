//! `imageReferences` and `skipImageReferences`: patterns over images as Pods name them.

use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::oci::Digest;
use crate::policy::Glob;

/// What the patterns are for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Use {
    Match,
    Skip,
}

pub(super) fn lower(value: &Value<'_>, purpose: Use) -> Option<Vec<Glob>> {
    let items = value.filled_list("name at least one image, or remove the line")?;
    let globs = items.iter().filter_map(|item| one(item, purpose));
    let globs: Vec<Glob> = globs.collect();
    (globs.len() == items.len()).then_some(globs)
}

fn one(value: &Value<'_>, purpose: Use) -> Option<Glob> {
    let text = value.text()?;
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_:/*?.@".contains(character);
    if !text.chars().all(plain) {
        value.error(
            &format!("{} is no pattern for images", quoted(text)),
            "use letters, digits and - _ : / * ? . @; variables are not read",
        );
        return None;
    }
    warn(value, text, purpose);
    value.parsed(Glob::over_written, "correct the pattern")
}

/// Tells of patterns that probably match something else than was meant.
fn warn(value: &Value<'_>, text: &str, purpose: Use) {
    let (host, rest) = text.split_once('/').unwrap_or((text, ""));
    let has_host = host.contains(['.', ':'])
        || host == "localhost"
        || host.starts_with(['*', '?'])
        || (host.contains(['*', '?']) && !rest.is_empty());
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let digest = last.split_once('@').map(|(_, digest)| digest);
    let end = last.find([':', '@']).unwrap_or(last.len());
    let name = &text[..text.len() - last.len() + end];
    let repository = format!("match the repository: `{name}:*`");
    if !has_host {
        value.warn(
            "images are compared by their whole names, so this matches none",
            "write `docker.io/...` for those of Docker Hub",
        );
    } else if tag.is_none() && digest.is_none() && !text.ends_with(['*', '?']) {
        value.warn(
            "images are compared with their tag or digest, so this matches none",
            &format!("match all of them: `{text}:*`"),
        );
    } else if purpose == Use::Skip {
        // A digest is skipped where each of its tags would be.
        let pinned = digest.is_some_and(|digest| digest.parse::<Digest>().is_ok());
        if !pinned && (digest.is_some() || tag.is_some()) {
            value.warn(
                "this skips tags, and not the digests by which a runtime goes on to ask for an \
                 image",
                &format!("skip the repository, `{name}*`, or one whole digest"),
            );
        }
    } else if digest.is_some() {
        value.warn(
            "this is for one digest, and not for those that an index lists",
            &repository,
        );
    } else if tag.is_some_and(|tag| tag != "*") {
        value.warn(
            "a runtime goes on to ask for an image by its digest, which tells no tag: every digest \
             of the repository has to meet this",
            &repository,
        );
    }
}
