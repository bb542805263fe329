//! When a signature was made, and whether that is when policy wants it.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::policy::Timing;
use crate::verify::Fact;
use crate::verify::Signer;

/// Why the time of a signature does not do.
#[derive(Debug, PartialEq)]
pub(super) struct Untimely {
    /// What is wrong with it, to be appended to whose it is.
    pub(super) why: String,
    /// What to do about it.
    pub(super) remedy: &'static str,
}

impl Timing {
    /// A period as policy files write it.
    #[must_use]
    pub fn period(period: SignedDuration) -> String {
        Period(period).to_string()
    }

    /// True when it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why a signature of this proven time does not do; `None` when it does. What
    /// has no proven time meets no bound: its signer could say any. And that it was made late
    /// enough says a short-lived certificate alone. A log or a timestamp proves that a signature
    /// was there at a time; one by a key can be had anew for a signature as old as the key.
    pub(super) fn miss_of(&self, fact: &Fact, now: Timestamp) -> Option<Untimely> {
        let bounds_the_past = self.signed_within.is_some() || self.not_before.is_some();
        let lasts = matches!(fact.signer, Signer::Key { .. } | Signer::Certified(_));
        if bounds_the_past && lasts {
            return Some(Untimely {
                why: "but nothing proves when a key signed: anybody can have its signature \
                      timestamped anew (`signed_within` and `not_before` are for keyless signers)"
                    .to_owned(),
                remedy: "have a login sign this digest (keyless), or remove `signed_within` and \
                         `not_before` from the policy",
            });
        }
        self.miss(fact.signed_at, now)
    }

    fn miss(&self, signed_at: Option<Timestamp>, now: Timestamp) -> Option<Untimely> {
        if self.is_empty() {
            return None;
        }
        let Some(signed_at) = signed_at else {
            return Some(Untimely {
                why: "without a proven time of signing".to_owned(),
                remedy: "sign this digest anew with a transparency log or a timestamp, which prove \
                         the time",
            });
        };
        let age = now.duration_since(signed_at);
        if let Some(within) = self.signed_within.filter(|within| age > *within) {
            return Some(Untimely {
                why: format!("but at {signed_at}, more than {} ago", Period(within)),
                remedy: "have the signer sign this digest anew, or lengthen `signed_within` of the \
                         policy",
            });
        }
        if let Some(first) = self.not_before.filter(|first| signed_at < *first) {
            return Some(Untimely {
                why: format!("but at {signed_at}, before {first}"),
                remedy: "have the signer sign this digest anew, or move `not_before` of the policy",
            });
        }
        let cooldown = self.cooldown.filter(|cooldown| age < *cooldown)?;
        Some(Untimely {
            why: format!("but at {signed_at}, less than {} ago", Period(cooldown)),
            remedy: "wait: it is admitted once the cooldown is over; or shorten `cooldown` of the \
                     policy",
        })
    }

    /// The next moment after `now` at which a signature of this time may count otherwise.
    pub(super) fn changes_after(&self, signed_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        // One nanosecond more: `signed_within` holds through its last moment.
        let past = SignedDuration::from_nanos(1);
        let grown = self.signed_within.and_then(|within| {
            let end = signed_at.checked_add(within).ok()?;
            end.checked_add(past).ok()
        });
        let cooled = self
            .cooldown
            .and_then(|cooldown| signed_at.checked_add(cooldown).ok());
        [grown, cooled]
            .into_iter()
            .flatten()
            .filter(|moment| *moment > now)
            .min()
    }
}

/// What is asked for, to be appended to whom it is asked of.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = self.signed_within {
            write!(f, ", made within the last {}", Period(within))?;
        }
        if let Some(first) = self.not_before {
            write!(f, ", made at {first} or later")?;
        }
        if let Some(cooldown) = self.cooldown {
            write!(f, ", made {} ago or earlier", Period(cooldown))?;
        }
        Ok(())
    }
}

/// A duration as policy files write it.
struct Period(SignedDuration);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, milliseconds) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ] {
            let count = left / milliseconds;
            left %= milliseconds;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn bounds_are_kept_to_the_second_and_say_when_they_change() {
        let timing = Timing {
            signed_within: Some(SignedDuration::from_secs(100)),
            not_before: Some(at(1000)),
            cooldown: Some(SignedDuration::from_secs(10)),
        };
        let holds = |signed, now| timing.miss(Some(at(signed)), at(now)).is_none();
        assert!(!holds(1000, 1009));
        assert!(holds(1000, 1010));
        assert!(holds(1000, 1100));
        assert!(!holds(1000, 1101));
        assert!(!holds(999, 1050));
        // A signature from the future has not cooled.
        assert!(!holds(1020, 1010));
        assert!(timing.miss(None, at(1050)).is_some());
        assert_eq!(Timing::default().miss(None, at(0)), None);
        assert_eq!(timing.changes_after(at(1000), at(1000)), Some(at(1010)));
        let grown = timing.changes_after(at(1000), at(1010)).expect("a moment");
        assert!(grown > at(1100) && grown < at(1101));
        assert_eq!(timing.changes_after(at(1000), at(2000)), None);
    }

    #[test]
    fn durations_are_written_as_in_policy_files() {
        let written = |seconds| Period(SignedDuration::from_secs(seconds)).to_string();
        assert_eq!(written(90 * 86_400), "90d");
        assert_eq!(written(5400), "1h30m");
        assert_eq!(written(0), "0s");
    }
}
