//! A whole world in one process, for tests: a registry that may misbehave, a private Sigstore,
//! and pullgate in front of the registry, asked over a real socket.
//!
//! [`World::get`] and its siblings are what clients do; [`World::gate`] is there for what no
//! client sees. Time is moved with [`World::pass`], never waited for.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use pullgate::audit::Decisions;
use pullgate::authn::{self, Authn};
use pullgate::clock::Clock;
use pullgate::content;
use pullgate::evidence;
use pullgate::gate::{self, Ask, Gate, Parts};
use pullgate::hands::Hands;
use pullgate::metrics::Metrics;
use pullgate::oci::{Digest, ImageName, RegistryHost};
use pullgate::policy::{
    DefaultRule, Glob, IdentityRule, KeyHolder, Keyless, Mode, Policy, Requirement, Rules,
    SignedBy, SignedIdentity, SignerKind, SignerRule, Signs,
};
use pullgate::sandbox::image::Package;
use pullgate::sandbox::registry::{self, Registry};
use pullgate::sandbox::sigstore::{
    Evidence, Identity, KeyPair, Log, Recipe, Sigstore, signature_tag,
};
use pullgate::server::{self, Acceptor, Callers, Listener, Router, Service};
use pullgate::upstream::{self, Lookaside, Upstream};
use pullgate::verify::{Demands, Material, PublicKey, RootName, TrustRoot, read_keyring};

/// The registry that image names carry.
pub(crate) const HOST: &str = "registry.acme.test";
/// Another upstream, where there is one.
pub(crate) const MIRROR: &str = "mirror.acme.test";
/// The trust root's name.
pub(crate) const ROOT: &str = "acme";

/// Who may sign.
pub(crate) fn release() -> Identity {
    Identity::github_actions("acme/widget", "release.yml", "refs/tags/v1.0.0")
}

/// Somebody else, whom the same Sigstore certifies.
pub(crate) fn stranger() -> Identity {
    Identity::email("mallory@mallory.test", "https://accounts.google.com")
}

/// A signature by [`release`], as cosign makes it today.
pub(crate) fn recipe(identity: &Identity) -> Recipe<'_> {
    Recipe::keyless(identity, Log::RekorV2)
}

/// What a world is made of, where a test wants it otherwise.
pub(crate) struct Setup {
    pub(crate) registry: registry::Options,
    /// A second upstream, [`MIRROR`].
    pub(crate) mirror: bool,
    pub(crate) rules: Rules,
    pub(crate) settings: gate::Settings,
    pub(crate) memory_blob_bytes_max: u64,
    /// With a lookaside store for [`HOST`], for as long as the world lasts.
    pub(crate) lookaside: bool,
    /// With a cache directory, for as long as the world lasts.
    pub(crate) directory: bool,
    /// Who may ask; everybody without.
    pub(crate) callers: Option<authn::Settings>,
    /// Changes the settings of the upstreams.
    pub(crate) upstream: fn(&mut upstream::Settings),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            registry: registry::Options::default(),
            mirror: false,
            rules: rules(vec![signed_by(
                "release",
                "**",
                &[identity_rule(&release())],
            )]),
            settings: settings(),
            memory_blob_bytes_max: 1 << 20,
            lookaside: false,
            directory: false,
            callers: None,
            upstream: |_| {},
        }
    }
}

impl Setup {
    pub(crate) fn ruled(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }
}

/// Long lives, so that what a test sees is not an entry that happened to expire.
pub(crate) fn settings() -> gate::Settings {
    gate::Settings {
        facts_ttl: Duration::from_secs(3600),
        unsigned_ttl: Duration::from_secs(3600),
        permit_ttl: Duration::from_secs(3600),
        tag_ttl: Duration::ZERO,
        stale_ttl: Duration::ZERO,
        evidence: evidence::Limits {
            artifacts_max: 64,
            bundle_bytes_max: 1 << 20,
            payload_bytes_max: 64 << 10,
            attestation_bytes_max: 32 << 20,
            deadline: Duration::from_secs(10),
        },
        index_manifests_max: 64,
        index_depth_max: 4,
        decision_deadline: Duration::from_secs(60),
        searches_max: 32,
        search_queue_max: 10_000,
        evidence_in_flight_bytes_max: 256 << 20,
        verification_threads: 2,
        verification_queue_max: 10_000,
        evidence_bytes_max: 32 << 20,
    }
}

/// Policies, and refusal where none matches.
pub(crate) fn rules(policies: Vec<Policy>) -> Rules {
    Rules {
        policies: policies.into_iter().map(Arc::new).collect(),
        default: DefaultRule::Deny,
    }
}

pub(crate) fn policy(name: &str, images: &str, requirement: Requirement) -> Policy {
    Policy {
        name: name.into(),
        images: vec![Glob::new(images).expect("a glob")],
        except: Vec::new(),
        mode: Mode::Enforce,
        requirement,
        signs: Signs::Either,
        pulled_by: None,
        no_rollback: None,
    }
}

/// A policy that any one of these signers satisfies.
pub(crate) fn signed_by(name: &str, images: &str, signers: &[Arc<SignerRule>]) -> Policy {
    let requirement = Requirement::signed_by(SignedBy {
        at_least: 1,
        of: signers.to_vec(),
    });
    policy(name, images, requirement)
}

pub(crate) fn identity_rule(identity: &Identity) -> Arc<SignerRule> {
    let rule = IdentityRule::exact(&identity.subject).expect("an identity");
    keyless(&identity.subject, &identity.issuer, rule)
}

pub(crate) fn keyless(name: &str, issuer: &str, identity: IdentityRule) -> Arc<SignerRule> {
    Arc::new(SignerRule {
        name: name.into(),
        kind: SignerKind::Keyless(Keyless {
            issuer: IdentityRule::exact(issuer).expect("an issuer"),
            identity,
            claims: Vec::new(),
            root: RootName::from(ROOT),
            demands: Demands::default(),
        }),
        signed_identity: None,
    })
}

/// A signer by key; with `logged`, the trust root's log has to hold the signature.
pub(crate) fn key_rule(name: &str, key: &KeyPair, logged: bool) -> Arc<SignerRule> {
    Arc::new(SignerRule {
        name: name.into(),
        kind: SignerKind::Key(KeyHolder::of(
            PublicKey::from_spki(&key.public_key_der()),
            logged.then(|| RootName::from(ROOT)),
        )),
        signed_identity: None,
    })
}

/// A signer by OpenPGP keys, for an image that fits the rule.
pub(crate) fn gpg_rule(name: &str, keyring: &[u8], identity: SignedIdentity) -> Arc<SignerRule> {
    Arc::new(SignerRule {
        name: name.into(),
        kind: SignerKind::Gpg {
            keys: read_keyring(keyring).expect("a keyring"),
        },
        signed_identity: Some(identity),
    })
}

/// See the module's description.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) mirror: Option<Registry>,
    pub(crate) sigstore: Sigstore,
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: TaskTracker,
    pub(crate) decisions: Arc<Decisions>,
    /// What tags named when they were served.
    pub(crate) served: content::Served,
    /// Who says who asks, where callers are asked.
    pub(crate) authn: Option<Arc<Authn>>,
    address: SocketAddr,
    seconds_passed: Arc<AtomicI64>,
    signatures: Option<TempDir>,
    _directory: Option<TempDir>,
    _shutdown: DropGuard,
}

impl World {
    /// A world in which whatever [`release`] signed passes.
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let registry = Registry::start_with(setup.registry).await.expect("a port");
        let mirror = match setup.mirror {
            true => Some(Registry::start().await.expect("a port")),
            false => None,
        };
        let seconds_passed = Arc::new(AtomicI64::new(0));
        let clock = {
            let passed = Arc::clone(&seconds_passed);
            let system = Clock::system();
            Clock::from_fn(move || {
                system.now() + SignedDuration::from_secs(passed.load(Ordering::SeqCst))
            })
        };
        // A minute ago: the verifier family refuses log entries from the future.
        let sigstore = Sigstore::new(clock.now() - SignedDuration::from_secs(60));
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let tasks = TaskTracker::new();
        let hands = Hands::new(tasks.clone(), Handle::current());
        let signatures = setup
            .lookaside
            .then(|| TempDir::new().expect("a directory"));
        let upstreams = [(HOST, Some(&registry)), (MIRROR, mirror.as_ref())];
        let upstreams = upstreams
            .into_iter()
            .filter_map(|(host, registry)| Some((host, registry?)))
            .map(|(host, registry)| {
                let signatures = signatures.as_ref().filter(|_| host == HOST);
                upstream_of(host, registry, signatures, setup.upstream)
            })
            .collect();
        let directory = setup
            .directory
            .then(|| TempDir::new().expect("a directory"));
        let content = content::Settings {
            memory_bytes_max: 64 << 20,
            memory_blob_bytes_max: setup.memory_blob_bytes_max,
            directory: directory.as_ref().map(|held| held.path().to_owned()),
            disk_bytes_max: 1 << 30,
            served_tags_max: 1000,
        };
        let content =
            content::Store::open(&content, Arc::clone(&metrics), clock.clone(), hands.clone());
        let content = content.expect("opens");
        let served = content.served().clone();
        let parts = Parts {
            upstreams,
            content,
            material: material(&sigstore.trusted_root_json(), &setup.rules),
            rules: setup.rules,
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            hands: hands.clone(),
        };
        let gate = Gate::new(setup.settings, parts);
        let shutdown = CancellationToken::new();
        let authn = setup.callers.map(|settings| {
            let parts = authn::Parts {
                clock: clock.clone(),
                metrics: Arc::clone(&metrics),
                hands,
            };
            Arc::new(Authn::new(settings, parts).expect("callers"))
        });
        let service = service(&gate, &metrics, clock, mirror.is_some(), authn.clone());
        let decisions = Arc::clone(&service.decisions);
        let limits = server::Limits {
            connections_max: 2000,
            header_read_timeout: Duration::from_secs(10),
            header_bytes_max: 32 << 10,
            slow_reader_timeout: Duration::from_secs(60),
        };
        let address = listen(Arc::new(service), limits, &shutdown, &tasks).await;
        Self {
            registry,
            mirror,
            sigstore,
            gate,
            metrics,
            tasks,
            decisions,
            served,
            authn,
            address,
            seconds_passed,
            signatures,
            _directory: directory,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Puts new policies in force, under the same trust root.
    pub(crate) fn reload(&self, rules: Rules) {
        let root = self.sigstore.trusted_root_json();
        self.reload_under(rules, &root);
    }

    /// Puts new policies and another trust root in force.
    pub(crate) fn reload_under(&self, rules: Rules, trusted_root: &str) {
        let material = material(trusted_root, &rules);
        self.gate.reload(rules, material);
    }

    /// Lets time pass, for policies and proofs.
    pub(crate) fn pass(&self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).expect("some seconds");
        self.seconds_passed.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The time in this world.
    pub(crate) fn now(&self) -> Timestamp {
        let passed = SignedDuration::from_secs(self.seconds_passed.load(Ordering::SeqCst));
        Clock::system().now() + passed
    }

    /// The sum of a metric over all series whose name and labels start so.
    pub(crate) fn counted(&self, prefix: &str) -> u64 {
        let text = self.metrics.render().expect("metrics");
        let values = text.lines().filter(|line| line.starts_with(prefix));
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }
}

/// Content.
impl World {
    /// Pushes a manifest with its blobs.
    pub(crate) fn push(&self, repository: &str, package: &Package) -> Digest {
        push(&self.registry, repository, package)
    }

    /// Pushes a bundle by which `identity` signs `image`.
    pub(crate) fn sign(&self, repository: &str, image: &Package, identity: &Identity) {
        let bundle = self
            .sigstore
            .sign_bundle(&image.descriptor(), &recipe(identity));
        self.push(repository, &bundle);
    }

    /// Pushes evidence as a bundle beside `image`.
    pub(crate) fn attach(&self, repository: &str, image: &Package, evidence: &Evidence) {
        self.push(repository, &evidence.artifact(&image.descriptor()));
    }

    /// Where the detached signatures of `digest` lie.
    pub(crate) fn lookaside_of(&self, repository: &str, digest: &Digest) -> PathBuf {
        let store = self.signatures.as_ref().expect("a lookaside store");
        let algorithm = digest.algorithm().as_str();
        store
            .path()
            .join(format!("{repository}@{algorithm}={}", digest.hex()))
    }

    /// Puts detached signatures of `image` into the lookaside store, in place of all others.
    pub(crate) fn detach(&self, repository: &str, digest: &Digest, signatures: &[Vec<u8>]) {
        let folder = self.lookaside_of(repository, digest);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (number, signature) in (1..).zip(signatures) {
            fs::write(folder.join(format!("signature-{number}")), signature).expect("a file");
        }
    }

    /// The lookaside store's folder.
    pub(crate) fn lookaside(&self) -> &Path {
        self.signatures.as_ref().expect("a lookaside store").path()
    }

    /// Pushes layers under the `.sig` tag of `image`.
    pub(crate) fn sign_layers(&self, repository: &str, image: &Package, recipes: &[Recipe<'_>]) {
        let layers = recipes.iter().map(|recipe| {
            let reference = format!("{HOST}/{repository}");
            self.sigstore
                .sign_layer(&image.digest(), &reference, recipe)
        });
        self.push(
            repository,
            &signature_tag(&image.digest(), layers.collect()),
        );
    }
}

/// What clients do.
impl World {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A GET of a manifest by tag or digest.
    pub(crate) async fn manifest(&self, repository: &str, reference: impl ToString) -> Answer {
        let reference = reference.to_string();
        self.get(&format!("/v2/{repository}/manifests/{reference}"))
            .await
    }

    /// A GET of a blob.
    pub(crate) async fn blob(&self, repository: &str, digest: Digest) -> Answer {
        self.get(&format!("/v2/{repository}/blobs/{digest}")).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target, &[]).await
    }

    /// Any request, on a connection of its own.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.connect().await.ask(method, target, headers).await
    }

    /// A connection that stays open.
    pub(crate) async fn connect(&self) -> Line {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("speaks HTTP");
        Line {
            address: self.address,
            sender,
            driver: tokio::spawn(connection),
        }
    }

    /// Bytes as they stand, for requests that no HTTP client makes; the status line that comes
    /// back.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("is sent");
        stream.shutdown().await.expect("is sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer);
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// The key of an admission, for [`Gate::manifest`].
    pub(crate) fn named(&self, repository: &str, reference: &impl ToString) -> Ask {
        Ask {
            image: image_name(repository),
            reference: reference.to_string().parse().expect("a reference"),
        }
    }
}

/// A connection that stays open, and asks one thing after the other.
pub(crate) struct Line {
    address: SocketAddr,
    sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    driver: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Line {
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        self.sender.ready().await.expect("an open connection");
        let answer = self.sender.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = body.collect().await;
        Answer {
            status: head.status,
            headers: head.headers,
            whole: body.is_ok(),
            body: body.map(|body| body.to_bytes()).unwrap_or_default(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What a client gets.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// False when the connection broke before the end of the body.
    pub(crate) whole: bool,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The first error of an OCI error body.
    fn error(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0].clone()
    }

    /// The reason's word, empty where there is none.
    pub(crate) fn reason(&self) -> String {
        let error = self.error();
        error["detail"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The code of the distribution specification.
    pub(crate) fn code(&self) -> String {
        let error = self.error();
        error["code"].as_str().unwrap_or_default().to_owned()
    }

    /// What people read.
    pub(crate) fn message(&self) -> String {
        let error = self.error();
        error["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The very bytes were served.
    #[track_caller]
    pub(crate) fn admits(&self, bytes: &[u8]) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.message());
        assert!(self.whole, "the body broke off");
        assert_eq!(self.body, bytes, "other bytes were served");
    }

    /// Policy said no, for this reason.
    #[track_caller]
    pub(crate) fn denies(&self, reason: &str) {
        assert_eq!(
            (self.status, self.reason().as_str()),
            (StatusCode::FORBIDDEN, reason),
            "{}",
            self.message()
        );
    }

    /// Nobody could tell, for this reason.
    #[track_caller]
    pub(crate) fn cannot_tell(&self, reason: &str) {
        let status = match reason {
            "content_mismatch" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        assert_eq!(
            (self.status, self.reason().as_str()),
            (status, reason),
            "{}",
            self.message()
        );
        assert!(self.headers.contains_key("retry-after"));
    }
}

pub(crate) fn image_name(repository: &str) -> ImageName {
    ImageName {
        registry: host(HOST),
        repository: repository.parse().expect("a repository"),
    }
}

pub(crate) fn host(name: &str) -> RegistryHost {
    name.parse().expect("a host")
}

pub(crate) fn push(registry: &Registry, repository: &str, package: &Package) -> Digest {
    registry.put_package(repository, package)
}

pub(crate) fn material(trusted_root: &str, rules: &Rules) -> Material {
    let root = TrustRoot::from_json(RootName::from(ROOT), trusted_root).expect("a trusted root");
    Material {
        roots: vec![Arc::new(root)],
        keys: rules.keys(),
        authorities: rules.authorities(),
        gpg_keys: rules.gpg_keys(),
        predicates: rules.predicates(),
        demands: rules.lenience(),
        ..Material::default()
    }
}

fn upstream_of(
    name: &str,
    registry: &Registry,
    signatures: Option<&TempDir>,
    change: fn(&mut upstream::Settings),
) -> Upstream {
    let mut settings = upstream::Settings::known(host(name));
    settings.url = registry.url().parse().expect("a URL");
    settings.limits.answer_timeout = Duration::from_secs(5);
    settings.lookaside = signatures.map(|held| Lookaside::Folder(held.path().to_owned()));
    change(&mut settings);
    Upstream::new(settings).expect("an upstream")
}

fn service(
    gate: &Gate,
    metrics: &Arc<Metrics>,
    clock: Clock,
    mirror: bool,
    authn: Option<Arc<Authn>>,
) -> Service {
    let mut upstreams = vec![(host(HOST), false)];
    if mirror {
        upstreams.push((host(MIRROR), false));
    }
    Service {
        gate: gate.clone(),
        router: Router::new(upstreams, Some(host(HOST))),
        decisions: Arc::new(Decisions::new(1000, 0)),
        metrics: Arc::clone(metrics),
        clock,
        callers: authn.map(|authn| Callers {
            authn,
            public_url: None,
            secure: false,
        }),
    }
}

/// Serves pulls on a free port, until `shutdown`; where that is.
pub(crate) async fn listen(
    service: Arc<Service>,
    limits: server::Limits,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let listener = Listener {
        socket: Acceptor::new(socket).expect("a listener"),
        tls: None,
        limits,
    };
    tasks.spawn(server::serve(
        listener,
        service,
        shutdown.clone(),
        tasks.clone(),
    ));
    address
}
