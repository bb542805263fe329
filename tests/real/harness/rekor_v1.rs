//! Rekor v1, which the old signature format cannot do without: a server over a Trillian log
//! over PostgreSQL, and Redis for its index.

use crate::harness::pki::Pki;
use crate::harness::process::Daemon;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::free_port;
use crate::harness::process::must;
use crate::harness::process::run;
use crate::harness::process::tool;
use crate::harness::process::tools;

/// The running log.
pub(crate) struct RekorV1 {
    /// Where it is reached.
    pub(crate) url: String,
    _daemons: Vec<Daemon>,
}

impl RekorV1 {
    /// Starts all five programs.
    pub(crate) fn start(pki: &Pki, undertaker: &Undertaker) -> Self {
        let (database, postgres) = start_postgres(undertaker);
        let (index, redis) = start_redis(undertaker);
        let (trillian, log, signer) = start_trillian(database, undertaker);
        let admin = format!("--admin_server=127.0.0.1:{trillian}");
        let tree = must(command("createtree").args([&admin]));
        let port = free_port();
        let mut rekor = undertaker.start(
            "rekor-v1",
            command("rekor-server")
                .args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()])
                .args(["--rekor_server.address", "127.0.0.1"])
                .args(["--rekor_server.hostname", "rekor.pullgate.test"])
                .args(["--rekor_server.signer", &pki.text("rekor-v1.key")])
                .args(["--trillian_log_server.address", "127.0.0.1"])
                .args(["--trillian_log_server.port", &trillian.to_string()])
                .args(["--trillian_log_server.tlog_id", &tree])
                .args(["--redis_server.address", "127.0.0.1"])
                .args(["--redis_server.port", &index.to_string()])
                .args(["--log_type", "prod"]),
        );
        rekor.listens(port);
        Self {
            url: format!("http://127.0.0.1:{port}"),
            _daemons: vec![rekor, signer, log, redis, postgres],
        }
    }
}

fn start_postgres(undertaker: &Undertaker) -> (u16, Daemon) {
    let port = free_port();
    let data = undertaker.folder("postgres");
    let name = data.display().to_string();
    must(command("chown").args(["postgres:postgres", &name]));
    // It refuses to run as root.
    let as_postgres = |program: &str| {
        let mut command = command("setpriv");
        command
            .current_dir("/")
            .args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--clear-groups",
            ])
            .arg(tool(program));
        command
    };
    must(as_postgres("initdb").args(["-A", "trust", "-U", "postgres", "--no-sync", "-D", &name]));
    let mut daemon = undertaker.start(
        "postgres",
        as_postgres("postgres")
            .args([
                "-D",
                &name,
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
            ])
            .args(["-c", &format!("port={port}")])
            .args(["-c", &format!("unix_socket_directories={name}")]),
    );
    daemon.becomes("does not answer", || {
        run(&mut psql(port, &["-c", "select 1"])).success
    });
    let schema = tools().join("share/trillian.sql").display().to_string();
    must(&mut psql(port, &["-f", &schema]));
    (port, daemon)
}

fn psql(port: u16, arguments: &[&str]) -> std::process::Command {
    let mut command = command("psql");
    command
        .args([
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ])
        .args(["-p", &port.to_string()])
        .args(arguments);
    command
}

fn start_redis(undertaker: &Undertaker) -> (u16, Daemon) {
    let port = free_port();
    let mut daemon = undertaker.start(
        "redis",
        command("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(undertaker.folder("redis")),
    );
    daemon.listens(port);
    (port, daemon)
}

fn start_trillian(database: u16, undertaker: &Undertaker) -> (u16, Daemon, Daemon) {
    let uri = format!("postgresql://postgres@127.0.0.1:{database}/postgres?sslmode=disable");
    let start = |name: &str, extra: &[&str]| {
        let port = free_port();
        let mut daemon = undertaker.start(
            name,
            command(name)
                .args([
                    "--storage_system=postgresql",
                    "--quota_system=noop",
                    "--logtostderr",
                ])
                .arg(format!("--postgresql_uri={uri}"))
                .arg(format!("--rpc_endpoint=127.0.0.1:{port}"))
                .arg(format!("--http_endpoint=127.0.0.1:{}", free_port()))
                .args(extra),
        );
        daemon.listens(port);
        (port, daemon)
    };
    let (port, log) = start("trillian_log_server", &[]);
    let (_, signer) = start(
        "trillian_log_signer",
        &[
            "--force_master",
            "--sequencer_interval=50ms",
            "--batch_size=100",
        ],
    );
    (port, log, signer)
}
