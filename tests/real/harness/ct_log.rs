//! A certificate transparency log that keeps nothing.
//!
//! Fulcio asks it for a signed certificate timestamp and embeds the answer; verifiers check the
//! signature and ask for no more. So it signs what RFC 6962 section 3.2 says, and has no tree.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use pullgate::clock::Clock;
use serde::Deserialize;
use tokio::runtime::Runtime;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::Encode;
use x509_cert::der::oid::ObjectIdentifier;

use crate::harness::pki::Pki;
use crate::harness::web;

/// The extension that marks a precertificate; it is not part of what is signed.
const POISON: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.3");

struct Log {
    key: EcdsaKeyPair,
    id: Vec<u8>,
}

#[derive(Deserialize)]
struct Submission {
    chain: Vec<String>,
}

/// Starts the log.
pub(crate) fn start(pki: &Pki, runtime: &Runtime) -> SocketAddr {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der(&pki.read("ct.key")))
        .expect("a P-256 key");
    let public = der(&pki.read("ct.pub"));
    let id = digest::digest(&digest::SHA256, &public).as_ref().to_vec();
    let log = Arc::new(Log { key, id });
    let (listener, address) = web::listen(runtime);
    runtime.spawn(web::serve(listener, move |request| {
        answer(Arc::clone(&log), request)
    }));
    address
}

async fn answer(log: Arc<Log>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !request.uri().path().ends_with("/add-pre-chain") {
        return web::status(StatusCode::NOT_FOUND);
    }
    let body = request
        .into_body()
        .collect()
        .await
        .expect("a whole request");
    let submission: Submission =
        serde_json::from_slice(&body.to_bytes()).expect("a chain, as Fulcio sends it");
    web::json(&log.sign(&submission))
}

impl Log {
    fn sign(&self, submission: &Submission) -> serde_json::Value {
        let certificates: Vec<Certificate> = submission
            .chain
            .iter()
            .map(|text| STANDARD.decode(text).expect("base64"))
            .map(|bytes| Certificate::from_der(&bytes).expect("a certificate"))
            .collect();
        let timestamp = u64::try_from(Clock::system().now().as_millisecond()).expect("after 1970");
        let signed = signed_part(&certificates[0], &certificates[1], timestamp);
        let signature = self
            .key
            .sign(&SystemRandom::new(), &signed)
            .expect("a signature");
        // A TLS "digitally-signed" struct: SHA-256, ECDSA, length, signature.
        let mut wrapped = vec![4, 3];
        wrapped.extend(
            u16::try_from(signature.as_ref().len())
                .expect("short")
                .to_be_bytes(),
        );
        wrapped.extend(signature.as_ref());
        serde_json::json!({
            "sct_version": 0,
            "id": STANDARD.encode(&self.id),
            "timestamp": timestamp,
            "extensions": "",
            "signature": STANDARD.encode(wrapped),
        })
    }
}

/// The `digitally-signed` content of RFC 6962 for a precertificate entry.
fn signed_part(leaf: &Certificate, issuer: &Certificate, timestamp: u64) -> Vec<u8> {
    let mut body = leaf.tbs_certificate.clone();
    if let Some(extensions) = &mut body.extensions {
        extensions.retain(|extension| extension.extn_id != POISON);
    }
    let body = body.to_der().expect("what was decoded can be encoded");
    let issuer_key = issuer
        .tbs_certificate
        .subject_public_key_info
        .to_der()
        .expect("what was decoded can be encoded");
    let mut signed = vec![0, 0];
    signed.extend(timestamp.to_be_bytes());
    signed.extend([0, 1]);
    signed.extend(digest::digest(&digest::SHA256, &issuer_key).as_ref());
    let length = u32::try_from(body.len())
        .expect("a small certificate")
        .to_be_bytes();
    signed.extend(&length[1..]);
    signed.extend(body);
    signed.extend([0, 0]);
    signed
}

/// The bytes inside a PEM block of any label.
pub(crate) fn der(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).expect("PEM is text");
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    STANDARD.decode(body).expect("PEM is base64")
}
