//! Passwords, tokens and presigned URLs stand in nothing that the program writes, however much it
//! is told to write, and in none of its answers; be they taken or refused.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, Command, Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sandbox::client::{Answer, Client};
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{
    Auth, Endpoint, Fault, Login, Misdeed, Options, Recorded, Registry,
};
use serde_json::json;
use tempfile::TempDir;

use crate::program::Program;
use crate::support::{HOST, push};

const PULL: &str = "/v2/app/manifests/v1";
/// The forms of log lines.
const FORMS: [&str; 2] = ["text", "json"];

/// The program, which logs all that it and its libraries have to say, in front of a registry.
struct World {
    program: Program,
    /// What it said on stdout, and the rest of that.
    said: String,
    stdout: BufReader<ChildStdout>,
    pulls: Client,
    answers: Vec<Answer>,
    folder: TempDir,
    registry: Registry,
    package: Package,
}

impl World {
    /// With this at the upstream in the configuration, and these files beside it.
    async fn start(form: &str, auth: Auth, upstream: &str, files: &[(&str, &str)]) -> Self {
        let options = Options {
            auth,
            ..Options::default()
        };
        let registry = Registry::start_with(options).await.expect("a port");
        let package = image::runnable("app").tagged("v1");
        push(&registry, "app", &package);
        let folder = TempDir::new().expect("a folder");
        let configuration = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ {HOST}: {{ url: \"{}\", {upstream} }} }}\ndefault_upstream: {HOST}\n\
             policies: [policy.yaml]\naudit: {{ file: audit.jsonl }}\n",
            registry.url()
        );
        let policy = format!(
            "policies:\n  - {{ name: free, images: [\"{HOST}/**\"], unsafe_allow_unsigned: {{ because: x }} }}\n"
        );
        let own = [
            ("pullgate.yaml", configuration.as_str()),
            ("policy.yaml", policy.as_str()),
        ];
        for (name, text) in own.iter().chain(files) {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let log = File::create(folder.path().join("log")).expect("a file");
        let mut process = Command::new(env!("CARGO_BIN_EXE_pullgate"))
            .args(["--log-format", form, "serve", "--config"])
            .arg(folder.path().join("pullgate.yaml"))
            .env("PULLGATE_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut said = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("its stdout"));
        stdout.read_line(&mut said).expect("its first line");
        let (address, admin) = said
            .trim_end()
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split_once(", admin on "))
            .expect("the line on stdout");
        Self {
            pulls: Client::new(address),
            program: Program {
                process,
                address: address.to_owned(),
                admin: admin.to_owned(),
            },
            said,
            stdout,
            answers: Vec::new(),
            folder,
            registry,
            package,
        }
    }

    /// Where the image's layer is.
    fn layer(&self, repository: &str) -> String {
        let layer = Digest::sha256(&self.package.blobs[1]);
        format!("/v2/{repository}/blobs/{layer}")
    }

    /// A GET, perhaps with an Authorization header, that is answered so.
    async fn get(&mut self, target: &str, authorization: Option<&str>, status: StatusCode) {
        let header = authorization.map(|value| ("authorization", value));
        let answer = self.pulls.ask(Method::GET, target, header.as_slice()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{target}: {:?}", answer.message());
        self.answers.push(answer);
    }

    /// The registry was sent this Authorization header.
    #[track_caller]
    fn was_shown(&self, authorization: &str) {
        let shown = |request: &Recorded| request.header("authorization") == Some(authorization);
        let count = self.registry.count(shown);
        assert!(count > 0, "{authorization} never came to the registry");
    }

    /// Ends it as an operator does. It has logged each of `lines`, and has written and answered
    /// none of `secrets`.
    async fn hides(mut self, lines: &[&str], secrets: &[&str]) {
        let operators = Client::new(&self.program.admin);
        for target in ["/metrics", "/decisions"] {
            let answer = operators.get(target).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK, "{target}");
            self.answers.push(answer);
        }
        let pid = self.program.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill").success());
        assert!(self.program.process.wait().expect("it ends").success());
        self.stdout.read_to_string(&mut self.said).expect("text");
        let [log, audit] = ["log", "audit.jsonl"].map(|name| {
            let text = std::fs::read_to_string(self.folder.path().join(name));
            text.expect("a file")
        });
        // Only its libraries say what it connects to.
        let address = self.registry.address().to_string();
        for line in lines.iter().chain(&["TRACE", address.as_str()]) {
            assert!(log.contains(*line), "{line} is not logged: {log}");
        }
        assert!(audit.contains(&format!("{HOST}/app")), "{audit}");
        let answers = format!("{:?}", self.answers);
        for secret in secrets {
            for (place, text) in [
                ("the log", &log),
                ("the audit log", &audit),
                ("stdout", &self.said),
                ("an answer", &answers),
            ] {
                let line = text.lines().find(|line| line.contains(*secret));
                assert_eq!(line, None, "{secret} is in {place}");
            }
        }
    }
}

/// A text that stands nowhere by chance.
fn secret(name: &str) -> String {
    Digest::sha256(name.as_bytes()).hex()
}

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// What follows the scheme's name in an Authorization header.
fn credential(authorization: &str) -> &str {
    authorization.split_once(' ').expect("a scheme").1
}

// What a client sends goes to the registry and to its token service, and is written nowhere.
#[tokio::test]
async fn what_a_client_sends_is_not_written_down() {
    let [word, wrong_word, token] = ["word", "wrong word", "token"].map(secret);
    let (alice, mallory) = (basic("alice", &word), basic("mallory", &wrong_word));
    let bearer = format!("Bearer {token}");
    let logins = vec![Login::new("alice", &word)];
    for form in FORMS {
        for auth in [Auth::Basic(logins.clone()), Auth::Bearer(logins.clone())] {
            let mut world = World::start(form, auth, "credentials: caller", &[]).await;
            let layer = world.layer("app");
            for (authorization, status) in [
                (alice.as_str(), StatusCode::OK),
                (mallory.as_str(), StatusCode::UNAUTHORIZED),
                (bearer.as_str(), StatusCode::UNAUTHORIZED),
            ] {
                for target in [PULL, layer.as_str(), "/v2/"] {
                    world.get(target, Some(authorization), status).await;
                }
                world.was_shown(authorization);
            }
            let lines = ["admitted", "the upstream wants a login"];
            let secrets = [
                word.as_str(),
                wrong_word.as_str(),
                token.as_str(),
                credential(&alice),
                credential(&mallory),
            ];
            world.hides(&lines, &secrets).await;
        }
    }
}

// Nor is a token of the registry's own service: one that it gave to us, the same from a client that
// had it itself, and one that the registry does not take.
#[tokio::test]
async fn a_token_of_the_registry_is_not_written_down() {
    let (word, token) = (secret("word"), secret("of the service"));
    let (alice, bob) = (basic("alice", &word), basic("bob", &word));
    let logins = vec![Login::new("alice", &word), Login::new("bob", &word)];
    for form in FORMS {
        let auth = Auth::Bearer(logins.clone());
        let mut world = World::start(form, auth, "credentials: caller", &[]).await;
        // The first that Alice's pull is given, for this repository.
        let first = "Bearer sandbox-token-1";
        for authorization in [alice.as_str(), first] {
            world.registry.clear_requests();
            world.get(PULL, Some(authorization), StatusCode::OK).await;
            world.was_shown(first);
        }
        let body = json!({"token": token}).to_string();
        let lie = Misdeed::WrongBytes(body.into());
        world.registry.misbehave(Fault::on(Endpoint::Token, lie));
        let status = StatusCode::UNAUTHORIZED;
        world.get(PULL, Some(bob.as_str()), status).await;
        world.was_shown(&format!("Bearer {token}"));
        let lines = ["admitted", "the upstream wants a login"];
        let secrets = [
            word.as_str(),
            credential(&alice),
            credential(&bob),
            token.as_str(),
            "sandbox-token-",
        ];
        world.hides(&lines, &secrets).await;
    }
}

// Our own user and password, at a registry or a token service that refuses them, fails and takes
// them.
#[tokio::test]
async fn a_password_of_ours_is_not_written_down() {
    let word = secret("ours");
    let ours = basic("pullgate", &word);
    let config = json!({"auths": {HOST: {"auth": credential(&ours)}}}).to_string();
    let files = [
        ("password", word.as_str()),
        ("config.json", config.as_str()),
    ];
    let logins = vec![Login::new("pullgate", &word)];
    for (form, source) in [
        ("text", "{ username: pullgate, password_file: password }"),
        ("json", "{ docker_config: config.json }"),
    ] {
        for auth in [Auth::Basic(logins.clone()), Auth::Bearer(logins.clone())] {
            let upstream = format!("credentials: {source}");
            let mut world = World::start(form, auth, &upstream, &files).await;
            // Whoever says nothing is turned away before it meets a fault: it is the answer to the
            // password, at the registry or at its token service.
            for refusal in [StatusCode::UNAUTHORIZED, StatusCode::INTERNAL_SERVER_ERROR] {
                let fault = world.registry.misbehave(Misdeed::Status(refusal));
                world.registry.clear_requests();
                let status = StatusCode::SERVICE_UNAVAILABLE;
                world.get(PULL, None, status).await;
                world.was_shown(&ours);
                world.registry.forgive(fault);
            }
            world.registry.clear_requests();
            world.get(PULL, None, StatusCode::OK).await;
            world.was_shown(&ours);
            let lines = ["upstream_unauthorized", "upstream_unreachable", "admitted"];
            let secrets = [word.as_str(), credential(&ours), "sandbox-token-"];
            world.hides(&lines, &secrets).await;
        }
    }
}

// The query of a presigned URL opens the storage to whoever reads it.
#[tokio::test]
async fn a_presigned_url_is_not_written_down() {
    let signature = secret("signature");
    let query = format!("X-Amz-Signature={signature}");
    for form in FORMS {
        let redirects = "redirects: [\"127.0.0.1\"]";
        let mut world = World::start(form, Auth::None, redirects, &[]).await;
        let storage = Registry::start().await.expect("a port");
        push(&storage, "app", &world.package);
        let layer = world.layer("app");
        let presigned = |site: &str| Misdeed::Redirect(format!("{site}{layer}?{query}"));
        let redirect = Fault::on(Endpoint::Blobs, presigned(&storage.url()));
        world.registry.misbehave(redirect);
        for (repository, misdeed) in [
            ("refused", Some(Misdeed::Status(StatusCode::FORBIDDEN))),
            ("dropped", Some(Misdeed::DropConnection)),
            ("elsewhere", Some(presigned("http://storage.test"))),
            ("app", None),
        ] {
            push(&world.registry, repository, &world.package);
            let status = match misdeed {
                Some(_) => StatusCode::SERVICE_UNAVAILABLE,
                None => StatusCode::OK,
            };
            let fault = misdeed.map(|misdeed| storage.misbehave(misdeed));
            storage.clear_requests();
            let target = format!("/v2/{repository}/manifests/v1");
            world.get(&target, None, StatusCode::OK).await;
            let layer = world.layer(repository);
            world.get(&layer, None, status).await;
            let signed = |request: &Recorded| request.query.as_deref() == Some(query.as_str());
            assert!(storage.count(signed) > 0, "{repository} was not asked for");
            if let Some(fault) = fault {
                storage.forgive(fault);
            }
        }
        let lines = [
            "status 403",
            "cannot be reached",
            "storage.test",
            "admitted",
        ];
        world.hides(&lines, &[signature.as_str()]).await;
    }
}
