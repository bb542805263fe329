//! `Retry-After` (RFC 9110, 10.2.3).

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::{Timestamp, civil::DateTime, fmt::rfc2822::DateTimeParser, tz::Offset};

/// A registry that asks for more than this is not taken at its word.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the answer asks to wait: a number of seconds, or until a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            // A date that has passed asks for no wait.
            Duration::try_from(date(value)?.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// A date in one of the three forms that HTTP has known (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = DateTimeParser::new().parse_timestamp(text) {
        return Some(date);
    }
    // RFC 850's form, and that of C's asctime().
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let mut forms = obsolete.into_iter();
    let date = forms.find_map(|form| DateTime::strptime(form, text).ok())?;
    Offset::UTC.to_timestamp(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        for (value, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sun, 22 Nov 2026 12:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 11:00:00 GMT", Some(0)),
            ("Sunday, 22-Nov-26 12:00:30 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(0)),
            ("Sun Nov 22 12:00:30 2026", Some(30)),
            ("Sun Nov  1 12:00:30 2026", Some(0)),
            ("Sunday, 22-Nov-26 12:00:30 CET", None),
            ("Sun Nov 22 12:00:30", None),
            ("99999999999999999999", None),
            ("99999999", Some(24 * 60 * 60)),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().expect("a header value"));
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{value}");
        }
    }
}
