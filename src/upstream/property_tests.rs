//! What registries say of lists and tokens, as any bytes.

use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::challenge::Challenge;
use super::document::take_descriptors;
use super::link::{self, Next};
use super::login::Login;
use super::origin::Origin;
use super::realm::realm_of;
use super::redirect::{self, Hop, Redirects};
use super::retry_after::retry_after;
use super::token::Grant;

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

    // THREATS A3: whatever it is called, it is the registry or nothing that a name could hide.
    #[test]
    fn a_redirect_is_judged_by_where_it_leads(
        text in like(&["https://", "http://", "//", "/", "r.test", "storage.test", ".", "@", ":", "443",
            "\\", "%", "127.0.0.1", "[::1]", "0x7f.1", "#", "?", "localhost"]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let from = "https://r.test/v2/".parse().expect("a URL");
        for value in [HeaderValue::from_str(&text).ok(), HeaderValue::from_bytes(&bytes).ok()] {
            let Some(value) = value else { continue };
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, value);
            let public = Some(&Redirects::PublicAddresses);
            let Ok((to, hop)) = redirect::judge(&headers, &from, &registry(), public) else {
                continue;
            };
            prop_assert_eq!(to.scheme_str(), Some("https"), "{}", text);
            let host = to.host().unwrap_or_default();
            prop_assert_eq!(hop == Hop::Registry, host.eq_ignore_ascii_case("r.test")
                && to.port_u16().unwrap_or(443) == 443, "{}", text);
            // A name is looked at where it is resolved.
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            prop_assert!(!address.is_ok_and(|address| address.is_loopback()), "{}", text);
            // Without any, it does not leave the registry.
            let stays = redirect::judge(&headers, &from, &registry(), None).is_ok();
            prop_assert_eq!(stays, hop == Hop::Registry);
        }
    }

    // THREATS D1: never more than are asked for, whatever the page is.
    #[test]
    fn a_page_of_referrers_is_read_to_a_number(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        text in like(&["{", "}", "[", "]", ",", ":", "\"manifests\"", "\"digest\"", "\"size\"", "1",
            "\"mediaType\"", "\"a/b\"", "null", "-1", "1e99"]),
        good in 0usize..6,
        max in 0usize..4,
    ) {
        let entry = r#"{"mediaType":"a/b","size":1,"digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#;
        let entries = vec![entry; good].join(",");
        let page = format!("{{\"manifests\":[{entries}]}}");
        for page in [&bytes[..], text.as_bytes(), page.as_bytes()] {
            let mut descriptors = Vec::new();
            let all = take_descriptors(page, max, &mut descriptors);
            prop_assert!(descriptors.len() <= max);
            if page.starts_with(b"{\"manifests\":[{") {
                prop_assert_eq!((all.ok(), descriptors.len()), (Some(good <= max), good.min(max)));
            }
        }
    }

    #[test]
    fn any_answer_is_a_token_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        token in "\\PC{0,20}",
        lifetime in prop_oneof![any::<u64>().prop_map(|number| number.to_string()), "[0-9e.+-]{1,20}"],
    ) {
        let _ = Grant::from_json(&bytes);
        let token = serde_json::Value::from(token);
        let _ = Grant::from_json(format!("{{\"token\":{token},\"expires_in\":{lifetime}}}").as_bytes());
    }

    #[test]
    fn any_credential_is_passed_on_or_not(
        text in like(&["Basic ", "bearer ", "dTpw", "Og==", "=", " ", ":", "a.b.c"]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for value in [HeaderValue::from_str(&text).ok(), HeaderValue::from_bytes(&bytes).ok()] {
            let Some(value) = value else { continue };
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.clone());
            let _ = Login::of(&headers);
            headers.append(header::AUTHORIZATION, value);
            prop_assert!(Login::of(&headers).is_err(), "which of two counts is anybody's guess");
        }
    }

    #[test]
    fn any_wait_is_bounded(text in "[ -~]{0,32}", seconds: u64) {
        let now = "2026-06-01T12:00:00Z".parse().expect("a time");
        for value in [text, seconds.to_string()] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().expect("a header value"));
            let wait = retry_after(&headers, now);
            prop_assert!(wait.is_none_or(|wait| wait.as_secs() <= 24 * 60 * 60));
        }
    }
}
