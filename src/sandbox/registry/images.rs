//! Well-formed content: images, indexes and artifacts, written as pushing clients write them.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::oci::{Descriptor, Digest, Platform, Reference, media_type};

use super::Registry;
use crate::sandbox::image::Package;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Registry {
    /// Puts an image of one platform with these layers, of which none need be a real archive.
    pub fn put_image(&self, repository: &str, tag: Option<&str>, layers: &[&[u8]]) -> Digest {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::sha256(layer)).collect();
        let config = json!({
            "os": "linux",
            "architecture": "amd64",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.put_part(repository, CONFIG, config.to_string());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| self.put_part(repository, LAYER, layer.to_vec()))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.put_json(repository, tag, media_type::OCI_MANIFEST, &manifest)
    }

    /// Puts an index that lists these manifests as images for linux/amd64; those that are not
    /// there are listed with size 0.
    pub fn put_index(&self, repository: &str, tag: Option<&str>, manifests: &[Digest]) -> Digest {
        let manifests: Vec<_> = manifests
            .iter()
            .map(|digest| Descriptor {
                platform: Some(Platform {
                    os: "linux".to_owned(),
                    architecture: "amd64".to_owned(),
                    variant: None,
                }),
                ..self.describe(repository, digest)
            })
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": manifests,
        });
        self.put_json(repository, tag, media_type::OCI_INDEX, &index)
    }

    /// Puts an artifact about `subject` with one layer, whose media type is the artifact's too:
    /// so cosign writes its bundles.
    pub fn put_artifact(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: &str,
        layer: impl Into<Bytes>,
    ) -> Digest {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": self.put_part(repository, media_type::OCI_EMPTY, "{}"),
            "layers": [self.put_part(repository, artifact_type, layer)],
            "subject": self.describe(repository, subject),
        });
        self.put_json(repository, None, media_type::OCI_MANIFEST, &manifest)
    }

    /// Puts a package: its blobs, its manifest, and its tag where it has one.
    pub fn put_package(&self, repository: &str, package: &Package) -> Digest {
        for blob in &package.blobs {
            self.put_blob(repository, blob.clone());
        }
        let tag = package.tag.as_deref();
        self.put_manifest(
            repository,
            tag,
            package.media_type,
            package.manifest.clone(),
        )
    }

    fn put_json(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        manifest: &Value,
    ) -> Digest {
        self.put_manifest(repository, tag, media_type, manifest.to_string())
    }

    /// Puts a blob and describes it as a manifest does.
    fn put_part(&self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        descriptor(media_type, self.put_blob(repository, bytes), size)
    }

    /// Describes a manifest without claims beyond its type and size.
    fn describe(&self, repository: &str, digest: &Digest) -> Descriptor {
        let mut content = self.content();
        let found = content
            .repository(repository)
            .manifest(&Reference::Digest(*digest));
        match found {
            Some((found, _)) => descriptor(&found.media_type, *digest, found.size),
            None => descriptor(media_type::OCI_MANIFEST, *digest, 0),
        }
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        annotations: None,
        artifact_type: None,
        platform: None,
    }
}
