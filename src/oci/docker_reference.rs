//! Docker references as people and signatures write them (distribution/reference, "Grammar"):
//! `busybox`, `docker.io/library/busybox:1.36`, `localhost:5000/a/b@sha256:...`.
//!
//! They are looser than what a registry is asked with: a host may be left out and is then Docker
//! Hub, and tag and digest may both stand there. What parses is normalized, so that two texts
//! mean the same exactly when these are equal.

use std::fmt;

use super::{Digest, ImageName, Reference, RegistryHost, Repository, Tag};

/// The longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// The host that names have when they carry none.
const DOCKER_HUB: &str = "docker.io";

/// A Docker reference in its normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DockerReference {
    /// Registry and repository.
    pub name: ImageName,
    /// The tag, where there is one.
    pub tag: Option<Tag>,
    /// The digest, where there is one.
    pub digest: Option<Digest>,
}

/// The text is not a Docker reference: perhaps it has capital letters, a scheme, or no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an image is named REGISTRY/REPOSITORY, with :TAG or @DIGEST behind it, in lower case")]
pub struct ParseDockerReferenceError;

impl DockerReference {
    /// Parses a reference in which a host may be left out.
    ///
    /// # Errors
    /// [`ParseDockerReferenceError`] when it is none, or longer than any is.
    pub fn parse(text: &str) -> Result<Self, ParseDockerReferenceError> {
        const NONE: ParseDockerReferenceError = ParseDockerReferenceError;
        if text.len() > TEXT_BYTES_MAX {
            return Err(NONE);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| NONE)?)),
            None => (text, None),
        };
        // A colon behind the last slash is a tag's; one before it is a port's.
        let path_at = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_at..].split_once(':') {
            Some((last, tag)) => {
                let tag = tag.parse().map_err(|_| NONE)?;
                (&rest[..path_at + last.len()], Some(tag))
            }
            None => (rest, None),
        };
        // Text that could be an image's ID names no repository.
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NONE);
        }
        Ok(Self {
            name: Self::name(name)?,
            tag,
            digest,
        })
    }

    fn name(text: &str) -> Result<ImageName, ParseDockerReferenceError> {
        let is_host = |first: &str| {
            first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase())
        };
        let (host, path) = match text.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path),
            _ => (DOCKER_HUB, text),
        };
        let host = if host == "index.docker.io" {
            DOCKER_HUB
        } else {
            host
        };
        let official = host == DOCKER_HUB && !path.contains('/');
        let path = match official {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        let registry: RegistryHost = host.parse().map_err(|_| ParseDockerReferenceError)?;
        let repository: Repository = path.parse().map_err(|_| ParseDockerReferenceError)?;
        Ok(ImageName {
            registry,
            repository,
        })
    }

    /// The reference that asks for `image` by `reference`.
    #[must_use]
    pub fn asking(image: &ImageName, reference: &Reference) -> Self {
        let (tag, digest) = match reference {
            Reference::Tag(tag) => (Some(tag.clone()), None),
            Reference::Digest(digest) => (None, Some(*digest)),
        };
        Self {
            name: image.clone(),
            tag,
            digest,
        }
    }

    /// True when it has neither a tag nor a digest.
    #[must_use]
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }
}

impl fmt::Display for DockerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalized() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, normal) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("acme/app:v1", "docker.io/acme/app:v1"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("docker.io/library/busybox:x", "docker.io/library/busybox:x"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a"),
            ("[::1]:5000/a:v1", "[::1]:5000/a:v1"),
            ("a.test/b__c/d.e:V-1_x", "a.test/b__c/d.e:V-1_x"),
        ] {
            let parsed = DockerReference::parse(text).map(|parsed| parsed.to_string());
            assert_eq!(parsed.as_deref(), Ok(normal), "{text}");
            let with_digest = format!("{text}@{digest}");
            let parsed = DockerReference::parse(&with_digest).map(|parsed| parsed.to_string());
            assert_eq!(parsed, Ok(format!("{normal}@{digest}")), "{with_digest}");
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            ":v1",
            "a:",
            "a@",
            "a@sha256:00",
            "https://a.test/b",
            "a.test/B",
            "A.test/b",
            "a.test/",
            "a.test//b",
            "a.test/../b",
            "a b",
            "a:b:c",
            &"ab".repeat(32),
            &"a".repeat(2000),
        ] {
            assert!(DockerReference::parse(text).is_err(), "{text}");
        }
    }
}
