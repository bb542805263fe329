//! The threads for new work: searches, transfers, proofs, hashes of passwords. Those that answer
//! come before them: a flood of first pulls is to slow no cached one, on however few processors.

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};

/// How much these threads stand back (`nice`). When processors are short they have about a tenth
/// of one beside each thread that answers; else all that they want.
const NICENESS: i32 = 10;

/// The threads. They end when this is dropped, without waiting for what they are at.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// One for each processor, and others for what keeps a thread busy: as many as there is such
    /// work at a time.
    ///
    /// # Errors
    /// When the operating system does not give what a runtime needs.
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("new-work")
            .on_thread_start(stand_back)
            .build()
            .context("the threads for new work could not be started")?;
        Ok(Self(Some(runtime)))
    }

    /// Where work is handed in.
    pub(super) fn handle(&self) -> Handle {
        let runtime = self.0.as_ref().map(Runtime::handle);
        // There is a runtime until the end.
        runtime.map_or_else(Handle::current, Handle::clone)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of this thread: Linux has one for each. Where that is refused, all threads
/// are equal.
fn stand_back() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_stand_back_and_nobody_else_does() {
        let threads = Threads::start().expect("threads");
        let niceness = || rustix::process::getpriority_process(None).expect("a priority");
        let before = niceness();
        let handle = threads.handle();
        let theirs = handle.spawn(async move { niceness() }).await;
        assert_eq!(theirs.expect("done"), before.max(NICENESS));
        let theirs = handle.spawn_blocking(niceness).await;
        assert_eq!(theirs.expect("done"), before.max(NICENESS));
        assert_eq!(niceness(), before);
    }
}
