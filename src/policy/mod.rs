//! Judgement: facts, an image's name and the time go in, a verdict comes out.
//!
//! This room is pure: it awaits nothing, spawns nothing, logs nothing and reads no clock. It
//! does not know how facts were proven, where policies are written, or what HTTP is.

mod caller;
mod certified_by;
mod condition;
mod demand;
mod glob;
mod index;
mod judge;
mod puller;
mod reason;
mod rollback;
mod rule;
mod signed_by;
mod signed_identity;
mod signer;
mod timed_key;
mod timing;
mod written;

pub use caller::{Caller, CertificateIdentity, TokenIdentity};
pub use certified_by::{CertifiedBy, NameRule};
pub use condition::{CONDITION_BYTES_MAX, CONDITION_STEPS_MAX, Condition, ConditionError};
pub use glob::{Glob, GlobError, wildcards};
pub use index::Index;
pub use judge::{Judgement, PolicyOutcome, Question, Shape, Shortfall, Subject, judge};
pub use puller::{ClaimRule, DnsRule, PulledBy, PullerKind, PullerRule, TokenRule, judge_caller};
pub use reason::Reason;
pub use rollback::{Earlier, NoRollback, judge_tag};
pub use rule::{
    Attested, Carrier, DefaultRule, Demand, Mode, Policy, Requirement, Rules, SignedBy, Signs,
    Timing,
};
pub use signed_identity::SignedIdentity;
pub use signer::{Claim, IdentityRule, Keyless, PatternError, SignerKind, SignerRule};
pub use timed_key::{KeyHolder, TimedKey};
