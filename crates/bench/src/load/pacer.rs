//! Sleeping until a request is due, more exactly than the runtime's millisecond timer.

#![allow(unsafe_code, reason = "the runtime takes a descriptor only on its owner's word")]

use super::schedule::Schedule;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Gives out the arrivals of one thread, each when it is due. Connections that are free wait for
/// it in line; when all are busy, arrivals become overdue, and their latency counts the wait.
#[derive(Debug)]
pub(super) struct Pacer {
    schedule: Schedule,
    started: Instant,
    /// No arrival at or after this is given out.
    end: Instant,
    /// The kernel's high-resolution timer.
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// The arrivals of `schedule`, counted from `started`, that are due before `end`.
    pub(super) fn new(schedule: Schedule, started: Instant, end: Instant) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { schedule, started, end, timer: register(timer)? })
    }

    /// Waits for the next arrival and returns when it was due; `None` after the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<Instant>> {
        let due = self.started + self.schedule.next_due();
        if due >= self.end {
            return Ok(None);
        }
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            self.sleep(wait).await?;
        }
        Ok(Some(due))
    }

    /// How many arrivals nobody has taken.
    pub(super) fn remaining(&self) -> u64 {
        self.schedule.remaining_before(self.end.duration_since(self.started))
    }

    async fn sleep(&self, wait: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(wait).map_err(|_| io::ErrorKind::InvalidInput)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0u8; 8];
            let read =
                ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
            match read {
                Ok(result) => return result.map(drop),
                // A wake-up left over from an earlier sleep.
                Err(_would_block) => {}
            }
        }
    }
}

/// Has the runtime watch `timer`.
fn register(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, refers to the same timer as long as it lives, and the `AsyncFd`
    // owns it.
    Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const RATE_PER_SECOND: f64 = 200.0;
    const RUN: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn no_arrival_comes_early_and_none_is_left_out() {
        let started = Instant::now();
        let schedule = Schedule::new(RATE_PER_SECOND, 0, 1);
        let mut pacer = Pacer::new(schedule, started, started + RUN).unwrap();
        let mut arrivals = Vec::new();
        while let Some(due) = pacer.next().await.unwrap() {
            assert!(Instant::now() >= due, "an arrival is given out when it is due");
            arrivals.push(due.duration_since(started).as_millis());
        }
        assert_eq!(arrivals, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]);
        assert_eq!(pacer.remaining(), 0);
    }

    #[tokio::test]
    async fn overdue_arrivals_keep_the_time_at_which_they_were_due() {
        let started = Instant::now().checked_sub(RUN).unwrap();
        let schedule = Schedule::new(RATE_PER_SECOND, 0, 1);
        let mut pacer = Pacer::new(schedule, started, started + RUN).unwrap();
        assert_eq!(pacer.next().await.unwrap(), Some(started));
        let second = started + Duration::from_millis(5);
        assert_eq!(pacer.next().await.unwrap(), Some(second));
        assert_eq!(pacer.remaining(), 8);
    }
}
