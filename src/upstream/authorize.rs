//! Requests with all they may lead to: challenges, tokens, redirects. Here it is decided
//! which requests carry credentials (THREATS A1 to A3).

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    Credentials, Login, MalformedAnswer, RedirectRefusal, UpstreamError,
    body::Patient,
    challenge::Challenge,
    connect::Client,
    order::Session,
    query::Query,
    realm::realm_of,
    redirect::{Hop, judge, refuse},
    token::{self, Grant, Slot, TokenKey},
};
use crate::oci::Repository;

/// What is asked for, which decides from where it may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Manifests and lists: from the registry itself only.
    Document,
    /// Blobs: from wherever the registry and the settings agree.
    Blob,
    /// Tokens: from a token service that belongs to the registry.
    Token,
}

/// What a request has to be let into.
#[derive(Debug, Clone, Copy)]
enum Scope<'a> {
    /// A repository, to pull something of this kind from it.
    Pull(Kind, &'a Repository),
    /// The registry, whatever is in it.
    Login,
}

impl Scope<'_> {
    fn kind(self) -> Option<Kind> {
        match self {
            Self::Pull(kind, _) => Some(kind),
            Self::Login => Some(Kind::Document),
        }
    }
}

impl Session {
    /// Sends `request` and follows redirects. Credentials go to the registry's own origin
    /// only, and no more once a redirect has left it.
    pub(super) async fn follow(
        &self,
        kind: Kind,
        repository: &Repository,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let redirects = match kind {
            Kind::Document | Kind::Token => None,
            Kind::Blob => Some(&self.settings.redirects),
        };
        let mut hop = Hop::Registry;
        let mut at_home = true;
        for _ in 0..=self.settings.limits.redirects_max {
            let client = self.client(kind, hop);
            let answer = if at_home {
                let scope = Scope::Pull(kind, repository);
                self.send_authorized(client, scope, &request).await?
            } else {
                // Storage has no pace. The registry has, also where storage leads back to it.
                let kind = (hop == Hop::Registry).then_some(kind);
                self.exchange(client, kind, &request).await?
            };
            if !is_redirect(answer.status()) {
                return self.accept(answer, at_home);
            }
            let (target, next) = judge(answer.headers(), request.uri(), self.origin(), redirects)?;
            hop = next;
            at_home &= hop == Hop::Registry;
            *request.uri_mut() = target;
        }
        let host = request.uri().host().unwrap_or_default();
        Err(refuse(host, RedirectRefusal::TooMany))
    }

    fn client(&self, kind: Kind, hop: Hop) -> &Client {
        match (kind, hop) {
            (Kind::Document | Kind::Token, _) => &self.clients.documents,
            (Kind::Blob, Hop::Registry) => &self.clients.blobs,
            (Kind::Blob, Hop::Listed) => &self.clients.listed,
            (Kind::Blob, Hop::Public) => &self.clients.public,
        }
    }

    /// Sends `request` with what is known to open the repository, and where the registry
    /// asks for something else, once more with that.
    async fn send_authorized(
        &self,
        client: &Client,
        scope: Scope<'_>,
        request: &Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        // A caller's own token is all that this caller has; there is nothing to fall back on.
        if let Some(bearer) = self.login.as_ref().and_then(Login::bearer) {
            let grant = Grant::of(bearer.clone());
            let request = with_grant(request, &grant);
            return self.exchange(client, scope.kind(), &request).await;
        }
        let slot = self.tokens.slot(&self.token_key(scope));
        let held = token::current(&slot).await;
        let answer = match &held {
            Some(grant) => {
                let request = with_grant(request, grant);
                self.exchange(client, scope.kind(), &request).await?
            }
            None => self.exchange(client, scope.kind(), request).await?,
        };
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = Challenge::of(answer.headers());
        drop(answer);
        let grant = self.meet(challenge, scope, &slot, held).await?;
        let request = with_grant(request, &grant);
        self.exchange(client, scope.kind(), &request).await
    }

    fn token_key(&self, scope: Scope<'_>) -> TokenKey {
        let login = self.login.as_ref().map(Login::key);
        match scope {
            Scope::Pull(_, repository) => TokenKey::Pull(login, repository.clone()),
            Scope::Login => TokenKey::Login(login),
        }
    }

    /// Meets a challenge, unless somebody else has done so in the meantime. `refused` is the
    /// grant that the challenge was the answer to.
    async fn meet(
        &self,
        challenge: Option<Challenge>,
        scope: Scope<'_>,
        slot: &Slot,
        refused: Option<Grant>,
    ) -> Result<Grant, UpstreamError> {
        let arrived = Instant::now();
        let mut flight = slot.lock().await;
        if let Some(outcome) = flight.outcome_for(arrived, refused.as_ref()) {
            return outcome;
        }
        let outcome = match challenge {
            Some(Challenge::Bearer { realm, service }) => {
                self.token(&realm, service.as_deref(), scope).await
            }
            Some(Challenge::Basic) => self
                .basic()
                .await
                .and_then(|grant| grant.ok_or_else(|| self.unauthorized(StatusCode::UNAUTHORIZED))),
            None => Err(self.unauthorized(StatusCode::UNAUTHORIZED)),
        };
        flight.land(outcome.clone());
        outcome
    }

    /// The user and password by which we are known, where we are.
    async fn basic(&self) -> Result<Option<Grant>, UpstreamError> {
        match &self.settings.credentials {
            Credentials::Anonymous => Ok(None),
            Credentials::Basic { username, password } => Ok(Grant::basic(username, password)),
            Credentials::Kept(keeper) => match keeper().await {
                Ok((username, password)) => Ok(Grant::basic(&username, &password)),
                Err(why) => Err(UpstreamError::NoCredentials {
                    host: self.settings.host.clone(),
                    why,
                }),
            },
            Credentials::Caller => {
                let basic = self.login.as_ref().and_then(Login::basic);
                Ok(basic.cloned().map(Grant::of))
            }
        }
    }

    /// Whether the registry knows whoever asks: its base, asked for with their credentials.
    pub(super) async fn is_known(&self) -> Result<(), UpstreamError> {
        let _place = self.place(&self.documents).await?;
        let request = self.request(Method::GET, &self.settings.url.path("/v2/"))?;
        let client = &self.clients.documents;
        let answer = self.send_authorized(client, Scope::Login, &request).await?;
        self.accept(answer, true).map(drop)
    }

    /// Fetches a token for `scope` from a token service that belongs to this registry; all others
    /// are not even asked. It takes no place of its own: what the token is for has one.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Scope<'_>,
    ) -> Result<Grant, UpstreamError> {
        let realm = realm_of(realm, self.origin()).map_err(|reason| {
            let parsed = realm.parse::<http::Uri>().ok();
            let host = parsed.as_ref().and_then(|realm| realm.host());
            UpstreamError::ForeignRealm {
                host: self.settings.host.clone(),
                realm: host.unwrap_or("(no host)").to_owned(),
                reason,
            }
        })?;
        let mut query = Query::of(&realm);
        if let Some(service) = service {
            query.push("service", service);
        }
        if let Scope::Pull(_, repository) = scope {
            query.push("scope", &format!("repository:{repository}:pull"));
        }
        let mut request = self.request(Method::GET, "/")?;
        *request.uri_mut() = query
            .on(realm)
            .map_err(|_| UpstreamError::Malformed(MalformedAnswer::Address))?;
        if let Some(credentials) = self.basic().await? {
            request = with_grant(&request, &credentials);
        }
        let client = &self.clients.documents;
        let answer = self.exchange(client, Some(Kind::Token), &request).await?;
        let status = answer.status();
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            return Err(self.unauthorized(status));
        }
        let answer = self.accept(answer, true)?;
        let limits = &self.settings.limits;
        let body = Patient::new(answer.into_body(), &self.settings.host, limits);
        Grant::from_json(&body.collect(limits.token_bytes_max).await?)
    }
}

fn with_grant(request: &Request<Empty<Bytes>>, grant: &Grant) -> Request<Empty<Bytes>> {
    let mut request = request.clone();
    let value: HeaderValue = grant.header();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}
