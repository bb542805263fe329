//! Who asks, as HTTP tells it: the challenge, the token endpoint, and the answers to those whom
//! nobody knows (RFC 9110, section 11; distribution's token specification).
//!
//! A 401 looks the same for whatever is asked for: it says nothing of whether it is there.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::authn::Authn;
use crate::authn::OwnRefusal;
use crate::authn::Presented;
use crate::authn::Puller;
use crate::authn::SERVICE;
use crate::authn::Unidentified;
use crate::oci::ErrorBody;
use crate::oci::ErrorCode;
use crate::oci::ImageName;
use crate::oci::RegistryHost;
use crate::server::respond::{self, Answer};
use crate::server::route::{Router, scope_of};

/// Where tokens are given out.
const TOKEN_PATH: &str = "/token";
/// How many repositories one token is given out for.
const SCOPES_MAX: usize = 32;

/// How callers are asked who they are.
#[derive(Debug)]
pub struct Callers {
    /// Who says who they are.
    pub authn: Arc<Authn>,
    /// The URL under which clients reach this listener, where something in front of it gives it
    /// another scheme or name than they see here.
    pub public_url: Option<String>,
    /// Whether this listener speaks TLS.
    pub secure: bool,
}

/// The parts of a request that matter here.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) presented: Presented<'a>,
}

impl Callers {
    pub(super) fn is_token_request(uri: &Uri) -> bool {
        uri.path() == TOKEN_PATH
    }

    /// Who sent this request; or the answer that asks.
    pub(super) async fn identify(&self, request: Request<'_>) -> Result<Arc<Puller>, Answer> {
        let identified = self.authn.identify(request.presented).await;
        identified.map_err(|unidentified| {
            let challenge = self.challenge(request, &unidentified);
            refuse(&unidentified, &challenge, request)
        })
    }

    /// Gives out a token.
    pub(super) async fn token(&self, router: &Router, request: Request<'_>) -> Answer {
        if !matches!(*request.method, Method::GET | Method::HEAD) {
            // containerd tries POST first and comes back with GET.
            return respond::method_not_allowed("tokens are asked for with GET");
        }
        let access = access(router, request.uri, request.presented.headers);
        match self.authn.grant(request.presented, &access).await {
            Ok(grant) => {
                let lifetime = grant.expires_at.duration_since(grant.issued_at);
                let mut answer = respond::json_document(&json!({
                    "token": grant.token,
                    "access_token": grant.token,
                    "expires_in": lifetime.as_secs().max(0),
                    "issued_at": grant.issued_at.to_string(),
                }));
                let headers = answer.headers_mut();
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                answer
            }
            Err(unidentified) => refuse(&unidentified, &basic(), request),
        }
    }

    /// The challenge: where a token for this repository is given out.
    fn challenge(&self, request: Request<'_>, unidentified: &Unidentified) -> String {
        let headers = request.presented.headers;
        let Some(base) = self.public_url.clone().or_else(|| {
            let scheme = if self.secure { "https" } else { "http" };
            reached_by(request.uri, headers, scheme)
        }) else {
            return basic();
        };
        let mut challenge = format!("Bearer realm=\"{base}{TOKEN_PATH}");
        // The name of a repository means something within its registry only.
        if let Some(namespace) = namespace(request.uri) {
            challenge.push_str(&format!("?ns={namespace}"));
        }
        challenge.push_str(&format!("\",service=\"{SERVICE}\""));
        if let Some(name) = scope_of(request.uri.path()) {
            challenge.push_str(&format!(",scope=\"repository:{name}:pull\""));
        }
        match unidentified {
            Unidentified::Own(OwnRefusal::OtherRepository) => {
                challenge.push_str(",error=\"insufficient_scope\"");
            }
            Unidentified::Own(_) | Unidentified::Token(_) | Unidentified::WrongPassword => {
                challenge.push_str(",error=\"invalid_token\"");
            }
            _ => {}
        }
        challenge
    }
}

/// Where this client sees us, by its own word: whoever sends a false Host is sent there alone.
pub(super) fn reached_by(uri: &Uri, headers: &HeaderMap, scheme: &str) -> Option<String> {
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    let host: RegistryHost = host.to_ascii_lowercase().parse().ok()?;
    Some(format!("{scheme}://{host}"))
}

/// The challenge to those who cannot be told where tokens are.
fn basic() -> String {
    format!("Basic realm=\"{SERVICE}\",charset=\"UTF-8\"")
}

pub(super) fn namespace(uri: &Uri) -> Option<RegistryHost> {
    let query = uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, namespace) = pairs.find(|(key, _)| key == "ns")?;
    namespace.parse().ok()
}

/// The repositories that a token is asked for: `scope=repository:NAME:pull`, several of them in
/// one or in many. What is none of our repositories, and what is more than pulling, is left
/// out, as the specification has it.
pub(super) fn access(router: &Router, uri: &Uri, headers: &HeaderMap) -> Vec<ImageName> {
    let query = uri.query().unwrap_or_default();
    let scopes: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .take(SCOPES_MAX)
        .collect();
    let named = scopes.iter().filter_map(|scope| {
        let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        let pulls = actions
            .split(',')
            .any(|action| matches!(action, "pull" | "*"));
        let image = router.named(name, uri, headers);
        image.filter(|_| pulls)
    });
    named.collect()
}

/// From "nobody knows" to an answer: the one place.
fn refuse(unidentified: &Unidentified, challenge: &str, request: Request<'_>) -> Answer {
    let client = request.presented.client;
    match unidentified {
        Unidentified::Absent => debug!(%client, "no credentials"),
        refused => info!(%client, "the caller is not known: {refused}"),
    }
    let (status, code) = match unidentified {
        Unidentified::Limited { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests),
        Unidentified::Unavailable { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable)
        }
        _ => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
    };
    let body = ErrorBody {
        code,
        message: message(unidentified),
        detail: Value::Null,
    };
    let mut answer = respond::error(status, &body);
    match unidentified {
        Unidentified::Limited { retry_after } | Unidentified::Unavailable { retry_after, .. } => {
            let seconds = HeaderValue::from(retry_after.as_secs().max(1));
            answer.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        _ => respond::set(&mut answer, header::WWW_AUTHENTICATE, challenge.to_owned()),
    }
    respond::mark_api(&mut answer);
    answer
}

fn message(unidentified: &Unidentified) -> String {
    let to_do = match unidentified {
        Unidentified::Absent => {
            "log in to this gate (docker login, podman login), or send a token as Bearer or as \
             the password"
        }
        Unidentified::Unreadable(_) => "send one Authorization header, Basic or Bearer",
        Unidentified::WrongPassword => "log in again",
        Unidentified::Token(_) => {
            "get a new token from its issuer, for the audience that this gate expects"
        }
        Unidentified::Own(_) => "ask for a new token, as the challenge says",
        Unidentified::Limited { .. } => "wait",
        Unidentified::Unavailable { .. } => "wait; the pull may be repeated",
    };
    format!("{unidentified}. To do: {to_do}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(secure: bool, host: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        let uri = Uri::from_static("/v2/");
        let scheme = if secure { "https" } else { "http" };
        reached_by(&uri, &headers, scheme)
    }

    #[test]
    fn a_host_is_repeated_only_where_it_is_one() {
        assert_eq!(
            reached(true, "Gate.test"),
            Some("https://gate.test".to_owned())
        );
        assert_eq!(
            reached(false, "127.0.0.1:5080"),
            Some("http://127.0.0.1:5080".to_owned())
        );
        for odd in [
            "",
            "a\"b",
            "a b",
            "user@gate.test",
            "gate.test/x",
            "a,b",
            "gate.test?x",
        ] {
            assert_eq!(reached(true, odd), None, "{odd}");
        }
    }
}
