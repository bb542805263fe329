//! GPG signatures from a lookaside store: who signed, for which image and digest, with a key that
//! is worth something at that time.

use std::{fs, time::Duration};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use pullgate::oci::Digest;
use pullgate::policy::SignedIdentity;
use pullgate::sandbox::gpg::{Holder, Life, payload, Manner};
use pullgate::sandbox::image::Package;

use crate::support::{HOST, Setup, World, gpg_rule, rules, signed_by};

const DAY: Duration = Duration::from_secs(86_400);

fn yesterday() -> Timestamp {
    pullgate::clock::Clock::system().now() - SignedDuration::from_hours(24)
}

fn holder() -> Holder {
    Holder::new(Life::from(yesterday()))
}

/// A world in which what the holder of the keyring signed passes.
async fn world(keyring: &[u8], identity: SignedIdentity) -> World {
    let signer = gpg_rule("ada", keyring, identity);
    World::with(Setup {
        lookaside: true,
        ..Setup::ruled(rules(vec![signed_by("p", "**", &[signer])]))
    })
    .await
}

/// An image under `app:v1`, and a signature of it for `reference`.
fn signed(world: &World, holder: &Holder, reference: &str) -> Package {
    let image = Package::image("app");
    world.push("app", &image.clone().tagged("v1"));
    let message = holder.sign_image(&image.digest(), reference, yesterday());
    world.detach("app", &image.digest(), &[message]);
    image
}
