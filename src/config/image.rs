//! The name of an image, as people write it on a command line.

use crate::config::Settings;
use crate::oci::ImageName;
use crate::oci::ParseNameError;
use crate::oci::Reference;

/// Why a text names no image that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The repository's name, the tag or the digest is none.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// It names a host that is not configured, or none where there is no default.
    #[error("it begins with none of the upstreams ({0}), and there is no default_upstream")]
    NoUpstream(String),
}

/// Reads `REGISTRY/REPOSITORY:TAG` or `REGISTRY/REPOSITORY@DIGEST`. Without a tag `latest` is
/// meant; without a registry (`busybox`) the default upstream.
///
/// # Errors
/// [`ImageError`]: what cannot be read.
pub fn parse(image: &str, settings: &Settings) -> Result<(ImageName, Reference), ImageError> {
    let (name, reference) = if let Some((name, digest)) = image.split_once('@') {
        // A tag before the digest says nothing more.
        let tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        (tag.map_or(name, |(name, _)| name), digest.to_owned())
    } else {
        match image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => (name, tag.to_owned()),
            None => (image, "latest".to_owned()),
        }
    };
    let reference: Reference = reference.parse()?;
    let configured = |host: &str| {
        settings
            .upstreams
            .iter()
            .find(|upstream| upstream.host.as_str() == host)
    };
    let (upstream, repository) = match name.split_once('/') {
        Some((host, rest)) if configured(host).is_some() => (configured(host), rest),
        _ => {
            let default = settings.default_upstream.as_ref();
            (default.and_then(|host| configured(host.as_str())), name)
        }
    };
    let Some(upstream) = upstream else {
        let hosts: Vec<&str> = settings
            .upstreams
            .iter()
            .map(|one| one.host.as_str())
            .collect();
        return Err(ImageError::NoUpstream(hosts.join(", ")));
    };
    let repository = if upstream.library_prefix && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    let image = ImageName {
        registry: upstream.host.clone(),
        repository: repository.parse()?,
    };
    Ok((image, reference))
}
