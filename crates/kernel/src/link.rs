//! Attaching a program by a link: a file descriptor that owns the attachment.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper that attaches by link only")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `BPF_LINK_CREATE` of bpf(2).
const COMMAND_LINK_CREATE: libc::c_long = 28;

/// Where a link attaches: values of the kernel's `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum AttachPoint {
    Xdp = 37,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// The start of the kernel's `union bpf_attr` for this command; the kernel takes what is not passed for zero.
#[repr(C)]
struct LinkCreate {
    program: u32,
    interface_index: u32,
    attach_point: u32,
    flags: u32,
}

/// Attaches `program` to an interface of the calling thread's network namespace. The attachment ends with the last descriptor of
/// the link, so it cannot outlive the process.
///
/// (The loader library's own attach function falls back to a netlink attachment, which stays when the process dies and may replace
/// another program; hence this one.)
pub(crate) fn create(
    program: BorrowedFd<'_>,
    interface_index: u32,
    attach_point: AttachPoint,
    flags: u32,
) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        interface_index,
        attach_point: attach_point as u32,
        flags,
    };
    // SAFETY: the kernel reads as many bytes as the third argument says, all of them initialised: four words without padding.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            COMMAND_LINK_CREATE,
            &raw const attributes,
            size_of::<LinkCreate>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).expect("the kernel returns a descriptor");
    // SAFETY: the kernel just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
