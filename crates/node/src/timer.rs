//! Deadlines that are moved far more often than they pass.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// A deadline whose moves into the future cost nothing.
///
/// Every request moves several deadlines and hardly any passes, so the runtime's timer stays armed
/// at an old deadline: when it fires early, it is armed again.
#[derive(Default)]
pub(crate) struct LazyTimer {
    deadline: Option<Instant>,
    /// The runtime's timer, kept once it was needed.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// Moves the deadline; none never passes.
    pub(crate) fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Ready when the deadline has passed. Else the task is woken then or earlier.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        if sleep.deadline().into_std() > deadline {
            sleep.as_mut().reset(deadline.into());
        }
        ready!(sleep.as_mut().poll(context));
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(deadline.into());
        sleep.as_mut().poll(context)
    }
}

/// Notices that nothing comes for too long. Only waiting counts.
pub(crate) struct StallTimer {
    timeout: Duration,
    waits: bool,
    timer: LazyTimer,
}

impl StallTimer {
    /// Allows waits of at most `timeout`.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, waits: false, timer: LazyTimer::default() }
    }

    /// The longest wait.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Something has come: the wait, if there was one, is over.
    pub(crate) fn progress(&mut self) {
        self.waits = false;
    }

    /// Waits, or goes on waiting. Ready when that has lasted too long.
    pub(crate) fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            self.waits = true;
            self.timer.set(Some(Instant::now() + self.timeout));
        }
        self.timer.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, task::Waker};

    fn pending(timer: &mut LazyTimer) -> bool {
        timer.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn only_the_last_deadline_counts() {
        let mut timer = LazyTimer::default();
        assert!(pending(&mut timer), "no deadline never passes");
        let far = Instant::now() + Duration::from_secs(3600);
        timer.set(Some(Instant::now()));
        timer.set(Some(far));
        assert!(pending(&mut timer));
        let near = Instant::now() + Duration::from_millis(2);
        timer.set(Some(near));
        poll_fn(|context| timer.poll(context)).await;
        assert!(Instant::now() >= near);
        timer.set(Some(far));
        assert!(pending(&mut timer), "a timer that fired is armed again");
        timer.set(None);
        assert!(pending(&mut timer));
    }
}
