//! The issuer is held against a library that others verify tokens with.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::*;
use crate::sandbox::client::Client;

fn now() -> Timestamp {
    crate::clock::Clock::system().now()
}

async fn get(issuer: &Issuer, path: &str) -> Value {
    let client = Client::new(issuer.shared.address);
    let path = format!("{}{path}", issuer.shared.path);
    let answer = client.get(&path).await.expect("an answer");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Whether a relying party that goes by the book takes the token.
async fn is_taken(issuer: &Issuer, token: &str) -> bool {
    let keys: JwkSet = serde_json::from_value(get(issuer, KEYS).await).expect("keys");
    let Ok(header) = decode_header(token) else {
        return false;
    };
    let Some(key) = header.kid.and_then(|kid| keys.find(&kid).cloned()) else {
        return false;
    };
    let algorithm = key.common.key_algorithm.expect("an algorithm");
    let algorithm = algorithm.to_string().parse().expect("one that signs");
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["pullgate"]);
    validation.set_issuer(&[issuer.url()]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.validate_nbf = true;
    let key = DecodingKey::from_jwk(&key).expect("a key");
    decode::<Value>(token, &key, &validation).is_ok()
}

#[tokio::test]
async fn tokens_of_every_algorithm_verify_by_the_published_keys() {
    let issuer = Issuer::start_at("/tenant-a").await.expect("a port");
    let discovery = get(&issuer, DISCOVERY).await;
    assert_eq!(discovery["issuer"], issuer.url());
    assert_eq!(discovery["jwks_uri"], format!("{}{KEYS}", issuer.url()));
    for algorithm in Algorithm::ALL {
        let token = Token::new("alice", "pullgate").algorithm(algorithm);
        let token = issuer.mint(&token, now());
        assert!(is_taken(&issuer, &token).await, "{algorithm:?}");
    }
    assert_eq!(issuer.count(DISCOVERY), 1);
    assert_eq!(issuer.count(KEYS), Algorithm::ALL.len());
}

#[tokio::test]
async fn faults_are_faults() {
    let issuer = Issuer::start().await.expect("a port");
    let good = Token::new("alice", "pullgate").algorithm(Algorithm::Rs256);
    let with = |fault| good.clone().fault(fault);
    let hour = |hours: i64| now() + jiff::SignedDuration::from_hours(hours);
    let wrong = [
        with(Fault::NoAlgorithm),
        with(Fault::HmacWithPublicKey),
        with(Fault::UnknownKey),
        with(Fault::ForeignKey),
        with(Fault::NoKeyId),
        with(Fault::OwnKey),
        with(Fault::BrokenSignature),
        with(Fault::ChangedClaims),
        good.clone().without("exp"),
        good.clone().without("aud"),
        good.clone().claim("aud", "another"),
        good.clone().claim("iss", "https://issuer.test"),
        good.clone().valid(hour(-2), hour(-1)),
        good.clone().valid(hour(1), hour(2)),
    ];
    assert!(is_taken(&issuer, &issuer.mint(&good, now())).await);
    for token in wrong {
        let minted = issuer.mint(&token, now());
        assert!(!is_taken(&issuer, &minted).await, "{token:?}");
    }
}

#[tokio::test]
async fn a_key_is_rotated_away() {
    let issuer = Issuer::start().await.expect("a port");
    let token = Token::new("alice", "pullgate");
    let old = issuer.mint(&token, now());
    assert!(is_taken(&issuer, &old).await);
    issuer.rotate(Algorithm::Es256);
    assert!(!is_taken(&issuer, &old).await);
    assert!(is_taken(&issuer, &issuer.mint(&token, now())).await);
}

#[tokio::test]
async fn misdeeds_are_done() {
    let issuer = Issuer::start().await.expect("a port");
    let client = Client::new(issuer.shared.address);
    issuer.misbehave(Misdeed::Down);
    let answer = client.get(DISCOVERY).await.expect("an answer");
    assert_eq!(answer.status, 503);
    issuer.misbehave(Misdeed::OtherIssuer("https://mallory.test".to_owned()));
    assert_eq!(
        get(&issuer, DISCOVERY).await["issuer"],
        "https://mallory.test"
    );
    issuer.misbehave(Misdeed::LargeKeys(1 << 20));
    let answer = client.get(KEYS).await.expect("an answer");
    assert_eq!(answer.body.len(), 1 << 20);
    issuer.misbehave(Misdeed::Redirect("http://127.0.0.1:1/keys".to_owned()));
    let answer = client.get(KEYS).await.expect("an answer");
    assert_eq!(answer.header("location"), Some("http://127.0.0.1:1/keys"));
    issuer.behave();
    assert_eq!(get(&issuer, DISCOVERY).await["issuer"], issuer.url());
}
