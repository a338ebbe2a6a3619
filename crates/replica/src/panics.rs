//! What becomes of a process of which a thread panics.

use std::{process::abort, thread::panicking};

/// Ends the process if a panic drops it. A thread that others rely upon holds one for as long as it runs: without
/// it, the process would seem to live and answer nobody. What is left goes on without the process, and the next
/// one finds what was synced.
#[derive(Debug)]
#[must_use = "it guards as long as it lives"]
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if panicking() {
            abort();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use rustix::process::Signal;
    use std::{
        env,
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
        thread,
    };

    const NAME: &str = "panics::tests::a_guarded_thread_that_panics_ends_its_process";
    const PANICS: &str = "ASHLAR_TEST_PANICS";

    #[test]
    fn a_guarded_thread_that_panics_ends_its_process() {
        if env::var_os(PANICS).is_some() {
            let guarded = || {
                let _guard = AbortOnPanic;
                panic!("as it should");
            };
            // Without the guard, the process ends well.
            let _ = thread::spawn(guarded).join();
            return;
        }
        let mut this_test = Command::new(env::current_exe().unwrap());
        this_test.args(["--exact", NAME]).env(PANICS, "1").stdout(Stdio::null());
        let status = this_test.stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
    }
}
