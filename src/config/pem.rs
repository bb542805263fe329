//! PEM (RFC 7468), as far as configuration has to read it: which blocks a text has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::problem::quoted;

/// One block.
#[derive(Debug)]
pub(super) struct Block<'a> {
    /// What stands after `BEGIN`.
    pub(super) label: &'a str,
    /// The decoded content; `None` when it is not base64 or has headers (an encrypted key).
    pub(super) der: Option<Vec<u8>>,
}

/// The blocks of `text`; what stands between them is explanation.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = after.split_once("-----") else {
            break;
        };
        let end = format!("-----END {label}-----");
        let Some((body, after)) = body.split_once(end.as_str()) else {
            break;
        };
        let base64: String = body
            .chars()
            .filter(|character| !character.is_ascii_whitespace())
            .collect();
        blocks.push(Block {
            label,
            der: STANDARD.decode(base64).ok().filter(|der| !der.is_empty()),
        });
        rest = after;
    }
    blocks
}

/// True when `bytes` are PEM and every certificate among them decodes, and there is one.
pub(super) fn has_certificates(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut certificates = blocks(text)
        .into_iter()
        .filter(|block| block.label == "CERTIFICATE")
        .peekable();
    certificates.peek().is_some() && certificates.all(|block| block.der.is_some())
}

/// True when `bytes` are PEM with a private key that is not encrypted.
pub(super) fn has_private_key(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        blocks(text).iter().any(|block| {
            matches!(
                block.label,
                "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY"
            ) && block.der.is_some()
        })
    })
}

/// Why a text is not the public key that it should be, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoKey {
    pub(super) message: String,
    pub(super) mend: &'static str,
}

/// The SubjectPublicKeyInfo of the one public key in `text`.
pub(super) fn public_key(text: &str) -> Result<Vec<u8>, NoKey> {
    const WANTED: &str = "give the public key in PEM: a block that begins with \
                          `-----BEGIN PUBLIC KEY-----`";
    let refuse = |message: &str, mend| {
        Err(NoKey {
            message: message.to_owned(),
            mend,
        })
    };
    let mut blocks = blocks(text);
    if blocks.len() > 1 {
        return refuse(
            "there is more than one PEM block",
            "give each key an entry of its own, `key: [{ file: one.pub }, { file: two.pub }]`",
        );
    }
    let Some(block) = blocks.pop() else {
        return refuse("this is not a PEM block, or it has no end", WANTED);
    };
    match block.label {
        "PUBLIC KEY" => match block.der {
            Some(der) => Ok(der),
            None => refuse("the PEM block does not decode", WANTED),
        },
        "CERTIFICATE" => refuse(
            "this is a certificate, and a public key is wanted",
            "take its key: openssl x509 -in CERTIFICATE -noout -pubkey",
        ),
        "RSA PUBLIC KEY" => refuse(
            "this is an RSA key in the form of PKCS #1",
            "convert it: openssl rsa -RSAPublicKey_in -in KEY -pubout",
        ),
        label if label.ends_with("PRIVATE KEY") => refuse(
            "this is a private key, which has no place here",
            "remove it, and give the public one: cosign public-key --key KEY, or openssl pkey -in \
             KEY -pubout",
        ),
        label => Err(NoKey {
            message: format!(
                "this PEM block holds {}, and a public key is wanted",
                quoted(label)
            ),
            mend: WANTED,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n")
    }

    fn message(text: &str) -> String {
        public_key(text).expect_err("no key").message
    }

    #[test]
    fn only_one_public_key_is_a_public_key() {
        assert_eq!(public_key(&block("PUBLIC KEY")), Ok(vec![0, 1, 2]));
        assert_eq!(
            public_key(&format!(
                "comment\n{}",
                block("PUBLIC KEY").replace('\n', "\r\n")
            )),
            Ok(vec![0, 1, 2])
        );
        assert!(message(&block("EC PRIVATE KEY")).contains("private key"));
        assert!(message(&block("ENCRYPTED SIGSTORE PRIVATE KEY")).contains("private key"));
        assert!(message(&block("CERTIFICATE")).contains("certificate"));
        assert!(message(&block("RSA PUBLIC KEY")).contains("PKCS #1"));
        assert!(message(&block("PGP PUBLIC KEY BLOCK")).contains("PGP"));
        assert!(message(&block("PUBLIC KEY").repeat(2)).contains("more than one"));
        assert!(message(&block("PUBLIC KEY").replace("AAEC", "A!")).contains("decode"));
        assert!(message(&block("PUBLIC KEY").replace("AAEC", "")).contains("decode"));
        for text in [
            "",
            "AAEC",
            "-----BEGIN ",
            "-----BEGIN PUBLIC KEY-----\nAAEC",
        ] {
            assert!(message(text).contains("not a PEM block"), "{text}");
        }
    }

    #[test]
    fn certificates_and_private_keys_are_told_apart() {
        let certificate = block("CERTIFICATE");
        let key = block("PRIVATE KEY");
        assert!(has_certificates(format!("{key}{certificate}").as_bytes()));
        assert!(!has_certificates(key.as_bytes()));
        assert!(!has_certificates(
            certificate.replace("AAEC", "!").as_bytes()
        ));
        assert!(!has_certificates(b"\xff"));
        assert!(has_private_key(key.as_bytes()));
        assert!(!has_private_key(certificate.as_bytes()));
        assert!(!has_private_key(block("ENCRYPTED PRIVATE KEY").as_bytes()));
    }
}
