//! The socket's part of an image: what `TCP_REPAIR` reads from one kernel and writes to another.

use super::within;
use crate::{
    SecretBytes,
    codec::{Decoder, FieldError, Sink},
};
use core::net::SocketAddr;

/// The most bytes of [`TcpImage::send_queue`]; a connection with more is left to drain.
pub const SEND_QUEUE_BYTES_MAX: usize = 1 << 20;
/// The largest shift of a window (RFC 7323, section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;
/// The largest segment size that the option can carry (RFC 9293, section 3.7.1).
pub const MSS_MAX: u32 = u16::MAX as u32;

/// A frozen socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpImage {
    /// The service address, which every owner binds.
    pub local: SocketAddr,
    /// The client's.
    pub peer: SocketAddr,
    /// The sequence number of the first byte of `send_queue`: that of the next byte to be written,
    /// less the bytes in the queue.
    pub send_sequence: u32,
    /// The next sequence number that the kernel expects: behind everything that was received and,
    /// if there was one, behind the client's FIN.
    pub receive_sequence: u32,
    /// What was sent and is not acknowledged; at most [`SEND_QUEUE_BYTES_MAX`]. Everything in it was
    /// sent once: the exporter waits for that, because an acknowledgement of bytes that the new
    /// socket believes unsent would be invalid for ever.
    pub send_queue: SecretBytes,
    /// The bound that the client's option set for segments, in bytes, 1 to [`MSS_MAX`].
    pub mss: u32,
    /// What was negotiated.
    pub options: TcpOptions,
    /// Flow control in both directions.
    pub window: TcpWindow,
}

/// What the handshake agreed on. An option that was not negotiated must not be restored: its use
/// would break the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpOptions {
    /// The shifts of the windows that the client announces and that we announce, in this order, at
    /// most [`WINDOW_SCALE_MAX`] each.
    pub window_scale: Option<(u8, u8)>,
    /// Selective acknowledgement.
    pub selective_acknowledgement: bool,
    /// The clock of our timestamps at the export. Each kernel adds an offset of its own, and without
    /// this value the client would take every segment for an old one.
    pub timestamp: Option<u32>,
}

/// The kernel's `tcp_repair_window`, field by field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpWindow {
    /// The sequence number of the segment that updated the send window last.
    pub snd_wl1: u32,
    /// The bytes that the client takes beyond what it has acknowledged.
    pub snd_wnd: u32,
    /// The largest window that the client has announced, in bytes.
    pub max_window: u32,
    /// The bytes that we take beyond `rcv_wup`.
    pub rcv_wnd: u32,
    /// `receive_sequence` at our last announcement.
    pub rcv_wup: u32,
}

impl TcpImage {
    pub(super) fn check(&self) -> Result<(), FieldError> {
        within("tcp.send_queue", self.send_queue.len(), SEND_QUEUE_BYTES_MAX)?;
        check_address("tcp.local", self.local)?;
        check_address("tcp.peer", self.peer)?;
        if self.local.is_ipv4() != self.peer.is_ipv4() {
            return Err(FieldError::invalid(
                "tcp.peer",
                "is of another address family than tcp.local",
            ));
        }
        if self.mss == 0 || self.mss > MSS_MAX {
            return Err(FieldError::invalid("tcp.mss", "is not between 1 and 65,535"));
        }
        match self.options.window_scale {
            Some((send, receive)) if send.max(receive) > WINDOW_SCALE_MAX => {
                Err(FieldError::invalid("tcp.options.window_scale", "exceeds 14"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        out.address(self.local);
        out.address(self.peer);
        out.u32(self.send_sequence);
        out.u32(self.receive_sequence);
        out.bytes(&self.send_queue);
        out.u32(self.mss);
        out.option(self.options.window_scale, |out, (send, receive)| {
            out.u8(send);
            out.u8(receive);
        });
        out.flag(self.options.selective_acknowledgement);
        out.option(self.options.timestamp, |out, timestamp| out.u32(timestamp));
        out.u32(self.window.snd_wl1);
        out.u32(self.window.snd_wnd);
        out.u32(self.window.max_window);
        out.u32(self.window.rcv_wnd);
        out.u32(self.window.rcv_wup);
    }

    pub(super) fn read(from: &mut Decoder<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            local: from.address("tcp.local")?,
            peer: from.address("tcp.peer")?,
            send_sequence: from.u32("tcp.send_sequence")?,
            receive_sequence: from.u32("tcp.receive_sequence")?,
            send_queue: from.bytes("tcp.send_queue", SEND_QUEUE_BYTES_MAX)?.into(),
            mss: from.u32("tcp.mss")?,
            options: TcpOptions {
                window_scale: from.option("tcp.options.window_scale", |from| {
                    let field = "tcp.options.window_scale";
                    Ok((from.u8(field)?, from.u8(field)?))
                })?,
                selective_acknowledgement: from.flag("tcp.options.selective_acknowledgement")?,
                timestamp: from
                    .option("tcp.options.timestamp", |from| from.u32("tcp.options.timestamp"))?,
            },
            window: TcpWindow {
                snd_wl1: from.u32("tcp.window.snd_wl1")?,
                snd_wnd: from.u32("tcp.window.snd_wnd")?,
                max_window: from.u32("tcp.window.max_window")?,
                rcv_wnd: from.u32("tcp.window.rcv_wnd")?,
                rcv_wup: from.u32("tcp.window.rcv_wup")?,
            },
        })
    }
}

fn check_address(field: &'static str, address: SocketAddr) -> Result<(), FieldError> {
    if address.port() == 0 {
        return Err(FieldError::invalid(field, "has port 0"));
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(FieldError::invalid(field, "names no single host"));
    }
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => {
            Err(FieldError::invalid(field, "means something on one host only: it has a scope"))
        }
        _ => Ok(()),
    }
}
