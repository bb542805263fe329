//! Content digests (OCI image-spec, descriptor.md, "Digests").

use std::{fmt, str::FromStr};

use memchr::memchr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A registered digest algorithm (image-spec, descriptor.md, "Registered algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: 64 hexadecimal digits.
    Sha256,
    /// SHA-512: 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn implementation(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Sha256 => &aws_lc_rs::digest::SHA256,
            Self::Sha512 => &aws_lc_rs::digest::SHA512,
        }
    }
}

/// A valid digest: a registered algorithm and exactly as many lower-case hexadecimal digits
/// as it has. Anything else (`sha256:../../x`, upper case, `md5:`) does not parse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest.
    Sha512([u8; 64]),
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// There is no `algorithm:` in front; most likely a tag was given where a digest belongs.
    #[error("a digest has the form sha256:<64 hexadecimal digits>")]
    NoAlgorithm,
    /// The algorithm is not one the image-spec registers.
    #[error("the digest algorithm is not sha256 or sha512")]
    UnknownAlgorithm,
    /// Wrong number of digits, upper case, or something else than hexadecimal.
    #[error("a {0} digest has {1} lower-case hexadecimal digits after the colon")]
    NotHexadecimal(&'static str, usize),
}

impl Digest {
    /// The digest of `bytes` by `algorithm`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// The digest that these raw bytes are; `None` where they are not as many as it has.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => bytes.try_into().map(Self::Sha256).ok(),
            Algorithm::Sha512 => bytes.try_into().map(Self::Sha512).ok(),
        }
    }

    /// Which algorithm made it.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The part after the colon.
    #[must_use]
    pub fn hex(&self) -> String {
        const_hex::encode(self.as_bytes())
    }

    /// True when `bytes` hash to this digest.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::of(self.algorithm(), bytes) == *self
    }
}

/// The bytes that these digits stand for.
fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The library takes upper case as well; and `0x` in front, beside which there is no room.
    let upper = |seen, byte: u8| seen | byte.is_ascii_uppercase();
    let fits = text.len() == N * 2 && !text.bytes().fold(false, upper);
    fits.then(|| const_hex::decode_to_array(text).ok())?
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let colon = memchr(b':', text.as_bytes()).ok_or(ParseDigestError::NoAlgorithm)?;
        let (algorithm, hex) = (&text[..colon], &text[colon + 1..]);
        match algorithm {
            "sha256" => decode_hex(hex)
                .map(Self::Sha256)
                .ok_or(ParseDigestError::NotHexadecimal("sha256", 64)),
            "sha512" => decode_hex(hex)
                .map(Self::Sha512)
                .ok_or(ParseDigestError::NotHexadecimal("sha512", 128)),
            _ => Err(ParseDigestError::UnknownAlgorithm),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Hashes bytes as they stream by.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: aws_lc_rs::digest::Context,
}

impl Hasher {
    /// A hasher for `algorithm`.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            context: aws_lc_rs::digest::Context::new(algorithm.implementation()),
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        let output = self.context.finish();
        let output = output.as_ref();
        match self.algorithm {
            Algorithm::Sha256 => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(output);
                Digest::Sha256(bytes)
            }
            Algorithm::Sha512 => {
                let mut bytes = [0; 64];
                bytes.copy_from_slice(output);
                Digest::Sha512(bytes)
            }
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_the_round_trip() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let long = Digest::of(Algorithm::Sha512, b"pullgate");
        assert_eq!(long.to_string().parse(), Ok(long));
    }

    // THREATS A6 (CVE-2024-3727): a digest is never a path.
    #[test]
    fn what_is_not_a_digest_does_not_parse() {
        let zeros = "0".repeat(64);
        for text in [
            "sha256:../../x".to_owned(),
            "sha256".to_owned(),
            String::new(),
            format!("sha256:{}", "A".repeat(64)),
            format!("SHA256:{zeros}"),
            format!("md5:{}", "0".repeat(32)),
            format!("sha256:{zeros}0"),
            format!("sha256:{zeros} "),
            format!("sha256:{}A", &zeros[1..]),
            format!("sha256:{}g", &zeros[1..]),
            format!("sha256:{}ä", &zeros[2..]),
            format!("sha256:0x{}", &zeros[2..]),
            format!("sha256:0x{zeros}"),
            format!("sha512:{zeros}"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} parsed");
        }
    }
}
