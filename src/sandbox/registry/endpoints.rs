//! What an honest registry answers (OCI distribution-spec, "Pull" and "Content discovery").
//!
//! Bodies are whole buffers here and a HEAD has the body of its GET; `serve.rs` leaves it out.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use crate::oci::{Digest, ErrorBody, ErrorCode, Reference, Repository, media_type};

use super::{
    Endpoint, Options, Recorded,
    content::{Content, index_of},
    request::Route,
};

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const BLOB: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// Answers a request whose caller has been let in.
pub(super) fn answer(content: &Content, options: &Options, request: &Recorded) -> Response<Bytes> {
    if request.method != Method::GET && request.method != Method::HEAD {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut response = refuse(status, ErrorCode::Unsupported, "nothing can be pushed here");
        set(&mut response, header::ALLOW, "GET, HEAD");
        return response;
    }
    match &request.route {
        Route::Base => ok(JSON, Bytes::from_static(b"{}")),
        Route::Manifest(name, reference) => manifest(content, name, reference, &request.headers),
        Route::Blob(name, digest) => blob(content, name, digest, &request.headers),
        Route::Tags(name) => tags(content, name, request),
        Route::Referrers(name, subject) if options.referrers_api => {
            referrers(content, name, subject, options.referrers_per_page, request)
        }
        Route::Invalid(_, code) => {
            refuse(StatusCode::BAD_REQUEST, *code, "the path does not parse")
        }
        // Not an error of the specification's: what has no such endpoint does not know its codes.
        Route::Referrers(..) | Route::Token | Route::Unknown => no_such_page(),
    }
}

fn manifest(
    content: &Content,
    name: &Repository,
    reference: &Reference,
    headers: &HeaderMap,
) -> Response<Bytes> {
    let Some(repository) = content.find(name.as_str()) else {
        return missing(Endpoint::Tags);
    };
    let Some((descriptor, bytes)) = repository.manifest(reference) else {
        return missing(Endpoint::Manifests);
    };
    if !accepts(headers, &descriptor.media_type) {
        let message = format!("the manifest is of the type {}", descriptor.media_type);
        let code = ErrorCode::ManifestUnknown;
        return refuse(StatusCode::NOT_FOUND, code, &message);
    }
    let mut response = ok(&descriptor.media_type, bytes.clone());
    let digest = descriptor.digest.to_string();
    set(&mut response, CONTENT_DIGEST, &digest);
    response
}

/// True when a media type may be sent. Parameters, such as `q`, are not weighed.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .map(str::trim)
        .peekable();
    accepted.peek().is_none()
        || accepted.any(|range| range == media_type || range == "*/*" || range == "application/*")
}

fn blob(
    content: &Content,
    name: &Repository,
    digest: &Digest,
    headers: &HeaderMap,
) -> Response<Bytes> {
    let Some(repository) = content.find(name.as_str()) else {
        return missing(Endpoint::Tags);
    };
    let Some(bytes) = repository.blob(digest) else {
        return missing(Endpoint::Blobs);
    };
    let mut response = match range(headers, bytes.len()) {
        Range::Whole => ok(BLOB, bytes.clone()),
        Range::Part(first, last) => {
            let mut response = ok(BLOB, bytes.slice(first..=last));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let part = format!("bytes {first}-{last}/{}", bytes.len());
            set(&mut response, header::CONTENT_RANGE, &part);
            response
        }
        Range::Outside => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let mut response = refuse(status, ErrorCode::RangeInvalid, "outside of the blob");
            let size = format!("bytes */{}", bytes.len());
            set(&mut response, header::CONTENT_RANGE, &size);
            return response;
        }
    };
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, CONTENT_DIGEST, &digest.to_string());
    response
}

/// What a `Range` header asks for.
enum Range {
    /// There is none, or none that has to be honoured (RFC 9110, 14.2).
    Whole,
    /// From the first to the last byte, both included.
    Part(usize, usize),
    /// Nothing that is there.
    Outside,
}

fn range(headers: &HeaderMap, size: usize) -> Range {
    let value = headers.get(header::RANGE).and_then(|it| it.to_str().ok());
    let spec = value.and_then(|value| value.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.split_once('-')) else {
        return Range::Whole;
    };
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first > last => Range::Whole,
        (Ok(first), _) if first >= size => Range::Outside,
        (Ok(first), Ok(last)) => Range::Part(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, size - 1),
        (Err(_), Ok(count)) if first.is_empty() => match count.min(size) {
            0 => Range::Outside,
            count => Range::Part(size - count, size - 1),
        },
        _ => Range::Whole,
    }
}

fn tags(content: &Content, name: &Repository, request: &Recorded) -> Response<Bytes> {
    let Some(repository) = content.find(name.as_str()) else {
        return missing(Endpoint::Tags);
    };
    let limit = request.parameter("n").and_then(|n| n.parse().ok());
    let last = request.parameter("last");
    let after = repository.tags(last.as_deref());
    let (tags, next) = page(after, limit.unwrap_or(usize::MAX));
    let body = json!({"name": name, "tags": tags}).to_string();
    let mut response = ok(JSON, body.into());
    if let Some(last) = next {
        let next = format!("{}?n={}&last={last}", request.path, tags.len());
        link_next(&mut response, &next);
    }
    response
}

fn referrers(
    content: &Content,
    name: &Repository,
    subject: &Digest,
    per_page: usize,
    request: &Recorded,
) -> Response<Bytes> {
    let wanted = request.parameter("artifactType");
    let last = request.parameter("last").and_then(|last| last.parse().ok());
    let all = content
        .find(name.as_str())
        .into_iter()
        .flat_map(|repository| repository.referrers(subject, last))
        .filter(|found| wanted.is_none() || found.artifact_type == wanted);
    let (found, next) = page(all, per_page);
    // What nothing refers to, or is not there at all, has an empty list.
    let mut response = ok(media_type::OCI_INDEX, index_of(&found));
    let mut next_page = request.path.clone() + "?";
    if let Some(filter) = request.raw_parameters("artifactType").next() {
        set(&mut response, FILTERS_APPLIED, "artifactType");
        next_page += &format!("artifactType={filter}&");
    }
    if let Some(last) = next {
        link_next(&mut response, &format!("{next_page}last={}", last.digest));
    }
    response
}

/// The first `limit` items, and the last of them where more follow.
fn page<T: Copy>(mut items: impl Iterator<Item = T>, limit: usize) -> (Vec<T>, Option<T>) {
    let page: Vec<_> = items.by_ref().take(limit).collect();
    let last = page.last().copied().filter(|_| items.next().is_some());
    (page, last)
}

/// A 200 with a body.
pub(super) fn ok(media_type: &str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    set_body(&mut response, body);
    set(&mut response, header::CONTENT_TYPE, media_type);
    response
}

/// An error as the specification words it.
pub(super) fn refuse(status: StatusCode, code: ErrorCode, message: &str) -> Response<Bytes> {
    let body = ErrorBody {
        code,
        message: message.to_owned(),
        detail: serde_json::Value::Null,
    };
    let mut response = ok(JSON, body.to_json().into());
    *response.status_mut() = status;
    response
}

/// The 404 of an endpoint; that of the tag list is about the repository.
pub(super) fn missing(endpoint: Endpoint) -> Response<Bytes> {
    let (code, message) = match endpoint {
        Endpoint::Manifests => (ErrorCode::ManifestUnknown, "manifest unknown"),
        Endpoint::Blobs => (ErrorCode::BlobUnknown, "blob unknown to registry"),
        Endpoint::Tags => (ErrorCode::NameUnknown, "repository name unknown"),
        Endpoint::Base | Endpoint::Token | Endpoint::Referrers | Endpoint::Unknown => {
            return no_such_page();
        }
    };
    refuse(StatusCode::NOT_FOUND, code, message)
}

fn no_such_page() -> Response<Bytes> {
    let body = Bytes::from_static(b"404 page not found\n");
    let mut response = ok("text/plain; charset=utf-8", body);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Says where the next page is.
pub(super) fn link_next(response: &mut Response<Bytes>, target: &str) {
    set(response, header::LINK, &format!("<{target}>; rel=\"next\""));
}

/// Replaces the body, and says its length.
pub(super) fn set_body(response: &mut Response<Bytes>, body: Bytes) {
    set(response, header::CONTENT_LENGTH, &body.len().to_string());
    *response.body_mut() = body;
}

/// Sets a header; a value that no header can have is left out.
pub(super) fn set(response: &mut Response<Bytes>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
