//! The steering program, run in user space from the shared decisions, with a map in place of the kernel's.

use super::steering::{CONTROL_IPV4, CONTROL_IPV6, CONTROL_PORT, key};
use ashlar_fastpath::frame::{ETHERNET_HEADER_BYTES, FrameBytes as _};
use ashlar_fastpath::steering::{
    CONTROL_FRAME_BYTES, Class, Config, ControlError, ControlFrame, Counters, Decision, Effect,
    Entry, EntryOrNone, Freshness, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, Packet, Place,
    ReplayWindow, answer_ipv4, answer_ipv6, decide, judge,
};
use ashlar_kernel::steering::{
    ControlAddresses, Counter, Fate, FlowKey, FlowState, MacAddress, PassReason, ResultCode,
    Verdict,
};
use std::collections::HashMap;

pub(crate) struct Model {
    config: Config,
    flows_max: usize,
    pub(crate) flows: HashMap<FlowKey, Entry>,
    windows: Vec<ReplayWindow>,
    pub(crate) counters: Counters,
}

/// What should become of a frame. Of a reply, the UDP checksum is still the request's, and the tag is the model's.
pub(crate) struct Expected {
    pub(crate) counter: Counter,
    pub(crate) fate: Fate,
    pub(crate) frame: Vec<u8>,
}

impl Model {
    pub(crate) fn new(mac: MacAddress, incarnation: u64, flows_max: u32, senders_max: u32) -> Self {
        let control = ControlAddresses {
            ipv4: Some(CONTROL_IPV4),
            ipv6: Some(CONTROL_IPV6),
            port: CONTROL_PORT,
        };
        Self {
            config: Config::new(mac, control, &key(), incarnation),
            flows_max: flows_max as usize,
            flows: HashMap::new(),
            windows: vec![ReplayWindow::default(); senders_max as usize],
            counters: Counters::default(),
        }
    }

    /// The flow that a frame is of, or that a control frame speaks of.
    pub(crate) fn flow(&self, frame: &[u8], place: Place) -> Option<FlowKey> {
        let packet = Packet::parse(frame, &self.config, place);
        match packet.class {
            Class::Tcp => Some(packet.key),
            Class::Control => Some(payload(frame, &packet)?.flow()),
            _ => None,
        }
    }

    /// Takes over when the kernel saw the flow last: its clock is its own.
    pub(crate) fn set_time(&mut self, flow: &FlowKey, state: FlowState) {
        if let Some(entry) = self.flows.get_mut(flow) {
            entry.last_seen_ns = state.last_seen_ns;
        }
    }

    pub(crate) fn run(&mut self, frame: &[u8], place: Place, now_ns: u64) -> Expected {
        let packet = Packet::parse(frame, &self.config, place);
        let mut expected =
            Expected { counter: Counter::Other, fate: Fate::Passed, frame: frame.to_vec() };
        match packet.class {
            Class::Tcp => self.steer(&packet, place, now_ns, &mut expected),
            Class::Control => self.control(&packet, now_ns, &mut expected),
            class => expected.counter = Counter::of_class(class).unwrap(),
        }
        self.counters.count(expected.counter);
        expected
    }

    fn steer(&mut self, packet: &Packet, place: Place, now_ns: u64, expected: &mut Expected) {
        let identity = Entry::identity_of(packet.key.digest());
        let found =
            self.flows.get(&packet.key).copied().map_or(EntryOrNone::NONE, EntryOrNone::some);
        let destination = MacAddress(expected.frame.read::<6>(0).unwrap());
        let judgement = judge(&found, identity, destination, packet.tcp_flags, now_ns);
        if judgement.close {
            self.flows.get_mut(&packet.key).unwrap().closing = 1;
        }
        expected.counter = match judgement.verdict {
            Verdict::Pass(PassReason::NoFlow) => Counter::NoFlow,
            Verdict::Pass(PassReason::OwnedHere) => Counter::OwnedHere,
            Verdict::Steer(owner) => {
                expected.frame[..6].copy_from_slice(&owner.0);
                if place == Place::Host {
                    expected.fate = Fate::Sent;
                    expected.frame[6..12].copy_from_slice(&self.config.mac().0);
                }
                Counter::Steered
            }
            Verdict::PassAndForget => {
                self.flows.remove(&packet.key).unwrap();
                Counter::ForgottenBySyn
            }
        };
    }

    fn control(&mut self, packet: &Packet, now_ns: u64, expected: &mut Expected) {
        expected.fate = Fate::Dropped;
        let Some(mut message) = payload(&expected.frame, packet) else {
            expected.counter = Counter::ControlMalformed;
            return;
        };
        let key_words = self.config.key_words();
        if let Err(error) = message.check(key_words) {
            expected.counter = match error {
                ControlError::Malformed => Counter::ControlMalformed,
                ControlError::Forged => Counter::ControlForged,
            };
            return;
        }
        let incarnation = self.config.incarnation();
        let (result, state) = if message.incarnation() != incarnation {
            (ResultCode::WrongIncarnation, EntryOrNone::NONE)
        } else {
            let Some(window) = self.windows.get_mut(usize::from(message.sender())) else {
                expected.counter = Counter::ControlSenderUnknown;
                return;
            };
            let Freshness::Fresh(after) = window.accept(message.counter()) else {
                expected.counter = Counter::ControlReplayed;
                return;
            };
            *window = after;
            self.execute(&message, now_ns)
        };
        message.turn(result, &state, incarnation, key_words);
        expected.counter = Counter::of_result(result);
        expected.fate = Fate::Sent;
        turn_headers(&mut expected.frame, packet, self.config.mac());
        let start = packet.transport_offset_bytes as usize + 8;
        expected.frame[start..start + CONTROL_FRAME_BYTES].copy_from_slice(message.bytes());
    }

    fn execute(&mut self, message: &ControlFrame, now_ns: u64) -> (ResultCode, EntryOrNone) {
        let flow = message.flow();
        let found = self.flows.get(&flow).copied().map_or(EntryOrNone::NONE, EntryOrNone::some);
        let identity = Entry::identity_of(flow.digest());
        let Decision { result, effect, after } = decide(&found, message, identity, now_ns);
        match effect {
            Effect::None => {}
            Effect::Insert if self.flows.len() == self.flows_max => {
                return (ResultCode::TableFull, EntryOrNone::NONE);
            }
            Effect::Insert | Effect::Update => {
                self.flows.insert(flow, after.entry);
            }
            Effect::Remove => {
                self.flows.remove(&flow).unwrap();
            }
        }
        (result, after)
    }
}

/// The control frame in a datagram to the control address, if it is where it must be.
fn payload(frame: &[u8], packet: &Packet) -> Option<ControlFrame> {
    let header_bytes = if packet.is_ipv6 { IPV6_HEADER_BYTES } else { IPV4_HEADER_BYTES };
    if packet.transport_offset_bytes != ETHERNET_HEADER_BYTES + header_bytes as u32
        || frame.read::<2>(packet.transport_offset_bytes + 4)? != 104_u16.to_be_bytes()
    {
        return None;
    }
    let bytes = frame.read::<CONTROL_FRAME_BYTES>(packet.transport_offset_bytes + 8)?;
    let mut message = ControlFrame::ZERO;
    for (word, bytes) in message.words_mut().iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap());
    }
    Some(message)
}

fn turn_headers(frame: &mut [u8], packet: &Packet, own: MacAddress) {
    let asker = frame.read::<6>(6).unwrap();
    frame[..6].copy_from_slice(&asker);
    frame[6..12].copy_from_slice(&own.0);
    if packet.is_ipv6 {
        let header = answer_ipv6(&packet.key.service_address, &packet.key.client_address);
        frame[21..54].copy_from_slice(&header);
    } else {
        let header = answer_ipv4(frame.read(ETHERNET_HEADER_BYTES).unwrap());
        frame[14..34].copy_from_slice(&header);
    }
    let udp = packet.transport_offset_bytes as usize;
    frame[udp..udp + 4].rotate_left(2);
}
