//! Who pulls, with the name that records have.

use std::sync::Arc;

use crate::policy::Caller;

/// A caller and its name. Made once per credential and shared by all requests that carry it, so
/// that a hot pull writes no text.
#[derive(Debug, Clone, Default)]
pub struct Puller {
    caller: Caller,
    name: Option<Arc<str>>,
}

impl Puller {
    /// Nobody was asked.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Who it is, for policy.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Its name, for records; none where nothing was verified.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }
}

impl From<Caller> for Puller {
    fn from(caller: Caller) -> Self {
        let name = match &caller {
            Caller::Anonymous => None,
            known => Some(known.to_string().into()),
        };
        Self { caller, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_verified_has_a_name() {
        assert_eq!(Puller::anonymous().name(), None);
        let alice = Puller::from(Caller::User("alice".into()));
        assert_eq!(alice.name().map(AsRef::as_ref), Some("user alice"));
    }
}
