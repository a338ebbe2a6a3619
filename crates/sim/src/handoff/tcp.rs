//! One end of a TCP connection, as far as moving it can go wrong.
//!
//! Sequence numbers, acknowledgements, windows, retransmission, both ways of ending, and resets by the
//! rules of RFC 9293 and RFC 5961. What comes out of order is dropped and sent again. There is no congestion
//! control: it decides when bytes travel, not which.

mod handshake;
mod image;
mod segment;

pub(crate) use segment::{Segment, after, refusal};

use std::collections::VecDeque;

/// The most bytes of a segment.
pub(crate) const SEGMENT_BYTES_MAX: usize = 1460;
/// So often is a segment repeated before its sender gives the connection up.
const ATTEMPTS_MAX: u32 = 9;
/// The longest pause between two repetitions.
const PAUSE_US_MAX: u64 = 1_000_000;
/// Segments that make no sense are answered at most so often: two ends that disagree must not talk for
/// ever.
const CHALLENGE_INTERVAL_US: u64 = 5_000;
/// How long a closed end answers a peer that has not heard the last acknowledgement.
const TIME_WAIT_US: u64 = 1_000_000;

/// Where an end is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynSent,
    SynReceived,
    /// Bytes may travel. Whether either side has finished is told apart by fields.
    Open,
    /// Both sides have finished, or this one and nobody waits for the other.
    TimeWait,
    /// Nothing is left of it.
    Gone(End),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    /// The peer reset it.
    Reset,
    /// The peer did not answer.
    Abandoned,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// Whose connection it is: names both ends' addresses and ports.
    flow: usize,
    pub(super) state: State,
    /// The first sequence number that the peer has not acknowledged.
    unacknowledged: u32,
    /// The next one to send.
    next: u32,
    /// Everything from `unacknowledged` on that is neither SYN nor FIN.
    queue: VecDeque<u8>,
    queue_bytes_max: usize,
    /// No more bytes will be written: a FIN follows the queue.
    finishing: bool,
    fin_sent: bool,
    /// The peer had finished first, so it is the peer who waits in the end.
    is_passive: bool,
    /// The peer's FIN was received by an earlier owner: none will come.
    is_behind_fin: bool,
    /// How far beyond `unacknowledged` the peer takes bytes.
    window: u32,
    /// Everything before it is sent again after a time-out.
    recover: Option<u32>,
    receive_next: u32,
    /// What nobody has read yet.
    received: VecDeque<u8>,
    receive_bytes_max: usize,
    pub(super) peer_finished: bool,
    /// The window that the peer was told last.
    announced: u32,
    /// When to send again, or to give up waiting.
    timer_us: Option<u64>,
    /// The pause before the first repetition.
    first_pause_us: u64,
    attempts: u32,
    challenged_us: Option<u64>,
    /// Where the bytes end that an earlier owner had sent.
    imported_end: u32,
    /// To be sent.
    outbox: Vec<Segment>,
}

/// What both ends of a connection are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) queue_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
    pub(crate) first_pause_us: u64,
}

impl Tcp {
    fn new(flow: usize, state: State, sequence: u32, receive_next: u32, sizes: Sizes) -> Self {
        Self {
            flow,
            state,
            unacknowledged: sequence,
            next: sequence,
            queue: VecDeque::new(),
            queue_bytes_max: sizes.queue_bytes_max,
            finishing: false,
            fin_sent: false,
            is_passive: false,
            is_behind_fin: false,
            window: 0,
            recover: None,
            receive_next,
            received: VecDeque::new(),
            receive_bytes_max: sizes.receive_bytes_max,
            peer_finished: false,
            announced: 0,
            timer_us: None,
            first_pause_us: sizes.first_pause_us,
            attempts: 0,
            challenged_us: None,
            imported_end: sequence,
            outbox: Vec::new(),
        }
    }

    /// Takes as many bytes as there is room for.
    pub(crate) fn write(&mut self, now_us: u64, bytes: &[u8]) -> usize {
        assert!(!self.finishing, "nothing is written behind a FIN");
        let taken = bytes.len().min(self.room());
        self.queue.extend(&bytes[..taken]);
        self.transmit(now_us);
        taken
    }

    /// How many bytes may be written.
    pub(crate) fn room(&self) -> usize {
        self.queue_bytes_max.saturating_sub(self.queue.len())
    }

    /// Bytes that were never sent.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let sent = self.next.wrapping_sub(self.unacknowledged) as usize;
        self.queue.len().saturating_sub(sent)
    }

    /// Bytes that can be read.
    pub(crate) fn readable_bytes(&self) -> usize {
        self.received.len()
    }

    /// Reads; tells the peer of the room if it waits for it.
    pub(crate) fn read(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.received.drain(..bytes_max.min(self.received.len())).collect();
        let is_wide = self.receive_window() >= SEGMENT_BYTES_MAX as u32;
        if self.state == State::Open && self.announced < SEGMENT_BYTES_MAX as u32 && is_wide {
            self.acknowledge();
        }
        bytes
    }

    /// Writes no more.
    pub(crate) fn finish(&mut self, now_us: u64) {
        if !self.finishing {
            self.finishing = true;
            self.is_passive = self.peer_finished;
            self.transmit(now_us);
        }
    }

    /// Ends the connection at once; gives the reset that tells the peer.
    pub(crate) fn abort(&mut self) -> Segment {
        self.state = State::Gone(End::Closed);
        self.outbox.clear();
        self.segment(self.next).reset()
    }

    /// Receives what it lacks of `bytes`, which begin at `sequence`; with `again`, all of them. False if
    /// it cannot.
    pub(crate) fn receive_late(&mut self, sequence: u32, bytes: &[u8], again: bool) -> bool {
        let present = self.receive_next.wrapping_sub(sequence) as i32;
        let Ok(present) = usize::try_from(present) else { return false };
        if self.state != State::Open {
            return false;
        }
        let rest = bytes.get(if again { 0 } else { present }..).unwrap_or_default();
        self.received.extend(rest);
        self.receive_next = self.receive_next.wrapping_add(rest.len() as u32);
        self.acknowledge();
        true
    }

    /// What is to be sent.
    pub(crate) fn take_outbox(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.outbox)
    }

    /// When [`Tcp::timeout`] must be called.
    pub(crate) fn timer_us(&self) -> Option<u64> {
        self.timer_us.filter(|_| !matches!(self.state, State::Gone(_)))
    }

    /// The next sequence number that is expected.
    pub(crate) fn receive_next(&self) -> u32 {
        self.receive_next
    }

    /// The first of its own sequence numbers that the peer has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u32 {
        self.unacknowledged
    }

    /// Whether it can be frozen: open, and not about to close.
    pub(crate) fn is_movable(&self) -> bool {
        self.state == State::Open && !self.finishing && self.unsent_bytes() == 0
    }

    /// Takes a segment of the peer's.
    pub(crate) fn receive(&mut self, now_us: u64, segment: &Segment) {
        match self.state {
            State::SynSent => self.receive_in_syn_sent(now_us, segment),
            State::SynReceived => self.receive_in_syn_received(now_us, segment),
            State::Open => self.receive_open(now_us, segment),
            State::TimeWait if !segment.rst => self.challenge(now_us),
            State::TimeWait | State::Gone(_) => {}
        }
    }

    fn receive_open(&mut self, now_us: u64, segment: &Segment) {
        if segment.rst {
            if segment.sequence == self.receive_next {
                self.state = State::Gone(End::Reset);
            } else if after(segment.sequence, self.receive_next)
                && !after(segment.sequence, self.receive_next.wrapping_add(self.receive_window()))
            {
                self.challenge(now_us);
            }
            return;
        }
        if segment.syn {
            self.challenge(now_us);
            return;
        }
        let old = self.receive_next.wrapping_sub(segment.sequence) as i32;
        if old < 0 || old as u32 > segment.length() {
            // A gap, or long past.
            self.challenge(now_us);
            if old.unsigned_abs() > self.receive_bytes_max as u32 {
                return;
            }
        }
        if !self.receive_acknowledgement(now_us, segment) {
            return;
        }
        if old >= 0 {
            self.receive_payload(segment, old as usize);
        }
        if segment.length() > 0 {
            self.acknowledge();
        }
        self.end_if_done(now_us);
        self.transmit(now_us);
    }

    /// Whether the segment may be looked at further.
    fn receive_acknowledgement(&mut self, now_us: u64, segment: &Segment) -> bool {
        let Some(acknowledgement) = segment.acknowledgement else { return false };
        if after(acknowledgement, self.next) {
            self.challenge(now_us);
            return false;
        }
        if after(self.unacknowledged, acknowledgement) {
            return true;
        }
        let count = acknowledgement.wrapping_sub(self.unacknowledged) as usize;
        self.queue.drain(..count.min(self.queue.len()));
        self.unacknowledged = acknowledgement;
        self.window = segment.window;
        if count > 0 {
            self.attempts = 0;
            self.timer_us = None;
            if self.recover.is_some_and(|recover| after(recover, acknowledgement)) {
                self.repeat();
            } else {
                self.recover = None;
            }
        }
        true
    }

    fn receive_payload(&mut self, segment: &Segment, skip: usize) {
        if self.peer_finished || skip > segment.payload.len() {
            return;
        }
        let new = &segment.payload[skip..];
        let taken = new.len().min(self.receive_window() as usize);
        self.received.extend(&new[..taken]);
        self.receive_next = self.receive_next.wrapping_add(taken as u32);
        if segment.fin && taken == new.len() {
            self.peer_finished = true;
            self.receive_next = self.receive_next.wrapping_add(1);
        }
    }

    /// Time has passed: sends again, or gives up.
    pub(crate) fn timeout(&mut self, now_us: u64) {
        if self.timer_us().is_none_or(|at_us| now_us < at_us) {
            return;
        }
        self.timer_us = None;
        if self.state == State::TimeWait {
            self.state = State::Gone(End::Closed);
            return;
        }
        self.attempts += 1;
        if self.attempts > ATTEMPTS_MAX {
            self.state = State::Gone(End::Abandoned);
            return;
        }
        if self.unacknowledged == self.next {
            self.probe_closed_window();
        } else {
            self.recover = Some(self.next);
            self.repeat();
        }
        self.arm(now_us);
    }

    /// Sends what the window and the queue allow.
    fn transmit(&mut self, now_us: u64) {
        if self.state != State::Open {
            return;
        }
        while self.unsent_bytes() > 0 {
            let sent = self.next.wrapping_sub(self.unacknowledged) as usize;
            let room = (self.window as usize).saturating_sub(sent);
            let length = self.unsent_bytes().min(room).min(SEGMENT_BYTES_MAX);
            if length == 0 {
                break;
            }
            let mut segment = self.segment(self.next);
            segment.payload = self.queue.range(sent..sent + length).copied().collect();
            self.next = self.next.wrapping_add(length as u32);
            self.outbox.push(segment);
        }
        if self.finishing && !self.fin_sent && self.unsent_bytes() == 0 {
            let mut segment = self.segment(self.next);
            segment.fin = true;
            self.next = self.next.wrapping_add(1);
            self.fin_sent = true;
            self.outbox.push(segment);
        }
        self.arm(now_us);
    }

    /// Sends the first unacknowledged segment again.
    fn repeat(&mut self) {
        let mut segment = self.segment(self.unacknowledged);
        match self.state {
            State::SynSent | State::SynReceived => segment.syn = true,
            _ => {
                let sent = self.next.wrapping_sub(self.unacknowledged) as usize;
                let length = self.queue.len().min(sent).min(SEGMENT_BYTES_MAX);
                segment.payload = self.queue.range(..length).copied().collect();
                segment.fin = self.fin_sent && length == self.queue.len();
            }
        }
        self.outbox.push(segment);
    }

    fn probe_closed_window(&mut self) {
        if self.unsent_bytes() > 0 {
            let mut segment = self.segment(self.next);
            segment.payload = vec![self.queue[0]];
            self.next = self.next.wrapping_add(1);
            self.outbox.push(segment);
        }
    }

    fn arm(&mut self, now_us: u64) {
        let waits = self.unacknowledged != self.next || self.unsent_bytes() > 0;
        if waits && self.timer_us.is_none() && self.state != State::TimeWait {
            let pause_us = (self.first_pause_us << self.attempts.min(16)).min(PAUSE_US_MAX);
            self.timer_us = Some(now_us + pause_us);
        }
    }

    fn end_if_done(&mut self, now_us: u64) {
        let heard_out = self.peer_finished || self.is_behind_fin;
        if self.fin_sent && self.unacknowledged == self.next && heard_out {
            if self.is_passive {
                self.state = State::Gone(End::Closed);
            } else {
                self.state = State::TimeWait;
                self.timer_us = Some(now_us + TIME_WAIT_US);
            }
        }
    }

    /// Answers what makes no sense with where this end is.
    fn challenge(&mut self, now_us: u64) {
        let recently = |at_us| now_us < at_us + CHALLENGE_INTERVAL_US;
        if !self.challenged_us.is_some_and(recently) {
            self.challenged_us = Some(now_us);
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let segment = self.segment(self.next);
        self.outbox.push(segment);
    }

    fn receive_window(&self) -> u32 {
        self.receive_bytes_max.saturating_sub(self.received.len()) as u32
    }

    fn segment(&mut self, sequence: u32) -> Segment {
        let window = self.receive_window();
        self.announced = window;
        let acknowledgement = (self.state != State::SynSent).then_some(self.receive_next);
        Segment::new(self.flow, sequence, acknowledgement, window)
    }
}

#[cfg(test)]
mod tests;
