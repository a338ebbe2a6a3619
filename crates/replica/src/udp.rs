//! Datagrams in batches: one system call for many of them, either way.

use bytes::Bytes;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::{
    io, mem,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Datagrams that one system call takes.
pub(crate) const BATCH: usize = 64;
/// The longest datagram that IPv4 carries.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Room in the kernel for datagrams that nobody has read, or that the network has not taken: more than all windows of a
/// few groups. Who may not have so much gets what there is.
const BUFFER_BYTES: usize = 32 << 20;

/// A bound socket.
pub(crate) struct Bound {
    socket: Socket,
    address: SocketAddr,
}

/// A UDP socket and the buffers of the one thread that it belongs to.
pub(crate) struct Udp {
    bound: Bound,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// Where datagrams come in.
struct Incoming {
    buffers: Box<[u8]>,
    names: Box<[SockAddrStorage]>,
    /// Point into `buffers`, which never moves.
    _pieces: Box<[libc::iovec]>,
    /// Point to `names` and `_pieces`, which never move either.
    headers: Box<[libc::mmsghdr]>,
}

/// What is to be sent.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    datagrams: Vec<(SockAddr, Range<usize>)>,
    /// For one call; empty between two.
    pieces: Vec<libc::iovec>,
    /// The same.
    headers: Vec<libc::mmsghdr>,
}

/// How sending went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
    /// Datagrams that the kernel did not take.
    pub(crate) refused: u64,
}

impl Bound {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Udp {
    /// Binds a socket.
    pub(crate) fn socket(address: SocketAddr) -> io::Result<Bound> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
            socket.set_recv_buffer_size(BUFFER_BYTES)?;
        }
        if set_socket_send_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
            socket.set_send_buffer_size(BUFFER_BYTES)?;
        }
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket();
        let address = address.expect("a socket of UDP has an address of IP");
        Ok(Bound { socket, address })
    }

    pub(crate) fn new(bound: Bound) -> Self {
        Self { bound, incoming: Incoming::new(), outgoing: Outgoing::default() }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.as_fd()
    }

    /// Receives what is there, a batch at most. Gives how many datagrams came.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(SocketAddr, Bytes)) -> io::Result<usize> {
        let Incoming { buffers, names, headers, _pieces } = &mut self.incoming;
        // SAFETY: every header points to a name and to a piece of the buffers, with their lengths; all outlive the call, and nobody
        // else uses them meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                self.bound.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                // Somebody was told that an earlier datagram found no one.
                io::ErrorKind::ConnectionRefused => Ok(0),
                _ => Err(error),
            };
        };
        for (at, header) in headers[..count].iter_mut().enumerate() {
            let is_whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            // SAFETY: the kernel has written a name of that length there; the copy is plain old data.
            let name = unsafe {
                SockAddr::new(std::ptr::read(&raw const names[at]), header.msg_hdr.msg_namelen)
            };
            header.msg_hdr.msg_namelen = names[at].size_of();
            if let Some(from) = name.as_socket().filter(|_| is_whole) {
                let start = at * DATAGRAM_BYTES_MAX;
                let bytes = &buffers[start..start + header.msg_len as usize];
                take(from, Bytes::copy_from_slice(bytes));
            }
        }
        Ok(count)
    }

    /// Adds bytes that datagrams to [several](Self::queue) can be made of.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.outgoing.bytes.len();
        self.outgoing.bytes.extend_from_slice(bytes);
        start..self.outgoing.bytes.len()
    }

    /// Sends a datagram with the next [`Udp::flush`].
    pub(crate) fn queue(&mut self, to: SocketAddr, bytes: Range<usize>) {
        self.outgoing.datagrams.push((to.into(), bytes));
    }

    /// Sends what was queued. What the kernel does not take is dropped: networks do the same.
    pub(crate) fn flush(&mut self) -> Sent {
        let mut sent = Sent::default();
        let Outgoing { bytes, datagrams, pieces, headers } = &mut self.outgoing;
        let mut rest = &datagrams[..];
        while !rest.is_empty() {
            let (now, _) = rest.split_at(rest.len().min(BATCH));
            pieces.clear();
            let parts = now.iter().map(|(_, range)| &bytes[range.clone()]);
            pieces.extend(parts.map(|part| piece(part.as_ptr().cast_mut(), part.len())));
            headers.clear();
            headers.extend(now.iter().zip(pieces.iter_mut()).map(|((to, _), piece)| {
                let name = to.as_ptr().cast_mut().cast();
                header(name, to.len(), piece)
            }));
            // SAFETY: the headers point to names and bytes that outlive the call; the kernel only reads them.
            let count = unsafe {
                libc::sendmmsg(
                    self.bound.socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            let done = usize::try_from(count).unwrap_or_default();
            sent.datagrams += done as u64;
            let skipped = usize::from(done == 0);
            sent.refused += skipped as u64;
            rest = &rest[done + skipped..];
        }
        datagrams.clear();
        bytes.clear();
        sent
    }

    /// Datagrams that came and found the socket's buffer full.
    pub(crate) fn dropped(&self) -> u64 {
        const SO_MEMINFO: libc::c_int = 55;
        const DROPS: usize = 8;
        let mut values = [0_u32; 9];
        let mut length = size_of_val(&values) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `values`, which has as many.
        let result = unsafe {
            libc::getsockopt(
                self.bound.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 { values[DROPS].into() } else { 0 }
    }
}

/// Describes bytes to the kernel, which only reads those that are sent.
fn piece(start: *mut u8, length: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast(), iov_len: length }
}

/// Describes a datagram to the kernel.
fn header(
    name: *mut libc::c_void,
    name_bytes: libc::socklen_t,
    piece: &mut libc::iovec,
) -> libc::mmsghdr {
    // SAFETY: all fields are numbers and pointers, for which zero is a value.
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_bytes;
    header.msg_hdr.msg_iov = piece;
    header.msg_hdr.msg_iovlen = 1;
    header
}

impl Incoming {
    fn new() -> Self {
        let mut buffers = vec![0; BATCH * DATAGRAM_BYTES_MAX].into_boxed_slice();
        let each = buffers.chunks_mut(DATAGRAM_BYTES_MAX);
        let mut pieces: Box<[_]> =
            each.map(|buffer| piece(buffer.as_mut_ptr(), buffer.len())).collect();
        let mut names: Box<[_]> = (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect();
        let pairs = names.iter_mut().zip(&mut pieces);
        let headers =
            pairs.map(|(name, piece)| header((&raw mut *name).cast(), name.size_of(), piece));
        let headers = headers.collect();
        Self { buffers, names, _pieces: pieces, headers }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn pair() -> (Udp, Udp) {
        let bind = || Udp::new(Udp::socket(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap());
        (bind(), bind())
    }

    #[test]
    fn many_datagrams_travel_in_few_calls_and_one_piece_goes_to_several() {
        let (mut one, mut other) = pair();
        let shared = one.put(b"shared");
        for _ in 0..3 {
            one.queue(other.bound.address(), shared.clone());
        }
        for number in 0..100_u8 {
            let own = one.put(&[number; 9]);
            one.queue(other.bound.address(), own);
        }
        assert_eq!(one.flush(), Sent { datagrams: 103, refused: 0 });
        let mut came = Vec::new();
        while other.receive(|from, bytes| came.push((from, bytes))).unwrap() > 0 {}
        assert_eq!(came.len(), 103);
        assert!(came.iter().all(|(from, _)| *from == one.bound.address()));
        assert_eq!((&came[2].1[..], &came[102].1[..]), (&b"shared"[..], &[99; 9][..]));
        assert_eq!(other.dropped(), 0);
    }

    #[test]
    fn who_is_not_there_does_not_disturb() {
        let (mut one, other) = pair();
        let gone = other.bound.address();
        drop(other);
        let (mut third, _) = pair();
        for to in [gone, gone, third.bound.address()] {
            let bytes = one.put(b"x");
            one.queue(to, bytes);
            one.flush();
        }
        let mut count = 0;
        third.receive(|_, _| count += 1).unwrap();
        assert!(one.receive(|_, _| unreachable!("nobody answers")).is_ok());
        assert_eq!(count, 1);
    }
}
