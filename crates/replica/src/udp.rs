//! Datagrams in batches: one system call for many of them, either way.
//!
//! Datagrams of one length for one receiver travel as a *train*: the kernel takes them through its stack once, and cuts them
//! apart as late as it can (`UDP_SEGMENT`); trains that come are taken as one (`UDP_GRO`).

mod incoming;
mod outgoing;

pub(crate) use incoming::Received;
pub(crate) use outgoing::Sent;

use bytes::Bytes;
use incoming::Incoming;
use outgoing::Outgoing;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

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

impl Bound {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells an operator if the kernel gave less than half of the room that members want.
    pub(crate) fn warn_of_short_buffers(&self) -> io::Result<()> {
        // The kernel names twice what it was asked for, for its own overhead.
        let named_bytes = self.socket.recv_buffer_size()?.min(self.socket.send_buffer_size()?);
        let granted_bytes = named_bytes / 2;
        if granted_bytes < BUFFER_BYTES / 2 {
            tracing::warn!(
                granted_bytes,
                wanted_bytes = BUFFER_BYTES,
                "short buffers of replication's socket: raise net.core.rmem_max and wmem_max, or give CAP_NET_ADMIN"
            );
        }
        Ok(())
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
        incoming::take_trains(&socket);
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

    /// Receives what is there, at most what one call takes.
    pub(crate) fn receive(&mut self, take: impl FnMut(SocketAddr, Bytes)) -> io::Result<Received> {
        self.incoming.receive(&self.bound.socket, take)
    }

    /// Adds bytes that datagrams to [several](Self::queue) can be made of.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        self.outgoing.put(bytes)
    }

    /// Sends a datagram with the next [`Udp::flush`].
    pub(crate) fn queue(&mut self, to: SocketAddr, bytes: Range<usize>) {
        self.outgoing.queue(to, 0, bytes);
    }

    /// The same with a mark, which programs in this host's kernel see.
    pub(crate) fn queue_marked(&mut self, to: SocketAddr, mark: u32, bytes: Range<usize>) {
        self.outgoing.queue(to, mark, bytes);
    }

    /// Sends datagrams one by one from now on, and not as trains; or as trains again, if the kernel takes any.
    pub(crate) fn send_single(&mut self, is_single: bool) {
        self.outgoing.send_single(is_single);
    }

    /// Sends what was queued, and keeps the bytes. What the kernel does not take is dropped: networks do the same.
    pub(crate) fn send(&mut self) -> Sent {
        self.outgoing.flush(&self.bound.socket)
    }

    /// Sends what was queued, and forgets the bytes.
    pub(crate) fn flush(&mut self) -> Sent {
        let sent = self.send();
        self.outgoing.clear();
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

/// Describes bytes to the kernel.
fn piece(start: *mut u8, length: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast(), iov_len: length }
}

/// A control message with one number, as the kernel wants it in memory.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control<T> {
    header: libc::cmsghdr,
    value: T,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn pair() -> (Udp, Udp) {
        let bind = || Udp::new(Udp::socket(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap());
        (bind(), bind())
    }

    fn all_of(udp: &mut Udp) -> Vec<(SocketAddr, Bytes)> {
        let mut came = Vec::new();
        while udp.receive(|from, bytes| came.push((from, bytes))).unwrap().calls_for_more {}
        came
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
        let came = all_of(&mut other);
        assert_eq!(came.len(), 103);
        assert!(came.iter().all(|(from, _)| *from == one.bound.address()));
        assert_eq!((&came[2].1[..], &came[102].1[..]), (&b"shared"[..], &[99; 9][..]));
        assert_eq!(other.dropped(), 0);
    }

    #[test]
    fn datagrams_of_any_lengths_for_any_receivers_come_as_they_were_sent() {
        let (mut one, mut other) = pair();
        let (mut third, _) = pair();
        let lengths = [1_400, 1_400, 900, 1_400, 1, 1_400, 1_400, 1_400, 1_401, 0, 7, 7];
        for turn in 0..40_usize {
            for (place, length) in lengths.into_iter().enumerate() {
                let bytes = one.put(&vec![(turn + place) as u8; length]);
                let to = if place % 3 == 0 { &third } else { &other };
                one.queue(to.bound.address(), bytes);
            }
        }
        assert_eq!(one.flush(), Sent { datagrams: 480, refused: 0 });
        let mut expected = [Vec::new(), Vec::new()];
        for turn in 0..40_usize {
            for (place, length) in lengths.into_iter().enumerate() {
                expected[usize::from(place % 3 == 0)].push(vec![(turn + place) as u8; length]);
            }
        }
        for (receiver, expected) in [&mut other, &mut third].into_iter().zip(expected) {
            let came: Vec<_> = all_of(receiver).into_iter().map(|(_, bytes)| bytes).collect();
            assert_eq!(came, expected);
        }
    }

    #[test]
    fn what_takes_no_trains_gets_single_datagrams() {
        let (mut one, mut other) = pair();
        // The kernel cuts no trains for a socket that does not want its checksums.
        let yes: libc::c_int = 1;
        // SAFETY: the kernel reads one number, which is there.
        let result = unsafe {
            libc::setsockopt(
                one.bound.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const yes).cast(),
                size_of_val(&yes) as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        let send = |one: &mut Udp| {
            let to = other.bound.address();
            for _ in 0..3 {
                let bytes = one.put(&[2; 10]);
                one.queue(to, bytes);
            }
            one.flush()
        };
        assert_eq!(send(&mut one), Sent { datagrams: 0, refused: 3 });
        assert_eq!(send(&mut one), Sent { datagrams: 3, refused: 0 });
        assert_eq!(all_of(&mut other).len(), 3);
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
        assert_eq!(all_of(&mut third).len(), 1);
        assert!(one.receive(|_, _| unreachable!("nobody answers")).is_ok());
    }
}
