//! Writing a connection into the kernel.

use super::error::{Context as _, RepairError};
use super::filter::{deafen, undeafen};
use super::options::{self, Queue, Repair, RepairOption};
use super::unsent_bytes;
use ashlar_handoff::image::{TcpImage, TcpOptions, TcpWindow};
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with,
};
use socket2::SockRef;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

/// For so long an imported connection with a send queue is mute: the bound of its retransmission timer. It has no measured round-trip
/// time yet, and would otherwise wait for three seconds before it repeats what was lost in the move.
pub const MUTE_TIME: Duration = Duration::from_millis(RETRANSMISSION_TIMEOUT_MAX_MS as u64);

const RETRANSMISSION_TIMEOUT_MAX_MS: u32 = 1_000;

/// How long a closed connection waits for a FIN that its user space has got already.
const FIN_WAIT_2_SECONDS: i32 = 1;

/// The largest window that fits into its field.
const WINDOW_UNSCALED_MAX: u32 = u16::MAX as u32;

/// The kernel takes the send queue in pieces.
const PIECE_BYTES: usize = 64 << 10;

/// A connection that is in this kernel, and has heard and said nothing yet. Dropping it closes it silently.
#[derive(Debug)]
#[must_use = "an imported connection that is dropped is gone"]
pub struct Imported {
    socket: OwnedFd,
}

/// Makes a socket that goes on where the image's stopped, in repair mode, without sending anything. It does not block, nor will the
/// socket that [`Imported::go`] gives.
///
/// With `peer_finished`, no FIN will be received on it: it has been already.
///
/// # Errors
/// The step that the kernel refuses. While a socket of the same connection is still here (a frozen one), that is `connect`.
pub fn import(image: &TcpImage, peer_finished: bool) -> Result<Imported, RepairError> {
    let family = if image.local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None).step("socket")?;
    let descriptor = socket.as_fd();
    options::set_repair(descriptor, Repair::On)?;
    // Steering may point here before this host may go: what came in by then would be acknowledged, and missing if the old owner took
    // the connection back.
    deafen(descriptor)?;
    prepare(descriptor, image, peer_finished)?;
    bind(descriptor, &image.local).step("bind")?;
    // The sequences can be set before the connection only, the options after it only.
    options::select_queue(descriptor, Queue::Send)?;
    options::set_queue_sequence(descriptor, image.send_sequence)?;
    options::select_queue(descriptor, Queue::Receive)?;
    options::set_queue_sequence(descriptor, image.receive_sequence.wrapping_sub(1))?;
    connect(descriptor, &image.peer).step("connect")?;
    restore_options(descriptor, image.mss, image.options)?;
    put_reminder(descriptor)?;
    restore_send_queue(descriptor, &image.send_queue)?;
    options::set_window(descriptor, usable(image.window, image.mss))?;
    Ok(Imported { socket })
}

/// What must be set before the socket has an address, or a timer.
fn prepare(
    socket: BorrowedFd<'_>,
    image: &TcpImage,
    peer_finished: bool,
) -> Result<(), RepairError> {
    let handle = SockRef::from(&socket);
    // The service address is none of this host's.
    match image.local {
        SocketAddr::V4(_) => handle.set_ip_transparent_v4(true).step("IP_TRANSPARENT")?,
        SocketAddr::V6(_) => handle.set_ip_transparent_v6(true).step("IPV6_TRANSPARENT")?,
    }
    handle.set_tcp_nodelay(true).step("TCP_NODELAY")?;
    options::set_retransmission_timeout_max(socket, RETRANSMISSION_TIMEOUT_MAX_MS)?;
    if image.options.window_scale.is_none() {
        // The kernel chooses the shift of our windows as it would for a new connection, from the largest window that it may announce.
        // There is no other way to a shift of zero without the option.
        options::set_window_max(socket, WINDOW_UNSCALED_MAX)?;
    }
    if peer_finished {
        options::set_linger_in_fin_wait_2(socket, FIN_WAIT_2_SECONDS)?;
    }
    Ok(())
}

/// Only what was negotiated: the use of anything else would break the protocol.
fn restore_options(
    socket: BorrowedFd<'_>,
    mss: u32,
    negotiated: TcpOptions,
) -> Result<(), RepairError> {
    let mut restored = vec![RepairOption::segment_size(mss)];
    restored.extend(
        negotiated.window_scale.map(|(send, receive)| RepairOption::window_scale(send, receive)),
    );
    if negotiated.selective_acknowledgement {
        restored.push(RepairOption::SELECTIVE_ACKNOWLEDGEMENT);
    }
    if negotiated.timestamp.is_some() {
        restored.push(RepairOption::TIMESTAMPS);
    }
    options::set_options(socket, &restored)?;
    match negotiated.timestamp {
        Some(timestamp) => options::set_timestamp(socket, timestamp),
        None => Ok(()),
    }
}

/// Puts one byte into the receive queue, in the place of the last one that was received: [`Imported::go`] reads it away.
///
/// The old socket may have announced a window that its full receive queue had nearly closed, and the peer waits for more. This
/// socket's queue is empty, and still the kernel would not say so before a program has read something.
fn put_reminder(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    options::select_queue(socket, Queue::Receive)?;
    send(socket, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        .step("send to the receive queue")?;
    Ok(())
}

/// In repair mode, what is written to the send queue is marked as sent and is not sent.
fn restore_send_queue(socket: BorrowedFd<'_>, queue: &[u8]) -> Result<(), RepairError> {
    /// Room for the kernel's bookkeeping of a short queue.
    const SPARE_BYTES: usize = 128 << 10;
    options::select_queue(socket, Queue::Send)?;
    if !queue.is_empty() {
        let room_bytes = 2 * queue.len() + SPARE_BYTES;
        set_socket_send_buffer_size_force(socket, room_bytes).step("SO_SNDBUFFORCE")?;
        let mut rest = queue;
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(PIECE_BYTES)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let taken = send(socket, piece, flags).step("send to the send queue")?;
            rest = &rest[taken..];
        }
        options::unlock_buffer_sizes(socket)?;
    }
    options::select_queue(socket, Queue::None)?;
    match unsent_bytes(socket)? {
        0 => Ok(()),
        bytes => Err(RepairError::NotRestored { bytes }),
    }
}

/// A window that was closed could stay so for seconds, if the update that opened it was dropped by the freeze. One segment may always
/// go out: its acknowledgement tells the true window.
fn usable(window: TcpWindow, mss: u32) -> TcpWindow {
    let snd_wnd = window.snd_wnd.max(mss);
    TcpWindow { snd_wnd, max_window: window.max_window.max(snd_wnd), ..window }
}

impl Imported {
    /// Begins to serve: call it when the peer's segments come here. Announces the window, if the old
    /// socket's was nearly closed, and sends one probe, whose answer restarts the stream.
    ///
    /// # Errors
    /// When the kernel refuses. The connection is closed then, with a reset if it was alive.
    pub fn go(self) -> Result<OwnedFd, RepairError> {
        let socket = self.socket.as_fd();
        self.come_to_life().inspect_err(|_| {
            // Best effort: the first error is the one to tell.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        })?;
        Ok(self.socket)
    }

    fn come_to_life(&self) -> Result<(), RepairError> {
        let socket = self.socket.as_fd();
        undeafen(socket)?;
        // The window goes first: the probe carries one, too, which the kernel then counts as announced, and the peer does not read.
        options::set_repair(socket, Repair::OffSilently)?;
        let mut reminder = [0];
        recv(socket, &mut reminder, RecvFlags::DONTWAIT)
            .step("recv of the restored receive queue")?;
        options::set_repair(socket, Repair::On)?;
        options::set_repair(socket, Repair::OffWithProbe)?;
        // Leaving repair mode took the option away; without it nobody could listen at this address while the connection lasts.
        SockRef::from(&socket).set_reuse_address(true).step("SO_REUSEADDR")
    }

    /// Closes the connection without a word: another host has it.
    pub fn close_silently(self) {
        drop(self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_window_lets_one_segment_out_and_an_open_one_stays() {
        let closed = TcpWindow { snd_wl1: 1, snd_wnd: 0, max_window: 0, rcv_wnd: 2, rcv_wup: 3 };
        let usable_closed = usable(closed, 1460);
        assert_eq!(usable_closed, TcpWindow { snd_wnd: 1460, max_window: 1460, ..closed });
        let open = TcpWindow { snd_wnd: 5000, max_window: 9000, ..closed };
        assert_eq!(usable(open, 1460), open);
    }
}
