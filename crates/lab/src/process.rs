//! Processes that outlive the command which started them: told apart from a later process with the same number.

use crate::error::{Context, LabError, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{Duration, Instant};

/// How often a wait looks again.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What a process is doing, as far as a lab cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// It runs or sleeps.
    Running,
    /// It was stopped by a signal.
    Paused,
    /// It has ended.
    Ended,
}

/// A process, identified so that a reused process number is never taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// The process number.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since the machine did: what a later owner of the number cannot share.
    pub(crate) start_ticks: u64,
}

impl ProcessIdentity {
    /// The process that has this number now; `None` if there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, start_ticks: stat.start_ticks })
    }

    /// What the process is doing.
    pub(crate) fn state(self) -> ProcessState {
        match Stat::read(self.pid) {
            Some(stat) if stat.start_ticks == self.start_ticks => stat.process_state(),
            _ => ProcessState::Ended,
        }
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(self) -> bool {
        self.state() != ProcessState::Ended
    }

    /// Sends a signal to this very process. `false` if it has ended.
    pub(crate) fn signal(self, signal: Signal) -> Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(false);
        };
        // The descriptor pins the process first; only then is its identity compared. So the number cannot be
        // reused between the look and the signal.
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error).context(|| format!("process {}", self.pid)),
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(descriptor, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).context(|| format!("signal process {}", self.pid)),
        }
    }

    /// Waits until the process has ended; `false` when `timeout` passes first.
    pub(crate) fn wait_end(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        true
    }

    /// Ends the process: SIGTERM, and SIGKILL when it is still there after `patience`.
    pub(crate) fn end(self, patience: Duration) -> Result<()> {
        // A stopped process acts on SIGTERM only when it continues.
        if self.signal(Signal::TERM)? && self.signal(Signal::CONT)? && !self.wait_end(patience) {
            self.kill()?;
        }
        Ok(())
    }

    /// Ends the process with SIGKILL and waits until it is gone.
    pub(crate) fn kill(self) -> Result<()> {
        const KILL_TIMEOUT: Duration = Duration::from_secs(5);
        if self.signal(Signal::KILL)? && !self.wait_end(KILL_TIMEOUT) {
            return Err(LabError::Timeout {
                what: format!("process {}", self.pid),
                timeout: KILL_TIMEOUT,
            });
        }
        Ok(())
    }
}

/// The proportional memory of a process in bytes: its private pages, and its share of the pages it has in common with
/// others, so that the sum over several workers counts each page once. 0 when it has ended.
pub(crate) fn resident_bytes(pid: i32) -> u64 {
    const KIB: u64 = 1_024;
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return 0;
    };
    text.lines()
        .find_map(|line| {
            line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .map_or(0, |kib| kib * KIB)
}

/// The fields of `/proc/PID/stat` that identify a process.
struct Stat {
    /// Of the first thread, one letter: R, S, D, T, t, Z, X.
    state: u8,
    /// Threads that have not ended, the first one always counted.
    threads: u32,
    /// When it started, in clock ticks since the machine did.
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything, parentheses too.
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // Field 20 of the line; the state was field 3.
        let threads = fields.nth(16)?.parse().ok()?;
        // Field 22.
        let start_ticks = fields.nth(1)?.parse().ok()?;
        Some(Self { state, threads, start_ticks })
    }

    fn process_state(&self) -> ProcessState {
        match self.state {
            // The first thread may be a zombie while others still end: until the last has, sockets and programs in the kernel stay.
            b'Z' | b'X' | b'x' if self.threads > 1 => ProcessState::Running,
            // A zombie holds nothing but its number.
            b'Z' | b'X' | b'x' => ProcessState::Ended,
            b'T' | b't' => ProcessState::Paused,
            _ => ProcessState::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> Child {
        Command::new("sleep").arg("30").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn the_start_time_is_found_behind_an_awkward_program_name() {
        let line = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 2 3";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.threads, stat.start_ticks), (b'S', 1, 4711));
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let state = |threads: u32| {
            let line = format!("7 (a) Z 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 {threads} 0 4711 2 3");
            Stat::parse(&line).unwrap().process_state()
        };
        assert_eq!(state(2), ProcessState::Running);
        assert_eq!(state(1), ProcessState::Ended);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_signalled() {
        let mut child = sleeper();
        let process = ProcessIdentity::of(child.id().try_into().unwrap()).unwrap();
        let earlier_owner = ProcessIdentity { start_ticks: process.start_ticks - 1, ..process };
        assert!(!earlier_owner.is_alive());
        assert!(!earlier_owner.signal(Signal::KILL).unwrap());
        assert!(process.is_alive());
        process.kill().unwrap();
        // Not reaped yet: a zombie counts as ended.
        assert!(!process.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn pausing_and_ending_a_paused_process_work() {
        let mut child = sleeper();
        let process = ProcessIdentity::of(child.id().try_into().unwrap()).unwrap();
        assert!(process.signal(Signal::STOP).unwrap());
        let deadline = Instant::now() + Duration::from_secs(5);
        while process.state() != ProcessState::Paused {
            assert!(Instant::now() < deadline, "SIGSTOP had no effect");
            std::thread::sleep(POLL_INTERVAL);
        }
        process.end(Duration::from_secs(5)).unwrap();
        assert_eq!(process.state(), ProcessState::Ended);
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    }

    #[test]
    fn the_memory_of_this_process_is_more_than_a_page() {
        assert!(resident_bytes(std::process::id().try_into().unwrap()) > 4_096);
    }
}
