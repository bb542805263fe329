//! One refusal test, at least, for each class of attack on a verifying proxy.
//!
//! The letter and number in front of a name, and in the comment, are those of the threat
//! list behind them. Each test was seen to fail with its check removed (ARCHITECTURE.md,
//! "Invariants").

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests are made of may fail as they do"
)]

mod attested;
mod audit;
mod auth;
mod binary;
mod binding;
mod cache;
mod callers;
mod certified;
mod cluster_image_policy;
mod decisions;
#[path = "../support/documents.rs"]
mod documents;
mod flights;
mod foreign;
mod formats;
mod gpg;
mod graph;
mod identity;
mod kyverno;
mod limits;
mod policy_json;
#[path = "../support/program.rs"]
mod program;
mod pullers;
mod refusals;
mod reload;
mod rollback;
mod secrets;
mod shapes;
mod source;
mod stale;
mod storms;
#[path = "../support/mod.rs"]
mod support;
mod tags;
mod tenants;
mod trust;
mod whole;
