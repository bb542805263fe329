//! containerd as a kubelet uses it: `PullImage` of the Container Runtime Interface.
//!
//! The call is one string in and one string out, so it is written here by hand instead of
//! bringing a gRPC library, or `crictl`, along.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::clients::Client;
use crate::clients::Route;
use crate::clients::containerd::Containerd;
use crate::harness::World;
use crate::harness::catalogue::Entry;
use crate::harness::image::Image;

/// The namespace that the interface's images live in.
const NAMESPACE: &str = "k8s.io";

/// A kubelet's view of containerd.
pub(crate) struct Cri {
    world: &'static World,
    containerd: Containerd,
}

impl Client for Cri {
    fn set_up(world: &'static World, route: Route) -> Self {
        Self {
            world,
            containerd: Containerd::start(world, "cri", route),
        }
    }

    fn pull(&self, entry: &Entry) -> Result<(), String> {
        self.pull_with(&entry.reference, None)
    }

    fn compare(&self, entry: &Entry) {
        self.compare_image(&entry.image);
    }
}

impl Cri {
    /// Panics unless containerd holds the very bytes of an image that it has pulled.
    pub(super) fn compare_image(&self, image: &Image) {
        self.containerd.compare(NAMESPACE, image);
    }

    /// Pulls with a user and password, where there are such.
    pub(crate) fn pull_with(
        &self,
        reference: &str,
        credentials: Option<(&str, &str)>,
    ) -> Result<(), String> {
        let message = message(reference, credentials);
        self.world.runtime.block_on(pull(&self.containerd, message))
    }
}

async fn pull(containerd: &Containerd, message: Bytes) -> Result<(), String> {
    let stream = UnixStream::connect(containerd.socket())
        .await
        .expect("containerd's socket");
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2 with containerd");
    tokio::spawn(connection);
    let request = Request::post("http://containerd/runtime.v1.ImageService/PullImage")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer");
    outcome(&head.headers)
        .or_else(|| body.trailers().and_then(outcome))
        .expect("a gRPC status")
}

/// `PullImageRequest { image: ImageSpec { image: reference }, auth: AuthConfig { username,
/// password } }` in a gRPC frame.
fn message(reference: &str, credentials: Option<(&str, &str)>) -> Bytes {
    let spec = field(1, reference.as_bytes());
    let mut request = field(1, &spec);
    if let Some((user, password)) = credentials {
        let both = [field(1, user.as_bytes()), field(2, password.as_bytes())];
        request.extend(field(2, &both.concat()));
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.len()).expect("a short request"));
    frame.extend(request);
    frame.freeze()
}

/// A field with a length, which is written in groups of seven bits, the lowest first.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        field.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).expect("seven bits"));
    field.extend(content);
    field
}

/// The gRPC status, which stands in the trailers, or in the header where there is no body.
fn outcome(fields: &HeaderMap) -> Option<Result<(), String>> {
    let status = fields.get("grpc-status")?;
    if status == "0" {
        return Some(Ok(()));
    }
    let message = fields.get("grpc-message").map(|value| value.as_bytes());
    Some(Err(
        String::from_utf8_lossy(message.unwrap_or_default()).into_owned()
    ))
}
