//! From method, path, query and Host to a [`Route`] (OCI distribution-spec, "Endpoints").
//!
//! Whatever does not parse ends here, before anything else runs. Nothing that a client sends
//! becomes a network address: names choose among configured upstreams.

use std::{collections::HashMap, sync::Arc};

use foldhash::quality::RandomState;
use http::{HeaderMap, Method, Uri, header};
use memchr::{memchr, memrchr};

use crate::gate::Ask;
use crate::oci::Digest;
use crate::oci::ErrorCode;
use crate::oci::ImageName;
use crate::oci::RegistryHost;
use crate::oci::Repository;
use crate::server::familiar::{Familiar, Words};

/// The longest path and query that is looked at, in bytes.
const TARGET_BYTES_MAX: usize = 4096;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`: is this a registry? With the one that is meant, where one is.
    Base(Option<RegistryHost>),
    /// A manifest.
    Manifest(Arc<Ask>),
    /// A blob.
    Blob(ImageName, Digest),
    /// What refers to a digest, perhaps of one artifact type only.
    Referrers(ImageName, Digest, Option<String>),
    /// A page of tags.
    Tags(ImageName, Page),
}

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// How many entries at most.
    pub(super) count: Option<u32>,
    /// The entry before the first.
    pub(super) last: Option<String>,
    /// The `ns` by which the request named its upstream; the next page needs it as well.
    pub(super) namespace: Option<String>,
}

impl Route {
    /// The image that it is about.
    pub(super) fn image(&self) -> Option<&ImageName> {
        match self {
            Self::Base(_) => None,
            Self::Manifest(ask) => Some(&ask.image),
            Self::Blob(image, _) | Self::Referrers(image, ..) | Self::Tags(image, _) => Some(image),
        }
    }

    /// The registry that it is about.
    pub(super) fn registry(&self) -> Option<&RegistryHost> {
        match self {
            Self::Base(registry) => registry.as_ref(),
            _ => self.image().map(|image| &image.registry),
        }
    }

    /// The endpoint's name in metrics.
    pub(super) fn endpoint(&self) -> &'static str {
        match self {
            Self::Base(_) => "base",
            Self::Manifest(..) => "manifests",
            Self::Blob(..) => "blobs",
            Self::Referrers(..) => "referrers",
            Self::Tags(..) => "tags",
        }
    }
}

/// Why a request asks for nothing that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No such path.
    Unknown,
    /// The registry it names is not configured.
    UnknownRegistry,
    /// The repository name is not valid.
    InvalidName,
    /// The tag is not valid.
    InvalidReference,
    /// The digest is not valid.
    InvalidDigest,
    /// Pushes and deletes.
    Method,
    /// The path and query are too long.
    TooLong,
}

impl NoRoute {
    /// Status, code and message.
    pub(super) fn words(self) -> (http::StatusCode, ErrorCode, &'static str) {
        use http::StatusCode as Status;
        match self {
            Self::Unknown => (
                Status::NOT_FOUND,
                ErrorCode::NameUnknown,
                "there is no such path",
            ),
            Self::UnknownRegistry => (
                Status::NOT_FOUND,
                ErrorCode::NameUnknown,
                "the registry that this names (by `ns`, Host or the first part of the path) is not \
                 among pullgate's upstreams; add it to `upstreams` in the configuration, or name \
                 one that is there",
            ),
            Self::InvalidName => (
                Status::NOT_FOUND,
                ErrorCode::NameInvalid,
                "the repository name is not valid",
            ),
            Self::InvalidReference => (
                Status::NOT_FOUND,
                ErrorCode::ManifestUnknown,
                "the tag is not valid",
            ),
            Self::InvalidDigest => (
                Status::BAD_REQUEST,
                ErrorCode::DigestInvalid,
                "the digest is not valid",
            ),
            Self::Method => (
                Status::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                "pullgate serves pulls only; push to the registry itself",
            ),
            Self::TooLong => (
                Status::URI_TOO_LONG,
                ErrorCode::NameInvalid,
                "the request's target is too long",
            ),
        }
    }
}

/// How requests name their upstream.
#[derive(Debug)]
pub struct Router {
    /// By name; with whether short names live under `library/` there.
    upstreams: HashMap<String, (RegistryHost, bool), RandomState>,
    default: Option<(RegistryHost, bool)>,
    familiar: Familiar,
}

impl Router {
    /// A router over these upstreams, each with whether short names live under `library/`.
    #[must_use]
    pub fn new(
        upstreams: impl IntoIterator<Item = (RegistryHost, bool)>,
        default: Option<RegistryHost>,
    ) -> Self {
        let by_name =
            |(host, library): (RegistryHost, bool)| (host.as_str().to_owned(), (host, library));
        let upstreams: HashMap<_, _, _> = upstreams.into_iter().map(by_name).collect();
        let default = default.and_then(|default| upstreams.get(default.as_str()).cloned());
        Self {
            upstreams,
            default,
            familiar: Familiar::default(),
        }
    }

    pub(super) fn route(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Route, NoRoute> {
        // Of reads only: the method is not among the words.
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let words = Words::of(uri, headers).filter(|_| is_read);
        if let Some(ask) = words.and_then(|words| self.familiar.find(words)) {
            return Ok(Route::Manifest(ask));
        }
        let routed = self.parse(is_read, uri, headers)?;
        if let (Some(words), Route::Manifest(ask)) = (words, &routed) {
            self.familiar.keep(words, ask);
        }
        Ok(routed)
    }

    fn parse(&self, is_read: bool, uri: &Uri, headers: &HeaderMap) -> Result<Route, NoRoute> {
        let path = uri.path();
        if path.len() + uri.query().map_or(0, str::len) > TARGET_BYTES_MAX {
            return Err(NoRoute::TooLong);
        }
        if matches!(path, "/v2" | "/v2/") {
            return if is_read {
                let query = Query::read(uri.query().unwrap_or_default());
                let meant = self.meant(&query, uri, headers)?;
                let meant = meant.or(self.default.as_ref());
                Ok(Route::Base(meant.map(|(host, _)| host.clone())))
            } else {
                Err(NoRoute::Method)
            };
        }
        let rest = path.strip_prefix("/v2/").ok_or(NoRoute::Unknown)?;
        let (name, endpoint) = split(rest).ok_or(NoRoute::Unknown)?;
        if !is_read || matches!(endpoint, Endpoint::Uploads) {
            return Err(NoRoute::Method);
        }
        let query = Query::read(uri.query().unwrap_or_default());
        let image = self.image(name, &query, uri, headers)?;
        match endpoint {
            Endpoint::Manifest(reference) => {
                let reference = reference.parse().map_err(|_| {
                    if reference.contains(':') {
                        NoRoute::InvalidDigest
                    } else {
                        NoRoute::InvalidReference
                    }
                })?;
                Ok(Route::Manifest(Arc::new(Ask { image, reference })))
            }
            Endpoint::Blob(digest) => Ok(Route::Blob(image, digest_of(digest)?)),
            Endpoint::Referrers(digest) => Ok(Route::Referrers(
                image,
                digest_of(digest)?,
                query.artifact_type,
            )),
            Endpoint::Tags => {
                let page = Page {
                    namespace: query.namespace,
                    ..query.page
                };
                Ok(Route::Tags(image, page))
            }
            Endpoint::Uploads => Err(NoRoute::Method),
        }
    }

    /// The image that a name means in a request of this kind, beside a path.
    pub(super) fn named(&self, name: &str, uri: &Uri, headers: &HeaderMap) -> Option<ImageName> {
        let query = Query::read(uri.query().unwrap_or_default());
        self.image(name, &query, uri, headers).ok()
    }

    /// Which image is meant. The first that fits names the upstream: `ns`, the Host header,
    /// the first segment of the path, the default.
    fn image(
        &self,
        name: &str,
        query: &Query,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<ImageName, NoRoute> {
        if let Some(upstream) = self.meant(query, uri, headers)? {
            return named(upstream, name);
        }
        if let Some(slash) = memchr(b'/', name.as_bytes())
            && let Some(upstream) = self.upstreams.get(&name[..slash])
        {
            return named(upstream, &name[slash + 1..]);
        }
        let upstream = self.default.as_ref();
        named(upstream.ok_or(NoRoute::UnknownRegistry)?, name)
    }

    /// The upstream that is named beside the path: by `ns`, else by the Host header.
    fn meant(
        &self,
        query: &Query,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<&(RegistryHost, bool)>, NoRoute> {
        if let Some(namespace) = &query.namespace {
            let upstream = self.upstreams.get(namespace);
            return upstream.ok_or(NoRoute::UnknownRegistry).map(Some);
        }
        let host = match uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok()),
        };
        Ok(host.and_then(|host| self.upstreams.get(host)))
    }
}

fn named((host, library): &(RegistryHost, bool), name: &str) -> Result<ImageName, NoRoute> {
    let repository = if *library && !name.contains('/') {
        format!("library/{name}").parse::<Repository>()
    } else {
        name.parse()
    };
    let repository = repository.map_err(|_| NoRoute::InvalidName)?;
    Ok(ImageName {
        registry: host.clone(),
        repository,
    })
}

fn digest_of(text: &str) -> Result<Digest, NoRoute> {
    text.parse().map_err(|_| NoRoute::InvalidDigest)
}

enum Endpoint<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Referrers(&'a str),
    Tags,
    Uploads,
}

/// The name in a path as it was sent, for the scope of a challenge; none where it has anything
/// that a name has not.
pub(super) fn scope_of(path: &str) -> Option<&str> {
    let (name, _) = split(path.strip_prefix("/v2/")?)?;
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:".contains(&byte);
    (!name.is_empty() && name.len() <= 512 && name.bytes().all(fits)).then_some(name)
}

/// Divides `<name>/<endpoint>/<reference>` from the right: a name may have `manifests` in it.
fn split(path: &str) -> Option<(&str, Endpoint<'_>)> {
    let (front, last) = cut(path)?;
    let (name, middle) = cut(front)?;
    let endpoint = match middle {
        "manifests" => Endpoint::Manifest(last),
        "blobs" if last == "uploads" => Endpoint::Uploads,
        "blobs" => Endpoint::Blob(last),
        "referrers" => Endpoint::Referrers(last),
        "tags" if last == "list" => Endpoint::Tags,
        _ => {
            let (name, _) = path.split_once("/blobs/uploads/")?;
            return Some((name, Endpoint::Uploads));
        }
    };
    Some((name, endpoint))
}

/// Before the last slash, and behind it. `rsplit_once` is made for any pattern, and a hot pull
/// would feel it.
fn cut(path: &str) -> Option<(&str, &str)> {
    let slash = memrchr(b'/', path.as_bytes())?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// The members of a query that mean something here. Of repeated ones the first counts.
#[derive(Default)]
struct Query {
    namespace: Option<String>,
    artifact_type: Option<String>,
    page: Page,
}

impl Query {
    fn read(query: &str) -> Self {
        let mut read = Self::default();
        if query.is_empty() {
            return read;
        }
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "ns" => _ = read.namespace.get_or_insert_with(|| value.into_owned()),
                "artifactType" => {
                    _ = read.artifact_type.get_or_insert_with(|| value.into_owned());
                }
                "n" => read.page.count = read.page.count.or(value.parse().ok()),
                "last" => _ = read.page.last.get_or_insert_with(|| value.into_owned()),
                _ => {}
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let host = |text: &str| text.parse::<RegistryHost>().expect("a host");
        let upstreams = [
            (host("docker.io"), true),
            (host("127.0.0.1:5000"), false),
            (host("r.test"), false),
        ];
        Router::new(upstreams, Some(host("r.test")))
    }

    fn route(target: &str) -> Result<Route, NoRoute> {
        let uri = target.parse::<Uri>().map_err(|_| NoRoute::Unknown)?;
        router().route(&Method::GET, &uri, &HeaderMap::new())
    }

    fn image_of(target: &str) -> String {
        match route(target) {
            Ok(Route::Manifest(ask)) => ask.image.with(&ask.reference),
            other => format!("{other:?}"),
        }
    }

    // A name that was parsed before is not parsed again where all that it depends on is the same.
    #[test]
    fn what_is_familiar_is_so_by_target_and_host() {
        let router = router();
        let routed = |method: &Method, target: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a value"));
            let uri = target.parse().expect("a target");
            router.route(method, &uri, &headers)
        };
        for _ in 0..40 {
            for (target, host, image) in [
                ("/v2/a/manifests/v1", "gate", "r.test/a:v1"),
                ("/v2/a/manifests/v1", "r.test", "r.test/a:v1"),
                ("/v2/a/manifests/v1", "docker.io", "docker.io/library/a:v1"),
                ("/v2/a/manifests/v2", "docker.io", "docker.io/library/a:v2"),
                (
                    "/v2/a/manifests/v1",
                    "127.0.0.1:5000",
                    "127.0.0.1:5000/a:v1",
                ),
                ("/v2/a/manifests/v1?ns=r.test", "docker.io", "r.test/a:v1"),
                (
                    "http://docker.io/v2/a/manifests/v1",
                    "r.test",
                    "docker.io/library/a:v1",
                ),
            ] {
                let found = routed(&Method::GET, target, host);
                let Ok(Route::Manifest(ask)) = found else {
                    panic!("{target}: {found:?}");
                };
                assert_eq!(ask.image.with(&ask.reference), image, "{target} at {host}");
                let pushed = routed(&Method::PUT, target, host);
                assert_eq!(pushed, Err(NoRoute::Method), "{target} at {host}");
            }
        }
    }

    #[test]
    fn the_first_that_fits_names_the_upstream() {
        assert_eq!(image_of("/v2/a/b/manifests/v1"), "r.test/a/b:v1");
        assert_eq!(
            image_of("/v2/busybox/manifests/v1?ns=docker.io"),
            "docker.io/library/busybox:v1"
        );
        assert_eq!(
            image_of("/v2/a/b/manifests/v1?ns=127.0.0.1%3A5000"),
            "127.0.0.1:5000/a/b:v1"
        );
        assert_eq!(
            image_of("/v2/127.0.0.1:5000/a/manifests/v1"),
            "127.0.0.1:5000/a:v1"
        );
        assert_eq!(
            image_of("/v2/docker.io/busybox/manifests/v1"),
            "docker.io/library/busybox:v1"
        );
        assert_eq!(
            image_of("/v2/a/blobs/uploads-x/manifests/v1"),
            "r.test/a/blobs/uploads-x:v1"
        );
        assert_eq!(
            image_of("/v2/a/blobs/uploads/manifests/v1"),
            "r.test/a/blobs/uploads:v1"
        );
        assert_eq!(
            image_of("/v2/a/manifests/manifests/v1"),
            "r.test/a/manifests:v1"
        );
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, http::HeaderValue::from_static("docker.io"));
        let uri = Uri::from_static("/v2/a/manifests/v1");
        let routed = router().route(&Method::GET, &uri, &headers);
        assert!(
            matches!(routed, Ok(Route::Manifest(ask)) if ask.image.to_string() == "docker.io/library/a")
        );
    }

    // THREATS A3, A6, A7: nothing that a client sends becomes an address or a path.
    #[test]
    fn what_does_not_parse_ends_here() {
        for target in [
            "/v2/a/manifests/v1?ns=169.254.169.254",
            "/v2/a/manifests/v1?ns=user@docker.io",
            "/v2/a/manifests/v1?ns=docker.io%0d%0aX:1",
            "/v2/a/manifests/v1?ns=http://docker.io",
            "/v2/a/manifests/v1?ns=DOCKER.IO",
            "/v2/a/manifests/v1?ns=",
        ] {
            assert_eq!(route(target), Err(NoRoute::UnknownRegistry), "{target}");
        }
        for target in [
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/blobs/sha256:abc",
            "/v2/A/manifests/v1",
            "/v2/a%2fb/manifests/v1",
            "/v2/a/%2e%2e/manifests/v1",
            "/v2/../manifests/v1",
            "/v2//manifests/v1",
            "/v2/a/manifests/",
            "/v2/a/manifests/v1/",
            "/v2/a/manifests/v%31",
            "/v1/a/manifests/v1",
            "/v2/a",
            "/",
            "/metrics",
            "/v2/a/tags/other",
        ] {
            assert!(route(target).is_err(), "{target}");
        }
        let long = format!("/v2/a/manifests/{}", "v".repeat(5000));
        assert_eq!(route(&long), Err(NoRoute::TooLong));
    }

    #[test]
    fn pushes_and_deletes_are_not_served() {
        for (method, target) in [
            (Method::PUT, "/v2/a/manifests/v1"),
            (Method::DELETE, "/v2/a/manifests/v1"),
            (Method::POST, "/v2/a/blobs/uploads/"),
            (Method::PATCH, "/v2/a/blobs/uploads/some-id"),
            (Method::GET, "/v2/a/blobs/uploads/some-id"),
            (Method::POST, "/v2/"),
            (Method::OPTIONS, "/v2/a/tags/list"),
        ] {
            let uri = target.parse().expect("a target");
            let routed = router().route(&method, &uri, &HeaderMap::new());
            assert_eq!(routed, Err(NoRoute::Method), "{method} {target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_targets_never_panic(path in "/v2/[ -~]{0,80}") {
            let _ = route(&path);
        }
    }
}
