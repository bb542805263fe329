//! Real clients say who they are, by a password and by tokens of two issuers, and pull what
//! policy lets them pull. Who may not is told who they are, and who may.

use std::sync::OnceLock;

use pullgate::clock::Clock;
use pullgate::sandbox::oidc::Issuer;
use pullgate::sandbox::oidc::Token;

use crate::clients::BuildahLogin;
use crate::clients::CraneLogin;
use crate::clients::Cri;
use crate::clients::CtrLogin;
use crate::clients::DockerLogin;
use crate::clients::HelmLogin;
use crate::clients::Login;
use crate::clients::LogsIn;
use crate::clients::OrasLogin;
use crate::clients::PodmanLogin;
use crate::clients::RegctlLogin;
use crate::clients::SkopeoLogin;
use crate::harness::World;
use crate::harness::catalogue::OURS;
use crate::harness::cosign::Cosign;
use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::provider::Provider;
use crate::harness::world;

/// A gate that asks who pulls, before the first registry.
struct Door {
    gate: Gate,
    issuer: Issuer,
    provider: Provider,
}

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(|| Door::open(world()))
}

impl Door {
    fn open(world: &World) -> Self {
        let issuer = world.runtime.block_on(Issuer::start()).expect("an issuer");
        let provider = Provider::start(&world.undertaker);
        let host = world.sites[0].front.host();
        let folder = world.undertaker.folder("users");
        let users = folder.join("users.htpasswd");
        let line = |user: &str, password: &str| {
            let hash = bcrypt::hash(password, 5).expect("a hash");
            format!("{user}:{hash}\n")
        };
        let text = line("alice", "one") + &line("bob", "two");
        std::fs::write(&users, text).expect("the file of users");
        let (root, users) = (world.cosign.trusted_root().display(), users.display());
        let (own, other) = (issuer.url(), provider.url());
        let settings = before(&host)
            + &format!(
                r#"trust_roots: {{ private: {{ file: {root} }} }}
default_trust_root: private
callers:
  htpasswd: {users}
  oidc:
    - {{ issuer: "{own}", audience: pullgate }}
    - {{ issuer: "{other}", audience: pullgate }}
"#
            );
        let identity = Cosign::identity(OURS);
        let policies = format!(
            r#"signers:
  release-workflow:
    keyless: {{ issuer: github-actions, identity: "{identity}" }}
pullers:
  people: {{ user: alice }}
  team-a: {{ oidc: {{ issuer: "{own}", identity: team-a }} }}
  provider-team-a: {{ oidc: {{ issuer: "{other}", identity: team-a }} }}
policies:
  - name: releases
    images: ["{host}/release/**"]
    signed_by: release-workflow
    pulled_by: {{ any: [people, team-a, provider-team-a] }}
"#
        );
        let gate = Gate::serve("gate-callers", &settings, &policies, &world.undertaker);
        Self {
            gate,
            issuer,
            provider,
        }
    }

    fn image(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.gate.address())
    }

    /// The bearer of a token of the sandbox's issuer.
    fn bearer(&self, subject: &str) -> Login {
        let token = Token::new(subject, "pullgate");
        Login::new("token", &self.issuer.mint(&token, Clock::system().now()))
    }

    /// The bearer of a token of the certified provider.
    fn certified(&self, client: &str) -> Login {
        Login::new("token", &self.provider.token(client))
    }
}

/// Each way of logging in pulls; with the wrong identity the client prints who it is and who
/// may; with the wrong password it gets nothing at all.
fn each_way_of_logging_in<C: LogsIn>() {
    let (world, door) = (world(), door());
    let client = C::set_up(world);
    let image = door.image(C::REPOSITORY, C::TAG);
    for login in [
        Login::new("alice", "one"),
        door.bearer("team-a"),
        door.certified("team-a"),
    ] {
        let pulled = client.pull_as(&login, &image);
        pulled.unwrap_or_else(|said| panic!("{login:?}: {said}\n{}", door.gate.log()));
    }
    for (login, name) in [
        (Login::new("bob", "two"), "user bob"),
        (door.bearer("team-b"), "team-b (issuer"),
        (door.certified("team-b"), "team-b (issuer"),
    ] {
        // That it is not there makes no difference.
        for image in [&image, &door.image("release/absent", C::TAG)] {
            let Err(said) = client.pull_as(&login, image) else {
                panic!("{login:?} pulled {image}");
            };
            for part in ["wrong_puller", name, "people (user alice)"] {
                assert!(
                    said.contains(part),
                    "{login:?} should be told {part}: {said}"
                );
            }
        }
    }
    let wrong = client.pull_as(&Login::new("alice", "two"), &image);
    let said = wrong.expect_err("a wrong password");
    assert!(!said.contains("wrong_puller"), "{said}");
}

macro_rules! tests_of {
    ($($module:ident: $client:ty;)*) => {$(
        #[test]
        #[ignore = "needs the real parts that .ci/install brings"]
        fn $module() {
            each_way_of_logging_in::<$client>();
        }
    )*};
}

tests_of! {
    podman_logs_in: PodmanLogin;
    skopeo_logs_in: SkopeoLogin;
    buildah_logs_in: BuildahLogin;
    crane_logs_in: CraneLogin;
    regctl_logs_in: RegctlLogin;
    oras_logs_in: OrasLogin;
    ctr_logs_in: CtrLogin;
    cri_logs_in: Cri;
    docker_logs_in: DockerLogin;
    helm_logs_in: HelmLogin;
}

/// Two identities of a certified provider, two keyless signers: four combinations, one passes.
#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn a_team_pulls_only_what_it_signed() {
    let door = door();
    let client = SkopeoLogin::set_up(world());
    for (team, repository, expected) in [
        ("team-a", "release/keyless", None),
        ("team-a", "release/stranger", Some("untrusted_signer")),
        ("team-b", "release/keyless", Some("wrong_puller")),
        ("team-b", "release/stranger", Some("wrong_puller")),
    ] {
        let pulled = client.pull_as(&door.certified(team), &door.image(repository, "v1"));
        match (pulled, expected) {
            (Ok(()), None) => {}
            (Err(said), Some(reason)) if said.contains(reason) => {}
            (pulled, _) => panic!("{team} and {repository}: {pulled:?}"),
        }
    }
}
