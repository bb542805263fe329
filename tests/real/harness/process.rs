//! Programs: finding them, running them to their end, keeping them up, and burying them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How long any part may take to start, and any command to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition outside this process is looked at again.
const GLANCE: Duration = Duration::from_millis(20);

/// The folder that `.ci/install` fills.
pub(crate) fn tools() -> PathBuf {
    std::env::var_os("PULLGATE_TOOLS")
        .map_or_else(|| PathBuf::from("/var/tmp/pullgate-tools"), PathBuf::from)
}

/// Where a program is: among the tools, or else on the path.
pub(crate) fn tool(name: &str) -> PathBuf {
    let built = tools().join("bin").join(name);
    if built.exists() {
        return built;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| panic!("{name} is not installed: run .ci/install"))
}

/// A command that knows nothing of the machine's proxies.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(tool(name));
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command
            .env_remove(proxy)
            .env_remove(proxy.to_ascii_lowercase());
    }
    command.stdin(Stdio::null());
    command
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Whether it exited with 0.
    pub(crate) success: bool,
    /// Its standard output, byte for byte.
    pub(crate) stdout: Vec<u8>,
    /// Both of its outputs, for people.
    pub(crate) said: String,
}

/// Runs a command to its end, whatever that is.
pub(crate) fn run(command: &mut Command) -> Finished {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    Finished {
        success: output.status.success(),
        said: format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        stdout: output.stdout,
    }
}

/// Runs a command that has to succeed and answers its trimmed standard output.
pub(crate) fn must(command: &mut Command) -> String {
    let finished = run(command);
    assert!(finished.success, "{command:?} failed: {}", finished.said);
    String::from_utf8_lossy(&finished.stdout).trim().to_owned()
}

/// Runs a command that has to succeed, with these arguments.
pub(crate) fn must_run<I, S>(name: &str, arguments: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    must(command(name).args(arguments))
}

/// A port on loopback that is free now and lies below those that the kernel hands to outgoing
/// connections, so that nothing takes it before the part that it is meant for.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap_or_default();
    for _ in 0..1000 {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// Looks until `condition` holds; false when patience runs out.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
    true
}

/// Ends what was started and removes the folder when this process ends, however it ends.
///
/// A world in a `static` is never dropped and a killed test cleans nothing up. So a shell reads
/// the process ids of all daemons from a pipe; when the pipe closes, the tests are over.
pub(crate) struct Undertaker {
    directory: PathBuf,
    list: Mutex<ChildStdin>,
}

impl Undertaker {
    const DUTY: &str = r#"
        pids=
        while read -r pid; do pids="$pids $pid"; done
        [ -z "$pids" ] || kill $pids 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            [ -n "$pids" ] && kill -0 $pids 2>/dev/null && sleep 0.2
        done
        [ -z "$pids" ] || kill -9 $pids 2>/dev/null
        rm -rf -- "$1""#;

    /// Makes the folder and whoever removes it.
    #[expect(clippy::zombie_processes, reason = "the shell outlives this process")]
    pub(crate) fn call() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("pullgate-real-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        std::fs::create_dir(directory.join("logs")).expect("a folder for logs");
        make_enterable(&directory);
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", Self::DUTY, "undertaker"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let list = Mutex::new(shell.stdin.take().expect("the shell's input"));
        Self { directory, list }
    }

    /// A fresh folder for one part.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.directory.join(name);
        std::fs::create_dir_all(&folder).expect("a folder for a part");
        folder
    }

    /// Starts a program that stays up, its output in a log file.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Daemon {
        let log = self.directory.join("logs").join(format!("{name}.log"));
        let output = File::create(&log).expect("a log file");
        let errors = output.try_clone().expect("a second handle");
        let child = command
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        writeln!(self.list.lock().expect("the list"), "{}", child.id()).expect("the undertaker");
        Daemon {
            name: name.to_owned(),
            child,
            log,
        }
    }
}

/// Lets the database's own user walk into the folder.
fn make_enterable(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory, permissions).expect("permissions of our own folder");
}

/// A program that is up; killed by its process id when dropped.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Waits until it accepts connections on `port`.
    pub(crate) fn listens(&mut self, port: u16) {
        self.becomes(&format!("port {port} does not open"), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// Waits until `condition` holds; panics with the log when it dies first or takes too long.
    pub(crate) fn becomes(&mut self, complaint: &str, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let ready = wait_until(|| {
            ended = self.child.try_wait().expect("our own child");
            ended.is_some() || condition()
        });
        assert!(
            ready && ended.is_none(),
            "{}: {complaint} ({ended:?})\n{}",
            self.name,
            self.log()
        );
    }

    /// Where its output goes.
    pub(crate) fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and nothing to say.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
