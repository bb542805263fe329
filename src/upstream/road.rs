//! How a connection is made: straight to its host, or through the proxy.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    connect::{ResolveError, Resolver},
    proxy::Proxy,
};

/// Makes the TCP connections that TLS then runs over.
#[derive(Clone)]
pub(super) struct Road {
    pub(super) tcp: HttpConnector<Resolver>,
    pub(super) proxy: Option<Arc<Proxy>>,
    /// Only public addresses may be connected to. A proxy resolves names itself, so through it
    /// nobody can tell, and such a connection is not made.
    pub(super) public_only: bool,
}

type Connected = Result<TokioIo<TcpStream>, Box<dyn Error + Send + Sync>>;

impl Service<Uri> for Road {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Connected> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let proxy = self.proxy.clone().filter(|proxy| proxy.is_for(&target));
        let Some(proxy) = proxy else {
            let connecting = self.tcp.call(target);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        if self.public_only {
            return Box::pin(async { Err(ResolveError::NotPublic.into()) });
        }
        let connecting = self.tcp.call(proxy.uri().clone());
        Box::pin(async move { Ok(proxy.open(connecting.await?, &target).await?) })
    }
}
