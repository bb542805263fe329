//! The encodings that minting is made of: DER, PEM, base64, SHA-256.
//!
//! RFC 3161 tokens and SCTs are assembled from [`tlv`] and plain bytes, so that the code reads
//! like the standard and a fault can put any bytes anywhere.

use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_cert::der::Encode;
use x509_cert::der::pem::{self, LineEnding};

/// The value of something that cannot fail, because the sandbox made its parts.
#[track_caller]
#[expect(
    clippy::expect_used,
    reason = "a failure is a bug of the sandbox, which only the demo, tests and benches link"
)]
pub(in crate::sandbox) fn built<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("the sandbox builds only from parts that it made itself")
}

/// The DER encoding of `value`.
pub(super) fn der(value: &impl Encode) -> Vec<u8> {
    built(value.to_der())
}

/// One DER element: a tag byte, the length and the concatenated parts.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut element = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => element.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            element.push(0x80 | built(u8::try_from(length.len())));
            element.extend(length);
        }
    }
    element.extend(content);
    element
}

/// Standard base64 with padding.
pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A PEM document.
pub(in crate::sandbox) fn pem(label: &str, der: &[u8]) -> String {
    built(pem::encode_string(label, LineEnding::LF, der))
}

/// The SHA-256 of the concatenated parts.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// Random bytes.
pub(in crate::sandbox) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    built(aws_lc_rs::rand::fill(&mut bytes));
    bytes
}
