//! Every program pulls images of several platforms and artifacts through one gate, which has them
//! from two registries: from one that wants a password and has a certificate of its own
//! authority, and from one with a referrers API.
//!
//! The first serves the images of the first site, so nothing is pushed or signed twice.

use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::clients::BuildahLogin;
use crate::clients::CraneLogin;
use crate::clients::Cri;
use crate::clients::CtrLogin;
use crate::clients::DockerLogin;
use crate::clients::HelmLogin;
use crate::clients::Holds;
use crate::clients::Login;
use crate::clients::LogsIn;
use crate::clients::OrasLogin;
use crate::clients::PodmanLogin;
use crate::clients::RegctlLogin;
use crate::clients::SkopeoLogin;
use crate::harness::World;
use crate::harness::catalogue::OURS;
use crate::harness::cosign::Cosign;
use crate::harness::cosign::Signing;
use crate::harness::gate::Gate;
use crate::harness::office::Office;
use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::proxy::Proxy;
use crate::harness::registry::Guard;
use crate::harness::registry::Registry;
use crate::harness::world;

/// The upstreams as image names carry them, in the order of the sites whose images they have.
const UPSTREAMS: [&str; 2] = ["guarded.acme.test", "native.acme.test"];

/// The guarded registry's name for whoever can only reach it through a proxy.
const FAR: &str = "registry.far.test";

/// An address of it that can be reached both ways: on Linux it leads to loopback, which itself is
/// never reached through a proxy.
const NEAR: &str = "0.0.0.0";

/// Who pulls, and what the gate itself shows to the registry that wants to know.
const PULLER: (&str, &str) = ("alice", "one");
const GATE: (&str, &str) = ("gate", "a word of its own");

/// An artifact of one file.
const ARTIFACT: &str = "release/report";
const ARTIFACT_TYPE: &str = "application/vnd.acme.report";
const ARTIFACT_FILE: &str = "report.txt";
const ARTIFACT_TEXT: &str = "nothing was found\n";

/// The gate with what stands behind it.
struct Place {
    gate: Gate,
    /// The address of the registry that is not for everybody.
    guarded: String,
    /// The office's, which issued all certificates here.
    folder: PathBuf,
    registry: Registry,
}

fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| Place::open(world()))
}

fn puller() -> Login {
    Login::new(PULLER.0, PULLER.1)
}

impl Place {
    fn open(world: &World) -> Self {
        let folder = world.undertaker.folder("guarded-office");
        let office = Office(&folder);
        office.authority("own");
        let names = format!("IP:127.0.0.1,IP:{NEAR},DNS:{FAR}");
        office.issue("registry", "own", Some(&names));
        office.issue("gate", "own", None);
        for (file, (user, password)) in [("registry-users", GATE), ("gate-users", PULLER)] {
            let hash = bcrypt::hash(password, 5).expect("a hash");
            write(&office, file, &format!("{user}:{hash}\n"));
        }
        write(&office, "password", GATE.1);
        let guard = Guard {
            certificate: &office.text("registry.pem"),
            key: &office.text("registry.key"),
            users: &office.text("registry-users"),
            clients: &office.text("own.pem"),
        };
        let registry = Registry::guarded(&guard, &world.undertaker);
        let guarded = registry.address().to_string();
        let own = office.text("own.pem");
        let upstream = upstream(&guarded, Some(&own), Some("gate"), GATE.0, &office);
        let gate = serve("gate-upstreams", world, &upstream, &office);
        publish_artifact(world, &folder);
        Self {
            gate,
            guarded,
            folder,
            registry,
        }
    }

    fn image(&self, upstream: &str, repository: &str, tag: &str) -> String {
        format!("{}/{upstream}/{repository}:{tag}", self.gate.address())
    }
}

fn write(office: &Office<'_>, file: &str, text: &str) {
    std::fs::write(office.path(file), text).expect("a file of ours");
}

/// The settings of the upstream that wants a password and a certificate.
fn upstream(
    address: &str,
    authority: Option<&str>,
    certificate: Option<&str>,
    user: &str,
    office: &Office<'_>,
) -> String {
    let authority = authority.map_or(String::new(), |file| format!("ca: {file}, "));
    let certificate = certificate.map_or(String::new(), |name| {
        let (file, key) = (
            office.text(&format!("{name}.pem")),
            office.text(&format!("{name}.key")),
        );
        format!("client_certificate: {{ certificate: {file}, key: {key} }}, ")
    });
    let password = office.text("password");
    format!(
        "{{ url: \"https://{address}\", {authority}{certificate}\
         credentials: {{ username: {user}, password_file: {password} }} }}"
    )
}

fn serve(name: &str, world: &World, guarded: &str, office: &Office<'_>) -> Gate {
    serve_in(&[], name, world, guarded, office)
}

fn serve_in(
    environment: &[(&str, &str)],
    name: &str,
    world: &World,
    guarded: &str,
    office: &Office<'_>,
) -> Gate {
    let [first, second] = UPSTREAMS;
    let (native, users) = (world.sites[1].front.host(), office.text("gate-users"));
    let root = world.cosign.trusted_root().display();
    let settings = format!(
        r#"listen: 127.0.0.1:0
admin: 127.0.0.1:0
callers: {{ htpasswd: {users} }}
upstreams:
  {first}: {guarded}
  {second}: {{ url: "http://{native}" }}
policies: [policies.yaml]
trust_roots: {{ private: {{ file: {root} }} }}
default_trust_root: private
"#
    );
    let identity = Cosign::identity(OURS);
    let policies = format!(
        r#"signers:
  release-workflow:
    keyless: {{ issuer: github-actions, identity: "{identity}" }}
policies:
  - name: releases
    images: ["{first}/release/**", "{second}/release/**"]
    signed_by: release-workflow
"#
    );
    Gate::serve_in(environment, name, &settings, &policies, &world.undertaker)
}

/// Pushes the artifact to both registries, and signs it.
fn publish_artifact(world: &World, folder: &Path) {
    std::fs::write(folder.join(ARTIFACT_FILE), ARTIFACT_TEXT).expect("a file of ours");
    for site in &world.sites {
        let name = format!("{}/{ARTIFACT}", site.front.host());
        let mut push = command("oras");
        push.current_dir(folder).env("HOME", folder);
        push.args(["push", "--plain-http", "--artifact-type", ARTIFACT_TYPE]);
        push.args(["--format", "go-template={{.digest}}"]);
        push.args([format!("{name}:v1"), format!("{ARTIFACT_FILE}:text/plain")]);
        let digest = must(&mut push);
        let signed = format!("{name}@{digest}");
        world.cosign.sign(Signing::Keyless(OURS), &signed);
        site.front.forget();
    }
}

/// An index and all that this program takes of it, byte for byte, from either registry.
fn an_index_arrives<C: Holds>() {
    let (world, place) = (world(), place());
    let client = C::set_up(world);
    for (site, upstream) in world.sites.iter().zip(UPSTREAMS) {
        let entry = site.catalogue.index();
        let reference = place.image(upstream, &entry.repository, "v1");
        let pulled = client.pull_as(&puller(), &reference);
        pulled.unwrap_or_else(|said| panic!("{reference}: {said}\n{}", place.gate.log()));
        client.compare(&reference, &entry.image);
        // No test has any client pull this one: containerd asks for nothing that it holds.
        let theirs = place.image(upstream, "release/stranger", "v1");
        let refused = client.pull_as(&puller(), &theirs);
        let said = refused.expect_err("an image that a stranger signed");
        assert!(said.contains("untrusted_signer"), "{said}");
    }
}

macro_rules! tests_of {
    ($($module:ident: $client:ty;)*) => {$(
        #[test]
        #[ignore = "needs the real parts that .ci/install brings"]
        fn $module() {
            an_index_arrives::<$client>();
        }
    )*};
}

tests_of! {
    podman_pulls_from_both: PodmanLogin;
    buildah_pulls_from_both: BuildahLogin;
    skopeo_pulls_from_both: SkopeoLogin;
    docker_pulls_from_both: DockerLogin;
    ctr_pulls_from_both: CtrLogin;
    cri_pulls_from_both: Cri;
    oras_pulls_from_both: OrasLogin;
    crane_pulls_from_both: CraneLogin;
    regctl_pulls_from_both: RegctlLogin;
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn helm_pulls_charts_from_both() {
    let place = place();
    // Compares what it pulls.
    let helm = HelmLogin::set_up(world());
    for upstream in UPSTREAMS {
        let chart = place.image(upstream, HelmLogin::REPOSITORY, HelmLogin::TAG);
        let pulled = helm.pull_as(&puller(), &chart);
        pulled.unwrap_or_else(|said| panic!("{chart}: {said}\n{}", place.gate.log()));
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn artifacts_and_their_signatures_arrive_from_both() {
    let (world, place) = (world(), place());
    let regctl = RegctlLogin::set_up(world);
    for upstream in UPSTREAMS {
        let artifact = place.image(upstream, ARTIFACT, "v1");
        let got = regctl.artifact_as(&puller(), &artifact);
        let got = got.unwrap_or_else(|said| panic!("{artifact}: {said}\n{}", place.gate.log()));
        assert_eq!(got, ARTIFACT_TEXT.as_bytes());
        let folder = world.undertaker.folder(&format!("artifact-{upstream}"));
        must(oras("pull").arg("--output").arg(&folder).arg(&artifact));
        let text = std::fs::read_to_string(folder.join(ARTIFACT_FILE)).expect("the file");
        assert_eq!(text, ARTIFACT_TEXT);
        let listed = must(oras("discover").args(["--format", "json", &artifact]));
        assert!(listed.contains("dev.sigstore.bundle"), "{listed}");
    }
}

fn oras(action: &str) -> std::process::Command {
    let mut oras = command("oras");
    oras.args([action, "--plain-http", "--username", PULLER.0]);
    oras.args(["--password", PULLER.1]);
    oras
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn the_gate_speaks_http_2_where_its_registry_does() {
    let (world, place) = (world(), place());
    let skopeo = SkopeoLogin::set_up(world);
    let image = place.image(UPSTREAMS[0], "release/index", "v1");
    skopeo.pull_as(&puller(), &image).expect("is pulled");
    let log = place.registry.log();
    let of = |version: &str| {
        let requests = log.lines().filter(|line| line.contains("GET /v2/"));
        requests.filter(|line| line.contains(version)).count()
    };
    assert!(of("HTTP/2.0") > 0 && of("HTTP/1.1") == 0, "{log}");
}

/// Pulls through a gate that knows the registry as `host`. Its environment has a proxy in the variable
/// `proxy`, and perhaps another that says what goes without. True where the proxy was asked for the
/// registry; it is asked for nothing else.
fn goes_through(name: &str, host: &str, proxy: &str, without: Option<(&str, &str)>) -> bool {
    let (world, place) = (world(), place());
    let office = Office(&place.folder);
    let registry = place.registry.address();
    let host = format!("{host}:{}", registry.port());
    let through = Proxy::start(&host, registry, &world.runtime);
    let address = format!("http://{}", through.address());
    let mut environment = vec![(proxy, address.as_str())];
    environment.extend(without);
    let own = office.text("own.pem");
    let guarded = upstream(&host, Some(&own), Some("gate"), GATE.0, &office);
    let gate = serve_in(&environment, name, world, &guarded, &office);
    let skopeo = SkopeoLogin::set_up(world);
    let image = format!("{}/{}/release/index:v1", gate.address(), UPSTREAMS[0]);
    let pulled = skopeo.pull_as(&puller(), &image);
    pulled.unwrap_or_else(|said| panic!("{name}: {said}\n{}", gate.log()));
    let asked = through.asked();
    let first = format!("CONNECT {host} HTTP/1.1");
    assert!(asked.iter().all(|line| *line == first), "{name}: {asked:?}");
    !asked.is_empty()
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn what_is_reached_through_a_proxy_arrives() {
    for (name, proxy) in [("gate-far", "HTTPS_PROXY"), ("gate-far-too", "https_proxy")] {
        assert!(goes_through(name, FAR, proxy, None), "{name}");
    }
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn what_no_proxy_is_for_arrives_without_it() {
    let all = format!("{FAR}, {NEAR}");
    for (name, proxy, without, expected) in [
        ("gate-near", "HTTPS_PROXY", ("NO_PROXY", FAR), true),
        ("gate-nearer", "HTTPS_PROXY", ("NO_PROXY", NEAR), false),
        ("gate-nearest", "https_proxy", ("no_proxy", &*all), false),
    ] {
        let found = goes_through(name, NEAR, proxy, Some(without));
        assert_eq!(found, expected, "{name}");
    }
}

/// The registry is as closed as the tests above take it to be: without its authority, without a
/// certificate or with another name, nothing comes out.
#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn without_authority_or_certificate_or_password_nothing_arrives() {
    let (world, place) = (world(), place());
    let office = Office(&place.folder);
    let authority = office.text("own.pem");
    let skopeo = SkopeoLogin::set_up(world);
    let (ours, away) = (Some("gate"), "upstream_unreachable");
    let unknown = "upstream_unauthorized";
    for (name, authority, certificate, user, reason) in [
        ("gate-stranger", Some(&*authority), ours, "mallory", unknown),
        ("gate-gullible", None, ours, GATE.0, away),
        ("gate-bare", Some(&*authority), None, GATE.0, away),
    ] {
        let guarded = upstream(&place.guarded, authority, certificate, user, &office);
        let gate = serve(name, world, &guarded, &office);
        let image = format!("{}/{}/release/index:v1", gate.address(), UPSTREAMS[0]);
        assert!(skopeo.pull_as(&puller(), &image).is_err(), "{name}");
        assert!(gate.log().contains(reason), "{name}: {}", gate.log());
    }
}
