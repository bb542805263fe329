//! Evidence that is kept in another repository, or under tags with a prefix: it counts for its
//! own image, for the policies that name the place, and instead of what lies beside the image.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pullgate::gate;
use pullgate::oci::{EvidenceSource, ImageName};
use pullgate::policy::{Attested, Demand, Policy, Requirement, SignedBy, Timing};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Fault as RegistryFault, Misdeed};
use pullgate::sandbox::sigstore::{Evidence, Log, Recipe, attestation_tag, signature_tag};
use serde_json::json;

use crate::support::{
    HOST, MIRROR, Setup, World, host, identity_rule, policy, push, recipe, release, rules,
    settings, signed_by, stranger,
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

fn elsewhere(registry: &str, repository: &str, prefix: Option<&str>) -> EvidenceSource {
    EvidenceSource {
        repository: Some(ImageName {
            registry: host(registry),
            repository: repository.parse().expect("a repository"),
        }),
        tag_prefix: prefix.map(|prefix| prefix.parse().expect("a prefix")),
    }
}

fn by_release() -> SignedBy {
    SignedBy {
        at_least: 1,
        of: vec![identity_rule(&release())],
    }
}

fn kept_in(name: &str, source: EvidenceSource) -> Policy {
    let demand = Demand {
        signed_by: Some(by_release()),
        attested: Vec::new(),
        timing: Timing::default(),
        format: None,
        source: Some(Arc::new(source)),
    };
    policy(name, "**", Requirement::Proven(vec![demand]))
}

async fn world(policies: Vec<Policy>) -> World {
    World::with(Setup {
        mirror: true,
        rules: rules(policies),
        settings: gate::Settings {
            unsigned_ttl: Duration::ZERO,
            ..settings()
        },
        ..Setup::default()
    })
    .await
}

impl World {
    /// Pushes to the other registry.
    fn push_elsewhere(&self, repository: &str, package: &Package) {
        push(self.mirror.as_ref().expect("a mirror"), repository, package);
    }

    /// Evidence as a layer, as it lies under the `.sig` tag of `image`.
    fn layer_for(&self, signed: &Package, image: &Package) -> Package {
        let identity = release();
        let recipe = Recipe::keyless(&identity, Log::RekorV1);
        let layer = self
            .sigstore
            .sign_layer(&signed.digest(), "anything", &recipe);
        signature_tag(&image.digest(), vec![layer])
    }

    fn bundle_for(&self, signed: &Package, image: &Package) -> Package {
        let identity = release();
        let evidence: Evidence = self
            .sigstore
            .signature(&signed.digest(), &recipe(&identity));
        evidence.artifact(&image.descriptor())
    }

    /// An image with nothing beside it.
    fn image(&self, content: &str) -> Package {
        let package = image::runnable(content);
        self.push("app", &package);
        package
    }
}

fn prefixed(package: Package, prefix: &str) -> Package {
    let tag = package.tag.clone().expect("a tag");
    package.tagged(&format!("{prefix}{tag}"))
}

// The place counts instead of the image's repository, in both formats; and what lies there counts
// for no policy that does not name it.
#[tokio::test]
async fn evidence_counts_where_policy_says_it_is_kept() {
    let world = world(vec![kept_in(
        "elsewhere",
        elsewhere(MIRROR, "signatures", None),
    )])
    .await;
    let (layer, bundle) = (world.image("layer"), world.image("bundle"));
    world.push_elsewhere("signatures", &world.layer_for(&layer, &layer));
    world.push_elsewhere("signatures", &world.bundle_for(&bundle, &bundle));
    for package in [&layer, &bundle] {
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
    let beside = world.image("beside");
    world.sign("app", &beside, &release());
    let answer = world.manifest("app", beside.digest()).await;
    answer.denies("unsigned");
    assert!(
        answer
            .message()
            .contains("kept in mirror.acme.test/signatures"),
        "{}",
        answer.message()
    );

    // The same place is no place for others.
    let here = signed_by("here", "**", &[identity_rule(&release())]);
    world.reload(rules(vec![here.clone()]));
    let answer = world.manifest("app", layer.digest()).await;
    answer.denies("unsigned");
    world
        .manifest("app", beside.digest())
        .await
        .admits(&beside.manifest);
    // Two policies look in two places, and both have to pass.
    world.reload(rules(vec![
        here,
        kept_in("elsewhere", elsewhere(MIRROR, "signatures", None)),
    ]));
    for package in [&layer, &beside] {
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
    }
    world.sign("app", &layer, &release());
    let answer = world.manifest("app", layer.digest()).await;
    answer.admits(&layer.manifest);
}

// THREATS B1, B2, B11: a store of signatures holds those of many images, and whoever can push there
// can put any of them under any tag. Each counts for its own image, and by its own signer.
#[tokio::test]
async fn b1_signatures_of_other_images_in_a_store_do_not_count() {
    let world = world(vec![kept_in(
        "elsewhere",
        elsewhere(MIRROR, "signatures", None),
    )])
    .await;
    let signed = world.image("signed");
    world.push_elsewhere("signatures", &world.layer_for(&signed, &signed));
    let unsigned = world.image("unsigned");
    let answer = world.manifest("app", unsigned.digest()).await;
    answer.denies("unsigned");
    let layer = world.image("with another's layer");
    world.push_elsewhere("signatures", &world.layer_for(&signed, &layer));
    let bundle = world.image("with another's bundle");
    world.push_elsewhere("signatures", &world.bundle_for(&signed, &bundle));
    for package in [&layer, &bundle] {
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("invalid_signature");
    }
    let strange = world.image("by a stranger");
    let identity = stranger();
    let evidence = world
        .sigstore
        .signature(&strange.digest(), &recipe(&identity));
    world.push_elsewhere("signatures", &evidence.artifact(&strange.descriptor()));
    let answer = world.manifest("app", strange.digest()).await;
    answer.denies("untrusted_signer");
    // Neither is the other registry's content the image's.
    let other = image::runnable("elsewhere only");
    world.push_elsewhere("signatures", &other);
    world.push_elsewhere("signatures", &world.layer_for(&other, &other));
    let answer = world.manifest("app", other.digest()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

// THREATS C4: a store that cannot be asked is "don't know", whatever lies beside the image, and is
// asked again.
#[tokio::test]
async fn c4_a_store_that_is_away_is_never_remembered_as_unsigned() {
    let world = world(vec![kept_in(
        "elsewhere",
        elsewhere(MIRROR, "signatures", None),
    )])
    .await;
    let mirror = world.mirror.as_ref().expect("a mirror");
    for (name, misdeed) in [
        ("500", Misdeed::Status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("401", Misdeed::Status(StatusCode::UNAUTHORIZED)),
        ("a broken connection", Misdeed::DropConnection),
    ] {
        let package = world.image(name);
        world.sign("app", &package, &release());
        world.push_elsewhere("signatures", &world.layer_for(&package, &package));
        let fault = mirror.misbehave(RegistryFault::from(misdeed).path("/v2/signatures/"));
        let answer = world.manifest("app", package.digest()).await;
        answer.cannot_tell("evidence_unavailable");
        mirror.forgive(fault);
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
    }
}

// A store on no upstream cannot be asked. Configuration refuses it; the gate does not rely on that.
#[tokio::test]
async fn c4_a_store_on_no_upstream_is_no_unsigned() {
    let world = world(vec![kept_in(
        "elsewhere",
        elsewhere("nowhere.acme.test", "signatures", None),
    )])
    .await;
    let package = world.image("signed here");
    world.sign("app", &package, &release());
    let answer = world.manifest("app", package.digest()).await;
    answer.cannot_tell("evidence_unavailable");
}

// With a prefix, tags without it are those of others; the place may be the image's own repository.
#[tokio::test]
async fn a_prefix_tells_signatures_apart() {
    let own = EvidenceSource {
        repository: None,
        tag_prefix: Some("release-".parse().expect("a prefix")),
    };
    for source in [own, elsewhere(HOST, "signatures", Some("release-"))] {
        let world = world(vec![kept_in("prefixed", source.clone())]).await;
        let repository = source.repository.as_ref();
        let repository = repository.map_or("app", |name| name.repository.as_str());
        let package = world.image("prefixed");
        let layer = world.layer_for(&package, &package);
        world.push(repository, &prefixed(layer, "release-"));
        let answer = world.manifest("app", package.digest()).await;
        answer.admits(&package.manifest);
        let package = world.image("plain");
        let layer = world.layer_for(&package, &package);
        world.push(repository, &layer);
        world.push(repository, &prefixed(layer, "other-"));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
    }
}

// THREATS C6: what was found in one place is not taken for another's, also after an edit of policy.
#[tokio::test]
async fn c6_every_place_has_its_own_facts() {
    let one = || elsewhere(MIRROR, "one", None);
    let world = world(vec![kept_in("one", one())]).await;
    let package = world.image("in one place");
    world.push_elsewhere("one", &world.layer_for(&package, &package));
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
    for other in [
        elsewhere(MIRROR, "two", None),
        elsewhere(HOST, "one", None),
        elsewhere(MIRROR, "one", Some("prefix-")),
    ] {
        world.reload(rules(vec![kept_in("other", other)]));
        let answer = world.manifest("app", package.digest()).await;
        answer.denies("unsigned");
    }
    world.reload(rules(vec![kept_in("one", one())]));
    let answer = world.manifest("app", package.digest()).await;
    answer.admits(&package.manifest);
}

// Attestations follow the signatures.
#[tokio::test]
async fn attestations_are_looked_for_in_the_same_place() {
    let demand = Demand {
        signed_by: None,
        attested: vec![Attested {
            predicate_type: PROVENANCE.to_owned(),
            by: by_release(),
            condition: None,
            every: false,
        }],
        timing: Timing::default(),
        format: None,
        source: Some(Arc::new(elsewhere(MIRROR, "signatures", Some("p-")))),
    };
    let policy = policy("attested", "**", Requirement::Proven(vec![demand]));
    let world = world(vec![policy]).await;
    let identity = release();
    let attest = |package: &Package| {
        let recipe = Recipe::keyless(&identity, Log::RekorV1);
        let digest = package.digest();
        let layer = world
            .sigstore
            .attest_layer(&digest, PROVENANCE, &json!({}), &recipe);
        prefixed(attestation_tag(&digest, vec![layer]), "p-")
    };
    let there = world.image("there");
    world.push_elsewhere("signatures", &attest(&there));
    let answer = world.manifest("app", there.digest()).await;
    answer.admits(&there.manifest);
    let here = world.image("here");
    world.push("app", &attest(&here));
    let answer = world.manifest("app", here.digest()).await;
    answer.denies("missing_attestation");
}
