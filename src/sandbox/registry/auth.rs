//! Who may pull: nobody asked, Basic, or Bearer tokens from the registry's own `/token`
//! (Docker Registry v2 authentication, "Token").

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Mutex,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::json;

use crate::oci::ErrorCode;

use super::{
    Recorded,
    endpoints::{ok, refuse, set},
    locked,
    request::{Route, decode},
};

/// How callers prove who they are.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Anybody may pull.
    None,
    /// Each request carries one of these logins.
    Basic(Vec<Login>),
    /// Each request carries a token, which `/token` gives for one of these logins; without any
    /// logins it gives tokens to anybody.
    Bearer(Vec<Login>),
}

/// A user, and what that user may read.
#[derive(Debug, Clone)]
pub struct Login {
    user: String,
    password: String,
    /// `None` is everything.
    repositories: Option<HashSet<String>>,
}

impl Login {
    /// A user who may read every repository.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            repositories: None,
        }
    }

    /// The same user, but reading only `repositories`.
    #[must_use]
    pub fn only(mut self, repositories: &[&str]) -> Self {
        self.repositories = Some(repositories.iter().map(ToString::to_string).collect());
        self
    }

    fn may_read(&self, repository: &str) -> bool {
        let only = self.repositories.as_ref();
        only.is_none_or(|repositories| repositories.contains(repository))
    }
}

/// The door in front of the content.
pub(super) struct Door {
    auth: Auth,
    address: SocketAddr,
    tokens: Mutex<Tokens>,
}

/// The tokens that were issued, each with the repositories that it opens.
#[derive(Default)]
struct Tokens {
    issued: usize,
    valid: HashMap<String, HashSet<String>>,
}

/// Why a request is not let in.
pub(super) enum TurnedAway {
    /// It carries no user and password that are known.
    NoLogin,
    /// Its user may not read that repository.
    NotTheirs,
    /// It carries no token.
    NoToken,
    /// Its token was never given, or has been revoked.
    InvalidToken,
    /// Its token does not open that repository.
    InsufficientScope,
}

impl Door {
    pub(super) fn new(auth: Auth, address: SocketAddr) -> Self {
        Self {
            auth,
            address,
            tokens: Mutex::default(),
        }
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, request: &Recorded) -> Result<(), TurnedAway> {
        if request.route == Route::Token {
            return Ok(());
        }
        match &self.auth {
            Auth::None => Ok(()),
            Auth::Basic(logins) => admit_login(logins, request),
            Auth::Bearer(_) => self.admit_token(request),
        }
    }

    fn admit_token(&self, request: &Recorded) -> Result<(), TurnedAway> {
        let token = credentials(request, "Bearer").ok_or(TurnedAway::NoToken)?;
        let tokens = locked(&self.tokens);
        let opens = tokens.valid.get(token).ok_or(TurnedAway::InvalidToken)?;
        match request.route.repository() {
            Some(name) if !opens.contains(name.as_str()) => Err(TurnedAway::InsufficientScope),
            _ => Ok(()),
        }
    }

    /// The answer to a request that was turned away.
    pub(super) fn turn_away(&self, request: &Recorded, why: &TurnedAway) -> Response<Bytes> {
        let error = match why {
            TurnedAway::NoLogin => return challenge_basic(),
            TurnedAway::NotTheirs => {
                let message = "requested access to the resource is denied";
                return refuse(StatusCode::FORBIDDEN, ErrorCode::Denied, message);
            }
            TurnedAway::NoToken => None,
            TurnedAway::InvalidToken => Some("invalid_token"),
            TurnedAway::InsufficientScope => Some("insufficient_scope"),
        };
        let realm = format!("http://{}/token", self.address);
        challenge_bearer(&realm, self.address, request, error)
    }

    /// Answers `/token`. A token is given to every valid login, but opens only what was asked
    /// for and the login may read: what is missing shows when the token is used.
    pub(super) fn token(&self, request: &Recorded) -> Option<Response<Bytes>> {
        let Auth::Bearer(logins) = &self.auth else {
            return None;
        };
        let login = find_login(logins, request);
        if login.is_none() && !logins.is_empty() {
            return Some(challenge_basic());
        }
        let opens = request
            .raw_parameters("scope")
            .filter_map(|scope| pulled(&decode(scope)))
            .filter(|name| login.is_none_or(|login| login.may_read(name)))
            .collect();
        let mut tokens = locked(&self.tokens);
        tokens.issued += 1;
        let token = format!("sandbox-token-{}", tokens.issued);
        tokens.valid.insert(token.clone(), opens);
        let body = json!({"token": token, "access_token": token, "expires_in": 300});
        Some(ok("application/json", body.to_string().into()))
    }

    pub(super) fn revoke_tokens(&self) {
        locked(&self.tokens).valid.clear();
    }
}

fn admit_login(logins: &[Login], request: &Recorded) -> Result<(), TurnedAway> {
    let login = find_login(logins, request).ok_or(TurnedAway::NoLogin)?;
    match request.route.repository() {
        Some(name) if !login.may_read(name.as_str()) => Err(TurnedAway::NotTheirs),
        _ => Ok(()),
    }
}

/// The repository of a scope `repository:<name>:<actions>` that asks to pull.
fn pulled(scope: &str) -> Option<String> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let pulls = actions.split(',').any(|action| action == "pull");
    pulls.then(|| name.to_owned())
}

fn find_login<'a>(logins: &'a [Login], request: &Recorded) -> Option<&'a Login> {
    let decoded = STANDARD.decode(credentials(request, "Basic")?).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    logins
        .iter()
        .find(|login| login.user == user && login.password == password)
}

/// What follows the scheme's name in the Authorization header.
fn credentials<'a>(request: &'a Recorded, scheme: &str) -> Option<&'a str> {
    let (name, credentials) = request.header("authorization")?.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then_some(credentials)
}

fn challenge_basic() -> Response<Bytes> {
    challenge("Basic realm=\"sandbox\"")
}

/// Sends the caller to `realm` for a token that opens what `request` is for.
pub(super) fn challenge_bearer(
    realm: &str,
    service: SocketAddr,
    request: &Recorded,
    error: Option<&str>,
) -> Response<Bytes> {
    let mut text = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
    if let Some(name) = request.route.repository() {
        text += &format!(",scope=\"repository:{name}:pull\"");
    }
    if let Some(error) = error {
        text += &format!(",error=\"{error}\"");
    }
    challenge(&text)
}

fn challenge(text: &str) -> Response<Bytes> {
    let code = ErrorCode::Unauthorized;
    let mut response = refuse(StatusCode::UNAUTHORIZED, code, "authentication required");
    set(&mut response, header::WWW_AUTHENTICATE, text);
    response
}
