//! Reading a frozen connection out of the kernel.

use super::Marks;
use super::error::{Context as _, RepairError};
use super::options::{self, Queue};
use super::{unacknowledged_bytes, unread_bytes, unsent_bytes};
use ashlar_handoff::SecretBytes;
use ashlar_handoff::image::{RECEIVED_BYTES_MAX, SEND_QUEUE_BYTES_MAX, TcpImage, TcpOptions};
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SocketAddrAny, getpeername, getsockname, recv};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// What the kernel knew of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The socket's state.
    pub tcp: TcpImage,
    /// What it had received and nobody had read, in order. It follows what the program has read before.
    pub received: SecretBytes,
    /// The peer's FIN has been received; it follows `received`.
    pub peer_finished: bool,
}

impl Export {
    /// How far the socket had received.
    pub fn marks(&self) -> Marks {
        let receive_sequence = self.tcp.receive_sequence;
        Marks { receive_sequence, received_bytes: self.received.len() }
    }
}

pub(super) fn export(socket: BorrowedFd<'_>) -> Result<Export, RepairError> {
    let info = options::info(socket)?;
    let peer_finished = peer_has_finished(info.state)?;
    let timestamp = info.timestamps.then(|| options::timestamp(socket)).transpose()?;
    let (mss, window) = (options::segment_size_bound(socket)?, options::window(socket)?);
    let (receive_sequence, received) = receive_queue(socket)?;
    let (send_sequence, send_queue) = send_queue(socket)?;
    options::select_queue(socket, Queue::None)?;
    let tcp = TcpImage {
        local: address(Some(getsockname(socket).step("getsockname")?))?,
        peer: address(getpeername(socket).step("getpeername")?)?,
        send_sequence,
        receive_sequence,
        send_queue,
        mss,
        options: TcpOptions {
            window_scale: info.window_scale,
            selective_acknowledgement: info.selective_acknowledgement,
            timestamp,
        },
        window,
    };
    Ok(Export { tcp, received, peer_finished })
}

/// Whether the peer has sent its FIN, if the state is one of the two that move.
pub(super) fn peer_has_finished(state: u8) -> Result<bool, RepairError> {
    const ESTABLISHED: usize = 1;
    const CLOSE_WAIT: usize = 8;
    const NAMES: [&str; 14] = [
        "0",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
        "BOUND_INACTIVE",
    ];
    match usize::from(state) {
        ESTABLISHED => Ok(false),
        CLOSE_WAIT => Ok(true),
        other => Err(RepairError::State { state: NAMES.get(other).unwrap_or(&"unknown") }),
    }
}

/// The sequence number behind the queue, and its bytes.
pub(super) fn receive_queue(socket: BorrowedFd<'_>) -> Result<(u32, SecretBytes), RepairError> {
    options::select_queue(socket, Queue::Receive)?;
    let sequence = options::queue_sequence(socket)?;
    let bytes = unread_bytes(socket)?;
    check_length("receive", bytes, RECEIVED_BYTES_MAX)?;
    let received = peek(socket, bytes + 1, "recv(MSG_PEEK) of the receive queue")?;
    if received.len() != bytes {
        let shown = received.len();
        return Err(RepairError::QueueChanged { queue: "receive", bytes, shown });
    }
    Ok((sequence, received))
}

/// The sequence number of the first byte that is not acknowledged, and all such bytes.
fn send_queue(socket: BorrowedFd<'_>) -> Result<(u32, SecretBytes), RepairError> {
    /// The kernel keeps a segment whole of which only a part is acknowledged. No segment is longer.
    const ACKNOWLEDGED_BYTES_MAX: usize = 1 << 16;
    options::select_queue(socket, Queue::Send)?;
    let end = options::queue_sequence(socket)?;
    let bytes = unacknowledged_bytes(socket)?;
    match unsent_bytes(socket)? {
        0 => {}
        bytes => return Err(RepairError::Unsent { bytes }),
    }
    check_length("send", bytes, SEND_QUEUE_BYTES_MAX)?;
    let mut queue = SecretBytes::default();
    if bytes > 0 {
        let capacity = bytes + ACKNOWLEDGED_BYTES_MAX;
        queue = peek(socket, capacity, "recv(MSG_PEEK) of the send queue")?;
    }
    let Some(acknowledged) = queue.len().checked_sub(bytes) else {
        let shown = queue.len();
        return Err(RepairError::QueueChanged { queue: "send", bytes, shown });
    };
    queue.drain(..acknowledged);
    let length = u32::try_from(bytes).expect("it was checked above");
    Ok((end.wrapping_sub(length), queue))
}

fn check_length(queue: &'static str, bytes: usize, bytes_max: usize) -> Result<(), RepairError> {
    if bytes > bytes_max {
        return Err(RepairError::QueueTooLong { queue, bytes, bytes_max });
    }
    Ok(())
}

/// At most `capacity` bytes of the selected queue, which keeps them.
fn peek(
    socket: BorrowedFd<'_>,
    capacity: usize,
    step: &'static str,
) -> Result<SecretBytes, RepairError> {
    let mut bytes = SecretBytes::with_capacity(capacity);
    match recv(socket, spare_capacity(&mut bytes), RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        // The queue is empty.
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(bytes),
        Err(errno) => Err(errno).step(step),
    }
}

/// Without the disguise that addresses of IPv4 have on a socket for both families.
fn address(address: Option<SocketAddrAny>) -> Result<SocketAddr, RepairError> {
    let address = address
        .and_then(|address| SocketAddr::try_from(address).ok())
        .ok_or(RepairError::AddressFamily)?;
    Ok(match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    })
}
