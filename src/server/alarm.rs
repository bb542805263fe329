//! The alarm of a connection: set for every request, and hardly ever rung.
//!
//! hyper sets a timer for each head that it reads, and throws it away when the head has come. In the
//! runtime's wheel that costs more than the look-up of what is asked for. So a connection keeps one
//! real timer, and setting the alarm is writing down a time: when the real one ends, it is seen
//! whether that has come.

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
    /// What the alarm is set to, in nanoseconds.
    deadline: AtomicU64,
    /// Whether that has come.
    rings: AtomicBool,
}

/// Ends when the alarm rings for this deadline. It wakes nobody: see [`Alarm::keep`].
#[derive(Debug)]
struct Rung {
    alarm: Alarm,
    deadline: Instant,
}

impl Alarm {
    /// An alarm that is always set for `interval` ahead, or for longer.
    pub(super) fn new(interval: Duration) -> Self {
        Self(Arc::new(Clockwork {
            interval,
            began: now(),
            deadline: AtomicU64::new(0),
            rings: AtomicBool::new(false),
        }))
    }

    /// The real timer; never ends. The task that waits for the alarm is to poll this first each
    /// time that this wakes it.
    pub(super) async fn keep(self) {
        loop {
            let (now, deadline) = (now(), self.deadline());
            let until = if now < deadline {
                deadline
            } else {
                self.0.rings.store(true, Ordering::Relaxed);
                // Whatever it is set to next comes no sooner.
                now + self.0.interval
            };
            tokio::time::sleep_until(until.into()).await;
        }
    }

    fn deadline(&self) -> Instant {
        self.0.began + Duration::from_nanos(self.0.deadline.load(Ordering::Relaxed))
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

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        let after = deadline.saturating_duration_since(self.0.began);
        let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.0.deadline.store(nanoseconds, Ordering::Relaxed);
        self.0.rings.store(false, Ordering::Relaxed);
        Box::pin(Rung {
            alarm: self.clone(),
            deadline,
        })
    }

    fn now(&self) -> Instant {
        now()
    }
}

impl rt::Sleep for Rung {}

impl Future for Rung {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // One that an answer outlasted rings for nobody.
        let rings = self.alarm.0.rings.load(Ordering::Relaxed) && now() >= self.deadline;
        if rings {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
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
        let mut rung = alarm.sleep_until(since + INTERVAL);
        let heard = poll_fn(|cx| {
            assert!(keeper.as_mut().poll(cx).is_pending());
            rung.as_mut().poll(cx)
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
                // Set for a head that came in time, and left to ring while that was answered.
                drop(alarm.sleep_until(now() + INTERVAL));
                pass(Duration::from_millis(quiet), keeper.as_mut()).await;
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
            let mut rung = alarm.sleep_until(since + INTERVAL);
            pass(INTERVAL / 2, keeper.as_mut()).await;
            let early = poll_fn(|cx| Poll::Ready(rung.as_mut().poll(cx).is_ready())).await;
            assert!(!early || now() - since >= INTERVAL);
        }
    }
}
