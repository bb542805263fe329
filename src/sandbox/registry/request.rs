//! A request: what it asks for, and what is remembered of it.

use http::{HeaderMap, Method, header, request};

use crate::oci::{Digest, ErrorCode, Reference, Repository};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: Option<String>,
    /// The headers; their names are in lower case.
    pub headers: HeaderMap,
    /// Which of the registry's endpoints it is for.
    pub endpoint: Endpoint,
    pub(super) route: Route,
}

/// The endpoints of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/`
    Base,
    /// `/token`, which is the registry's own realm.
    Token,
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifests,
    /// `/v2/<name>/blobs/<digest>`
    Blobs,
    /// `/v2/<name>/tags/list`
    Tags,
    /// `/v2/<name>/referrers/<digest>`
    Referrers,
    /// Anything else.
    Unknown,
}

/// What a path means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Route {
    Base,
    Token,
    Manifest(Repository, Reference),
    Blob(Repository, Digest),
    Tags(Repository),
    Referrers(Repository, Digest),
    /// An endpoint with a name or digest that cannot be.
    Invalid(Endpoint, ErrorCode),
    Unknown,
}

impl Recorded {
    pub(super) fn new(request: &request::Parts) -> Self {
        let route = Route::parse(request.uri.path());
        Self {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().map(str::to_owned),
            headers: request.headers.clone(),
            endpoint: route.endpoint(),
            route,
        }
    }

    /// A header's value, where it is there and text. Of several with one name, the first.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// True when the request carries credentials of any kind.
    #[must_use]
    pub fn has_authorization(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION)
    }

    /// The decoded value of a parameter of the query. Of several with one name, the first.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.raw_parameters(name).next().map(decode)
    }

    /// The values of a parameter, still encoded.
    pub(super) fn raw_parameters(&self, name: &str) -> impl Iterator<Item = &str> {
        let query = self.query.as_deref().unwrap_or_default();
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

impl Route {
    fn parse(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v2/") else {
            return match path {
                "/v2" => Self::Base,
                "/token" => Self::Token,
                _ => Self::Unknown,
            };
        };
        if rest.is_empty() {
            return Self::Base;
        }
        // <name>/<kind>/<last>: a name may have slashes, and segments like `blobs`.
        let mut parts = rest.rsplitn(3, '/');
        let (Some(last), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            return Self::Unknown;
        };
        let endpoint = match (kind, last) {
            ("manifests", _) => Endpoint::Manifests,
            ("blobs", _) => Endpoint::Blobs,
            ("referrers", _) => Endpoint::Referrers,
            ("tags", "list") => Endpoint::Tags,
            _ => return Self::Unknown,
        };
        Self::of_repository(endpoint, name, last)
            .unwrap_or_else(|code| Self::Invalid(endpoint, code))
    }

    fn of_repository(endpoint: Endpoint, name: &str, last: &str) -> Result<Self, ErrorCode> {
        let name = name.parse().map_err(|_| ErrorCode::NameInvalid)?;
        let digest = || last.parse().map_err(|_| ErrorCode::DigestInvalid);
        Ok(match endpoint {
            Endpoint::Manifests => match last.parse() {
                Ok(reference) => Self::Manifest(name, reference),
                Err(_) => return Err(ErrorCode::ManifestInvalid),
            },
            Endpoint::Blobs => Self::Blob(name, digest()?),
            Endpoint::Referrers => Self::Referrers(name, digest()?),
            Endpoint::Tags => Self::Tags(name),
            Endpoint::Base | Endpoint::Token | Endpoint::Unknown => Self::Unknown,
        })
    }

    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Base => Endpoint::Base,
            Self::Token => Endpoint::Token,
            Self::Manifest(..) => Endpoint::Manifests,
            Self::Blob(..) => Endpoint::Blobs,
            Self::Tags(_) => Endpoint::Tags,
            Self::Referrers(..) => Endpoint::Referrers,
            Self::Invalid(endpoint, _) => *endpoint,
            Self::Unknown => Endpoint::Unknown,
        }
    }

    /// The repository that is read, which is what a scope names.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
            Self::Base | Self::Token | Self::Invalid(..) | Self::Unknown => None,
        }
    }
}

/// Decodes a value of a query: `%2F` is a slash, `+` a space. What is no escape stays.
pub(super) fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match (first, escaped) {
            (_, Some((high, low))) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
                continue;
            }
            (b'+', None) => bytes.push(b' '),
            (byte, None) => bytes.push(*byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16)?.try_into().ok()
}
