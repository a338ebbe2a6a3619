//! For the tests of this workspace: which of them need root or features of the kernel, and what became of those.
//!
//! A test that needs more than a bare host asks [`ledger`] first. A skipped test says so loudly, and each call leaves a line in the
//! ledger file, so that a script can count how many tests really ran.

mod interfaces;
mod namespaces;

pub use interfaces::{attached_programs, xdp_program};
pub use namespaces::{
    LEFT_ADDRESS, LEFT_INTERFACE, NamespacePair, RIGHT_ADDRESS, RIGHT_INTERFACE, Side,
};

use crate::probe::{Feature, Status, probe};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::{env, fmt};

/// Names the file that [`ledger`] appends to; without it, nothing is written.
pub const LEDGER_VARIABLE: &str = "ASHLAR_TEST_LEDGER";

/// Whether the test `test_name` can run here; if not, the test must return.
///
/// Appends one line, `ran NAME` or `skipped NAME: REASON`, to the ledger. A reason is also printed to stderr, past the test
/// harness's capture.
///
/// # Panics
///
/// If the ledger cannot be written: a test that is not counted must not pass.
pub fn ledger(test_name: &str, requirements: &[Feature]) -> bool {
    let missing = first_missing(requirements);
    if let Some(reason) = &missing {
        // Not `eprintln!`, which the harness swallows for tests that pass. Nobody listens if stderr is closed.
        let _ = io::stderr().write_all(format!("SKIPPED {test_name}: {reason}\n").as_bytes());
    }
    if let Some(path) = env::var_os(LEDGER_VARIABLE).filter(|path| !path.is_empty()) {
        write_line(&path, test_name, missing.as_ref()).unwrap_or_else(|error| {
            panic!("{LEDGER_VARIABLE}: {}: {error}", Path::new(&path).display())
        });
    }
    missing.is_none()
}

/// Why a test cannot run.
struct Missing {
    feature: Feature,
    status: Status,
    detail: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever the kernel said.
        let detail = self.detail.replace('\n', " ");
        write!(formatter, "{}: {} ({detail})", self.feature.name(), self.status)
    }
}

fn first_missing(requirements: &[Feature]) -> Option<Missing> {
    let probes = requirements.iter().map(|&feature| probe(feature));
    probes
        .filter(|probe| probe.status != Status::Yes)
        .map(|probe| Missing { feature: probe.feature, status: probe.status, detail: probe.detail })
        .next()
}

/// One line in one write to a file opened for appending: lines of tests that run at the same time do not mix.
fn write_line(path: &OsStr, test_name: &str, missing: Option<&Missing>) -> io::Result<()> {
    let line = match missing {
        None => format!("ran {test_name}\n"),
        Some(reason) => format!("skipped {test_name}: {reason}\n"),
    };
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs;
    use std::thread;

    #[test]
    fn lines_of_tests_at_the_same_time_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        thread::scope(|scope| {
            for name in ["one", "two", "three", "four"] {
                let path = path.as_os_str();
                scope.spawn(move || (0..100).for_each(|_| write_line(path, name, None).unwrap()));
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        for name in ["one", "two", "three", "four"] {
            assert_eq!(text.lines().filter(|line| *line == format!("ran {name}")).count(), 100);
        }
        assert_eq!(text.lines().count(), 400);
    }

    #[test]
    fn a_skipped_test_gives_its_reason_on_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let missing =
            Missing { feature: Feature::Tcx, status: Status::No, detail: "two\nlines".to_owned() };
        write_line(path.as_os_str(), "a_test", Some(&missing)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "skipped a_test: TCX links: no (two lines)\n"
        );
    }

    #[test]
    fn without_requirements_nothing_is_missing() {
        assert!(first_missing(&[]).is_none());
        assert!(first_missing(&[Feature::Kernel]).is_none());
    }
}
