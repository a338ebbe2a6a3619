//! What travels of a socket, and how it comes to life elsewhere.

use super::{SEGMENT_BYTES_MAX, Sizes, State, Tcp, after};
use ashlar_handoff::image::{TcpImage, TcpOptions, TcpWindow};
use std::net::SocketAddr;

/// An imported socket repeats what is unacknowledged after so long, mute or not: it has measured no round
/// trip.
const IMPORTED_PAUSE_US: u64 = 1_000_000;

impl Tcp {
    /// The state as it travels, and what nobody has read.
    pub(crate) fn export(&self, local: SocketAddr, peer: SocketAddr) -> (TcpImage, Vec<u8>) {
        let rcv_wnd = self.receive_window();
        let window = TcpWindow {
            snd_wl1: self.receive_next,
            snd_wnd: self.window,
            max_window: self.window,
            rcv_wnd,
            rcv_wup: self.receive_next,
        };
        let image = TcpImage {
            local,
            peer,
            send_sequence: self.unacknowledged,
            receive_sequence: self.receive_next,
            send_queue: self.queue.iter().copied().collect::<Vec<u8>>().into(),
            mss: SEGMENT_BYTES_MAX as u32,
            options: TcpOptions::default(),
            window,
        };
        (image, self.received.iter().copied().collect())
    }

    /// A socket that goes on where the image's stopped. Nothing is sent.
    pub(crate) fn import(
        now_us: u64,
        flow: usize,
        image: &TcpImage,
        peer_finished: bool,
        sizes: Sizes,
    ) -> Self {
        let (sequence, receive_next) = (image.send_sequence, image.receive_sequence);
        let mut tcp = Self::new(flow, State::Open, sequence, receive_next, sizes);
        tcp.queue.extend(image.send_queue.iter());
        tcp.next = sequence.wrapping_add(image.send_queue.len() as u32);
        tcp.imported_end = tcp.next;
        tcp.window = image.window.snd_wnd.max(image.mss);
        tcp.is_behind_fin = peer_finished;
        if !image.send_queue.is_empty() {
            tcp.timer_us = Some(now_us + IMPORTED_PAUSE_US);
        }
        tcp
    }

    /// Whether what an earlier owner had sent is not acknowledged here. If its peer has told that owner so and
    /// does not care to repeat it, this socket hears of it when it has repeated that itself.
    pub(crate) fn awaits_imported(&self) -> bool {
        after(self.imported_end, self.unacknowledged)
    }

    /// Tells the peer where this end is, and makes it answer.
    pub(crate) fn probe(&mut self, now_us: u64) {
        let segment = self.segment(self.unacknowledged.wrapping_sub(1));
        self.outbox.push(segment);
        self.transmit(now_us);
    }
}
