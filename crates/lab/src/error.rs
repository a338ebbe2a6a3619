//! What can go wrong, each in one line with a hint.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result of an operation on a lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Why an operation on a lab failed. Each message is one line and says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, bridges and control groups belong to root.
    #[error("a lab needs root (network namespaces, bridges, control groups): run it with sudo")]
    NotRoot,

    /// iproute2 builds the links.
    #[error("the program ip(8) is missing: install iproute2")]
    IpMissing,

    /// A lab of this name is there already, whole or in part.
    #[error(
        "lab {name:?} exists already ({trace}): choose another --name, or remove it with: ashlar lab down --name {name}"
    )]
    NameTaken {
        /// The name asked for.
        name: String,
        /// What was found of it.
        trace: String,
    },

    /// No lab of this name is there.
    #[error("there is no lab {name:?}: {hint}")]
    NoSuchLab {
        /// The name asked for.
        name: String,
        /// Which labs there are, or how to make one.
        hint: String,
    },

    /// The lab has no host of this name.
    #[error("lab {lab:?} has no host {host:?}: its hosts are {known}")]
    UnknownHost {
        /// The lab asked.
        lab: String,
        /// The host asked for.
        host: String,
        /// The hosts that it has, for the message.
        known: String,
    },

    /// The operation makes no sense on this host.
    #[error("host {host:?}: {reason}")]
    UnsuitableHost {
        /// The host asked for.
        host: String,
        /// Why it cannot be done there.
        reason: &'static str,
    },

    /// A value of the specification, a fault or a name is out of its bounds.
    #[error("{field}: {reason}")]
    BadValue {
        /// The field, as the command line or the builder calls it.
        field: &'static str,
        /// What is wrong with the value, and what is allowed.
        reason: String,
    },

    /// A CPU quota was asked for and the kernel offers no controller for it.
    #[error(
        "CPU quotas are not available ({reason}): run without --server-quota, or mount the cpu controller of cgroup v1 or v2"
    )]
    NoQuota {
        /// What was looked for.
        reason: String,
    },

    /// Another command holds the lab.
    #[error("lab {name:?} is in use by another ashlar lab command: try again when it has ended")]
    Busy {
        /// The lab that is held.
        name: String,
    },

    /// `down` was started by a process that lives in the lab.
    #[error("this shell runs inside lab {name:?}: leave it (exit) before removing the lab")]
    Inside {
        /// The lab in question.
        name: String,
    },

    /// The caller asked to stop.
    #[error("interrupted; the lab was removed")]
    Interrupted,

    /// A node ended, or did not get ready in time.
    #[error("{host}: {reason}; last line of its log: {last}", last = log_tail.lines().last().unwrap_or("(empty)"))]
    NodeFailed {
        /// The host of the node.
        host: String,
        /// What happened.
        reason: String,
        /// The last lines of its log.
        log_tail: String,
    },

    /// ip(8) refused a command.
    #[error("ip(8) failed on {line:?}: {message}")]
    Ip {
        /// The line of the batch.
        line: String,
        /// What it printed.
        message: String,
    },

    /// A process or a kernel object did not go away in time.
    #[error("{what} did not end within {timeout:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        timeout: Duration,
    },

    /// The state file cannot be understood.
    #[error("{path}: {reason}; remove the lab with: ashlar lab down", path = path.display())]
    BadState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A fault could not be put in place.
    #[error("fault on {host}: {reason}")]
    FaultFailed {
        /// The host whose link or node it is.
        host: String,
        /// What happened.
        reason: String,
    },

    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path or the name.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// Adds what was tried to an error of the operating system.
pub(crate) trait Context<T> {
    /// Turns the error into [`LabError::Io`] with `what()` in front.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| LabError::Io { what: what(), source: error.into() })
    }
}
