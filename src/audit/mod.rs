//! Decisions on record: the latest ones in memory for `/decisions`, and all of them in the audit
//! log, where there is one.
//!
//! A record is made for every pull, so it holds what is already at hand and is put into words
//! only when somebody asks.

mod latest;
mod queue;
mod trail;

pub use queue::{Queue, Queued};
pub use trail::{Place, Trail};

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::latest::Latest;

/// The name of one decision: sixteen hexadecimal digits. The first half is drawn when the
/// program starts, so that the ids of two runs or replicas do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionId(u64);

impl DecisionId {
    /// Its digits, without the detour over a formatter: every pull has one in its answer.
    #[must_use]
    pub fn text(self) -> [u8; 16] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'0'; 16];
        let bytes = self.0.to_be_bytes();
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

impl std::fmt::Display for DecisionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

/// What does not change between two pulls of the same thing under the same policy.
pub trait Decided: Send + Sync {
    /// The parts of the record beside id, time, client and puller: `image`, `digest`, `verdict`,
    /// `reason`, `mode`, `policies`.
    fn describe(&self) -> Value;
}

/// One decision about one pull.
#[derive(Clone)]
pub struct Record {
    /// Its name.
    pub id: DecisionId,
    /// When.
    pub time: Timestamp,
    /// Who asked, as far as the network tells.
    pub client: IpAddr,
    /// Who asked, by what was verified; nobody where nothing was.
    pub puller: Option<Arc<str>>,
    /// What was decided.
    pub decided: Arc<dyn Decided>,
}

impl Record {
    /// The record as `/decisions` shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut record = json!({
            "id": self.id.to_string(),
            "time": self.time.to_string(),
            "client": self.client.to_string(),
            "puller": self.puller,
        });
        if let (Value::Object(record), Value::Object(decided)) =
            (&mut record, self.decided.describe())
        {
            record.extend(decided);
        }
        record
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({})", self.id)
    }
}

/// The latest decisions, in memory.
#[derive(Debug)]
pub struct Decisions {
    next: AtomicU64,
    latest: Mutex<Latest>,
    /// The way to the audit log.
    log: OnceLock<Queue>,
}

impl Decisions {
    /// Keeps the latest `capacity` decisions. `seed` sets this run's ids apart from others'.
    #[must_use]
    pub fn new(capacity: usize, seed: u32) -> Self {
        Self {
            next: AtomicU64::new(u64::from(seed) << 32),
            latest: Mutex::new(Latest::new(capacity)),
            log: OnceLock::new(),
        }
    }

    /// Puts each of them on the way to the audit log from now on; there is one.
    pub fn log_to(&self, log: Queue) {
        let _there_is_one = self.log.set(log);
    }

    /// The name of another decision.
    pub fn next_id(&self) -> DecisionId {
        DecisionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Records a decision and names it.
    pub fn record(
        &self,
        time: Timestamp,
        client: IpAddr,
        puller: Option<Arc<str>>,
        decided: Arc<dyn Decided>,
    ) -> DecisionId {
        let id = self.next_id();
        let record = Record {
            id,
            time,
            client,
            puller,
            decided,
        };
        if let Some(log) = self.log.get() {
            log.put(&record);
        }
        let driven_out = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.push(record)
        };
        // Whatever they were the last to hold is freed outside of the lock.
        drop(driven_out);
        id
    }

    /// The latest `limit` decisions, newest first.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<Record> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.newest_first().take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod sample {
    use super::*;

    /// A decision of which there is nothing to say.
    pub(super) struct Nothing;

    impl Decided for Nothing {
        fn describe(&self) -> Value {
            json!({})
        }
    }

    pub(super) fn record(id: u64, decided: &Arc<dyn Decided>) -> Record {
        Record {
            id: DecisionId(id),
            time: Timestamp::UNIX_EPOCH,
            client: [127, 0, 0, 1].into(),
            puller: None,
            decided: Arc::clone(decided),
        }
    }
}
