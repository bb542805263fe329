//! Where trust roots come from: files, and those that are built in. Sole home of
//! `sigstore-trust-root`.
//!
//! Roots are read here and made ready by `verify`; what they prove is not this room's business.

use std::sync::Arc;

use sigstore_trust_root::SigstoreInstance;

use crate::verify::RootName;
use crate::verify::TrustRoot;
use crate::verify::TrustRootError;

/// The trust roots that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// Sigstore's public good instance.
    PublicGood,
    /// Sigstore's staging instance: for trying things out, never for trust.
    Staging,
    /// GitHub's own instance, which signs the attestations of private repositories.
    GitHub,
}

/// A trust root that is built in, as it was when this version was released.
///
/// # Errors
/// [`TrustRootError`] when it cannot be used: a broken build.
pub fn built_in(name: RootName, which: BuiltIn) -> Result<Arc<TrustRoot>, TrustRootError> {
    let instance = match which {
        BuiltIn::PublicGood => SigstoreInstance::PublicGood,
        BuiltIn::Staging => SigstoreInstance::Staging,
        BuiltIn::GitHub => SigstoreInstance::GitHub,
    };
    from_json(name, instance.embedded_trusted_root_json())
}

/// A trust root from the text of a `trusted_root.json`.
///
/// # Errors
/// [`TrustRootError`] when it does not parse or cannot be used.
pub fn from_json(name: RootName, json: &str) -> Result<Arc<TrustRoot>, TrustRootError> {
    TrustRoot::from_json(name, json).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_can_be_used() {
        for which in [BuiltIn::PublicGood, BuiltIn::Staging, BuiltIn::GitHub] {
            let root = built_in(RootName::from("public"), which).expect("a usable root");
            assert!(root.expires_at.is_some());
        }
    }
}
