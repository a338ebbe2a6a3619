//! Datagrams with a mark, as a leader sends them.
#![allow(unsafe_code, reason = "no safe wrapper sends these control messages")]

use std::mem::{size_of, zeroed};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::{io, ptr};

/// Sends one datagram, or with `segment_bytes` a train of datagrams of that length.
pub(crate) fn send_marked(
    socket: &UdpSocket,
    to: SocketAddrV4,
    payload: &[u8],
    mark: u32,
    segment_bytes: Option<u16>,
) -> io::Result<usize> {
    let mut address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    };
    let mut part =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut control = [0_u64; 8];
    // SAFETY: integers and pointers that may be null.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the buffer has room for both messages, and everything lives as long as the call.
    let sent = unsafe {
        let mut used = 0;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        used += put(header, libc::SOL_SOCKET, libc::SO_MARK, mark);
        if let Some(segment_bytes) = segment_bytes {
            header = libc::CMSG_NXTHDR(&raw const message, header);
            used += put(header, libc::SOL_UDP, libc::UDP_SEGMENT, segment_bytes);
        }
        message.msg_controllen = used;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Fills in a control message; how much room it takes.
///
/// # Safety
/// There is room for it.
unsafe fn put<T: Copy>(header: *mut libc::cmsghdr, level: i32, kind: i32, value: T) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast(), value);
        libc::CMSG_SPACE(size_of::<T>() as u32) as usize
    }
}
