//! Sizes, durations and dates, as people write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Nothing here is meant to last longer; and sums with the time stay in range.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Why a text is no size, duration or date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnitError {
    /// Anything but digits and a unit; or a decimal unit, or a fraction.
    #[error("not a size")]
    NotASize,
    /// More than 64 bits of bytes.
    #[error("too large")]
    TooLarge,
    /// Anything but digits and units; most likely the unit is missing.
    #[error("not a duration")]
    NotADuration,
    /// Units that repeat or do not descend: `30s1h`.
    #[error("not a duration: the units must descend, each once")]
    UnitsOutOfOrder,
    /// More than ten years.
    #[error("too long; ten years (3650d) is the most")]
    TooLong,
    /// Neither a date nor a time.
    #[error("not a date")]
    NotADate,
    /// A time whose place on earth is not said.
    #[error("a time without its zone")]
    NoZone,
}

/// What to write for a size.
pub(super) const SIZE_MEND: &str =
    "write whole bytes, or a number with KiB, MiB, GiB or TiB: 512MiB";

/// What to write for a duration.
pub(super) const DURATION_MEND: &str =
    "write numbers with their units ms, s, m, h or d: 250ms, 30s, 1h30m, 90d";

/// What to write for a date.
pub(super) const DATE_MEND: &str =
    "write a date (2026-12-31: through the end of that day, UTC) or a time (2026-12-31T18:00:00Z)";

/// A size in bytes: `1000`, `512MiB`, `20GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text).ok_or(UnitError::NotASize)?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(UnitError::NotASize),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or(UnitError::TooLarge)
}

/// A duration: `250ms`, `30s`, `1h30m`, `90d`.
pub(super) fn duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = u64::MAX;
    while !rest.is_empty() || last == u64::MAX {
        let (number, tail) = split(rest).ok_or(UnitError::NotADuration)?;
        let end = tail
            .find(|character: char| character.is_ascii_digit())
            .unwrap_or(tail.len());
        let milliseconds: u64 = match &tail[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(UnitError::NotADuration),
        };
        if milliseconds >= last {
            return Err(UnitError::UnitsOutOfOrder);
        }
        last = milliseconds;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(milliseconds))
            .and_then(|part| total.checked_add(Duration::from_millis(part)))
            .filter(|total| *total <= DURATION_MAX)
            .ok_or(UnitError::TooLong)?;
        rest = &tail[end..];
    }
    Ok(total)
}

/// The leading digits, of which there is at least one, and what follows.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// What to write for the date at which something begins.
pub(super) const START_MEND: &str = "write a date (2026-12-31: from the beginning of that day, UTC) or a time \
     (2026-12-31T18:00:00Z)";

/// The moment at which what holds from `text` on begins: a date at its midnight (UTC), a time
/// just then.
pub(super) fn start(text: &str) -> Result<Timestamp, UnitError> {
    if text.len() == "2026-12-31".len()
        && let Ok(date) = text.parse::<Date>()
    {
        let midnight = date.to_zoned(TimeZone::UTC);
        return midnight
            .map(|midnight| midnight.timestamp())
            .map_err(|_| UnitError::NotADate);
    }
    end(text)
}

/// The moment at which what holds until `text` ends. A date holds through the whole of its
/// day, so it ends at the midnight (UTC) after it; a time ends just then.
pub(super) fn end(text: &str) -> Result<Timestamp, UnitError> {
    let is_date = text.len() == "2026-12-31".len()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_date {
        let date: Date = text.parse().map_err(|_| UnitError::NotADate)?;
        let after = date.tomorrow().map_err(|_| UnitError::NotADate)?;
        let midnight = after
            .to_zoned(TimeZone::UTC)
            .map_err(|_| UnitError::NotADate)?;
        return Ok(midnight.timestamp());
    }
    text.parse::<Timestamp>()
        .map_err(|_| match text.parse::<jiff::civil::DateTime>() {
            Ok(_) if text.contains(':') => UnitError::NoZone,
            _ => UnitError::NotADate,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("20GiB"), Ok(20 << 30));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("64KiB"), Ok(64 << 10));
        assert_eq!(bytes("2 TiB"), Ok(2 << 40));
        assert_eq!(bytes("0"), Ok(0));
        for text in [
            "", "GiB", "1.5GiB", "20GB", "20G", "20gib", "-1", "+1", "1e3", "١",
        ] {
            assert_eq!(bytes(text), Err(UnitError::NotASize), "{text}");
        }
        assert_eq!(bytes("99999999999999999999"), Err(UnitError::TooLarge));
        assert_eq!(bytes("99999999TiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn durations() {
        let seconds = Duration::from_secs;
        assert_eq!(duration("1h"), Ok(seconds(3600)));
        assert_eq!(duration("30s"), Ok(seconds(30)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("90d"), Ok(seconds(90 * 86_400)));
        assert_eq!(duration("1h30m"), Ok(seconds(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(
            duration("1d2h3m4s5ms"),
            Ok(Duration::from_millis(93_784_005))
        );
        for text in [
            "", "30", "s", "1.5h", "1h 30m", "-1s", "1w", "1H", "1hour", "1h30",
        ] {
            assert_eq!(duration(text), Err(UnitError::NotADuration), "{text}");
        }
        for text in ["30s1h", "1h1h"] {
            assert_eq!(duration(text), Err(UnitError::UnitsOutOfOrder), "{text}");
        }
        for text in ["4000d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration(text), Err(UnitError::TooLong), "{text}");
        }
    }

    #[test]
    fn a_date_begins_at_its_midnight() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(start("2026-12-31"), Ok(time("2026-12-31T00:00:00Z")));
        assert_eq!(
            start("2026-12-31T18:00:00Z"),
            Ok(time("2026-12-31T18:00:00Z"))
        );
        assert_eq!(start("2026-02-30"), Err(UnitError::NotADate));
        assert_eq!(start("2026-12-31T18:00:00"), Err(UnitError::NoZone));
    }

    #[test]
    fn a_date_holds_through_its_day() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(end("2026-12-31"), Ok(time("2027-01-01T00:00:00Z")));
        assert_eq!(end("2024-02-28"), Ok(time("2024-02-29T00:00:00Z")));
        assert_eq!(
            end("2026-12-31T18:00:00Z"),
            Ok(time("2026-12-31T18:00:00Z"))
        );
        assert_eq!(
            end("2026-12-31T18:00:00+02:00"),
            Ok(time("2026-12-31T16:00:00Z"))
        );
        assert_eq!(end("2026-12-31T18:00:00"), Err(UnitError::NoZone));
        for text in [
            "",
            "tomorrow",
            "2026-02-30",
            "31.12.2026",
            "2026-1-1",
            "9999-12-31",
            "20261231",
        ] {
            assert_eq!(end(text), Err(UnitError::NotADate), "{text}");
        }
    }
}
