//! Who asks: from a request to a verified [`Caller`](crate::policy::Caller).
//!
//! This room says who somebody is and never what they may have; that is policy's.

mod puller;

pub use puller::Puller;
