//! bpf(2), a test run without allocation, which the loader library does not offer, and questions about interfaces.
#![allow(unsafe_code, reason = "bpf(2) and ioctl(2) have no safe wrappers for these")]

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const COMMAND_PROG_TEST_RUN: libc::c_long = 10;

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
pub(crate) struct TestRun {
    pub(crate) action: u32,
    /// How many bytes of the output are the frame now.
    pub(crate) output_bytes: usize,
    /// The mean over all repetitions.
    pub(crate) duration_ns: u32,
}

/// Runs a program on a frame, `repeat` times on the same bytes (what it writes is seen by the next one).
pub(crate) fn test_run(
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

pub(crate) fn length(length: usize) -> u32 {
    u32::try_from(length).expect("buffers here are small")
}

/// bpf(2) with arguments that the kernel reads and writes; it takes what is not passed for zero. Returns a descriptor, or 0.
///
/// # Safety
///
/// Every pointer in `arguments` must be valid for what the command does with it.
pub(crate) unsafe fn bpf<Arguments>(
    command: libc::c_long,
    arguments: &mut Arguments,
) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes at most as many bytes as the last argument says; for the rest, the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(arguments), size_of::<Arguments>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::try_from(result).expect("the kernel returns 0 or a descriptor"))
}

/// A question about an interface.
pub(crate) fn request_about(interface: &str) -> io::Result<libc::ifreq> {
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
    Ok(request)
}

/// Asks the kernel about an interface of the calling thread's network namespace.
///
/// # Safety
///
/// If the question has a pointer in `request`, it must be valid for what the kernel does with it.
pub(crate) unsafe fn ask(question: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the kernel reads and writes one `ifreq`; for the rest, the caller's promise.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), question, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's `struct ethtool_drvinfo`, as far as its length and the driver's name go.
#[repr(C)]
struct DriverInformation {
    command: u32,
    driver: [u8; 32],
    /// Versions, addresses and counts of the driver.
    rest: [u8; 160],
}

/// Whether an interface is one end of a pair of virtual ones (veth).
pub(crate) fn is_virtual_pair(interface: &str) -> io::Result<bool> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    const DRIVER: &[u8] = b"veth\0";
    let mut information =
        DriverInformation { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    let mut request = request_about(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut information).cast();
    // SAFETY: the kernel writes one `ethtool_drvinfo`, which is as long.
    unsafe { ask(libc::SIOCETHTOOL, &mut request)? };
    Ok(information.driver.starts_with(DRIVER))
}
