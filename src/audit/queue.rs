//! The way of a record to the audit log: a queue that is never waited for. What finds no place in
//! it is dropped and counted, so that no pull is slower for a slow disk.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::audit::Record;
use crate::metrics::AuditOutcome;
use crate::metrics::Metrics;

/// Records that may wait to be written, of some hundred bytes each.
const QUEUE_MAX: usize = 20_000;
/// Records that are taken at a time.
const BATCH_MAX: usize = 4_096;

/// Where records are put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    records: mpsc::Sender<Record>,
    metrics: Arc<Metrics>,
}

/// Where they are taken from.
#[derive(Debug)]
pub struct Queued(mpsc::Receiver<Record>);

impl Queue {
    /// A queue and its end.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> (Self, Queued) {
        let (records, queued) = mpsc::channel(QUEUE_MAX);
        (Self { records, metrics }, Queued(queued))
    }

    pub(super) fn put(&self, record: &Record) {
        if self.records.try_send(record.clone()).is_err() {
            self.metrics.audited(AuditOutcome::Dropped, 1);
        }
    }
}

impl Queued {
    /// What waits, once something does; nothing when nothing can come any more.
    pub async fn take(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        self.0.recv_many(&mut records, BATCH_MAX).await;
        records
    }

    /// What waits now.
    pub fn take_now(&mut self) -> Vec<Record> {
        let next = || self.0.try_recv().ok();
        std::iter::from_fn(next).take(BATCH_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Decided;
    use crate::audit::sample::{self, Nothing};

    #[tokio::test]
    async fn what_finds_no_place_is_dropped_at_once_and_counted() {
        const MORE: usize = 3;
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (queue, mut queued) = Queue::new(Arc::clone(&metrics));
        let decided: Arc<dyn Decided> = Arc::new(Nothing);
        let record = sample::record(1, &decided);
        for _ in 0..QUEUE_MAX + MORE {
            queue.put(&record);
        }
        let text = metrics.render().expect("metrics");
        let line = format!("pullgate_audit_records_total{{outcome=\"dropped\"}} {MORE}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
        assert_eq!(queued.take().await.len(), BATCH_MAX);
        queue.put(&record);
        let mut left = 0;
        loop {
            match queued.take_now().len() {
                0 => break,
                taken => left += taken,
            }
        }
        assert_eq!(left, QUEUE_MAX - BATCH_MAX + 1);
    }
}
