//! A socket that hears nothing and says nothing new, while its connection is on the move.

use super::error::{Context as _, NotFrozen, RepairError};
use super::export::{self, Export};
use super::filter::{deafen, undeafen};
use super::late::leave_repair_mode;
use super::options::{self, Queue, Repair};
use super::unsent_bytes;
use ashlar_handoff::SecretBytes;
use ashlar_handoff::image::TcpImage;
use socket2::SockRef;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A frozen connection. The socket is in repair mode, behind a filter that drops every segment before TCP sees it: no
/// acknowledgement, no reset.
///
/// Dropping it drops the socket: the connection vanishes without a word, if no other descriptor of the socket is open.
#[derive(Debug)]
#[must_use = "a frozen connection that is dropped is gone"]
pub struct Frozen<S: AsFd> {
    socket: S,
}

/// Freezes a connection of which everything written was sent.
///
/// A segment that was past the filter on another processor can still arrive shortly after:
/// [`Frozen::receive_sequence_moved`] tells.
///
/// # Errors
/// Gives the socket back, as it was: when bytes are unsent, in another state than ESTABLISHED and CLOSE_WAIT, and when the kernel
/// refuses.
pub fn freeze<S: AsFd>(socket: S) -> Result<Frozen<S>, NotFrozen<S>> {
    match freeze_or_undo(socket.as_fd()) {
        Ok(()) => Ok(Frozen { socket }),
        Err(error) => Err(NotFrozen { socket, error }),
    }
}

fn freeze_or_undo(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    // Before anything is changed: what cannot move is mostly found here.
    check_movable(socket)?;
    deafen(socket)?;
    // Checked again: a segment that came in before the filter may have changed it.
    options::set_repair(socket, Repair::On).and_then(|()| check_movable(socket)).inspect_err(|_| {
        // Best effort: the first error is the one to tell.
        let _ = undeafen(socket);
        let _ = leave_repair_mode(socket);
    })
}

fn check_movable(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    export::peer_has_finished(options::info(socket)?.state)?;
    match unsent_bytes(socket)? {
        0 => Ok(()),
        bytes => Err(RepairError::Unsent { bytes }),
    }
}

/// How far a socket had received when it was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The next byte that the kernel expected.
    pub receive_sequence: u32,
    /// What nobody had read.
    pub received_bytes: usize,
}

impl Marks {
    /// The sequence number behind a receive queue that has grown to so many bytes, by bytes alone.
    fn end_behind(self, received_bytes: usize) -> u32 {
        let grown = received_bytes.wrapping_sub(self.received_bytes) as u32;
        self.receive_sequence.wrapping_add(grown)
    }
}

impl<S: AsFd> Frozen<S> {
    /// Reads the connection's state. Changes nothing; repeatable.
    ///
    /// # Errors
    /// When a queue is longer than an image takes, or the kernel refuses.
    pub fn export(&self) -> Result<Export, RepairError> {
        export::export(self.socket.as_fd())
    }

    /// Whether anything was received since the export. Then the image is stale, and the connection must be thawed: the peer may hold
    /// an acknowledgement of bytes that the image does not have.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receive_sequence_moved(&self, image: &TcpImage) -> Result<bool, RepairError> {
        Ok(self.receive_sequence()? != image.receive_sequence)
    }

    /// What was received since `export` was made of this socket, in order. None if that is more than bytes: the peer's FIN, or more
    /// than an image takes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn received_since(&self, export: Marks) -> Result<Option<SecretBytes>, RepairError> {
        if self.receive_sequence()? == export.receive_sequence {
            return Ok(Some(SecretBytes::default()));
        }
        let socket = self.socket.as_fd();
        let all = match export::receive_queue(socket) {
            Ok((sequence, all)) if sequence == export.end_behind(all.len()) => all,
            Ok(_) | Err(RepairError::QueueTooLong { .. } | RepairError::QueueChanged { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        options::select_queue(socket, Queue::None)?;
        Ok(Some(all[export.received_bytes..].into()))
    }

    /// The next byte that the kernel expects.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receive_sequence(&self) -> Result<u32, RepairError> {
        let socket = self.socket.as_fd();
        options::select_queue(socket, Queue::Receive)?;
        let sequence = options::queue_sequence(socket)?;
        options::select_queue(socket, Queue::None)?;
        Ok(sequence)
    }

    /// Ends the freeze, and gives the socket back. The peer is probed: its answer makes up for the acknowledgements that the filter
    /// dropped, and what it sent into the filter it sends again.
    ///
    /// # Errors
    /// When the kernel refuses. The connection is lost then.
    pub fn thaw(self) -> Result<S, RepairError> {
        let socket = self.socket.as_fd();
        undeafen(socket)?;
        leave_repair_mode(socket)?;
        Ok(self.socket)
    }

    /// Closes the socket without a FIN, a reset or a trace: another host has the connection now. The addresses can be used again at
    /// once, if no other descriptor of the socket is open.
    pub fn close_silently(self) {
        drop(self.socket);
    }

    /// Ends the connection for both sides, with a reset: nobody may go on with it.
    ///
    /// # Errors
    /// When the kernel refuses. The peer is not told then.
    pub fn reset(self) -> Result<(), RepairError> {
        let socket = self.socket.as_fd();
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).step("SO_LINGER")?;
        options::set_repair(socket, Repair::OffSilently)?;
        drop(self.socket);
        Ok(())
    }
}
