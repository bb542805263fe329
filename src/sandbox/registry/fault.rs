//! What registries, and those who pose as one, do wrong.
//!
//! A [`Fault`] is a [`Misdeed`] with the requests that it befalls. Callers are let in first: a
//! request that is turned away for want of credentials meets no fault and uses none up.

use std::{fmt, sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::oci::{Descriptor, Digest, ErrorCode, Reference, media_type};

use super::{
    Endpoint, Recorded, Shared,
    auth::challenge_bearer,
    content::index_of,
    endpoints::{CONTENT_DIGEST, link_next, missing, refuse, set, set_body},
    locked,
    request::Route,
};

/// One way to misbehave.
#[derive(Debug, Clone)]
pub enum Misdeed {
    /// Sends these bytes instead, under the honest headers and with their own length.
    WrongBytes(Bytes),
    /// Breaks the connection after so many bytes of the body.
    CutAfter(usize),
    /// Sends one byte each interval, until the client leaves.
    Drip(Duration),
    /// Sends so many zero bytes, made while they are sent.
    HugeBody(u64),
    /// Says this Content-Length, sends the body that it has, and closes the connection.
    ContentLength(u64),
    /// Says no Content-Length; the body comes in chunks.
    NoContentLength,
    /// Sets a header, be it a lie or one too many.
    Header(HeaderName, HeaderValue),
    /// Takes manifests by tag for these digests, one after the other on successive requests
    /// and from the start again.
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

impl Misdeed {
    /// A lie about the media type.
    #[must_use]
    pub fn content_type(media_type: &'static str) -> Self {
        Self::Header(header::CONTENT_TYPE, HeaderValue::from_static(media_type))
    }

    /// A lie about the digest.
    #[must_use]
    pub fn content_digest(digest: &'static str) -> Self {
        Self::Header(CONTENT_DIGEST, HeaderValue::from_static(digest))
    }
}

/// A misdeed, and when it is done: on every request, unless narrowed.
#[must_use = "a fault does nothing until it is given to `Registry::misbehave`"]
pub struct Fault {
    misdeed: Misdeed,
    matches: Vec<Predicate>,
    times: Option<usize>,
}

type Predicate = Box<dyn Fn(&Recorded) -> bool + Send + Sync>;

impl From<Misdeed> for Fault {
    fn from(misdeed: Misdeed) -> Self {
        Self {
            misdeed,
            matches: Vec::new(),
            times: None,
        }
    }
}

impl Fault {
    /// A misdeed on one endpoint.
    pub fn on(endpoint: Endpoint, misdeed: Misdeed) -> Self {
        Self::from(misdeed).when(move |request| request.endpoint == endpoint)
    }

    /// Only on requests that fulfil `predicate`, too.
    pub fn when(mut self, predicate: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Self {
        self.matches.push(Box::new(predicate));
        self
    }

    /// Only on requests with this method.
    pub fn method(self, method: Method) -> Self {
        self.when(move |request| request.method == method)
    }

    /// Only on requests whose path starts so.
    pub fn path(self, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        self.when(move |request| request.path.starts_with(&prefix))
    }

    /// Only on the first so many of the requests that match.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("misdeed", &self.misdeed)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// Names a fault, so that it can be forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(usize);

/// The faults that are in force.
#[derive(Default)]
pub(super) struct Faults(Mutex<Register>);

#[derive(Default)]
struct Register {
    added: usize,
    faults: Vec<Active>,
}

struct Active {
    id: FaultId,
    fault: Fault,
    used: usize,
    /// Cancelled when this value is dropped, in whichever way.
    forgiven: CancellationToken,
    _until_dropped: DropGuard,
}

/// A fault as it befalls one request.
pub(super) struct Strike {
    misdeed: Misdeed,
    /// How many requests it has befallen before this one.
    before: usize,
    forgiven: CancellationToken,
}

impl Faults {
    pub(super) fn add(&self, fault: Fault) -> FaultId {
        let mut register = locked(&self.0);
        register.added += 1;
        let id = FaultId(register.added);
        let forgiven = CancellationToken::new();
        register.faults.push(Active {
            id,
            fault,
            used: 0,
            forgiven: forgiven.clone(),
            _until_dropped: forgiven.drop_guard(),
        });
        id
    }

    pub(super) fn remove(&self, id: FaultId) {
        locked(&self.0).faults.retain(|active| active.id != id);
    }

    pub(super) fn clear(&self) {
        locked(&self.0).faults.clear();
    }

    /// The faults that befall `request`; each counts it.
    pub(super) fn strike(&self, request: &Recorded) -> Vec<Strike> {
        let mut register = locked(&self.0);
        let struck = register.faults.iter_mut().filter(|active| {
            active.fault.times.is_none_or(|times| active.used < times)
                && active.fault.matches.iter().all(|matches| matches(request))
        });
        struck
            .map(|active| {
                active.used += 1;
                Strike {
                    misdeed: active.fault.misdeed.clone(),
                    before: active.used - 1,
                    forgiven: active.forgiven.clone(),
                }
            })
            .collect()
    }
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

impl Strike {
    /// Holds the answer back.
    pub(super) async fn delay(&self) {
        if matches!(self.misdeed, Misdeed::Hang) {
            self.forgiven.cancelled().await;
        }
    }

    /// Changes what is asked for, before it is looked up.
    pub(super) fn divert(&self, request: &mut Recorded) {
        let Misdeed::TagInTurn(digests) = &self.misdeed else {
            return;
        };
        if let Route::Manifest(_, reference @ Reference::Tag(_)) = &mut request.route
            && let Some(digest) = digests
                .iter()
                .cycle()
                .nth(self.before % digests.len().max(1))
        {
            *reference = Reference::Digest(*digest);
        }
    }

    /// Spoils the answer.
    pub(super) fn spoil(self, shared: &Shared, request: &Recorded, answer: &mut Answer) {
        let response = &mut answer.response;
        match self.misdeed {
            Misdeed::Hang | Misdeed::TagInTurn(_) => {}
            Misdeed::WrongBytes(bytes) => set_body(response, bytes),
            Misdeed::CutAfter(bytes) => {
                response.body_mut().truncate(bytes);
                answer.delivery = Delivery::Verbatim;
            }
            Misdeed::Drip(interval) => answer.delivery = Delivery::Drip(interval),
            Misdeed::HugeBody(bytes) => {
                say_length(response, bytes);
                answer.delivery = Delivery::Zeros(bytes);
            }
            Misdeed::ContentLength(bytes) => {
                say_length(response, bytes);
                answer.delivery = Delivery::Verbatim;
            }
            Misdeed::NoContentLength => {
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            Misdeed::Header(name, value) => {
                response.headers_mut().insert(name, value);
            }
            Misdeed::EndlessPages => {
                link_next(
                    response,
                    &format!("{}?page={}", request.path, self.before + 2),
                );
            }
            Misdeed::Referrers(count) => set_body(response, invented_referrers(count)),
            Misdeed::Status(status) => *response = failure(status, request.endpoint),
            Misdeed::TooManyRequests(retry_after) => {
                *response = failure(StatusCode::TOO_MANY_REQUESTS, request.endpoint);
                set(
                    response,
                    header::RETRY_AFTER,
                    &retry_after.as_secs().to_string(),
                );
            }
            Misdeed::ForeignRealm(realm) => {
                *response = challenge_bearer(&realm, shared.address, request, None);
            }
            Misdeed::Redirect(location) => {
                set_body(response, Bytes::new());
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                set(response, header::LOCATION, &location);
            }
            Misdeed::DropConnection => answer.delivery = Delivery::Dropped,
        }
    }
}

fn say_length(response: &mut Response<Bytes>, bytes: u64) {
    let length = HeaderValue::from(bytes);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
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
