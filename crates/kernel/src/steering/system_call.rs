//! Calls that the loader library does not offer: batches of a table's entries, an interface's address.
#![allow(unsafe_code, reason = "bpf(2) and ioctl(2) have no safe wrappers for these")]

use crate::system_call::{ask, bpf, length, request_about};
use ashlar_fastpath::steering::{Entry, FlowKey, MacAddress};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const COMMAND_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The kernel's arguments of `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
struct BatchArguments {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A part of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// How many keys and entries were filled in.
    pub(super) count: usize,
    /// Where the next part starts; `None` after the last one.
    pub(super) next: Option<u32>,
}

/// Reads the entries from `from` on (`None`: the first ones), as many as there is room for. `Ok(None)`: there is not even room for
/// the entries that the table keeps together.
pub(super) fn lookup_batch(
    flows: BorrowedFd<'_>,
    from: Option<u32>,
    keys: &mut [FlowKey],
    entries: &mut [Entry],
) -> io::Result<Option<Batch>> {
    assert_eq!(keys.len(), entries.len(), "one entry for each key");
    let mut to = 0_u32;
    let mut arguments = BatchArguments {
        from: from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64),
        to: (&raw mut to) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: entries.as_mut_ptr() as u64,
        count: length(keys.len()),
        map: flows.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes at most `count` keys and values, of the sizes that the table was made with (which the loader took
    // from these very types), and one word to `to`; any bytes make valid values of these types.
    let result = unsafe { bpf(COMMAND_MAP_LOOKUP_BATCH, &mut arguments) };
    let count = arguments.count as usize;
    match result {
        Ok(_) => Ok(Some(Batch { count, next: Some(to) })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(Some(Batch { count, next: None }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An interface's Ethernet address, in the calling thread's network namespace.
pub(super) fn interface_mac(interface: &str) -> io::Result<MacAddress> {
    let mut request = request_about(interface)?;
    // SAFETY: the kernel reads and writes one `ifreq`.
    unsafe { ask(libc::SIOCGIFHWADDR, &mut request)? };
    // SAFETY: this request fills in the hardware address.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(data) {
        *to = from.cast_unsigned();
    }
    Ok(MacAddress(mac))
}
