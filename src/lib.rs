//! pullgate: a verifying, caching reverse proxy for OCI registries.
//!
//! The rooms, their order and what each may know stand in ARCHITECTURE.md; the test
//! `tests/rooms.rs` holds the code against that table.

pub mod clock;
pub mod config;
pub mod oci;
pub mod policy;
pub mod verify;
