//! Where the evidence about an image is kept, lowered: `source` of policies, and the like of
//! other engines.

use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::oci::DockerReference;
use crate::oci::EvidenceSource;
use crate::oci::ImageName;
use crate::oci::RegistryHost;
use crate::oci::TagPrefix;

const MEND: &str = "write { repository: registry.example/signatures }, or { tag_prefix: release- }";

/// Lowers `source`.
pub(super) fn lower(value: &Value<'_>, hosts: Option<&[RegistryHost]>) -> Option<EvidenceSource> {
    let fields = value.fields(&schema::SOURCE)?;
    if fields.is_empty() {
        value.error("it is not said where evidence is kept", MEND);
        return None;
    }
    let repository = fields.at("repository");
    let repository = repository.map(|value| self::repository(&value, hosts));
    let tag_prefix = fields.at("tag_prefix").map(|value| tag_prefix(&value));
    Some(EvidenceSource {
        repository: whole(repository)?,
        tag_prefix: whole(tag_prefix)?,
    })
}

/// A repository with its registry, which has to be an upstream: nothing else is asked.
pub(super) fn repository(value: &Value<'_>, hosts: Option<&[RegistryHost]>) -> Option<ImageName> {
    let name = value.parsed(
        |text| {
            let names_host = text
                .split_once('/')
                .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
            match DockerReference::parse(text) {
                Ok(name) if names_host && name.is_name_only() => Ok(name.name),
                _ => Err("no repository with its registry, without tag and digest"),
            }
        },
        "write the repository that has the signatures: registry.example/signatures",
    )?;
    let hosts = hosts?;
    if !hosts.contains(&name.registry) {
        let names = || hosts.iter().map(RegistryHost::as_str);
        value.error(
            &format!(
                "{} is no upstream, so nothing can be read there",
                quoted(name.registry.as_str())
            ),
            &match hosts.len() {
                0 => "add it under `upstreams`".to_owned(),
                _ => format!(
                    "add it under `upstreams`, where there is {}",
                    listed(names(), "and")
                ),
            },
        );
        return None;
    }
    Some(name)
}

/// What stands before `sha256-<hex>.sig`.
pub(super) fn tag_prefix(value: &Value<'_>) -> Option<TagPrefix> {
    value.parsed(
        str::parse,
        "write what stands before `sha256-` in the tags of the signatures",
    )
}
