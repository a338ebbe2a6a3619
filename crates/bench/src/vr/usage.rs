//! Processor time of processes.

use rustix::param::clock_ticks_per_second;
use std::fs;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The fields of `/proc/PID/stat` behind the name that are user and system time.
const TIMES: [usize; 2] = [11, 12];

/// Reads processor times at both ends of a window, whatever the generator does meanwhile.
pub(super) struct Meter {
    reader: JoinHandle<io::Result<Used>>,
}

/// Processor time that was used within a window.
pub(super) struct Used {
    /// By each process that was asked about.
    pub(super) processes: Vec<Duration>,
    /// By everything on the machine: the kernel charges its work on packets to whomever it interrupts.
    pub(super) machine: Duration,
}

impl Meter {
    /// Reads the times of these processes at `opens` and at `closes`.
    pub(super) fn start(processes: Vec<u32>, opens: Instant, closes: Instant) -> Self {
        let reader = thread::spawn(move || {
            sleep_until(opens);
            let before = (processor_times(&processes)?, machine_time()?);
            sleep_until(closes);
            let after = (processor_times(&processes)?, machine_time()?);
            let each = after.0.into_iter().zip(before.0);
            let processes = each.map(|(after, before)| after - before).collect();
            Ok(Used { processes, machine: after.1.saturating_sub(before.1) })
        });
        Self { reader }
    }

    /// What each process has used within the window.
    pub(super) fn used(self) -> io::Result<Used> {
        self.reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn processor_times(processes: &[u32]) -> io::Result<Vec<Duration>> {
    processes.iter().map(|process| processor_time(*process)).collect()
}

/// What a process has used since it began, in user and in kernel mode, to a hundredth of a second.
fn processor_time(process: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = ticks(&text).ok_or_else(|| io::Error::other("/proc/PID/stat has no times"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// What all processors together have used since the machine began, idle time left out.
fn machine_time() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&text).ok_or_else(|| io::Error::other("/proc/stat has no times"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// The first line of /proc/stat without idle time and waiting for disks, nor what is part of the others (guests).
fn busy_ticks(text: &str) -> Option<u64> {
    const USER_TO_SYSTEM: usize = 3;
    const IDLE_AND_WAITING: usize = 2;
    const INTERRUPTS_AND_STOLEN: usize = 3;
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let values: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
    let values = values?;
    let rest = values.get(USER_TO_SYSTEM + IDLE_AND_WAITING..)?;
    let busy = values.iter().take(USER_TO_SYSTEM).chain(rest.iter().take(INTERRUPTS_AND_STOLEN));
    Some(busy.sum())
}

/// User and system time in the text of `/proc/PID/stat`, in ticks of the clock.
fn ticks(text: &str) -> Option<u64> {
    // The name may contain anything, so what counts comes behind its last parenthesis.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    TIMES.iter().map(|field| fields.get(*field)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_busy_when_it_is_not_idle() {
        let text = "cpu  1 2 3 1000 500 4 5 6 7 8\ncpu0 1 2 3\n";
        assert_eq!(busy_ticks(text), Some(1 + 2 + 3 + 4 + 5 + 6));
        assert_eq!(busy_ticks("intr 5"), None);
    }

    #[test]
    fn both_times_are_added_whatever_the_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 161 0 0 0 12 30 0 0 20 0 1 0";
        assert_eq!(ticks(text), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
    }
}
