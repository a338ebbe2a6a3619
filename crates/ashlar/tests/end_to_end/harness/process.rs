//! A process of the binary under test.

use super::{PATIENCE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
};

/// The binary with `args`, to be run.
pub(crate) fn ashlar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
    command.args(args).env_remove("ASHLAR_ENDPOINT").stdin(Stdio::null());
    command
}

/// A running process; dropping it kills it. What it logged is shown if the test fails.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, whose standard error goes to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let stderr = File::options().create(true).append(true).open(log).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        Self { child, log: log.into() }
    }

    /// The next line that it prints on standard output.
    pub(crate) fn line(&mut self) -> String {
        let output = self.child.stdout.take().expect("one line is read");
        let (sender, receiver) = mpsc::channel();
        // The pipe is read to its end: a process must not block because nobody listens.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        match receiver.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(_) => panic!("no line on standard output; the log:\n{}", self.log()),
        }
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it as a power failure of its host would, but for the page cache.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }

    /// Waits until it has ended by itself, and looks at it meanwhile.
    pub(crate) fn ended_after(&mut self, mut look: impl FnMut(u32)) -> ExitStatus {
        let id = self.id();
        eventually("the process ends", || {
            look(id);
            self.child.try_wait().unwrap()
        })
    }

    /// What it printed on standard output; it has ended.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().expect("read once").read_to_string(&mut text).unwrap();
        text
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of process {}:\n{}", self.id(), self.log());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line of standard error, which says why a command failed.
pub(crate) fn reason(output: &Output) -> String {
    assert!(!output.status.success(), "it did not fail: {output:?}");
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_string()
}
