//! Blobs on their way out: held bytes, or a stream that is hashed as it passes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::oci::Digest;
use crate::oci::Hasher;
use crate::upstream::BlobStream;
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

    pub(super) fn stream(size: Option<u64>, stream: BlobStream, digest: Digest) -> Self {
        let body = Verified {
            stream,
            expected: digest,
            hasher: Some(Hasher::new(digest.algorithm())),
            withheld: None,
            left: size,
        };
        Self::Whole {
            size,
            body: BlobBody::Stream(Box::new(body)),
        }
    }
}

/// Why a blob broke off.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The upstream broke off, or took too long.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The bytes are not those of the digest, or more or fewer than announced.
    #[error("the upstream was asked for {expected} and sent other bytes")]
    WrongBytes {
        /// What was asked for.
        expected: Digest,
    },
}

/// The bytes of a blob.
#[derive(Debug)]
pub enum BlobBody {
    /// Bytes that are held and known to be right.
    Held(Option<Bytes>),
    /// Bytes that are hashed as they pass.
    Stream(Box<Verified>),
}

/// A stream that withholds its last bytes until all of them have hashed to the digest: who
/// reads it to its end has the right bytes, and who got the wrong ones got no end.
#[derive(Debug)]
pub struct Verified {
    stream: BlobStream,
    expected: Digest,
    /// Taken when the stream has ended, well or badly.
    hasher: Option<Hasher>,
    /// The latest bytes, which may be the last.
    withheld: Option<Bytes>,
    /// Bytes still to come by the upstream's claim.
    left: Option<u64>,
}

impl Verified {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BlobError>>> {
        while let Some(hasher) = &mut self.hasher {
            match Pin::new(&mut self.stream).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => {
                    self.hasher = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    hasher.update(&bytes);
                    let counted = self.left.map(|left| left.checked_sub(bytes.len() as u64));
                    match counted {
                        Some(None) => return Poll::Ready(Some(Err(self.wrong()))),
                        Some(left) => self.left = left,
                        None => {}
                    }
                    if let Some(earlier) = self.withheld.replace(bytes) {
                        return Poll::Ready(Some(Ok(earlier)));
                    }
                }
                Poll::Ready(None) => {
                    let right = self.left.is_none_or(|left| left == 0);
                    let found = self.hasher.take().map(Hasher::finish);
                    if !right || found != Some(self.expected) {
                        return Poll::Ready(Some(Err(self.wrong())));
                    }
                    return Poll::Ready(self.withheld.take().map(Ok));
                }
            }
        }
        Poll::Ready(None)
    }

    fn wrong(&mut self) -> BlobError {
        self.hasher = None;
        self.withheld = None;
        BlobError::WrongBytes {
            expected: self.expected,
        }
    }
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let polled = match self.get_mut() {
            Self::Held(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Stream(verified) => verified.poll(cx),
        };
        polled.map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(verified) => verified.hasher.is_none() && verified.withheld.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
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
