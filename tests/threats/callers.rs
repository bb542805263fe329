//! Who asks: only what is proven counts, and who is not known learns nothing.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, StatusCode};
use jiff::SignedDuration;
use pullgate::authn::{IssuerSettings, OidcSettings, Settings, TokenKey, Users};
use pullgate::policy::{Mode, PulledBy, PullerKind, PullerRule};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::oidc::{Algorithm, DISCOVERY, Fault, Issuer, KEYS, Misdeed, Token};
use pullgate::upstream;
use serde_json::Value;

use crate::support::{Answer, Setup, World, identity_rule, release, rules, signed_by};

const AUDIENCE: &str = "pullgate";

fn hash(password: &str) -> String {
    bcrypt::hash(password, 5).expect("a hash")
}

fn users() -> Users {
    let text = format!("alice:{}\nbob:{}\n", hash("one"), hash("two"));
    Users::parse(&text).expect("users")
}

/// Everything at once: users, and these issuers.
fn callers(issuers: &[(&Issuer, &str)]) -> Settings {
    let issuers = issuers.iter().map(|(issuer, audience)| IssuerSettings {
        url: issuer.url(),
        audience: (*audience).to_owned(),
        extra_roots: Vec::new(),
    });
    Settings {
        users: Some(users()),
        oidc: OidcSettings {
            issuers: issuers.collect(),
            keys_stale_max: Duration::from_secs(24 * 60 * 60),
            limits: upstream::Limits {
                answer_timeout: Duration::from_secs(2),
                ..upstream::Limits::default()
            },
        },
        token_key: TokenKey::random().expect("a key"),
        token_lifetime: Duration::from_secs(300),
        failures_max: 1000,
        password_threads: 1,
    }
}

async fn world_of(callers: Settings) -> World {
    let world = World::with(Setup {
        callers: Some(callers),
        ..Setup::default()
    })
    .await;
    push(&world, "app");
    push(&world, "other");
    world
}

fn push(world: &World, repository: &str) -> Package {
    let package = image::runnable(repository).tagged("v1");
    world.push(repository, &package);
    world.sign(repository, &package, &release());
    package
}

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// A GET with this Authorization header.
async fn with(world: &World, target: &str, authorization: &str) -> Answer {
    world
        .ask(Method::GET, target, &[("authorization", authorization)])
        .await
}

async fn pull(world: &World, authorization: &str) -> Answer {
    with(world, "/v2/app/manifests/v1", authorization).await
}

#[track_caller]
fn asks_who(answer: &Answer) {
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "{}",
        answer.message()
    );
    assert!(
        answer
            .header("www-authenticate")
            .starts_with("Bearer realm=")
    );
}

/// A token of ours, for these scopes.
async fn token_for(world: &World, scopes: &str, authorization: &str) -> Answer {
    let target = format!("/token?service=pullgate{scopes}");
    with(world, &target, authorization).await
}

fn token_in(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.message());
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["token"], body["access_token"]);
    format!("Bearer {}", body["token"].as_str().expect("a token"))
}

// The allow test of all that follows: each way of logging in, and what stands in the record.
#[tokio::test]
async fn each_way_of_logging_in_pulls() {
    let issuer = Issuer::start().await.expect("a port");
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let now = world.now();
    let token = Token::new("repo:acme/app", AUDIENCE);
    let mut ways = vec![(basic("alice", "one"), "user alice".to_owned())];
    for algorithm in Algorithm::ALL {
        let jwt = issuer.mint(&token.clone().algorithm(algorithm), now);
        let name = format!("repo:acme/app (issuer {})", issuer.url());
        ways.push((format!("Bearer {jwt}"), name.clone()));
        ways.push((basic("anybody", &jwt), name));
    }
    for (authorization, name) in &ways {
        let ping = with(&world, "/v2/", authorization).await;
        assert_eq!(ping.status, StatusCode::OK);
        for round in ["cold", "hot"] {
            let answer = pull(&world, authorization).await;
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "{round} {}",
                answer.message()
            );
            let record = world.decisions.latest(1)[0].to_json();
            assert_eq!(record["puller"], name.as_str(), "{round}");
        }
        let scope = "&scope=repository:app:pull";
        let exchanged = token_in(&token_for(&world, scope, authorization).await);
        let answer = pull(&world, &exchanged).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.message());
        assert_eq!(
            world.decisions.latest(1)[0].to_json()["puller"],
            name.as_str()
        );
    }
    let series = "pullgate_authentications_total{method=\"htpasswd\",outcome=\"success\"}";
    assert_eq!(world.counted(series), 4);
}

// A4: whoever is not known gets one answer, whatever is asked for.
#[tokio::test]
async fn a4_who_is_not_known_learns_nothing() {
    let world = world_of(callers(&[])).await;
    let mut bodies = Vec::new();
    for (target, scope) in [
        ("/v2/", ""),
        ("/v2/app/manifests/v1", ",scope=\"repository:app:pull\""),
        ("/v2/app/manifests/v2", ",scope=\"repository:app:pull\""),
        (
            "/v2/absent/manifests/v1",
            ",scope=\"repository:absent:pull\"",
        ),
        ("/v2/app/tags/list", ",scope=\"repository:app:pull\""),
        (
            "/v2/nowhere.test/app/manifests/v1",
            ",scope=\"repository:nowhere.test/app:pull\"",
        ),
        ("/odd", ""),
    ] {
        let answer = world.get(target).await;
        asks_who(&answer);
        let address = world.address();
        let challenge =
            format!("Bearer realm=\"http://{address}/token\",service=\"pullgate\"{scope}");
        assert_eq!(answer.header("www-authenticate"), challenge, "{target}");
        bodies.push(answer.body);
    }
    assert!(bodies.iter().all(|body| body == &bodies[0]));
    assert_eq!(world.registry.requests().len(), 0, "the registry was asked");
    let head = world.ask(Method::HEAD, "/v2/app/manifests/v1", &[]).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    assert!(!head.headers.contains_key("docker-content-digest"));
}

#[tokio::test]
async fn wrong_passwords_and_odd_headers_are_refused() {
    let world = world_of(callers(&[])).await;
    for odd in [
        basic("alice", "two"),
        basic("carol", "one"),
        basic("alice", ""),
        basic("Alice", "one"),
        // What containerd sends where it has no credentials.
        "Basic Og==".to_owned(),
        "Basic".to_owned(),
        "Bearer".to_owned(),
        "Bearer one".to_owned(),
        "Digest alice".to_owned(),
        format!("{}, {}", basic("alice", "one"), basic("bob", "two")),
    ] {
        asks_who(&pull(&world, &odd).await);
    }
    let good = basic("alice", "one");
    let twice = [
        ("authorization", good.as_str()),
        ("authorization", good.as_str()),
    ];
    let answer = world.ask(Method::GET, "/v2/app/manifests/v1", &twice).await;
    asks_who(&answer);
    // A token in the URL is in logs and histories, and is none.
    for query in ["access_token", "token", "authorization"] {
        let target = format!("/v2/app/manifests/v1?{query}=one");
        asks_who(&world.get(&target).await);
    }
    assert_eq!(pull(&world, &good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused() {
    let issuer = Issuer::start().await.expect("a port");
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let now = world.now();
    let after = |seconds| now + SignedDuration::from_secs(seconds);
    let token = || Token::new("me", AUDIENCE);
    // Keys of each kind are published, so that none is refused for want of one.
    for algorithm in Algorithm::ALL {
        let good = issuer.mint(&token().algorithm(algorithm), now);
        assert_eq!(
            pull(&world, &format!("Bearer {good}")).await.status,
            StatusCode::OK
        );
        world.pass(Duration::from_secs(31));
    }
    let rs256 = || token().algorithm(Algorithm::Rs256);
    for (wrong, why) in [
        (token().valid(after(-900), after(-300)), "expired"),
        (token().valid(after(900), after(1500)), "not valid before"),
        (Token::new("me", "another"), "another audience"),
        (token().without("aud"), "no audience"),
        (token().without("exp"), "no end"),
        (token().without("sub"), "subject"),
        (token().claim("iss", "https://issuer.test"), "issuer"),
        (token().claim("iss", format!("{}/", issuer.url())), "issuer"),
        (token().without("iss"), "issuer"),
        (token().fault(Fault::NoAlgorithm), "algorithm"),
        (rs256().fault(Fault::HmacWithPublicKey), "algorithm"),
        (token().fault(Fault::UnknownKey), "no key of that name"),
        (token().fault(Fault::ForeignKey), "signature"),
        (token().fault(Fault::OwnKey), "no key of that name"),
        (token().fault(Fault::BrokenSignature), "signature"),
        (rs256().fault(Fault::BrokenSignature), "signature"),
        (token().fault(Fault::ChangedClaims), "signature"),
        (token().fault(Fault::CriticalExtension), "critical"),
        (
            token().claim("padding", "x".repeat(15 << 10)),
            "larger than 16 KiB",
        ),
    ] {
        let minted = issuer.mint(&wrong, now);
        let answer = pull(&world, &format!("Bearer {minted}")).await;
        asks_who(&answer);
        assert!(
            answer.message().contains(why),
            "{why}: {}",
            answer.message()
        );
        asks_who(&pull(&world, &basic("any", &minted)).await);
        let exchanged = token_for(&world, "", &format!("Bearer {minted}")).await;
        assert_eq!(exchanged.status, StatusCode::UNAUTHORIZED, "{why}");
    }
    // Larger than what is read of a header; and larger than any header that is taken in at all.
    asks_who(&pull(&world, &format!("Bearer {}", "x".repeat(30 << 10))).await);
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let status = world.raw(&request).await;
    assert!(!status.contains(" 200 "), "{status}");
}

// Tenants of one site are issuers of their own, though one URL begins like the other.
#[tokio::test]
async fn a_token_of_another_tenant_is_refused() {
    let ours = Issuer::start_at("/tenant-a").await.expect("a port");
    let lookalike = Issuer::start_at("/tenant-a/../tenant-a")
        .await
        .expect("a port");
    let second = Issuer::start_at("/tenant-b").await.expect("a port");
    let issuers = [(&ours, AUDIENCE), (&second, "second")];
    let world = world_of(callers(&issuers)).await;
    let now = world.now();
    let pulled = |issuer: &Issuer, token: Token| {
        let minted = format!("Bearer {}", issuer.mint(&token, now));
        let world = &world;
        async move { pull(world, &minted).await.status }
    };
    let status = StatusCode::OK;
    assert_eq!(pulled(&ours, Token::new("me", AUDIENCE)).await, status);
    assert_eq!(pulled(&second, Token::new("me", "second")).await, status);
    let status = StatusCode::UNAUTHORIZED;
    // Each issuer has its own audience, and its own keys.
    assert_eq!(pulled(&second, Token::new("me", AUDIENCE)).await, status);
    assert_eq!(pulled(&lookalike, Token::new("me", AUDIENCE)).await, status);
    let as_ours = |url: String| Token::new("me", AUDIENCE).claim("iss", url);
    assert_eq!(pulled(&second, as_ours(ours.url())).await, status);
    assert_eq!(pulled(&lookalike, as_ours(ours.url())).await, status);
    for url in [format!("{}2", ours.url()), format!("{}/x", ours.url())] {
        assert_eq!(pulled(&ours, as_ours(url)).await, status);
    }
}

#[tokio::test]
async fn a_key_that_was_rotated_away_proves_nothing() {
    let issuer = Issuer::start().await.expect("a port");
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let token =
        Token::new("me", AUDIENCE).valid(world.now(), world.now() + SignedDuration::from_hours(48));
    let old = format!("Bearer {}", issuer.mint(&token, world.now()));
    assert_eq!(pull(&world, &old).await.status, StatusCode::OK);
    issuer.rotate(Algorithm::Es256);
    let new = format!("Bearer {}", issuer.mint(&token, world.now()));
    world.pass(Duration::from_secs(31));
    // A name that nobody knows has the keys asked for, and so a new key is known at once. The
    // old one is then gone, for what was proven a moment ago as well.
    assert_eq!(pull(&world, &new).await.status, StatusCode::OK);
    asks_who(&pull(&world, &old).await);
    // Nobody has to come with a new key for the old one to go.
    issuer.rotate(Algorithm::Es256);
    world.pass(Duration::from_secs(301));
    asks_who(&pull(&world, &new).await);
}

// What a connection saw is a short cut to a proof and no proof: on a connection that stays open,
// whoever comes next is asked, and nobody is known for longer than elsewhere.
#[tokio::test]
async fn a4_a_connection_that_stays_open_vouches_for_nobody() {
    let issuer = Issuer::start().await.expect("a port");
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let mut line = world.connect().await;
    let mut pulled = async |target: &str, authorization: Option<&str>| {
        let headers = authorization.map(|value| ("authorization", value));
        let answer = line.ask(Method::GET, target, headers.as_slice()).await;
        answer.status
    };
    let (app, other) = ("/v2/app/manifests/v1", "/v2/other/manifests/v1");
    let alice = basic("alice", "one");
    for _ in 0..3 {
        assert_eq!(pulled(app, Some(&alice)).await, StatusCode::OK);
    }
    // Something in front of the gate may have one connection for all.
    let wrong = basic("alice", "onf");
    for stranger in [None, Some("Basic Og=="), Some(&*wrong), Some(&alice[1..])] {
        let status = pulled(app, stranger).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{stranger:?}");
    }
    assert_eq!(pulled(app, Some(&alice)).await, StatusCode::OK);
    // A token of ours is for its repositories, whatever was asked for with it before.
    let own = token_in(&token_for(&world, "&scope=repository:app:pull", &alice).await);
    assert_eq!(pulled(app, Some(&own)).await, StatusCode::OK);
    assert_eq!(pulled(other, Some(&own)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(pulled(app, Some(&own)).await, StatusCode::OK);
    // It ends.
    world.pass(Duration::from_secs(301));
    assert_eq!(pulled(app, Some(&own)).await, StatusCode::UNAUTHORIZED);
    // A key is rotated away.
    let now = world.now();
    let token = Token::new("me", AUDIENCE).valid(now, now + SignedDuration::from_hours(48));
    let bearer = format!("Bearer {}", issuer.mint(&token, now));
    assert_eq!(pulled(app, Some(&bearer)).await, StatusCode::OK);
    assert_eq!(pulled(app, Some(&bearer)).await, StatusCode::OK);
    issuer.rotate(Algorithm::Es256);
    world.pass(Duration::from_secs(31));
    let new = format!("Bearer {}", issuer.mint(&token, world.now()));
    assert_eq!(pull(&world, &new).await.status, StatusCode::OK);
    assert_eq!(pulled(app, Some(&bearer)).await, StatusCode::UNAUTHORIZED);
    // A user is gone.
    assert_eq!(pulled(app, Some(&alice)).await, StatusCode::OK);
    let bob = Users::parse(&format!("bob:{}", hash("two"))).expect("users");
    world.authn.as_ref().expect("callers").replace_users(bob);
    assert_eq!(pulled(app, Some(&alice)).await, StatusCode::UNAUTHORIZED);
}

// An issuer that is away stops neither the start nor those whose keys are held, up to a bound;
// and what cannot be told is not "no".
#[tokio::test]
async fn an_issuer_that_is_away_is_not_a_no() {
    let issuer = Issuer::start().await.expect("a port");
    issuer.misbehave(Misdeed::Down);
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let days = SignedDuration::from_hours(72);
    let token = Token::new("me", AUDIENCE).valid(world.now(), world.now() + days);
    let bearer = format!("Bearer {}", issuer.mint(&token, world.now()));
    let unknown = || {
        let token = token.clone().fault(Fault::UnknownKey);
        format!("Bearer {}", issuer.mint(&token, world.now()))
    };
    for _ in 0..3 {
        let answer = pull(&world, &bearer).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers.contains_key("retry-after"));
    }
    let asked = issuer.count(DISCOVERY);
    assert!(asked <= 2, "an issuer that is down was asked {asked} times");
    issuer.behave();
    world.pass(Duration::from_secs(31));
    assert_eq!(pull(&world, &bearer).await.status, StatusCode::OK);
    for misdeed in [
        Misdeed::Down,
        Misdeed::NoJson,
        Misdeed::OtherIssuer("https://issuer.test".to_owned()),
        Misdeed::KeysElsewhere("http://issuer.test/keys".to_owned()),
        Misdeed::Redirect(format!("{}{KEYS}", issuer.url())),
        Misdeed::LargeKeys(1 << 20),
    ] {
        issuer.misbehave(misdeed.clone());
        world.pass(Duration::from_secs(60 * 60));
        assert_eq!(
            pull(&world, &bearer).await.status,
            StatusCode::OK,
            "{misdeed:?}"
        );
        world.pass(Duration::from_secs(60));
        let answer = pull(&world, &unknown()).await.status;
        assert_eq!(answer, StatusCode::SERVICE_UNAVAILABLE, "{misdeed:?}");
    }
    world.pass(Duration::from_secs(24 * 60 * 60));
    let answer = pull(&world, &bearer).await;
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "keys without end"
    );
}

// Random names of keys do not make us hammer the issuer, and neither do many at once.
#[tokio::test]
async fn an_issuer_is_not_asked_for_each_unknown_key() {
    let issuer = Issuer::start().await.expect("a port");
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let now = world.now();
    let good = format!("Bearer {}", issuer.mint(&Token::new("me", AUDIENCE), now));
    let pulls = (0..50).map(|_| pull(&world, &good));
    for answer in futures_util::future::join_all(pulls).await {
        assert_eq!(answer.status, StatusCode::OK);
    }
    let unknown = Token::new("me", AUDIENCE).fault(Fault::UnknownKey);
    for _ in 0..50 {
        let bearer = format!("Bearer {}", issuer.mint(&unknown, now));
        asks_who(&pull(&world, &bearer).await);
    }
    assert_eq!(issuer.count(KEYS), 1);
    world.pass(Duration::from_secs(31));
    for _ in 0..50 {
        let bearer = format!("Bearer {}", issuer.mint(&unknown, now));
        asks_who(&pull(&world, &bearer).await);
    }
    assert_eq!(issuer.count(KEYS), 2);
}

#[tokio::test]
async fn a_token_of_ours_is_for_its_repositories_and_for_a_while() {
    let world = world_of(callers(&[])).await;
    let alice = basic("alice", "one");
    let scopes = "&scope=repository:app:pull,push&scope=registry:catalog:*";
    let token = token_in(&token_for(&world, scopes, &alice).await);
    assert_eq!(with(&world, "/v2/", &token).await.status, StatusCode::OK);
    assert_eq!(pull(&world, &token).await.status, StatusCode::OK);
    // By its whole name it is the same repository.
    let whole = "/v2/registry.acme.test/app/manifests/v1";
    assert_eq!(with(&world, whole, &token).await.status, StatusCode::OK);
    for other in [
        "/v2/other/manifests/v1",
        "/v2/app/x/manifests/v1",
        "/v2/other/tags/list",
    ] {
        let answer = with(&world, other, &token).await;
        asks_who(&answer);
        assert!(
            answer
                .header("www-authenticate")
                .contains("error=\"insufficient_scope\"")
        );
    }
    // It buys no other token, and is nobody's password.
    let again = token_for(&world, "&scope=repository:other:pull", &token).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    let as_password = basic("alice", token.strip_prefix("Bearer ").expect("a token"));
    asks_who(&pull(&world, &as_password).await);
    // A token for several, and one for pushing alone.
    let both = "&scope=repository:app:pull%20repository:other:pull";
    let both = token_in(&token_for(&world, both, &alice).await);
    let other = with(&world, "/v2/other/manifests/v1", &both).await;
    assert_eq!(other.status, StatusCode::OK);
    let push = token_in(&token_for(&world, "&scope=repository:app:push", &alice).await);
    asks_who(&pull(&world, &push).await);
    // It ends.
    world.pass(Duration::from_secs(301));
    asks_who(&pull(&world, &token).await);
    // The token of a user who is gone goes with him, and so does what was proven.
    let token = token_in(&token_for(&world, scopes, &alice).await);
    assert_eq!(pull(&world, &token).await.status, StatusCode::OK);
    let bob = Users::parse(&format!("bob:{}", hash("two"))).expect("users");
    world.authn.as_ref().expect("callers").replace_users(bob);
    asks_who(&pull(&world, &token).await);
    asks_who(&pull(&world, &alice).await);
    assert_eq!(
        pull(&world, &basic("bob", "two")).await.status,
        StatusCode::OK
    );
}

// A token of ours outlives neither the token that it was exchanged for nor the process.
#[tokio::test]
async fn an_exchange_prolongs_nothing() {
    let issuer = Issuer::start().await.expect("a port");
    let world = world_of(callers(&[(&issuer, AUDIENCE)])).await;
    let now = world.now();
    let short = Token::new("me", AUDIENCE).valid(now, now + SignedDuration::from_secs(100));
    let bearer = format!("Bearer {}", issuer.mint(&short, now));
    let token = token_in(&token_for(&world, "&scope=repository:app:pull", &bearer).await);
    assert_eq!(pull(&world, &token).await.status, StatusCode::OK);
    world.pass(Duration::from_secs(101));
    asks_who(&pull(&world, &token).await);
    let another = world_of(callers(&[])).await;
    let alice = basic("alice", "one");
    let token = token_in(&token_for(&world, "&scope=repository:app:pull", &alice).await);
    asks_who(&pull(&another, &token).await);
}

// Names of repositories mean something within their registry: with `ns`, the token endpoint is
// told which.
#[tokio::test]
async fn the_challenge_names_the_registry() {
    let world = World::with(Setup {
        callers: Some(callers(&[])),
        mirror: true,
        ..Setup::default()
    })
    .await;
    let answer = world.get("/v2/app/manifests/v1?ns=mirror.acme.test").await;
    let challenge = answer.header("www-authenticate");
    let address = world.address();
    let realm = format!("Bearer realm=\"http://{address}/token?ns=mirror.acme.test\"");
    assert!(challenge.starts_with(&realm), "{challenge}");
    let alice = basic("alice", "one");
    let target = "/token?ns=mirror.acme.test&scope=repository:app:pull";
    let token = token_in(&with(&world, target, &alice).await);
    let mirrored = with(&world, "/v2/app/manifests/v1?ns=mirror.acme.test", &token).await;
    assert_eq!(mirrored.status, StatusCode::NOT_FOUND);
    asks_who(&pull(&world, &token).await);
    // What is no host is not repeated.
    for host in ["a\"b", "x/y", "user@x"] {
        let answer = world.ask(Method::GET, "/v2/", &[("host", host)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(
            answer.header("www-authenticate").starts_with("Basic "),
            "{host}"
        );
    }
}

// Guessing is slowed by address; whoever is known already goes on from the same address.
#[tokio::test]
async fn who_guesses_has_to_wait() {
    let settings = Settings {
        failures_max: 5,
        ..callers(&[])
    };
    let world = world_of(settings).await;
    let alice = basic("alice", "one");
    assert_eq!(pull(&world, &alice).await.status, StatusCode::OK);
    for guess in 0..5 {
        asks_who(&pull(&world, &basic("bob", &guess.to_string())).await);
    }
    // Even the right password is not tried.
    for _ in 0..2 {
        let answer = pull(&world, &basic("bob", "two")).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait));
    }
    let exchanged = token_for(&world, "", &basic("bob", "two")).await;
    assert_eq!(exchanged.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(pull(&world, &alice).await.status, StatusCode::OK);
    asks_who(&world.get("/v2/").await);
    world.pass(Duration::from_secs(61));
    assert_eq!(
        pull(&world, &basic("bob", "two")).await.status,
        StatusCode::OK
    );
}

// With policy: one caller pulls, the other is told who he is and who may; what the first one
// cached is not for the second.
#[tokio::test]
async fn a4_policy_judges_the_caller_that_was_proven() {
    let alice_only = PulledBy {
        any: vec![std::sync::Arc::new(PullerRule {
            name: "team-a".into(),
            kind: PullerKind::Users(["alice".to_owned()].into()),
        })],
    };
    let mut policy = signed_by("release", "**", &[identity_rule(&release())]);
    policy.pulled_by = Some(alice_only);
    policy.mode = Mode::Enforce;
    let world = World::with(Setup {
        callers: Some(callers(&[])),
        ..Setup::ruled(rules(vec![policy]))
    })
    .await;
    push(&world, "app");
    let (alice, bob) = (basic("alice", "one"), basic("bob", "two"));
    let scope = "&scope=repository:app:pull";
    for _ in 0..2 {
        assert_eq!(pull(&world, &alice).await.status, StatusCode::OK);
        let refused = pull(&world, &bob).await;
        refused.denies("wrong_puller");
        assert!(
            refused.message().contains("user bob"),
            "{}",
            refused.message()
        );
        // Bob gets a token, which does not say what he may pull with it.
        let token = token_in(&token_for(&world, scope, &bob).await);
        pull(&world, &token).await.denies("wrong_puller");
        let token = token_in(&token_for(&world, scope, &alice).await);
        assert_eq!(pull(&world, &token).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn tokens_are_asked_for_with_get() {
    let world = world_of(callers(&[])).await;
    let alice = [("authorization", basic("alice", "one"))];
    let alice: Vec<(&str, &str)> = alice.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let post = world.ask(Method::POST, "/token", &alice).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    let answer = world.ask(Method::GET, "/token", &alice).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let nobody = world.get("/token").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert!(nobody.header("www-authenticate").starts_with("Basic "));
    // Where nobody is asked who they are, there is no token endpoint.
    let open = World::new().await;
    assert_eq!(open.get("/token").await.status, StatusCode::NOT_FOUND);
}

/// What is logged, for a test to read.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// Credentials are in no line of log, no record and no metric, whatever becomes of them.
#[tokio::test]
async fn no_credential_is_written_down() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The test's runtime has one thread, so that this hears all of it.
    let _guard = tracing::subscriber::set_default(subscriber);
    // While there is one subscriber alone, a place that logs for the first time on the thread of another
    // test, which has none, is taken to interest nobody. So there are two.
    let deaf = tracing_subscriber::fmt().with_writer(std::io::sink);
    let _second = tracing::Dispatch::new(deaf.with_max_level(tracing::Level::TRACE).finish());
    let issuer = Issuer::start().await.expect("a port");
    let text = format!("alice:{}\n", hash("the-right-word"));
    let settings = Settings {
        users: Some(Users::parse(&text).expect("users")),
        ..callers(&[(&issuer, AUDIENCE)])
    };
    let world = world_of(settings).await;
    let (now, token) = (world.now(), Token::new("me", AUDIENCE));
    let alice = basic("alice", "the-right-word");
    let mut secrets = vec!["the-right-word".to_owned(), "the-wrong-word".to_owned()];
    let own = token_in(&token_for(&world, "&scope=repository:app:pull", &alice).await);
    let mut sent = vec![alice, basic("alice", "the-wrong-word"), own];
    for fault in [None, Some(Fault::BrokenSignature), Some(Fault::UnknownKey)] {
        let wrong = fault.map_or(token.clone(), |fault| token.clone().fault(fault));
        let minted = issuer.mint(&wrong, now);
        sent.extend([format!("Bearer {minted}"), basic("any", &minted)]);
    }
    for authorization in &sent {
        for target in ["/v2/app/manifests/v1", "/v2/absent/manifests/v1", "/token"] {
            with(&world, target, authorization).await;
        }
        let credential = authorization.split_once(' ').expect("a scheme").1;
        secrets.push(credential.rsplit('.').next().expect("a part").to_owned());
    }
    let logged = String::from_utf8(lines.0.lock().expect("a lock").clone()).expect("text");
    assert!(logged.contains("the caller is not known"), "{logged}");
    let records = world.decisions.latest(1000);
    let records: Vec<Value> = records.iter().map(|record| record.to_json()).collect();
    let records = serde_json::to_string(&records).expect("JSON");
    let metrics = world.metrics.render().expect("metrics");
    for secret in secrets {
        for written in [&logged, &records, &metrics] {
            assert!(!written.contains(&secret), "{secret} is written down");
        }
    }
    assert!(!metrics.contains("alice"), "a metric names a caller");
}
