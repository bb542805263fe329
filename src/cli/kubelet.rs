//! `pullgate kubelet-credential-provider`: the kubelet's credential provider API, version 1
//! (KEP-2133, KEP-4412). The kubelet starts it with a request on stdin, in which is a token of
//! the pod's service account, and reads from stdout what to log in with: that very token, so
//! that the pod pulls as itself.
//!
//! It asks nobody and needs no configuration. Whether the token is good is for the gate to say;
//! here it is only read as far as its end, since an answer must not be kept for longer.

use std::io::{Read, Write};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Clock;

const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
/// The largest request that is read, in bytes. A token has a few kilobytes.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// How long before its end a token is no longer handed out, in seconds: a pull takes a while.
const MARGIN: i64 = 30;
/// The user name beside the token. The gate does not look at it.
const USERNAME: &str = "serviceaccount";
/// Where images without a registry come from.
const DEFAULT_HOST: &str = "docker.io";

/// Why there is no answer. None of the texts has anything of the token.
#[derive(Debug, thiserror::Error)]
enum KubeletError {
    /// The kubelet's end of the pipe broke.
    #[error("cannot read the request or write the answer: {0}")]
    Pipe(#[from] std::io::Error),
    /// Longer than any request is.
    #[error("the request has more than {REQUEST_BYTES_MAX} bytes")]
    TooLarge,
    /// No JSON, or without what a request has.
    #[error("this is no CredentialProviderRequest: {0}")]
    Request(serde_json::Error),
    /// Another version, most likely by `apiVersion` in the kubelet's configuration.
    #[error("the request is {kind} of {version:?}, and wanted is one of {API_VERSION}")]
    Version {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        version: String,
    },
    /// The image has no name.
    #[error("the request names no image")]
    NoImage,
    /// Not three parts, no JSON within, or no end.
    #[error("the service account token in the request is no token with an end (`exp`)")]
    Token,
    /// The token's end has come.
    #[error("the service account token in the request has ended")]
    Ended,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    kind: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    service_account_token: String,
}

pub(super) fn run(clock: &Clock) -> ExitCode {
    match answer_to(std::io::stdin().lock(), clock.now()) {
        Ok(answer) => match writeln!(std::io::stdout().lock(), "{answer}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&KubeletError::Pipe(error)),
        },
        Err(error) => failed(&error),
    }
}

fn failed(error: &KubeletError) -> ExitCode {
    // The kubelet puts what stands here into its log.
    eprintln!("pullgate: {error}");
    ExitCode::FAILURE
}

fn answer_to(stdin: impl Read, now: Timestamp) -> Result<Value, KubeletError> {
    let mut text = Vec::new();
    stdin.take(REQUEST_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > REQUEST_BYTES_MAX {
        return Err(KubeletError::TooLarge);
    }
    let request: Request = serde_json::from_slice(&text).map_err(KubeletError::Request)?;
    answer(&request, now)
}

/// A `CredentialProviderResponse`.
fn answer(request: &Request, now: Timestamp) -> Result<Value, KubeletError> {
    let Request {
        api_version,
        kind,
        image,
        service_account_token: token,
    } = request;
    if api_version != API_VERSION || kind != "CredentialProviderRequest" {
        return Err(KubeletError::Version {
            kind: kind.clone(),
            version: api_version.clone(),
        });
    }
    let host = host(image).ok_or(KubeletError::NoImage)?;
    let mut answer = json!({
        "apiVersion": API_VERSION,
        "kind": "CredentialProviderResponse",
        // One answer is good for all images of the host; the kubelet keeps those of other
        // service accounts apart itself (`tokenAttributes.cacheType`).
        "cacheKeyType": "Registry",
        "cacheDuration": "0s",
        "auth": {},
    });
    // A pod without a service account, or a kubelet that sends no tokens: nothing to log in
    // with, which is no error, since the node may be one who may pull.
    if token.is_empty() {
        return Ok(answer);
    }
    let left = end_of(token)?.saturating_sub(now.as_second());
    if left <= 0 {
        return Err(KubeletError::Ended);
    }
    answer["cacheDuration"] = format!("{}s", (left - MARGIN).max(0)).into();
    answer["auth"][host] = json!({"username": USERNAME, "password": token});
    Ok(answer)
}

/// The registry of an image's name, as the kubelet writes names.
fn host(image: &str) -> Option<&str> {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    if rest.is_empty() {
        return None;
    }
    let is_host = first.contains(['.', ':']) || first == "localhost";
    Some(if is_host { first } else { DEFAULT_HOST })
}

/// The `exp` of a token, unverified.
fn end_of(token: &str) -> Result<i64, KubeletError> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(KubeletError::Token);
    };
    let claims = URL_SAFE_NO_PAD
        .decode(claims)
        .map_err(|_| KubeletError::Token)?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| KubeletError::Token)?;
    // A NumericDate may have a fraction (RFC 7519, section 2); it is cut off.
    let end = &claims["exp"];
    let whole = end.as_i64().or_else(|| end.as_f64().map(|end| end as i64));
    whole.ok_or(KubeletError::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }

    fn token(claims: &Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part("{}"), part(&claims.to_string()), part("s"))
    }

    fn ask(request: &Value) -> Result<Value, KubeletError> {
        answer_to(request.to_string().as_bytes(), now())
    }

    fn request(image: &str, token: &str) -> Value {
        json!({
            "kind": "CredentialProviderRequest",
            "apiVersion": API_VERSION,
            "image": image,
            "serviceAccountToken": token,
            "serviceAccountAnnotations": null,
        })
    }

    /// An exchange as the API's documentation has it: names and kinds of the members.
    #[test]
    fn the_documented_exchange() {
        let recorded = include_str!("../../tests/kubelet/exchange.txt");
        let mut parts = recorded.split("-- ").skip(1).map(|part| {
            let (name, text) = part.split_once(" --\n").expect("a part");
            (name, text.trim_end())
        });
        let (name, request) = parts.next().expect("a request");
        assert_eq!(name, "request");
        let (name, expected) = parts.next().expect("a response");
        assert_eq!(name, "response");
        let got = answer_to(request.as_bytes(), now()).expect("an answer");
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(got, expected);
    }

    #[test]
    fn the_answer_is_for_the_host_of_the_image() {
        let token = token(&json!({"exp": now().as_second() + 600}));
        for (image, host) in [
            ("registry.acme.test/team-a/app", "registry.acme.test"),
            ("registry.acme.test:5000/app", "registry.acme.test:5000"),
            ("localhost/app:v1", "localhost"),
            (
                "127.0.0.1:5080/registry.acme.test/app@sha256:0",
                "127.0.0.1:5080",
            ),
            ("docker.io/library/busybox", "docker.io"),
            ("library/busybox", "docker.io"),
            ("busybox:1.36", "docker.io"),
        ] {
            let answer = ask(&request(image, &token)).expect("an answer");
            let auth = answer["auth"].as_object().expect("a mapping");
            assert_eq!(auth.keys().collect::<Vec<_>>(), [host], "{image}");
            assert_eq!(auth[host]["password"], token);
            assert_eq!(answer["cacheKeyType"], "Registry");
        }
    }

    #[test]
    fn an_answer_does_not_outlive_the_token() {
        let lasts = |seconds: i64| {
            let token = token(&json!({"exp": now().as_second() + seconds}));
            ask(&request("a.test/b", &token)).map(|answer| answer["cacheDuration"].clone())
        };
        assert_eq!(lasts(3600).expect("an answer"), "3570s");
        assert_eq!(lasts(10).expect("an answer"), "0s");
        assert!(matches!(lasts(0), Err(KubeletError::Ended)));
        assert!(matches!(lasts(-5), Err(KubeletError::Ended)));
    }

    #[test]
    fn a_pod_without_a_token_has_nothing_to_log_in_with() {
        let answer = ask(&request("a.test/b", "")).expect("an answer");
        assert_eq!(
            (&answer["auth"], &answer["cacheDuration"]),
            (&json!({}), &json!("0s"))
        );
    }

    #[test]
    fn what_is_no_request_has_no_answer_and_no_token_is_told() {
        let secret = "c2VjcmV0";
        let large = " ".repeat(1 << 20) + "{} ";
        for text in [
            String::new(),
            "{}".to_owned(),
            large,
            request("a.test/b", secret).to_string(),
            request("a.test/b", &format!("{secret}.{secret}.{secret}")).to_string(),
            request("a.test/b", &token(&json!({"sub": "x"}))).to_string(),
            request("", &token(&json!({"exp": 2_000_000_000}))).to_string(),
            request("a.test/b", "")
                .to_string()
                .replace("k8s.io/v1", "k8s.io/v1beta1"),
        ] {
            let error = answer_to(text.as_bytes(), now()).expect_err("no answer");
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }
}
