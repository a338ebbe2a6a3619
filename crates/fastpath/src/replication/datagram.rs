//! A datagram with one frame, from its Ethernet header on to the end of the frame's header.

use super::acknowledgement::Acknowledgement;
use super::checksum::{Stripe, checksum};
use super::header::{FOLLOWED, HEADER_BYTES, Header, MAGIC, VERSION, kind};
use super::prepare::Prepare;
use super::shared::{GroupKey, member_bits};
use crate::frame::{ETHERNET_HEADER_BYTES, PROTOCOL_UDP};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes before the frame.
pub const HEADERS_BYTES: u32 = ETHERNET_HEADER_BYTES + IPV4_BYTES as u32 + UDP_BYTES as u32;
/// Bytes of a [`Datagram`].
pub const DATAGRAM_HEADER_BYTES: u32 = HEADERS_BYTES + HEADER_BYTES as u32;

const ETHERTYPE_IPV4: u16 = 0x0800;
const IPV4_BYTES: u16 = 20;
const UDP_BYTES: u16 = 8;
/// Version 4, without options.
const IPV4_PLAIN: u8 = 0x45;
/// Part of a datagram: the flag that more follow, or a place behind the first.
const IPV4_FRAGMENT: u16 = 0x3fff;
/// The place alone.
const IPV4_PLACE: u16 = 0x1fff;
const IPV4_DO_NOT_FRAGMENT: u16 = 0x4000;
const TIME_TO_LIVE: u8 = 64;

/// The beginning of a datagram.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Datagram {
    ethernet_to: [u8; 6],
    ethernet_from: [u8; 6],
    ethernet_type: U16,
    version_and_length: u8,
    service: u8,
    total_bytes: U16,
    identification: U16,
    fragment: U16,
    time_to_live: u8,
    protocol: u8,
    ip_checksum: U16,
    from: [u8; 4],
    to: [u8; 4],
    from_port: U16,
    to_port: U16,
    udp_bytes: U16,
    udp_checksum: U16,
    /// The frame's header.
    pub header: Header,
}

const _: () = assert!(size_of::<Datagram>() == DATAGRAM_HEADER_BYTES as usize);

/// The datagram's lengths contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Datagram {
    /// Whether it holds a whole frame of replication that begins and ends with it. The first thing to ask.
    #[inline(always)]
    pub fn is_frame(&self) -> bool {
        self.begins_frame() && self.fragment.get() & IPV4_FRAGMENT == 0
    }

    /// Whether a frame of replication begins here; it may go on in other parts of the datagram.
    #[inline(always)]
    pub fn begins_frame(&self) -> bool {
        self.ethernet_type.get() == ETHERTYPE_IPV4
            && self.version_and_length == IPV4_PLAIN
            && self.protocol == PROTOCOL_UDP
            && self.fragment.get() & IPV4_PLACE == 0
            && self.header.magic.get() == MAGIC
            && self.header.version == VERSION
    }

    /// Whether it is a part of a datagram that was too long for the network.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.ethernet_type.get() == ETHERTYPE_IPV4 && self.fragment.get() & IPV4_FRAGMENT != 0
    }

    /// Bytes of the frame, if all lengths agree. `length_bytes` is the packet's: padding may follow.
    ///
    /// # Errors
    /// When they do not.
    #[inline(always)]
    pub fn frame_bytes(&self, length_bytes: u32) -> Result<u32, Malformed> {
        let udp_bytes = u32::from(self.udp_bytes.get());
        let frame_bytes = udp_bytes.wrapping_sub(u32::from(UDP_BYTES));
        let agrees = udp_bytes >= u32::from(UDP_BYTES) + HEADER_BYTES as u32
            && u32::from(self.total_bytes.get()) == udp_bytes + u32::from(IPV4_BYTES)
            && length_bytes >= frame_bytes + HEADERS_BYTES
            && self.header.body_bytes.get() == frame_bytes - HEADER_BYTES as u32;
        if agrees { Ok(frame_bytes) } else { Err(Malformed) }
    }

    /// Who sent it, as [`member_bits`] has it.
    #[inline(always)]
    pub fn source(&self) -> u64 {
        member_bits(self.from, self.from_port.get())
    }

    /// Whom it is for, likewise.
    #[inline(always)]
    pub fn destination(&self) -> u64 {
        member_bits(self.to, self.to_port.get())
    }

    /// The group that the frame is about.
    #[inline(always)]
    pub fn group(&self) -> GroupKey {
        GroupKey { cluster: self.header.cluster.get(), group: u64::from(self.header.group.get()) }
    }

    /// As a frame with entries, of so many bytes, whose body begins with `previous`.
    #[inline(always)]
    pub fn prepare(&self, bytes: u32, previous: u64) -> Prepare {
        Prepare {
            source: self.source(),
            view: self.header.view.get(),
            op: self.header.op.get(),
            entries: u64::from(self.header.entries.get()),
            previous,
            digest: self.header.digest.get(),
            bytes,
        }
    }

    /// Whether a frame with entries need not be acknowledged, because the next one will be.
    #[inline(always)]
    pub fn is_followed(&self) -> bool {
        self.header.detail == FOLLOWED
    }

    /// As an acknowledgement.
    #[inline(always)]
    pub fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement {
            source: self.source(),
            place: u64::from(self.header.sender),
            view: self.header.view.get(),
            op: self.header.op.get(),
            digest: self.header.digest.get(),
        }
    }

    /// Whether the checksum of a frame without a body fits.
    #[inline(always)]
    pub fn is_intact(&self) -> bool {
        self.header.checksum.get() == self.header_checksum()
    }

    /// Makes it the acknowledgement of everything up to `op`, by the member at `place`, for whoever sent it. The datagram is
    /// [`DATAGRAM_HEADER_BYTES`] long then. Its checksum of UDP is left out: the frame has its own.
    #[inline(always)]
    pub fn acknowledge(&mut self, place: u64, op: u64, digest: u64) {
        let (host, port, station) = (self.from, self.from_port, self.ethernet_from);
        (self.from, self.from_port, self.ethernet_from) = (self.to, self.to_port, self.ethernet_to);
        (self.to, self.to_port, self.ethernet_to) = (host, port, station);
        let udp_bytes = UDP_BYTES + HEADER_BYTES as u16;
        self.udp_bytes = udp_bytes.into();
        self.udp_checksum = 0.into();
        self.total_bytes = (udp_bytes + IPV4_BYTES).into();
        self.identification = 0.into();
        self.fragment = IPV4_DO_NOT_FRAGMENT.into();
        self.time_to_live = TIME_TO_LIVE;
        self.ip_checksum = self.header_sum().into();
        let Header { magic, version, cluster, group, view, .. } = self.header;
        self.header = Header {
            magic,
            version,
            kind: kind::PREPARE_OK,
            sender: place as u8,
            cluster,
            group,
            view,
            op: op.into(),
            digest: digest.into(),
            ..Header::default()
        };
        self.header.checksum = self.header_checksum().into();
    }

    /// Of a frame that is its header alone.
    #[inline(always)]
    fn header_checksum(&self) -> u32 {
        let Header { magic, version, kind, detail, sender, cluster, group, body_bytes, .. } =
            self.header;
        let Header { view, op, commit, digest, entries, reserved, .. } = self.header;
        let small = u64::from(version)
            | u64::from(kind) << 8
            | u64::from(detail) << 16
            | u64::from(sender) << 24;
        let first = [
            u64::from(magic.get()) | small << 32,
            cluster.get(),
            u64::from(group.get()) | u64::from(body_bytes.get()) << 32,
            view.get(),
        ];
        let last = u64::from(entries.get()) << 32 | u64::from(reserved.get()) << 48;
        let second = [op.get(), commit.get(), digest.get(), last];
        checksum(2, |index| -> Stripe {
            if index == 0 { first } else { second }
        })
    }

    /// The checksum of IPv4 (RFC 1071) that belongs to the fields.
    #[inline(always)]
    fn header_sum(&self) -> u16 {
        let [a, b, c, d] = self.from;
        let [e, f, g, h] = self.to;
        let pairs = [
            u16::from_be_bytes([self.version_and_length, self.service]),
            self.total_bytes.get(),
            self.identification.get(),
            self.fragment.get(),
            u16::from_be_bytes([self.time_to_live, self.protocol]),
            u16::from_be_bytes([a, b]),
            u16::from_be_bytes([c, d]),
            u16::from_be_bytes([e, f]),
            u16::from_be_bytes([g, h]),
        ];
        let mut sum = 0;
        let mut index = 0;
        while index < pairs.len() {
            sum += u32::from(pairs[index]);
            index += 1;
        }
        // Twice: the first fold may carry.
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }
}
