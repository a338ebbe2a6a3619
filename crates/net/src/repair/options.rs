//! The socket options of repair mode (linux/tcp.h), typed.

use super::error::{Context as _, RepairError};
use ashlar_handoff::image::TcpWindow;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

/// How repair mode is entered and left (`TCP_REPAIR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Enter it. The socket may then be bound beside any other; setting `SO_REUSEADDR` would take that away again.
    On,
    /// Leave it, and make the peer answer by an acknowledgement out of its window, if the state is ESTABLISHED.
    OffWithProbe,
    /// Leave it without a word.
    OffSilently,
}

/// What the following calls are about (`TCP_REPAIR_QUEUE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Neither: data is data again.
    None,
    Receive,
    Send,
}

/// The part of `tcp_info` that a move needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// `TCP_ESTABLISHED`, …
    pub(super) state: u8,
    pub(super) timestamps: bool,
    pub(super) selective_acknowledgement: bool,
    /// The peer's and ours.
    pub(super) window_scale: Option<(u8, u8)>,
}

/// One entry of `TCP_REPAIR_OPTIONS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RepairOption {
    /// The option's kind on the wire.
    code: u32,
    value: u32,
}

impl RepairOption {
    pub(super) const fn segment_size(bytes: u32) -> Self {
        Self { code: 2, value: bytes }
    }

    pub(super) const fn window_scale(send: u8, receive: u8) -> Self {
        Self { code: 3, value: send as u32 | (receive as u32) << 16 }
    }

    pub(super) const SELECTIVE_ACKNOWLEDGEMENT: Self = Self { code: 4, value: 0 };
    pub(super) const TIMESTAMPS: Self = Self { code: 8, value: 0 };
}

/// `TCP_REPAIR_WINDOW`, field by field.
#[repr(C)]
#[derive(Clone, Copy)]
struct RepairWindow {
    snd_wl1: u32,
    snd_wnd: u32,
    max_window: u32,
    rcv_wnd: u32,
    rcv_wup: u32,
}

/// Types without padding that are valid whatever their bits: the kernel may write them, and read them whole.
trait Plain: Copy {}

impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for [u8; INFO_BYTES] {}
impl Plain for RepairOption {}
impl Plain for RepairWindow {}

/// The kernel gives as much of `tcp_info` as is asked for.
const INFO_BYTES: usize = 8;

/// Since Linux 6.15; libc does not know it yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Since Linux 5.14; libc does not know it yet.
const SO_BUF_LOCK: libc::c_int = 72;

pub(super) fn set_repair(socket: BorrowedFd<'_>, repair: Repair) -> Result<(), RepairError> {
    let value: i32 = match repair {
        Repair::On => 1,
        Repair::OffWithProbe => 0,
        Repair::OffSilently => -1,
    };
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &[value]).step("TCP_REPAIR")
}

pub(super) fn select_queue(socket: BorrowedFd<'_>, queue: Queue) -> Result<(), RepairError> {
    let value: i32 = match queue {
        Queue::None => 0,
        Queue::Receive => 1,
        Queue::Send => 2,
    };
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, &[value]).step("TCP_REPAIR_QUEUE")
}

/// Of the selected queue: the sequence number behind its last byte.
pub(super) fn queue_sequence(socket: BorrowedFd<'_>) -> Result<u32, RepairError> {
    get(socket, libc::TCP_QUEUE_SEQ).step("TCP_QUEUE_SEQ")
}

/// Of the selected queue of a socket that is not connected yet.
pub(super) fn set_queue_sequence(socket: BorrowedFd<'_>, value: u32) -> Result<(), RepairError> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, &[value]).step("TCP_QUEUE_SEQ")
}

pub(super) fn set_options(
    socket: BorrowedFd<'_>,
    options: &[RepairOption],
) -> Result<(), RepairError> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, options).step("TCP_REPAIR_OPTIONS")
}

/// In repair mode: the bound that the peer's option set for segments, in bytes.
pub(super) fn segment_size_bound(socket: BorrowedFd<'_>) -> Result<u32, RepairError> {
    get(socket, libc::TCP_MAXSEG).step("TCP_MAXSEG")
}

/// The clock of the timestamps that this socket sends; its lowest bit tells whether it counts microseconds.
pub(super) fn timestamp(socket: BorrowedFd<'_>) -> Result<u32, RepairError> {
    get(socket, libc::TCP_TIMESTAMP).step("TCP_TIMESTAMP")
}

pub(super) fn set_timestamp(socket: BorrowedFd<'_>, value: u32) -> Result<(), RepairError> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, &[value]).step("TCP_TIMESTAMP")
}

pub(super) fn window(socket: BorrowedFd<'_>) -> Result<TcpWindow, RepairError> {
    let RepairWindow { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } =
        get(socket, libc::TCP_REPAIR_WINDOW).step("TCP_REPAIR_WINDOW")?;
    Ok(TcpWindow { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup })
}

pub(super) fn set_window(socket: BorrowedFd<'_>, window: TcpWindow) -> Result<(), RepairError> {
    let TcpWindow { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = window;
    let value = RepairWindow { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup };
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &[value]).step("TCP_REPAIR_WINDOW")
}

/// State and negotiated options.
pub(super) fn info(socket: BorrowedFd<'_>) -> Result<Info, RepairError> {
    const TIMESTAMPS: u8 = 1;
    const SELECTIVE_ACKNOWLEDGEMENT: u8 = 2;
    const WINDOW_SCALE: u8 = 4;
    let [state, _, _, _, _, options, scales, _]: [u8; INFO_BYTES] =
        get(socket, libc::TCP_INFO).step("TCP_INFO")?;
    // A bit field: the first of its two members is where the machine's byte order begins.
    let (low, high) = (scales & 0xf, scales >> 4);
    let scales = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
    Ok(Info {
        state,
        timestamps: options & TIMESTAMPS != 0,
        selective_acknowledgement: options & SELECTIVE_ACKNOWLEDGEMENT != 0,
        window_scale: (options & WINDOW_SCALE != 0).then_some(scales),
    })
}

/// How long the socket waits at most before it repeats a segment. Kernels that cannot be told keep their own bound.
pub(super) fn set_retransmission_timeout_max(
    socket: BorrowedFd<'_>,
    timeout_ms: u32,
) -> Result<(), RepairError> {
    let result = set(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, &[timeout_ms]);
    unless_unknown(result).step("TCP_RTO_MAX_MS")
}

/// The largest window that the socket may announce, in bytes.
pub(super) fn set_window_max(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), RepairError> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, &[bytes]).step("TCP_WINDOW_CLAMP")
}

/// How long the socket waits, once closed, for a FIN that has been received already: whole seconds.
pub(super) fn set_linger_in_fin_wait_2(
    socket: BorrowedFd<'_>,
    seconds: i32,
) -> Result<(), RepairError> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_LINGER2, &[seconds]).step("TCP_LINGER2")
}

/// How many bytes make the socket readable. If so many are there, whoever waits for it is woken.
pub(super) fn set_receive_low_watermark(
    socket: BorrowedFd<'_>,
    bytes: i32,
) -> Result<(), RepairError> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &[bytes]).step("SO_RCVLOWAT")
}

/// Lets the kernel choose the size of the buffers again after a program has set it. Older kernels do not.
pub(super) fn unlock_buffer_sizes(socket: BorrowedFd<'_>) -> Result<(), RepairError> {
    unless_unknown(set(socket, libc::SOL_SOCKET, SO_BUF_LOCK, &[0_i32])).step("SO_BUF_LOCK")
}

/// Runs an eBPF program of the type socket filter on whatever comes to the socket.
pub(super) fn attach_program(socket: BorrowedFd<'_>, program: RawFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &[program])
}

fn unless_unknown(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        other => other,
    }
}

fn set<T: Plain>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    values: &[T],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(values)).expect("a few bytes");
    // SAFETY: the kernel reads `length` bytes from `values`, which has as many; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, values.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An option of the level TCP.
fn get<T: Plain>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    let wanted = libc::socklen_t::try_from(size_of::<T>()).expect("a few bytes");
    let mut length = wanted;
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the kernel writes at most `length` bytes to `value`, which has as many; the descriptor is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length != wanted {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    // SAFETY: the kernel has written all of it, and any bits are a `T`.
    Ok(unsafe { value.assume_init() })
}
