//! Error bodies (OCI distribution-spec, "Error codes").

use serde_json::json;

/// A code of the distribution-spec's table, and the few that registries share beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The blob is not there.
    BlobUnknown,
    /// The manifest is not there.
    ManifestUnknown,
    /// The manifest does not parse.
    ManifestInvalid,
    /// The repository name is not valid.
    NameInvalid,
    /// The repository, or the registry it is named under, is not known.
    NameUnknown,
    /// The digest is not valid.
    DigestInvalid,
    /// The caller is not known.
    Unauthorized,
    /// Policy says no.
    Denied,
    /// The operation is not one that a mirror has.
    Unsupported,
    /// The caller asks too often.
    TooManyRequests,
    /// The answer is not known now; asking again later may help. (Not in the
    /// specification's table; registries in the field use it.)
    Unavailable,
    /// The requested range lies outside of the blob.
    RangeInvalid,
}

impl ErrorCode {
    /// The code as it stands in the body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::RangeInvalid => "RANGE_INVALID",
        }
    }
}

/// One error, as the body `{"errors":[{code, message, detail}]}`.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorBody {
    /// The code.
    pub code: ErrorCode,
    /// What people read; no client shows `detail`.
    pub message: String,
    /// What programs read; an object, or null.
    pub detail: serde_json::Value,
}

impl ErrorBody {
    /// The body's JSON bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json!({"errors": [{
            "code": self.code.as_str(),
            "message": self.message,
            "detail": self.detail,
        }]})
        .to_string()
        .into_bytes()
    }
}
