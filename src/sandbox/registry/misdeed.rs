//! The ways to misbehave, and what each does to a request or an answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::oci::{Descriptor, Digest, ErrorCode, Reference, media_type};

use super::{
    Endpoint, Recorded, Shared,
    auth::challenge_bearer,
    content::index_of,
    endpoints::{CONTENT_DIGEST, link_next, missing, refuse, set, set_body},
    request::Route,
};

/// One way to misbehave.
#[derive(Debug, Clone)]
pub enum Misdeed {
    /// Sends these bytes instead, under the honest headers and with their own length.
    WrongBytes(Bytes),
    /// Breaks the connection after so many bytes of the body.
    CutAfter(usize),
    /// Sends one byte of the body each interval, for as long as the client stays.
    Drip(Duration),
    /// Sends so many zero bytes, made while they are sent.
    HugeBody(u64),
    /// Says this Content-Length, sends the body that it has, and closes the connection.
    ContentLength(u64),
    /// Says no Content-Length; the body comes in chunks.
    NoContentLength,
    /// Says this media type.
    ContentType(String),
    /// Says this digest.
    ContentDigest(Digest),
    /// Sets a header, over the honest one where there is one.
    Header(HeaderName, HeaderValue),
    /// Takes every tag for these digests, one after the other on successive requests (a HEAD
    /// is one, too) and from the start again.
    TagInTurn(Vec<Digest>),
    /// Says that another page follows, on every page.
    EndlessPages,
    /// Lists so many referrers, of which none is there.
    Referrers(usize),
    /// Answers with this status, and the error body that goes with it.
    Status(StatusCode),
    /// Answers 429 with a Retry-After.
    TooManyRequests(Duration),
    /// Answers 401 and sends the caller to this URL for a token.
    ForeignRealm(String),
    /// Answers 307 to this URL.
    Redirect(String),
    /// Does not answer until the fault is forgiven, and answers honestly then.
    Hang,
    /// Closes the connection without an answer.
    DropConnection,
}

/// An answer on its way out: honest to begin with.
pub(super) struct Answer {
    pub(super) response: Response<Bytes>,
    pub(super) delivery: Delivery,
}

/// How an answer is sent.
pub(super) enum Delivery {
    /// As HTTP asks for.
    Honest,
    /// One byte each interval.
    Drip(Duration),
    /// Zero bytes instead of the body.
    Zeros(u64),
    /// Head and body as they stand, whether they agree or not, and then the connection closes.
    Verbatim,
    /// Not at all.
    Dropped,
}

impl Misdeed {
    /// Changes what is asked for, before it is looked up. `before` is how many requests have
    /// met the same fault already.
    pub(super) fn divert(&self, before: usize, request: &mut Recorded) {
        if let Self::TagInTurn(digests) = self
            && let Route::Manifest(_, reference @ Reference::Tag(_)) = &mut request.route
            && let Some(digest) = digests.get(before % digests.len().max(1))
        {
            *reference = Reference::Digest(*digest);
        }
    }

    /// Spoils the answer.
    pub(super) fn spoil(
        self,
        before: usize,
        shared: &Shared,
        request: &Recorded,
        answer: &mut Answer,
    ) {
        let response = &mut answer.response;
        match self {
            Self::Hang | Self::TagInTurn(_) => {}
            Self::WrongBytes(bytes) => set_body(response, bytes),
            Self::CutAfter(bytes) => {
                response.body_mut().truncate(bytes);
                answer.delivery = Delivery::Verbatim;
            }
            Self::Drip(interval) => answer.delivery = Delivery::Drip(interval),
            Self::HugeBody(bytes) => {
                set(response, header::CONTENT_LENGTH, &bytes.to_string());
                answer.delivery = Delivery::Zeros(bytes);
            }
            Self::ContentLength(bytes) => {
                set(response, header::CONTENT_LENGTH, &bytes.to_string());
                answer.delivery = Delivery::Verbatim;
            }
            Self::NoContentLength => {
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            Self::ContentType(media_type) => set(response, header::CONTENT_TYPE, &media_type),
            Self::ContentDigest(digest) => set(response, CONTENT_DIGEST, &digest.to_string()),
            Self::Header(name, value) => {
                response.headers_mut().insert(name, value);
            }
            Self::EndlessPages => {
                let next = format!("{}?page={}", request.path, before + 2);
                link_next(response, &next);
            }
            Self::Referrers(count) => set_body(response, invented_referrers(count)),
            Self::Status(status) => *response = failure(status, request.endpoint),
            Self::TooManyRequests(retry_after) => {
                let seconds = retry_after.as_secs().to_string();
                *response = failure(StatusCode::TOO_MANY_REQUESTS, request.endpoint);
                set(response, header::RETRY_AFTER, &seconds);
            }
            Self::ForeignRealm(realm) => {
                *response = challenge_bearer(&realm, shared.address, request, None);
            }
            Self::Redirect(location) => {
                set_body(response, Bytes::new());
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                set(response, header::LOCATION, &location);
            }
            Self::DropConnection => answer.delivery = Delivery::Dropped,
        }
    }
}

fn failure(status: StatusCode, endpoint: Endpoint) -> Response<Bytes> {
    let code = match status {
        StatusCode::NOT_FOUND => return missing(endpoint),
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
        StatusCode::FORBIDDEN => ErrorCode::Denied,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::TooManyRequests,
        _ => ErrorCode::Unavailable,
    };
    refuse(status, code, status.canonical_reason().unwrap_or_default())
}

/// An index of referrers that look like signatures and are nowhere.
fn invented_referrers(count: usize) -> Bytes {
    let invent = |number: usize| Descriptor {
        media_type: media_type::OCI_MANIFEST.to_owned(),
        digest: Digest::sha256(&number.to_be_bytes()),
        size: 1000,
        annotations: None,
        artifact_type: Some("application/vnd.dev.sigstore.bundle.v0.3+json".to_owned()),
        platform: None,
    };
    index_of(&(0..count).map(invent).collect::<Vec<_>>())
}
