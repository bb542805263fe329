//! Judgement: facts, an image's name and the time go in, a verdict comes out.
//!
//! This room is pure: it awaits nothing, spawns nothing, logs nothing and reads no clock. It
//! does not know how facts were proven, where policies are written, or what HTTP is.

mod caller;
mod glob;
mod judge;
mod puller;
mod rule;
mod signed_identity;
mod signer;

pub use caller::{Caller, CertificateIdentity, TokenIdentity};
pub use glob::{Glob, GlobError};
pub use judge::{Judgement, PolicyOutcome, Reason, Shape, Shortfall, Subject, judge};
pub use puller::{ClaimRule, DnsRule, PulledBy, PullerKind, PullerRule, TokenRule, judge_caller};
pub use rule::{DefaultRule, Mode, Policy, Requirement, Rules, SignedBy, Signs};
pub use signed_identity::SignedIdentity;
pub use signer::{Claim, IdentityRule, Keyless, PatternError, SignerKind, SignerRule};
