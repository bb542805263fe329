//! Manifests and indexes (OCI image-spec, manifest.md and image-index.md; Docker schema 2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, media_type};

/// The annotation by which buildkit marks attestation manifests inside an index. A claim.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Why bytes are not a manifest that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the shape that the image-spec asks for.
    #[error("the manifest is not valid JSON of an image manifest or index: {0}")]
    Json(String),
    /// It carries the members of both an image and an index, so that two readers may see two
    /// different things (GHSA-qq97-vm5h-rrhg).
    #[error("the manifest has both `layers` and `manifests`: two readers would see two things")]
    Ambiguous,
    /// It has neither `layers` nor `manifests`.
    #[error("the document has neither `layers` nor `manifests`")]
    Neither,
    /// `mediaType` (or the Content-Type it came with) names a type that does not fit.
    #[error("{0}")]
    MediaType(String),
    /// Docker schema 1 and other types that carry no digests of their parts.
    #[error(
        "manifests of schema version {0} cannot be verified; push the image as schema 2 or OCI"
    )]
    Schema(u64),
    /// A member stands twice, perhaps in another case (Go's JSON reader does not mind the
    /// case), so that two readers may see two different values.
    #[error(
        "the manifest has the member `{0}` twice or in another case: two readers would see two things"
    )]
    Repeated(String),
}

/// A pointer to content (image-spec, descriptor.md). Everything but the digest is a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The claimed media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The claimed size in bytes.
    pub size: u64,
    /// Claimed annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The claimed type of the artifact that the content is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform that an index entry is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// About how many bytes it takes, with what it has beside itself.
    fn memory_bytes(&self) -> usize {
        // What the allocator rounds, and the place of an annotation in its tree.
        const TEXT_BYTES: usize = 32;
        const ANNOTATION_BYTES: usize = 100;
        let annotations = self.annotations.iter().flatten();
        let annotations =
            annotations.map(|(key, value)| ANNOTATION_BYTES + key.len() + value.len());
        let platform = self.platform.as_ref().map_or(0, |_| 2 * TEXT_BYTES);
        size_of::<Self>()
            + TEXT_BYTES
            + self.media_type.len()
            + platform
            + annotations.sum::<usize>()
    }

    /// One of the annotations.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// A platform, as far as people are told about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `windows`...
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`...
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A parsed manifest: what its bytes say, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The media type to serve it with: its own `mediaType`, else what it was sent with.
    pub media_type: &'static str,
    /// Image or index.
    pub kind: ManifestKind,
    /// The claimed type of artifact.
    pub artifact_type: Option<String>,
    /// The digest that this manifest claims to be about.
    pub subject: Option<Digest>,
}

/// What a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a manifest is behind an Arc wherever it is kept"
)]
pub enum ManifestKind {
    /// An image or an artifact: a config and layers.
    Image(Image),
    /// An index (Docker: manifest list).
    Index(Index),
}

/// The parts of an image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The config blob.
    pub config: Descriptor,
    /// The layers, first applied first.
    pub layers: Vec<Descriptor>,
}

/// The parts of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The manifests it lists.
    pub manifests: Vec<Descriptor>,
}

/// A member's value, with each member known to stand once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    artifact_type: Option<String>,
    subject: Option<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

impl Manifest {
    /// Reads a manifest. `sent_as` is the Content-Type it came with, where it came over HTTP.
    ///
    /// # Errors
    /// [`ManifestError`] when it does not parse, could be read in two ways, or is of another
    /// type than it says or was sent as. A document is never re-typed.
    pub fn parse(bytes: &[u8], sent_as: Option<&str>) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| {
            let text = error.to_string();
            match text
                .strip_prefix("duplicate field `")
                .and_then(|rest| rest.split_once('`'))
            {
                Some((member, _)) => ManifestError::Repeated(member.to_owned()),
                None => ManifestError::Json(quoted(&text)),
            }
        })?;
        refuse_other_spellings(bytes)?;
        if raw.schema_version != 2 {
            return Err(ManifestError::Schema(raw.schema_version));
        }
        let kind = match (raw.layers, raw.manifests, raw.config) {
            (Some(_), Some(_), _) | (None, Some(_), Some(_)) => {
                return Err(ManifestError::Ambiguous);
            }
            (None, None, _) => return Err(ManifestError::Neither),
            (Some(_), None, None) => {
                return Err(ManifestError::Json("missing field `config`".to_owned()));
            }
            (Some(mut layers), None, Some(config)) => {
                // It is kept for long.
                layers.shrink_to_fit();
                ManifestKind::Image(Image { config, layers })
            }
            (None, Some(mut manifests), None) => {
                manifests.shrink_to_fit();
                ManifestKind::Index(Index { manifests })
            }
        };
        let sent_as = sent_as.map(essence).filter(|sent| is_specific(sent));
        let media_type = settle_media_type(&kind, raw.media_type.as_deref(), sent_as)?;
        Ok(Self {
            media_type,
            kind,
            artifact_type: raw.artifact_type,
            subject: raw.subject.map(|subject| subject.digest),
        })
    }

    /// The image's parts, where it is one.
    #[must_use]
    pub fn as_image(&self) -> Option<&Image> {
        match &self.kind {
            ManifestKind::Image(image) => Some(image),
            ManifestKind::Index(_) => None,
        }
    }

    /// The index's parts, where it is one.
    #[must_use]
    pub fn as_index(&self) -> Option<&Index> {
        match &self.kind {
            ManifestKind::Index(index) => Some(index),
            ManifestKind::Image(_) => None,
        }
    }

    /// True when the manifest itself proves that it is evidence about another image and
    /// nothing that runs: it has layers, and each has a media type of evidence. Its tag, its
    /// artifactType and its annotations are claims and are not asked.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.as_image().is_some_and(|image| {
            !image.layers.is_empty()
                && image
                    .layers
                    .iter()
                    .all(|layer| media_type::evidence_form(&layer.media_type).is_some())
        })
    }

    /// About how many bytes of memory it has beside itself.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.descriptors().map(Descriptor::memory_bytes).sum()
    }

    /// Every blob and manifest that this manifest lists.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.kind {
            ManifestKind::Image(image) => (Some(&image.config), &image.layers),
            ManifestKind::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(rest)
    }

    /// True when it lists `digest` (as config, layer, or manifest).
    #[must_use]
    pub fn lists(&self, digest: &Digest) -> bool {
        self.descriptors()
            .any(|descriptor| descriptor.digest == *digest)
    }
}

/// Go's JSON reader takes `Layers` for `layers`; ours does not. A document that means one
/// thing to us and another to a container runtime is refused, and so is one whose descriptors do.
fn refuse_other_spellings(bytes: &[u8]) -> Result<(), ManifestError> {
    const MEMBERS: [&str; 7] = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "artifactType",
        "subject",
    ];
    type Members = BTreeMap<String, serde::de::IgnoredAny>;
    #[derive(Deserialize)]
    struct Descriptors {
        config: Option<Members>,
        layers: Option<Vec<Members>>,
        manifests: Option<Vec<Members>>,
        subject: Option<Members>,
    }
    let unreadable = |error: serde_json::Error| ManifestError::Json(quoted(&error.to_string()));
    let members: Members = serde_json::from_slice(bytes).map_err(unreadable)?;
    refuse_other_spellings_of(&MEMBERS, &members)?;
    let Descriptors {
        config,
        layers,
        manifests,
        subject,
    } = serde_json::from_slice(bytes).map_err(unreadable)?;
    let listed = layers.iter().chain(&manifests).flatten();
    config
        .iter()
        .chain(&subject)
        .chain(listed)
        .try_for_each(|members| refuse_other_spellings_of(&DESCRIPTOR_MEMBERS, members))
}

/// The members of a descriptor that say what it points to (image-spec, descriptor.md).
const DESCRIPTOR_MEMBERS: [&str; 8] = [
    "mediaType",
    "digest",
    "size",
    "urls",
    "annotations",
    "data",
    "artifactType",
    "platform",
];

fn refuse_other_spellings_of(
    names: &[&str],
    members: &BTreeMap<String, serde::de::IgnoredAny>,
) -> Result<(), ManifestError> {
    // Go folds the long s and the Kelvin sign as well.
    let fold = |text: &str| text.to_uppercase().to_lowercase();
    let other_spelling = |key: &&String| {
        names
            .iter()
            .any(|member| key.as_str() != *member && fold(key) == fold(member))
    };
    match members.keys().find(other_spelling) {
        Some(key) => Err(ManifestError::Repeated(quoted(key))),
        None => Ok(()),
    }
}

/// As much of a stranger's text as is repeated to people, on one line.
fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let printable = |character: char| {
        if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        }
    };
    text.chars().take(CHARACTERS_MAX).map(printable).collect()
}

/// A Content-Type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// `application/json`, `text/plain` and the like are what object stores say when they do not
/// know; they claim nothing about the manifest.
fn is_specific(content_type: &str) -> bool {
    content_type.starts_with("application/vnd.")
}

fn settle_media_type(
    kind: &ManifestKind,
    own: Option<&str>,
    sent_as: Option<&str>,
) -> Result<&'static str, ManifestError> {
    let (allowed, what): (&[&'static str; 2], _) = match kind {
        ManifestKind::Image(_) => (
            &[media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST],
            "an image manifest",
        ),
        ManifestKind::Index(_) => (
            &[media_type::OCI_INDEX, media_type::DOCKER_LIST],
            "an index",
        ),
    };
    let known = |claimed: &str, by: &str| {
        allowed
            .iter()
            .copied()
            .find(|candidate| *candidate == claimed)
            .ok_or_else(|| {
                ManifestError::MediaType(format!(
                    "the document is {what}, but its {by} is \"{}\"",
                    quoted(claimed)
                ))
            })
    };
    let own = own.map(|own| known(own, "mediaType")).transpose()?;
    let sent_as = sent_as
        .map(|sent_as| known(sent_as, "Content-Type"))
        .transpose()?;
    match (own, sent_as) {
        (Some(own), Some(sent_as)) if own != sent_as => Err(ManifestError::MediaType(format!(
            "the manifest's mediaType is {own:?}, but it was sent as {sent_as:?}"
        ))),
        (Some(media_type), _) | (None, Some(media_type)) => Ok(media_type),
        (None, None) => Ok(allowed[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": Digest::sha256(b"x"), "size": 1})
    }

    fn image(layers: &[&str]) -> serde_json::Value {
        serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|layer| descriptor(layer)).collect::<Vec<_>>(),
        })
    }

    fn parse(value: &serde_json::Value, sent_as: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(value.to_string().as_bytes(), sent_as)
    }

    #[test]
    fn an_image_is_read() {
        let manifest = parse(
            &image(&["application/vnd.oci.image.layer.v1.tar+gzip"]),
            None,
        );
        let manifest = manifest.expect("a plain image");
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
        assert!(manifest.lists(&Digest::sha256(b"x")));
        assert!(!manifest.is_evidence());
    }

    // THREATS B5: a document is never read in two ways, nor re-typed.
    #[test]
    fn ambiguous_documents_are_refused() {
        let mut both = image(&["a/b"]);
        both["manifests"] = serde_json::json!([]);
        assert_eq!(parse(&both, None), Err(ManifestError::Ambiguous));

        let mut index_with_config = image(&[]);
        index_with_config["manifests"] = serde_json::json!([]);
        index_with_config
            .as_object_mut()
            .expect("object")
            .remove("layers");
        assert_eq!(
            parse(&index_with_config, None),
            Err(ManifestError::Ambiguous)
        );

        let sent = parse(&image(&["a/b"]), Some(media_type::OCI_INDEX));
        assert!(matches!(sent, Err(ManifestError::MediaType(_))));
        let sent = parse(&image(&["a/b"]), Some(media_type::DOCKER_MANIFEST));
        assert!(matches!(sent, Err(ManifestError::MediaType(_))));

        let mut retyped = image(&["a/b"]);
        retyped["mediaType"] = media_type::OCI_INDEX.into();
        assert!(matches!(
            parse(&retyped, None),
            Err(ManifestError::MediaType(_))
        ));

        let twice = br#"{"schemaVersion":2,"layers":[],"layers":[]}"#;
        assert_eq!(
            Manifest::parse(twice, None),
            Err(ManifestError::Repeated("layers".to_owned()))
        );
    }

    #[test]
    fn another_spelling_of_a_member_is_refused() {
        let mut dressed = image(&[media_type::SIMPLE_SIGNING]);
        dressed["Layers"] =
            serde_json::json!([descriptor("application/vnd.oci.image.layer.v1.tar")]);
        assert_eq!(
            parse(&dressed, None),
            Err(ManifestError::Repeated("Layers".to_owned()))
        );
        for (member, other) in [
            ("Digest", Digest::sha256(b"y").to_string()),
            (
                "MediaType",
                "application/vnd.oci.image.layer.v1.tar".to_owned(),
            ),
        ] {
            let mut dressed = image(&[media_type::SIMPLE_SIGNING]);
            dressed["layers"][0][member] = other.as_str().into();
            let expected = Err(ManifestError::Repeated(member.to_owned()));
            assert_eq!(parse(&dressed, None), expected, "a layer");
            let mut dressed = image(&[media_type::SIMPLE_SIGNING]);
            dressed["config"][member] = other.into();
            assert_eq!(parse(&dressed, None), expected, "the config");
        }
    }

    // THREATS G7: only layers prove evidence; an artifactType is a claim.
    #[test]
    fn evidence_is_known_by_its_layers() {
        let signature = parse(&image(&[media_type::SIMPLE_SIGNING]), None).expect("parses");
        assert!(signature.is_evidence());
        let mut dressed = image(&["application/vnd.oci.image.layer.v1.tar+gzip"]);
        dressed["artifactType"] = "application/vnd.dev.sigstore.bundle.v0.3+json".into();
        assert!(!parse(&dressed, None).expect("parses").is_evidence());
        let mixed = image(&[
            media_type::SIMPLE_SIGNING,
            "application/vnd.oci.image.layer.v1.tar",
        ]);
        assert!(!parse(&mixed, None).expect("parses").is_evidence());
        assert!(!parse(&image(&[]), None).expect("parses").is_evidence());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes, None);
        }
    }
}
