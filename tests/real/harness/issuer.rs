//! An OpenID provider under the name of a public one.
//!
//! Fulcio writes the issuer's URL into each certificate, and policies say `github-actions`. So
//! Fulcio is made to believe that this provider is GitHub's: it reaches it through a proxy that
//! connects that one host name to loopback, and trusts a certificate for it that was made here.
//! The certificates are worth something under this world's root only.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RSA_PKCS1_SHA256 as RSA_PKCS1_SHA256_SIGNING;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;
use pullgate::clock::Clock;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::harness::ct_log::der;
use crate::harness::pki::ISSUER_HOST;
use crate::harness::pki::Pki;
use crate::harness::proxy::Proxy;
use crate::harness::web;

/// The provider, which mints tokens for whoever asks.
#[derive(Clone)]
pub(crate) struct Issuer {
    key: Arc<KeyPair>,
    proxy: SocketAddr,
}

impl Issuer {
    /// Starts the provider and the proxy that leads to it.
    pub(crate) fn start(pki: &Pki, runtime: &Runtime) -> Self {
        let key = Arc::new(KeyPair::from_pkcs8(&der(&pki.read("issuer.key"))).expect("a key"));
        let (listener, provider) = web::listen(runtime);
        runtime.spawn(serve_tls(listener, acceptor(pki), Arc::clone(&key)));
        let proxy = Proxy::start(&format!("{ISSUER_HOST}:443"), provider, runtime);
        Self {
            key,
            proxy: proxy.address(),
        }
    }

    /// The proxy that Fulcio has to use.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// The token of a release workflow in `repository` on the main branch.
    pub(crate) fn token(&self, repository: &str) -> String {
        let header = json!({"alg": "RS256", "kid": "1", "typ": "JWT"});
        let claims = claims(repository);
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256_SIGNING,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims(repository: &str) -> Value {
    let now = Clock::system().now().as_second();
    let owner = repository.split('/').next().unwrap_or_default();
    let workflow = format!("{repository}/.github/workflows/release.yml@refs/heads/main");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    json!({
        "iss": format!("https://{ISSUER_HOST}"), "aud": "sigstore",
        "iat": now, "nbf": now - 5, "exp": now + 600,
        "sub": format!("repo:{repository}:ref:refs/heads/main"),
        "ref": "refs/heads/main", "ref_type": "branch", "sha": commit,
        "repository": repository, "repository_owner": owner,
        "repository_id": "700100200", "repository_owner_id": "9001",
        "repository_visibility": "public", "event_name": "push", "workflow": "release",
        "workflow_ref": workflow, "workflow_sha": commit,
        "job_workflow_ref": workflow, "job_workflow_sha": commit,
        "run_id": "18000000001", "run_number": "42", "run_attempt": "1",
        "runner_environment": "github-hosted",
    })
}

fn acceptor(pki: &Pki) -> TlsAcceptor {
    let chain = vec![CertificateDer::from(der(&pki.read("tls.pem")))];
    let key = PrivatePkcs8KeyDer::from(der(&pki.read("tls.key")));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .expect("a certificate with its key");
    TlsAcceptor::from(Arc::new(settings))
}

async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor, key: Arc<KeyPair>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, key) = (acceptor.clone(), Arc::clone(&key));
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                web::answer(stream, move |request| discover(Arc::clone(&key), request)).await;
            }
        });
    }
}

async fn discover(key: Arc<KeyPair>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let base = format!("https://{ISSUER_HOST}");
    match request.uri().path() {
        "/.well-known/openid-configuration" => web::json(&json!({
            "issuer": base,
            "jwks_uri": format!("{base}/jwks"),
            "authorization_endpoint": format!("{base}/auth"),
            "token_endpoint": format!("{base}/token"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })),
        "/jwks" => {
            let public = key.public_key();
            let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            web::json(&json!({"keys": [{
                "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
                "n": number(public.modulus().big_endian_without_leading_zero()),
                "e": number(public.exponent().big_endian_without_leading_zero()),
            }]}))
        }
        _ => web::status(StatusCode::NOT_FOUND),
    }
}
