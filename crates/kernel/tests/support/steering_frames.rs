//! Frames that steering looks at.

use super::frames::internet_checksum;
use ashlar_kernel::steering::{FlowKey, MacAddress};
use std::net::{IpAddr, SocketAddr};

pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;

/// Ethernet and IP headers around a transport protocol's bytes, whose checksum is at `checksum_offset` in them.
pub(crate) struct Envelope {
    pub(crate) source: MacAddress,
    pub(crate) destination: MacAddress,
    /// Words of IPv4 options; IPv6 takes none.
    pub(crate) option_words: u8,
}

impl Envelope {
    pub(crate) fn tcp(&self, flow: &FlowKey, tcp_flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = ports(flow.client(), flow.service()).to_vec();
        tcp.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, tcp_flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend(payload);
        self.wrap(flow.client().ip(), flow.service().ip(), TCP, tcp, 16)
    }

    pub(crate) fn udp(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut udp = ports(source, destination).to_vec();
        udp.extend((8 + payload.len() as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        self.wrap(source.ip(), destination.ip(), UDP, udp, 6)
    }

    fn wrap(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        mut transport: Vec<u8>,
        checksum_offset: usize,
    ) -> Vec<u8> {
        let length = transport.len() as u16;
        let checksum = transport_checksum(source, destination, protocol, &transport);
        transport[checksum_offset..checksum_offset + 2].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = [self.destination.0, self.source.0].concat();
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45 + self.option_words, 0];
                header.extend((20 + 4 * u16::from(self.option_words) + length).to_be_bytes());
                header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
                header.extend([source.octets(), destination.octets()].concat());
                // "No operation", over and over.
                header.extend(vec![1; 4 * usize::from(self.option_words)]);
                let checksum = internet_checksum(&[&header]);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend([source.octets(), destination.octets()].concat());
            }
            _ => panic!("{source} and {destination} are of two families"),
        }
        frame.extend(transport);
        frame
    }
}

fn ports(source: SocketAddr, destination: SocketAddr) -> [u8; 4] {
    let [[s0, s1], [d0, d1]] = [source.port(), destination.port()].map(u16::to_be_bytes);
    [s0, s1, d0, d1]
}

/// The checksum over pseudo header and transport; 0 if that has the right one in it.
pub(crate) fn transport_checksum(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    transport: &[u8],
) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (transport.len() as u16).to_be_bytes();
    let pseudo_header = [&octets(source)[..], &octets(destination), &[0, protocol], &length];
    internet_checksum(&[&pseudo_header.concat(), transport])
}
