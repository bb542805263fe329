//! Tags and referrers (distribution-spec, "Listing Tags", "Listing Referrers").

use http::StatusCode;
use pullgate::oci::{Digest, media_type};
use pullgate::sandbox::image;
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed, Options};
use serde_json::Value;

use crate::open;
use crate::support::{Answer, Setup, World};

const SBOM: &str = "application/spdx+json";
const NOTES: &str = "application/vnd.acme.notes";

fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.message());
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn tags(answer: &Answer) -> Vec<String> {
    let tags = json(answer)["tags"].as_array().cloned().expect("tags");
    let text = |tag: &Value| tag.as_str().map(str::to_owned);
    tags.iter().filter_map(text).collect()
}

/// The target of `Link: <target>; rel="next"`.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().expect("text");
    let target = link.strip_suffix(">; rel=\"next\"").expect("a next page");
    Some(target.strip_prefix('<').expect("a target").to_owned())
}

async fn with_tags(names: &[&str]) -> World {
    let world = World::with(open()).await;
    for name in names {
        world.push("app", &image::runnable("x").tagged(name));
    }
    world
}

#[tokio::test]
async fn tags_come_page_by_page_until_there_are_no_more() {
    let world = with_tags(&["a", "b", "c", "d", "e"]).await;
    let mut target = Some("/v2/app/tags/list?n=2".to_owned());
    let mut pages = Vec::new();
    while let Some(page) = target {
        let answer = world.get(&page).await;
        pages.push(tags(&answer));
        target = next(&answer);
    }
    assert_eq!(pages.concat(), ["a", "b", "c", "d", "e"]);
    assert!(pages.iter().all(|page| page.len() <= 2), "{pages:?}");
}

#[tokio::test]
async fn a_page_of_tags_begins_after_last_and_names_the_repository() {
    let world = with_tags(&["a", "b", "c"]).await;
    let answer = world.get("/v2/app/tags/list?last=a").await;
    assert_eq!(tags(&answer), ["b", "c"]);
    assert_eq!(json(&answer)["name"], "app");
    assert_eq!(next(&answer), None);
    let none = world.get("/v2/app/tags/list?n=0").await;
    assert!(tags(&none).is_empty());
    assert_eq!(next(&none), None);
}

/// The link leads back through the gate by the way that the client came, not to the registry.
#[tokio::test]
async fn the_next_page_is_asked_for_by_the_same_way() {
    let world = with_tags(&["a", "b", "c"]).await;
    let through_path = world.get("/v2/registry.acme.test/app/tags/list?n=2").await;
    let target = next(&through_path).expect("a further page");
    assert_eq!(target, "/v2/registry.acme.test/app/tags/list?last=b&n=2");
    let through_namespace = world
        .get("/v2/app/tags/list?n=2&ns=registry.acme.test")
        .await;
    let target = next(&through_namespace).expect("a further page");
    assert!(target.contains("ns=registry.acme.test"), "{target}");
    assert_eq!(tags(&world.get(&target).await), ["c"]);
}

/// A registry that pages by itself, whatever was asked for.
#[tokio::test]
async fn a_page_that_the_registry_cuts_short_has_a_link_too() {
    let world = with_tags(&["a", "b", "c"]).await;
    let link = "</v2/app/tags/list?n=3&last=c>; rel=\"next\"";
    world.registry.misbehave(Fault::on(
        Endpoint::Tags,
        Misdeed::Header(http::header::LINK, link.parse().expect("a header value")),
    ));
    let answer = world.get("/v2/app/tags/list").await;
    assert_eq!(next(&answer).as_deref(), Some("/v2/app/tags/list?last=c"));
}

#[tokio::test]
async fn the_tags_of_no_repository_are_an_error_that_says_so() {
    let world = World::with(open()).await;
    let answer = world.get("/v2/nothing/here/tags/list").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.code(), "NAME_UNKNOWN");
}

/// An image with two artifacts about it, in a registry with or without a referrers API.
async fn with_referrers(referrers_api: bool) -> (World, Digest, [Digest; 2]) {
    let world = World::with(Setup {
        registry: Options {
            referrers_api,
            ..Options::default()
        },
        ..open()
    })
    .await;
    let image = world.push("app", &image::runnable("x"));
    let sbom = world.registry.put_artifact("app", &image, SBOM, "{}");
    let notes = world.registry.put_artifact("app", &image, NOTES, "notes");
    (world, image, [sbom, notes])
}

fn listed(answer: &Answer) -> Vec<String> {
    let index = json(answer);
    assert_eq!(answer.header("content-type"), media_type::OCI_INDEX);
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], media_type::OCI_INDEX);
    let manifests = index["manifests"].as_array().cloned().expect("manifests");
    let digest = |entry: &Value| entry["digest"].as_str().map(str::to_owned);
    manifests.iter().filter_map(digest).collect()
}

#[tokio::test]
async fn referrers_are_the_same_from_the_api_and_from_the_fallback_tag() {
    for referrers_api in [true, false] {
        let (world, image, [sbom, notes]) = with_referrers(referrers_api).await;
        let all = world.get(&format!("/v2/app/referrers/{image}")).await;
        let mut found = listed(&all);
        found.sort();
        let mut expected = [sbom.to_string(), notes.to_string()];
        expected.sort();
        assert_eq!(found, expected, "API: {referrers_api}");
        assert_eq!(all.header("oci-filters-applied"), "");
        let target = format!("/v2/app/referrers/{image}?artifactType={SBOM}");
        let some = world.get(&target.replace('+', "%2B")).await;
        assert_eq!(listed(&some), [sbom.to_string()], "API: {referrers_api}");
        assert_eq!(some.header("oci-filters-applied"), "artifactType");
    }
}

#[tokio::test]
async fn what_nothing_refers_to_has_an_empty_list() {
    for referrers_api in [true, false] {
        let (world, ..) = with_referrers(referrers_api).await;
        let nothing = Digest::sha256(b"nothing");
        let answer = world.get(&format!("/v2/app/referrers/{nothing}")).await;
        assert!(listed(&answer).is_empty());
    }
}

/// All pages of the registry are one list here.
#[tokio::test]
async fn referrers_of_many_pages_come_as_one_list() {
    let world = World::with(Setup {
        registry: Options {
            referrers_per_page: 2,
            ..Options::default()
        },
        ..open()
    })
    .await;
    let image = world.push("app", &image::runnable("x"));
    for number in 0..7 {
        let content = format!("{number}");
        world.registry.put_artifact("app", &image, NOTES, content);
    }
    let answer = world.get(&format!("/v2/app/referrers/{image}")).await;
    assert_eq!(listed(&answer).len(), 7);
}

// What is not told is said to be missing.
#[tokio::test]
async fn a_long_list_of_referrers_is_whole_or_says_that_it_is_not() {
    let world = World::with(open()).await;
    let package = image::runnable("x").tagged("v1");
    world.push("app", &package);
    let target = format!("/v2/app/referrers/{}", package.digest());
    for (listed, told, warning) in [
        (1000, 1000, ""),
        (10_000, 10_000, ""),
        (10_001, 10_000, "299"),
    ] {
        let many = Fault::on(Endpoint::Referrers, Misdeed::Referrers(listed));
        let fault = world.registry.misbehave(many);
        let answer = world.get(&target).await;
        let manifests = json(&answer)["manifests"].as_array().map(Vec::len);
        assert_eq!(manifests, Some(told), "of {listed}");
        let code = answer.header("warning").split(' ').next();
        assert_eq!(code, Some(warning), "of {listed}");
        world.registry.forgive(fault);
    }
}
