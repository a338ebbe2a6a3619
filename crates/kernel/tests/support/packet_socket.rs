//! Whole IPv4 frames by a socket.
#![allow(unsafe_code, reason = "no safe wrapper binds a packet socket to an interface")]

use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

const ETHERTYPE_IPV4: u16 = 0x0800;
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
const FRAME_BYTES_MAX: usize = 2_048;

/// After so long without a frame, no more are under way.
const SILENCE: Duration = Duration::from_millis(300);

/// Sends any frame, and receives IPv4 frames that come in: after XDP and TCX, before the stack checks anything.
pub(crate) struct PacketSocket(File);

impl PacketSocket {
    /// Opens one on an interface of the calling thread's namespace.
    pub(crate) fn open(interface: &str) -> Self {
        let protocol = i32::from(ETHERTYPE_IPV4.to_be());
        // SAFETY: no pointers.
        let descriptor =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel just opened it for us.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        bind(&socket, i32::try_from(name_to_index(&socket, interface).unwrap()).unwrap());
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(SILENCE)).unwrap();
        Self(File::from(socket))
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        assert_eq!(self.0.write(frame).unwrap(), frame.len());
    }

    /// Every frame until silence.
    pub(crate) fn receive_all(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0; FRAME_BYTES_MAX];
        loop {
            match self.0.read(&mut buffer) {
                Ok(length) => frames.push(buffer[..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return frames,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("packet socket: {error}"),
            }
        }
    }
}

fn bind(socket: &OwnedFd, interface_index: i32) {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE_IPV4.to_be(),
        sll_ifindex: interface_index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads the address, of the size given.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
