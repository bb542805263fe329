//! `pullgate demo`: the gate at work in front of an embedded registry and a private Sigstore.
//!
//! A signed image passes; then attacks are tried one by one and refused, each with the
//! message that a user would see. Anything that comes out otherwise makes the exit code 1.

use std::{
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::app;
use crate::clock::Clock;
use crate::config;
use crate::oci::Digest;
use crate::sandbox::client::{Answer, Client};
use crate::sandbox::image;
use crate::sandbox::image::{Disguise, Package};
use crate::sandbox::registry::Registry;
use crate::sandbox::sigstore::{Identity, Log, Recipe, Sigstore};
use crate::server;

const REPOSITORY: &str = "acme/widget";
/// Pulls that the hot time is the median of.
const HOT_PULLS: usize = 200;

/// How long a tag is taken to name what it named, here: the hot pulls fit in, and the demo has
/// to wait that long for a moved tag to be seen.
const TAG_TTL_MS: u64 = 500;

/// Arguments of `pullgate demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Leaves everything running until Ctrl-C, and prints the lines to try by hand.
    #[arg(long)]
    keep: bool,
}

/// The embedded world.
struct World {
    registry: Registry,
    sigstore: Sigstore,
    release: Identity,
    gate: SocketAddr,
    client: Client,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// The threads that prove end with it.
    _built: app::Built,
    _files: Files,
}

/// One attack.
struct Attack {
    tried: &'static str,
    path: String,
    reason: &'static str,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let world = World::start().await?;
    println!("pullgate demo: an embedded registry, a private Sigstore, and the gate between.\n");
    let mut surprises = 0;
    surprises += usize::from(!world.show_pass().await?);
    let attacks = world.attacks();
    tokio::time::sleep(Duration::from_millis(TAG_TTL_MS)).await;
    for attack in attacks {
        surprises += usize::from(!world.show_refusal(&attack).await?);
    }
    if arguments.keep {
        world.print_lines();
        tokio::signal::ctrl_c()
            .await
            .context("Ctrl-C cannot be listened for")?;
    }
    world.stop().await;
    if surprises == 0 {
        println!("All came out as expected.");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{surprises} did NOT come out as expected.");
        Ok(ExitCode::FAILURE)
    }
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let clock = Clock::system();
        let registry = Registry::start().await.context("the embedded registry")?;
        let sigstore = Sigstore::new(clock.now());
        let release = Identity::github_actions("acme/widget", "release.yml", "refs/tags/v1.0.0");
        let files = Files::write(&registry.url(), &sigstore, &release)?;
        let loaded = config::load(&files.config(), &app::checks(), clock.now())
            .map_err(|problems| anyhow::anyhow!("the demo's configuration: {problems:?}"))?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let built = app::build(&loaded.settings, clock, tasks.clone())?;
        let socket = TcpListener::bind(loaded.settings.listen).await?;
        let gate = socket.local_addr()?;
        let listener = server::Listener {
            socket: server::Acceptor::new(socket)?,
            tls: None,
            limits: built.connections,
        };
        let serving = server::serve(
            listener,
            Arc::clone(&built.service),
            shutdown.clone(),
            tasks.clone(),
        );
        tasks.spawn(serving);
        let client = Client::new(gate);
        Ok(Self {
            registry,
            sigstore,
            release,
            gate,
            client,
            shutdown,
            tasks,
            _built: built,
            _files: files,
        })
    }

    async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        self.tasks.close();
        // Idle connections of other clients need not hold the demo up.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        self.registry.stop().await;
    }

    fn push(&self, package: &Package) -> Digest {
        self.registry.put_package(REPOSITORY, package)
    }

    /// Pushes an image and a signature by `signer` about it.
    fn push_signed(&self, package: &Package, signer: &Identity) -> Digest {
        let digest = self.push(package);
        let recipe = Recipe::keyless(signer, Log::RekorV2);
        self.push(&self.sigstore.sign_bundle(&package.descriptor(), &recipe));
        digest
    }

    /// A signed release for two platforms passes: cold, then hot.
    async fn show_pass(&self) -> anyhow::Result<bool> {
        let amd64 = image::runnable_for(&image::platform("linux", "amd64"), "release 1.0.0, amd64");
        let arm64 = image::runnable_for(&image::platform("linux", "arm64"), "release 1.0.0, arm64");
        let entries = [&amd64, &arm64].map(|package| {
            let architecture = if std::ptr::eq(package, &amd64) {
                "amd64"
            } else {
                "arm64"
            };
            image::entry_for(package, image::platform("linux", architecture))
        });
        self.push(&amd64);
        self.push(&arm64);
        self.push_signed(&image::index(&entries).tagged("v1.0.0"), &self.release);

        let path = manifest_path("v1.0.0");
        let (cold, answer) = self.timed(&path).await?;
        let mut times = Vec::with_capacity(HOT_PULLS);
        for _ in 0..HOT_PULLS {
            times.push(self.timed(&path).await?.0);
        }
        times.sort();
        let hot = times[HOT_PULLS / 2];
        let child = self
            .client
            .get(&manifest_path(&amd64.digest().to_string()))
            .await?;
        let layer = amd64.blobs.last().context("the image has a layer")?;
        let blob = self.client.get(&blob_path(&Digest::sha256(layer))).await?;
        let passed = answer.status == StatusCode::OK
            && child.status == StatusCode::OK
            && child.body == amd64.manifest
            && blob.status == StatusCode::OK
            && blob.body == *layer;
        println!(
            "{} the release v1.0.0, signed by its release workflow",
            mark(passed, "PASSES ")
        );
        println!("         index, platform manifest and layer came out right");
        println!(
            "         cold {} us (found, proved, judged), hot {} us (median of {HOT_PULLS})\n",
            cold.as_micros(),
            hot.as_micros()
        );
        Ok(passed)
    }

    async fn timed(&self, path: &str) -> anyhow::Result<(Duration, Answer)> {
        let started = Instant::now();
        let answer = self.client.get(path).await?;
        Ok((started.elapsed(), answer))
    }

    fn attacks(&self) -> Vec<Attack> {
        let unsigned = image::runnable("nobody signed this").tagged("unsigned");
        let unsigned_digest = self.push(&unsigned);
        let stranger =
            Identity::github_actions("mallory/widget", "release.yml", "refs/tags/v1.0.0");
        self.push_signed(
            &image::runnable("signed by a stranger").tagged("stranger"),
            &stranger,
        );

        // A true signature of one image is hung onto another.
        let signed = image::runnable("signed, and its signature is copied").tagged("signed");
        let moved = image::runnable("with a signature that is not its own").tagged("moved");
        self.push(&signed);
        self.push(&moved);
        let recipe = Recipe::keyless(&self.release, Log::RekorV1);
        let signature = self
            .sigstore
            .sign_layer(&signed.digest(), REPOSITORY, &recipe);
        let tag = format!("{}.sig", image::fallback_tag(&moved.digest()));
        let config = image::Blob::config(&serde_json::json!({}));
        self.push(
            &image::Draft::of(config, vec![signature])
                .pack()
                .tagged(&tag),
        );

        // The tag of the release goes to other content.
        self.push(&image::runnable("not what was released").tagged("v1.0.0"));

        let dressed = image::disguised(Disguise::ArtifactType, &signed.descriptor(), "dressed up");
        self.push(&dressed.tagged("dressed"));

        let child = image::runnable("a child of an unsigned index");
        let child_digest = self.push(&child);
        let entry = image::entry_for(&child, image::platform("linux", "amd64"));
        self.push(&image::index(&[entry]).tagged("unsigned-index"));

        let layer = unsigned.blobs.last().map(|layer| Digest::sha256(layer));
        vec![
            Attack {
                tried: "an image that nobody signed",
                path: manifest_path("unsigned"),
                reason: "unsigned",
            },
            Attack {
                tried: "an image that a stranger signed",
                path: manifest_path("stranger"),
                reason: "untrusted_signer",
            },
            Attack {
                tried: "a good signature, moved from another image",
                path: manifest_path("moved"),
                reason: "invalid_signature",
            },
            Attack {
                tried: "the tag v1.0.0, moved to other content",
                path: manifest_path("v1.0.0"),
                reason: "unsigned",
            },
            Attack {
                tried: "a runnable image dressed up as a signature",
                path: manifest_path("dressed"),
                reason: "unsigned",
            },
            Attack {
                tried: "a layer of a refused image, asked for directly",
                path: blob_path(&layer.unwrap_or(unsigned_digest)),
                reason: "not_reachable",
            },
            Attack {
                tried: "a child of an unsigned index, asked for by digest",
                path: manifest_path(&child_digest.to_string()),
                reason: "unsigned",
            },
        ]
    }

    async fn show_refusal(&self, attack: &Attack) -> anyhow::Result<bool> {
        let answer = self.client.get(&attack.path).await?;
        let message = answer.message().unwrap_or_default();
        let expected = format!("[{}]", attack.reason);
        let refused = answer.status == StatusCode::FORBIDDEN && message.contains(&expected);
        println!("{} {}", mark(refused, "REFUSED"), attack.tried);
        println!("         {} {message}\n", answer.status.as_u16());
        Ok(refused)
    }

    fn print_lines(&self) {
        let image = format!("{}/{REPOSITORY}", self.gate);
        println!(
            "Left running. To try by hand (`signed-again` passes, `unsigned` is refused; ctr wants root):"
        );
        let good = image::runnable("signed and good").tagged("signed-again");
        self.push_signed(&good, &self.release);
        for tag in ["signed-again", "unsigned"] {
            println!(
                "  skopeo copy --src-tls-verify=false docker://{image}:{tag} dir:/tmp/pullgate-demo"
            );
            println!("  podman pull --tls-verify=false {image}:{tag}");
            println!("  ctr image pull --plain-http {image}:{tag}");
        }
        println!("Ctrl-C ends it.");
    }
}

fn mark(as_expected: bool, word: &'static str) -> &'static str {
    if as_expected { word } else { "UNEXPECTED:" }
}

fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

fn blob_path(digest: &Digest) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

/// The demo's configuration, in a folder of its own that goes away with it.
struct Files {
    folder: std::path::PathBuf,
}

impl Files {
    fn write(registry: &str, sigstore: &Sigstore, release: &Identity) -> anyhow::Result<Self> {
        let name = format!("pullgate-demo-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        let files = Self { folder };
        let config = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ registry.acme.test: {{ url: \"{registry}\" }} }}\n\
             default_upstream: registry.acme.test\n\
             policies: [policy.yaml]\n\
             trust_roots: {{ demo: {{ file: trusted_root.json }} }}\n\
             cache: {{ tag_ttl: {TAG_TTL_MS}ms }}\n"
        );
        let policy = format!(
            "signers:\n  release:\n    keyless:\n      issuer: github-actions\n      \
             identity: {}\n      trust_root: demo\n\
             policies:\n  - name: widget\n    images: [registry.acme.test/acme/**]\n    \
             signed_by: release\n",
            release.subject
        );
        files.put("pullgate.yaml", &config)?;
        files.put("policy.yaml", &policy)?;
        files.put("trusted_root.json", &sigstore.trusted_root_json())?;
        Ok(files)
    }

    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path: &Path = &self.folder.join(name);
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.join("pullgate.yaml")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
