//! Turning a control frame round: the headers of the reply from those of the request.

use super::control::{CONTROL_FRAME_BYTES, CONTROL_FRAME_WORDS};
use super::packet::UDP_HEADER_BYTES;
use crate::frame::PROTOCOL_UDP;

/// Length of an IPv4 header without options: control frames have none.
pub const IPV4_HEADER_BYTES: usize = 20;

/// Length of an IPv6 header without extensions: control frames have none.
pub const IPV6_HEADER_BYTES: usize = 40;

/// How many routers a reply may pass.
const TIME_TO_LIVE: u8 = 64;

/// The reply's IPv4 header.
#[inline(always)]
pub fn answer_ipv4(request: [u8; IPV4_HEADER_BYTES]) -> [u8; IPV4_HEADER_BYTES] {
    let mut header = request;
    let mut index = 0;
    while index < 4 {
        header[12 + index] = request[16 + index];
        header[16 + index] = request[12 + index];
        index += 1;
    }
    header[8] = TIME_TO_LIVE;
    [header[10], header[11]] = [0; 2];
    [header[10], header[11]] = (!fold(sum(&header))).to_be_bytes();
    header
}

/// Where [`answer_ipv6`] goes, from the start of the IPv6 header.
pub const IPV6_ANSWER_OFFSET_BYTES: u32 = 7;

/// The reply's IPv6 header from its hop limit on; what comes before is the request's.
#[inline(always)]
pub const fn answer_ipv6(source: &[u8; 16], destination: &[u8; 16]) -> [u8; 33] {
    let mut header = [TIME_TO_LIVE; 33];
    let mut index = 0;
    while index < 16 {
        header[1 + index] = source[index];
        header[17 + index] = destination[index];
        index += 1;
    }
    header
}

/// The UDP checksum of a control frame between these addresses (IPv4 ones mapped) and ports, given the words of its payload as
/// they lie in memory.
#[inline(always)]
pub fn udp_checksum(
    addresses: [&[u8; 16]; 2],
    ports: [u16; 2],
    payload: &[u64; CONTROL_FRAME_WORDS],
) -> u16 {
    let length_bytes = UDP_HEADER_BYTES as u16 + CONTROL_FRAME_BYTES as u16;
    // This arithmetic gives the same result in either byte order, swapped; so memory is added up as it lies.
    let mut total = 0;
    let mut index = 0;
    while index < CONTROL_FRAME_WORDS {
        total += halves(payload[index]);
        index += 1;
    }
    // The 0xffff in a mapped address counts as 0, as it must.
    for address in addresses {
        let bits = u128::from_ne_bytes(*address);
        total += halves(bits as u64) + halves((bits >> 64) as u64);
    }
    let protocol = u16::from(PROTOCOL_UDP);
    // The length is part of the pseudo header and of the UDP header.
    for word in [protocol, length_bytes, length_bytes, ports[0], ports[1]] {
        total += u64::from(word.to_be());
    }
    // 0 would mean "no checksum"; all ones is the same number in this arithmetic.
    match u16::from_be(!fold(total)) {
        0 => u16::MAX,
        checksum => checksum,
    }
}

/// A number that folds to the same 16 bits and leaves room for many additions.
#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// The words of a header, added up.
#[inline(always)]
fn sum<const BYTES: usize>(bytes: &[u8; BYTES]) -> u64 {
    let mut sum = 0;
    let mut index = 0;
    while index + 1 < BYTES {
        sum += u64::from(u16::from_be_bytes([bytes[index], bytes[index + 1]]));
        index += 2;
    }
    sum
}

/// Adds what does not fit into 16 bits back in: three times for sums below 2^40.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
