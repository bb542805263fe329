//! What makes a registry of it, beyond what the conformance suite asks: lists page by page,
//! errors as clients can read them, Docker's media types, and logins of callers at upstreams.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests are made of may fail as they do"
)]

mod answers;
mod lists;
#[path = "../support/mod.rs"]
mod support;

use pullgate::policy::{DefaultRule, Rules};

use crate::support::Setup;

/// A gate that stands open: here it is about the registry behind it.
fn open() -> Setup {
    Setup::ruled(Rules {
        default: DefaultRule::UnsafeAllow,
        ..Rules::default()
    })
}
