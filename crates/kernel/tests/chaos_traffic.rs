//! Frames over a cable between two namespaces suffer exactly what the shared decision says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::chaos::{
    Attachment, Chaos, Config, Counters, Hook, PPM, Probabilities, Rule, XdpMode,
};
use ashlar_kernel::testing::{
    LEFT_ADDRESS, LEFT_INTERFACE, NamespacePair, RIGHT_ADDRESS, RIGHT_INTERFACE, Side, ledger,
};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};
use support::frames::{Datagram, udp};
use support::interfaces::ethernet_address;
use support::packet_socket::PacketSocket;
use support::prediction::Prediction;
use support::{REQUIREMENTS, eventually};

const PORT: u16 = 9_000;
const OTHER_PORT: u16 = 9_001;
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
const FRAMES: u16 = 2_000;
const RULE: Rule = Rule::ANY.with_protocol(17).with_port(PORT);

/// A tenth each.
const SOME_OF_EACH: Probabilities =
    Probabilities { drop_ppm: PPM / 10, duplicate_ppm: PPM / 10, corrupt_ppm: PPM / 10 };

/// Frames for the right end, told apart by their payload; every fourth for another port.
fn distinct_frames(pair: &NamespacePair, count: u16) -> Vec<Vec<u8>> {
    let source = pair.run(Side::Left, || ethernet_address(LEFT_INTERFACE));
    let destination = pair.run(Side::Right, || ethernet_address(RIGHT_INTERFACE));
    let frame = |number: u16| {
        let mut payload = vec![number as u8; 20 + usize::from(number) % 900];
        payload[..2].copy_from_slice(&number.to_be_bytes());
        let port = if number % 4 == 3 { OTHER_PORT } else { PORT };
        let datagram = Datagram {
            source: (LEFT_ADDRESS.octets(), 4_000),
            destination: (RIGHT_ADDRESS.octets(), port),
            payload: &payload,
        };
        udp(source, destination, &datagram)
    };
    (0..count).map(frame).collect()
}

/// Sends in order: from one CPU, because each CPU has a queue of its own on the way.
fn send_in_order(frames: &[Vec<u8>]) {
    let mut first_cpu = CpuSet::new();
    first_cpu.set(0);
    sched_setaffinity(None, &first_cpu).unwrap();
    let mut socket = PacketSocket::open(LEFT_INTERFACE);
    frames.iter().for_each(|frame| socket.send(frame));
}

/// Where to attach so that frames from left to right meet the hook.
const fn place(attachment: Attachment) -> (Side, &'static str) {
    match attachment {
        Attachment::TcxEgress => (Side::Left, LEFT_INTERFACE),
        Attachment::Xdp(_) | Attachment::TcxIngress => (Side::Right, RIGHT_INTERFACE),
    }
}

fn attached(pair: &NamespacePair, attachment: Attachment, config: &Config) -> Chaos {
    let (side, interface) = place(attachment);
    pair.run(side, || {
        let mut chaos = Chaos::load().unwrap();
        chaos.configure(config).unwrap();
        chaos.attach(interface, attachment).unwrap();
        chaos
    })
}

/// Counters without the frames that a host sends on its own.
fn of_matching_frames(counters: Counters) -> Counters {
    Counters { unmatched: 0, ..counters }
}

fn every_byte_arrives_as_predicted(attachment: Attachment) {
    let pair = NamespacePair::create();
    let frames = distinct_frames(&pair, FRAMES);
    let config = Config::new(0xa5, RULE, SOME_OF_EACH).unwrap();
    let chaos = attached(&pair, attachment, &config);
    let hook = attachment.hook();

    let received = pair.run(Side::Right, || {
        let mut socket = PacketSocket::open(RIGHT_INTERFACE);
        pair.run(Side::Left, || send_in_order(&frames));
        socket.receive_all()
    });

    let mut prediction = Prediction::new(hook);
    let fates = frames.iter().map(|frame| prediction.judge(&config, frame));
    let mut expected: Vec<_> = fates.flat_map(|fate| vec![fate.frame; fate.copies]).collect();
    let mut received = received;
    // A copy may overtake the frames between.
    expected.sort();
    received.sort();
    assert_eq!(received.len(), expected.len(), "{attachment:?}");
    assert!(received == expected, "{attachment:?}: the same number of frames, but other bytes");

    let counters = chaos.counters(hook).unwrap();
    let copies = prediction.counters.duplicated;
    let expected = Counters { own_copies: copies, ..prediction.counters };
    assert_eq!(of_matching_frames(counters), of_matching_frames(expected), "{attachment:?}");
    assert!(counters.unmatched >= prediction.counters.unmatched, "{attachment:?}: {counters:?}");
    assert_eq!(copies > 0, hook != Hook::Xdp, "{attachment:?}");
}

#[test]
fn every_byte_arrives_as_predicted_past_native_xdp() {
    if ledger("every_byte_arrives_as_predicted_past_native_xdp", &REQUIREMENTS) {
        every_byte_arrives_as_predicted(Attachment::Xdp(XdpMode::Native));
    }
}

#[test]
fn every_byte_arrives_as_predicted_past_generic_xdp() {
    if ledger("every_byte_arrives_as_predicted_past_generic_xdp", &REQUIREMENTS) {
        every_byte_arrives_as_predicted(Attachment::Xdp(XdpMode::Generic));
    }
}

#[test]
fn every_byte_arrives_as_predicted_past_tcx_ingress() {
    if ledger("every_byte_arrives_as_predicted_past_tcx_ingress", &REQUIREMENTS) {
        every_byte_arrives_as_predicted(Attachment::TcxIngress);
    }
}

#[test]
fn every_byte_arrives_as_predicted_past_tcx_egress() {
    if ledger("every_byte_arrives_as_predicted_past_tcx_egress", &REQUIREMENTS) {
        every_byte_arrives_as_predicted(Attachment::TcxEgress);
    }
}

/// A UDP socket on the right, with room for everything that a test sends.
fn receiver(pair: &NamespacePair) -> UdpSocket {
    let socket = pair.run(Side::Right, || UdpSocket::bind((RIGHT_ADDRESS, PORT)).unwrap());
    set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).unwrap();
    socket
}

/// Everything that reaches a UDP socket until it is silent.
fn receive_datagrams(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut datagrams = Vec::new();
    let mut buffer = [0; 2_048];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => datagrams.push(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return datagrams,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("UDP socket: {error}"),
        }
    }
}

#[test]
fn sockets_lose_and_repeat_the_predicted_datagrams() {
    if !ledger("sockets_lose_and_repeat_the_predicted_datagrams", &REQUIREMENTS) {
        return;
    }
    let probabilities = Probabilities { drop_ppm: PPM / 5, duplicate_ppm: PPM / 5, corrupt_ppm: 0 };
    let config = Config::new(11, RULE, probabilities).unwrap();
    for attachment in
        [Attachment::Xdp(XdpMode::Native), Attachment::TcxIngress, Attachment::TcxEgress]
    {
        let pair = NamespacePair::create();
        let _chaos = attached(&pair, attachment, &config);
        let receiver = receiver(&pair);
        let sender = pair.run(Side::Left, || UdpSocket::bind((LEFT_ADDRESS, 0)).unwrap());
        for number in 0..500_u16 {
            // The sender never hears of a loss.
            assert_eq!(sender.send_to(&number.to_be_bytes(), (RIGHT_ADDRESS, PORT)).unwrap(), 2);
        }
        let mut received = receive_datagrams(&receiver);
        received.sort();

        let mut prediction = Prediction::new(attachment.hook());
        let like = &distinct_frames(&pair, 1)[0];
        let numbers =
            (0..500_u16).flat_map(|number| vec![number; prediction.judge(&config, like).copies]);
        let expected: Vec<_> = numbers.map(|number| number.to_be_bytes().to_vec()).collect();
        assert_eq!(received, expected, "{attachment:?}");
    }
}

#[test]
fn the_receiver_discards_corrupted_datagrams_by_their_checksums() {
    if !ledger("the_receiver_discards_corrupted_datagrams_by_their_checksums", &REQUIREMENTS) {
        return;
    }
    let config =
        Config::new(13, RULE, Probabilities { corrupt_ppm: PPM / 2, ..Probabilities::NONE })
            .unwrap();
    for attachment in
        [Attachment::Xdp(XdpMode::Native), Attachment::TcxIngress, Attachment::TcxEgress]
    {
        let pair = NamespacePair::create();
        let chaos = attached(&pair, attachment, &config);
        let receiver = receiver(&pair);
        // Whole frames: a UDP socket would leave the checksum to the virtual interface, which leaves it out.
        let frames = distinct_frames(&pair, 400);
        pair.run(Side::Left, || send_in_order(&frames));
        let received = receive_datagrams(&receiver);

        let counters = chaos.counters(attachment.hook()).unwrap();
        assert_eq!(counters.matched(), 300, "{attachment:?}");
        assert!(counters.corrupted > 100 && counters.spared > 100, "{attachment:?}: {counters:?}");
        assert_eq!(received.len() as u64, counters.spared, "{attachment:?}");
        for payload in received {
            assert!(
                frames.iter().any(|frame| frame.ends_with(&payload)),
                "{attachment:?}: a changed datagram arrived"
            );
        }
    }
}

#[test]
fn a_configuration_is_in_force_when_configure_returns() {
    if !ledger("a_configuration_is_in_force_when_configure_returns", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let drop =
        Config::new(1, RULE, Probabilities { drop_ppm: PPM, ..Probabilities::NONE }).unwrap();
    let pass = Config::new(1, RULE, Probabilities::NONE).unwrap();
    let mut chaos = attached(&pair, Attachment::TcxIngress, &drop);
    let receiver = receiver(&pair);
    let sender = pair.run(Side::Left, || UdpSocket::bind((LEFT_ADDRESS, 0)).unwrap());
    for round in 0..3_u64 {
        for (config, arriving) in [(&drop, 0), (&pass, 20)] {
            chaos.configure(config).unwrap();
            (0..20).for_each(|_| {
                assert_eq!(sender.send_to(b"stone", (RIGHT_ADDRESS, PORT)).unwrap(), 5)
            });
            assert_eq!(receive_datagrams(&receiver).len(), arriving, "round {round}");
        }
        let counters = chaos.counters(Hook::TcxIngress).unwrap();
        assert_eq!((counters.dropped, counters.spared), (20 * (round + 1), 20 * (round + 1)));
    }
}

#[test]
fn no_frame_meets_half_a_configuration() {
    if !ledger("no_frame_meets_half_a_configuration", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let certain = |probabilities| Config::new(1, RULE, probabilities).unwrap();
    let drop = certain(Probabilities { drop_ppm: PPM, ..Probabilities::NONE });
    let corrupt = certain(Probabilities { corrupt_ppm: PPM, ..Probabilities::NONE });
    let mut chaos = attached(&pair, Attachment::TcxIngress, &drop);
    let frame = distinct_frames(&pair, 1);
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            pair.run(Side::Left, || {
                let mut socket = PacketSocket::open(LEFT_INTERFACE);
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    socket.send(&frame[0]);
                    sent += 1;
                }
                sent
            })
        });
        for config in [&corrupt, &drop].into_iter().cycle().take(100) {
            chaos.configure(config).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    // The last frames may still be on their way; some of so many may have been lost before.
    let mut last = None;
    eventually("no frame arrives any more", || {
        let before = last.replace(chaos.counters(Hook::TcxIngress).unwrap());
        before == last
    });
    let counters = last.unwrap();
    assert!(counters.dropped > 0 && counters.corrupted > 0, "{counters:?}");
    // A frame that met the zeros of both configurations would have been spared.
    assert_eq!(counters.spared, 0, "{counters:?}");
    assert!(counters.dropped + counters.corrupted <= sent);
}
