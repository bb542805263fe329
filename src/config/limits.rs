//! The limits: each is named with its unit, has a default, and is never off.

use std::time::Duration;

use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::units;
use crate::policy::CONDITION_STEPS_MAX;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A kind of limit.
trait Limit: Sized {
    /// Reads it; 0 is none.
    fn read(value: &Value<'_>) -> Option<Self>;

    /// As the reference writes it.
    #[cfg(test)]
    fn write(&self) -> String;
}

/// Makes the struct, its defaults, its keys and its reader from one list, so that none of
/// them can lack a limit that another has.
macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $default:expr;)*) => {
        /// A limit on everything. Each has a default, and 0 is an error: no limit is ever off.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])* pub $name: $kind,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// The keys of `limits`.
        pub(super) const KEYS: &[&str] = &[$(stringify!($name)),*];

        impl Limits {
            pub(super) fn read(fields: &Fields<'_>) -> Self {
                let mut limits = Self::default();
                $(if let Some(value) = fields.at(stringify!($name)).as_ref().and_then(Limit::read) {
                    limits.$name = value;
                })*
                limits
            }

            /// Every key with its value, as the reference writes it.
            #[cfg(test)]
            pub(super) fn written(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), self.$name.write())),*]
            }
        }
    };
}

limits! {
    /// The largest manifest or index that is fetched.
    manifest_bytes_max: u64 = 4 * MIB;
    /// The largest Sigstore bundle that is read as evidence.
    bundle_bytes_max: u64 = MIB;
    /// The largest signed payload of a `.sig` layer that is read as evidence.
    signature_payload_bytes_max: u64 = 64 * KIB;
    /// The largest attestation that is read.
    attestation_bytes_max: u64 = 32 * MIB;
    /// How many pieces of evidence are looked at for one digest.
    evidence_artifacts_max: usize = 64;
    /// How many steps the evaluation of one condition (`where`) may take.
    condition_steps_max: usize = CONDITION_STEPS_MAX;
    /// How long evidence for one digest may take to gather, all of it together.
    evidence_deadline: Duration = Duration::from_secs(10);
    /// How many digests one upstream is searched for at a time; others wait, before their deadline
    /// begins to count.
    evidence_searches_max: usize = 32;
    /// How many digests may wait for that, at each upstream; beyond it pulls are answered
    /// `overloaded`.
    evidence_queue_max: usize = 10_000;
    /// How many bytes of evidence are held at once, from when they are read until they are proven;
    /// what is more waits, within its deadline. Each upstream has an equal part of it, and one
    /// digest's evidence may go beyond that part.
    evidence_in_flight_bytes_max: u64 = 256 * MIB;
    /// How long one decision may take, all that it waits for included.
    decision_deadline: Duration = Duration::from_secs(120);
    /// How many manifests of one index are looked at.
    index_manifests_max: usize = 128;
    /// How many indexes may lie between a tag and an image.
    index_depth_max: usize = 4;
    /// Of how many tags it is remembered what they named, under policies with `no_rollback`.
    served_tags_max: usize = 100_000;
    /// The largest header block of a request.
    header_bytes_max: u64 = 32 * KIB;
    /// How many connections are open at once on the pull listener.
    connections_max: usize = 10_000;
    /// How long a client may take to send a request's headers.
    header_read_timeout: Duration = Duration::from_secs(10);
    /// How long a client may take less than a kilobyte a second of an answer that waits for it.
    slow_reader_timeout: Duration = Duration::from_secs(60);
    /// How long pulls under way may take to end once the process is told to stop.
    drain_deadline: Duration = Duration::from_secs(30);
    /// How many proofs may wait for a processor; beyond it pulls are answered `overloaded`.
    verification_queue_max: usize = 256;
    /// How many requests for documents, and how many for blobs, are under way at once to one upstream.
    upstream_connections_max: usize = 64;
    /// How many requests one upstream is sent in a second; more of them wait.
    upstream_requests_per_second_max: usize = 1000;
    /// How long a connection to an upstream may take to open.
    connect_timeout: Duration = Duration::from_secs(5);
    /// How long an upstream may take until its answer begins.
    answer_timeout: Duration = Duration::from_secs(10);
    /// How long a connection may be silent in the middle of an answer.
    idle_timeout: Duration = Duration::from_secs(30);
    /// How often an address (for IPv6, a network of 64 bits) may fail to log in within a minute
    /// before it has to wait.
    authentication_failures_max: usize = 20;
    /// How long an issuer's keys are used while it cannot be asked for them.
    issuer_keys_stale_max: Duration = Duration::from_secs(24 * 60 * 60);
    /// How long a manifest may take to fetch, retries and token requests included.
    manifest_deadline: Duration = Duration::from_secs(20);
    /// How often the files of the configuration are looked at for changes.
    watch_interval: Duration = Duration::from_secs(5);
    /// How often the mirror of a trust root is asked whether it has changed.
    trust_root_refresh_interval: Duration = Duration::from_secs(6 * 60 * 60);
    /// How long one such refresh may take in all.
    trust_root_refresh_deadline: Duration = Duration::from_secs(60);
    /// How long a trust root may be used after its mirror last confirmed it.
    trust_root_stale_max: Duration = Duration::from_secs(7 * 24 * 60 * 60);
}

fn not_zero<T: PartialEq + Default>(value: &Value<'_>, read: Option<T>) -> Option<T> {
    let read = read?;
    if read == T::default() {
        value.error(
            "a limit of 0 would stop everything, and no limit can be off",
            "give a larger one, or remove the line for the default",
        );
        return None;
    }
    Some(read)
}

impl Limit for u64 {
    fn read(value: &Value<'_>) -> Option<Self> {
        not_zero(value, value.parsed(units::bytes, units::SIZE_MEND))
    }

    #[cfg(test)]
    fn write(&self) -> String {
        match self {
            bytes if bytes % MIB == 0 => format!("{}MiB", bytes / MIB),
            bytes if bytes % KIB == 0 => format!("{}KiB", bytes / KIB),
            bytes => bytes.to_string(),
        }
    }
}

impl Limit for usize {
    fn read(value: &Value<'_>) -> Option<Self> {
        // Fits every machine, and every pool and queue that is made from it.
        let count = |text: &str| text.parse::<u32>().map_err(|_| "not a whole number");
        let read = value.parsed(count, "write a whole number, like 64");
        not_zero(value, read.and_then(|count| Self::try_from(count).ok()))
    }

    #[cfg(test)]
    fn write(&self) -> String {
        self.to_string()
    }
}

impl Limit for Duration {
    fn read(value: &Value<'_>) -> Option<Self> {
        not_zero(value, value.parsed(units::duration, units::DURATION_MEND))
    }

    #[cfg(test)]
    fn write(&self) -> String {
        format!("{}s", self.as_secs())
    }
}
