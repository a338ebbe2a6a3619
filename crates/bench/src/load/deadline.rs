//! A time-out for every request that costs nothing while requests are answered in time.

use super::failure::Failure;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Bounds one request after the other. Its timer is armed for the request during which it fires,
/// not for each: when it fires early for the present request, it is set again.
#[derive(Debug)]
pub(super) struct Deadline {
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, timer: Box::pin(tokio::time::sleep(timeout)) }
    }

    /// Runs `request`, which began at `started`, to its end or to the time-out.
    pub(super) async fn bound<T>(
        &mut self,
        started: Instant,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut request = pin!(request);
        let deadline = started + self.timeout;
        poll_fn(|context| {
            if let Poll::Ready(result) = request.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            // Polled again after a reset, so that the new time is registered.
            while self.timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Failure::Timeout));
                }
                self.timer.as_mut().reset(deadline.into());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_request_that_is_answered_is_not_disturbed() {
        let mut deadline = Deadline::new(TIMEOUT);
        for number in 0..3 {
            let result = deadline.bound(Instant::now(), async { Ok(number) }).await;
            assert!(matches!(result, Ok(answer) if answer == number));
        }
    }

    #[tokio::test]
    async fn a_request_that_began_too_long_ago_times_out() {
        let mut deadline = Deadline::new(Duration::from_millis(1));
        let request = std::future::pending::<Result<(), Failure>>();
        let result = deadline.bound(Instant::now(), request).await;
        assert!(matches!(result, Err(Failure::Timeout)));
    }

    #[tokio::test]
    async fn a_timer_that_fires_for_an_earlier_request_spares_the_present_one() {
        let mut deadline =
            Deadline { timeout: TIMEOUT, timer: Box::pin(tokio::time::sleep(Duration::ZERO)) };
        let request = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        };
        assert!(deadline.bound(Instant::now(), request).await.is_ok());
    }
}
