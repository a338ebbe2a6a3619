//! Datagrams that come.

use super::{Control, DATAGRAM_BYTES_MAX, piece};
use bytes::Bytes;
use socket2::{SockAddr, SockAddrStorage, Socket};
use std::{io, mem, net::SocketAddr, os::fd::AsRawFd};

/// Datagrams, or trains of them, that one system call takes.
const BATCH: usize = 64;

/// How receiving went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) datagrams: u64,
    /// As much came as one call takes: more may be there.
    pub(crate) calls_for_more: bool,
}

/// Where datagrams come in.
pub(super) struct Incoming {
    buffers: Box<[u8]>,
    names: Box<[SockAddrStorage]>,
    controls: Box<[Control<libc::c_int>]>,
    /// Point into `buffers`, which never moves.
    _pieces: Box<[libc::iovec]>,
    /// Point to names, controls and pieces, which never move either.
    headers: Box<[libc::mmsghdr]>,
}

/// Has the kernel hand over trains uncut, where it can.
pub(super) fn take_trains(socket: &Socket) {
    let yes: libc::c_int = 1;
    // SAFETY: the kernel reads one number, which is there. Kernels without this option hand over single datagrams.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        );
    }
}

impl Incoming {
    pub(super) fn new() -> Self {
        let mut buffers = vec![0; BATCH * DATAGRAM_BYTES_MAX].into_boxed_slice();
        let each = buffers.chunks_mut(DATAGRAM_BYTES_MAX);
        let mut pieces: Box<[_]> =
            each.map(|buffer| piece(buffer.as_mut_ptr(), buffer.len())).collect();
        let mut names: Box<[_]> = (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect();
        // SAFETY: numbers, for which zero is a value.
        let mut controls: Box<[Control<libc::c_int>]> =
            (0..BATCH).map(|_| unsafe { mem::zeroed() }).collect();
        let parts = names.iter_mut().zip(&mut pieces).zip(&mut controls);
        let headers = parts.map(|((name, piece), control)| {
            // SAFETY: numbers and pointers, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            header
        });
        let headers = headers.collect();
        let mut incoming = Self { buffers, names, controls, _pieces: pieces, headers };
        (0..BATCH).for_each(|at| incoming.make_ready(at));
        incoming
    }

    /// Has the kernel write as much as there is room for: it leaves there what it wrote.
    fn make_ready(&mut self, at: usize) {
        let header = &mut self.headers[at].msg_hdr;
        header.msg_namelen = self.names[at].size_of();
        header.msg_controllen = size_of::<Control<libc::c_int>>();
    }

    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        mut take: impl FnMut(SocketAddr, Bytes),
    ) -> io::Result<Received> {
        // SAFETY: every header points to a name, a control message and a piece of the buffers, with their lengths; all live as long
        // as `self`, and nobody else uses them meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Received::default()),
                // Somebody was told that an earlier datagram found no one.
                io::ErrorKind::ConnectionRefused => Ok(Received::default()),
                _ => Err(error),
            };
        };
        let mut received = Received { datagrams: 0, calls_for_more: count == BATCH };
        for at in 0..count {
            if let Some((from, bytes, segment)) = self.one(at) {
                // One datagram without bytes is one, too.
                let parts = bytes.chunks(segment).chain(bytes.is_empty().then_some(bytes));
                for part in parts {
                    received.datagrams += 1;
                    take(from, Bytes::copy_from_slice(part));
                }
            }
            self.make_ready(at);
        }
        Ok(received)
    }

    /// From whom something came, what, and how long each datagram of it is, but for the last; none if it was cut off.
    fn one(&self, at: usize) -> Option<(SocketAddr, &[u8], usize)> {
        let libc::mmsghdr { msg_hdr: header, msg_len: length } = self.headers[at];
        if header.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        // SAFETY: the kernel has written a name of that length there; the copy is plain old data.
        let name =
            unsafe { SockAddr::new(std::ptr::read(&raw const self.names[at]), header.msg_namelen) };
        let start = at * DATAGRAM_BYTES_MAX;
        let bytes = &self.buffers[start..start + length as usize];
        let Control { header: control, value } = self.controls[at];
        let is_train = header.msg_controllen
            >= mem::offset_of!(Control<libc::c_int>, value) + size_of_val(&value)
            && (control.cmsg_level, control.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
        let segment = usize::try_from(value).ok().filter(|segment| is_train && *segment > 0);
        Some((name.as_socket()?, bytes, segment.unwrap_or(bytes.len().max(1))))
    }
}
