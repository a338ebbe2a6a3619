//! How much kernel memory the flow table takes.

use crate::Error;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The table's own structures for each possible flow: two words.
const BYTES_PER_PLACE: u64 = 16;

/// An entry (key 36, value 32, the kernel's 48 and alignment), as the kernel's allocator rounds it up.
const BYTES_PER_FLOW: u64 = 128;

/// Kernel memory of a flow table, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Without any flow.
    pub empty_bytes: u64,
    /// With as many flows as it can hold.
    pub full_bytes: u64,
}

/// How much kernel memory a table for `flows_max` flows takes; it grows with the flows in it.
pub const fn memory_bytes(flows_max: u32) -> MemoryEstimate {
    let places = (flows_max as u64).next_power_of_two();
    let empty_bytes = places * BYTES_PER_PLACE;
    MemoryEstimate { empty_bytes, full_bytes: empty_bytes + flows_max as u64 * BYTES_PER_FLOW }
}

/// What the kernel says that a map takes: without what its allocator rounds up.
pub(super) fn map_bytes(map: BorrowedFd<'_>) -> Result<u64, Error> {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let failed = |source| Error::System { operation: "read a map's size", source };
    let text = fs::read_to_string(path).map_err(failed)?;
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}
