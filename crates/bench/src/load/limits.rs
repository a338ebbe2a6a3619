//! What the machine allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those of connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// Has this process allowed as many descriptors as `connections` take. A limit that cannot be
/// raised shows as a connection that fails, with the system's own words.
pub(super) fn allow_connections(connections: usize) {
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let enough = |bound: Option<u64>| bound.is_none_or(|bound| bound >= needed);
    if !enough(limit.current) && enough(limit.maximum) {
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}
