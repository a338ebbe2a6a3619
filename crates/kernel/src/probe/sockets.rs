//! Socket options that only some kernels and some users have.
#![allow(unsafe_code, reason = "no safe wrapper knows these options")]

use super::Finding;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

const NET_ADMIN_HINT: &str = "run as root, or give CAP_NET_ADMIN";

/// `TCP_REPAIR_OFF` and `TCP_REPAIR_ON` of linux/tcp.h.
const REPAIR_OFF: libc::c_int = 0;
const REPAIR_ON: libc::c_int = 1;

pub(super) fn tcp_repair() -> Finding {
    let repair = |socket: &OwnedFd| {
        set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &REPAIR_ON.to_ne_bytes())?;
        set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &REPAIR_OFF.to_ne_bytes())
    };
    match tcp_socket().and_then(|socket| repair(&socket)) {
        Ok(()) => Finding::yes("a socket entered and left repair mode"),
        Err(error) => refused(&error, "a kernel with TCP_REPAIR"),
    }
}

pub(super) fn ip_transparent() -> Finding {
    let transparent = |socket: &OwnedFd| {
        set(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT, &1_i32.to_ne_bytes())
    };
    match tcp_socket().and_then(|socket| transparent(&socket)) {
        Ok(()) => Finding::yes("a socket became transparent"),
        Err(error) => refused(&error, "a kernel with IP_TRANSPARENT"),
    }
}

/// The socket is not connected: a kernel with TLS complains about that, one without does not know the protocol.
pub(super) fn kernel_tls() -> Finding {
    const HINT: &str = "modprobe tls, or a kernel with CONFIG_TLS; nothing needs it";
    let result =
        tcp_socket().and_then(|socket| set(&socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls"));
    match result.map_err(|error| (Errno::from_io_error(&error), error)) {
        Ok(()) | Err((Some(Errno::NOTCONN), _)) => {
            Finding::yes("the kernel knows the protocol tls")
        }
        Err((_, error)) => Finding::no(error.to_string(), HINT),
    }
}

fn refused(error: &io::Error, hint: &'static str) -> Finding {
    let hint = if error.kind() == io::ErrorKind::PermissionDenied { NET_ADMIN_HINT } else { hint };
    Finding::no(error.to_string(), hint)
}

fn tcp_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length =
        libc::socklen_t::try_from(value.len()).expect("option values are a few bytes long");
    // SAFETY: the kernel reads `length` bytes from `value`, which has as many; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
