//! Frames, sent in datagrams.

use crate::udp::{Sent, Udp};
use ashlar_wire::replication::{Fragments, Frame, Scope, encode};
use std::net::SocketAddr;

/// Datagrams that are filled at one time.
const OPEN_MAX: usize = 8;

/// What frames are sent with.
pub(crate) struct Io {
    udp: Udp,
    fragments: Fragments,
    datagram_bytes_max: usize,
    /// A frame, as bytes.
    frame: Vec<u8>,
    /// A part of it.
    piece: Vec<u8>,
    /// Datagrams for one receiver each, with room for more frames. Their buffers are kept when they are empty.
    open: Vec<(SocketAddr, Vec<u8>)>,
    /// The one that leaves first where another is needed.
    oldest: usize,
}

impl Io {
    pub(crate) fn new(udp: Udp, datagram_bytes_max: usize) -> Self {
        Self {
            udp,
            fragments: Fragments::new(datagram_bytes_max),
            datagram_bytes_max,
            frame: Vec::new(),
            piece: Vec::new(),
            open: Vec::with_capacity(OPEN_MAX),
            oldest: 0,
        }
    }

    pub(crate) fn udp(&mut self) -> &mut Udp {
        &mut self.udp
    }

    pub(crate) fn udp_ref(&self) -> &Udp {
        &self.udp
    }

    /// Encodes a frame once and sends it to all with the next [`Io::flush`], in a datagram of its own: programs in the
    /// kernel look at one frame of a datagram.
    pub(crate) fn send(
        &mut self,
        scope: Scope,
        sender: Option<usize>,
        frame: &Frame,
        to: &(impl Iterator<Item = SocketAddr> + Clone),
    ) {
        encode(scope, sender, frame, &mut self.frame);
        self.send_encoded(to);
    }

    /// The same for what clients ask and are told: with other frames for the same receiver, where they fit.
    pub(crate) fn send_packed(
        &mut self,
        scope: Scope,
        sender: Option<usize>,
        frame: &Frame,
        to: SocketAddr,
    ) {
        encode(scope, sender, frame, &mut self.frame);
        if self.frame.len() > self.datagram_bytes_max {
            return self.send_encoded(&[to].into_iter());
        }
        let place = self.open_for(to);
        let (_, datagram) = &mut self.open[place];
        if datagram.len() + self.frame.len() > self.datagram_bytes_max {
            send_open(&mut self.udp, &mut self.open[place]);
        }
        self.open[place].1.extend_from_slice(&self.frame);
    }

    /// Sends everything.
    pub(crate) fn flush(&mut self) -> Sent {
        for open in &mut self.open {
            send_open(&mut self.udp, open);
        }
        self.udp.flush()
    }

    fn send_encoded(&mut self, to: &(impl Iterator<Item = SocketAddr> + Clone)) {
        let udp = &mut self.udp;
        self.fragments.cut(&self.frame, &mut self.piece, |datagram| {
            let bytes = udp.put(datagram);
            for to in to.clone() {
                udp.queue(to, bytes.clone());
            }
        });
    }

    /// The place of the datagram that is filled for a receiver.
    fn open_for(&mut self, to: SocketAddr) -> usize {
        let known = self.open.iter().position(|(receiver, _)| *receiver == to);
        known.unwrap_or_else(|| {
            if self.open.len() < OPEN_MAX {
                self.open.push((to, Vec::with_capacity(self.datagram_bytes_max)));
                return self.open.len() - 1;
            }
            let place = self.oldest;
            self.oldest = (place + 1) % OPEN_MAX;
            send_open(&mut self.udp, &mut self.open[place]);
            self.open[place].0 = to;
            place
        })
    }
}

/// Lets a datagram go, if anything is in it.
fn send_open(udp: &mut Udp, (to, datagram): &mut (SocketAddr, Vec<u8>)) {
    if !datagram.is_empty() {
        let bytes = udp.put(datagram);
        udp.queue(*to, bytes);
        datagram.clear();
    }
}
