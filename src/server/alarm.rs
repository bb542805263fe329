//! The alarm of a connection: set for every request, and hardly ever rung.
//!
//! hyper sets a timer for each head that it reads, and throws it away when the head has come. In the
//! runtime's wheel that costs more than the look-up of what is asked for. So a connection keeps one
//! real timer, and setting the alarm is writing down a time: when the real one ends, it is seen
//! whether that has come. And it rings for whoever drives the connection, not for hyper.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt;

/// One connection's alarm, for times that lie one interval ahead. It is set, kept and heard within
/// one task.
#[derive(Debug, Clone)]
pub(super) struct Alarm(Arc<Clockwork>);

#[derive(Debug)]
struct Clockwork {
    interval: Duration,
    /// What the deadline is counted from.
    began: Instant,
    /// What the alarm is set to, in nanoseconds; [`OFF`] while it is not.
    deadline: AtomicU64,
    /// Whether that has come.
    rings: AtomicBool,
}

const OFF: u64 = u64::MAX;

impl Alarm {
    /// An alarm that is always set for `interval` ahead, or for longer. It is not set yet.
    pub(super) fn new(interval: Duration) -> Self {
        Self(Arc::new(Clockwork {
            interval,
            began: now(),
            deadline: AtomicU64::new(OFF),
            rings: AtomicBool::new(false),
        }))
    }

    /// What it was set for has come in time.
    pub(super) fn off(&self) {
        self.set(OFF);
    }

    /// Whether what it is set for is late, as seen when [`keep`](Self::keep) was last polled.
    pub(super) fn rings(&self) -> bool {
        self.0.rings.load(Ordering::Relaxed)
    }

    /// The real timer; never ends. The task that waits for the alarm is to poll this each time that
    /// this wakes it, and then to see whether it [rings](Self::rings).
    pub(super) async fn keep(self) {
        loop {
            let now = now();
            let until = match self.deadline() {
                Some(deadline) if now < deadline => deadline,
                deadline => {
                    self.0.rings.store(deadline.is_some(), Ordering::Relaxed);
                    // Whatever it is set to next comes no sooner.
                    now + self.0.interval
                }
            };
            tokio::time::sleep_until(until.into()).await;
        }
    }

    fn set(&self, deadline: u64) {
        self.0.deadline.store(deadline, Ordering::Relaxed);
        self.0.rings.store(false, Ordering::Relaxed);
    }

    fn deadline(&self) -> Option<Instant> {
        let deadline = self.0.deadline.load(Ordering::Relaxed);
        (deadline != OFF).then(|| self.0.began + Duration::from_nanos(deadline))
    }
}

/// The runtime's time: tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl rt::Timer for Alarm {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(now() + duration)
    }

    /// Sets the alarm, for which hyper itself waits in vain.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        let after = deadline.saturating_duration_since(self.0.began);
        self.set(u64::try_from(after.as_nanos()).unwrap_or(OFF));
        Box::pin(Never)
    }

    fn now(&self) -> Instant {
        now()
    }
}

/// Takes no memory.
#[derive(Debug)]
struct Never;

impl rt::Sleep for Never {}

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use hyper::rt::Timer as _;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(60);

    /// Waits for a ring as a connection does; how long it took.
    async fn ring(alarm: &Alarm, mut keeper: Pin<&mut impl Future<Output = ()>>) -> Duration {
        let since = now();
        drop(alarm.sleep_until(since + INTERVAL));
        let heard = poll_fn(|cx| {
            assert!(keeper.as_mut().poll(cx).is_pending());
            if alarm.rings() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let heard = tokio::time::timeout(INTERVAL * 100, heard).await;
        heard.expect("it rings");
        now() - since
    }

    /// Lets time go by while something else than the alarm is waited for.
    async fn pass(time: Duration, keeper: Pin<&mut impl Future<Output = ()>>) {
        tokio::select! {
            biased;
            () = keeper => panic!("it never ends"),
            () = tokio::time::sleep(time) => {}
        }
    }

    #[tokio::test]
    async fn it_rings_when_it_is_set_to_and_not_before() {
        for quiet in [0, 10, 50, 60, 70, 130] {
            let alarm = Alarm::new(INTERVAL);
            let mut keeper = pin!(alarm.clone().keep());
            for _ in 0..3 {
                // Set for a head that came in time, and off while that was answered.
                drop(alarm.sleep_until(now() + INTERVAL));
                alarm.off();
                pass(Duration::from_millis(quiet), keeper.as_mut()).await;
                assert!(!alarm.rings(), "{quiet}");
                let took = ring(&alarm, keeper.as_mut()).await;
                assert!(took >= INTERVAL, "{quiet}: {took:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_set_anew_before_it_rings_is_what_it_rings_for() {
        let alarm = Alarm::new(INTERVAL);
        let mut keeper = pin!(alarm.clone().keep());
        for _ in 0..10 {
            let since = now();
            drop(alarm.sleep_until(since + INTERVAL));
            pass(INTERVAL / 2, keeper.as_mut()).await;
            assert!(!alarm.rings() || now() - since >= INTERVAL);
        }
    }
}
