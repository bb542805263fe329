//! Accepting connections, for all servers of the sandbox.

use std::time::Duration;

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

/// Serves each connection with what `serve` makes of it, until `stopped`; connections that are
/// open then end with it.
pub(super) async fn accept<F>(
    listener: TcpListener,
    stopped: CancellationToken,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream));
                }
                // A client that left at once, or no file descriptor free until others leave.
                Err(_) => time::sleep(Duration::from_millis(5)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
