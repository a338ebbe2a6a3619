//! Datagrams that leave.

use super::{Control, piece};
use socket2::{SockAddr, Socket};
use std::{io, mem, net::SocketAddr, ops::Range, os::fd::AsRawFd};

/// Datagrams of a train, at most: what every kernel that knows trains takes.
const TRAIN_MAX: usize = 64;
/// Bytes of a train, at most: less than IP's longest packet.
const TRAIN_BYTES_MAX: usize = 65_000;
/// Trains that one system call takes: the kernel's own bound.
const BATCH: usize = 1_024;

/// How sending went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
    /// Datagrams that the kernel did not take.
    pub(crate) refused: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.refused += other.refused;
    }
}

/// One datagram.
struct Datagram {
    to: SocketAddr,
    /// For programs in the kernel; 0 for none.
    mark: u32,
    bytes: Range<usize>,
}

/// What the kernel is told of a train besides its receiver: the parts that apply lie behind each other.
#[derive(Clone, Copy)]
#[repr(C)]
struct Controls {
    mark: Control<u32>,
    segment: Control<u16>,
}

/// What is to be sent. All but the first two are for one call, and kept for their room.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
    /// Parts of `datagrams` that travel together.
    trains: Vec<Range<usize>>,
    pieces: Vec<libc::iovec>,
    names: Vec<SockAddr>,
    controls: Vec<Controls>,
    headers: Vec<libc::mmsghdr>,
    /// The kernel, or the network's device, has refused a train; or none are wanted.
    is_single: bool,
}

impl Outgoing {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    pub(super) fn queue(&mut self, to: SocketAddr, mark: u32, bytes: Range<usize>) {
        self.datagrams.push(Datagram { to, mark, bytes });
    }

    pub(super) fn send_single(&mut self, is_single: bool) {
        self.is_single = is_single;
    }

    /// Forgets all bytes: nothing that is to be sent may be left.
    pub(super) fn clear(&mut self) {
        assert!(self.datagrams.is_empty(), "bytes that are to be sent stay");
        self.bytes.clear();
    }

    pub(super) fn flush(&mut self, socket: &Socket) -> Sent {
        self.couple();
        self.describe();
        let mut sent = Sent::default();
        let mut done = 0;
        while done < self.headers.len() {
            let batch = &mut self.headers[done..];
            // SAFETY: the headers point to names, controls and bytes that stay where they are until the call has returned; the
            // kernel only reads them.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    batch.as_mut_ptr(),
                    batch.len().min(BATCH) as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            let count = usize::try_from(count).unwrap_or_default();
            sent.datagrams += datagrams_of(&self.trains[done..done + count]);
            if count == 0 {
                let refused = datagrams_of(&self.trains[done..=done]);
                sent.refused += refused;
                // The device cannot cut trains; the kernel cannot; their datagrams are too long for the path.
                let cannot = [libc::EIO, libc::EINVAL, libc::EMSGSIZE].map(Some);
                let error = io::Error::last_os_error().raw_os_error();
                self.is_single |= refused > 1 && cannot.contains(&error);
            }
            done += count.max(1);
        }
        self.datagrams.clear();
        sent
    }

    /// Finds the trains. Datagrams for one receiver stay in their order.
    fn couple(&mut self) {
        let order = |it: &Datagram| (it.to, it.bytes.start, it.bytes.end, it.mark);
        self.datagrams.sort_unstable_by_key(order);
        self.trains.clear();
        let mut first = 0;
        while let Some(Datagram { to, mark, bytes }) = self.datagrams.get(first) {
            let segment = bytes.len();
            let (mut last, mut train_bytes) = (first, segment);
            // A shorter one can only be the last.
            while let Some(Datagram { to: next_to, mark: next_mark, bytes: next }) =
                self.datagrams.get(last + 1)
                && !self.is_single
                && (next_to, next_mark) == (to, mark)
                && self.datagrams[last].bytes.len() == segment
                && (1..=segment).contains(&next.len())
                && train_bytes + next.len() <= TRAIN_BYTES_MAX
                && last + 1 - first < TRAIN_MAX
            {
                last += 1;
                train_bytes += next.len();
            }
            self.trains.push(first..last + 1);
            first = last + 1;
        }
    }

    /// Describes the trains to the kernel.
    fn describe(&mut self) {
        let Self { bytes, datagrams, trains, pieces, names, controls, headers, .. } = self;
        pieces.clear();
        let parts = datagrams.iter().map(|datagram| &bytes[datagram.bytes.clone()]);
        pieces.extend(parts.map(|part| piece(part.as_ptr().cast_mut(), part.len())));
        names.clear();
        names.extend(trains.iter().map(|train| SockAddr::from(datagrams[train.start].to)));
        controls.clear();
        controls.extend(trains.iter().map(|train| Controls::of(&datagrams[train.start])));
        headers.clear();
        let each = trains.iter().zip(names).zip(controls);
        let first_piece = pieces.as_mut_ptr();
        headers.extend(each.map(|((train, name), control)| {
            // SAFETY: numbers and pointers, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
            // In bounds: trains are parts of what the pieces describe.
            header.msg_hdr.msg_iov = first_piece.wrapping_add(train.start);
            header.msg_hdr.msg_iovlen = train.len();
            let is_marked = datagrams[train.start].mark != 0;
            (header.msg_hdr.msg_control, header.msg_hdr.msg_controllen) =
                match (is_marked, train.len() > 1) {
                    (false, false) => (std::ptr::null_mut(), 0),
                    (true, false) => ((&raw mut control.mark).cast(), size_of_val(&control.mark)),
                    (false, true) => {
                        ((&raw mut control.segment).cast(), size_of_val(&control.segment))
                    }
                    (true, true) => ((&raw mut *control).cast(), size_of_val(control)),
                };
            header
        }));
    }
}

fn datagrams_of(trains: &[Range<usize>]) -> u64 {
    trains.iter().map(ExactSizeIterator::len).sum::<usize>() as u64
}

impl Controls {
    fn of(datagram: &Datagram) -> Self {
        let segment = u16::try_from(datagram.bytes.len());
        let segment = segment.expect("a datagram's length has 16 bits");
        Self {
            mark: control(libc::SOL_SOCKET, libc::SO_MARK, datagram.mark),
            segment: control(libc::SOL_UDP, libc::UDP_SEGMENT, segment),
        }
    }
}

fn control<T>(cmsg_level: libc::c_int, cmsg_type: libc::c_int, value: T) -> Control<T> {
    let cmsg_len = mem::offset_of!(Control<T>, value) + size_of::<T>();
    Control { header: libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type }, value }
}
