//! What may happen to a cache at any moment: the process is killed, the disk is full, the registry
//! cuts its answers short. No wrong byte is ever served, and what was once served from the cache
//! is there again after every restart.
//!
//! The moments are chosen by chance from a seed that is printed; `PULLGATE_SEED` repeats a run.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use pullgate::oci::Digest;
use pullgate::sandbox::registry::Endpoint;
use pullgate::sandbox::registry::Fault;
use pullgate::sandbox::registry::Misdeed;
use pullgate::sandbox::registry::Registry;
use tokio::runtime::Runtime;

use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::process::Undertaker;

/// How often the process is killed.
const ROUNDS: usize = 100;
/// How often one of several is.
const SHARED_ROUNDS: usize = 30;
/// After so many rounds it is asked for all that it has, while the registry is down.
const ROUNDS_TO_A_LOOK: usize = 10;
/// How many clients pull at a time.
const CLIENTS: usize = 6;
/// What a start may take.
const START_MAX: Duration = Duration::from_secs(1);
/// On a machine that does much else, one start in so many may take longer.
const STARTS_TO_A_SLOW_ONE: usize = 20;
/// Once in so many rounds the process is killed while it starts, too.
const ROUNDS_TO_A_KILL_AT_ONCE: usize = 3;
/// For so many rounds the cache has room for all that is pulled, so that nothing may be lost.
const ROOMY_ROUNDS: usize = 50;
const ROOMY_BYTES_MAX: u64 = 1 << 30;
/// Then it has not, and stays within its bound.
const NARROW_BYTES_MAX: u64 = 64 << 20;
const REPOSITORY: &str = "app";
const POLICIES: &str = "default: unsafe_allow\n";
const MIB: usize = 1 << 20;

/// Numbers by chance, the same for the same seed (xorshift).
struct Chance(u64);

impl Chance {
    fn seeded() -> Self {
        let given = std::env::var("PULLGATE_SEED").ok();
        let seed = given
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(20_261_122);
        println!("PULLGATE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.below(u64::MAX).to_le_bytes());
        words
            .take(count.div_ceil(8))
            .flatten()
            .take(count)
            .collect()
    }
}

/// A registry with blobs of many sizes, which cuts some of its answers short.
struct Origin {
    registry: Registry,
    blobs: Vec<(Digest, Vec<u8>)>,
    _runtime: Runtime,
}

impl Origin {
    fn start(chance: &mut Chance) -> Self {
        let runtime = Runtime::new().expect("a tokio runtime");
        let registry = runtime.block_on(Registry::start()).expect("a port");
        let sizes = [1, 100, 70_000, 300_000, MIB, 2 * MIB, 3 * MIB, 5 * MIB];
        let blobs = sizes.iter().cycle().take(2 * sizes.len()).map(|size| {
            let bytes = chance.bytes(*size);
            (registry.put_blob(REPOSITORY, bytes.clone()), bytes)
        });
        let blobs = blobs.collect();
        Self {
            registry,
            blobs,
            _runtime: runtime,
        }
    }

    /// Lets every third answer break off somewhere on its way.
    fn cut_some(&self, chance: &mut Chance) {
        let count = AtomicUsize::new(0);
        let third = move |_: &_| count.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        let somewhere = chance.index(MIB);
        let cut = Fault::on(Endpoint::Blobs, Misdeed::CutAfter(somewhere));
        self.registry.misbehave(cut.when(third));
    }

    /// Blobs that were never asked for.
    fn new_ones(&self, chance: &mut Chance) -> Vec<(Digest, Vec<u8>)> {
        let sizes = [chance.index(MIB), MIB + chance.index(MIB)];
        let blobs = sizes.map(|size| {
            let bytes = chance.bytes(size);
            (self.registry.put_blob(REPOSITORY, bytes.clone()), bytes)
        });
        blobs.into()
    }

    fn settings(&self, cache: &Path, bytes_max: u64) -> String {
        let cache = cache.display();
        let bounds = format!("disk_bytes_max: {bytes_max}, memory_bytes_max: 2MiB");
        before(&self.registry.address().to_string())
            + &format!("cache: {{ directory: {cache}, {bounds} }}\n")
    }

    /// One blob through the gate: all of its bytes, or `None` where the answer broke off or was
    /// none. Panics for wrong ones.
    fn pull(&self, gate: &str, number: usize) -> Option<()> {
        Self::pull_one(gate, &self.blobs[number])
    }

    fn pull_one(gate: &str, (digest, bytes): &(Digest, Vec<u8>)) -> Option<()> {
        let body = get(gate, &format!("/v2/{REPOSITORY}/blobs/{digest}"))?;
        assert!(body == *bytes, "other bytes were served for {digest}");
        Some(())
    }
}

/// The body of a 200 that came as a whole.
fn get(address: &str, target: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A reset is the end of what came; whether that is all, the length says.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let body = answer.split_off(end + 4);
    let whole = length.trim().parse() == Ok(body.len());
    (head.starts_with("http/1.1 200") && whole).then_some(body)
}

/// Starts a gate, and says how long that took.
fn start(settings: &str, undertaker: &Undertaker) -> (Gate, Duration) {
    let begun = Instant::now();
    let gate = Gate::serve("chaos", settings, POLICIES, undertaker);
    (gate, begun.elapsed())
}

/// Starts a gate, and kills it before it says that it is ready.
fn start_in_vain(settings: &str, undertaker: &Undertaker, chance: &mut Chance) {
    let settings = Gate::configure("chaos", settings, POLICIES, undertaker);
    let mut program = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    program.args(["serve", "--config"]).arg(settings);
    program.stdout(Stdio::null()).stderr(Stdio::null());
    let mut gate = program.spawn().expect("the gate starts");
    std::thread::sleep(Duration::from_millis(chance.below(100)));
    gate.kill().expect("it is killed");
    gate.wait().expect("it ends");
}

#[test]
#[ignore = "kills the program a hundred times; a minute or two"]
fn a_hundred_kills_serve_no_wrong_byte_and_lose_nothing() {
    let undertaker = Undertaker::call();
    let mut chance = Chance::seeded();
    let origin = Origin::start(&mut chance);
    let cache = undertaker.folder("chaos-cache");
    let mut cached = BTreeSet::new();
    let (mut starts, mut pulled) = (Vec::new(), 0);
    for round in 1..=ROUNDS {
        origin.registry.behave();
        origin.cut_some(&mut chance);
        let is_roomy = round <= ROOMY_ROUNDS;
        let settings = match is_roomy {
            true => origin.settings(&cache, ROOMY_BYTES_MAX),
            false => origin.settings(&cache, NARROW_BYTES_MAX),
        };
        if round % ROUNDS_TO_A_KILL_AT_ONCE == 0 {
            start_in_vain(&settings, &undertaker, &mut chance);
        }
        let (gate, took) = start(&settings, &undertaker);
        starts.push(took);
        let new_ones = origin.new_ones(&mut chance);
        pulled += new_ones.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let pulls: Vec<Vec<usize>> = (0..CLIENTS)
            .map(|_| {
                let any = || chance.index(origin.blobs.len());
                std::iter::repeat_with(any).take(8).collect()
            })
            .collect();
        let pause = Duration::from_millis(chance.below(200));
        std::thread::scope(|scope| {
            for numbers in &pulls {
                let (address, origin) = (gate.address().to_owned(), &origin);
                let new_ones = &new_ones;
                scope.spawn(move || {
                    for blob in new_ones {
                        Origin::pull_one(&address, blob);
                    }
                    for number in numbers {
                        origin.pull(&address, *number);
                    }
                });
            }
            std::thread::sleep(pause);
            // SIGKILL, while they pull.
            drop(gate);
        });
        if round % ROUNDS_TO_A_LOOK == 0 {
            let served = look(&origin, &settings, &undertaker);
            let lost: Vec<_> = cached.difference(&served).collect();
            assert!(!is_roomy || lost.is_empty(), "lost: {lost:?}");
            cached = served;
            assert!(!cached.is_empty(), "nothing was ever cached");
        }
    }
    let bytes = bytes_below(&cache);
    starts.sort_unstable();
    let (typical, slowest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    println!(
        "starts: {typical:?}, slowest {slowest:?}; {} blobs looked for are there; {bytes} bytes \
         cached of {pulled} beside them",
        cached.len()
    );
    let slow = starts.iter().filter(|took| **took > START_MAX).count();
    assert!(slow <= starts.len() / STARTS_TO_A_SLOW_ONE, "{starts:?}");
    assert!(
        pulled as u64 > 2 * NARROW_BYTES_MAX,
        "the bound was never met"
    );
    assert!(bytes <= NARROW_BYTES_MAX, "{bytes} bytes in the cache");
}

#[test]
#[ignore = "kills programs thirty times; half a minute"]
fn kills_among_those_who_share_a_cache_serve_no_wrong_byte_and_lose_nothing() {
    let undertaker = Undertaker::call();
    let mut chance = Chance::seeded();
    let origin = Origin::start(&mut chance);
    let cache = undertaker.folder("shared-cache");
    let settings = origin.settings(&cache, ROOMY_BYTES_MAX);
    let serve = |number: usize| {
        let name = format!("shared-{number}");
        Gate::serve(&name, &settings, POLICIES, &undertaker)
    };
    let mut gates = [0, 1, 2].map(|number| Some(serve(number)));
    let mut cached = BTreeSet::new();
    for round in 1..=SHARED_ROUNDS {
        origin.registry.behave();
        origin.cut_some(&mut chance);
        let new_ones = origin.new_ones(&mut chance);
        let killed = chance.index(gates.len());
        let pause = Duration::from_millis(chance.below(200));
        std::thread::scope(|scope| {
            for gate in gates.iter().flatten() {
                for _ in 0..2 {
                    let (address, origin) = (gate.address().to_owned(), &origin);
                    let new_ones = &new_ones;
                    let numbers = [(); 4].map(|()| chance.index(origin.blobs.len()));
                    scope.spawn(move || {
                        for blob in new_ones {
                            Origin::pull_one(&address, blob);
                        }
                        for number in numbers {
                            origin.pull(&address, number);
                        }
                    });
                }
            }
            std::thread::sleep(pause);
            // SIGKILL, while they pull. The others go on, and so do their clients.
            gates[killed] = None;
        });
        gates[killed] = Some(serve(killed));
        if round % ROUNDS_TO_A_LOOK == 0 {
            // Whichever is asked has what any of them has kept.
            let served = gates.iter().flatten().map(|gate| look_at(&origin, gate));
            let served: Vec<_> = served.collect();
            for served in served {
                let lost: Vec<_> = cached.difference(&served).collect();
                assert!(lost.is_empty(), "lost: {lost:?}");
                cached = served;
            }
            assert!(!cached.is_empty(), "nothing was ever cached");
        }
    }
    drop(gates);
    // Nothing is left of all that was under way.
    let gate = serve(0);
    let under_way = std::fs::read_dir(cache.join("tmp")).expect("a folder");
    assert_eq!(under_way.count(), 1);
    drop(gate);
}

/// With the registry down: what is served from the cache.
fn look(origin: &Origin, settings: &str, undertaker: &Undertaker) -> BTreeSet<usize> {
    let (gate, _) = start(settings, undertaker);
    look_at(origin, &gate)
}

fn look_at(origin: &Origin, gate: &Gate) -> BTreeSet<usize> {
    origin.registry.behave();
    origin.registry.misbehave(Misdeed::DropConnection);
    let numbers = 0..origin.blobs.len();
    let served = numbers.filter(|number| origin.pull(gate.address(), *number).is_some());
    served.collect()
}

#[test]
#[ignore = "mounts a small disk, as root"]
fn a_full_disk_costs_nobody_a_byte() {
    let undertaker = Undertaker::call();
    let mut chance = Chance::seeded();
    let origin = Origin::start(&mut chance);
    let cache = undertaker.folder("full-disk-cache");
    let settings = origin.settings(&cache, NARROW_BYTES_MAX);
    let settings = Gate::configure("full-disk", &settings, POLICIES, &undertaker);
    // The mount is seen by this one process and is gone with it.
    let script = r#"mount -t tmpfs -o size=6m none "$1" && exec "$2" serve --config "$3""#;
    let mut program = Command::new("unshare");
    program
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&cache)
        .arg(env!("CARGO_BIN_EXE_pullgate"))
        .arg(settings);
    let gate = Gate::run("full-disk", &mut program, &undertaker);
    // Twice: what could not be kept is fetched again.
    for number in (0..origin.blobs.len()).chain(0..origin.blobs.len()) {
        let pulled = origin.pull(gate.address(), number);
        assert!(pulled.is_some(), "blob {number}\n{}", gate.log());
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let about = entry.metadata().expect("an entry that stays");
            if about.is_dir() {
                bytes_below(&entry.path())
            } else {
                about.len()
            }
        })
        .sum()
}
