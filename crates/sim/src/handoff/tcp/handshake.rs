//! How a connection begins.

use super::{
    End, Sizes, State, Tcp,
    segment::{Segment, after},
};

impl Tcp {
    /// Begins a connection.
    pub(crate) fn connect(now_us: u64, flow: usize, sequence: u32, sizes: Sizes) -> Self {
        let mut tcp = Self::new(flow, State::SynSent, sequence, 0, sizes);
        tcp.next = sequence.wrapping_add(1);
        tcp.repeat();
        tcp.arm(now_us);
        tcp
    }

    /// Answers the beginning of one.
    pub(crate) fn accept(now_us: u64, syn: &Segment, sequence: u32, sizes: Sizes) -> Self {
        let receive_next = syn.sequence.wrapping_add(1);
        let mut tcp = Self::new(syn.flow, State::SynReceived, sequence, receive_next, sizes);
        tcp.window = syn.window;
        tcp.next = sequence.wrapping_add(1);
        tcp.repeat();
        tcp.arm(now_us);
        tcp
    }

    pub(super) fn receive_in_syn_sent(&mut self, now_us: u64, segment: &Segment) {
        let is_ours = segment.acknowledgement == Some(self.next);
        if segment.rst {
            if is_ours {
                self.state = State::Gone(End::Reset);
            }
        } else if let Some(acknowledgement) = segment.acknowledgement
            && !is_ours
        {
            // Of an earlier connection: whoever believes in it shall know.
            self.outbox.push(self_reset(self.flow, acknowledgement));
        } else if segment.syn && is_ours {
            self.receive_next = segment.sequence.wrapping_add(1);
            self.open(segment);
            self.acknowledge();
            self.transmit(now_us);
        }
    }

    pub(super) fn receive_in_syn_received(&mut self, now_us: u64, segment: &Segment) {
        if segment.rst {
            if segment.sequence == self.receive_next {
                self.state = State::Gone(End::Reset);
            }
        } else if segment.syn {
            if segment.sequence.wrapping_add(1) == self.receive_next {
                self.repeat();
            } else if after(segment.sequence, self.receive_next) {
                // The client has given up and begun anew.
                self.challenge(now_us);
            }
        } else if segment.acknowledgement == Some(self.next) {
            self.open(segment);
            self.receive_open(now_us, segment);
        } else if let Some(acknowledgement) = segment.acknowledgement {
            self.outbox.push(self_reset(self.flow, acknowledgement));
        }
    }

    fn open(&mut self, segment: &Segment) {
        self.state = State::Open;
        self.unacknowledged = self.next;
        self.window = segment.window;
        (self.attempts, self.timer_us, self.recover) = (0, None, None);
    }
}

fn self_reset(flow: usize, sequence: u32) -> Segment {
    Segment::new(flow, sequence, None, 0).reset()
}
