//! The filter that keeps every segment from a socket.

use super::error::{Context as _, RepairError};
use super::options;
use socket2::{SockFilter, SockRef};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::OnceLock;

/// Lets no segment through to TCP: it is neither acknowledged nor answered by a reset.
pub(super) fn deafen(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    /// `BPF_RET | BPF_K` with 0: keep no byte of the packet.
    const DROP_EVERYTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    match shared_filter() {
        Some(program) => options::attach_program(socket, program.as_raw_fd()).step("SO_ATTACH_BPF"),
        None => SockRef::from(&socket).attach_filter(&[DROP_EVERYTHING]).step("SO_ATTACH_FILTER"),
    }
}

/// Undoes [`deafen`].
pub(super) fn undeafen(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    SockRef::from(&socket).detach_filter().step("SO_DETACH_FILTER")
}

/// One program for all sockets: the kernel translates a classic filter anew for each, and that takes longer than all else of a freeze.
/// None where eBPF programs are not for this process.
fn shared_filter() -> Option<&'static OwnedFd> {
    static PROGRAM: OnceLock<Option<OwnedFd>> = OnceLock::new();
    PROGRAM.get_or_init(|| load_filter().ok()).as_ref()
}

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; what is not given counts as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

fn load_filter() -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
    /// `r0 = 0; exit`: keep no byte of the packet.
    const INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
    let instructions = INSTRUCTIONS.map(u64::to_le);
    let license = c"Dual MIT/GPL";
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_SOCKET_FILTER,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads the attributes, and the instructions and the license that they point to; all live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>(),
        )
    };
    let descriptor = i32::try_from(result).ok().filter(|descriptor| *descriptor >= 0);
    let descriptor = descriptor.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_deaf_socket_hears_nothing_until_it_is_undone() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let here = socket.local_addr().unwrap();
        let hears = || {
            socket.send_to(b"word", here).unwrap();
            socket.recv(&mut [0; 8]).is_ok()
        };
        assert!(hears());
        deafen(socket.as_fd()).unwrap();
        assert!(!hears());
        undeafen(socket.as_fd()).unwrap();
        assert!(hears());
    }
}
