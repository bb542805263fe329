//! pullgate: a verifying, caching reverse proxy for OCI registries.
//!
//! The rooms, their order and what each may know stand in ARCHITECTURE.md; the test
//! `tests/rooms.rs` holds the code against that table.

pub mod admin;
pub mod app;
pub mod audit;
pub mod authn;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod evidence;
mod flight;
pub mod gate;
pub mod hands;
pub mod metrics;
pub mod oci;
mod places;
pub mod policy;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod server;
pub mod trust;
pub mod upstream;
pub mod verify;
