//! How often an address guessed wrong of late, so that guessing takes for ever.
//!
//! Only trials of passwords that cost something and failed are counted: nobody guesses signatures. Credentials that were proven a
//! moment ago are not tried again, so who shares an address with somebody who guesses goes on
//! pulling.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

/// How long a failure counts.
const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES_MAX: usize = 16_384;

/// The failures of one address since `since`.
#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Timestamp,
    count: usize,
}

impl Failures {
    /// How long they still count; nothing when they do no more. A clock that was set back ends
    /// them too.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let passed = Duration::try_from(now.duration_since(self.since)).ok()?;
        WINDOW.checked_sub(passed).filter(|left| !left.is_zero())
    }
}

/// The failures of all addresses, a bounded number of them.
#[derive(Debug)]
pub(super) struct FailureCounts {
    counts: Mutex<HashMap<IpAddr, Failures>>,
    failures_max: usize,
}

impl FailureCounts {
    pub(super) fn new(failures_max: usize) -> Self {
        Self {
            counts: Mutex::default(),
            failures_max,
        }
    }

    /// Charges this address for a trial, before it is made: so whoever goes away before its end,
    /// or makes many at once, has paid as well.
    ///
    /// # Errors
    /// How long the address has to wait, when it has failed too often.
    pub(super) fn charge(&self, client: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let mut counts = self.locked();
        if counts.len() >= ADDRESSES_MAX {
            counts.retain(|_, failures| failures.left(now).is_some());
        }
        if counts.len() >= ADDRESSES_MAX {
            // So many addresses in a minute: the bounded number of trials at a time is what
            // slows them then, and a table that starts over is better than one without end.
            counts.clear();
        }
        let fresh = Failures {
            since: now,
            count: 0,
        };
        let failures = counts.entry(counted_as(client)).or_insert(fresh);
        let left = failures.left(now).unwrap_or_else(|| {
            *failures = fresh;
            WINDOW
        });
        if failures.count >= self.failures_max {
            return Err(left);
        }
        failures.count += 1;
        Ok(())
    }

    /// Gives back what a trial was charged that did not fail.
    pub(super) fn refund(&self, client: IpAddr) {
        if let Some(failures) = self.locked().get_mut(&counted_as(client)) {
            failures.count = failures.count.saturating_sub(1);
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has an IPv6 address has 2^64 of them: a network counts as one.
fn counted_as(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.into(),
            None => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn who_fails_too_often_waits_and_nobody_else() {
        let counts = FailureCounts::new(3);
        let start = Timestamp::UNIX_EPOCH;
        let after = |seconds| start + SignedDuration::from_secs(seconds);
        let guesser = address("192.0.2.1");
        for second in 0..3 {
            assert_eq!(counts.charge(guesser, after(second)), Ok(()));
        }
        assert_eq!(
            counts.charge(guesser, after(3)),
            Err(Duration::from_secs(57))
        );
        assert_eq!(counts.charge(address("192.0.2.2"), after(3)), Ok(()));
        counts.refund(guesser);
        assert_eq!(counts.charge(guesser, after(4)), Ok(()), "one was right");
        assert!(counts.charge(guesser, after(5)).is_err());
        assert_eq!(counts.charge(guesser, after(60)), Ok(()));
        // A clock that is set back locks nobody out.
        assert_eq!(counts.charge(guesser, start), Ok(()));
    }

    #[test]
    fn a_network_of_version_6_is_one_client() {
        let counts = FailureCounts::new(1);
        let now = Timestamp::UNIX_EPOCH;
        assert!(counts.charge(address("2001:db8::1"), now).is_ok());
        assert!(counts.charge(address("2001:db8::ffff:2"), now).is_err());
        assert!(counts.charge(address("2001:db8:0:1::1"), now).is_ok());
        assert!(counts.charge(address("::ffff:192.0.2.1"), now).is_ok());
        assert!(counts.charge(address("192.0.2.1"), now).is_err());
        assert!(counts.charge(address("192.0.2.2"), now).is_ok());
    }

    // THREATS D6: addresses without end.
    #[test]
    fn the_table_is_bounded() {
        let counts = FailureCounts::new(1);
        let now = Timestamp::UNIX_EPOCH;
        for number in 0..u32::try_from(3 * ADDRESSES_MAX).expect("fits") {
            let _ = counts.charge(IpAddr::V4(number.into()), now);
            assert!(counts.locked().len() <= ADDRESSES_MAX);
        }
    }
}
