//! The way out through a proxy: whom it is for, and the CONNECT that opens it (RFC 9110, 9.3.6).

use std::{fmt, io};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Secret;

/// The most that a proxy may say before the tunnel opens, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// A proxy that TLS connections are tunnelled through, as `HTTPS_PROXY` and `NO_PROXY` name it.
#[derive(Clone)]
pub struct Proxy {
    uri: Uri,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
    exceptions: Vec<String>,
}

/// Why a text names no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseProxyError {
    /// It is not a URL with a host.
    #[error("a proxy is named as http://[user:password@]host:port")]
    NotAnUrl,
    /// TLS to the proxy itself, or SOCKS.
    #[error("only http:// proxies are spoken to; what goes through them is TLS all the same")]
    Scheme,
}

impl Proxy {
    /// Reads the values of `HTTPS_PROXY` and `NO_PROXY`. Of the latter, `*` is everything, a name
    /// is itself and all below it, and an address is itself.
    ///
    /// # Errors
    /// [`ParseProxyError`]; it does not repeat the text, which may hold a password.
    pub fn parse(proxy: &str, exceptions: &str) -> Result<Self, ParseProxyError> {
        let text = if proxy.contains("://") {
            proxy.to_owned()
        } else {
            format!("http://{proxy}")
        };
        let uri: Uri = text.parse().map_err(|_| ParseProxyError::NotAnUrl)?;
        if uri.scheme_str() != Some("http") {
            return Err(ParseProxyError::Scheme);
        }
        let authority = uri.authority().ok_or(ParseProxyError::NotAnUrl)?.as_str();
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let port = Uri::try_from(host)
            .ok()
            .and_then(|host| host.port_u16())
            .unwrap_or(80);
        let name = Uri::try_from(host).map_err(|_| ParseProxyError::NotAnUrl)?;
        let name = name.host().ok_or(ParseProxyError::NotAnUrl)?;
        let uri = format!("http://{name}:{port}");
        Ok(Self {
            uri: uri.parse().map_err(|_| ParseProxyError::NotAnUrl)?,
            authorization: login.map(|login| {
                let login = BASE64_STANDARD.encode(decoded(login));
                Secret::new(&format!("Basic {login}"))
            }),
            exceptions: exceptions
                .split([',', ' '])
                .map(|exception| {
                    exception
                        .trim()
                        .trim_start_matches("*.")
                        .trim_start_matches('.')
                })
                .filter(|exception| !exception.is_empty())
                .map(str::to_ascii_lowercase)
                .collect(),
        })
    }

    /// Where it listens.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether a connection to `target` goes through it. Only TLS does: a plain connection has no
    /// secret that a tunnel would keep. This machine is never reached by way of another.
    pub(super) fn is_for(&self, target: &Uri) -> bool {
        let Some(host) = target.host() else {
            return false;
        };
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let address = host.parse::<std::net::IpAddr>();
        let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        target.scheme_str() == Some("https") && !is_here && !self.excepts(&host, target.port_u16())
    }

    fn excepts(&self, host: &str, port: Option<u16>) -> bool {
        let port = port.unwrap_or(443).to_string();
        self.exceptions.iter().any(|exception| {
            let name = match exception.rsplit_once(':') {
                // One colon is a port's; more of them are an address's.
                Some((name, only)) if !name.contains(':') => {
                    if only != port {
                        return false;
                    }
                    name
                }
                _ => exception.as_str(),
            };
            let below = || {
                host.strip_suffix(name)
                    .is_some_and(|front| front.ends_with('.'))
            };
            name == "*" || name == host || below()
        })
    }

    /// Asks the proxy, at the other end of `stream`, for a tunnel to `target`.
    pub(super) async fn open(
        &self,
        stream: TokioIo<TcpStream>,
        target: &Uri,
    ) -> Result<TokioIo<TcpStream>, TunnelError> {
        let mut stream = stream.into_inner();
        let host = target.host().ok_or(TunnelError::Answer)?;
        let to = format!("{host}:{}", target.port_u16().unwrap_or(443));
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(authorization) = &self.authorization {
            request += &format!("Proxy-Authorization: {}\r\n", authorization.expose());
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await?;
        let head = head(&mut stream).await?;
        let status = head.split(|byte| *byte == b' ').nth(1);
        match status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()) {
            Some(200..=299) => Ok(TokioIo::new(stream)),
            Some(status) => Err(TunnelError::Refused(status)),
            None => Err(TunnelError::Answer),
        }
    }
}

/// The head of the proxy's answer, read byte by byte: what follows belongs to the tunnel.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, TunnelError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(TunnelError::Answer);
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// A user name and password as they are, from how a URL has them.
fn decoded(login: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = login.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    bytes
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("uri", &self.uri)
            .field("exceptions", &self.exceptions)
            .finish_non_exhaustive()
    }
}

/// Why there is no way through the proxy.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    /// The connection to it broke.
    #[error("the proxy broke off: {0}")]
    Broken(#[from] io::Error),
    /// It refuses: the target is not allowed, or it wants a login.
    #[error("the proxy refuses the connection (status {0})")]
    Refused(u16),
    /// It does not speak HTTP.
    #[error("the proxy's answer is none")]
    Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_for(exceptions: &str, target: &str) -> bool {
        let proxy = Proxy::parse("http://proxy.acme.test:3128", exceptions).expect("a proxy");
        proxy.is_for(&target.parse().expect("a URL"))
    }

    #[test]
    fn a_proxy_is_for_tls_to_whom_it_does_not_except() {
        assert!(is_for("", "https://ghcr.io/v2/"));
        assert!(!is_for("", "http://ghcr.io/v2/"));
        for near in [
            "https://localhost:5000",
            "https://127.0.0.1:5000",
            "https://[::1]/",
        ] {
            assert!(!is_for("", near), "{near}");
        }
        for exceptions in [
            "*",
            "acme.test",
            ".acme.test",
            "a.test, *.acme.test",
            "r.acme.test:443",
        ] {
            assert!(!is_for(exceptions, "https://R.acme.test/"), "{exceptions}");
        }
        for exceptions in ["notacme.test", "acme.test:5000", "cme.test", "other.test"] {
            assert!(is_for(exceptions, "https://r.acme.test/"), "{exceptions}");
        }
    }

    #[test]
    fn proxies_are_read_and_their_passwords_do_not_print() {
        let proxy = Proxy::parse("http://user:p%40ss@proxy.acme.test:3128/", "").expect("a proxy");
        assert_eq!(proxy.uri().to_string(), "http://proxy.acme.test:3128/");
        let authorization = proxy.authorization.as_ref().expect("a login");
        assert_eq!(authorization.expose(), "Basic dXNlcjpwQHNz");
        assert!(!format!("{proxy:?}").contains("p%40ss"));
        assert!(Proxy::parse("proxy.acme.test:3128", "").is_ok());
        assert_eq!(
            Proxy::parse("socks5://proxy.acme.test", "").expect_err("no"),
            ParseProxyError::Scheme
        );
        assert!(Proxy::parse("http://", "").is_err());
    }
}
