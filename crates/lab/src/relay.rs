//! A delayed link: copies frames between two interfaces, each when its time has come.

use crate::delay_queue::DelayQueue;
use crate::error::{Context, Result};
use crate::fault::Delay;
use crate::system::packet_socket::PacketSocket;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use serde::Serialize;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Frames read from one interface before the other one, and the clock, get their turn.
const BATCH_FRAMES: usize = 64;
/// Larger than any frame: the interfaces have an MTU of 1,500 bytes and no segmentation offload.
const FRAME_BYTES_MAX: usize = 65_536;
/// How often the counters are written while frames flow.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(1);

/// One direction of the link.
struct Direction {
    /// Which socket of the relay the frames come from; they leave by the other one.
    from: usize,
    queue: DelayQueue,
    counters: Counters,
}

/// What became of the frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counters {
    /// Sent on after their delay.
    forwarded: u64,
    /// Lost because too many were under way.
    overflowed: u64,
    /// Lost because the other interface did not take them: it was down, or its queue was full.
    refused: u64,
}

/// The counters as they are written.
#[derive(PartialEq, Eq, Serialize)]
struct Statistics {
    from_host: Counters,
    to_host: Counters,
}

/// A relay between two interfaces of the calling thread's namespace.
pub(crate) struct DelayRelay {
    /// The switch's port of the host, and the end of the pair that leads to the bridge.
    sockets: [PacketSocket; 2],
    directions: [Direction; 2],
    /// Time zero of the queues.
    start: Instant,
}

impl DelayRelay {
    /// Opens both interfaces.
    pub(crate) fn open(port: &str, bridge_side: &str, delay: Delay) -> Result<Self> {
        let open = |interface: &str| {
            PacketSocket::open(interface).context(|| format!("packet socket on {interface}"))
        };
        let direction = |from| Direction {
            from,
            queue: DelayQueue::new(delay, from as u64),
            counters: Counters::default(),
        };
        Ok(Self {
            sockets: [open(port)?, open(bridge_side)?],
            directions: [direction(0), direction(1)],
            start: Instant::now(),
        })
    }

    /// Copies until `termination` becomes readable. Keeps the counters in the file `statistics`.
    pub(crate) fn run(&mut self, termination: BorrowedFd<'_>, statistics: &Path) -> Result<()> {
        // The default slack of 50 µs would lengthen every short delay.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))
            .context(|| "timer slack".to_owned())?;
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let mut written = None;
        let mut write_at = Duration::ZERO;
        loop {
            self.receive(&mut frame)?;
            self.send();
            let now = self.start.elapsed();
            if now >= write_at && written != Some(self.statistics()) {
                written = Some(self.write_statistics(statistics)?);
                write_at = now + STATISTICS_INTERVAL;
            }
            let write_due = (written != Some(self.statistics())).then_some(write_at);
            if self.wait(termination, write_due)? {
                self.write_statistics(statistics)?;
                return Ok(());
            }
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<()> {
        for direction in &mut self.directions {
            for _ in 0..BATCH_FRAMES {
                match self.sockets[direction.from].receive(frame) {
                    Ok(length) => direction.queue.push(self.start.elapsed(), &frame[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_transient(&error) => {}
                    Err(error) => return Err(error).context(|| "receive a frame".to_owned()),
                }
            }
        }
        Ok(())
    }

    fn send(&mut self) {
        let now = self.start.elapsed();
        for direction in &mut self.directions {
            let to = &self.sockets[1 - direction.from];
            while let Some(frame) = direction.queue.pop(now) {
                // A link loses what it cannot carry, as the other end is down or slow.
                match to.send(&frame) {
                    Ok(()) => direction.counters.forwarded += 1,
                    Err(_) => direction.counters.refused += 1,
                }
            }
            direction.counters.overflowed = direction.queue.overflowed();
        }
    }

    /// Waits for a frame, for the time of one, or for `write_due`. True when it is time to end.
    fn wait(&self, termination: BorrowedFd<'_>, write_due: Option<Duration>) -> Result<bool> {
        let due = self
            .directions
            .iter()
            .filter_map(|direction| direction.queue.next_due())
            .chain(write_due)
            .min();
        let timeout = due.map(|due| timespec(due.saturating_sub(self.start.elapsed())));
        let mut descriptors = [
            PollFd::from_borrowed_fd(termination, PollFlags::IN),
            PollFd::new(&self.sockets[0], PollFlags::IN),
            PollFd::new(&self.sockets[1], PollFlags::IN),
        ];
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!descriptors[0].revents().is_empty()),
            Err(error) => Err(error).context(|| "wait for frames".to_owned()),
        }
    }

    fn statistics(&self) -> Statistics {
        Statistics { from_host: self.directions[0].counters, to_host: self.directions[1].counters }
    }

    fn write_statistics(&self, path: &Path) -> Result<Statistics> {
        let statistics = self.statistics();
        crate::agent::write_statistics(path, &statistics)?;
        Ok(statistics)
    }
}

/// Whether the next receive may succeed: the interface went down and will come up again, or a signal came.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkDown | io::ErrorKind::Interrupted)
}

fn timespec(duration: Duration) -> Timespec {
    // The longest wait is a delay's, which is seconds: both parts fit.
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
