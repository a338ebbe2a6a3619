//! TCP connections taken out of one kernel and put into another, on Linux, without a word to the peer.
//!
//! Limits first:
//! - Needs `CAP_NET_ADMIN` in the network namespace; [`probe`] tells whether this process may.
//! - Only connections that are ESTABLISHED, or CLOSE_WAIT (the peer has sent its FIN) move.
//! - Not moved: segments out of order (the peer repeats them), urgent data, congestion window and round-trip time (the stream starts
//!   slowly again), explicit congestion notification, the options that a program set on the socket.
//! - A frozen socket hears nothing, says nothing new, and answers nothing, but for a segment that was past its filter: it may be
//!   received long after, if its processor does not run. [`Frozen::received_since`] has it, and [`receive`] gives it to the new owner;
//!   the peer's FIN cannot be given so.
//! - A frozen socket's retransmission timer runs on. What it repeats, the
//!   peer knows or the new owner would send alike, so no byte goes wrong by it.
//! - An imported socket hears nothing and is mute until [`Imported::go`], but only for [`MUTE_TIME`] if it has a send queue: then its retransmission
//!   timer ends for the first time.
//! - The kernel must not have sent bytes queued: see [`unsent_bytes`].
//!
//! Nothing here blocks. The order of the calls is the kernel's: sequences before the connection, options and timestamp before the
//! queue, windows last (as in CRIU's libsoccr); every step that it refuses is an error that names the step.

#![allow(unsafe_code, reason = "no safe wrapper knows these options")]

mod error;
mod export;
mod filter;
mod frozen;
mod import;
mod late;
mod options;

pub use error::{NotFrozen, RepairError};
pub use export::Export;
pub use frozen::{Frozen, Marks, freeze};
pub use import::{Imported, MUTE_TIME, import};
pub use late::receive;

use ashlar_handoff::SecretBytes;
use ashlar_handoff::image::{TcpImage, TcpOptions, TcpWindow};
use error::Context as _;
use rustix::ioctl::{Getter, ioctl};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

/// What was written to the socket and never sent, in bytes. It cannot move: the pacing of the old socket could still send it, the
/// peer would acknowledge it, and for the new socket that acknowledgement would be invalid for ever. Wait until it is zero, then
/// freeze.
///
/// # Errors
/// When the descriptor is no TCP socket.
pub fn unsent_bytes(socket: impl AsFd) -> Result<usize, RepairError> {
    const SIOCOUTQNSD: rustix::ioctl::Opcode = 0x894b;
    // SAFETY: the kernel writes one int for this request.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQNSD, i32>::new()) };
    Ok(length(bytes.step("SIOCOUTQNSD")?))
}

/// What was written to the socket and is not acknowledged, in bytes; what was never sent counts, too.
///
/// # Errors
/// When the descriptor is no TCP socket.
pub fn unacknowledged_bytes(socket: impl AsFd) -> Result<usize, RepairError> {
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: the kernel writes one int for this request.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) };
    Ok(length(bytes.step("SIOCOUTQ")?))
}

/// What was received in order and not read, in bytes.
///
/// # Errors
/// When the descriptor is no TCP socket, or listens.
pub fn unread_bytes(socket: impl AsFd) -> Result<usize, RepairError> {
    let bytes = rustix::io::ioctl_fionread(socket).step("SIOCINQ")?;
    Ok(usize::try_from(bytes).expect("the kernel reports an int"))
}

fn length(bytes: i32) -> usize {
    usize::try_from(bytes).expect("the kernel's queues have no negative length")
}

/// Whether this process can export and import connections here: it imports one between two ports of the loopback interface that
/// exists nowhere else, and closes it silently. Sends nothing.
///
/// # Errors
/// The step that failed: mostly for lack of `CAP_NET_ADMIN`.
pub fn probe() -> Result<(), RepairError> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let image = TcpImage {
        // The kernel chooses a free port.
        local: loopback(0),
        peer: loopback(9),
        send_sequence: 1,
        receive_sequence: 1,
        send_queue: SecretBytes::default(),
        mss: 1460,
        options: TcpOptions {
            window_scale: Some((7, 7)),
            selective_acknowledgement: true,
            timestamp: Some(1),
        },
        window: TcpWindow {
            snd_wl1: 1,
            snd_wnd: 1460,
            max_window: 1460,
            rcv_wnd: 1460,
            rcv_wup: 1,
        },
    };
    import(&image, false).map(Imported::close_silently)
}
