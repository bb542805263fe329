//! The Range header (RFC 9110, section 14.2).

use http::{HeaderMap, header};

use crate::content::ByteRange;

/// The one range that a request asks for. What is not understood (several ranges, other units,
/// nonsense) is as if it were not there, and so is any range under an `If-Range` that is not
/// this content's tag.
pub(super) fn requested(headers: &HeaderMap, etag: &str) -> Option<ByteRange> {
    if let Some(condition) = headers.get(header::IF_RANGE)
        && condition.as_bytes() != etag.as_bytes()
    {
        return None;
    }
    let range = headers
        .get(header::RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?;
    let (first, last) = range.trim().split_once('-')?;
    // `+1` parses as a number and is none here; a comma never parses.
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())?
    };
    match (first, last) {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        // One that ends before it begins lies in no blob: 416 tells the client so, where all of
        // the blob would only surprise it.
        (first, last) => Some(ByteRange::FromTo(number(first)?, number(last)?)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn range(text: &'static str) -> Option<ByteRange> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(text));
        requested(&headers, "\"x\"")
    }

    #[test]
    fn single_ranges_are_understood_and_the_rest_is_not_there() {
        assert_eq!(range("bytes=0-9"), Some(ByteRange::FromTo(0, 9)));
        assert_eq!(range("bytes=5-"), Some(ByteRange::From(5)));
        assert_eq!(range("bytes=-5"), Some(ByteRange::Last(5)));
        assert_eq!(range("bytes=9-0"), Some(ByteRange::FromTo(9, 0)));
        for text in [
            "bytes=-",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
