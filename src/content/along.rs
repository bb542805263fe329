//! Reading along with others, and going on alone where that cannot be.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};

use super::BlobError;

/// The rest of a blob, from a transfer of one's own.
pub(super) type Rest = BoxStream<'static, Result<Bytes, BlobError>>;

/// What comes next for a reader.
pub(super) enum Next<R> {
    Bytes(Bytes, R),
    /// It goes on alone.
    Alone(Rest),
    End,
}

enum Phase<R> {
    Along(R),
    Alone(Rest),
}

/// What a reader gets: along with others as long as `next` says so, then the rest.
pub(super) fn read_along<R, F>(
    reader: R,
    next: fn(R) -> F,
) -> impl Stream<Item = Result<Bytes, BlobError>> + Send
where
    R: Send,
    F: Future<Output = Result<Next<R>, BlobError>> + Send,
{
    stream::try_unfold(Phase::Along(reader), move |phase| async move {
        let mut rest = match phase {
            Phase::Along(reader) => match next(reader).await? {
                Next::Bytes(bytes, reader) => return Ok(Some((bytes, Phase::Along(reader)))),
                Next::End => return Ok(None),
                Next::Alone(rest) => rest,
            },
            Phase::Alone(rest) => rest,
        };
        let bytes = rest.next().await.transpose()?;
        Ok(bytes.map(|bytes| (bytes, Phase::Alone(rest))))
    })
}
