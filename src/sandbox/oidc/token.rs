//! Tokens: what they say, and how they are wrong (RFC 7519, RFC 7515).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::key::{Algorithm, SigningKey, base64url};

/// How long a token is good, in seconds, where nothing else is said.
const LIFETIME: i64 = 600;

/// What an issuer is to mint. Without more it is a good token, signed with ES256, for ten
/// minutes, of this subject and for this audience.
#[derive(Debug, Clone)]
pub struct Token {
    algorithm: Algorithm,
    claims: Map<String, Value>,
    absent: Vec<String>,
    fault: Option<Fault>,
}

/// How a token is wrong although its claims are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `alg: none`, and no signature.
    NoAlgorithm,
    /// `alg: HS256`, with the public key as the secret.
    HmacWithPublicKey,
    /// Names a key that is not published, and is signed with it.
    UnknownKey,
    /// Names a key that is published, and is signed with another.
    ForeignKey,
    /// Names no key.
    NoKeyId,
    /// Brings its own key in the header (`jwk`), and is signed with that.
    OwnKey,
    /// One bit of the signature is another.
    BrokenSignature,
    /// The claims were changed after signing.
    ChangedClaims,
    /// Has a `crit` extension that nobody knows (RFC 7515, section 4.1.11).
    CriticalExtension,
}

impl Token {
    /// A good token.
    #[must_use]
    pub fn new(subject: &str, audience: &str) -> Self {
        Self {
            algorithm: Algorithm::Es256,
            claims: Map::new(),
            absent: Vec::new(),
            fault: None,
        }
        .claim("sub", subject)
        .claim("aud", audience)
    }

    /// Signed otherwise.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// With this claim, in place of one that it has by that name: `iss`, `exp`, `nbf` and `iat`
    /// too.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without the claim of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self.absent.push(name.to_owned());
        self
    }

    /// Good from `start` to `end`.
    #[must_use]
    pub fn valid(self, start: Timestamp, end: Timestamp) -> Self {
        self.claim("iat", start.as_second())
            .claim("nbf", start.as_second())
            .claim("exp", end.as_second())
    }

    /// Wrong in this way.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(super) fn signed_with(&self) -> Algorithm {
        self.algorithm
    }

    /// The token as it travels.
    pub(super) fn minted(&self, issuer: &str, key: &SigningKey, now: Timestamp) -> String {
        let claims = self.claims_at(issuer, now);
        let other = || SigningKey::generate(self.algorithm);
        let name = key.algorithm().name();
        let header = |kid: &str| json!({"alg": name, "typ": "JWT", "kid": kid});
        let honest =
            |key: &SigningKey, header: &Value| signed(header, &claims, |message| key.sign(message));
        match self.fault {
            None => honest(key, &header(key.id())),
            Some(Fault::NoAlgorithm) => {
                let header = json!({"alg": "none", "typ": "JWT", "kid": key.id()});
                signed(&header, &claims, |_| Vec::new())
            }
            Some(Fault::HmacWithPublicKey) => {
                let header = json!({"alg": "HS256", "typ": "JWT", "kid": key.id()});
                signed(&header, &claims, |message| key.confuse(message))
            }
            Some(Fault::UnknownKey) => {
                let other = other();
                honest(&other, &header(other.id()))
            }
            Some(Fault::ForeignKey) => honest(&other(), &header(key.id())),
            Some(Fault::NoKeyId) => honest(key, &json!({"alg": name, "typ": "JWT"})),
            Some(Fault::OwnKey) => {
                let other = other();
                let mut header = header(other.id());
                header["jwk"] = other.jwk();
                honest(&other, &header)
            }
            Some(Fault::BrokenSignature) => signed(&header(key.id()), &claims, |message| {
                let mut signature = key.sign(message);
                let middle = signature.len() / 2;
                signature[middle] ^= 1;
                signature
            }),
            Some(Fault::ChangedClaims) => {
                let good = honest(key, &header(key.id()));
                let mut changed = claims.clone();
                changed["sub"] = "somebody-else".into();
                let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
                parts[1] = base64url(changed.to_string());
                parts.join(".")
            }
            Some(Fault::CriticalExtension) => {
                let mut header = header(key.id());
                header["crit"] = json!(["pullgate-test"]);
                header["pullgate-test"] = true.into();
                honest(key, &header)
            }
        }
    }

    fn claims_at(&self, issuer: &str, now: Timestamp) -> Value {
        let now = now.as_second();
        let mut claims = json!({"iss": issuer, "iat": now, "nbf": now, "exp": now + LIFETIME});
        for (name, value) in &self.claims {
            claims[name] = value.clone();
        }
        if let Value::Object(claims) = &mut claims {
            claims.retain(|name, _| !self.absent.contains(name));
        }
        claims
    }
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!(
        "{}.{}",
        base64url(header.to_string()),
        base64url(claims.to_string())
    );
    let signature = base64url(sign(message.as_bytes()));
    format!("{message}.{signature}")
}
