//! bpf(2), and a test run without allocation, which the loader library does not offer.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper for these")]

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
