//! Attaching a program by a link: a file descriptor that owns the attachment.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper that attaches by link only")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `BPF_LINK_CREATE` of bpf(2).
const COMMAND_LINK_CREATE: libc::c_long = 28;

/// `BPF_LINK_DETACH` of bpf(2).
const COMMAND_LINK_DETACH: libc::c_long = 34;

/// Where a link attaches: values of the kernel's `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum AttachPoint {
    Xdp = 37,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// An attachment. It ends when this is dropped, or with the process, which closes the descriptor.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches `program` to an interface of the calling thread's network namespace.
    ///
    /// (The loader library's own attach function falls back to a netlink attachment, which stays when the process dies and may
    /// replace another program; hence this one.)
    pub(crate) fn create(
        program: BorrowedFd<'_>,
        interface_index: u32,
        attach_point: AttachPoint,
        flags: u32,
    ) -> io::Result<Self> {
        let program = program.as_raw_fd().cast_unsigned();
        let attributes = [program, interface_index, attach_point as u32, flags];
        let descriptor = bpf(COMMAND_LINK_CREATE, &attributes)?;
        // SAFETY: the kernel just opened this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing the descriptor is not enough: a child that another thread forks just now holds a copy of it until it executes
        // its program. If this fails, the interface is gone, and the attachment with it.
        let _ = bpf(COMMAND_LINK_DETACH, &[self.0.as_raw_fd().cast_unsigned()]);
    }
}

/// bpf(2) for commands whose arguments are words; the kernel takes what is not passed for zero.
fn bpf<const WORDS: usize>(
    command: libc::c_long,
    attributes: &[u32; WORDS],
) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads as many bytes as the last argument says, all of them initialised, and these commands write none.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::try_from(result).expect("the kernel returns 0 or a descriptor"))
}
