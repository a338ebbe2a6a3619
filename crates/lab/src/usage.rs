//! What a host uses.

use crate::state::HostState;
use crate::{namespace, process};

/// The processes that run on a host, whoever started them there.
pub(crate) fn processes(host: &HostState) -> Vec<i32> {
    let mut pids = host.cgroup.processes();
    if pids.is_empty() {
        // A machine without control groups still knows who uses the namespace.
        pids = namespace::processes(std::slice::from_ref(&host.host.namespace));
    }
    pids
}

/// The memory of everything that runs on a host, in bytes; shared pages count once.
pub(crate) fn resident_bytes(host: &HostState) -> u64 {
    processes(host).into_iter().map(process::resident_bytes).sum()
}
