//! Bytes that a frozen socket received behind its export, and the socket that goes on without them.

use super::error::{Context as _, RepairError};
use super::options::{self, Queue, Repair};
use rustix::net::{SendFlags, send};
use socket2::SockRef;
use std::os::fd::{AsFd, BorrowedFd};

/// Puts into the socket's receive queue what it lacks of `bytes`, which begin at `sequence`. Call it before the socket is read any
/// further. The peer learns at once that they have arrived.
///
/// # Errors
/// When the kernel refuses, or the peer sent the very same bytes again meanwhile: the queue may then hold some of them twice, and the
/// connection must be reset before anything more is read.
pub fn receive(socket: impl AsFd, sequence: u32, bytes: &[u8]) -> Result<(), RepairError> {
    let socket = socket.as_fd();
    options::set_repair(socket, Repair::On)?;
    let put = put(socket, sequence, bytes);
    // Out of repair mode in any case: there, a socket cannot even be reset.
    let left = options::select_queue(socket, Queue::None).and_then(|()| leave_repair_mode(socket));
    put?;
    left?;
    // Nothing else tells whoever waits for the socket that there is something to read: this looks for it.
    options::set_receive_low_watermark(socket, 1)
}

fn put(socket: BorrowedFd<'_>, sequence: u32, bytes: &[u8]) -> Result<(), RepairError> {
    options::select_queue(socket, Queue::Receive)?;
    let expected = options::queue_sequence(socket)?;
    // A socket behind `sequence` lacks more than there is; one beyond the bytes lacks nothing.
    let present = expected.wrapping_sub(sequence) as i32;
    let present = usize::try_from(present).map_err(|_| RepairError::Gap)?;
    let mut rest = bytes.get(present..).unwrap_or_default();
    let end = expected.wrapping_add(rest.len() as u32);
    while !rest.is_empty() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let taken = send(socket, rest, flags).step("send to the receive queue")?;
        rest = &rest[taken..];
    }
    let reached = options::queue_sequence(socket)?;
    // What the peer sent again between the calls came before what we put.
    if reached == end || present >= bytes.len() { Ok(()) } else { Err(RepairError::Overtaken) }
}

/// Leaves repair mode with a probe, as which the peer learns what has been received.
pub(super) fn leave_repair_mode(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    options::set_repair(socket, Repair::OffWithProbe)?;
    // Repair mode took the option away; without it nobody could listen at this address again while the connection lasts.
    SockRef::from(&socket).set_reuse_address(true).step("SO_REUSEADDR")
}
