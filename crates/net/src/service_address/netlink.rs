//! Adding and removing addresses of the loopback interface, by rtnetlink(7).

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// The loopback interface of every network namespace is its first.
const LOOPBACK_INDEX: u32 = 1;

/// `RTM_NEWADDR` and `RTM_DELADDR`.
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;

/// `NLMSG_ERROR`: the answer, also to what succeeded.
const ANSWER: u16 = 2;

/// `NLM_F_REQUEST | NLM_F_ACK`, and `NLM_F_CREATE | NLM_F_EXCL`.
const REQUEST: u16 = 0x1 | 0x4;
const CREATE_ONLY: u16 = 0x400 | 0x200;

/// `IFA_ADDRESS`, `IFA_LOCAL` and `IFA_CACHEINFO`.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const LIFETIME: u16 = 6;

/// `RT_SCOPE_HOST`: never chosen as the source of packets that leave the host. IPv6 ignores it.
const SCOPE_HOST: u8 = 254;

/// `IFA_F_NODAD`: the front end has the same address, on purpose.
const NO_DUPLICATE_DETECTION: u8 = 0x02;

const HEADER_BYTES: usize = 16;

/// The answer repeats the request, which is shorter than this.
const ANSWER_BYTES_MAX: usize = 512;

/// A socket of one network namespace, wherever it is used.
#[derive(Debug)]
pub(super) struct RouteSocket(OwnedFd);

impl RouteSocket {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        // The protocol 0 of this family is NETLINK_ROUTE.
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?))
    }

    /// # Errors
    /// `AlreadyExists` if it is there.
    pub(super) fn add_to_loopback(&self, address: IpAddr) -> io::Result<()> {
        self.request(&message(NEW_ADDRESS, REQUEST | CREATE_ONLY, address))
    }

    pub(super) fn remove_from_loopback(&self, address: IpAddr) -> io::Result<()> {
        self.request(&message(DELETE_ADDRESS, REQUEST, address))
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

fn message(kind: u16, flags: u16, address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let octet = |value: i32| u8::try_from(value).expect("families are small numbers");
    let prefix_bits = u8::try_from(8 * octets.len()).expect("128 at most");
    // struct ifaddrmsg
    let mut body = vec![octet(family), prefix_bits, NO_DUPLICATE_DETECTION, SCOPE_HOST];
    body.extend(LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, LOCAL, &octets);
    attribute(&mut body, ADDRESS, &octets);
    if address.is_ipv6() {
        attribute(&mut body, LIFETIME, &deprecated());
    }
    // struct nlmsghdr
    let length = u32::try_from(HEADER_BYTES + body.len()).expect("a short message");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Valid for ever and preferred never: the kernel does not choose it as a source by itself.
fn deprecated() -> [u8; 16] {
    const FOR_EVER: u32 = u32::MAX;
    let mut lifetime = [0; 16];
    lifetime[4..8].copy_from_slice(&FOR_EVER.to_ne_bytes());
    lifetime
}

/// Values here are multiples of four bytes long: no padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a short attribute");
    assert_eq!(length % 4, 0);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_message_says_how_long_it_is() {
        for (address, bytes) in
            [(IpAddr::V4(Ipv4Addr::LOCALHOST), 16 + 8 + 8 + 8), ("::1".parse().expect("one"), 84)]
        {
            let message = message(NEW_ADDRESS, REQUEST, address);
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
        assert_eq!(parse_answer(&answer(NEW_ADDRESS, 0)), None);
        assert_eq!(parse_answer(&answer(ANSWER, 0)[..19]), None);
    }
}
