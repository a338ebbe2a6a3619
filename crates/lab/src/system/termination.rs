//! The request to end, as a descriptor to wait for.

#![allow(unsafe_code, reason = "signal masks and signalfd have no safe interface")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and those it starts later, and returns a descriptor that becomes
/// readable when one of them is sent to the process.
pub(crate) fn descriptor() -> io::Result<OwnedFd> {
    // SAFETY: `sigset_t` is plain data, and `sigemptyset` gives it its value before anything reads it.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are to `signals`, which lives through all the calls, or null where that is allowed.
    let descriptor = unsafe {
        libc::sigemptyset(&raw mut signals);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut signals, signal);
        }
        let blocked =
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        libc::signalfd(-1, &raw const signals, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
