//! `Link: <...>; rel="next"` (RFC 8288), by which registries divide lists into pages.

use http::{HeaderMap, Uri, header, uri::PathAndQuery};

use super::origin::Origin;

/// What an answer says about a next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// There is none.
    None,
    /// At this path and query of the same registry.
    Page(PathAndQuery),
    /// There is one, but it lies elsewhere, or its address cannot be read. It is not asked
    /// for, and the list is known to be incomplete.
    Elsewhere,
}

/// The page after this one. It has to be on the same host under the same `path`; only its
/// query is the registry's to choose. Scheme and port are not looked at, since registries
/// behind a TLS front name their inner ones, and the page is asked of the configured
/// upstream in any case.
pub(super) fn next(headers: &HeaderMap, registry: &Origin, path: &str) -> Next {
    let mut found = Next::None;
    for value in headers.get_all(header::LINK) {
        let Ok(value) = value.to_str() else {
            return Next::Elsewhere;
        };
        if let Some(target) = next_target(value) {
            found = same_list(target, registry, path).map_or(Next::Elsewhere, Next::Page);
        }
    }
    found
}

/// The target of the first link whose relation is `next`.
fn next_target(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        let (parameters, following) = after.split_at(end);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            parameter
                .trim()
                .split_once('=')
                .is_some_and(|(key, value)| {
                    key.trim().eq_ignore_ascii_case("rel")
                        && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
                })
        });
        if is_next {
            return Some(target);
        }
        rest = following;
    }
    None
}

fn same_list(target: &str, registry: &Origin, path: &str) -> Option<PathAndQuery> {
    let target: Uri = target.parse().ok()?;
    if target.authority().is_some() && Origin::of(&target).ok()?.host() != registry.host() {
        return None;
    }
    let page = target.into_parts().path_and_query?;
    (page.path() == path).then_some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_on_within_the_list() {
        let registry = Origin::of(&"https://r.test".parse().expect("a URL")).expect("an origin");
        let path = "/v2/a/referrers/sha256:x";
        let page = |text: &str| Next::Page(text.parse().expect("a path"));
        for (value, expected) in [
            (
                r#"</v2/a/referrers/sha256:x?last=1>; rel="next""#,
                page("/v2/a/referrers/sha256:x?last=1"),
            ),
            (
                "<http://r.test:5000/v2/a/referrers/sha256:x?p=2>;rel=next",
                page("/v2/a/referrers/sha256:x?p=2"),
            ),
            (
                r#"<x>; rel="prev", </v2/a/referrers/sha256:x?q>; rel="next""#,
                page("/v2/a/referrers/sha256:x?q"),
            ),
            ("</v2/b/referrers/sha256:x>; rel=next", Next::Elsewhere),
            ("</v2/a/referrers/sha256:x/../y>; rel=next", Next::Elsewhere),
            (
                "<https://evil.test/v2/a/referrers/sha256:x>; rel=next",
                Next::Elsewhere,
            ),
            (
                "<https://u@r.test/v2/a/referrers/sha256:x>; rel=next",
                Next::Elsewhere,
            ),
            ("<?last=1>; rel=next", Next::Elsewhere),
            ("</v2/a/referrers/sha256:x>; rel=prev", Next::None),
            ("nonsense", Next::None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, value.parse().expect("a header value"));
            assert_eq!(next(&headers, &registry, path), expected, "{value}");
        }
    }
}
