//! From the gate's answers to HTTP responses. [`refuse`] is the one place where a refusal
//! becomes a status and an OCI error body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, header::HeaderName};
use serde_json::{Value, json};

use crate::audit::DecisionId;
use crate::content::BlobAnswer;
use crate::content::BlobBody;
use crate::content::Document;
use crate::gate::Admitted;
use crate::gate::Doubt;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::oci::ErrorBody;
use crate::oci::ErrorCode;
use crate::oci::RegistryHost;
use crate::server::route::NoRoute;

pub(super) type Answer = Response<BlobBody>;

const READS: HeaderValue = HeaderValue::from_static("GET, HEAD");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const API_VERSION_2: HeaderValue = HeaderValue::from_static("registry/2.0");
const DECISION: HeaderName = HeaderName::from_static("pullgate-decision");
const NOTHING: HeaderValue = HeaderValue::from_static("");
/// The most of a warning that goes into a header, in bytes.
const WARNING_BYTES_MAX: usize = 1024;

/// An answer with these bytes, which are at hand.
pub(super) fn held(status: StatusCode, content_type: HeaderValue, bytes: Bytes) -> Answer {
    let length = HeaderValue::from(bytes.len());
    let mut answer = Response::new(BlobBody::Held(Some(bytes)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, length);
    answer
}

/// A JSON document.
pub(super) fn json_document(value: &Value) -> Answer {
    held(StatusCode::OK, JSON, value.to_string().into())
}

/// `/v2/`: yes, this is a registry.
pub(super) fn base() -> Answer {
    let mut answer = held(StatusCode::OK, JSON, Bytes::from_static(b"{}"));
    mark_api(&mut answer);
    answer
}

/// The headers of an answer with a manifest. They are written once and copied for each answer, which
/// has its own decision where these have none.
fn headers_of(document: &Document) -> HeaderMap {
    let etag = Bytes::from(format!("\"{}\"", document.digest()));
    // One piece of memory for both.
    let digest = etag.slice(1..etag.len() - 1);
    let text = |text| HeaderValue::from_maybe_shared(text).unwrap_or(NOTHING);
    HeaderMap::from_iter([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(document.media_type()),
        ),
        (CONTENT_DIGEST, text(digest)),
        (header::ETAG, text(etag)),
        (DECISION, NOTHING),
    ])
}

/// The digest as an entity tag (RFC 9110, section 8.8.3).
pub(super) fn etag(document: &Document) -> Option<&HeaderValue> {
    document.headers(headers_of).get(header::ETAG)
}

/// How much of a manifest a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Head,
    /// It has the manifest, and wants to know that this is the one.
    Unchanged,
}

/// A manifest that is admitted. All that this writes is at hand: nothing is put into words, and no
/// text is looked through.
pub(super) fn manifest(admitted: &Admitted, extent: Extent, decision: DecisionId) -> Answer {
    let document = admitted.document();
    let bytes = (extent == Extent::Whole).then(|| document.bytes().clone());
    let mut answer = Response::new(BlobBody::Held(bytes));
    *answer.headers_mut() = document.headers(headers_of).clone();
    match extent {
        // Its length is written by whoever sends it.
        Extent::Whole => {}
        Extent::Head => {
            let length = HeaderValue::from(document.bytes().len());
            answer.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        Extent::Unchanged => {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer.headers_mut().remove(header::CONTENT_TYPE);
        }
    }
    let headers = answer.headers_mut();
    for warning in admitted.warnings() {
        headers.append(header::WARNING, warn("299", warning));
    }
    if admitted.is_stale() {
        headers.append(
            header::WARNING,
            warn(
                "111",
                "the registry is away: what it said before is repeated",
            ),
        );
    }
    decided(&mut answer, decision);
    answer
}

/// Names the decision in the answer.
fn decided(answer: &mut Answer, decision: DecisionId) {
    let Ok(value) = HeaderValue::from_bytes(&decision.text()) else {
        return;
    };
    let headers = answer.headers_mut();
    // To look at some names costs less than to hash one.
    match headers.iter_mut().find(|(name, _)| **name == DECISION) {
        Some((_, place)) => *place = value,
        None => {
            headers.insert(DECISION, value);
        }
    }
}

/// A warning (RFC 7234, section 5.5): a code, nobody in particular, and a quoted text.
pub(super) fn warn(code: &str, text: &str) -> HeaderValue {
    let mut quoted = format!("{code} - \"");
    for character in text.chars() {
        if quoted.len() >= WARNING_BYTES_MAX {
            break;
        }
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    HeaderValue::try_from(quoted).unwrap_or(HeaderValue::from_static("299 - \"warning\""))
}

/// A blob, or the part that was asked for.
pub(super) fn blob(answer: BlobAnswer, digest: &str) -> Answer {
    let (status, length, range, body) = match answer {
        BlobAnswer::Whole { size, body } => (StatusCode::OK, size, None, body),
        BlobAnswer::Part {
            first,
            last,
            size,
            body,
        } => {
            let range = format!("bytes {first}-{last}/{size}");
            (
                StatusCode::PARTIAL_CONTENT,
                Some(last - first + 1),
                Some(range),
                body,
            )
        }
        BlobAnswer::Outside { size } => {
            let mut answer = error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &ErrorBody {
                    code: ErrorCode::RangeInvalid,
                    message: format!("the blob has {size} bytes; the range lies outside"),
                    detail: Value::Null,
                },
            );
            set(
                &mut answer,
                header::CONTENT_RANGE,
                format!("bytes */{size}"),
            );
            return answer;
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    describe_blob(&mut answer, length, digest);
    if let Some(range) = range {
        set(&mut answer, header::CONTENT_RANGE, range);
    }
    answer
}

/// The head of a blob.
pub(super) fn blob_head(size: Option<u64>, digest: &str) -> Answer {
    let mut answer = Response::new(BlobBody::Held(None));
    describe_blob(&mut answer, size, digest);
    answer
}

fn describe_blob(answer: &mut Answer, length: Option<u64>, digest: &str) {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, OCTETS);
    headers.insert(header::ACCEPT_RANGES, BYTES);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    set(answer, header::ETAG, format!("\"{digest}\""));
    set(answer, CONTENT_DIGEST, digest.to_owned());
}

/// Sets a header to a text of our own making.
pub(super) fn set(answer: &mut Answer, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// An OCI error.
pub(super) fn error(status: StatusCode, body: &ErrorBody) -> Answer {
    held(status, JSON, body.to_json().into())
}

/// A request that asks for nothing that is here.
pub(super) fn no_route(no_route: NoRoute) -> Answer {
    let (status, code, message) = no_route.words();
    let body = ErrorBody {
        code,
        message: message.to_owned(),
        detail: Value::Null,
    };
    let mut answer = error(status, &body);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(header::ALLOW, READS);
    }
    answer
}

/// A method that is not served here.
pub(super) fn method_not_allowed(message: &str) -> Answer {
    let body = ErrorBody {
        code: ErrorCode::Unsupported,
        message: message.to_owned(),
        detail: Value::Null,
    };
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &body);
    answer.headers_mut().insert(header::ALLOW, READS);
    answer
}

/// Says that this is a registry: some clients ask for it before they log in.
pub(super) fn mark_api(answer: &mut Answer) {
    answer.headers_mut().insert(API_VERSION, API_VERSION_2);
}

/// The one place where a refusal becomes a status. A HEAD of a refused manifest is answered
/// with its digest and no bytes, so that the client comes back with the GET whose body it can
/// show; without the digest where nobody looked at the manifest, or it is the tag that is refused.
pub(super) fn refuse(refusal: &Refusal, decision: Option<DecisionId>, is_head: bool) -> Answer {
    let id = decision.map(|decision| decision.to_string());
    let mut answer = match refusal {
        Refusal::Denied(denied, _) => match (&denied.refused, denied.unseen()) {
            (_, Some(digest)) if is_head => {
                let mut answer = Response::new(BlobBody::Held(None));
                if let Some(digest) = digest {
                    set(&mut answer, CONTENT_DIGEST, digest.to_string());
                }
                answer
            }
            (Some(refused), _) if is_head => {
                let mut answer = Response::new(BlobBody::Held(None));
                let content_type = HeaderValue::from_static(refused.media_type);
                answer
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, content_type);
                let length = HeaderValue::from(refused.length);
                answer.headers_mut().insert(header::CONTENT_LENGTH, length);
                set(&mut answer, CONTENT_DIGEST, refused.digest.to_string());
                answer
            }
            _ => {
                let detail = json!({
                    "reason": denied.shortfall.reason.as_str(),
                    "policy": denied.policy,
                    "digest": denied.refused.map(|refused| refused.digest),
                    "decision": id,
                });
                let message = with_decision(&denied.message(), id.as_deref());
                let body = ErrorBody {
                    code: ErrorCode::Denied,
                    message,
                    detail,
                };
                error(StatusCode::FORBIDDEN, &body)
            }
        },
        Refusal::Unavailable(unavailable) => {
            let status = match unavailable.doubt {
                Doubt::ContentMismatch => StatusCode::BAD_GATEWAY,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let detail = json!({
                "reason": unavailable.doubt.as_str(),
                "digest": unavailable.digest,
                "decision": id,
            });
            let message = with_decision(&unavailable.message(), id.as_deref());
            let mut answer = error(
                status,
                &ErrorBody {
                    code: ErrorCode::Unavailable,
                    message,
                    detail,
                },
            );
            let seconds = unavailable.retry_after.as_secs().max(1);
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            answer
        }
        Refusal::LoginNeeded(registry) => login_needed(registry),
        Refusal::NotFound(missing) => {
            let (code, what) = match missing {
                Missing::Manifest => (ErrorCode::ManifestUnknown, "manifest"),
                Missing::Blob => (ErrorCode::BlobUnknown, "blob"),
                Missing::Repository => (ErrorCode::NameUnknown, "repository"),
            };
            let message = format!("the upstream registry does not have this {what}");
            let body = ErrorBody {
                code,
                message,
                detail: Value::Null,
            };
            error(StatusCode::NOT_FOUND, &body)
        }
    };
    if let Some(decision) = decision {
        decided(&mut answer, decision);
    }
    answer
}

/// The registry's own question, in the form that every client can answer: with the user and
/// password (or access token) that the registry knows. How the registry wants to have them is
/// seen to by the upstream's client.
fn login_needed(registry: &RegistryHost) -> Answer {
    let body = ErrorBody {
        code: ErrorCode::Unauthorized,
        message: format!(
            "{registry} is asked with the credentials of whoever pulls, and wants others. Log in \
             with the user and password or access token that you have there; they are passed on \
             to {registry} and to nobody else."
        ),
        detail: Value::Null,
    };
    let mut answer = error(StatusCode::UNAUTHORIZED, &body);
    let challenge = format!("Basic realm=\"{registry}\"");
    set(&mut answer, header::WWW_AUTHENTICATE, challenge);
    answer
}

fn with_decision(message: &str, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("{message} Decision {id}."),
        None => message.to_owned(),
    }
}
