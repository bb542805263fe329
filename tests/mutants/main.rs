//! Mutation tests: of every format of evidence, every place changed, one at a time.
//!
//! What has to hold for each mutant: it proves nothing that the sound document does not prove,
//! and nothing panics. Most prove nothing at all. Those that still prove the same are listed in
//! `neutral.rs`, each place with the reason why nobody signed it and nothing depends on it; so a
//! check that is lost shows up as a place that is not listed.
//!
//! The walk is `sandbox::mutants`, and knows no format. A quick set runs with the other tests; a
//! larger one, with one bit of every byte flipped, runs when asked for (`-- --ignored`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests are made of may fail as they do"
)]

mod bundles;
mod gpg;
mod harness;
mod layers;
mod matrix;
mod neutral;
mod roots;
mod shape;
