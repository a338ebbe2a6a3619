//! The header fields of an Ethernet frame that decisions depend on.

/// Length of an Ethernet header without VLAN tags, in bytes.
pub const ETHERNET_HEADER_BYTES: u32 = 14;

/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;

/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4_HEADER_BYTES_MIN: u32 = 20;
const IPV6_HEADER_BYTES: u32 = 40;
/// The 13 bits of the IPv4 header that place a fragment within its datagram.
const IPV4_FRAGMENT_OFFSET: u16 = 0x1fff;

/// Read access to one frame, wherever it lies: a slice in user space, a packet in the kernel.
pub trait FrameBytes {
    /// The `N` bytes from `offset_bytes` on, or `None` when the frame ends before.
    fn read<const N: usize>(&self, offset_bytes: u32) -> Option<[u8; N]>;
}

impl FrameBytes for [u8] {
    fn read<const N: usize>(&self, offset_bytes: u32) -> Option<[u8; N]> {
        let start = usize::try_from(offset_bytes).ok()?;
        self.get(start..start.checked_add(N)?)?.try_into().ok()
    }
}

/// Addresses of an IPv4 header, in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Addresses {
    /// Who sent the packet.
    pub source: [u8; 4],
    /// Whom it is for.
    pub destination: [u8; 4],
}

/// Ports of a TCP or UDP header, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The sender's port.
    pub source: u16,
    /// The receiver's port.
    pub destination: u16,
}

/// The header fields that rules look at.
///
/// Absent fields hold zeros and a flag, and the accessors make options of them: the kernel's verifier refuses a program that moves
/// an undefined value, which is what an option without a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    has_protocol: bool,
    protocol: u8,
    has_ipv4: bool,
    ipv4: Ipv4Addresses,
    has_ports: bool,
    ports: Ports,
}

impl Headers {
    /// A frame of which nothing is known but that it is one: ARP, VLAN-tagged frames, malformed IP.
    pub const OTHER: Self = Self {
        has_protocol: false,
        protocol: 0,
        has_ipv4: false,
        ipv4: Ipv4Addresses { source: [0; 4], destination: [0; 4] },
        has_ports: false,
        ports: Ports { source: 0, destination: 0 },
    };

    /// Headers that somebody parsed already, for callers without a frame's bytes.
    pub const fn new(
        protocol: Option<u8>,
        ipv4: Option<Ipv4Addresses>,
        ports: Option<Ports>,
    ) -> Self {
        let mut headers = Self::OTHER;
        if let Some(protocol) = protocol {
            headers.has_protocol = true;
            headers.protocol = protocol;
        }
        if let Some(ipv4) = ipv4 {
            headers.has_ipv4 = true;
            headers.ipv4 = ipv4;
        }
        if let Some(ports) = ports {
            headers.has_ports = true;
            headers.ports = ports;
        }
        headers
    }

    /// The IP protocol; for IPv6 that of the fixed header: extension headers are not followed.
    #[inline(always)]
    pub const fn protocol(&self) -> Option<u8> {
        if self.has_protocol { Some(self.protocol) } else { None }
    }

    /// Present for IPv4 only.
    #[inline(always)]
    pub const fn ipv4(&self) -> Option<Ipv4Addresses> {
        if self.has_ipv4 { Some(self.ipv4) } else { None }
    }

    /// Present for TCP and UDP if the frame has them whole, except in the second and later fragments of an IPv4 datagram, which
    /// carry no ports.
    #[inline(always)]
    pub const fn ports(&self) -> Option<Ports> {
        if self.has_ports { Some(self.ports) } else { None }
    }

    /// Parses the frame's headers. Never fails: what cannot be parsed is absent.
    #[inline(always)]
    pub fn parse<F: FrameBytes + ?Sized>(frame: &F) -> Self {
        let Some(ethertype) = frame.read::<2>(ETHERNET_HEADER_BYTES - 2) else {
            return Self::OTHER;
        };
        match u16::from_be_bytes(ethertype) {
            ETHERTYPE_IPV4 => Self::parse_ipv4(frame),
            ETHERTYPE_IPV6 => Self::parse_ipv6(frame),
            _ => Self::OTHER,
        }
    }

    #[inline(always)]
    fn parse_ipv4<F: FrameBytes + ?Sized>(frame: &F) -> Self {
        let Some(header) = frame.read::<20>(ETHERNET_HEADER_BYTES) else {
            return Self::OTHER;
        };
        let [version_and_words, .., s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let header_bytes = u32::from(version_and_words & 0x0f) * 4;
        if version_and_words >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES_MIN {
            return Self::OTHER;
        }
        let headers = Self {
            has_protocol: true,
            protocol: header[9],
            has_ipv4: true,
            ipv4: Ipv4Addresses { source: [s0, s1, s2, s3], destination: [d0, d1, d2, d3] },
            ..Self::OTHER
        };
        let is_first_fragment =
            u16::from_be_bytes([header[6], header[7]]) & IPV4_FRAGMENT_OFFSET == 0;
        if is_first_fragment {
            headers.with_ports(frame, ETHERNET_HEADER_BYTES + header_bytes)
        } else {
            headers
        }
    }

    #[inline(always)]
    fn parse_ipv6<F: FrameBytes + ?Sized>(frame: &F) -> Self {
        let Some(header) = frame.read::<8>(ETHERNET_HEADER_BYTES) else {
            return Self::OTHER;
        };
        if header[0] >> 4 != 6 {
            return Self::OTHER;
        }
        let headers = Self { has_protocol: true, protocol: header[6], ..Self::OTHER };
        headers.with_ports(frame, ETHERNET_HEADER_BYTES + IPV6_HEADER_BYTES)
    }

    /// Adds the ports if the protocol has any, from the transport header at `offset_bytes`.
    #[inline(always)]
    fn with_ports<F: FrameBytes + ?Sized>(mut self, frame: &F, offset_bytes: u32) -> Self {
        if self.protocol != PROTOCOL_TCP && self.protocol != PROTOCOL_UDP {
            return self;
        }
        if let Some([s0, s1, d0, d1]) = frame.read::<4>(offset_bytes) {
            self.has_ports = true;
            self.ports = Ports {
                source: u16::from_be_bytes([s0, s1]),
                destination: u16::from_be_bytes([d0, d1]),
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// Ethernet, IPv4 with `option_words` words of options, then the first eight bytes of UDP.
    fn udp_over_ipv4(option_words: u8, fragment: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        frame.extend([0x45 + option_words, 0, 0, 28, 0, 1]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, PROTOCOL_UDP, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6]);
        frame.extend(vec![1; usize::from(option_words) * 4]);
        frame.extend([0x1f, 0x90, 0x23, 0x28, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn udp_over_ipv4_is_read_with_and_without_options() {
        for option_words in [0, 1, 10] {
            let headers = Headers::parse(udp_over_ipv4(option_words, 0).as_slice());
            assert_eq!(headers.protocol(), Some(PROTOCOL_UDP));
            assert_eq!(
                headers.ipv4(),
                Some(Ipv4Addresses { source: [10, 1, 2, 3], destination: [10, 4, 5, 6] })
            );
            assert_eq!(headers.ports(), Some(Ports { source: 8080, destination: 9000 }));
        }
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        let more_fragments = 0x2000;
        assert!(Headers::parse(udp_over_ipv4(0, more_fragments).as_slice()).ports().is_some());
        let second = Headers::parse(udp_over_ipv4(0, more_fragments | 185).as_slice());
        assert_eq!(second.protocol(), Some(PROTOCOL_UDP));
        assert_eq!(second.ports(), None);
    }

    #[test]
    fn ipv6_has_a_protocol_and_ports_but_no_ipv4_addresses() {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, PROTOCOL_TCP, 64]);
        frame.extend([0; 32]);
        frame.extend([0, 80, 0x10, 0]);
        let headers = Headers::parse(frame.as_slice());
        let ports = Some(Ports { source: 80, destination: 4096 });
        assert_eq!(headers, Headers::new(Some(PROTOCOL_TCP), None, ports));
    }

    #[test]
    fn what_is_not_whole_is_absent() {
        let frame = udp_over_ipv4(0, 0);
        assert_eq!(Headers::parse(&frame[..37]).ports(), None, "half a UDP header's ports");
        assert_eq!(Headers::parse(&frame[..33]), Headers::OTHER, "half an IPv4 header");
        assert_eq!(Headers::parse(&frame[..13]), Headers::OTHER, "half an Ethernet header");
        let mut short_header = frame.clone();
        short_header[14] = 0x44;
        assert_eq!(
            Headers::parse(short_header.as_slice()),
            Headers::OTHER,
            "an IPv4 header of 16 bytes"
        );
        let mut wrong_version = frame;
        wrong_version[14] = 0x65;
        assert_eq!(
            Headers::parse(wrong_version.as_slice()),
            Headers::OTHER,
            "IPv6 in an IPv4 frame"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(frame in proptest::collection::vec(any::<u8>(), 0..128)) {
            let headers = Headers::parse(frame.as_slice());
            prop_assert!(headers.ipv4().is_none() || headers.protocol().is_some());
            prop_assert!(headers.ports().is_none() || matches!(headers.protocol(), Some(PROTOCOL_TCP | PROTOCOL_UDP)));
        }
    }
}
