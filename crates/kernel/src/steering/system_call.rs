//! Calls that the loader library does not offer: a test run without allocation, batches of a table's entries, an interface's address.
#![allow(unsafe_code, reason = "bpf(2) and ioctl(2) have no safe wrappers for these")]

use ashlar_fastpath::steering::{Entry, FlowKey, MacAddress};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const COMMAND_PROG_TEST_RUN: libc::c_long = 10;
const COMMAND_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The kernel's arguments of `BPF_PROG_TEST_RUN`, as far as they are not zero.
#[repr(C)]
struct TestRunArguments {
    program: u32,
    return_value: u32,
    input_bytes: u32,
    output_bytes: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration_ns: u32,
}

/// What a program did with a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct TestRun {
    pub(super) action: u32,
    /// How many bytes of the output are the frame now.
    pub(super) output_bytes: usize,
    /// The mean over all repetitions.
    pub(super) duration_ns: u32,
}

/// Runs a program on a frame, `repeat` times on the same bytes (what it writes is seen by the next one).
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    input: &[u8],
    output: &mut [u8],
    repeat: u32,
) -> io::Result<TestRun> {
    let mut arguments = TestRunArguments {
        program: program.as_raw_fd().cast_unsigned(),
        return_value: 0,
        input_bytes: length(input.len()),
        output_bytes: length(output.len()),
        input: input.as_ptr() as u64,
        output: output.as_mut_ptr() as u64,
        repeat,
        duration_ns: 0,
    };
    // SAFETY: the kernel reads `input` and writes `output` within the lengths given, and both live as long as the call.
    unsafe { bpf(COMMAND_PROG_TEST_RUN, &mut arguments)? };
    Ok(TestRun {
        action: arguments.return_value,
        output_bytes: arguments.output_bytes as usize,
        duration_ns: arguments.duration_ns,
    })
}

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
        Ok(()) => Ok(Some(Batch { count, next: Some(to) })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(Some(Batch { count, next: None }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An interface's Ethernet address, in the calling thread's network namespace.
pub(super) fn interface_mac(interface: &str) -> io::Result<MacAddress> {
    let name = interface.as_bytes();
    // SAFETY: integers and arrays of integers only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the kernel reads and writes one `ifreq`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this request fills in the hardware address.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(data) {
        *to = from.cast_unsigned();
    }
    Ok(MacAddress(mac))
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("buffers here are small")
}

/// bpf(2) with arguments that the kernel reads and writes; it takes what is not passed for zero.
///
/// # Safety
///
/// Every pointer in `arguments` must be valid for what the command does with it.
unsafe fn bpf<Arguments>(command: libc::c_long, arguments: &mut Arguments) -> io::Result<()> {
    // SAFETY: the kernel reads and writes at most as many bytes as the last argument says; for the rest, the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(arguments), size_of::<Arguments>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
