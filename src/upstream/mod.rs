//! The only client of registries: OCI distribution-spec 1.1 towards the configured upstreams.
//!
//! This room asks for manifests, blobs, referrers and tags, with every wait and every size
//! bounded. It decides where a request may go (which token realms belong to a registry, which
//! redirects are followed) and which of them carry credentials. It hashes manifests that are
//! asked for by digest; blobs stream, and whoever takes them hashes them.
//!
//! It deliberately knows nothing of policy, signatures, caches or configuration files, and it
//! never sees the headers of those who pull: all it is handed are names, references and
//! digests that parsed.

mod address;
mod authorize;
mod blob;
mod body;
mod budget;
mod challenge;
mod client;
mod connect;
mod document;
mod error;
mod exchange;
mod link;
mod login;
mod lookaside;
mod order;
mod origin;
mod plain;
#[cfg(test)]
mod property_tests;
mod proxy;
mod query;
mod realm;
mod redirect;
mod retry_after;
mod road;
mod settings;
#[cfg(test)]
mod tests;
mod token;

pub use body::{BlobBody, BlobStream};
pub use client::{BuildError, Upstream};
pub use document::{FetchedManifest, Referrers, TagPage};
pub use error::{MalformedAnswer, RealmRefusal, RedirectRefusal, Stage, UpstreamError};
pub use login::{Login, LoginKey, UnusableLogin};
pub use lookaside::Lookaside;
pub use origin::{BaseUrl, ParseUrlError};
pub use proxy::{ParseProxyError, Proxy};
pub use redirect::{HostPattern, ParseHostPatternError, Redirects};
pub use settings::{
    ClientCertificate, Credentials, Keeper, Limits, OnRequest, Secret, Settings, Told,
};
