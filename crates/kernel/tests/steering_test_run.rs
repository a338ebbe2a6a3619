//! The steering programs, run by the kernel on single frames, do what the shared decisions say: fate, bytes, table and counters.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::chaos::XdpMode;
use ashlar_kernel::steering::{
    Attach, ControlKey, Counter, Counters, Description, Fate, FlowKey, FlowState, MacAddress,
    Operation, Owner, Place, Reply, Request, ResultCode, Settings, Steering, TCP_ACK, TCP_FIN,
    TCP_RST, TCP_SYN, now_ns,
};
use ashlar_kernel::testing::{NamespacePair, RIGHT_INTERFACE, Side, ledger};
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use support::REQUIREMENTS;
use support::frames;
use support::steering::{
    CONTROL_IPV4, CONTROL_IPV6, CONTROL_PORT, ONE, OWN_SENDER, TWO, key, settings,
};
use support::steering_frames::{Envelope, UDP, transport_checksum};
use support::steering_model::{Expected, Model};

const FRAMES: u32 = 150_000;
/// The clock is read twice, on a machine that may have something else to do in between.
const CLOCKS_APART_MAX_NS: u64 = 5_000_000_000;
const SEED: u64 = 0x51ee_0a11;
/// Less than there are flows: the table is full now and then.
const FLOWS_MAX: u32 = 10;
const SENDERS_MAX: u32 = 6;
const XDP: Attach = Attach::Xdp(XdpMode::Native);
const CLIENT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 9]);

/// Steering that knows an interface's address and is attached nowhere: no stray frame is counted.
fn steering_of_an_interface() -> Steering {
    NamespacePair::create().run(Side::Right, || {
        let settings = Settings { flows_max: FLOWS_MAX, senders_max: SENDERS_MAX, ..settings() };
        let mut steering = Steering::load(&settings).unwrap();
        steering.attach(RIGHT_INTERFACE, Attach::Tc).unwrap();
        steering.detach();
        steering
    })
}

/// Frames, drawn so that they meet in few flows and few numbers.
struct Source {
    random: Pcg64Mcg,
    own: MacAddress,
    incarnation: u64,
    counters: [u64; SENDERS_MAX as usize + 1],
    /// Sent before, to be repeated.
    sent: Vec<Vec<u8>>,
}

impl Source {
    fn frame(&mut self, known: &dyn Fn(&FlowKey) -> Option<FlowState>) -> Vec<u8> {
        let mut frame = match self.random.random_range(0..20) {
            0..=8 => self.tcp(),
            9..=16 => self.control(known),
            17 => self.sent.choose(&mut self.random).cloned().unwrap_or_else(|| vec![0; 60]),
            _ => frames::any(&mut self.random),
        };
        if self.random.random_ratio(1, 4) && frame.len() >= 6 {
            frame[..6].copy_from_slice(&self.own.0);
        }
        if self.random.random_ratio(1, 32) {
            frame.truncate(self.random.random_range(14..=frame.len()));
        }
        frame
    }

    fn place(&mut self) -> Place {
        if self.random.random_ratio(1, 3) { Place::Port } else { Place::Host }
    }

    fn flow(&mut self) -> FlowKey {
        let port = 40_000 + self.random.random_range(0..8);
        let ends: [&str; 2] =
            *[["10.99.0.7", "10.99.0.2"], ["fd99::7", "fd99::2"]].choose(&mut self.random).unwrap();
        let [client, service] = ends.map(|text| text.parse::<IpAddr>().unwrap());
        FlowKey::new(SocketAddr::from((client, port)), SocketAddr::from((service, 80)))
    }

    fn envelope(&mut self) -> Envelope {
        let option_words =
            if self.random.random_ratio(1, 8) { self.random.random_range(0..=10) } else { 0 };
        let destination = match self.random.random_range(0..16) {
            0 => CLIENT_MAC,
            1 => ONE.mac,
            2 => MacAddress([0xff; 6]),
            _ => self.own,
        };
        Envelope { source: CLIENT_MAC, destination, option_words }
    }

    fn tcp(&mut self) -> Vec<u8> {
        const FLAGS: [u8; 6] = [TCP_ACK, TCP_ACK, TCP_SYN, TCP_SYN, TCP_FIN | TCP_ACK, TCP_RST];
        let tcp_flags = match FLAGS.choose(&mut self.random) {
            Some(flags) if self.random.random_ratio(7, 8) => *flags,
            _ => self.random.random(),
        };
        let flow = self.flow();
        let mut frame = self.envelope().tcp(&flow, tcp_flags, b"squared stones");
        if self.random.random_ratio(1, 16) {
            // A fragment, in IPv4.
            frame[20] = self.random.random();
        }
        frame
    }

    fn operation(&mut self, known: &dyn Fn(&FlowKey) -> Option<FlowState>) -> Operation {
        let flow = self.flow();
        let epoch = self.random.random_range(1..20);
        let here = Owner { mac: self.own, id: 3 };
        let owner = *[ONE, TWO, here].choose(&mut self.random).unwrap();
        let closing = self.random.random_ratio(1, 8);
        match self.random.random_range(0..10) {
            0..=4 => Operation::Point { flow, owner, epoch, closing },
            5 => Operation::Claim { flow, owner, epoch, closing },
            6..=7 => Operation::Forget { flow, epoch },
            8 => {
                let state = known(&flow);
                let exact = state.map_or((epoch, 1), |state| (state.epoch, state.last_seen_ns));
                let stale = u64::from(self.random.random_ratio(1, 4));
                Operation::Expire { flow, epoch: exact.0, last_seen_ns: exact.1 - stale }
            }
            _ => Operation::Query { flow },
        }
    }

    fn control(&mut self, known: &dyn Fn(&FlowKey) -> Option<FlowState>) -> Vec<u8> {
        let sender = self.random.random_range(0..=SENDERS_MAX as u16);
        let highest = &mut self.counters[usize::from(sender)];
        let counter = match self.random.random_range(0..16) {
            // Behind: within the window or not.
            0..=2 => highest.saturating_sub(self.random.random_range(0..100)).max(1),
            3 => *highest + self.random.random_range(1..200),
            _ => *highest + 1,
        };
        *highest = (*highest).max(counter);
        let incarnation = match self.random.random_range(0..16) {
            0 => 0,
            1 => self.random.random(),
            _ => self.incarnation,
        };
        let operation = self.operation(known);
        let request = Request { sender, counter, incarnation, operation };
        let key = if self.random.random_ratio(1, 16) { ControlKey::new([9; 16]) } else { key() };
        let mut payload = request.seal(&key).bytes().to_vec();
        if self.random.random_ratio(1, 16) {
            let byte = self.random.random_range(0..payload.len());
            payload[byte] ^= 1 << self.random.random_range(0..8);
        }
        if self.random.random_ratio(1, 16) {
            payload.resize(self.random.random_range(0..200), 0);
        }
        let frame = self.control_datagram(&payload);
        if self.sent.len() < 200 || self.random.random_ratio(1, 100) {
            self.sent.push(frame.clone());
        }
        frame
    }

    fn control_datagram(&mut self, payload: &[u8]) -> Vec<u8> {
        let (source, destination): (IpAddr, IpAddr) = if self.random.random() {
            ("10.99.0.9".parse().unwrap(), CONTROL_IPV4.into())
        } else {
            ("fd99::9".parse().unwrap(), CONTROL_IPV6.into())
        };
        let port = self.random.random();
        let envelope = self.envelope();
        let (source, destination) =
            (SocketAddr::from((source, port)), SocketAddr::from((destination, CONTROL_PORT)));
        let mut frame = envelope.udp(source, destination, payload);
        if source.is_ipv4() && envelope.option_words == 0 && self.random.random_ratio(1, 4) {
            // Without a checksum, as IPv4 allows.
            frame[40..42].fill(0);
        }
        frame
    }
}

fn known(steering: &Steering, flow: &FlowKey) -> Option<FlowState> {
    steering.explain(&Description { flow: *flow, tcp_flags: 0 }).unwrap().state
}

fn compare_random_frames(attach: Attach) {
    let mut steering = steering_of_an_interface();
    let (own, incarnation) = (steering.mac(), steering.incarnation());
    assert!(own.is_unicast());
    let random = Pcg64Mcg::seed_from_u64(SEED ^ u64::from(attach == Attach::Tc));
    let counters = [1_000; SENDERS_MAX as usize + 1];
    let mut source = Source { random, own, incarnation, counters, sent: Vec::new() };
    let mut model = Model::new(own, incarnation, FLOWS_MAX, SENDERS_MAX);
    let mut steered_at_ports = 0;
    for number in 0..FRAMES {
        let mut frame = source.frame(&|flow| known(&steering, flow));
        // All programs share one table.
        let place = source.place();
        if attach == Attach::Tc {
            frame = frames::lengthen_for_traffic_control(frame);
        }
        if let Some((flow, state)) =
            model.flow(&frame, place).and_then(|flow| Some((flow, known(&steering, &flow)?)))
        {
            model.set_time(&flow, state);
        }
        let about = || format!("{attach:?} {place:?}, frame {number} {frame:02x?}");
        let run = steering.test_run(attach, place, &frame, 1).unwrap();
        let expected = model.run(&frame, place, now_ns());
        assert_eq!(run.fate, expected.fate, "{:?}: {}", expected.counter, about());
        compare_bytes(attach, &frame, &run.frame, &expected, &about);
        steered_at_ports += u32::from(place == Place::Port && expected.counter == Counter::Steered);
        if number % 16 == 0 {
            assert_eq!(steering.counters().unwrap(), model.counters, "{}", about());
            compare_tables(&steering, &model, &about);
        }
    }
    assert_eq!(steering.counters().unwrap(), model.counters);
    everything_happened(&model.counters);
    assert!(steered_at_ports > 1_000, "{steered_at_ports} frames");
}

fn compare_bytes(
    attach: Attach,
    request: &[u8],
    frame: &[u8],
    expected: &Expected,
    place: &dyn Fn() -> String,
) {
    let is_reply = expected.fate == Fate::Sent && expected.counter != Counter::Steered;
    if !is_reply {
        assert_eq!(frame, expected.frame, "{}", place());
        return;
    }
    let is_ipv4 = frame[12..14] == [8, 0];
    let udp = if is_ipv4 { 34 } else { 54 };
    let (checksum, payload) = (udp + 6..udp + 8, udp + 8..udp + 104);
    assert_eq!(frame[..checksum.start], expected.frame[..checksum.start], "{}", place());
    assert_eq!(frame[payload.end..], expected.frame[payload.end..], "{}", place());
    let reply = Reply::open(&frame[payload.clone()], &key()).unwrap();
    let mut like = Reply::open(&expected.frame[payload.clone()], &key()).unwrap();
    // The kernel's clock is its own.
    if let (Some(state), Some(like)) = (reply.state, &mut like.state) {
        assert!(
            state.last_seen_ns.abs_diff(like.last_seen_ns) < CLOCKS_APART_MAX_NS,
            "{}",
            place()
        );
        like.last_seen_ns = state.last_seen_ns;
    }
    assert_eq!(reply, like, "{}", place());

    let (source, destination) = addresses(frame, is_ipv4);
    let is_right =
        |frame: &[u8]| transport_checksum(source, destination, UDP, &frame[udp..payload.end]) == 0;
    if attach == Attach::Tc && request[checksum.clone()] == [0; 2] {
        assert_eq!(frame[checksum], [0; 2], "none stays none: {}", place());
    } else if attach != Attach::Tc || is_right(request) {
        assert!(is_right(frame), "{}", place());
    }
}

fn addresses(frame: &[u8], is_ipv4: bool) -> (IpAddr, IpAddr) {
    if is_ipv4 {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        (address(26), address(30))
    } else {
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        (address(22), address(38))
    }
}

fn compare_tables(steering: &Steering, model: &Model, place: &dyn Fn() -> String) {
    let mut count = 0;
    for flow in steering.flows().unwrap() {
        let (flow, state) = flow.unwrap();
        let like = FlowState { last_seen_ns: state.last_seen_ns, ..model.flows[&flow].into() };
        assert_eq!(state, like, "{}", place());
        count += 1;
    }
    assert_eq!(count, model.flows.len(), "{}", place());
}

/// The comparison is worth something only if everything was compared.
fn everything_happened(counters: &Counters) {
    use Counter::{ControlBusy, ControlContended, ForgetContended, Unconfigured, WriteFailed};
    let impossible_here =
        [ControlBusy, ControlContended, ForgetContended, Unconfigured, WriteFailed];
    for (counter, count) in counters.iter() {
        let enough = if impossible_here.contains(&counter) { count == 0 } else { count > 100 };
        assert!(enough, "{}: {count}", counter.name());
    }
}

#[test]
fn steering_xdp_decides_as_user_space_on_random_frames() {
    if ledger("steering_xdp_decides_as_user_space_on_random_frames", &REQUIREMENTS) {
        compare_random_frames(XDP);
    }
}

#[test]
fn steering_tc_decides_as_user_space_on_random_frames() {
    if ledger("steering_tc_decides_as_user_space_on_random_frames", &REQUIREMENTS) {
        compare_random_frames(Attach::Tc);
    }
}

#[test]
fn a_request_acts_once_and_tells_forgers_nothing() {
    if !ledger("a_request_acts_once_and_tells_forgers_nothing", &REQUIREMENTS) {
        return;
    }
    let mut steering = steering_of_an_interface();
    let envelope = Envelope { source: CLIENT_MAC, destination: steering.mac(), option_words: 0 };
    let flow = support::steering::flow(1);
    let operation = Operation::Point { flow, owner: ONE, epoch: 1, closing: false };
    let datagram = |incarnation, key: &ControlKey| {
        let request = Request { sender: OWN_SENDER + 1, counter: 77, incarnation, operation };
        let source = SocketAddr::from(([10, 99, 0, 9], 5_000));
        let destination = SocketAddr::from((CONTROL_IPV4, CONTROL_PORT));
        envelope.udp(source, destination, request.seal(key).bytes())
    };
    let incarnation = steering.incarnation();
    let mut fate = |frame: &[u8]| steering.test_run(XDP, Place::Host, frame, 1).unwrap();
    let reply = |frame: &[u8]| Reply::open(&frame[42..], &key()).unwrap();

    // Whoever does not know the table's life is told, and nothing happens: also to frames that were recorded in an earlier life.
    let asked = fate(&datagram(0, &key()));
    assert_eq!(asked.fate, Fate::Sent);
    assert_eq!((reply(&asked.frame).incarnation, reply(&asked.frame).state), (incarnation, None));
    assert_eq!(fate(&datagram(incarnation, &ControlKey::new([0; 16]))).fate, Fate::Dropped);
    let applied = fate(&datagram(incarnation, &key()));
    assert_eq!(reply(&applied.frame).state.unwrap().owner, ONE);
    assert_eq!(fate(&datagram(incarnation, &key())).fate, Fate::Dropped, "a repetition");

    let counters = steering.counters().unwrap();
    for counter in [
        Counter::ControlWrongIncarnation,
        Counter::ControlForged,
        Counter::ControlApplied,
        Counter::ControlReplayed,
    ] {
        assert_eq!(counters.get(counter), 1, "{}", counter.name());
    }
}

/// Owners of this test name the epoch that pointed at them.
fn owner_of_epoch(epoch: u64) -> Owner {
    support::steering::owner(u16::try_from(epoch).unwrap())
}

#[test]
fn frames_follow_a_point_that_was_answered() {
    if !ledger("frames_follow_a_point_that_was_answered", &REQUIREMENTS) {
        return;
    }
    const EPOCHS: u64 = 20_000;
    let mut steering = steering_of_an_interface();
    let envelope = Envelope { source: CLIENT_MAC, destination: steering.mac(), option_words: 0 };
    let flow = support::steering::flow(1);
    let frame = envelope.tcp(&flow, TCP_ACK, b"");
    let mut executor = steering.executor();
    let answered = AtomicU64::new(0);
    let mut steered = 0_u64;
    thread::scope(|scope| {
        let pointing = scope.spawn(|| {
            for epoch in 1..=EPOCHS {
                let owner = owner_of_epoch(epoch);
                let operation = Operation::Point { flow, owner, epoch, closing: false };
                assert_eq!(executor.execute(&operation).unwrap().result, ResultCode::Applied);
                answered.store(epoch, Ordering::SeqCst);
                // Entries come and go in the memory nearby.
                let other = support::steering::flow(2 + epoch as u32 % 4);
                let point = Operation::Point { flow: other, owner: TWO, epoch, closing: false };
                executor.execute(&point).unwrap();
                executor.execute(&Operation::Forget { flow: other, epoch }).unwrap();
            }
        });
        // Also when it fails.
        while !pointing.is_finished() {
            let before = answered.load(Ordering::SeqCst);
            let run = steering.test_run(XDP, Place::Host, &frame, 1).unwrap();
            let after = answered.load(Ordering::SeqCst);
            if run.fate == Fate::Passed {
                assert_eq!(before, 0, "the flow is in the table");
                continue;
            }
            let [.., high, low] = <[u8; 6]>::try_from(&run.frame[..6]).unwrap();
            let epoch = u64::from(u16::from_be_bytes([high, low]));
            assert_eq!(run.frame[..6], owner_of_epoch(epoch).mac.0);
            assert!((before..=after + 1).contains(&epoch), "{epoch} between {before} and {after}");
            steered += 1;
        }
    });
    assert!(steered > 1_000, "{steered} frames");
}
