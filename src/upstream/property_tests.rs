//! What registries say of lists and tokens, as any bytes.

use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::challenge::Challenge;
use super::link::{self, Next};
use super::origin::Origin;
use super::realm::realm_of;

const LIST: &str = "/v2/a/tags/list";

fn registry() -> Origin {
    Origin::of(&"https://r.test".parse().expect("a URL")).expect("an origin")
}

/// Text that is like a header's, more often than chance would have it.
fn like(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => prop::sample::select(words).prop_map(str::to_owned),
        1 => "[ -~]{0,8}",
    ];
    prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn a_next_page_is_of_the_same_list(
        text in like(&["<", ">", ";", ",", "\"", "rel=", "next", "/v2/a/tags/list", "?n=1", "..",
            "https://r.test", "//evil.test", "%2f", "@", "#", " "]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for value in [HeaderValue::from_str(&text).ok(), HeaderValue::from_bytes(&bytes).ok()] {
            let Some(value) = value else { continue };
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, value);
            if let Next::Page(page) = link::next(&headers, &registry(), LIST) {
                prop_assert_eq!(page.path(), LIST);
            }
        }
    }

    #[test]
    fn a_page_that_is_linked_is_found(query in "[a-z0-9=&%]{1,20}") {
        let mut headers = HeaderMap::new();
        let link = format!("<{LIST}?{query}>; rel=\"next\"");
        headers.insert(header::LINK, link.parse().expect("a header value"));
        let expected = format!("{LIST}?{query}").parse().expect("a path");
        prop_assert_eq!(link::next(&headers, &registry(), LIST), Next::Page(expected));
    }

    #[test]
    fn any_challenge_is_read_or_not(
        text in like(&["Bearer", "Basic", " ", "=", ",", "\"", "\\", "realm", "service", "scope",
            "https://r.test/token"]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for value in [HeaderValue::from_str(&text).ok(), HeaderValue::from_bytes(&bytes).ok()] {
            let Some(value) = value else { continue };
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, value);
            let _ = Challenge::of(&headers);
        }
    }

    #[test]
    fn a_challenge_is_read_as_it_was_written(realm in "[a-z:/.0-9]{1,30}", service in "[a-z.]{1,9}") {
        let mut headers = HeaderMap::new();
        let text = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        headers.insert(header::WWW_AUTHENTICATE, text.parse().expect("a header value"));
        let expected = Challenge::Bearer { realm, service: Some(service) };
        prop_assert_eq!(Challenge::of(&headers), Some(expected));
    }

    // THREATS A1, A2: whatever it is called, it is asked with https only, and under the
    // registry's own domain.
    #[test]
    fn a_realm_is_one_of_the_registry(
        text in like(&["https://", "http://", "r.test", "evil", ".", "@", ":", "443", "/", "\\",
            "%", "127.0.0.1", "[::1]", "#", "?"]),
    ) {
        if let Ok(uri) = realm_of(&text, &registry()) {
            prop_assert_eq!(uri.scheme_str(), Some("https"), "{}", text);
            let host = uri.host().unwrap_or_default().to_ascii_lowercase();
            prop_assert!(host == "r.test" || host.ends_with(".r.test"), "{}", text);
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            prop_assert!(!authority.contains('@'), "{}", text);
        }
    }
}
