//! Where trust roots come from: files, those that are built in, and TUF repositories that keep
//! them fresh. Sole home of `sigstore-trust-root` and `sigstore-tuf`.
//!
//! Roots are had here and made ready by `verify`; what they prove is not this room's business,
//! nor is when they are asked for: `app` does that.

mod built_in;
mod chain;
mod kept;
mod mirror;
mod shelf;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;

pub use built_in::BuiltIn;
pub use chain::{WalkError, check_root};
pub use kept::{Kept, KeptSettings, KeptTimes, Standing};

use std::sync::Arc;

use crate::verify::RootName;
use crate::verify::TrustRoot;
use crate::verify::TrustRootError;

/// A trust root that is built in, as it was when this version was released.
///
/// # Errors
/// [`TrustRootError`] when it cannot be used: a broken build.
pub fn built_in(name: RootName, which: BuiltIn) -> Result<Arc<TrustRoot>, TrustRootError> {
    from_json(name, which.trusted_root())
}

/// A trust root from the text of a `trusted_root.json`.
///
/// # Errors
/// [`TrustRootError`] when it does not parse or cannot be used.
pub fn from_json(name: RootName, json: &str) -> Result<Arc<TrustRoot>, TrustRootError> {
    TrustRoot::from_json(name, json).map(Arc::new)
}

/// The TUF root with which trust in a built-in instance begins.
#[must_use]
pub fn pinned(which: BuiltIn) -> Arc<[u8]> {
    which.tuf_root().into()
}
