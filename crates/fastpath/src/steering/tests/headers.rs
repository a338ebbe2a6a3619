//! Which frames are recognised, and as what.

use super::*;
use crate::frame::{PROTOCOL_TCP, PROTOCOL_UDP};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const TCP_HEADER: [u8; 20] =
    [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, TCP_SYN, 1, 0, 0, 0, 0, 0];

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = OWN.0.to_vec();
    frame.extend([2, 0, 0, 0, 0, 99]);
    frame.extend(ethertype.to_be_bytes());
    frame
}

fn ipv4(protocol: u8, option_words: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    frame.extend([0x45 + option_words, 0, 0, 40, 0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0, 10, 77, 0, 99, 10, 77, 0, 10]);
    frame.extend(vec![1; usize::from(option_words) * 4]);
    frame.extend(payload);
    frame
}

fn ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, 20, protocol, 64]);
    frame.extend(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 99).octets());
    frame.extend(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 10).octets());
    frame.extend(payload);
    frame
}

fn parse(frame: &[u8]) -> Packet {
    Packet::parse(frame, &config(), Place::Host)
}

#[test]
fn tcp_over_ipv4_is_a_flow_with_and_without_options() {
    for option_words in [0, 1, 10] {
        let packet = parse(&ipv4(PROTOCOL_TCP, option_words, 0x4000, &TCP_HEADER));
        assert_eq!(packet.class, Class::Tcp);
        assert_eq!(packet.key, flow(40_000), "{option_words} words of options");
        assert_eq!(packet.tcp_flags, TCP_SYN);
        assert_eq!(packet.transport_offset_bytes, 34 + u32::from(option_words) * 4);
    }
}

#[test]
fn tcp_over_ipv6_is_a_flow() {
    let packet = parse(&ipv6(PROTOCOL_TCP, &TCP_HEADER));
    let client = "[fd77::99]:40000".parse().unwrap();
    let expected = FlowKey::new(client, "[fd77::10]:80".parse().unwrap());
    // Written as hexadecimal, 99 is 0x63 and 10 is 0xa.
    assert_ne!(packet.key, expected);
    let client = "[fd77::63]:40000".parse().unwrap();
    assert_eq!(packet.key, FlowKey::new(client, "[fd77::a]:80".parse().unwrap()));
    assert_eq!((packet.class, packet.is_ipv6), (Class::Tcp, true));
}

#[test]
fn a_flow_reads_back_what_it_was_made_of() {
    for (client, service) in
        [("10.1.2.3:4", "10.5.6.7:8"), ("[fd00::1]:65535", "[2001:db8::2]:443")]
    {
        let (client, service) = (client.parse().unwrap(), service.parse().unwrap());
        let flow = FlowKey::new(client, service);
        assert_eq!((flow.client(), flow.service()), (client, service));
    }
    assert_eq!(std::format!("{}", flow(7)), "10.77.0.99:7 -> 10.77.0.10:80");
}

#[test]
fn at_a_port_tcp_to_any_one_host_is_a_flow() {
    let at_port = |frame: &[u8]| Packet::parse(frame, &config(), Place::Port);
    let mut frame = ipv4(PROTOCOL_TCP, 0, 0x4000, &TCP_HEADER);
    for destination in [OWN, ONE.mac, MacAddress([0x9a, 1, 2, 3, 4, 5])] {
        frame[..6].copy_from_slice(&destination.0);
        assert_eq!((at_port(&frame).class, at_port(&frame).key), (Class::Tcp, flow(40_000)));
        assert_eq!(parse(&frame).class == Class::Tcp, destination == OWN);
    }
    for destination in [MacAddress::NONE, MacAddress([0xff; 6]), MacAddress([1, 0, 0x5e, 0, 0, 1])]
    {
        frame[..6].copy_from_slice(&destination.0);
        assert_eq!(at_port(&frame).class, Class::NotAddressedHere, "{destination}");
    }
}

#[test]
fn a_port_lets_control_frames_pass() {
    let [high, low] = CONTROL_PORT.to_be_bytes();
    let header = [0, 7, high, low, 0, 8, 0, 0];
    let frame = ipv4(PROTOCOL_UDP, 0, 0, &header);
    assert_eq!(parse(&frame).class, Class::Control);
    assert_eq!(Packet::parse(frame.as_slice(), &config(), Place::Port).class, Class::Other);
}

#[test]
fn fragments_are_told_from_whole_datagrams() {
    let more_fragments = 0x2000;
    for fragment in [more_fragments, 1, more_fragments | 185] {
        assert_eq!(parse(&ipv4(PROTOCOL_TCP, 0, fragment, &TCP_HEADER)).class, Class::Fragment);
    }
    assert_eq!(parse(&ipv6(44, &TCP_HEADER)).class, Class::Fragment);
}

#[test]
fn what_steering_does_not_follow_is_other() {
    for protocol in [1, 58, 132] {
        assert_eq!(parse(&ipv4(protocol, 0, 0, &TCP_HEADER)).class, Class::Other);
        assert_eq!(parse(&ipv6(protocol, &TCP_HEADER)).class, Class::Other);
    }
    let hop_by_hop = 0;
    assert_eq!(parse(&ipv6(hop_by_hop, &TCP_HEADER)).class, Class::Other);
    for ethertype in [0x0806, 0x8100, 0x88a8] {
        let mut frame = ethernet(ethertype);
        frame.extend([0; 60]);
        assert_eq!(parse(&frame).class, Class::Other, "{ethertype:04x}");
    }
}

#[test]
fn only_the_control_address_and_port_are_control() {
    let udp = |port: u16| {
        let mut header = vec![0x9c, 0x40];
        header.extend(port.to_be_bytes());
        header.extend([0, 104, 0, 0]);
        header
    };
    assert_eq!(parse(&ipv4(PROTOCOL_UDP, 0, 0, &udp(CONTROL_PORT))).class, Class::Control);
    assert_eq!(parse(&ipv6(PROTOCOL_UDP, &udp(CONTROL_PORT))).class, Class::Control);
    assert_eq!(parse(&ipv4(PROTOCOL_UDP, 0, 0, &udp(9_701))).class, Class::Other);
    let mut elsewhere = ipv4(PROTOCOL_UDP, 0, 0, &udp(CONTROL_PORT));
    elsewhere[33] ^= 1;
    assert_eq!(parse(&elsewhere).class, Class::Other);
}

#[test]
fn without_a_control_address_no_address_is_one() {
    let control = ControlAddresses { ipv4: None, ipv6: None, port: CONTROL_PORT };
    let config = Config::new(OWN, control, &key(), INCARNATION);
    assert!(!config.is_control(&[0; 16], CONTROL_PORT));
}

#[test]
fn frames_for_others_are_left_alone() {
    for destination in [[0xff; 6], [2, 0, 0, 0, 0, 2], [0x33, 0x33, 0, 0, 0, 1]] {
        let mut frame = ipv4(PROTOCOL_TCP, 0, 0, &TCP_HEADER);
        frame[..6].copy_from_slice(&destination);
        assert_eq!(parse(&frame).class, Class::NotAddressedHere);
    }
}

#[test]
fn without_a_configuration_nothing_is_told() {
    let frame = ipv4(PROTOCOL_TCP, 0, 0, &TCP_HEADER);
    assert_eq!(
        Packet::parse(frame.as_slice(), &Config::ABSENT, Place::Host).class,
        Class::Unconfigured
    );
}

#[test]
fn what_is_not_whole_is_malformed() {
    let tcp = ipv4(PROTOCOL_TCP, 0, 0, &TCP_HEADER);
    for length in [13, 14, 33, 34, 47] {
        assert_eq!(parse(&tcp[..length]).class, Class::Malformed, "{length} bytes");
    }
    assert_eq!(parse(&tcp[..48]).class, Class::Tcp, "up to the flags");
    let mut short_header = tcp.clone();
    short_header[14] = 0x44;
    assert_eq!(parse(&short_header).class, Class::Malformed);
    let mut wrong_version = tcp;
    wrong_version[14] = 0x65;
    assert_eq!(parse(&wrong_version).class, Class::Malformed);
}

#[test]
fn the_reply_has_right_checksums() {
    let request = ipv4(PROTOCOL_UDP, 0, 0x4000, &[]);
    let header: [u8; 20] = request[14..34].try_into().unwrap();
    let answer = answer_ipv4(header);
    assert_eq!(answer[12..16], header[16..20]);
    assert_eq!(answer[16..20], header[12..16]);
    assert_eq!(ones_sum(&answer), 0xffff, "{answer:02x?}");
}

fn ones_sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

proptest! {
    #[test]
    fn the_udp_checksum_makes_the_sum_all_ones(
        source: [u8; 16], destination: [u8; 16], ports: [u16; 2], payload: [u64; CONTROL_FRAME_WORDS],
    ) {
        let checksum = udp_checksum([&source, &destination], ports, &payload);
        prop_assert_ne!(checksum, 0);
        let length_bytes = 104_u16.to_be_bytes();
        let mut datagram = [&source[..], &destination, &[0, 17], &length_bytes].concat();
        datagram.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        datagram.extend(length_bytes);
        datagram.extend(checksum.to_be_bytes());
        datagram.extend(payload.iter().flat_map(|word| word.to_ne_bytes()));
        prop_assert_eq!(ones_sum(&datagram), 0xffff);
    }

    #[test]
    fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128), ipv6: bool) {
        let mut frame = ethernet(if ipv6 { 0x86dd } else { 0x0800 });
        frame.extend(bytes);
        let packet = parse(&frame);
        let needs = if packet.class == Class::Tcp { 14 } else { 0 };
        prop_assert!(packet.transport_offset_bytes as usize + needs <= frame.len());
    }

    #[test]
    fn the_digest_tells_flows_apart(a: u16, b: u16) {
        prop_assert_eq!(flow(a).digest() == flow(b).digest(), a == b);
    }
}
