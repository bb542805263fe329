//! The threads that prove signatures and hash passwords. Those that answer come before them: a
//! flood of first pulls is to slow no cached one, on however few processors.

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};

/// How much these threads stand back (`nice`). When processors are short they have about a tenth
/// of one beside each thread that answers; else all that they want.
const NICENESS: i32 = 10;

/// The threads. They end when this is dropped, without waiting for what they are at.
#[derive(Debug)]
pub(super) struct Hands(Option<Runtime>);

impl Hands {
    /// There are as many as there is work for at a time.
    ///
    /// # Errors
    /// When the operating system does not give what a runtime needs.
    pub(super) fn hire() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name("proofs")
            .on_thread_start(stand_back)
            .build()
            .context("the threads for proofs could not be started")?;
        Ok(Self(Some(runtime)))
    }

    /// Where work is handed in.
    pub(super) fn handle(&self) -> Handle {
        let runtime = self.0.as_ref().map(Runtime::handle);
        // There is a runtime until the end.
        runtime.map_or_else(Handle::current, Handle::clone)
    }
}

impl Drop for Hands {
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
        let hands = Hands::hire().expect("threads");
        let niceness = || rustix::process::getpriority_process(None).expect("a priority");
        let before = niceness();
        let theirs = hands.handle().spawn_blocking(niceness).await;
        assert_eq!(theirs.expect("done"), before.max(NICENESS));
        assert_eq!(niceness(), before);
    }
}
