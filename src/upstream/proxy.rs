//! The way out through a proxy: whom it is for, and the CONNECT that opens it (RFC 9110, 9.3.6).

use std::{fmt, io, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Secret, origin::is_under};

/// The most that a proxy may say before the tunnel opens, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// A proxy that TLS connections are tunnelled through, as `HTTPS_PROXY` and `NO_PROXY` name it.
#[derive(Clone)]
pub struct Proxy {
    uri: Uri,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
    exceptions: Vec<Exception>,
    unreadable_exceptions: Vec<String>,
}

/// An entry of `NO_PROXY`: who is reached without the proxy, at any port or at one.
#[derive(Debug, Clone)]
struct Exception {
    whom: Whom,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
enum Whom {
    /// `*`.
    Everybody,
    /// The addresses that begin with so many bits of this one.
    Addresses(IpAddr, u32),
    /// The name and all below it. No address has a name, whatever it ends in.
    Names(String),
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
    /// is itself and all below it, an address is itself, and a block of addresses
    /// (`10.0.0.0/8`) is all that are in it. All but a block may have a port. What has a slash and is
    /// no block is skipped: the variable is there for other programs too, who put paths into it.
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
        let mut read = Vec::new();
        let mut unreadable = Vec::new();
        for entry in exceptions.split([',', ' ']).map(str::trim) {
            let text = entry.trim_start_matches("*.").trim_start_matches('.');
            match Exception::read(text) {
                _ if text.is_empty() => {}
                Some(exception) => read.push(exception),
                None => unreadable.push(without_login(entry).to_owned()),
            }
        }
        Ok(Self {
            uri: uri.parse().map_err(|_| ParseProxyError::NotAnUrl)?,
            authorization: login.map(|login| {
                let login = BASE64_STANDARD.encode(decoded(login));
                Secret::new(&format!("Basic {login}"))
            }),
            exceptions: read,
            unreadable_exceptions: unreadable,
        })
    }

    /// The entries of `NO_PROXY` that were skipped, without what may be a password in them.
    #[must_use]
    pub fn unreadable_exceptions(&self) -> &[String] {
        &self.unreadable_exceptions
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
        let host = host.to_ascii_lowercase();
        let address = address(&host).map(|address| address.to_canonical());
        let is_here = match address {
            Some(address) => address.is_loopback(),
            None => is_under(&host, "localhost"),
        };
        let port = target.port_u16().unwrap_or(443);
        let mut exceptions = self.exceptions.iter();
        let is_excepted = exceptions.any(|exception| exception.is_for(&host, address, port));
        target.scheme_str() == Some("https") && !is_here && !is_excepted
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

impl Exception {
    /// Whether it is for the host, which may be an address.
    fn is_for(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let is_meant = match (&self.whom, address) {
            (Whom::Everybody, _) => true,
            (Whom::Addresses(first, bits), Some(address)) => begin_alike(*first, address, *bits),
            (Whom::Names(name), None) => is_under(host, name),
            (Whom::Addresses(..), None) | (Whom::Names(_), Some(_)) => false,
        };
        is_meant && self.port.is_none_or(|only| only == port)
    }

    /// `None` for what has a slash and is no block of addresses.
    fn read(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if let Some((first, bits)) = text.split_once('/') {
            let first = address(first)?;
            let bits: u32 = bits.parse().ok()?;
            if bits > bits_of(first) {
                return None;
            }
            let whom = Whom::Addresses(first, bits);
            return Some(Self { whom, port: None });
        }
        let with_port = match address(&text) {
            // Its colons are an address's and none is a port's.
            Some(_) => None,
            None => text.rsplit_once(':'),
        };
        let with_port = with_port.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let (host, port) = match with_port {
            Some((host, port)) => (host, Some(port)),
            None => (text.as_str(), None),
        };
        let whom = match address(host).map(|address| address.to_canonical()) {
            _ if host == "*" => Whom::Everybody,
            Some(address) => Whom::Addresses(address, bits_of(address)),
            None => Whom::Names(host.to_owned()),
        };
        Some(Self { whom, port })
    }
}

/// The entry from its host on, where it has a user and a password before that.
fn without_login(entry: &str) -> &str {
    entry.rsplit_once('@').map_or(entry, |(_, host)| host)
}

/// The address that a host is, where it is one; of version 6 with brackets or without.
fn address(host: &str) -> Option<IpAddr> {
    let within = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match within {
        Some(within) => within.parse().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// How many bits an address has.
fn bits_of(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether two addresses begin with the same so many bits.
fn begin_alike(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    let alike = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    alike >= bits
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
            "https://Registry.LocalHost/",
            "https://127.0.0.1:5000",
            "https://127.8.8.8/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
        ] {
            assert!(!is_for("", near), "{near}");
        }
        for far in [
            "https://notlocalhost/",
            "https://localhost.acme.test/",
            "https://0.0.0.0:5000",
            "https://[::]/",
            "https://[::ffff:10.0.0.1]/",
        ] {
            assert!(is_for("", far), "{far}");
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
    fn addresses_are_excepted_one_by_one_and_in_blocks() {
        const FOUR: &str = "https://10.1.2.3/";
        const SIX: &str = "https://[2001:DB8::1]/";
        for (exceptions, target) in [
            ("10.1.2.3", FOUR),
            ("10.1.2.3:443", FOUR),
            ("::ffff:10.1.2.3", FOUR),
            ("10.1.2.3/32", FOUR),
            ("10.0.0.0/8", FOUR),
            ("10.9.9.9/8", FOUR),
            ("acme.test,10.1.2.0/30", FOUR),
            ("0.0.0.0/0", FOUR),
            ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/"),
            ("10.0.0.0/8", "https://10.1.2.3:5000/"),
            ("2001:db8::1", SIX),
            ("2001:DB8:0:0::1", SIX),
            ("[2001:db8::1]", SIX),
            ("[2001:db8::1]:443", SIX),
            ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/"),
            ("2001:db8::/32", SIX),
            ("[2001:db8::]/32", SIX),
            ("fd00::/8", "https://[fd12:3456::1]/"),
        ] {
            assert!(!is_for(exceptions, target), "{exceptions} {target}");
        }
        for (exceptions, target) in [
            ("2.3", FOUR),
            ("1.2.3", FOUR),
            (".1.2.3", FOUR),
            ("10.1.2.30", FOUR),
            ("10.1.2.3:5000", FOUR),
            ("11.0.0.0/8", FOUR),
            ("10.1.2.4/30", FOUR),
            ("::/0", FOUR),
            ("10.0.0.0/8", "https://10.acme.test/"),
            ("0.0.0.0/0", SIX),
            ("2001:db8::1:443", SIX),
            ("[2001:db8::1]:5000", SIX),
            ("[2001:db8::2]", SIX),
            ("2001:db9::/32", SIX),
            ("fd00::/8", "https://[fc00::1]/"),
        ] {
            assert!(is_for(exceptions, target), "{exceptions} {target}");
        }
    }

    #[test]
    fn what_has_a_slash_and_is_no_block_is_skipped_and_named() {
        for entry in [
            "/var/run/docker.sock",
            "https://r.acme.test/",
            "*.acme.test/",
            "r.acme.test/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/8:443",
            "10/8",
            "/8",
            "fd00::/129",
            "10.0.0.0/8/8",
        ] {
            let exceptions = format!("a.test,{entry}, 10.0.0.0/8 ,");
            let proxy = Proxy::parse("proxy.acme.test:3128", &exceptions).expect("a proxy");
            assert_eq!(proxy.unreadable_exceptions(), [entry]);
            // It excepts nobody, and takes nothing from the others.
            assert!(is_for(&exceptions, "https://r.acme.test/"), "{entry}");
            assert!(!is_for(&exceptions, "https://a.test/"), "{entry}");
            assert!(!is_for(&exceptions, "https://10.1.2.3/"), "{entry}");
        }
        let proxy = Proxy::parse("proxy.acme.test:3128", "http://me:secret@r.test/, , .");
        let proxy = proxy.expect("a proxy");
        assert_eq!(proxy.unreadable_exceptions(), ["r.test/"]);
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
