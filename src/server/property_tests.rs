//! What clients ask for, as any text.

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use proptest::prelude::*;

use super::callers::{access, namespace, reached_by};
use super::range::requested;
use super::route::Router;
use crate::content::ByteRange;

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn router() -> Router {
    let host = |name: &str| name.parse().expect("a host");
    let upstreams = [(host("docker.io"), true), (host("r.test:5000"), false)];
    Router::new(upstreams, Some(host("docker.io")))
}

/// A target that is like a registry's, more often than chance would have it.
fn target() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => prop::sample::select(vec![
            "/", "a", "blobs", "manifests", "tags/list", "referrers", "uploads/", "..", "%2e%2e",
            "%2F", "%00", DIGEST, "sha256:", "sha512:", "v1", "?ns=", "docker.io", "&", "r.test:5000",
            "r.test%3A5000", "@", ":", "//", "A", "_catalog",
        ]).prop_map(str::to_owned),
        1 => "[!-~]{0,6}",
    ];
    prop::collection::vec(word, 0..16).prop_map(|words| format!("/v2/{}", words.concat()))
}

proptest! {
    #[test]
    fn any_target_leads_somewhere_or_nowhere(text in target(), host in "[ -~]{0,20}") {
        let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(&host) {
            headers.insert(header::HOST, host);
        }
        let router = router();
        let routed = router.route(&Method::GET, &uri, &headers);
        // Another time it is perhaps not parsed; and nothing but a read is ever routed.
        prop_assert_eq!(&router.route(&Method::HEAD, &uri, &headers), &routed);
        for method in [Method::PUT, Method::DELETE] {
            prop_assert!(router.route(&method, &uri, &headers).is_err());
        }
    }

    #[test]
    fn what_is_named_properly_is_found(
        repository in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}",
        tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
    ) {
        for target in [
            format!("/v2/{repository}/manifests/{tag}"),
            format!("/v2/{repository}/manifests/{DIGEST}"),
            format!("/v2/{repository}/blobs/{DIGEST}"),
            format!("/v2/{repository}/referrers/{DIGEST}"),
            format!("/v2/{repository}/tags/list"),
        ] {
            let uri: Uri = target.parse().expect("a target");
            let routed = router().route(&Method::GET, &uri, &HeaderMap::new());
            prop_assert!(routed.is_ok(), "{}", target);
        }
    }

    #[test]
    fn any_range_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let Ok(value) = HeaderValue::from_bytes(&[b"bytes=", bytes.as_slice()].concat()) else {
            return Ok(());
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, value);
        let _ = requested(&headers, "\"tag\"");
    }

    #[test]
    fn a_range_is_read_as_it_was_written(first: u64, last: u64) {
        for (text, expected) in [
            (format!("bytes={first}-"), ByteRange::From(first)),
            (format!("bytes=-{last}"), ByteRange::Last(last)),
            (format!("bytes={first}-{last}"), ByteRange::FromTo(first, last)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().expect("a header value"));
            prop_assert_eq!(requested(&headers, "\"tag\""), Some(expected));
        }
    }

    #[test]
    fn any_scope_names_our_repositories_or_none(
        query in "(scope=|ns=|&|repository:|a/b|:pull|,push|%20|%3A|[!-~]|r.test%3A5000|docker.io){0,14}",
        host in "[ -~]{0,20}",
    ) {
        let Ok(uri) = format!("/token?{query}").parse::<Uri>() else { return Ok(()) };
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(&host) {
            headers.insert(header::HOST, host);
        }
        let ours = ["docker.io", "r.test:5000"];
        for image in access(&router(), &uri, &headers) {
            prop_assert!(ours.contains(&image.registry.as_str()), "{}", image);
        }
        let _ = namespace(&uri);
        let _ = reached_by(&uri, &headers, "https");
    }
}
