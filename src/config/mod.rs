//! Configuration: the files become [`Settings`], once.
//!
//! This room is the sole home of YAML. A file becomes a small tree in which every node knows
//! its line (`yaml`); the tree is read by sections (`schema`, `reader`), and every reading
//! that fails is told and passed over, so that one run tells all problems of all files: file,
//! line, key, and the mend. (A deserializer would stop at the first.) What is read is lowered
//! into the types of the rooms below, and nobody has to look at a text again.
//!
//! It reads files and nothing else: no environment, no network, no clock. Whether a key or a
//! trust root is one that the verifier can use is for others to say; they hand in [`Checks`].

mod attested;
mod audit;
mod ca;
mod callers;
mod cases;
mod cluster_image_policy;
mod containers_policy;
mod demand;
mod demands;
mod docker_config;
mod evidence_source;
mod file;
mod files;
mod foreign;
mod gpg;
mod image;
mod images;
mod json;
mod json_schema;
mod key;
mod kyverno;
mod limits;
mod logs;
mod native;
mod pem;
mod policies;
mod problem;
mod pullers;
mod reader;
mod rollback;
mod roots;
mod schema;
mod settings;
mod signed_by;
mod signed_identity;
mod signers;
mod sources;
mod suggest;
mod units;
mod upstreams;
mod watched;
mod workflow;
mod yaml;

pub use callers::{CallersSettings, ClientCertificateFiles, OidcIssuer, TokenSettings, UsersFile};
pub use cases::{Case, Expected, load_cases};
pub use file::{Checks, Loaded, load, load_watched};
pub use image::{ImageError, parse as parse_image};
pub use json_schema::{Described, json_schema};
pub use limits::Limits;
pub use native::native;
pub use problem::{Problem, Severity};
pub use settings::{
    AuditSettings, CacheSettings, ClientCertificate, LastGood, LookasideSettings, RootSource,
    Secret, Settings, SigstoreInstance, TlsFiles, TrustRootSource, TufSource, UpstreamCredentials,
    UpstreamSettings,
};
pub use signers::named_issuer;
pub use watched::Sources;

#[cfg(test)]
mod json_schema_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
