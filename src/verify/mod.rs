//! Proofs: evidence bytes, a trust root and the time go in, facts come out.
//!
//! This room is the sole home of the Sigstore verifier. It is pure: it awaits nothing, spawns
//! nothing, logs nothing, and takes the time as an argument. (The pinned verifier family reads
//! the clock itself for one check, that a log's time is not in the future.) It knows no
//! policy: whose signature is good enough is for `policy` to say.

mod facts;

pub use facts::{Fact, Facts, Format, Identity, Kind, Rejected, RootName, Signer};
