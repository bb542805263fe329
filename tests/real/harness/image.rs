//! Images built here byte by byte, so that what a client ends up with can be compared with what
//! was meant, and not with what a registry says.

use std::path::Path;

use aws_lc_rs::digest;
use serde_json::Value;
use serde_json::json;

use crate::harness::process::command;
use crate::harness::process::must;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Large enough for a layer to cross the wire in several pieces.
const FILLING_BYTES: usize = 300_000;

/// One manifest, configuration or layer.
#[derive(Debug)]
pub(crate) struct Content {
    /// Its SHA-256 in hexadecimal.
    pub(crate) hex: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is for another platform than the one the clients run on.
    pub(crate) foreign: bool,
}

/// An image or an index with all that it reaches.
pub(crate) struct Image {
    /// The digest that is pulled, `sha256:...`.
    pub(crate) digest: String,
    /// Everything that it reaches, itself included, in no particular order.
    pub(crate) contents: Vec<Content>,
    /// What stands in the one file of the image.
    pub(crate) text: String,
}

/// The name of that file.
pub(crate) const FILE: &str = "said.txt";

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            hex: sha256(&bytes),
            bytes,
            foreign: false,
        }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", self.hex),
            "size": self.bytes.len(),
        })
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Image {
    /// An image of one layer for the platform of this machine.
    pub(crate) fn single(name: &str, folder: &Path) -> Self {
        Self::for_platform(name, go_architecture(), folder)
    }

    /// An index over an image for this machine and one for another.
    pub(crate) fn index(name: &str, folder: &Path) -> Self {
        let ours = Self::for_platform(name, go_architecture(), folder);
        let theirs = Self::for_platform(&format!("{name}/elsewhere"), "s390x", folder);
        let index = Content::new(
            json!({
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [ours.entry(go_architecture()), theirs.entry("s390x")],
            })
            .to_string()
            .into_bytes(),
        );
        let digest = format!("sha256:{}", index.hex);
        let foreign = theirs.contents.into_iter().map(|content| Content {
            foreign: true,
            ..content
        });
        Self {
            digest,
            text: ours.text,
            contents: std::iter::once(index)
                .chain(ours.contents)
                .chain(foreign)
                .collect(),
        }
    }

    fn for_platform(name: &str, architecture: &str, folder: &Path) -> Self {
        let text = format!("{name} for {architecture}\n");
        let (layer, diff_id) = layer(&text, folder);
        let config = Content::new(
            json!({
                "architecture": architecture,
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
            })
            .to_string()
            .into_bytes(),
        );
        let manifest = Content::new(
            json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(CONFIG),
                "layers": [layer.descriptor(LAYER)],
            })
            .to_string()
            .into_bytes(),
        );
        Self {
            digest: format!("sha256:{}", manifest.hex),
            contents: vec![manifest, config, layer],
            text,
        }
    }

    fn entry(&self, architecture: &str) -> Value {
        let mut entry = self.contents[0].descriptor(MANIFEST);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    }

    /// What a client of this platform has to end up with.
    pub(crate) fn native(&self) -> impl Iterator<Item = &Content> {
        self.contents.iter().filter(|content| !content.foreign)
    }

    /// Pushes it under `reference`, by way of an OCI layout.
    pub(crate) fn push(&self, reference: &str, folder: &Path) {
        let layout = tempfile::tempdir_in(folder).expect("a folder for a layout");
        let blobs = layout.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder for blobs");
        for content in &self.contents {
            std::fs::write(blobs.join(&content.hex), &content.bytes).expect("a blob");
        }
        let root = &self.contents[0];
        let root_type = if self.contents.len() > 3 {
            INDEX
        } else {
            MANIFEST
        };
        let index = json!({"schemaVersion": 2, "manifests": [root.descriptor(root_type)]});
        for (file, text) in [
            ("index.json", index.to_string()),
            ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
        ] {
            std::fs::write(layout.path().join(file), text).expect("a layout file");
        }
        must(
            command("crane")
                .args(["push", "--insecure"])
                .arg(layout.path())
                .arg(reference),
        );
    }
}

/// A layer with the text and some filling, and the digest of its uncompressed form.
fn layer(text: &str, folder: &Path) -> (Content, String) {
    let files = tempfile::tempdir_in(folder).expect("a folder for a layer");
    std::fs::write(files.path().join(FILE), text).expect("a file");
    std::fs::write(files.path().join("filling"), filling(text)).expect("a file");
    let archive = files.path().join("layer.tar");
    must(
        command("tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
            ])
            .arg("-C")
            .arg(files.path())
            .arg("-cf")
            .arg(&archive)
            .args([FILE, "filling"]),
    );
    let diff_id = sha256(&std::fs::read(&archive).expect("the archive"));
    must(command("gzip").arg("-n").arg(&archive));
    let compressed = std::fs::read(archive.with_extension("tar.gz")).expect("the archive");
    (Content::new(compressed), diff_id)
}

/// Bytes that do not compress, different for each image.
fn filling(seed: &str) -> Vec<u8> {
    (0_u32..)
        .flat_map(|counter| {
            let block = format!("{seed}{counter}");
            digest::digest(&digest::SHA256, block.as_bytes())
                .as_ref()
                .to_vec()
        })
        .take(FILLING_BYTES)
        .collect()
}

fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
