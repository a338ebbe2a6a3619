//! Which frames concern steering at all.

use super::config::Config;
use super::flow::{FlowKey, MacAddress};
use crate::frame::{ETHERNET_HEADER_BYTES, FrameBytes, PROTOCOL_TCP, PROTOCOL_UDP};

/// TCP flag: the sender has no more to say.
pub const TCP_FIN: u8 = 1 << 0;
/// TCP flag: the connection is opened.
pub const TCP_SYN: u8 = 1 << 1;
/// TCP flag: the connection is gone.
pub const TCP_RST: u8 = 1 << 2;
/// TCP flag: the acknowledgement number counts.
pub const TCP_ACK: u8 = 1 << 4;

/// Length of a UDP header.
pub const UDP_HEADER_BYTES: u32 = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4_HEADER_BYTES_MIN: u32 = 20;
const IPV6_HEADER_BYTES: u32 = 40;
const IPV6_FRAGMENT_HEADER: u8 = 44;
/// "More fragments" and the 13 bits that place a fragment: all zero in a whole datagram.
const IPV4_FRAGMENT: u16 = 0x3fff;
/// The first bytes of a TCP header, up to the flags.
const TCP_BYTES_TO_FLAGS: usize = 14;

/// Where on the way of clients' frames a program looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the interface that they are addressed to. Those of other owners leave by it again.
    Host,
    /// At a port of a switch that they pass. Those of other owners get another destination and go on through the switch, which
    /// knows the port. Control frames are not looked for here: they are addressed to the switch itself, and come to its own
    /// interface by any port.
    Port,
}

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// There is no configuration of this schema: nothing can be told.
    Unconfigured,
    /// For many; at a [`Place::Host`] also for another host: a bridge floods such frames, and whoever steered them would multiply
    /// them.
    NotAddressedHere,
    /// Neither TCP nor control: other protocols, VLAN tags, IPv6 extension headers.
    Other,
    /// Cut off, or of contradicting lengths.
    Malformed,
    /// Part of a datagram: only the first part has ports.
    Fragment,
    /// A whole TCP header, addressed to this host; at a [`Place::Port`], to any one host.
    Tcp,
    /// UDP to the control address and port.
    Control,
}

/// A frame, as far as steering depends on it. Fields that a class does not have are zero: see [`EntryOrNone`](super::EntryOrNone)
/// for why they are not options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What kind of frame it is.
    pub class: Class,
    /// TCP and control: whether it is IPv6.
    pub is_ipv6: bool,
    /// TCP: the header's flags.
    pub tcp_flags: u8,
    /// Where the frame comes from and goes to; for TCP, the flow.
    pub key: FlowKey,
    /// Where the TCP or UDP header starts, in bytes from the frame's start.
    pub transport_offset_bytes: u32,
}

impl Packet {
    const OTHER: Self = Self {
        class: Class::Other,
        is_ipv6: false,
        tcp_flags: 0,
        key: FlowKey {
            client_address: [0; 16],
            service_address: [0; 16],
            client_port: 0,
            service_port: 0,
        },
        transport_offset_bytes: 0,
    };

    /// Nothing but a class.
    #[inline(always)]
    const fn of(class: Class) -> Self {
        Self { class, ..Self::OTHER }
    }

    /// Classifies a frame that is looked at in this place. Never fails: what cannot be parsed has a class too.
    #[inline(always)]
    pub fn parse<F: FrameBytes + ?Sized>(frame: &F, config: &Config, place: Place) -> Self {
        if !config.is_of_this_schema() {
            return Self::of(Class::Unconfigured);
        }
        let Some(ethernet) = frame.read::<14>(0) else {
            return Self::of(Class::Malformed);
        };
        let [a, b, c, d, e, f, .., type_high, type_low] = ethernet;
        let destination = MacAddress([a, b, c, d, e, f]);
        let is_addressed_here = match place {
            Place::Host => destination.to_bits() == config.mac().to_bits(),
            Place::Port => destination.is_unicast(),
        };
        if !is_addressed_here {
            return Self::of(Class::NotAddressedHere);
        }
        match u16::from_be_bytes([type_high, type_low]) {
            ETHERTYPE_IPV4 => Self::parse_ipv4(frame, config, place),
            ETHERTYPE_IPV6 => Self::parse_ipv6(frame, config, place),
            _ => Self::of(Class::Other),
        }
    }

    #[inline(always)]
    fn parse_ipv4<F: FrameBytes + ?Sized>(frame: &F, config: &Config, place: Place) -> Self {
        let Some(header) = frame.read::<20>(ETHERNET_HEADER_BYTES) else {
            return Self::of(Class::Malformed);
        };
        let header_bytes = u32::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES_MIN {
            return Self::of(Class::Malformed);
        }
        let protocol = header[9];
        if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
            return Self::of(Class::Other);
        }
        if u16::from_be_bytes([header[6], header[7]]) & IPV4_FRAGMENT != 0 {
            return Self::of(Class::Fragment);
        }
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let mut packet = Self::OTHER;
        packet.key.client_address = mapped([s0, s1, s2, s3]);
        packet.key.service_address = mapped([d0, d1, d2, d3]);
        packet.transport_offset_bytes = ETHERNET_HEADER_BYTES + header_bytes;
        packet.with_transport(frame, config, place, protocol)
    }

    #[inline(always)]
    fn parse_ipv6<F: FrameBytes + ?Sized>(frame: &F, config: &Config, place: Place) -> Self {
        let Some(header) = frame.read::<40>(ETHERNET_HEADER_BYTES) else {
            return Self::of(Class::Malformed);
        };
        if header[0] >> 4 != 6 {
            return Self::of(Class::Malformed);
        }
        let protocol = header[6];
        if protocol == IPV6_FRAGMENT_HEADER {
            return Self::of(Class::Fragment);
        }
        if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
            return Self::of(Class::Other);
        }
        let mut packet = Self::OTHER;
        packet.is_ipv6 = true;
        let mut index = 0;
        while index < 16 {
            packet.key.client_address[index] = header[8 + index];
            packet.key.service_address[index] = header[24 + index];
            index += 1;
        }
        packet.transport_offset_bytes = ETHERNET_HEADER_BYTES + IPV6_HEADER_BYTES;
        packet.with_transport(frame, config, place, protocol)
    }

    #[inline(always)]
    fn with_transport<F: FrameBytes + ?Sized>(
        self,
        frame: &F,
        config: &Config,
        place: Place,
        protocol: u8,
    ) -> Self {
        if protocol == PROTOCOL_TCP {
            return self.with_tcp(frame);
        }
        match place {
            Place::Host => self.with_udp(frame, config),
            Place::Port => Self::of(Class::Other),
        }
    }

    #[inline(always)]
    fn with_tcp<F: FrameBytes + ?Sized>(mut self, frame: &F) -> Self {
        let Some(header) = frame.read::<TCP_BYTES_TO_FLAGS>(self.transport_offset_bytes) else {
            return Self::of(Class::Malformed);
        };
        self.key.client_port = u16::from_be_bytes([header[0], header[1]]);
        self.key.service_port = u16::from_be_bytes([header[2], header[3]]);
        self.tcp_flags = header[13];
        self.class = Class::Tcp;
        self
    }

    #[inline(always)]
    fn with_udp<F: FrameBytes + ?Sized>(mut self, frame: &F, config: &Config) -> Self {
        let Some(header) = frame.read::<8>(self.transport_offset_bytes) else {
            return Self::of(Class::Malformed);
        };
        self.key.client_port = u16::from_be_bytes([header[0], header[1]]);
        self.key.service_port = u16::from_be_bytes([header[2], header[3]]);
        if !config.is_control(&self.key.service_address, self.key.service_port) {
            return Self::of(Class::Other);
        }
        self.class = Class::Control;
        self
    }
}

#[inline(always)]
const fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
