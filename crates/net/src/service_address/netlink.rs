//! Adding and removing rules and routes, by rtnetlink(7).

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// The routing table, and the priority of its rules: behind the rule for the host's own addresses (0), before that of the main table
/// (32766).
const TABLE: u32 = 7471;

/// The loopback interface of every network namespace is its first.
const LOOPBACK_INDEX: u32 = 1;

/// `NLMSG_ERROR`: the answer, also to what succeeded.
const ANSWER: u16 = 2;

/// `NLM_F_REQUEST | NLM_F_ACK`, and `NLM_F_CREATE | NLM_F_EXCL`: without the latter, equal rules pile up.
const REQUEST: u16 = 0x1 | 0x4;
const CREATE_ONLY: u16 = 0x400 | 0x200;

/// `RTPROT_STATIC`: shown as who made the entry. The kernel takes rules of different makers for different ones.
const MAKER: u8 = 4;

const HEADER_BYTES: usize = 16;

/// The answer repeats the request, which is shorter than this.
const ANSWER_BYTES_MAX: usize = 512;

/// What makes packets for a listener come to this host's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// In our table, the address is one of this host's. Its metric is the listener's port, so that listeners at one address have
    /// a route each, and take away their own.
    Route,
    /// Packets of TCP to the listener's address and port look into our table.
    Rule,
}

/// A socket of one network namespace, wherever it is used.
#[derive(Debug)]
pub(super) struct RouteSocket(OwnedFd);

impl RouteSocket {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        // The protocol 0 of this family is NETLINK_ROUTE.
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?))
    }

    /// Whether the entry was not there before.
    pub(super) fn add(&self, entry: Entry, listener: SocketAddr) -> io::Result<bool> {
        let kind = match entry {
            Entry::Route => libc::RTM_NEWROUTE,
            Entry::Rule => libc::RTM_NEWRULE,
        };
        match self.request(&message(kind, REQUEST | CREATE_ONLY, entry, listener)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn remove(&self, entry: Entry, listener: SocketAddr) -> io::Result<()> {
        let kind = match entry {
            Entry::Route => libc::RTM_DELROUTE,
            Entry::Rule => libc::RTM_DELRULE,
        };
        self.request(&message(kind, REQUEST, entry, listener))
    }

    fn request(&self, message: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.0, message, SendFlags::empty(), &kernel)?;
        // The kernel has answered before it returned from `sendto`.
        let mut answer = [0; ANSWER_BYTES_MAX];
        let (bytes, _) = recv(&self.0, &mut answer, RecvFlags::DONTWAIT)?;
        match parse_answer(&answer[..bytes]) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

/// Zero, or the negative number of an error.
fn parse_answer(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = answer.get(HEADER_BYTES..HEADER_BYTES + 4)?.try_into().ok()?;
    (kind == ANSWER).then(|| i32::from_ne_bytes(code))
}

fn message(kind: u16, flags: u16, entry: Entry, listener: SocketAddr) -> Vec<u8> {
    let body = match entry {
        Entry::Route => route(listener),
        Entry::Rule => rule(listener),
    };
    // struct nlmsghdr
    let length = u32::try_from(HEADER_BYTES + body.len()).expect("a short message");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// struct rtmsg and its attributes.
fn route(listener: SocketAddr) -> Vec<u8> {
    let (family, octets) = address(listener.ip());
    let (source_bits, tos) = (0, 0);
    let mut body = vec![family, prefix_bits(&octets), source_bits, tos];
    body.extend([libc::RT_TABLE_UNSPEC, MAKER, libc::RT_SCOPE_HOST, libc::RTN_LOCAL, 0, 0, 0, 0]);
    attribute(&mut body, libc::RTA_DST, &octets);
    attribute(&mut body, libc::RTA_TABLE, &TABLE.to_ne_bytes());
    attribute(&mut body, libc::RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, libc::RTA_PRIORITY, &u32::from(listener.port()).to_ne_bytes());
    body
}

/// struct `fib_rule_hdr` and its attributes (linux/fib_rules.h).
fn rule(listener: SocketAddr) -> Vec<u8> {
    const FRA_DST: u16 = 1;
    const FRA_PRIORITY: u16 = 6;
    const FRA_TABLE: u16 = 15;
    const FRA_PROTOCOL: u16 = 21;
    const FRA_IP_PROTO: u16 = 22;
    const FRA_DPORT_RANGE: u16 = 24;
    const FR_ACT_TO_TBL: u8 = 1;
    const TCP: u8 = 6;
    let (family, octets) = address(listener.ip());
    let (source_bits, tos, reserved) = (0, 0, 0);
    let mut body = vec![family, prefix_bits(&octets), source_bits, tos];
    body.extend([libc::RT_TABLE_UNSPEC, reserved, reserved, FR_ACT_TO_TBL, 0, 0, 0, 0]);
    attribute(&mut body, FRA_DST, &octets);
    attribute(&mut body, FRA_IP_PROTO, &[TCP]);
    let port = listener.port().to_ne_bytes();
    attribute(&mut body, FRA_DPORT_RANGE, &[port, port].concat());
    attribute(&mut body, FRA_TABLE, &TABLE.to_ne_bytes());
    attribute(&mut body, FRA_PRIORITY, &TABLE.to_ne_bytes());
    attribute(&mut body, FRA_PROTOCOL, &[MAKER]);
    body
}

/// The family and the octets.
fn address(address: IpAddr) -> (u8, Vec<u8>) {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    (u8::try_from(family).expect("families are small numbers"), octets)
}

fn prefix_bits(octets: &[u8]) -> u8 {
    u8::try_from(8 * octets.len()).expect("128 at most")
}

/// Appends one, filled up to a multiple of four bytes; its length is without the filling.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a short attribute");
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_message_says_how_long_it_is() {
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        for (entry, ip, bytes) in [
            (Entry::Route, v4, 16 + 12 + 4 * 8),
            (Entry::Route, v6, 16 + 12 + 20 + 3 * 8),
            (Entry::Rule, v4, 16 + 12 + 6 * 8),
            (Entry::Rule, v6, 16 + 12 + 20 + 5 * 8),
        ] {
            let message = message(libc::RTM_NEWRULE, REQUEST, entry, SocketAddr::new(ip, 80));
            assert_eq!(message.len(), bytes);
            let length = u32::try_from(bytes).expect("small").to_ne_bytes();
            assert!(message.starts_with(&length));
        }
    }

    #[test]
    fn an_answer_is_zero_or_an_error() {
        let answer = |kind: u16, code: i32| {
            let mut answer = vec![0; 20];
            answer[4..6].copy_from_slice(&kind.to_ne_bytes());
            answer[16..20].copy_from_slice(&code.to_ne_bytes());
            answer
        };
        assert_eq!(parse_answer(&answer(ANSWER, 0)), Some(0));
        assert_eq!(parse_answer(&answer(ANSWER, -libc::EEXIST)), Some(-libc::EEXIST));
        assert_eq!(parse_answer(&answer(libc::RTM_NEWRULE, 0)), None);
        assert_eq!(parse_answer(&answer(ANSWER, 0)[..19]), None);
    }
}
