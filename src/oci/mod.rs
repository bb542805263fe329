//! The vocabulary of the OCI specifications as types: digests, names, references,
//! manifests, media types and error bodies.
//!
//! Everything here is parsed once, at the door; a value of one of these types is valid.
//! This room knows no sockets, no policy and no signatures.

mod digest;
mod docker_reference;
mod error;
mod evidence_source;
mod manifest;
pub mod media_type;
mod name;

pub use digest::{Algorithm, Digest, Hasher, ParseDigestError};
pub use docker_reference::{DockerReference, ParseDockerReferenceError};
pub use error::{ErrorBody, ErrorCode};
pub use evidence_source::{EvidenceSource, ParseTagPrefixError, TagPrefix};
pub use manifest::{
    Descriptor, Image, Index, Manifest, ManifestError, ManifestKind, Platform, REFERENCE_TYPE,
};
pub use name::{ImageName, ParseNameError, Reference, RegistryHost, Repository, Tag};
