//! Errors as the distribution specification has them, and the media types of Docker.

use http::{Method, StatusCode};
use pullgate::oci::{Digest, media_type};
use pullgate::sandbox::image;
use serde_json::{Value, json};

use crate::open;
use crate::support::World;

/// Each error has the code that the specification has for it, a text, and JSON around them.
#[tokio::test]
async fn errors_are_those_of_the_specification() {
    let world = World::with(open()).await;
    let image = world.push("app", &image::runnable("x").tagged("v1"));
    let nothing = Digest::sha256(b"nothing");
    for (method, target, status, code) in [
        (
            Method::GET,
            "/v2/app/manifests/none".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            Method::GET,
            format!("/v2/app/manifests/{nothing}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            Method::GET,
            format!("/v2/app/blobs/{nothing}"),
            404,
            "BLOB_UNKNOWN",
        ),
        (
            Method::GET,
            "/v2/none/tags/list".to_owned(),
            404,
            "NAME_UNKNOWN",
        ),
        (
            Method::GET,
            "/v2/app/manifests/sha256:1".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            Method::GET,
            "/v2/APP/tags/list".to_owned(),
            404,
            "NAME_INVALID",
        ),
        (
            Method::PUT,
            format!("/v2/app/manifests/{image}"),
            405,
            "UNSUPPORTED",
        ),
        (
            Method::DELETE,
            format!("/v2/app/blobs/{nothing}"),
            405,
            "UNSUPPORTED",
        ),
        (
            Method::POST,
            "/v2/app/blobs/uploads/".to_owned(),
            405,
            "UNSUPPORTED",
        ),
    ] {
        let answer = world.ask(method.clone(), &target, &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {target}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.code(), code, "{method} {target}");
        assert_ne!(answer.message(), "", "{method} {target}");
    }
}

/// A HEAD has the status and the headers of the GET, and no body.
#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let world = World::with(open()).await;
    let package = image::runnable("x").tagged("v1");
    world.push("app", &package);
    let blob = Digest::sha256(&package.blobs[0]);
    for target in [
        "/v2/".to_owned(),
        "/v2/app/manifests/v1".to_owned(),
        "/v2/app/manifests/v2".to_owned(),
        format!("/v2/app/blobs/{blob}"),
        "/v2/app/tags/list".to_owned(),
    ] {
        let head = world.ask(Method::HEAD, &target, &[]).await;
        let get = world.get(&target).await;
        assert_eq!(head.status, get.status, "{target}");
        assert!(head.body.is_empty(), "{target}");
        for name in [
            "content-type",
            "content-length",
            "docker-content-digest",
            "etag",
        ] {
            assert_eq!(head.header(name), get.header(name), "{name} of {target}");
        }
    }
}

/// Docker's manifests and lists arrive as they are, under their own type, whatever the client
/// says that it takes.
#[tokio::test]
async fn dockers_media_types_arrive_as_they_are() {
    let world = World::with(open()).await;
    let part = |kind: &str, bytes: &'static [u8]| {
        let digest = world.registry.put_blob("app", bytes);
        json!({"mediaType": kind, "size": bytes.len(), "digest": digest})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": part("application/vnd.docker.container.image.v1+json", b"{}"),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer")],
    })
    .to_string();
    let digest = put(&world, "image", media_type::DOCKER_MANIFEST, &manifest);
    let list = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_LIST,
        "manifests": [{
            "mediaType": media_type::DOCKER_MANIFEST,
            "size": manifest.len(),
            "digest": digest,
            "platform": {"architecture": "amd64", "os": "linux"},
        }],
    })
    .to_string();
    put(&world, "list", media_type::DOCKER_LIST, &list);
    for (reference, kind, bytes) in [
        ("image".to_owned(), media_type::DOCKER_MANIFEST, &manifest),
        (digest.to_string(), media_type::DOCKER_MANIFEST, &manifest),
        ("list".to_owned(), media_type::DOCKER_LIST, &list),
    ] {
        for accept in [kind, "*/*", media_type::OCI_MANIFEST] {
            let target = format!("/v2/app/manifests/{reference}");
            let answer = world.ask(Method::GET, &target, &[("accept", accept)]).await;
            answer.admits(bytes.as_bytes());
            assert_eq!(answer.header("content-type"), kind, "{reference}, {accept}");
        }
    }
}

fn put(world: &World, tag: &str, kind: &str, bytes: &str) -> Digest {
    world
        .registry
        .put_manifest("app", Some(tag), kind, bytes.to_owned())
}

/// Single ranges are served, several at once are answered with the whole.
#[tokio::test]
async fn a_range_of_a_blob_comes_from_verified_bytes() {
    let world = World::with(open()).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let blob = world.registry.put_blob("app", bytes.clone());
    let target = format!("/v2/app/blobs/{blob}");
    for (range, status, part) in [
        ("bytes=0-9", 206, &bytes[..10]),
        ("bytes=250-", 206, &bytes[250..]),
        ("bytes=-6", 206, &bytes[250..]),
        ("bytes=0-0,4-5", 200, &bytes[..]),
    ] {
        let answer = world.ask(Method::GET, &target, &[("range", range)]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, part),
            "{range}"
        );
    }
    for range in ["bytes=256-", "bytes=9-0"] {
        let answer = world.ask(Method::GET, &target, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(answer.header("content-range"), "bytes */256");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["errors"][0]["code"], "RANGE_INVALID", "{range}");
    }
}
