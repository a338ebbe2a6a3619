//! Ethernet frames of many shapes.

use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};

/// Few values each, so that random rules match random frames often.
pub(crate) const ADDRESSES: [[u8; 4]; 3] = [[10, 99, 0, 1], [10, 99, 0, 2], [192, 168, 7, 9]];
pub(crate) const PORTS: [u16; 4] = [0, 80, 9_000, 9_001];
pub(crate) const PROTOCOLS: [u8; 4] = [1, 6, 17, 58];

const ETHERNET_HEADER_BYTES: usize = 14;
const FRAME_BYTES_MAX: usize = 1_514;

pub(crate) struct Datagram<'a> {
    pub(crate) source: ([u8; 4], u16),
    pub(crate) destination: ([u8; 4], u16),
    pub(crate) payload: &'a [u8],
}

/// UDP over IPv4 with both checksums, between the Ethernet addresses given.
pub(crate) fn udp(
    ethernet_source: [u8; 6],
    ethernet_destination: [u8; 6],
    datagram: &Datagram<'_>,
) -> Vec<u8> {
    let udp_bytes = u16::try_from(8 + datagram.payload.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_bytes).to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
    ip.extend(datagram.source.0);
    ip.extend(datagram.destination.0);
    let checksum = internet_checksum(&[&ip]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    let mut udp = Vec::new();
    for word in [datagram.source.1, datagram.destination.1, udp_bytes, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(datagram.payload);
    let pseudo_header = [&ip[12..20], &[0, 17], &udp_bytes.to_be_bytes()].concat();
    let checksum = internet_checksum(&[&pseudo_header, &udp]);
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());

    [&ethernet_destination[..], &ethernet_source, &[8, 0], &ip, &udp].concat()
}

pub(crate) fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame of any shape: well formed or not, and now and then cut anywhere past its Ethernet header.
pub(crate) fn any<R: Rng>(random: &mut R) -> Vec<u8> {
    let mut frame = vec![0_u8; 12];
    random.fill(&mut frame[..]);
    match random.random_range(0..10) {
        0..=5 => ipv4(random, &mut frame),
        6..=7 => ipv6(random, &mut frame),
        8 => frame.extend([0x08, 0x06]),
        _ => frame.extend([0x81, 0x00, 0, 1, 0x08, 0x00]),
    }
    pad(random, &mut frame);
    if random.random_ratio(1, 8) {
        frame.truncate(random.random_range(ETHERNET_HEADER_BYTES..=frame.len()));
    }
    frame.truncate(FRAME_BYTES_MAX);
    frame
}

/// Lengthens a frame to what the kernel takes for a test run of a traffic-control program: with a whole IP header, or with at least
/// one byte past the Ethernet header.
pub(crate) fn lengthen_for_traffic_control(mut frame: Vec<u8>) -> Vec<u8> {
    let network_bytes_min = match frame[12..14] {
        [0x08, 0x00] => 20,
        [0x86, 0xdd] => 40,
        _ => 1,
    };
    frame.resize(frame.len().max(ETHERNET_HEADER_BYTES + network_bytes_min), 0);
    frame
}

fn ipv4<R: Rng>(random: &mut R, frame: &mut Vec<u8>) {
    frame.extend([0x08, 0x00]);
    let option_words = if random.random_ratio(1, 4) { random.random_range(0..=10) } else { 0 };
    let mut header = vec![0_u8; 20 + 4 * option_words];
    random.fill(&mut header[..]);
    header[0] = 0x45 + option_words as u8;
    if random.random_ratio(1, 16) {
        header[0] = random.random();
    }
    let fragment: u16 = if random.random_ratio(1, 8) { random.random() } else { 0x4000 };
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[9] = *PROTOCOLS.choose(random).unwrap();
    header[12..16].copy_from_slice(ADDRESSES.choose(random).unwrap());
    header[16..20].copy_from_slice(ADDRESSES.choose(random).unwrap());
    frame.extend(header);
    ports(random, frame);
}

fn ipv6<R: Rng>(random: &mut R, frame: &mut Vec<u8>) {
    frame.extend([0x86, 0xdd]);
    let mut header = [0_u8; 40];
    random.fill(&mut header[..]);
    header[0] = if random.random_ratio(1, 16) { random.random() } else { 0x60 };
    header[6] = *PROTOCOLS.choose(random).unwrap();
    frame.extend(header);
    ports(random, frame);
}

fn ports<R: Rng>(random: &mut R, frame: &mut Vec<u8>) {
    for _ in 0..2 {
        frame.extend(PORTS.choose(random).unwrap().to_be_bytes());
    }
}

fn pad<R: Rng>(random: &mut R, frame: &mut Vec<u8>) {
    // Mostly small: the length matters only for where corruption hits.
    let length_bytes_max = if random.random_ratio(1, 8) { FRAME_BYTES_MAX } else { 128 };
    let mut padding = vec![0_u8; random.random_range(0..=length_bytes_max)];
    random.fill(&mut padding[..]);
    frame.extend(padding);
}
