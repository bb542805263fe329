//! What a storm of first pulls does to pulls from the cache: their latency while nothing else is
//! going on, and again while thousands of distinct images are asked for at once, in one run. Beside
//! it the latency of the same pulls from a second gate, a bystander, of which nobody asks anything
//! else: what the machine does to any process while a storm is made on it.
//!
//! Usage: `storm PULLGATE [IMAGES] [ROUNDS]`, by `benches/load/storm.sh`, which gives the program
//! under test a core of its own. The images are signed keylessly, with an entry in Rekor v2 and a
//! timestamp, which is the dearest proof there is. Cached pulls come at a fixed pace whatever the
//! answers do, so that a slow answer is not a reason to ask less.

use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::sandbox::image;
use pullgate::sandbox::registry::Registry;
use pullgate::sandbox::sigstore::{Identity, Log, Recipe, Sigstore};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Images that are in the cache before anything is measured.
const CACHED: usize = 16;
/// Connections that cached pulls come by, and how far apart they are, all together.
const CONNECTIONS: u32 = 16;
const PACE: Duration = Duration::from_millis(2);
/// Within which all images of a storm are asked for.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How long cached pulls go on before they are measured: their connections are opened in it.
const WARM_UP: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(11);
const REPOSITORY: &str = "app";

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(stand_back)
        .build()?;
    runtime.block_on(run())
}

/// Lets this thread have a processor only while nobody else wants it (`SCHED_IDLE`). The storm and the
/// registry are on other machines where people run a gate: they are not to take the processors from
/// it, nor from the measurement.
fn stand_back() {
    let thread = rustix::thread::gettid().as_raw_pid().to_string();
    let set = Command::new("chrt")
        .args(["--idle", "--pid", "0", &thread])
        .status();
    if !set.is_ok_and(|status| status.success()) {
        eprintln!("chrt (util-linux) is missing: the load is measured as well");
    }
}

async fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().context("the program is missing")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (images, rounds) = (number(2000)?, number(3)?);
    let folder = tempfile::tempdir()?;
    let origin = Origin::start().await?;
    let cached = origin.publish("cached", CACHED);
    let gate = Gate::start(Path::new(&program), folder.path(), &origin)?;
    let bystander = Gate::start(Path::new(&program), folder.path(), &origin)?;
    for path in &cached {
        for gate in [&gate, &bystander] {
            anyhow::ensure!(get(&gate.address, path).await? == 200, "{path}");
        }
    }
    let (mut ratios, mut beside) = (Vec::new(), Vec::new());
    let gates = [&gate, &bystander];
    for round in 1..=rounds {
        let cold = origin.publish(&format!("cold-{round}"), images);
        let [idle, _] = measure(gates, &cached, tokio::time::sleep(IDLE)).await?;
        let (mut statuses, mut took) = (Vec::new(), Duration::ZERO);
        let storm = async {
            tokio::time::sleep(WARM_UP).await;
            let begun = Instant::now();
            statuses = storm(&gate, cold).await;
            took = begun.elapsed();
        };
        let [during, bystanding] = measure(gates, &cached, storm).await?;
        let admitted = statuses.iter().filter(|status| **status == 200).count();
        let p99 = |latencies: &Latencies| latencies.at(99).as_secs_f64();
        let ratio = p99(&during) / p99(&idle);
        println!(
            "round {round}: {admitted} of {images} admitted in {took:.1?}; cached pulls idle {idle}; \
             in the storm {during}; p99 ratio {ratio:.2}; the bystander {bystanding}"
        );
        anyhow::ensure!(admitted == images, "the others: {:?}", counted(&statuses));
        ratios.push(ratio);
        beside.push(p99(&during) / p99(&bystanding));
    }
    let (ratio, beside) = (median(ratios), median(beside));
    println!("median p99 ratio {ratio:.2}; beside the bystander's {beside:.2}");
    Ok(())
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// The statuses other than 200, each with how often it came; 0 stands for no answer.
fn counted(statuses: &[u16]) -> Vec<(u16, usize)> {
    let mut others: Vec<u16> = statuses.to_vec();
    others.retain(|status| *status != 200);
    others.sort_unstable();
    let groups = others.chunk_by(|one, other| one == other);
    groups.map(|group| (group[0], group.len())).collect()
}

/// A registry with signed images, and who has signed them.
struct Origin {
    registry: Registry,
    sigstore: Sigstore,
    identity: Identity,
}

impl Origin {
    async fn start() -> anyhow::Result<Self> {
        // A minute ago: log entries from the future are refused.
        let now = Clock::system().now() - SignedDuration::from_secs(60);
        Ok(Self {
            registry: Registry::start().await?,
            sigstore: Sigstore::new(now),
            identity: Identity::github_actions("acme/widget", "release.yml", "refs/tags/v1.0.0"),
        })
    }

    /// Pushes so many signed images; the paths of their manifests.
    fn publish(&self, name: &str, images: usize) -> Vec<String> {
        let recipe = Recipe::keyless(&self.identity, Log::RekorV2);
        let publish = |number: usize| {
            let image = image::runnable(&format!("{name} {number}"));
            let digest = self.registry.put_package(REPOSITORY, &image);
            let bundle = self.sigstore.sign_bundle(&image.descriptor(), &recipe);
            self.registry.put_package(REPOSITORY, &bundle);
            format!("/v2/{REPOSITORY}/manifests/{digest}")
        };
        (0..images).map(publish).collect()
    }
}

/// The program under test, ended when dropped.
struct Gate {
    child: Child,
    address: String,
}

impl Gate {
    fn start(program: &Path, folder: &Path, origin: &Origin) -> anyhow::Result<Self> {
        let (url, identity) = (origin.registry.url(), &origin.identity.subject);
        let settings = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             upstreams: {{ r.test: {{ url: \"{url}\" }} }}\ndefault_upstream: r.test\n\
             policies: [policies.yaml]\n\
             trust_roots: {{ sandbox: {{ file: root.json }} }}\ndefault_trust_root: sandbox\n"
        );
        let policies = format!(
            "signers:\n  ours: {{ keyless: {{ issuer: github-actions, identity: \"{identity}\" }} }}\n\
             policies: [{{ name: signed, images: [\"**\"], signed_by: ours }}]\n"
        );
        std::fs::write(folder.join("pullgate.yaml"), settings)?;
        std::fs::write(folder.join("policies.yaml"), policies)?;
        std::fs::write(
            folder.join("root.json"),
            origin.sigstore.trusted_root_json(),
        )?;
        let mut words = std::env::var("STORM_RUN_WITH").unwrap_or_default();
        words.push(' ');
        words.push_str(&program.to_string_lossy());
        let mut words = words.split_whitespace();
        let mut child = Command::new(words.next().context("a program")?)
            .args(words)
            .args(["serve", "--config"])
            .arg(folder.join("pullgate.yaml"))
            .env("PULLGATE_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split_once(','))
            .with_context(|| format!("no address: {line}"))?
            .0
            .to_owned();
        Ok(Self { child, address })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(address: &str) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> anyhow::Result<u16> {
    let request = Request::get(path).header("host", "gate");
    let answer = sender.send_request(request.body(Empty::new())?).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    Ok(status)
}

async fn get(address: &str, path: &str) -> anyhow::Result<u16> {
    ask(&mut connect(address).await?, path).await
}

/// All of these within [`ARRIVAL`], each by a connection of its own: far sooner than the first of
/// them can be answered, so that nearly all wait at once.
async fn storm(gate: &Gate, paths: Vec<String>) -> Vec<u16> {
    let (begun, apart) = (
        Instant::now(),
        ARRIVAL / u32::try_from(paths.len()).unwrap_or(1),
    );
    let pulls: Vec<_> = (0..)
        .zip(paths)
        .map(|(number, path)| {
            let address = gate.address.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(begun + apart * number).await;
                get(&address, &path).await.unwrap_or(0)
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for pull in pulls {
        statuses.push(pull.await.unwrap_or(0));
    }
    statuses
}

/// Latencies, in order.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (median, tail) = (self.at(50), self.at(99));
        write!(
            f,
            "p50 {median:.2?}, p90 {:.2?}, p99 {tail:.2?}",
            self.at(90)
        )?;
        write!(f, ", max {:.2?} of {}", self.at(100), self.0.len())
    }
}

/// Cached pulls of both at their pace for as long as `meanwhile` takes: from a thread of their own, so
/// that they do not wait for what the storm does in this process.
async fn measure(
    gates: [&Gate; 2],
    cached: &[String],
    meanwhile: impl Future<Output = ()>,
) -> anyhow::Result<[Latencies; 2]> {
    let ended = Arc::new(AtomicBool::new(false));
    let pulls =
        gates.map(|gate| pull_until(Arc::clone(&ended), gate.address.clone(), cached.to_vec()));
    let measuring = std::thread::spawn(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let [gate, bystander] = pulls;
        let both = async { tokio::try_join!(gate, bystander) };
        let (gate, bystander) = runtime.enable_all().build()?.block_on(both)?;
        anyhow::Ok([gate, bystander])
    });
    meanwhile.await;
    ended.store(true, Ordering::Relaxed);
    let measured = measuring.join();
    measured.map_err(|_| anyhow::anyhow!("the measurement crashed"))?
}

async fn pull_until(
    ended: Arc<AtomicBool>,
    address: String,
    cached: Vec<String>,
) -> anyhow::Result<Latencies> {
    let start = Instant::now();
    let mut pullers = Vec::new();
    for number in 0..CONNECTIONS {
        let (mut sender, paths) = (connect(&address).await?, cached.clone());
        let ended = Arc::clone(&ended);
        pullers.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let turns = (0..).map(|turn: u32| start + PACE * (turn * CONNECTIONS + number));
            for (turn, path) in turns.zip(paths.iter().cycle()) {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let mut due = turn;
                if Instant::now() < turn {
                    tokio::time::sleep_until(turn).await;
                    due = Instant::now();
                }
                let status = ask(&mut sender, path).await?;
                anyhow::ensure!(status == 200, "{path}: {status}");
                if due - start > WARM_UP {
                    latencies.push(due.elapsed());
                }
            }
            Ok::<_, anyhow::Error>(latencies)
        }));
    }
    let mut all = Vec::new();
    for puller in pullers {
        all.extend(puller.await??);
    }
    all.sort_unstable();
    Ok(Latencies(all))
}
