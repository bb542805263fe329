//! Who was seen last on one connection, by the very bytes that they sent: so that the requests
//! of a connection that stays open are neither hashed nor looked up among all who are known.
//!
//! It is a short cut to a proof and never a proof: whether that still holds is asked each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::authn::known::Known;

/// The longest credential that a connection keeps, in bytes; there may be ten thousand of them.
const CREDENTIAL_BYTES_MAX: usize = 4 << 10;

/// What one connection keeps of who asks on it. The credential is held as it was sent, and goes
/// with the connection.
#[derive(Default)]
pub struct Seen(Mutex<Option<Last>>);

struct Last {
    credential: Box<[u8]>,
    known: Arc<Known>,
}

impl Seen {
    /// Who sent the same bytes the last time. Others may share the connection, where something in
    /// front of the gate keeps it: so how long the comparison takes tells nothing of the bytes.
    pub(super) fn find(&self, credential: &[u8]) -> Option<Arc<Known>> {
        let last = self.locked();
        let last = last.as_ref()?;
        are_same(&last.credential, credential).then(|| Arc::clone(&last.known))
    }

    pub(super) fn note(&self, credential: &[u8], known: &Arc<Known>) {
        if credential.len() <= CREDENTIAL_BYTES_MAX {
            *self.locked() = Some(Last {
                credential: credential.into(),
                known: Arc::clone(known),
            });
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares all bytes, wherever they differ.
fn are_same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let differing = pairs.fold(0_u8, |differing, (one, other)| differing | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_bytes_are_the_same() {
        assert!(are_same(b"Basic YTpi", b"Basic YTpi"));
        assert!(are_same(b"", b""));
        for other in [
            "",
            "Basic YTp",
            "Basic YTpi ",
            "basic YTpi",
            "Basic YTpj",
            "casic YTpi",
        ] {
            assert!(!are_same(b"Basic YTpi", other.as_bytes()), "{other}");
        }
    }
}
