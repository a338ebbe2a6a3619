//! Frames, sent in datagrams.

use crate::udp::{Sent, Udp};
use ashlar_fastpath::replication::FanOut;
use ashlar_vr::{Configuration, Members};
use ashlar_wire::replication::{Fragments, Frame, Scope, encode};
use std::{net::SocketAddr, ops::Range, sync::Arc};

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
    /// What programs in the kernel copy when it is sent.
    fanned_out: Vec<FannedOut>,
}

/// A datagram that is sent to one member, and that programs copy for others.
struct FannedOut {
    /// The group's place at its node.
    group: usize,
    members: Arc<Configuration>,
    to: Members,
    bytes: Range<usize>,
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
            fanned_out: Vec::new(),
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

    /// Encodes a frame once and gives it to the kernel once with the next [`Io::flush`]: programs there make copies for all but the
    /// first.
    pub(crate) fn fan_out(
        &mut self,
        scope: Scope,
        sender: Option<usize>,
        frame: &Frame,
        group: usize,
        (members, to): (&Arc<Configuration>, Members),
    ) {
        let first = to.iter().next().expect("somebody gets it");
        let others = to.without(first).iter().fold(0, |places, place| places | 1 << place);
        let (mark, address) = (FanOut::new(others).mark(), members.members()[first]);
        encode(scope, sender, frame, &mut self.frame);
        let Self { udp, fragments, fanned_out, .. } = self;
        fragments.cut(&self.frame, &mut self.piece, |datagram| {
            let bytes = udp.put(datagram);
            udp.queue_marked(address, mark, bytes.clone());
            fanned_out.push(FannedOut { group, members: Arc::clone(members), to, bytes });
        });
    }

    /// Sends everything. `unreached` tells, for the place of a group, which members programs have made no copies for, of so many datagrams
    /// that were addressed to these members: they are sent to one by one.
    pub(crate) fn flush(
        &mut self,
        mut unreached: impl FnMut(usize, u64, Members) -> Members,
    ) -> Sent {
        for open in &mut self.open {
            send_open(&mut self.udp, open);
        }
        let mut sent = self.udp.send();
        for of_group in self.fanned_out.chunk_by(|one, next| one.group == next.group) {
            let carriers = of_group.iter().filter_map(|fanned| fanned.to.iter().next());
            let carriers = carriers.fold(Members::NONE, Members::with);
            let missed = unreached(of_group[0].group, of_group.len() as u64, carriers);
            for FannedOut { members, to, bytes, .. } in of_group {
                // The kernel has the first one's, and sends it when it can.
                for place in to.iter().skip(1).filter(|place| missed.contains(*place)) {
                    self.udp.queue(members.members()[place], bytes.clone());
                }
            }
        }
        self.fanned_out.clear();
        sent += self.udp.flush();
        sent
    }

    /// The same where nothing is fanned out.
    pub(crate) fn flush_all(&mut self) -> Sent {
        self.flush(|_, _, _| Members::NONE)
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
