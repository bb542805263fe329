//! The numbers for dashboards. Sole home of the Prometheus client.
//!
//! Every counter that the hot path touches is a handle that was looked up once. No label ever
//! carries a repository, a tag, a digest or a client's address; policies' names and upstreams'
//! come from the configuration, so that their number is bounded.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

/// The caches that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// Admissions: what a pull needs to be answered at once.
    Admissions,
    /// Facts about digests.
    Facts,
    /// Tags and what they name.
    Tags,
    /// Manifests by digest.
    Manifests,
    /// Blobs by digest.
    Blobs,
}

impl CacheKind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Admissions, "admissions"),
        (Self::Facts, "facts"),
        (Self::Tags, "tags"),
        (Self::Manifests, "manifests"),
        (Self::Blobs, "blobs"),
    ];
}

/// The counter of one kind of decision, to be kept beside what is decided.
#[derive(Debug, Clone)]
pub struct DecisionCounter(IntCounter);

impl DecisionCounter {
    /// Counts one.
    pub fn inc(&self) {
        self.0.inc();
    }
}

/// How a caller was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// There was nothing that could be tried.
    None,
    /// User name and password.
    Htpasswd,
    /// A token of an issuer.
    Oidc,
    /// A token of our own.
    Token,
    /// A client certificate.
    Certificate,
}

impl AuthenticationMethod {
    const ALL: [(Self, &'static str); 5] = [
        (Self::None, "none"),
        (Self::Htpasswd, "htpasswd"),
        (Self::Oidc, "oidc"),
        (Self::Token, "token"),
        (Self::Certificate, "certificate"),
    ];
}

/// What came of looking for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationOutcome {
    /// Somebody is known.
    Success,
    /// No credential was sent: what most clients do first.
    Absent,
    /// The credential is not good.
    Refused,
    /// The address had failed too often.
    Limited,
    /// Nobody could tell.
    Unavailable,
}

impl AuthenticationOutcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Success, "success"),
        (Self::Absent, "absent"),
        (Self::Refused, "refused"),
        (Self::Limited, "limited"),
        (Self::Unavailable, "unavailable"),
    ];
}

/// What of the cache directory failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFailure {
    /// A file could not be read.
    Read,
    /// A file could not be written: most likely the disk is full.
    Write,
    /// The store of hints could not be read or written.
    Hints,
    /// The store of what tags named could not be read or written.
    Served,
}

impl DiskFailure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Hints => "hints",
            Self::Served => "served",
        }
    }
}

/// What became of a record of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was written.
    Written,
    /// It could not be written: most likely the disk is full.
    Failed,
    /// Too many waited to be written.
    Dropped,
}

impl AuditOutcome {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Written, "written"),
        (Self::Failed, "failed"),
        (Self::Dropped, "dropped"),
    ];
}

/// How a trust root stands that a mirror keeps fresh; times in seconds since 1970.
#[derive(Debug, Clone)]
pub struct TrustRootStanding {
    /// Its name.
    pub root: String,
    /// When its mirror last confirmed it.
    pub confirmed_at: Option<i64>,
    /// Until when it may be used.
    pub usable_until: Option<i64>,
    /// Whether it is there to prove with.
    pub usable: bool,
}

/// What came of asking a mirror for a trust root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// It confirmed one.
    Success,
    /// It did not answer.
    Unreachable,
    /// What it sent was refused.
    Refused,
}

impl RefreshOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// Every metric of the program. A metric's help text is its comment here.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Decisions about pulls, by verdict, reason, and the mode and name of the policy that
    /// made it.
    decisions: IntCounterVec,
    /// Requests on the pull listener, by endpoint and status.
    http_requests: IntCounterVec,
    /// Manifests that were answered with 200: the hot path's handle of the above.
    manifests_ok: IntCounter,
    /// From the head of a request to the head of its answer.
    http_duration: Histogram,
    /// The cost of proving one piece of evidence, by format.
    verification_duration: HistogramVec,
    /// Pieces of evidence that were tried, by format and outcome.
    verifications: IntCounterVec,
    /// Look-ups in caches: hits and misses, in the order of [`CacheKind::ALL`].
    caches: Vec<[IntCounter; 2]>,
    /// Requests by how their caller was looked for, and what came of it; in the order of
    /// [`AuthenticationMethod::ALL`] and [`AuthenticationOutcome::ALL`].
    authentications: Vec<[IntCounter; 5]>,
    /// Requests to upstreams, by status; 0 where no answer came.
    upstream_requests: IntCounterVec,
    /// When the last certificate authority of a trust root ends.
    trust_root_expiry: IntGaugeVec,
    /// When the mirror of a trust root last confirmed it.
    trust_root_confirmed: IntGaugeVec,
    /// Until when a trust root may be used if its mirror confirms it no more.
    trust_root_usable_until: IntGaugeVec,
    /// Whether a trust root is there to prove with.
    trust_root_usable: IntGaugeVec,
    /// Times that the mirror of a trust root was asked, by outcome.
    trust_root_refreshes: IntCounterVec,
    /// The number of the keys and trust roots in force; counts up with each change.
    trust_epoch: IntGauge,
    /// Signers that do without what vouches for signatures everywhere else.
    unsafe_signers: IntGauge,
    /// Reloads of policy, by outcome.
    policy_reloads: IntCounterVec,
    /// The number of the policy in force; counts up with each reload.
    policy_epoch: IntGauge,
    /// Admissions by what could not be asked anew.
    stale_answers: IntCounter,
    /// Connections on the pull listener.
    connections: IntGauge,
    /// Bytes of the files in the cache directory.
    disk_bytes: IntGauge,
    /// Files that were removed from the cache directory to make room.
    disk_evictions: IntCounter,
    /// Files in the cache directory that did not hold what their names say.
    disk_corrupt: IntCounter,
    /// Failures of the cache directory, by operation; content is then had from upstream.
    disk_failures: IntCounterVec,
    /// Transfers of blobs that broke off and were taken up again.
    transfers_resumed: IntCounter,
    /// Records of the audit log, by outcome, in the order of [`AuditOutcome::ALL`].
    audit_records: Vec<IntCounter>,
}

/// Buckets in seconds, from a hot pull to a cold one with a slow registry.
const REQUEST_BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0,
];
/// Buckets in seconds around the 0.05 to 1.1 ms of a proof.
const PROOF_BUCKETS: [f64; 9] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25,
];

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// [`prometheus::Error`] when two metrics have one name: a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(
                &registry,
                IntCounterVec::new(Opts::new(name, help), labels)?,
            )
        };
        let gauges = |name: &str, help: &str| {
            registered(
                &registry,
                IntGaugeVec::new(Opts::new(name, help), &["root"])?,
            )
        };
        let http_requests = counters(
            "pullgate_http_requests_total",
            "Requests on the pull listener, by endpoint and status.",
            &["endpoint", "status"],
        )?;
        let caches = counters(
            "pullgate_cache_requests_total",
            "Look-ups in caches, by cache and outcome.",
            &["cache", "outcome"],
        )?;
        let authentications = counters(
            "pullgate_authentications_total",
            "Requests where `callers` are configured, by how their caller was looked for and \
             what came of it.",
            &["method", "outcome"],
        )?;
        let audit_records = counters(
            "pullgate_audit_records_total",
            "Decisions for the audit log, by whether they were written.",
            &["outcome"],
        )?;
        let build = registered(
            &registry,
            IntGaugeVec::new(
                Opts::new("pullgate_build_info", "The running version; always 1."),
                &["version"],
            )?,
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let policy_reloads = counters(
            "pullgate_policy_reloads_total",
            "Reloads of policy, by outcome.",
            &["outcome"],
        )?;
        // A counter that first appears as 1 shows no increase, and the first failure no alert.
        for outcome in ["success", "failure"] {
            policy_reloads.with_label_values(&[outcome]);
        }
        Ok(Self {
            decisions: counters(
                "pullgate_decisions_total",
                "Decisions about pulls, by verdict, reason, and the mode and name of the policy.",
                &["verdict", "reason", "mode", "policy"],
            )?,
            manifests_ok: http_requests.with_label_values(&["manifests", "200"]),
            http_requests,
            http_duration: registered(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "pullgate_http_request_duration_seconds",
                        "From the head of a request to the head of its answer.",
                    )
                    .buckets(REQUEST_BUCKETS.to_vec()),
                )?,
            )?,
            verification_duration: registered(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "pullgate_verification_duration_seconds",
                        "The cost of proving one piece of evidence.",
                    )
                    .buckets(PROOF_BUCKETS.to_vec()),
                    &["format"],
                )?,
            )?,
            verifications: counters(
                "pullgate_verifications_total",
                "Pieces of evidence that were tried, by format and outcome.",
                &["format", "outcome"],
            )?,
            caches: CacheKind::ALL
                .iter()
                .map(|(_, name)| {
                    ["hit", "miss"].map(|outcome| caches.with_label_values(&[*name, outcome]))
                })
                .collect(),
            audit_records: AuditOutcome::ALL
                .iter()
                .map(|(_, outcome)| audit_records.with_label_values(&[*outcome]))
                .collect(),
            authentications: AuthenticationMethod::ALL
                .iter()
                .map(|(_, method)| {
                    AuthenticationOutcome::ALL
                        .map(|(_, outcome)| authentications.with_label_values(&[*method, outcome]))
                })
                .collect(),
            upstream_requests: counters(
                "pullgate_upstream_requests_total",
                "Requests to upstream registries, by status; 0 where no answer came.",
                &["upstream", "status"],
            )?,
            trust_root_expiry: gauges(
                "pullgate_trust_root_expiry_timestamp_seconds",
                "When the last certificate authority of a trust root ends.",
            )?,
            trust_root_confirmed: gauges(
                "pullgate_trust_root_confirmed_timestamp_seconds",
                "When the mirror of a trust root last confirmed it.",
            )?,
            trust_root_usable_until: gauges(
                "pullgate_trust_root_usable_until_timestamp_seconds",
                "Until when a trust root may be used if its mirror confirms it no more.",
            )?,
            trust_root_usable: gauges(
                "pullgate_trust_root_usable",
                "1 where a trust root is there to prove with, else 0.",
            )?,
            trust_root_refreshes: counters(
                "pullgate_trust_root_refreshes_total",
                "Times that the mirror of a trust root was asked, by outcome.",
                &["root", "outcome"],
            )?,
            trust_epoch: registered(
                &registry,
                IntGauge::new(
                    "pullgate_trust_epoch",
                    "The number of the keys and trust roots in force.",
                )?,
            )?,
            policy_reloads,
            unsafe_signers: registered(
                &registry,
                IntGauge::new(
                    "pullgate_unsafe_signers",
                    "Signers in force that do without a transparency log or certificate \
                     timestamps.",
                )?,
            )?,
            policy_epoch: registered(
                &registry,
                IntGauge::new(
                    "pullgate_policy_epoch",
                    "The number of the policy in force.",
                )?,
            )?,
            stale_answers: registered(
                &registry,
                IntCounter::new(
                    "pullgate_stale_answers_total",
                    "Admissions by a tag that could not be resolved anew, or by facts that could not be \
                     gathered anew, since an upstream could not be reached.",
                )?,
            )?,
            connections: registered(
                &registry,
                IntGauge::new(
                    "pullgate_connections",
                    "Open connections on the pull listener.",
                )?,
            )?,
            disk_bytes: registered(
                &registry,
                IntGauge::new(
                    "pullgate_cache_disk_bytes",
                    "Bytes of the files in the cache directory.",
                )?,
            )?,
            disk_evictions: registered(
                &registry,
                IntCounter::new(
                    "pullgate_cache_disk_evictions_total",
                    "Files that were removed from the cache directory to make room.",
                )?,
            )?,
            disk_corrupt: registered(
                &registry,
                IntCounter::new(
                    "pullgate_cache_disk_corrupt_total",
                    "Files in the cache directory that did not hold what their names say, and \
                     were removed.",
                )?,
            )?,
            disk_failures: counters(
                "pullgate_cache_disk_failures_total",
                "Failures of the cache directory, by operation; content is then had from \
                 upstream.",
                &["operation"],
            )?,
            transfers_resumed: registered(
                &registry,
                IntCounter::new(
                    "pullgate_upstream_transfers_resumed_total",
                    "Transfers of blobs that broke off and were taken up again.",
                )?,
            )?,
            registry,
        })
    }

    /// The text for Prometheus (exposition format 0.0.4).
    ///
    /// # Errors
    /// [`prometheus::Error`] when a metric cannot be encoded.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The counter of one kind of decision.
    #[must_use]
    pub fn decision(
        &self,
        verdict: &str,
        reason: &str,
        mode: &str,
        policy: &str,
    ) -> DecisionCounter {
        DecisionCounter(
            self.decisions
                .with_label_values(&[verdict, reason, mode, policy]),
        )
    }

    /// A request on the pull listener was answered.
    pub fn http_answered(&self, endpoint: &'static str, status: u16, took: Duration) {
        if endpoint == "manifests" && status == 200 {
            self.manifests_ok.inc();
        } else {
            self.http_requests
                .with_label_values(&[endpoint, &status.to_string()])
                .inc();
        }
        self.http_duration.observe(took.as_secs_f64());
    }

    /// A piece of evidence was tried.
    pub fn verified(&self, format: &str, proven: bool, took: Duration) {
        let outcome = if proven { "proven" } else { "rejected" };
        self.verifications
            .with_label_values(&[format, outcome])
            .inc();
        self.verification_duration
            .with_label_values(&[format])
            .observe(took.as_secs_f64());
    }

    /// A cache was asked.
    pub fn cache_requested(&self, cache: CacheKind, hit: bool) {
        for ((kind, _), [hits, misses]) in CacheKind::ALL.iter().zip(&self.caches) {
            if *kind == cache {
                if hit { hits.inc() } else { misses.inc() }
            }
        }
    }

    /// A caller was looked for.
    pub fn authenticated(&self, method: AuthenticationMethod, outcome: AuthenticationOutcome) {
        let methods = AuthenticationMethod::ALL.iter().zip(&self.authentications);
        for ((_, _), outcomes) in methods.filter(|((known, _), _)| *known == method) {
            let outcomes = AuthenticationOutcome::ALL.iter().zip(outcomes);
            for (_, counter) in outcomes.filter(|((known, _), _)| *known == outcome) {
                counter.inc();
            }
        }
    }

    /// An upstream was asked; `status` is 0 where no answer came.
    pub fn upstream_requested(&self, upstream: &str, status: u16) {
        self.upstream_requests
            .with_label_values(&[upstream, &status.to_string()])
            .inc();
    }

    /// The trust roots in use, each with the end of its last certificate authority in seconds
    /// since 1970.
    pub fn trust_roots(&self, roots: impl Iterator<Item = (String, i64)>) {
        self.trust_root_expiry.reset();
        for (root, expiry) in roots {
            self.trust_root_expiry
                .with_label_values(&[&root])
                .set(expiry);
        }
    }

    /// The trust roots that a mirror keeps fresh, as they stand.
    pub fn trust_roots_stand(&self, roots: impl Iterator<Item = TrustRootStanding>) {
        self.trust_root_confirmed.reset();
        self.trust_root_usable_until.reset();
        self.trust_root_usable.reset();
        for TrustRootStanding {
            root,
            confirmed_at,
            usable_until,
            usable,
        } in roots
        {
            let root = [root.as_str()];
            for (gauge, time) in [
                (&self.trust_root_confirmed, confirmed_at),
                (&self.trust_root_usable_until, usable_until),
            ] {
                if let Some(time) = time {
                    gauge.with_label_values(&root).set(time);
                }
            }
            let usable = i64::from(usable);
            self.trust_root_usable.with_label_values(&root).set(usable);
        }
    }

    /// The mirror of a trust root was asked.
    pub fn trust_root_refreshed(&self, root: &str, outcome: RefreshOutcome) {
        self.trust_root_refreshes
            .with_label_values(&[root, outcome.as_str()])
            .inc();
    }

    /// The number of the keys and trust roots in force.
    pub fn trust_in_force(&self, epoch: u64) {
        self.trust_epoch
            .set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// So many signers are in force that do without what vouches for signatures everywhere else.
    pub fn unsafe_signers(&self, count: usize) {
        self.unsafe_signers
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Policy was loaded, or a reload failed and the running one stays.
    pub fn policy_reloaded(&self, success: bool) {
        let outcome = if success { "success" } else { "failure" };
        self.policy_reloads.with_label_values(&[outcome]).inc();
    }

    /// The number of the policy in force.
    pub fn policy_in_force(&self, epoch: u64) {
        self.policy_epoch
            .set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// Something was admitted by a tag, or by facts, that could not be asked anew.
    pub fn answered_stale(&self) {
        self.stale_answers.inc();
    }

    /// The cache directory holds so many bytes.
    pub fn disk_holds(&self, bytes: u64) {
        self.disk_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A file was removed from the cache directory to make room.
    pub fn disk_evicted(&self) {
        self.disk_evictions.inc();
    }

    /// A file in the cache directory did not hold what its name says.
    pub fn disk_corrupt(&self) {
        self.disk_corrupt.inc();
    }

    /// The cache directory failed.
    pub fn disk_failed(&self, failure: DiskFailure) {
        self.disk_failures
            .with_label_values(&[failure.as_str()])
            .inc();
    }

    /// So many records of the audit log came to this.
    pub fn audited(&self, outcome: AuditOutcome, count: u64) {
        let mut counters = AuditOutcome::ALL.iter().zip(&self.audit_records);
        if let Some((_, counter)) = counters.find(|((known, _), _)| *known == outcome) {
            counter.inc_by(count);
        }
    }

    /// A transfer broke off and is taken up again.
    pub fn transfer_resumed(&self) {
        self.transfers_resumed.inc();
    }

    /// The gauge of open connections.
    #[must_use]
    pub fn connections(&self) -> &IntGauge {
        &self.connections
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
