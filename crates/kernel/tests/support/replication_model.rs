//! What the replication program should do, from the shared decisions.

use super::replication::GROUP;
use ashlar_fastpath::replication::{
    Acknowledged, AcknowledgementVerdict, Control, Counter, Counters, DATAGRAM_HEADER_BYTES,
    Datagram, Follower, HEADER_BYTES, HEADERS_BYTES, LOCK_FREE, Leader, PrepareVerdict,
    checksum_of, judge_acknowledgement, judge_prepare, kind, reaches_quorum,
};
use ashlar_kernel::replication::Fate;
use zerocopy::{FromBytes as _, IntoBytes as _};

const DATAGRAM_BYTES: usize = DATAGRAM_HEADER_BYTES as usize;
const HEADERS: usize = HEADERS_BYTES as usize;

pub(crate) struct Model {
    pub(crate) own: u64,
    pub(crate) control: Control,
    pub(crate) counters: Counters,
}

/// What should become of a packet.
pub(crate) struct Expected {
    pub(crate) counter: Option<Counter>,
    pub(crate) fate: Fate,
    pub(crate) packet: Vec<u8>,
    pub(crate) accepted: Option<Vec<u8>>,
}

impl Model {
    pub(crate) fn run(&mut self, packet: &[u8], now_ns: u64) -> Expected {
        let mut expected =
            Expected { counter: None, fate: Fate::Passed, packet: packet.to_vec(), accepted: None };
        expected.counter = self.decide(packet, now_ns, &mut expected);
        if let Some(counter) = expected.counter {
            self.counters.count(counter);
        }
        if expected.counter == Some(Counter::PrepareAccepted) && self.control.is_asleep != 0 {
            self.control.is_asleep = 0;
            self.counters.count(Counter::Woken);
        }
        expected
    }

    fn decide(&mut self, packet: &[u8], now_ns: u64, expected: &mut Expected) -> Option<Counter> {
        let (mut datagram, body) = Datagram::read_from_prefix(packet).ok()?;
        if !datagram.is_frame() || datagram.destination() != self.own {
            return None;
        }
        let is_prepare = match datagram.header.kind {
            kind::PREPARE => true,
            kind::PREPARE_OK => false,
            _ => return Some(Counter::OtherKind),
        };
        if datagram.group() != GROUP {
            return Some(Counter::OtherGroup);
        }
        let Ok(bytes) = datagram.frame_bytes(packet.len() as u32) else {
            return Some(Counter::Malformed);
        };
        if is_prepare && (bytes as usize) < HEADER_BYTES + 8 {
            return Some(Counter::Malformed);
        }
        if !is_prepare {
            return Some(self.lead(&datagram, expected));
        }
        if self.control.lock != LOCK_FREE {
            return Some(Counter::Busy);
        }
        let previous = u64::from_le_bytes(body[..8].try_into().unwrap());
        let frame = packet[HEADERS..HEADERS + bytes as usize].to_vec();
        let counter = self.follow(&datagram, frame, previous, now_ns, expected);
        if expected.fate == Fate::Answered {
            let Control { place, tail_op, tail_digest, .. } = self.control;
            datagram.acknowledge(place, tail_op, tail_digest);
            expected.packet = datagram.as_bytes().to_vec();
            assert_eq!(expected.packet.len(), DATAGRAM_BYTES);
        }
        Some(counter)
    }

    fn follow(
        &mut self,
        datagram: &Datagram,
        frame: Vec<u8>,
        previous: u64,
        now_ns: u64,
        expected: &mut Expected,
    ) -> Counter {
        let control = &mut self.control;
        let state = Follower {
            mode: control.mode,
            view: control.view,
            leader: control.members[control.leader as usize],
            lease_until_ns: control.lease_until_ns,
            now_ns,
            tail_op: control.tail_op,
            tail_digest: control.tail_digest,
            accepted: control.accepted,
            drained: control.drained,
        };
        let prepare = datagram.prepare(frame.len() as u32, previous);
        match judge_prepare(&prepare, &state) {
            PrepareVerdict::Accept if checksum_of(&frame) != datagram.header.checksum.get() => {
                Counter::PrepareDamaged
            }
            PrepareVerdict::Accept => {
                control.tail_op = prepare.op + prepare.entries - 1;
                control.tail_digest = prepare.digest;
                control.accepted += 1;
                expected.fate = if datagram.is_followed() { Fate::Dropped } else { Fate::Answered };
                expected.accepted = Some(frame);
                Counter::PrepareAccepted
            }
            verdict => verdict.passes().unwrap(),
        }
    }

    fn lead(&mut self, datagram: &Datagram, expected: &mut Expected) -> Counter {
        if !datagram.is_intact() {
            return Counter::OkDamaged;
        }
        if self.control.lock != LOCK_FREE {
            return Counter::Busy;
        }
        let control = &mut self.control;
        let frame = datagram.acknowledgement();
        let place = (frame.place & 7) as usize;
        let state = Leader {
            mode: control.mode,
            view: control.view,
            place: control.place,
            sender: control.members[place],
            known: control.acknowledged[place],
        };
        match judge_acknowledgement(&frame, &state) {
            AcknowledgementVerdict::Note => {
                control.acknowledged[place] =
                    Acknowledged { next_op: frame.op + 1, digest: frame.digest };
                let next_ops = control.acknowledged.map(|known| known.next_op);
                match reaches_quorum(next_ops, control.needed, control.signalled_op) {
                    Some(op) if control.is_asleep != 0 => {
                        (control.is_asleep, control.signalled_op) = (0, op);
                        Counter::OkSignalled
                    }
                    _ => {
                        expected.fate = Fate::Dropped;
                        Counter::OkNoted
                    }
                }
            }
            AcknowledgementVerdict::Known => {
                expected.fate = Fate::Dropped;
                Counter::OkKnown
            }
            AcknowledgementVerdict::Off => Counter::OkOff,
            AcknowledgementVerdict::OtherView => Counter::OkOtherView,
            AcknowledgementVerdict::NotMember => Counter::OkNotMember,
        }
    }
}
