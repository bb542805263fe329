//! Several addresses, a proxy, a rest that was asked for, credentials that are kept elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn missing(upstream: &Upstream) -> impl Future<Output = Result<FetchedManifest, UpstreamError>> {
    let upstream = upstream.clone();
    async move {
        let reference = "v1".parse().expect("a tag");
        upstream.manifest(&repository(), &reference).await
    }
}

fn repository() -> Repository {
    "app".parse().expect("a repository")
}

/// An address at which nothing listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_answer_or_is_in_trouble() {
    let good = Registry::start(|_| reply(200, &[], b"{}")).await;
    // How long it is to be left alone says nothing of another.
    let broken = Registry::start(|_| reply(503, &[("Retry-After", "120")], b"")).await;
    let silent = Registry::start(|_| Reply::Drop).await;
    for first in [nobody().await, broken.url(""), silent.url("")] {
        let upstream = good.upstream_with(|settings| {
            settings.more_urls = vec![settings.url.clone()];
            settings.url = first.parse().expect("a URL");
        });
        let answered = missing(&upstream).await.expect("the second answers");
        assert_eq!(&answered.bytes[..], b"{}");
    }
    // An address that failed is passed over for a while.
    let upstream = good.upstream_with(|settings| {
        settings.more_urls = vec![settings.url.clone()];
        settings.url = broken.url("").parse().expect("a URL");
    });
    let before = broken.asked().len();
    for _ in 0..5 {
        missing(&upstream).await.expect("the second answers");
    }
    assert_eq!(broken.asked().len(), before + 1);
}

#[tokio::test]
async fn an_answer_is_an_answer_whichever_address_gives_it() {
    for (status, expected) in [(404, UpstreamError::NotFound)] {
        let first = Registry::start(move |_| reply(status, &[], b"")).await;
        let second = Registry::start(|_| reply(200, &[], b"{}")).await;
        let upstream = first.upstream_with(|settings| {
            settings.more_urls = vec![second.url("").parse().expect("a URL")];
        });
        assert_eq!(missing(&upstream).await.expect_err("no"), expected);
        assert!(second.asked().is_empty());
    }
}

/// Each address has its own token service and gets credentials that are meant for the registry;
/// none of them gets another's token.
#[tokio::test]
async fn a_token_of_one_address_is_not_shown_to_the_next() {
    let answer = |asked: &Asked, registry: &str| match asked.header("authorization") {
        _ if asked.target.starts_with("/token") => {
            reply(200, &[], format!("{{\"token\":\"of-{registry}\"}}"))
        }
        Some(token) if token == format!("Bearer of-{registry}") => reply(503, &[], b""),
        _ => {
            let host = asked.header("host").expect("a host").to_owned();
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            reply(401, &[("WWW-Authenticate", &challenge)], b"")
        }
    };
    let first = Registry::start(move |asked| answer(asked, "first")).await;
    let second = Registry::start(move |asked| answer(asked, "second")).await;
    let upstream = first.upstream_with(|settings| {
        settings.more_urls = vec![second.url("").parse().expect("a URL")];
    });
    missing(&upstream).await.expect_err("both are in trouble");
    let shown: Vec<_> = second
        .asked()
        .iter()
        .filter_map(|asked| asked.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(shown, ["Bearer of-second"]);
}

#[tokio::test]
async fn a_registry_that_asks_for_a_rest_has_it_for_that_kind() {
    let registry = Registry::start(|asked| match asked.target.contains("/manifests/") {
        true => reply(429, &[("Retry-After", "120")], b""),
        false => reply(200, &[], b"blob"),
    })
    .await;
    let upstream = registry.upstream();
    for _ in 0..10 {
        let refused = missing(&upstream).await.expect_err("a rest");
        assert!(
            matches!(refused, UpstreamError::RateLimited { retry_after: Some(wait) }
                if wait > Duration::from_secs(100)),
            "{refused:?}"
        );
    }
    assert_eq!(registry.asked().len(), 1);
    let blob = upstream
        .blob(&repository(), &Digest::sha256(b"blob"), 0)
        .await;
    blob.expect("blobs are another kind");
}

#[tokio::test]
async fn a_registry_that_is_unavailable_for_a_while_is_not_asked_meanwhile() {
    for (rest, asked) in [("120", 1), ("0", 3)] {
        let answer = move |_: &_| reply(503, &[("Retry-After", rest)], b"");
        let registry = Registry::start(answer).await;
        let upstream = registry.upstream();
        for _ in 0..3 {
            let refused = missing(&upstream).await.expect_err("a rest");
            assert!(refused.is_transient(), "{refused:?}");
        }
        assert_eq!(registry.asked().len(), asked, "{rest}");
    }
}

#[tokio::test]
async fn what_would_wait_too_long_for_its_turn_is_told_so_and_costs_the_registry_nothing() {
    let registry = Registry::start(|_| reply(200, &[], b"{}")).await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.requests_per_second_max = 2;
        settings.limits.answer_timeout = Duration::from_millis(400);
    });
    for _ in 0..2 {
        missing(&upstream).await.expect("an answer");
    }
    let turned_away = missing(&upstream).await.expect_err("not its turn");
    let queue = Stage::Queue;
    assert!(matches!(turned_away, UpstreamError::TimedOut { stage, .. } if stage == queue));
    assert_eq!(registry.asked().len(), 2);
}

#[tokio::test]
async fn whoever_waits_for_their_turn_hears_of_a_rest_meanwhile() {
    let registry = Registry::start(|_| reply(429, &[("Retry-After", "120")], b"")).await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.requests_per_second_max = 1;
    });
    let pulls = (0..2).map(|_| missing(&upstream));
    for refused in futures_util::future::join_all(pulls).await {
        let refused = refused.expect_err("a rest");
        assert!(
            matches!(refused, UpstreamError::RateLimited { .. }),
            "{refused:?}"
        );
    }
    assert_eq!(registry.asked().len(), 1);
}

/// Answers as the tag says that is asked for.
fn as_told(asked: &Asked) -> Reply {
    match asked.target.rsplit('/').next().unwrap_or_default() {
        "silent" => Reply::Hang(Vec::new()),
        "down" => reply(503, &[], b""),
        "busy" => reply(429, &[], b""),
        "gone" => reply(404, &[], b""),
        _ => reply(200, &[], b"{}"),
    }
}

#[tokio::test]
async fn a_registry_is_silent_that_gave_no_answer_in_time_and_none_since() {
    let registry = Registry::start(as_told).await;
    let upstream = registry.upstream_with(|settings| {
        settings.limits.answer_timeout = Duration::from_millis(500);
        settings.limits.blob_streams_max = 1;
    });
    assert!(!upstream.is_silent(), "nobody has asked");
    manifest(&upstream, "down").await.expect_err("in trouble");
    assert!(!upstream.is_silent(), "it says that it is in trouble");
    let held = blob(&upstream, "app", 0).await;
    let held = held.expect("a blob");
    let no_place = blob(&upstream, "app", 0).await;
    assert!(no_place.is_err());
    assert!(!upstream.is_silent(), "nothing was asked");
    manifest(&upstream, "silent").await.expect_err("too slow");
    assert!(upstream.is_silent());
    // What has asked nothing, or may have, changes nothing.
    let no_place = blob(&upstream, "app", 0).await;
    assert!(no_place.is_err());
    assert!(upstream.is_silent());
    manifest(&upstream, "busy").await.expect_err("limited");
    assert!(upstream.is_silent());
    drop(held);
    // A "no" is an answer.
    manifest(&upstream, "gone").await.expect_err("not there");
    assert!(!upstream.is_silent());
    let hurried = registry.upstream_with(|settings| {
        settings.limits.manifest_deadline = Duration::from_millis(200);
    });
    let late = manifest(&hurried, "silent").await.expect_err("too slow");
    let whole = Stage::Document;
    assert!(matches!(late, UpstreamError::TimedOut { stage, .. } if stage == whole));
    assert!(hurried.is_silent());
    let nobody = nobody().await;
    let refused = registry.upstream_with(|settings| {
        settings.url = nobody.parse().expect("a URL");
    });
    missing(&refused).await.expect_err("nobody is there");
    assert!(!refused.is_silent(), "it says at once that it is not there");
}

#[tokio::test]
async fn a_registry_is_silent_when_all_of_its_addresses_are() {
    let silent = Registry::start(|_| Reply::Hang(Vec::new())).await;
    let told = Registry::start(as_told).await;
    for (tag, expected) in [
        ("fine", false),
        ("down", false),
        ("busy", false),
        ("gone", false),
        ("silent", true),
    ] {
        let upstream = silent.upstream_with(|settings| {
            settings.more_urls = vec![told.url("").parse().expect("a URL")];
            settings.limits.answer_timeout = Duration::from_millis(500);
        });
        let _ = manifest(&upstream, tag).await;
        assert_eq!(upstream.is_silent(), expected, "{tag}");
    }
}

/// A proxy on loopback that says what it was asked for and refuses.
#[tokio::test]
async fn tls_goes_through_the_proxy_and_plain_http_does_not() {
    let proxy = Registry::start(|_| reply(403, &[], b"")).await;
    let through = |url: &str| {
        let mut settings = Settings::known("registry.acme.test".parse().expect("a host"));
        settings.url = url.parse().expect("a URL");
        let address = proxy.url("").replace("http://", "http://me:word@");
        let parsed = Proxy::parse(&address, "direct.acme.test").expect("a proxy");
        settings.proxy = Some(Arc::new(parsed));
        settings.more_urls = vec![settings.url.clone()];
        Upstream::new(settings).expect("builds")
    };
    let refused = missing(&through("https://registry.acme.test")).await;
    let UpstreamError::Unreachable { cause, .. } = refused.expect_err("refused") else {
        panic!("not said to be out of reach");
    };
    assert!(cause.contains("403") && !cause.contains("word"), "{cause}");
    let asked = proxy.asked();
    assert_eq!(asked[0].method, "CONNECT");
    assert_eq!(asked[0].target, "registry.acme.test:443");
    assert_eq!(
        asked[0].header("proxy-authorization"),
        Some("Basic bWU6d29yZA==")
    );
    let straight = Registry::start(|_| reply(200, &[], b"{}")).await;
    missing(&through(&straight.url("")))
        .await
        .expect("straight");
    assert!(proxy.asked().iter().all(|asked| asked.method == "CONNECT"));
}

/// THREATS A3: through a proxy nobody can see where a name leads, so a redirect to a host that is
/// not listed is not followed.
#[tokio::test]
async fn a3_a_redirect_that_a_proxy_would_resolve_is_not_followed() {
    let proxy = Registry::start(|_| reply(200, &[], b"")).await;
    let registry =
        Registry::start(|_| reply(307, &[("Location", "https://storage.acme.test/blob")], b""))
            .await;
    let upstream = registry.upstream_with(|settings| {
        settings.proxy = Some(Arc::new(Proxy::parse(&proxy.url(""), "").expect("a proxy")));
    });
    let refused = upstream
        .blob(&repository(), &Digest::sha256(b"blob"), 0)
        .await;
    assert!(matches!(
        refused.expect_err("refused"),
        UpstreamError::RefusedRedirect {
            reason: RedirectRefusal::NotPublic,
            ..
        }
    ));
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn kept_credentials_are_asked_for_when_the_registry_wants_them() {
    let registry = Registry::start(|asked| match asked.header("authorization") {
        Some("Basic bWU6d29yZA==") => reply(200, &[], b"{}"),
        _ => reply(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b""),
    })
    .await;
    let questions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&questions);
    let upstream = registry.upstream_with(|settings| {
        settings.credentials = Credentials::Kept(Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(("me".to_owned(), Secret::new("word"))) })
        }));
    });
    for _ in 0..3 {
        missing(&upstream).await.expect("an answer");
    }
    assert_eq!(questions.load(Ordering::SeqCst), 1);
    let upstream = registry.upstream_with(|settings| {
        settings.credentials = Credentials::Kept(Arc::new(|| {
            Box::pin(async { Err("the safe is shut".to_owned()) })
        }));
    });
    let refused = missing(&upstream).await.expect_err("no credentials");
    assert!(
        refused.to_string().contains("the safe is shut"),
        "{refused}"
    );
}
