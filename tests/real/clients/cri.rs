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
        self.world
            .runtime
            .block_on(pull(&self.containerd, &entry.reference))
    }

    fn compare(&self, entry: &Entry) {
        self.containerd.compare(NAMESPACE, entry);
    }
}

async fn pull(containerd: &Containerd, reference: &str) -> Result<(), String> {
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
        .body(Full::new(message(reference)))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer");
    outcome(&head.headers)
        .or_else(|| body.trailers().and_then(outcome))
        .expect("a gRPC status")
}

/// `PullImageRequest { image: ImageSpec { image: reference } }` in a gRPC frame: both fields
/// have the number 1 and a length before them.
fn message(reference: &str) -> Bytes {
    let spec = field_1(reference.as_bytes());
    let request = field_1(&spec);
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.len()).expect("a short name"));
    frame.extend(request);
    frame.freeze()
}

fn field_1(content: &[u8]) -> Vec<u8> {
    // A length below 128 is one byte.
    let length = u8::try_from(content.len()).expect("a short name");
    assert!(length < 128, "a longer name needs a longer length");
    let mut field = vec![0x0a, length];
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
