//! The images of a site: how each is signed, and what ought to become of it.
//!
//! The names say which policy of [`crate::harness::gate`] judges an image: `release/` wants the
//! release workflow, `keyed/` the key of operations with a log, `offline/` that key alone.

use std::path::Path;

use crate::harness::cosign::Cosign;
use crate::harness::cosign::Signing;
use crate::harness::front::Front;
use crate::harness::image::Image;
use crate::harness::process::Undertaker;

/// The repository whose workflow may sign releases.
pub(crate) const OURS: &str = "acme/widget";

/// One whose workflow may not.
pub(crate) const THEIRS: &str = "mallory/widget";

/// The image of two platforms.
const INDEX: &str = "release/index";

/// An image that is unsigned at first, and that one test signs.
const SPARE: &str = "release/signed-later";

/// How an image is made and what is expected of it.
struct Plan {
    repository: &'static str,
    signing: Signing,
    is_index: bool,
    refused: Option<&'static str>,
}

const fn served(repository: &'static str, signing: Signing) -> Plan {
    Plan {
        repository,
        signing,
        is_index: false,
        refused: None,
    }
}

const fn refused(repository: &'static str, signing: Signing, reason: &'static str) -> Plan {
    Plan {
        repository,
        signing,
        is_index: false,
        refused: Some(reason),
    }
}

const PLANS: [Plan; 15] = [
    served("release/keyless", Signing::Keyless(OURS)),
    Plan {
        is_index: true,
        ..served(INDEX, Signing::Keyless(OURS))
    },
    served("release/rekor-v1", Signing::KeylessRekorV1(OURS)),
    served("release/old-format", Signing::OldKeyless(OURS)),
    served("keyed/bundle", Signing::Key("ops")),
    served("keyed/old-format", Signing::OldKey("ops")),
    served("offline/old-format", Signing::OldKeyUnlogged("ops")),
    refused("release/unsigned", Signing::None, "unsigned"),
    refused(SPARE, Signing::None, "unsigned"),
    refused(
        "release/stranger",
        Signing::Keyless(THEIRS),
        "untrusted_signer",
    ),
    refused(
        "release/old-stranger",
        Signing::OldKeyless(THEIRS),
        "untrusted_signer",
    ),
    refused("keyed/unsigned", Signing::None, "unsigned"),
    refused(
        "keyed/other-key",
        Signing::Key("other"),
        "invalid_signature",
    ),
    refused(
        "keyed/old-other-key",
        Signing::OldKey("other"),
        "invalid_signature",
    ),
    refused(
        "keyed/unlogged",
        Signing::OldKeyUnlogged("ops"),
        "untrusted_signer",
    ),
];

/// An image that lies in the registry.
pub(crate) struct Entry {
    /// Its repository.
    pub(crate) repository: String,
    /// Its full name with a tag, as a user writes it.
    pub(crate) reference: String,
    /// Its bytes.
    pub(crate) image: Image,
    /// How it was signed.
    pub(crate) signing: Signing,
    /// The reason that must be shown, for an image that must not come out.
    pub(crate) refused: Option<&'static str>,
}

/// All images of a site.
pub(crate) struct Catalogue(Vec<Entry>);

impl Catalogue {
    /// Builds, pushes and signs them, under the front's name.
    pub(crate) fn publish(front: &Front, cosign: &Cosign, undertaker: &Undertaker) -> Self {
        let folder = undertaker.folder("images");
        let entries = PLANS
            .iter()
            .map(|plan| Entry::publish(plan, &front.host(), cosign, &folder))
            .collect();
        front.forget();
        Self(entries)
    }

    /// Those that have to come out.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| entry.refused.is_none())
    }

    /// The signed image of two platforms.
    pub(crate) fn index(&self) -> &Entry {
        let found = self.0.iter().find(|entry| entry.repository == INDEX);
        found.expect("the index is among the plans")
    }

    /// The unsigned image that one test signs.
    pub(crate) fn spare(&self) -> &Entry {
        let found = self.0.iter().find(|entry| entry.repository == SPARE);
        found.expect("the spare is among the plans")
    }

    /// Those that must not, each with the reason that has to be given.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&Entry, &'static str)> {
        self.0
            .iter()
            .filter(|entry| entry.repository != SPARE)
            .filter_map(|entry| entry.refused.map(|reason| (entry, reason)))
    }
}

impl Entry {
    fn publish(plan: &Plan, host: &str, cosign: &Cosign, folder: &Path) -> Self {
        let name = format!("{host}/{}", plan.repository);
        let image = if plan.is_index {
            Image::index(&name, folder)
        } else {
            Image::single(&name, folder)
        };
        let reference = format!("{name}:v1");
        image.push(&reference, folder);
        cosign.sign(plan.signing, &format!("{name}@{}", image.digest));
        Self {
            repository: plan.repository.to_owned(),
            reference,
            image,
            signing: plan.signing,
            refused: plan.refused,
        }
    }
}
