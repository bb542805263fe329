//! The program as it is run, where a socket or a process is the point: bytes as they stand on the
//! wire, and what is left when it is told to reload, killed, and started again over what it left.

mod outage;
mod restarts;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{self, Registry};
use pullgate::sandbox::sigstore::{Recipe, Sigstore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::program::Program;
use crate::support::{Answer, HOST, recipe, release};

/// How long the program may take to answer, or to notice something.
const PATIENCE: Duration = Duration::from_secs(30);

/// What [`release`] has signed passes, and nothing else.
const RELEASES: &str = r#"
signers:
  release: { keyless: { issuer: github-actions, identity_glob: "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/v*" } }
  mallory: { keyless: { issuer: google, identity: mallory@mallory.test } }
policies:
  - { name: releases, images: [HOST/**], signed_by: release }
"#;

/// What is otherwise than at most sites.
#[derive(Default)]
struct Settings<'a> {
    registry: registry::Options,
    /// More about the upstream, behind its URL.
    upstream: &'a str,
    /// More lines of the configuration.
    more: &'a str,
}

/// A registry, and a folder with a configuration.
pub(crate) struct Site {
    pub(crate) registry: Registry,
    pub(crate) sigstore: Sigstore,
    pub(crate) folder: TempDir,
}

/// The program on it.
pub(crate) struct Gate {
    program: Program,
}

impl Site {
    pub(crate) async fn new(policies: &str) -> Self {
        Self::with(policies, Settings::default()).await
    }

    async fn with(policies: &str, settings: Settings<'_>) -> Self {
        let Settings {
            registry,
            upstream,
            more,
        } = settings;
        let now = Clock::system().now() - SignedDuration::from_secs(60);
        let site = Self {
            registry: Registry::start_with(registry).await.expect("a port"),
            sigstore: Sigstore::new(now),
            folder: TempDir::new().expect("a folder"),
        };
        let url = site.registry.url();
        let configuration = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\npolicies: [policies.yaml]\n\
             upstreams: {{ {HOST}: {{ url: {url:?}{upstream} }} }}\ndefault_upstream: {HOST}\n\
             trust_roots: {{ acme: {{ file: root.json }} }}\ndefault_trust_root: acme\n\
             cache: {{ directory: cache, tag_ttl: 0s }}\n{more}"
        );
        site.write("pullgate.yaml", &configuration);
        site.write("root.json", &site.sigstore.trusted_root_json());
        site.rule(policies);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Writes the policies, which are in force from the next start or reload on.
    fn rule(&self, policies: &str) {
        self.write("policies.yaml", &policies.replace("HOST", HOST));
    }

    pub(crate) fn run(&self) -> Gate {
        Gate {
            program: Program::start(env!("CARGO_BIN_EXE_pullgate"), self.folder.path()),
        }
    }

    /// Kills the program by SIGKILL, and starts it again over what it left.
    fn restart(&self, gate: Gate) -> Gate {
        drop(gate);
        self.run()
    }

    pub(crate) fn push(&self, repository: &str, content: &str) -> Package {
        let package = image::runnable(content).tagged("v1");
        self.registry.put_package(repository, &package);
        package
    }

    pub(crate) fn sign(&self, repository: &str, package: &Package, recipe: &Recipe<'_>) {
        let bundle = self.sigstore.sign_bundle(&package.descriptor(), recipe);
        self.registry.put_package(repository, &bundle);
    }

    /// Pushes an image that is signed so, for a tag of its own.
    pub(crate) fn signed(&self, repository: &str, recipe: &Recipe<'_>) -> Package {
        let package = self.push(repository, &format!("{repository} {recipe:?}"));
        self.sign(repository, &package, recipe);
        package
    }

    /// Pushes an image that [`release`] signs.
    fn released(&self, repository: &str) -> Package {
        let identity = release();
        self.signed(repository, &recipe(&identity))
    }

    /// Pushes an index of one image under a tag, and that image.
    fn push_index(&self, repository: &str, content: &str) -> (Package, Package) {
        let child = image::runnable(content);
        let index = image::index(&[child.descriptor()]).tagged("v1");
        for package in [&child, &index] {
            self.registry.put_package(repository, package);
        }
        (index, child)
    }

    /// Where a manifest or blob lies in the cache directory, once it does.
    async fn kept(&self, kind: &str, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let shard = self.path(&format!("cache/{kind}/sha256/{}", &hex[..2]));
        let has_name = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(&hex)
        };
        let what = format!("{kind} {digest} is not kept");
        until(&what, || files(&shard).into_iter().find(has_name)).await
    }

    /// Waits until the store of hints tells of all of these.
    async fn hinted(&self, digests: &[Digest]) {
        let told = || {
            let store = fs::read(self.path("cache/hints.redb")).unwrap_or_default();
            let tells_of = |digest: &Digest| {
                let digest = digest.as_bytes();
                store.windows(digest.len()).any(|bytes| bytes == digest)
            };
            digests.iter().all(tells_of).then_some(())
        };
        until("the hints are not written", told).await;
        // The end of a transaction is written right behind what it is about.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Gate {
    /// Bytes as they stand, on a connection of their own; the answers that come until it ends.
    async fn raw(&self, request: &str) -> Vec<Answer> {
        let talk = async {
            let mut stream = TcpStream::connect(&self.program.address)
                .await
                .expect("connects");
            stream.write_all(request.as_bytes()).await.expect("is sent");
            let mut answer = Vec::new();
            // A reset is the end of what came; whether that is all, its length says.
            let _ = stream.read_to_end(&mut answer).await;
            answer
        };
        let talked = tokio::time::timeout(PATIENCE, talk).await;
        answers(&talked.expect("the connection ends"))
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request += "Host: gate\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut answers = self.raw(&(request + "\r\n")).await;
        assert_eq!(answers.len(), 1, "{method} {target} {headers:?}");
        answers.remove(0)
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[]).await
    }

    /// A GET of a manifest by tag or digest.
    async fn manifest(&self, repository: &str, reference: impl ToString) -> Answer {
        let reference = reference.to_string();
        self.get(&format!("/v2/{repository}/manifests/{reference}"))
            .await
    }

    /// A GET of a blob.
    async fn blob(&self, repository: &str, digest: Digest) -> Answer {
        self.get(&format!("/v2/{repository}/blobs/{digest}")).await
    }

    /// The word of a refusal, or `admitted`.
    async fn verdict(&self, repository: &str, reference: impl ToString) -> String {
        let answer = self.manifest(repository, reference).await;
        if answer.status == StatusCode::OK {
            return "admitted".to_owned();
        }
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        let message = answer.message();
        let word = message.split(['[', ']']).nth(1);
        word.unwrap_or_else(|| panic!("{message}")).to_owned()
    }

    pub(crate) async fn says(&self, repository: &str, reference: impl ToString, verdict: &str) {
        let reference = reference.to_string();
        let told = self.verdict(repository, &reference).await;
        assert_eq!(told, verdict, "{repository} {reference}");
    }

    /// Waits until it says so.
    pub(crate) async fn comes_to_say(&self, repository: &str, verdict: &str) {
        let begun = Instant::now();
        while self.verdict(repository, "v1").await != verdict {
            assert!(begun.elapsed() < PATIENCE, "{repository} never {verdict}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn reload(&self) {
        let pid = self.program.process.id().to_string();
        let told = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(told.expect("kill").success());
    }
}

/// The answers in what came back, one behind the other. The last may lack its end, or all of its
/// body, as that to a HEAD does.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, rest) = bytes.split_at(end.expect("the end of a head"));
        let head = std::str::from_utf8(head).expect("a head");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a field");
            let name: HeaderName = name.parse().expect("a name");
            let value: HeaderValue = value.trim().parse().expect("a value");
            (name, value)
        });
        let headers: HeaderMap = fields.collect();
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or_default();
        let rest = &rest[4..];
        let (body, rest) = rest.split_at(length.min(rest.len()));
        answers.push(Answer {
            status: status.expect("a status"),
            whole: body.len() == length,
            headers,
            body: Bytes::copy_from_slice(body),
        });
        bytes = rest;
    }
    answers
}

/// All files below a folder; none, where it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path),
            false => vec![path],
        }
    });
    below.collect()
}

/// Waits until it is found.
async fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
