//! What a request for a blob is answered with: all of it, or a part.

use bytes::Bytes;

use super::BlobBody;
use crate::oci::Digest;
use crate::upstream::UpstreamError;

/// A range of bytes that a client asks for (RFC 9110, section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first position to the last, both counted.
    FromTo(u64, u64),
    /// From a position to the end.
    From(u64),
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// The first and last position in a blob of `size` bytes; `None` when it lies outside.
    #[must_use]
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        let end = size.checked_sub(1)?;
        match self {
            Self::FromTo(first, last) => {
                (first <= last && first <= end).then(|| (first, last.min(end)))
            }
            Self::From(first) => (first <= end).then_some((first, end)),
            Self::Last(count) => (count > 0).then(|| (size.saturating_sub(count), end)),
        }
    }
}

/// What to answer a request for a blob with.
#[derive(Debug)]
pub enum BlobAnswer {
    /// All of it.
    Whole {
        /// Its size in bytes: known where it was held, else the upstream's claim.
        size: Option<u64>,
        /// The bytes.
        body: BlobBody,
    },
    /// The part that was asked for.
    Part {
        /// The first position.
        first: u64,
        /// The last position, counted.
        last: u64,
        /// The size of the whole in bytes.
        size: u64,
        /// The bytes of the part.
        body: BlobBody,
    },
    /// The part that was asked for lies outside.
    Outside {
        /// The size of the whole in bytes.
        size: u64,
    },
}

impl BlobAnswer {
    /// An answer from verified bytes.
    #[must_use]
    pub fn held(bytes: Bytes, range: Option<ByteRange>) -> Self {
        let size = bytes.len() as u64;
        let Some(range) = range else {
            return Self::Whole {
                size: Some(size),
                body: BlobBody::Held(Some(bytes)),
            };
        };
        let Some((first, last)) = range.within(size) else {
            return Self::Outside { size };
        };
        // Both positions lie within a length that is a usize.
        let part = bytes.slice(first as usize..=last as usize);
        Self::Part {
            first,
            last,
            size,
            body: BlobBody::Held(Some(part)),
        }
    }
}

/// Why a blob broke off.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// The upstream broke off, or took too long, and went on doing so.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The bytes are not those of the digest, or more or fewer than announced.
    #[error("the upstream was asked for {expected} and sent other bytes")]
    WrongBytes {
        /// What was asked for.
        expected: Digest,
    },
    /// A file of the cache was damaged; it is removed, and asking again helps.
    #[error("the cached copy of {expected} was damaged")]
    Corrupt {
        /// What was asked for.
        expected: Digest,
    },
    /// The work that brings the bytes ended early: the program is shutting down, or crashed.
    #[error("the transfer was given up")]
    GivenUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_within() {
        assert_eq!(ByteRange::FromTo(0, 3).within(10), Some((0, 3)));
        assert_eq!(ByteRange::FromTo(5, 99).within(10), Some((5, 9)));
        assert_eq!(ByteRange::FromTo(4, 3).within(10), None);
        assert_eq!(ByteRange::From(9).within(10), Some((9, 9)));
        assert_eq!(ByteRange::From(10).within(10), None);
        assert_eq!(ByteRange::Last(3).within(10), Some((7, 9)));
        assert_eq!(ByteRange::Last(30).within(10), Some((0, 9)));
        assert_eq!(ByteRange::Last(0).within(10), None);
        assert_eq!(ByteRange::From(0).within(0), None);
    }
}
