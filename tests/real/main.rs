//! The gate between real clients and real registries.
//!
//! Nothing here is simulated: the images are signed by cosign with a key, and keyless against
//! Fulcio, Rekor and a timestamp authority; they lie in the distribution registry and in one
//! with a referrers API of its own; podman, buildah, skopeo, containerd, docker, oras, crane,
//! regctl and helm pull them through `pullgate serve`. Everything runs on loopback, in one folder under the temporary directory,
//! and is gone when the test process is.
//!
//! The parts are many and take minutes to build, so every test is ignored unless asked for.
//! `.ci/install` brings the parts, and this runs the tests, one after another because the
//! clients share their storage:
//!
//! ```text
//! cargo test --test real -- --ignored --test-threads=1
//! ```

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test harness: what fails here fails the test, with its reason"
)]

mod airgap;
mod certificates;
mod chaos;
mod clients;
mod conformance;
mod downstream;
mod gpg;
mod harness;
mod interop;
mod policy_controller;
mod policy_json;
mod pullers;
mod pulls;
mod tuf;
mod upstreams;
