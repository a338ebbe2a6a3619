//! A socket that sees and sends whole Ethernet frames of one interface.

#![allow(unsafe_code, reason = "rustix has no address type for packet sockets")]

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, sockopt,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Frames that may wait in the kernel while the reader does something else: bytes of its own accounting.
const BUFFER_BYTES: usize = 8 << 20;

/// `PACKET_IGNORE_OUTGOING` of linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// A raw socket bound to one interface, without blocking. It hears only what arrives there, not what is sent by it.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    descriptor: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on an interface of the calling thread's namespace.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0: hears nothing until it is bound, so that no frame of another interface slips in.
        let descriptor = rustix::net::socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_socket_recv_buffer_size_force(&descriptor, BUFFER_BYTES)?;
        sockopt::set_socket_send_buffer_size_force(&descriptor, BUFFER_BYTES)?;
        let index = netdevice::name_to_index(&descriptor, interface)?;
        let socket = Self { descriptor };
        socket.ignore_outgoing()?;
        socket.bind(index)?;
        Ok(socket)
    }

    /// Reads one frame; its length in bytes. `WouldBlock` when there is none.
    pub(crate) fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(&self.descriptor, frame, RecvFlags::empty())?;
        Ok(length)
    }

    /// Sends one frame by the interface.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.descriptor, frame, SendFlags::empty())?;
        Ok(())
    }

    fn ignore_outgoing(&self) -> io::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: the kernel reads `on`, of the length given, during the call.
        let result = unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_IGNORE_OUTGOING,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn bind(&self, interface_index: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            // Network byte order.
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: i32::try_from(interface_index).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the kernel reads `address`, of the length given, during the call.
        let result = unsafe {
            libc::bind(
                self.descriptor.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
