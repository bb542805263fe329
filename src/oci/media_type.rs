//! Media types of manifests and of evidence (image-spec, media-types.md; cosign's
//! specifications).

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The config of a manifest that has none (image-spec 1.1).
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What the upstream is always asked for. There are registries that answer 404 for types that
/// are not listed (Debian's docker-registry 2.8), so the client's own list is never passed on.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// The payload of a cosign signature in the `.sig` format.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// A DSSE envelope: a layer of cosign's `.att` format.
pub const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// How the bytes of an evidence layer can be told from those of a runnable layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceForm {
    /// The bytes parse as one JSON document.
    Json,
    /// The bytes are text: UTF-8 without control characters other than white space.
    Text,
}

/// The form of evidence that a layer of this media type is, or `None` where the media type
/// is not one of evidence. A manifest passes as evidence only when every layer has one.
#[must_use]
pub fn evidence_form(media_type: &str) -> Option<EvidenceForm> {
    if is_sigstore_bundle(media_type) {
        return Some(EvidenceForm::Json);
    }
    match media_type {
        SIMPLE_SIGNING
        | DSSE_ENVELOPE
        | "application/spdx+json"
        | "text/spdx+json"
        | "application/vnd.cyclonedx+json"
        | "application/vnd.syft+json" => Some(EvidenceForm::Json),
        "text/spdx" | "text/spdx+xml" | "application/vnd.cyclonedx+xml" => Some(EvidenceForm::Text),
        _ => None,
    }
}

/// True for both spellings of a Sigstore bundle's media type, versions 0.1 to 0.3.
#[must_use]
pub fn is_sigstore_bundle(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.dev.sigstore.bundle.v0.3+json"
            | "application/vnd.dev.sigstore.bundle+json;version=0.1"
            | "application/vnd.dev.sigstore.bundle+json;version=0.2"
            | "application/vnd.dev.sigstore.bundle+json;version=0.3"
    )
}
