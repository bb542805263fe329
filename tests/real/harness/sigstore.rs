//! A whole Sigstore on loopback: Fulcio, Rekor v2, Rekor v1, a timestamp authority, the log of
//! certificates and the issuer of identities, with the trusted root and the signing
//! configurations that make cosign use them.

use std::path::Path;
use std::path::PathBuf;

use pullgate::clock::Clock;
use tokio::runtime::Runtime;

use crate::harness::ct_log;
use crate::harness::issuer::Issuer;
use crate::harness::pki::FULCIO_PASSWORD;
use crate::harness::pki::ISSUER_HOST;
use crate::harness::pki::Pki;
use crate::harness::process::Daemon;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::free_port;
use crate::harness::process::must;
use crate::harness::rekor_v1::RekorV1;
use crate::harness::web;

/// The name of the Rekor v2 log; its checkpoints say it, and so must the trusted root.
const REKOR_V2_NAME: &str = "log2026-1.rekor.pullgate.test";

/// What runs, and where it is reached.
pub(crate) struct Sigstore {
    /// Mints identity tokens.
    pub(crate) issuer: Issuer,
    /// Fulcio's URL.
    pub(crate) fulcio: String,
    /// The URL of Rekor v1, which only the old signature format speaks to directly.
    pub(crate) rekor_v1: String,
    /// What a verifier needs: authorities, logs and keys.
    pub(crate) trusted_root: PathBuf,
    /// What a signer needs: certificates from Fulcio, entries in Rekor v2, timestamps.
    pub(crate) signing_config: PathBuf,
    /// The same with Rekor v1 and without timestamps.
    pub(crate) signing_config_v1: PathBuf,
    _daemons: Vec<Daemon>,
    _rekor_v1: RekorV1,
}

impl Sigstore {
    /// Starts all of it.
    pub(crate) fn start(runtime: &Runtime, undertaker: &Undertaker) -> Self {
        let pki = Pki::make(undertaker.folder("pki"));
        let issuer = Issuer::start(&pki, runtime);
        let ct_log = format!("http://{}", ct_log::start(&pki, runtime));
        let (timestamps, tsa_daemon) = start_timestamp_authority(&pki, undertaker);
        let (rekor_v2, rekor_daemon) = start_rekor_v2(&pki, undertaker);
        let (fulcio, fulcio_daemon) = start_fulcio(&pki, &issuer, &ct_log, undertaker);
        let rekor_v1 = RekorV1::start(&pki, undertaker);
        let papers = Papers {
            folder: undertaker.folder("sigstore"),
            since: an_hour_ago(),
        };
        Self {
            trusted_root: papers.trusted_root(&pki),
            signing_config: papers.signing_config(
                "signing_config.json",
                &fulcio,
                (&rekor_v2, "2"),
                Some(&timestamps),
            ),
            signing_config_v1: papers.signing_config(
                "signing_config_v1.json",
                &fulcio,
                (&rekor_v1.url, "1"),
                None,
            ),
            issuer,
            fulcio,
            rekor_v1: rekor_v1.url.clone(),
            _daemons: vec![tsa_daemon, rekor_daemon, fulcio_daemon],
            _rekor_v1: rekor_v1,
        }
    }
}

fn start_timestamp_authority(pki: &Pki, undertaker: &Undertaker) -> (String, Daemon) {
    let port = free_port();
    let mut daemon = undertaker.start(
        "timestamp-server",
        command("timestamp-server")
            .args(["serve", "--host", "127.0.0.1", "--timestamp-signer", "file"])
            .args([
                "--timestamp-signer-hash",
                "sha256",
                "--disable-ntp-monitoring",
            ])
            .args(["--port", &port.to_string()])
            .args(["--file-signer-key-path", &pki.text("tsa.key")])
            .args(["--certificate-chain-path", &pki.text("tsa-chain.pem")]),
    );
    daemon.listens(port);
    (format!("http://127.0.0.1:{port}/api/v1/timestamp"), daemon)
}

fn start_rekor_v2(pki: &Pki, undertaker: &Undertaker) -> (String, Daemon) {
    let (port, grpc, metrics) = (free_port(), free_port(), free_port());
    let mut daemon = undertaker.start(
        "rekor-v2",
        command("rekor-posix")
            .args([
                "serve",
                "--http-address",
                "127.0.0.1",
                "--grpc-address",
                "127.0.0.1",
            ])
            .args([
                "--http-port",
                &port.to_string(),
                "--grpc-port",
                &grpc.to_string(),
            ])
            .args(["--http-metrics-port", &metrics.to_string()])
            .args(["--hostname", REKOR_V2_NAME])
            .arg("--storage-dir")
            .arg(undertaker.folder("rekor-v2"))
            .args(["--signer-filepath", &pki.text("rekor-v2.key")])
            .args(["--checkpoint-interval", "500ms", "--batch-max-age", "50ms"]),
    );
    daemon.listens(port);
    (format!("http://127.0.0.1:{port}"), daemon)
}

fn start_fulcio(
    pki: &Pki,
    issuer: &Issuer,
    ct_log: &str,
    undertaker: &Undertaker,
) -> (String, Daemon) {
    let (port, grpc, metrics) = (free_port(), free_port(), free_port());
    let settings = undertaker.folder("fulcio").join("fulcio.yaml");
    std::fs::write(&settings, fulcio_settings()).expect("Fulcio's settings");
    let mut daemon = undertaker.start(
        "fulcio",
        command("fulcio")
            .env("HTTPS_PROXY", format!("http://{}", issuer.proxy()))
            .env("SSL_CERT_FILE", pki.path("tls-root.pem"))
            .args(["serve", "--host", "127.0.0.1", "--grpc-host", "127.0.0.1"])
            .args([
                "--port",
                &port.to_string(),
                "--grpc-port",
                &grpc.to_string(),
            ])
            .args(["--metrics-port", &metrics.to_string()])
            .args(["--legacy-unix-domain-socket", &format!("@pullgate-{port}")])
            .arg("--config-path")
            .arg(&settings)
            .args(["--ca", "fileca", "--fileca-watch=false"])
            .args(["--fileca-cert", &pki.text("fulcio-chain.pem")])
            .args(["--fileca-key", &pki.text("fulcio.encrypted.key")])
            .args(["--fileca-key-passwd", FULCIO_PASSWORD])
            .args(["--ct-log-url", ct_log])
            .args(["--ct-log-public-key-path", &pki.text("ct.pub")]),
    );
    let url = format!("http://127.0.0.1:{port}");
    daemon.becomes("is not healthy", || web::answers(&format!("{url}/healthz")));
    (url, daemon)
}

/// Fulcio's settings for one issuer, with the claims of GitHub Actions as it has them in public.
fn fulcio_settings() -> String {
    format!(
        r#"oidc-issuers:
  https://{ISSUER_HOST}:
    issuer-url: https://{ISSUER_HOST}
    client-id: sigstore
    type: ci-provider
    ci-provider: github-workflow
ci-issuer-metadata:
  github-workflow:
    default-template-values:
      url: "https://github.com"
    extension-templates:
      github-workflow-trigger: "event_name"
      github-workflow-sha: "sha"
      github-workflow-name: "workflow"
      github-workflow-repository: "repository"
      github-workflow-ref: "ref"
      build-signer-uri: "{{{{ .url }}}}/{{{{ .job_workflow_ref }}}}"
      build-signer-digest: "job_workflow_sha"
      runner-environment: "runner_environment"
      source-repository-uri: "{{{{ .url }}}}/{{{{ .repository }}}}"
      source-repository-digest: "sha"
      source-repository-ref: "ref"
      source-repository-identifier: "repository_id"
      source-repository-owner-uri: "{{{{ .url }}}}/{{{{ .repository_owner }}}}"
      source-repository-owner-identifier: "repository_owner_id"
      build-config-uri: "{{{{ .url }}}}/{{{{ .workflow_ref }}}}"
      build-config-digest: "workflow_sha"
      build-trigger: "event_name"
      run-invocation-uri: "{{{{ .url }}}}/{{{{ .repository }}}}/actions/runs/{{{{ .run_id }}}}/attempts/{{{{ .run_attempt }}}}"
      source-repository-visibility-at-signing: "repository_visibility"
    subject-alternative-name-template: "{{{{ .url }}}}/{{{{ .job_workflow_ref }}}}"
"#
    )
}

fn an_hour_ago() -> String {
    let now = Clock::system().now().as_second();
    jiff::Timestamp::from_second(now - 3600)
        .expect("a time near now")
        .to_string()
}

/// Writes the JSON documents that signers and verifiers read, with cosign itself.
struct Papers {
    folder: PathBuf,
    since: String,
}

impl Papers {
    fn trusted_root(&self, pki: &Pki) -> PathBuf {
        let since = &self.since;
        let out = self.folder.join("trusted_root.json");
        let fulcio = pki.text("fulcio-chain.pem");
        let timestamps = pki.text("tsa-chain.pem");
        let (ct, v1, v2) = (
            pki.text("ct.pub"),
            pki.text("rekor-v1.pub"),
            pki.text("rekor-v2.pub"),
        );
        // These base URLs are names: nothing is fetched from them.
        self.write(
            &out,
            ["trusted-root", "create"],
            &[
                format!("--fulcio=url=https://fulcio.pullgate.test,certificate-chain={fulcio},start-time={since}"),
                format!("--ctfe=url=https://ctfe.pullgate.test,public-key={ct},start-time={since}"),
                format!("--tsa=url=https://timestamp.pullgate.test/api/v1/timestamp,certificate-chain={timestamps},start-time={since}"),
                format!("--rekor=url=https://rekor.pullgate.test,public-key={v1},start-time={since}"),
                format!("--rekor=url=https://{REKOR_V2_NAME},public-key={v2},start-time={since},origin={REKOR_V2_NAME}"),
            ],
        );
        out
    }

    fn signing_config(
        &self,
        name: &str,
        fulcio: &str,
        (rekor, version): (&str, &str),
        timestamps: Option<&str>,
    ) -> PathBuf {
        let rest = format!("start-time={},operator=pullgate.test", self.since);
        let out = self.folder.join(name);
        let mut arguments = vec![
            format!("--fulcio=url={fulcio},api-version=1,{rest}"),
            format!("--oidc-provider=url=https://{ISSUER_HOST},api-version=1,{rest}"),
            format!("--rekor=url={rekor},api-version={version},{rest}"),
            "--rekor-config=ANY".to_owned(),
        ];
        if let Some(timestamps) = timestamps {
            arguments.push(format!("--tsa=url={timestamps},api-version=1,{rest}"));
            arguments.push("--tsa-config=ANY".to_owned());
        }
        self.write(&out, ["signing-config", "create"], &arguments);
        out
    }

    fn write(&self, out: &Path, subcommand: [&str; 2], arguments: &[String]) {
        must(
            command("cosign")
                .env("HOME", &self.folder)
                .args(subcommand)
                .arg("--out")
                .arg(out)
                .args(arguments),
        );
    }
}
