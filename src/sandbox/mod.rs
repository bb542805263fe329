//! The garden, a world to try the proxy in: an in-process registry, a private Sigstore and an
//! OpenID Connect issuer, for `pullgate demo`, tests and benches.
//!
//! Everything here imitates real components byte for byte where a verifier looks, because a
//! private dialect would only prove that we agree with ourselves. Nothing but the demo, tests
//! and benches imports this room; it is a cargo feature and left out of the container image.
//!
//! What is minted here is built from parts that the room itself made. Where building it could
//! fail nonetheless, the room panics: that is a bug of the sandbox, not a condition to handle.

pub mod client;
mod connections;
pub mod gpg;
pub mod image;
pub mod mutants;
pub mod oidc;
pub mod registry;
pub mod sigstore;
pub mod tuf;
