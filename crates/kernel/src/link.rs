//! Attaching a program by a link: a file descriptor that owns the attachment.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper that attaches by link only")]

use crate::system_call::bpf;
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
        let mut attributes = [program, interface_index, attach_point as u32, flags];
        // SAFETY: these arguments hold no pointers.
        let descriptor = unsafe { bpf(COMMAND_LINK_CREATE, &mut attributes)? };
        // SAFETY: the kernel just opened this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing the descriptor is not enough: a child that another thread forks just now holds a copy of it until it executes
        // its program. If this fails, the interface is gone, and the attachment with it.
        // SAFETY: as above.
        let _ = unsafe { bpf(COMMAND_LINK_DETACH, &mut [self.0.as_raw_fd().cast_unsigned()]) };
    }
}
