//! The program: what becomes of a packet, step by step.

use super::{Effect, Kernel, Packet, Slot};
use crate::vr::Sabotage;
use ashlar_fastpath::replication::{
    Acknowledged, Acknowledgement, AcknowledgementVerdict, Counter, Follower, HEADER_BYTES,
    LOCK_FREE, LOCK_KERNEL, LOCK_OWNER, Leader, MODE_FOLLOW, NO_PLACE, Prepare, PrepareVerdict,
    SLOTS, judge_acknowledgement, judge_prepare, member_bits, reaches_quorum,
};
use ashlar_vr::{Message, View};
use std::net::SocketAddr;

/// How far a run of the program is.
#[derive(Clone, Debug, Default)]
pub(super) enum Run {
    /// There is none.
    #[default]
    Idle,
    /// It has the lock.
    Locked(Packet),
    /// Entries are in their slot, and nobody knows.
    Written(SocketAddr, Written),
    /// An acknowledgement is being noted for the member at a place.
    Noting(Packet, usize),
    /// Entries count as taken; the lock is free, and the process may have to be woken. What is to be said of it, if anything.
    Published(Option<(SocketAddr, Message)>),
}

/// What is in the slot behind the last that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    number: u64,
    view: View,
    last: (u64, u64),
    is_followed: bool,
}

/// An address, as programs have it.
pub(super) fn bits(address: SocketAddr) -> u64 {
    match address {
        SocketAddr::V4(address) => member_bits(address.ip().octets(), address.port()),
        SocketAddr::V6(_) => 0,
    }
}

impl Kernel {
    /// Whether the program has anything to do.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.run, Run::Idle) || !self.card.is_empty() || !self.leaving.is_empty()
    }

    /// The next step; false if there is nothing to do.
    pub(super) fn step(&mut self) -> bool {
        let is_idle = matches!(self.run, Run::Idle);
        let may_leave = (is_idle && self.card.is_empty()) || self.random.chance(0.5);
        if may_leave && let Some((to, message)) = self.leaving.pop_front() {
            self.effects.push(Effect::Leaves { to, message });
            return true;
        }
        if !is_idle && !self.card.is_empty() && self.random.chance(0.2) {
            // Another processor has a packet, too.
            self.begin();
            return true;
        }
        match std::mem::take(&mut self.run) {
            Run::Idle => return self.begin(),
            Run::Locked(packet) => self.decide(packet),
            Run::Written(from, written) => self.publish(from, written),
            Run::Noting(packet, place) => self.note(packet, place),
            Run::Published(said) => {
                if self.control.is_asleep != 0 {
                    self.control.is_asleep = 0;
                    self.counters.count(Counter::Woken);
                    self.effects.push(Effect::Wakes);
                }
                self.leaving.extend(said);
            }
        }
        true
    }

    /// Tries the lock for the next packet.
    fn begin(&mut self) -> bool {
        let Some(packet) = self.card.pop_front() else { return false };
        if self.control.lock != LOCK_FREE || !matches!(self.run, Run::Idle) {
            self.pass(packet, Counter::Busy);
            return true;
        }
        self.control.lock = LOCK_KERNEL;
        self.run = Run::Locked(packet);
        true
    }

    fn pass(&mut self, packet: Packet, why: Counter) {
        self.counters.count(why);
        self.effects.push(Effect::Passes(packet, why));
    }

    fn decide(&mut self, packet: Packet) {
        match packet.message.clone() {
            Message::Prepare { view, commit, previous, is_followed, entries } => {
                let frame = Prepare {
                    source: bits(packet.source),
                    view: view.bits(),
                    op: entries.first().map_or(0, |entry| entry.op),
                    entries: entries.len() as u64,
                    previous,
                    digest: entries.last().map_or(0, |entry| entry.digest),
                    bytes: bytes_of(entries.iter().map(|entry| entry.bytes()).sum()),
                };
                let slot = Slot { number: self.control.accepted + 1, view, commit, entries };
                self.decide_prepare(packet, frame, slot, is_followed);
            }
            Message::PrepareOk { view, op, digest } => {
                self.decide_acknowledgement(packet, view, op, digest);
            }
            _ => {
                self.control.lock = LOCK_FREE;
                self.pass(packet, Counter::OtherKind);
            }
        }
    }

    fn decide_prepare(&mut self, packet: Packet, frame: Prepare, slot: Slot, is_followed: bool) {
        let control = &self.control;
        let mut state = Follower {
            mode: control.mode,
            view: control.view,
            leader: control.members[control.leader as usize],
            lease_until_ns: control.lease_until_ns,
            now_ns: self.now_us * 1_000,
            tail_op: control.tail_op,
            tail_digest: control.tail_digest,
            accepted: control.accepted,
            // As if the others were never taken, so that fewer slots do.
            drained: control.drained.wrapping_sub(u64::from(SLOTS) - self.slots_max),
        };
        let last = (frame.op + frame.entries.saturating_sub(1), frame.digest);
        let seen = std::mem::replace(&mut self.last_seen, last);
        if self.has(Sabotage::OutliveProcess) {
            state.lease_until_ns = u64::MAX;
        }
        if self.has(Sabotage::AcknowledgeOtherContent)
            && state.mode == MODE_FOLLOW
            && (1..=state.tail_op).contains(&last.0)
        {
            self.control.lock = LOCK_FREE;
            return self.acknowledge(packet.source, slot.view, last);
        }
        let why = match judge_prepare(&frame, &state) {
            PrepareVerdict::Accept => {
                let written = Written { number: slot.number, view: slot.view, last, is_followed };
                self.slots.push_back(slot);
                self.run = Run::Written(packet.source, written);
                return;
            }
            PrepareVerdict::Known if self.has(Sabotage::AcknowledgeLastSeen) => {
                self.control.lock = LOCK_FREE;
                return self.acknowledge(packet.source, slot.view, seen);
            }
            PrepareVerdict::Full if self.has(Sabotage::AcknowledgeUnstored) => {
                (self.control.tail_op, self.control.tail_digest) = last;
                self.control.lock = LOCK_FREE;
                return self.acknowledge(packet.source, slot.view, last);
            }
            verdict => verdict.passes().expect("it is not accepted"),
        };
        self.control.lock = LOCK_FREE;
        self.pass(packet, why);
    }

    /// What is in a slot counts from here on.
    fn publish(&mut self, from: SocketAddr, written: Written) {
        let Written { number, view, last, is_followed } = written;
        (self.control.tail_op, self.control.tail_digest) = last;
        self.control.accepted = number;
        self.control.lock = LOCK_FREE;
        self.counters.count(Counter::PrepareAccepted);
        if is_followed {
            self.run = Run::Published(None);
        } else {
            self.acknowledge(from, view, last);
        }
    }

    fn acknowledge(&mut self, to: SocketAddr, view: View, (op, digest): (u64, u64)) {
        let message = Message::PrepareOk { view, op, digest };
        self.effects.push(Effect::Acknowledges(message.clone()));
        self.run = Run::Published(Some((to, message)));
    }

    fn decide_acknowledgement(&mut self, packet: Packet, view: View, op: u64, digest: u64) {
        let control = &self.control;
        let source = bits(packet.source);
        let place = control.members.iter().position(|member| *member == source);
        let frame = Acknowledgement {
            source,
            place: place.map_or(u64::from(NO_PLACE), |place| place as u64),
            view: view.bits(),
            op,
            digest,
        };
        let state = Leader {
            mode: control.mode,
            view: control.view,
            place: control.place,
            sender: place.map_or(0, |place| control.members[place]),
            known: place.map_or_else(Default::default, |place| control.acknowledged[place]),
        };
        let why = match (judge_acknowledgement(&frame, &state), place) {
            (AcknowledgementVerdict::Note, Some(place)) => {
                self.control.acknowledged[place] = Acknowledged { next_op: 0, digest };
                self.run = Run::Noting(packet, place);
                return;
            }
            (AcknowledgementVerdict::Known, _) => {
                self.control.lock = LOCK_FREE;
                self.counters.count(Counter::OkKnown);
                return;
            }
            (AcknowledgementVerdict::Off, _) => Counter::OkOff,
            (AcknowledgementVerdict::OtherView, _) => Counter::OkOtherView,
            (AcknowledgementVerdict::NotMember | AcknowledgementVerdict::Note, _) => {
                Counter::OkNotMember
            }
        };
        self.control.lock = LOCK_FREE;
        self.pass(packet, why);
    }

    /// The backup at `place` is further, and perhaps a quorum is.
    fn note(&mut self, packet: Packet, place: usize) {
        let Message::PrepareOk { op, digest, .. } = packet.message else { return };
        self.control.acknowledged[place].next_op = op + 1;
        if self.has(Sabotage::NoteTwice) {
            let count = self.control.members.iter().filter(|member| **member != 0).count();
            let mut others =
                (0..count).filter(|at| *at != place && *at as u64 != self.control.place);
            if let Some(other) = others.next() {
                self.control.acknowledged[other] = Acknowledged { next_op: op + 1, digest };
            }
        }
        let next_ops = self.control.acknowledged.map(|known| known.next_op);
        let quorum = reaches_quorum(next_ops, self.control.needed, self.control.signalled_op);
        self.control.lock = LOCK_FREE;
        match quorum.filter(|_| self.control.is_asleep != 0) {
            Some(op) => {
                (self.control.is_asleep, self.control.signalled_op) = (0, op);
                self.pass(packet, Counter::OkSignalled);
            }
            None => self.counters.count(Counter::OkNoted),
        }
    }

    /// The process takes the lock: a program that has it gives it back first. So does who takes over from a dead process.
    pub(super) fn lock(&mut self) {
        while self.control.lock == LOCK_KERNEL {
            self.step();
        }
        self.control.lock = LOCK_OWNER;
    }

    pub(super) fn unlock(&mut self) {
        self.control.lock = LOCK_FREE;
    }
}

/// The length of a frame with so much in it.
fn bytes_of(entries_bytes: usize) -> u32 {
    const PREVIOUS_BYTES: usize = 8;
    u32::try_from(HEADER_BYTES + PREVIOUS_BYTES + entries_bytes).unwrap_or(u32::MAX)
}
