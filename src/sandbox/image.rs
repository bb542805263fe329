//! Images, indexes and artifacts, ready to be pushed, and some that pretend to be what they
//! are not.
//!
//! Nothing here is signed, and nothing checks that what is drafted makes sense.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oci::{Descriptor, Digest, Platform, REFERENCE_TYPE, media_type};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of a Sigstore bundle, as cosign 3 writes it.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A blob, and what a manifest says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The media type that the manifest claims.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
}

impl Blob {
    /// A blob without annotations.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            bytes,
            annotations: BTreeMap::new(),
        }
    }

    /// The config of an artifact that has none.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(media_type::OCI_EMPTY, b"{}".to_vec())
    }

    /// An image's config.
    #[must_use]
    pub fn config(config: &Value) -> Self {
        Self::new(CONFIG, config.to_string().into_bytes())
    }

    /// Sets an annotation of the descriptor.
    pub fn annotate(&mut self, key: &str, value: String) {
        self.annotations.insert(key.to_owned(), value);
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    /// The descriptor for a manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let annotations = (!self.annotations.is_empty()).then(|| self.annotations.clone());
        Descriptor {
            annotations,
            ..descriptor(&self.media_type, &self.bytes)
        }
    }
}

/// A manifest with the blobs that it lists, ready to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The manifest's media type.
    pub media_type: &'static str,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config and the layers; an index has none.
    pub blobs: Vec<Vec<u8>>,
    /// The artifact type that the manifest claims.
    pub artifact_type: Option<String>,
    /// The tag to push it under; by digest where there is none.
    pub tag: Option<String>,
}

impl Package {
    /// The digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    /// A descriptor of the manifest, for an index or as a subject.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        descriptor(self.media_type, &self.manifest)
    }

    /// The same under a tag.
    #[must_use]
    pub fn tagged(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }
}

/// An image manifest before it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The claimed type of artifact.
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Blob,
    /// The layers.
    pub layers: Vec<Blob>,
    /// What the manifest claims to be about.
    pub subject: Option<Descriptor>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Draft {
    /// A plain image.
    #[must_use]
    pub fn of(config: Blob, layers: Vec<Blob>) -> Self {
        Self {
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Writes the manifest.
    #[must_use]
    pub fn pack(self) -> Package {
        let layers: Vec<_> = self.layers.iter().map(Blob::descriptor).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": self.config.descriptor(),
            "layers": layers,
        });
        if let Some(artifact_type) = &self.artifact_type {
            manifest["artifactType"] = artifact_type.as_str().into();
        }
        if let Some(subject) = &self.subject {
            manifest["subject"] = json!(subject);
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        let mut blobs = vec![self.config.bytes];
        blobs.extend(self.layers.into_iter().map(|layer| layer.bytes));
        Package {
            media_type: media_type::OCI_MANIFEST,
            manifest: manifest.to_string().into_bytes(),
            blobs,
            artifact_type: self.artifact_type,
            tag: None,
        }
    }
}

/// An image for Linux on amd64 with one layer, which holds the file `app` with `content`.
#[must_use]
pub fn runnable(content: &str) -> Package {
    runnable_for(&platform("linux", "amd64"), content)
}

/// An image for one platform with one layer, which holds the file `app` with `content`.
#[must_use]
pub fn runnable_for(platform: &Platform, content: &str) -> Package {
    let layer = Blob::new(LAYER, tar("app", content.as_bytes()));
    let config = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Cmd": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
    });
    Draft::of(Blob::config(&config), vec![layer]).pack()
}

/// A platform.
#[must_use]
pub fn platform(os: &str, architecture: &str) -> Platform {
    Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
    }
}

/// An index of the given entries. What they point to is pushed separately.
#[must_use]
pub fn index(entries: &[Descriptor]) -> Package {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": entries,
    });
    Package {
        media_type: media_type::OCI_INDEX,
        manifest: index.to_string().into_bytes(),
        blobs: Vec::new(),
        artifact_type: None,
        tag: None,
    }
}

/// An index entry for one platform.
#[must_use]
pub fn entry_for(package: &Package, platform: Platform) -> Descriptor {
    Descriptor {
        platform: Some(platform),
        ..package.descriptor()
    }
}

/// The attestation that buildkit puts beside an image, unsigned, and its entry in the index.
#[must_use]
pub fn buildkit_attestation(
    image: &Digest,
    predicate_type: &str,
    predicate: &Value,
) -> (Package, Descriptor) {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate_type,
        "subject": [{"name": "app", "digest": {image.algorithm().as_str(): image.hex()}}],
        "predicate": predicate,
    });
    let mut layer = Blob::new(
        "application/vnd.in-toto+json",
        statement.to_string().into_bytes(),
    );
    layer.annotate("in-toto.io/predicate-type", predicate_type.to_owned());
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
    });
    let package = Draft::of(Blob::config(&config), vec![layer]).pack();
    let annotations = BTreeMap::from([
        (REFERENCE_TYPE.to_owned(), "attestation-manifest".to_owned()),
        ("vnd.docker.reference.digest".to_owned(), image.to_string()),
    ]);
    let entry = Descriptor {
        annotations: Some(annotations),
        ..entry_for(&package, platform("unknown", "unknown"))
    };
    (package, entry)
}

/// The tag that stands in for a referrers API: `sha256-<hex>`. Signatures of the old format
/// add `.sig` or `.att`.
#[must_use]
pub fn fallback_tag(image: &Digest) -> String {
    format!("{}-{}", image.algorithm().as_str(), image.hex())
}

/// The index under [`fallback_tag`], as cosign writes it where a registry has no referrers
/// API: its entries have an artifact type but no annotations.
#[must_use]
pub fn fallback_index(image: &Digest, referrers: &[&Package]) -> Package {
    let entries: Vec<_> = referrers
        .iter()
        .map(|package| Descriptor {
            artifact_type: package.artifact_type.clone(),
            ..package.descriptor()
        })
        .collect();
    index(&entries).tagged(&fallback_tag(image))
}

/// How a runnable image pretends to be evidence. (G7)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disguise {
    /// A subject, and the artifact type and annotations of a bundle; the layer is honest.
    ArtifactType,
    /// Pushed under the `.sig` tag of the image; the layer is honest.
    SignatureTag,
    /// Under the `.sig` tag, with a signature layer beside the runnable one.
    MixedLayers,
    /// Under the `.sig` tag, with the runnable layer declared to be a signature.
    LayerType,
}

/// The image of [`runnable`], dressed as evidence about `image`.
#[must_use]
pub fn disguised(disguise: Disguise, image: &Descriptor, content: &str) -> Package {
    let mut layer = Blob::new(LAYER, tar("app", content.as_bytes()));
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
    });
    let mut tag = Some(format!("{}.sig", fallback_tag(&image.digest)));
    let mut draft = Draft::of(Blob::config(&config), Vec::new());
    match disguise {
        Disguise::ArtifactType => {
            tag = None;
            draft.artifact_type = Some(BUNDLE.to_owned());
            draft.subject = Some(image.clone());
            draft.annotations = BTreeMap::from([(
                "dev.sigstore.bundle.content".to_owned(),
                "dsse-envelope".to_owned(),
            )]);
        }
        Disguise::SignatureTag => {}
        Disguise::MixedLayers => draft
            .layers
            .push(Blob::new(media_type::SIMPLE_SIGNING, b"{}".to_vec())),
        Disguise::LayerType => layer.media_type = media_type::SIMPLE_SIGNING.to_owned(),
    }
    draft.layers.push(layer);
    Package {
        tag,
        ..draft.pack()
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::sha256(bytes),
        size: bytes.len() as u64,
        annotations: None,
        artifact_type: None,
        platform: None,
    }
}

/// A tar archive (POSIX ustar) with one executable file.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    // The checksum is computed with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let checksum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());

    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Manifest, ManifestKind};

    fn parsed(package: &Package) -> Manifest {
        Manifest::parse(&package.manifest, Some(package.media_type)).expect("a manifest")
    }

    #[test]
    fn an_image_lists_what_it_brings() {
        let image = runnable("hello");
        let manifest = parsed(&image);
        assert!(!manifest.is_evidence());
        assert_eq!(image.blobs.len(), 2);
        for blob in &image.blobs {
            assert!(manifest.lists(&Digest::sha256(blob)));
        }
        assert_ne!(image.digest(), runnable("other").digest());
    }

    #[test]
    fn an_archive_is_whole_blocks_with_a_right_checksum() {
        let archive = tar("app", b"hello");
        assert_eq!(archive.len(), 4 * 512);
        assert_eq!(&archive[512..517], b"hello");
        let stated = std::str::from_utf8(&archive[148..154]).expect("octal digits");
        let blanks = 8 * u32::from(b' ');
        let others = archive[..148].iter().chain(&archive[156..512]);
        let sum = others.copied().map(u32::from).sum::<u32>() + blanks;
        assert_eq!(u32::from_str_radix(stated, 8), Ok(sum));
    }

    #[test]
    fn an_index_lists_images_and_their_attestations() {
        let (amd, arm) = (platform("linux", "amd64"), platform("linux", "arm64"));
        let images = [runnable_for(&amd, "hello"), runnable_for(&arm, "hello")];
        let predicate = json!({"builder": {"id": ""}});
        let (attestation, entry) = buildkit_attestation(
            &images[0].digest(),
            "https://slsa.dev/provenance/v0.2",
            &predicate,
        );
        let index = index(&[
            entry_for(&images[0], amd),
            entry_for(&images[1], arm),
            entry,
        ]);
        let ManifestKind::Index(listed) = parsed(&index).kind else {
            panic!("an index");
        };
        let digests: Vec<_> = listed.manifests.iter().map(|entry| entry.digest).collect();
        let [amd, arm] = images.map(|image| image.digest());
        assert_eq!(digests, [amd, arm, attestation.digest()]);
        let marked = listed.manifests[2].annotation(REFERENCE_TYPE);
        assert_eq!(marked, Some("attestation-manifest"));
        parsed(&attestation);
    }

    #[test]
    fn a_fallback_index_names_types_but_no_annotations() {
        let image = runnable("hello");
        let artifact = disguised(Disguise::ArtifactType, &image.descriptor(), "x");
        let index = fallback_index(&image.digest(), &[&artifact]);
        let tag = format!("sha256-{}", image.digest().hex());
        assert_eq!(index.tag.as_deref(), Some(tag.as_str()));
        let ManifestKind::Index(listed) = parsed(&index).kind else {
            panic!("an index");
        };
        let [entry] = &listed.manifests[..] else {
            panic!("one entry");
        };
        assert_eq!(entry.artifact_type.as_deref(), Some(BUNDLE));
        assert_eq!(entry.annotations, None);
    }

    // THREATS G7: of the disguises only the last takes in those who look at media types alone.
    #[test]
    fn disguises_are_runnable_images() {
        let image = runnable("hello").descriptor();
        for (disguise, by_media_type) in [
            (Disguise::ArtifactType, false),
            (Disguise::SignatureTag, false),
            (Disguise::MixedLayers, false),
            (Disguise::LayerType, true),
        ] {
            let package = disguised(disguise, &image, "mallory");
            assert_eq!(
                parsed(&package).is_evidence(),
                by_media_type,
                "{disguise:?}"
            );
            let layer = package.blobs.last().expect("a layer");
            assert_eq!(&layer[..3], b"app");
        }
    }
}
