//! The instances of Sigstore that are built in: what is known of each when a version is
//! released, and where to ask for what has changed since.

use sigstore_trust_root::SigstoreInstance;

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

impl BuiltIn {
    /// The `trusted_root.json`, as it was when this version was released.
    pub(super) fn trusted_root(self) -> &'static str {
        let instance = match self {
            Self::PublicGood => SigstoreInstance::PublicGood,
            Self::Staging => SigstoreInstance::Staging,
            Self::GitHub => SigstoreInstance::GitHub,
        };
        instance.embedded_trusted_root_json()
    }

    /// The TUF root that every later `trusted_root.json` has to lead back to: the files of the
    /// pinned `sigstore-trust-root`, which gives them out together with a client of its own only.
    pub(super) fn tuf_root(self) -> &'static [u8] {
        match self {
            Self::PublicGood => include_bytes!("roots/public_good.root.json"),
            Self::Staging => include_bytes!("roots/staging.root.json"),
            Self::GitHub => include_bytes!("roots/github.root.json"),
        }
    }

    /// Where its TUF repository is.
    #[must_use]
    pub fn mirror(self) -> &'static str {
        match self {
            Self::PublicGood => "https://tuf-repo-cdn.sigstore.dev",
            Self::Staging => "https://tuf-repo-cdn.sigstage.dev",
            Self::GitHub => "https://tuf-repo.github.com",
        }
    }
}
