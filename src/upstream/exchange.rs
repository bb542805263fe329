//! One request and the head of its answer.

use std::{
    error::Error,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::time::{Instant, sleep, timeout};

use super::{
    MalformedAnswer, RedirectRefusal, Stage, UpstreamError,
    authorize::Kind,
    client::Shared,
    connect::{Client, ResolveError},
    redirect::refuse,
    retry_after::retry_after,
};

/// The wait before the one retry; up to as much again is added by chance, so that replicas
/// do not come back in step.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// A failed attempt, and whether another one may fare better.
struct Failure {
    error: UpstreamError,
    retry: bool,
}

impl Shared {
    /// Sends `request`, and sends it once more where the network failed before any answer and
    /// there is no other address to try. What the registry did answer, be it 429 or 503, is never
    /// asked for again. What goes to the registry itself or to its token service has a `kind` and
    /// is paid for from its budget; what goes to storage has none.
    pub(super) async fn exchange(
        &self,
        client: &Client,
        kind: Option<Kind>,
        request: &Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match self.paced(client, kind, request).await {
            Ok(answer) => Ok(answer),
            Err(Failure { retry: true, .. }) if self.settings.more_urls.is_empty() => {
                sleep(RETRY_WAIT + jitter(RETRY_WAIT)).await;
                let second = self.paced(client, kind, request).await;
                second.map_err(|failure| failure.error)
            }
            Err(Failure { error, .. }) => Err(error),
        }
    }

    /// One attempt, when it is its turn.
    async fn paced(
        &self,
        client: &Client,
        kind: Option<Kind>,
        request: &Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let Some(kind) = kind else {
            return self.attempt(client, request.clone()).await;
        };
        self.no_rest(kind)?;
        let patience = self.settings.limits.answer_timeout;
        let Some(wait) = self.budget.take(Instant::now(), patience) else {
            return Err(Failure {
                error: self.timed_out(Stage::Queue, patience),
                retry: false,
            });
        };
        if !wait.is_zero() {
            sleep(wait).await;
            // Whoever went before may have been told to leave the registry alone.
            self.no_rest(kind)?;
        }
        let answer = self.attempt(client, request.clone()).await?;
        let asks_for_a_rest = match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => true,
            // Where there are other addresses, it says nothing about them.
            StatusCode::SERVICE_UNAVAILABLE => self.settings.more_urls.is_empty(),
            _ => false,
        };
        if asks_for_a_rest
            // Where each caller logs in on their own, so is the limit that they ran into.
            && !matches!(self.settings.credentials, super::Credentials::Caller)
            && let Some(rest) = retry_after(answer.headers(), self.settings.clock.now())
        {
            self.budget.rest_for(kind, Instant::now(), rest);
        }
        Ok(answer)
    }

    /// That the registry has not asked for a rest of this kind, or how much of it is left.
    fn no_rest(&self, kind: Kind) -> Result<(), Failure> {
        match self.budget.rest(kind, Instant::now()) {
            None => Ok(()),
            rest => Err(Failure {
                error: UpstreamError::RateLimited { retry_after: rest },
                retry: false,
            }),
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let patience = self.settings.limits.answer_timeout;
        let outcome = timeout(patience, client.request(request)).await;
        if let Some(on_request) = &self.settings.on_request {
            let status = match &outcome {
                Ok(Ok(answer)) => answer.status().as_u16(),
                _ => 0,
            };
            on_request(&self.settings.host, status);
        }
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(&error, host)),
            Err(_) => Err(Failure {
                error: self.timed_out(Stage::Answer, patience),
                retry: false,
            }),
        }
    }

    /// Turns every answer but 200, and 206 where a range was asked for, into an error.
    /// `by_registry` is false for answers of a storage service, whose refusals say nothing
    /// about our credentials at the registry.
    pub(super) fn accept(
        &self,
        answer: Response<Incoming>,
        by_registry: bool,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NOT_FOUND => return Err(UpstreamError::NotFound),
            StatusCode::TOO_MANY_REQUESTS => return Err(self.rate_limited(answer.headers())),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) if by_registry => {
                return Err(self.unauthorized(status));
            }
            other => return Err(UpstreamError::Status(other.as_u16())),
        }
        let encoded = answer.headers().get_all(header::CONTENT_ENCODING);
        if encoded
            .iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(UpstreamError::Malformed(MalformedAnswer::Encoded));
        }
        Ok(answer)
    }

    pub(super) fn unauthorized(&self, status: StatusCode) -> UpstreamError {
        UpstreamError::Unauthorized {
            host: self.settings.host.clone(),
            status: status.as_u16(),
        }
    }

    fn rate_limited(&self, headers: &HeaderMap) -> UpstreamError {
        UpstreamError::RateLimited {
            retry_after: retry_after(headers, self.settings.clock.now()),
        }
    }
}

fn failure(error: &legacy::Error, host: String) -> Failure {
    let refused = sources(error).any(|source| {
        matches!(
            source.downcast_ref::<ResolveError>(),
            Some(ResolveError::NotPublic)
        )
    });
    if refused {
        return Failure {
            error: refuse(&host, RedirectRefusal::NotPublic),
            retry: false,
        };
    }
    let unreadable = sources(error)
        .filter_map(|source| source.downcast_ref::<hyper::Error>())
        .any(|error| error.is_parse() || error.is_parse_too_large());
    if unreadable {
        return Failure {
            error: UpstreamError::Malformed(MalformedAnswer::Head),
            retry: false,
        };
    }
    // The outermost layer only says that there is an error.
    let cause = cause(error.source().unwrap_or(error));
    Failure {
        error: UpstreamError::Unreachable { host, cause },
        retry: true,
    }
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let below = |error: &&'a (dyn Error + 'static)| (*error).source();
    std::iter::successors(Some(error), below)
}

/// What the layers of an error say, outermost first.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut layers: Vec<String> = sources(error).map(ToString::to_string).collect();
    // Some layers repeat what the layer below says.
    layers.dedup();
    layers.join(": ")
}

/// A time below `bound`. `RandomState` is seeded by the system, which is chance enough.
fn jitter(bound: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) % 1024;
    bound * u32::try_from(chance).unwrap_or_default() / 1024
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_wait_before_a_retry_is_chance_within_its_bounds() {
        let waits: Vec<_> = (0..1000).map(|_| jitter(RETRY_WAIT)).collect();
        assert!(waits.iter().all(|wait| *wait < RETRY_WAIT));
        let different: HashSet<_> = waits.iter().collect();
        assert!(different.len() > 100, "{} of 1000", different.len());
        // They are spread over all of it: what is the same for everybody spreads nobody.
        let long = waits.iter().filter(|wait| **wait >= RETRY_WAIT / 2);
        let long = long.count();
        assert!((250..750).contains(&long), "{long} of 1000");
    }
}
