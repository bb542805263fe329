//! `signed_identity`, lowered: the image that a signature must have been made for.

use crate::config::reader::Value;
use crate::config::schema;
use crate::oci::DockerReference;
use crate::oci::ImageName;
use crate::oci::RegistryHost;
use crate::policy::SignedIdentity;

const FORMS: &str = "write match_exact, match_repo_digest_or_exact, match_repository, \
                     { exact_reference: IMAGE:TAG }, { exact_repository: IMAGE } or \
                     { remap: { prefix: HERE, signed_prefix: THERE } }";

/// Lowers `signed_identity`.
pub(super) fn lower(value: &Value<'_>) -> Option<SignedIdentity> {
    if value.as_text().is_some() {
        let words: Vec<(&str, usize)> = WORDS
            .iter()
            .enumerate()
            .map(|(position, (word, _))| (*word, position))
            .collect();
        let position = value.choice(&words)?;
        let rule = WORDS.get(position).map(|(_, rule)| rule.clone());
        if rule == Some(SignedIdentity::MatchExact) {
            value.warn(
                "clients ask for platforms, layers and mostly manifests by digest, which is \
                 refused where the signature was made for a tag",
                "write match_repo_digest_or_exact, unless signatures are made for digests",
            );
        }
        return rule;
    }
    let fields = value.fields(&schema::SIGNED_IDENTITY)?;
    match fields.exactly_one(&["exact_reference", "exact_repository", "remap"], FORMS)? {
        ("exact_reference", value) => reference(&value).map(SignedIdentity::ExactReference),
        ("exact_repository", value) => repository(&value).map(SignedIdentity::ExactRepository),
        (_, value) => remap(&value),
    }
}

const WORDS: &[(&str, SignedIdentity)] = &[
    ("match_exact", SignedIdentity::MatchExact),
    (
        "match_repo_digest_or_exact",
        SignedIdentity::MatchRepoDigestOrExact,
    ),
    ("match_repository", SignedIdentity::MatchRepository),
];

/// A reference with a tag or a digest.
pub(super) fn reference(value: &Value<'_>) -> Option<DockerReference> {
    value.parsed(
        |text| {
            let reference = DockerReference::parse(text).map_err(|error| error.to_string())?;
            match reference.is_name_only() {
                true => Err("there is neither a tag nor a digest".to_owned()),
                false => Ok(reference),
            }
        },
        "write the whole reference that signatures have: registry.example/app:v1",
    )
}

/// A repository without tag and digest.
pub(super) fn repository(value: &Value<'_>) -> Option<ImageName> {
    value.parsed(
        |text| {
            let reference = DockerReference::parse(text).map_err(|error| error.to_string())?;
            match reference.is_name_only() {
                true => Ok(reference.name),
                false => Err("a repository has no tag and no digest".to_owned()),
            }
        },
        "write the repository that signatures have: registry.example/app",
    )
}

fn remap(value: &Value<'_>) -> Option<SignedIdentity> {
    const MEND: &str = "write { prefix: mirror.example/app, signed_prefix: registry.example/app }";
    let fields = value.fields(&schema::REMAP)?;
    let prefix = fields.required("prefix", MEND);
    let signed_prefix = fields.required("signed_prefix", MEND);
    let prefix = prefix.and_then(|value| self::prefix(&value));
    let signed_prefix = signed_prefix.and_then(|value| self::prefix(&value));
    Some(SignedIdentity::RemapIdentity {
        prefix: prefix?,
        signed_prefix: signed_prefix?,
    })
}

/// A host, a namespace or a repository in its whole form.
pub(super) fn prefix(value: &Value<'_>) -> Option<String> {
    value.parsed(
        |text| {
            if text.parse::<RegistryHost>().is_ok() {
                return Ok(text.to_owned());
            }
            // A namespace of Docker Hub is no reference of its own, but a repository in it is.
            let within = format!("{text}/x");
            match DockerReference::parse(&within) {
                Ok(name) if name.is_name_only() && name.to_string() == within => {
                    Ok(text.to_owned())
                }
                Ok(name) if name.is_name_only() => Err("the name is not whole"),
                _ => Err("no host, namespace or repository"),
            }
        },
        "write a host, or a name with its host: docker.io/library/busybox",
    )
}
