//! Who was proven a moment ago, by a keyed hash of the credential: so that a pull of many
//! requests is proven once. No credential is held here, only its hash under a key of this process.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use moka::sync::Cache;

use crate::authn::Puller;
use crate::metrics::AuthenticationMethod;
use crate::oci::ImageName;

/// The longest time that a proof is repeated.
pub(super) const REPEATED_MAX: Duration = Duration::from_secs(5 * 60);
/// What is held, in bytes.
const KNOWN_BYTES_MAX: u64 = 32 << 20;

/// A credential, as it is looked up.
pub(super) type Hash = [u8; 32];

/// Whoever sent a credential.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) puller: Arc<Puller>,
    pub(super) method: AuthenticationMethod,
    /// When it has to be proven anew.
    pub(super) until: Timestamp,
    /// When the credential itself ends, where it does.
    pub(super) expires_at: Option<Timestamp>,
    /// What has to be as it was for this to hold.
    pub(super) rests_on: RestsOn,
    /// The only repositories that it is for, by their whole names; all where there is no list.
    pub(super) access: Option<Vec<String>>,
    /// The length of the credential in bytes: about what its claims take.
    pub(super) length: usize,
}

impl Known {
    /// Whether it is for this repository, where it is not for all.
    pub(super) fn allows(&self, image: Option<&ImageName>) -> bool {
        match (&self.access, image) {
            (Some(access), Some(image)) => access.iter().any(|name| is_named(image, name)),
            _ => true,
        }
    }
}

/// Whether this is the image's whole name. It is asked on every pull, so no name is put together.
fn is_named(image: &ImageName, name: &str) -> bool {
    name.strip_prefix(image.registry.as_str())
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|repository| repository == image.repository.as_str())
}

/// What a proof rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RestsOn {
    /// The file of users, by its number.
    Users(u64),
    /// An issuer's keys, by their number.
    Keys(Arc<str>, u64),
    /// The configuration alone.
    Configuration,
}

/// Those who are known.
#[derive(Debug)]
pub(super) struct KnownPullers(Cache<Hash, Arc<Known>>);

impl KnownPullers {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(KNOWN_BYTES_MAX)
            .weigher(|_, known: &Arc<Known>| {
                // The claims, parsed, and once more as the token's text in the name.
                u32::try_from(known.length * 3 + 512).unwrap_or(u32::MAX)
            })
            .time_to_live(REPEATED_MAX)
            .build();
        Self(cache)
    }

    pub(super) fn find(&self, hash: &Hash) -> Option<Arc<Known>> {
        self.0.get(hash)
    }

    pub(super) fn hold(&self, hash: Hash, known: Arc<Known>) {
        self.0.insert(hash, known);
    }

    pub(super) fn forget(&self, hash: &Hash) {
        self.0.invalidate(hash);
    }
}
